"""Files go in and come out equal in names, types, shapes and values; what cannot is said."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encore.base.errors import CheckpointError, DataError, InputError, RunFolderError
from encore.base.progress import SilentProgress
from encore.data.exact import read_picture
from encore.papers.pc_compression.codec import compress, decompress, opened_archive
from encore.papers.pc_compression.container import Writer
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.sources import inside

pytest.importorskip("constriction")

SILENT = SilentProgress()


def model_of(shape, num_values=256, seed=0, **others) -> HCLT:
    D = int(np.prod(shape))
    model = HCLT([-1, *((child - 1) // 3 for child in range(1, D))], num_values, 3, shape, **others)
    model.randomise(torch.Generator().manual_seed(seed), 0.9)
    return model


def save(path: Path, pixels: np.ndarray, **others) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **others)
    return path


def pixels(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def trees(folder: Path) -> dict[str, np.ndarray]:
    return {file.relative_to(folder).as_posix(): read_picture(file) for file in folder.rglob("*") if file.is_file()}


def assert_equal_trees(one: Path, other: Path) -> None:
    first, second = trees(one), trees(other)
    assert first.keys() == second.keys()
    for name, values in first.items():
        assert values.dtype == second[name].dtype
        assert np.array_equal(values, second[name])


def assert_equal_npz(one: Path, other: Path) -> None:
    with np.load(one) as first, np.load(other) as second:
        assert first.files == second.files
        for name in first.files:
            assert first[name].dtype == second[name].dtype
            assert first[name].shape == second[name].shape
            assert first[name].tobytes() == second[name].tobytes()


@pytest.mark.parametrize("colour", [False, True])
def test_a_folder_comes_back(tmp_path: Path, colour):
    rest = (3,) if colour else ()
    for index, suffix in enumerate(("png", "bmp", "tif", "webp", "ppm" if colour else "pgm")):
        shape = (6, 4, *rest)
        if suffix == "webp" and not colour:
            continue  # WebP has no grey pictures
        others = {"lossless": True} if suffix == "webp" else {}
        save(tmp_path / "in" / "ä b" / f"{index}.{suffix}", pixels(*shape, seed=index), **others)
    for index in range(140):
        save(tmp_path / "in" / f"{index}.png", pixels(6, 4, *rest, seed=index))
    model = model_of((6, 4, *rest))
    report = compress(tmp_path / "in", tmp_path / "x.pc", model, SILENT)
    assert report.num_samples == len(trees(tmp_path / "in"))
    assert report.content()["bytes"] == (tmp_path / "x.pc").stat().st_size
    decompress(tmp_path / "x.pc", tmp_path / "out", model, SILENT)
    assert_equal_trees(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("colour", [False, True])
def test_pictures_of_all_sizes_come_back_through_tiles(tmp_path: Path, colour):
    rest = (3,) if colour else ()
    for index, (height, width) in enumerate([(1, 1), (4, 4), (9, 13), (30, 3)]):
        save(tmp_path / "in" / f"{index}.png", pixels(height, width, *rest, seed=index))
    model = model_of((4, 4, *rest), tiles=True)
    report = compress(tmp_path / "in", tmp_path / "x.pc", model, SILENT)
    assert report.num_samples == 1 + 1 + 3 * 4 + 8
    decompress(tmp_path / "x.pc", tmp_path / "out", model, SILENT)
    assert_equal_trees(tmp_path / "in", tmp_path / "out")


def test_arrays_come_back_and_what_the_model_does_not_take_beside_them(tmp_path: Path):
    rng = np.random.default_rng(0)
    np.savez_compressed(
        tmp_path / "in.npz",
        x_train=rng.integers(-2, 5, (1500, 3, 2)).astype(np.int16),
        y_train=rng.integers(0, 9, 1500),
        names=np.array(["a", "bc"]),
        weights=rng.random((4, 3, 2)),
        x_test=rng.integers(-2, 5, (3, 3, 2)).astype(">i8"),
        nothing=np.zeros((0, 3, 2), np.uint8),
        turned=np.asfortranarray(rng.integers(0, 2, (4, 3, 2))),
    )
    model = model_of((3, 2), 7, lowest=-2)
    report = compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    assert report.num_values == 1503 * 6
    decompress(tmp_path / "x.pc", tmp_path / "out.npz", model, SILENT)
    assert_equal_npz(tmp_path / "in.npz", tmp_path / "out.npz")


def test_one_sample_is_read_without_the_others(tmp_path: Path):
    values = pixels(400, 3, 3)
    np.savez(tmp_path / "in.npz", x=values)
    model = model_of((3, 3))
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    with opened_archive(tmp_path / "x.pc", model) as archive:
        read = []
        original = archive.reader.block
        archive.reader.block = lambda number: read.append(number) or original(number)
        assert (archive.samples(130, 131) == values[130:131]).all()
        assert read == [2]
        assert (archive.samples(60, 200) == values[60:200]).all()
        assert archive.samples(5, 5).shape == (0, 3, 3)
        with pytest.raises(IndexError):
            archive.samples(399, 401)


def test_another_model_is_refused_and_nothing_written(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=pixels(5, 3, 3))
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model_of((3, 3)), SILENT)
    with pytest.raises(CheckpointError, match="another model"):
        decompress(tmp_path / "x.pc", tmp_path / "out.npz", model_of((3, 3), seed=1), SILENT)
    assert not (tmp_path / "out.npz").exists()


def test_no_damage_is_decoded_wrong(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=pixels(70, 3, 3))
    model = model_of((3, 3))
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    content = (tmp_path / "x.pc").read_bytes()
    for place in range(0, len(content), 7):
        (tmp_path / "y.pc").write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DataError):
            decompress(tmp_path / "y.pc", tmp_path / "out.npz", model, SILENT)
        assert not (tmp_path / "out.npz").exists()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.npz", "x.pc", "y.pc"]


REFUSED = {
    "alpha": (lambda p: save(p / "a.png", pixels(3, 3, 4)), "mode RGBA"),
    "16 bits": (lambda p: save(p / "a.png", pixels(3, 3).astype(np.uint16)), "mode I;16"),
    "colour": (lambda p: save(p / "a.png", pixels(3, 3, 3)), "coloured"),
    "another size": (lambda p: save(p / "a.png", pixels(3, 4)), "3×4 came"),
    "loss": (lambda p: save(p / "a.jpg", pixels(3, 3)), "with loss"),
    "no picture": (lambda p: (p / "a.png").write_bytes(b"none"), "no picture"),
    "another file": (lambda p: (p / "a.txt").write_text("none"), "no picture that can be written"),
    "empty": (lambda p: None, "holds no pictures"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_folders_with_what_cannot_come_back_are_refused(tmp_path: Path, name):
    make, words = REFUSED[name]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in")
    with pytest.raises(DataError, match=words):
        compress(tmp_path / "in", tmp_path / "x.pc", model_of((3, 3)), SILENT)
    assert [one.name for one in tmp_path.iterdir()] == ["in"]


ARRAYS = {
    "floats": ({"x": np.zeros((4, 3, 3))}, "float64"),
    "another shape": ({"x": np.zeros((4, 3, 2), np.uint8)}, "3×2 came"),
    "other values": ({"x": np.full((4, 3, 3), 300)}, "300 to 300"),
    "nothing": ({}, "empty"),
    "objects": ({"x": np.array([None])}, "not unpickled"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_that_are_none_of_the_models_are_refused(tmp_path: Path, name):
    arrays, words = ARRAYS[name]
    np.savez(tmp_path / "in.npz", **arrays)
    with pytest.raises(DataError, match=words):
        compress(tmp_path / "in.npz", tmp_path / "x.pc", model_of((3, 3)), SILENT)
    assert [one.name for one in tmp_path.iterdir()] == ["in.npz"]


def test_truncated_pictures_and_archives_leave_nothing(tmp_path: Path):
    whole = save(tmp_path / "in" / "a.png", pixels(30, 30)).read_bytes()
    (tmp_path / "in" / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged"):
        compress(tmp_path / "in", tmp_path / "x.pc", model_of((30, 30)), SILENT)
    np.savez(tmp_path / "in.npz", x=pixels(50, 3, 3))
    content = (tmp_path / "in.npz").read_bytes()
    (tmp_path / "in.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"no \.npz|damaged"):
        compress(tmp_path / "in.npz", tmp_path / "x.pc", model_of((3, 3)), SILENT)
    assert not (tmp_path / "x.pc").exists()


def test_what_is_there_already_is_not_written_over(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=pixels(5, 3, 3))
    model = model_of((3, 3))
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    with pytest.raises(RunFolderError, match="there already"):
        decompress(tmp_path / "x.pc", tmp_path / "in.npz", model, SILENT)
    with pytest.raises(RunFolderError, match=r"no \.npz"):
        decompress(tmp_path / "x.pc", tmp_path / "out", model, SILENT)
    with pytest.raises(InputError, match="does not exist"):
        decompress(tmp_path / "y.pc", tmp_path / "out.npz", model, SILENT)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_arrays_of_any_shape_and_content_come_back(tmp_path: Path, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=3)))
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "<i2", ">u4", "i8"])))
    lowest = data.draw(st.integers(-100, 0)) if dtype.kind == "i" else data.draw(st.integers(0, 100))
    K = data.draw(st.integers(1, 27))
    count = data.draw(st.integers(0, 130))
    content = data.draw(st.sampled_from(["lowest", "highest", "noise"]))
    rng = np.random.default_rng(count)
    values = {
        "lowest": np.full((count, *shape), lowest),
        "highest": np.full((count, *shape), lowest + K - 1),
        "noise": rng.integers(lowest, lowest + K, (count, *shape)),
    }[content].astype(dtype)
    np.savez(tmp_path / "in.npz", x=values)
    model = model_of(shape, K, lowest=lowest)
    for name in ("x.pc", "out.npz"):
        (tmp_path / name).unlink(missing_ok=True)
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    decompress(tmp_path / "x.pc", tmp_path / "out.npz", model, SILENT)
    assert_equal_npz(tmp_path / "in.npz", tmp_path / "out.npz")


def test_writers_of_one_file_do_not_meet(tmp_path: Path):
    model = model_of((3, 3))
    for number in range(4):
        np.savez(tmp_path / f"{number}.npz", x=pixels(300, 3, 3, seed=number))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: compress(tmp_path / f"{number}.npz", tmp_path / "x.pc", model, SILENT), range(4)))
    with opened_archive(tmp_path / "x.pc", model) as archive:
        found = archive.samples(0, 300)
    assert any(np.array_equal(found, pixels(300, 3, 3, seed=number)) for number in range(4))
    assert len(list(tmp_path.iterdir())) == 5


def test_what_is_interrupted_leaves_nothing(tmp_path: Path):
    class Interrupted(SilentProgress):
        def update(self, stage, step, total=None, metrics=None):
            raise KeyboardInterrupt

    np.savez(tmp_path / "in.npz", x=pixels(300, 3, 3))
    model = model_of((3, 3))
    with pytest.raises(KeyboardInterrupt):
        compress(tmp_path / "in.npz", tmp_path / "x.pc", model, Interrupted())
    assert [one.name for one in tmp_path.iterdir()] == ["in.npz"]
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    with pytest.raises(KeyboardInterrupt):
        decompress(tmp_path / "x.pc", tmp_path / "out.npz", model, Interrupted())
    assert sorted(one.name for one in tmp_path.iterdir()) == ["in.npz", "x.pc"]


def test_more_data_than_is_kept_in_memory_goes_through(tmp_path: Path):
    """What is held at once does not grow with the data."""
    model = model_of((4, 4))
    peaks = []
    for count in (4_000, 40_000):
        np.savez(tmp_path / "in.npz", x=np.broadcast_to(pixels(4, 4), (count, 4, 4)))
        tracemalloc.start()
        compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
        decompress(tmp_path / "x.pc", tmp_path / f"{count}.npz", model, SILENT)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 2**20


@pytest.mark.parametrize("name", ["../a.png", "/tmp/a.png", "b/../../a.png", ""])
def test_a_files_names_do_not_lead_out_of_its_folder(name):
    with pytest.raises(DataError, match="no place inside"):
        inside(name)


def test_another_meaning_of_the_same_tables_is_another_model(tmp_path: Path):
    np.savez(tmp_path / "in.npz", x=pixels(5, 3, 3).astype(np.int64) % 7)
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model_of((3, 3), 7), SILENT)
    for other in (model_of((3, 3), 7, lowest=-2), model_of((9,), 7), model_of((3, 3), 7, tiles=True)):
        with pytest.raises(CheckpointError, match="another model"):
            decompress(tmp_path / "x.pc", tmp_path / "out.npz", other, SILENT)


def test_many_small_pictures_cost_no_more_for_their_names(tmp_path: Path):
    for index in range(500):
        save(tmp_path / "in" / f"picture_{index:05d}.png", pixels(4, 4))
    model = model_of((4, 4))
    folder = compress(tmp_path / "in", tmp_path / "x.pc", model, SILENT)
    np.savez(tmp_path / "in.npz", x=np.stack([pixels(4, 4)] * 500))
    arrays = compress(tmp_path / "in.npz", tmp_path / "y.pc", model, SILENT)
    assert folder.num_bytes - arrays.num_bytes < 8 * 500


def test_what_is_filled_up_is_not_counted(tmp_path: Path):
    for index in range(5):
        save(tmp_path / "in" / f"{index}.png", pixels(5, 5, seed=index))
    report = compress(tmp_path / "in", tmp_path / "x.pc", model_of((4, 4), tiles=True), SILENT)
    assert (report.num_samples, report.num_values) == (20, 125)


def test_pictures_beyond_the_models_values_are_named(tmp_path: Path):
    save(tmp_path / "in" / "a.png", np.full((3, 3), 200, np.uint8))
    with pytest.raises(DataError, match=r"a\.png: values from 200 to 200"):
        compress(tmp_path / "in", tmp_path / "x.pc", model_of((3, 3), 17), SILENT)


def test_every_damage_of_an_archive_is_said_in_one_line(tmp_path: Path):
    np.savez_compressed(tmp_path / "in.npz", x=pixels(40, 3, 3), labels=np.arange(40.0))
    content = (tmp_path / "in.npz").read_bytes()
    model, refused = model_of((3, 3)), 0
    for place in range(0, len(content), 3):
        (tmp_path / "bad.npz").write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        (tmp_path / "x.pc").unlink(missing_ok=True)
        try:
            compress(tmp_path / "bad.npz", tmp_path / "x.pc", model, SILENT)
        except DataError:
            refused += 1
    assert refused > len(content) / 3 * 0.7


CRAFTED = {
    "a list": [],
    "no items": {"codec": "pc_compression", "kind": "npz"},
    "more items than samples": {"items": [{"name": "x.npy", "shape": [9, 3, 3], "dtype": "|u1"}]},
    "fewer items than samples": {"items": []},
    "a name twice": {"items": [{"name": "x.npy", "shape": [1, 3, 3], "dtype": "|u1"}] * 5},
    "no picture": {"kind": "folder", "items": [{"name": "x.exe", "shape": [3, 3], "dtype": "uint8"}] * 5},
}


@pytest.mark.parametrize("name", CRAFTED)
def test_headings_that_somebody_made_are_refused(tmp_path: Path, name):
    model = model_of((3, 3))
    np.savez(tmp_path / "in.npz", x=pixels(5, 3, 3))
    compress(tmp_path / "in.npz", tmp_path / "x.pc", model, SILENT)
    with opened_archive(tmp_path / "x.pc", model) as archive:
        heading, blocks = archive.reader.heading, [archive.reader.block(0)]
        content = archive.reader.entries[0].content
    changed = CRAFTED[name] if not isinstance(CRAFTED[name], dict) else {**heading, **CRAFTED[name]}
    if name == "no items":
        changed = CRAFTED[name]
    for block in (blocks[0], b"", b"abc"):
        with (tmp_path / "y.pc").open("wb") as file:
            writer = Writer(file, changed)
            writer.add(block, 5, content)
            writer.close()
        with pytest.raises(DataError):
            decompress(tmp_path / "y.pc", tmp_path / "out.npz", model, SILENT)
    with (tmp_path / "y.pc").open("wb") as file:
        writer = Writer(file, heading)
        writer.add(bytes(len(blocks[0])), 5, content)
        writer.close()
    with pytest.raises(DataError, match="does not decode"):
        decompress(tmp_path / "y.pc", tmp_path / "out.npz", model, SILENT)
