"""Pictures without truth: any layout, damaged files left out and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encore.base.errors import DataError
from encore.base.progress import SilentProgress
from encore.data.exact import open_exact
from encore.data.unlabelled import open_images
from tests.data.conftest import random_image, refusal, save


class Told(SilentProgress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


def make_pictures(folder: Path, count: int = 20) -> Path:
    for index in range(count):
        save(folder / f"level_{index % 3}" / f"photo_{index}.png", random_image(index, 8 + index % 2, 9))
    return folder


def test_pictures_are_found_at_any_depth_and_cut(tmp_path: Path):
    splits = open_images(str(make_pictures(tmp_path)))
    assert splits.sizes() == {"train": 16, "val": 2, "test": 2}
    assert splits.classes == ()
    assert set(splits.train[0]) == {"image", "name"}
    assert set(splits.train.sizes) == {(8, 9), (9, 9)}


def test_given_parts_stay(tmp_path: Path):
    for part, count in (("train", 6), ("val", 3), ("test", 2)):
        make_pictures(tmp_path / part, count)
    assert open_images(str(tmp_path)).sizes() == {"train": 6, "val": 3, "test": 2}


def test_damaged_pictures_are_left_out_named_and_counted(tmp_path: Path):
    make_pictures(tmp_path)
    (tmp_path / "level_0" / "broken.png").write_bytes(b"no picture")
    (tmp_path / "level_1" / "empty.jpg").write_bytes(b"")
    told = Told()
    splits = open_images(str(tmp_path), progress=told)
    assert sum(splits.sizes().values()) == 20
    assert len(splits.skipped) == 2
    assert any("broken.png" in line for line in splits.skipped)
    assert told.messages[0].startswith("2 files skipped")
    assert "2 unreadable files left out" in splits.source


def test_a_folder_without_a_readable_picture_is_refused(tmp_path: Path):
    assert "holds no pictures" in refusal(lambda: open_images(str(tmp_path)), DataError)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert "none of the 1 pictures" in refusal(lambda: open_images(str(tmp_path)), DataError)


def test_pictures_beside_the_parts_are_not_passed_over(tmp_path: Path):
    make_pictures(tmp_path / "train")
    make_pictures(tmp_path / "unlabelled")
    assert "side by side" in refusal(lambda: open_images(str(tmp_path)), DataError)


def test_hidden_folders_are_passed_by(tmp_path: Path):
    make_pictures(tmp_path)
    save(tmp_path / ".cache" / "photo.png", random_image())
    assert sum(open_images(str(tmp_path)).sizes().values()) == 20


@pytest.mark.parametrize("grey", [False, True])
def test_arrays_of_pictures_are_opened(tmp_path: Path, grey: bool):
    shape = (20, 6, 7) if grey else (20, 6, 7, 3)
    np.savez(tmp_path / "pictures.npz", images=np.zeros(shape, np.uint8))
    splits = open_images(str(tmp_path / "pictures.npz"))
    assert splits.train[0]["image"].shape == (3, 6, 7)


def test_the_truth_of_a_named_set_is_left_aside():
    splits = open_images("digits")
    assert set(splits.test[0]) == {"image", "name"}
    assert splits.classes == ()


@pytest.mark.parametrize("name", ["iris", "wine"])
def test_a_named_set_without_pictures_is_refused(name: str):
    with pytest.raises(DataError, match=f"'{name}' holds tables, not pictures: sets of pictures: .*mnist"):
        open_images(name, seed=0)
    with pytest.raises(DataError, match="holds tables"):
        open_exact(name, seed=0)
