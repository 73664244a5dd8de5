"""A folder and a zip archive of it are read alike, in every process."""

import os
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from encore.base.errors import DataError
from encore.data.archives import FileTree
from encore.data.images import read_image

from .conftest import random_image, refusal, save


def make_tree(folder: Path) -> Path:
    for index in range(8):
        save(folder / "train" / f"{index}.png", random_image(index))
    save(folder / "top.png", random_image(9))
    (folder / "train" / "._0.png").write_bytes(b"\0\5\26\7")
    save(folder / "__MACOSX" / "train" / "0.png", random_image(0))
    return folder


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("train/", b"")
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, path.relative_to(folder).as_posix())
    return archive


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "folder")


@pytest.fixture
def archive(folder: Path, tmp_path: Path) -> Path:
    return packed(folder, tmp_path / "folder.zip")


def test_a_folder_and_its_archive_hold_the_same_files(folder: Path, archive: Path):
    names = [*(f"train/{index}.png" for index in range(8))]
    assert FileTree(folder).names == FileTree(archive).names == ["top.png", *names]
    for name in names:
        one, other = (read_image(FileTree(place).read(Path(name)), name) for place in (folder, archive))
        assert np.array_equal(one, other)


def mean_of(tree: FileTree, index: int) -> float:
    return float(read_image(tree.read(Path(f"train/{index}.png"))).float().mean())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_archive_is_read_in_other_processes(archive: Path, method: str):
    if method == "fork" and not hasattr(os, "fork"):
        pytest.skip("no fork on this system")
    tree = FileTree(archive)
    due = [mean_of(tree, index) for index in range(8)]
    with get_context(method).Pool(2 if method == "fork" else 1) as pool:
        assert pool.starmap(mean_of, [(tree, index) for index in range(8)]) == due
    assert mean_of(tree, 0) == due[0]


def test_an_archive_is_read_by_threads(archive: Path):
    tree = FileTree(archive)
    due = [mean_of(tree, index) for index in range(8)] * 5
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda index: mean_of(tree, index), [*range(8)] * 5)) == due


def test_a_pickled_tree_opens_the_archive_again(archive: Path):
    tree = FileTree(archive)
    tree.read(Path("top.png"))
    assert pickle.loads(pickle.dumps(tree)).read(Path("top.png")) == tree.read(Path("top.png"))


def test_what_is_neither_is_named(tmp_path: Path):
    (tmp_path / "text.zip").write_text("no archive")
    (tmp_path / "empty.zip").touch()
    for name in ("text.zip", "empty.zip"):
        assert f"{name} is no folder and no whole zip archive" in refusal(
            lambda name=name: FileTree(tmp_path / name), DataError
        )
    assert "gone.zip does not exist" in refusal(lambda: FileTree(tmp_path / "gone.zip"), DataError)


def test_a_truncated_archive_is_named(archive: Path):
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "folder.zip is no folder and no whole zip archive" in refusal(lambda: FileTree(archive), DataError)


def test_a_damaged_member_is_named_with_its_archive(archive: Path):
    data = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as file:
        place = file.getinfo("train/3.png").header_offset + 60
    data[place : place + 40] = bytes(40)
    archive.write_bytes(data)
    tree = FileTree(archive)
    message = refusal(lambda: tree.read(Path("train/3.png")), DataError)
    assert "train/3.png in " in message
    assert "folder.zip is damaged" in message
    tree.read(Path("train/2.png"))


def test_an_encrypted_member_is_named(archive: Path):
    data = bytearray(archive.read_bytes())
    place = data.rindex(b"PK\x01\x02")
    data[place + 8] |= 1
    archive.write_bytes(data)
    with zipfile.ZipFile(archive) as file:
        name = next(one.filename for one in file.infolist() if one.flag_bits & 1)
    assert "folder.zip is damaged" in refusal(lambda: FileTree(archive).read(Path(name)), DataError)


def test_a_member_or_archive_that_vanishes_is_named(archive: Path, tmp_path: Path):
    tree = pickle.loads(pickle.dumps(FileTree(archive)))
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("other.png", b"")
    assert "train/0.png in " in refusal(lambda: tree.read(Path("train/0.png")), DataError)
    tree = pickle.loads(pickle.dumps(FileTree(archive)))
    archive.unlink()
    assert "folder.zip does not exist" in refusal(lambda: tree.read(Path("other.png")), DataError)
