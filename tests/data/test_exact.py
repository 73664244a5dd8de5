"""Integer samples as they are stored, and what is wrong with them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encore.base.errors import DataError
from encore.data.exact import open_exact, values_of


def save(path: Path, *shape: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_pixels_of_a_folder_are_as_they_are_stored(tmp_path: Path):
    pictures = [save(tmp_path / f"{index}.png", 4, 5, seed=index) for index in range(10)]
    splits = open_exact(str(tmp_path))
    assert splits.sizes() == {"train": 8, "val": 1, "test": 1}
    found = np.concatenate([values_of(one) for one in (splits.train, splits.val, splits.test)])
    assert found.shape == (10, 4, 5)
    assert sorted(one.tobytes() for one in found) == sorted(one.tobytes() for one in pictures)
    assert splits.train[0]["values"].shape == (4, 5)


def test_pictures_of_all_sizes_are_cut_into_tiles_after_they_were_parted(tmp_path: Path):
    for index in range(10):
        save(tmp_path / f"{index}.png", 4 + index, 7, 3, seed=index)
    splits = open_exact(str(tmp_path), tile=(4, 4))
    assert splits.train.values.shape[1:] == (4, 4, 3)
    assert sum(splits.sizes().values()) == sum(2 * -(-(4 + index) // 4) for index in range(10))


def test_grey_sets_stay_grey():
    splits = open_exact("digits")
    assert splits.train.values.shape[1:] == (8, 8)
    assert splits.embedded
    assert splits.train.extremes == (0, 255)


@pytest.mark.parametrize(
    ("arrays", "sizes"),
    [
        ({"x_train": (20, 3), "x_test": (4, 3)}, {"train": 18, "val": 2, "test": 4}),
        ({"x_train": (20, 3), "x_val": (5, 3), "x_test": (4, 3)}, {"train": 20, "val": 5, "test": 4}),
        ({"images": (10, 2, 2), "labels": (10,)}, {"train": 8, "val": 1, "test": 1}),
        ({"latents": (10, 2, 2, 5)}, {"train": 8, "val": 1, "test": 1}),
    ],
)
def test_arrays_come_in_several_forms(tmp_path: Path, arrays, sizes):
    np.savez(tmp_path / "a.npz", **{name: np.ones(shape, np.int16) for name, shape in arrays.items()})
    assert open_exact(str(tmp_path / "a.npz")).sizes() == sizes


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((4, 3))}, "float64"),
        ({"images": np.zeros((4,), int)}, "shape \\(4,\\)"),
        ({"images": np.zeros((0, 4), int)}, "no values"),
        ({"a": np.zeros((4, 4), int), "b": np.zeros((4, 4), int)}, "holds a, b"),
        ({"x_train": np.zeros((4, 4), int), "x_test": np.zeros((4, 5), int)}, "different shapes"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, arrays, words):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=words):
        open_exact(str(tmp_path / "a.npz"))


def test_pictures_that_differ_are_refused(tmp_path: Path):
    save(tmp_path / "sizes" / "0.png", 4, 4)
    save(tmp_path / "sizes" / "1.png", 4, 5)
    with pytest.raises(DataError, match=r"0\.png is 4×4, and .*1\.png 4×5"):
        open_exact(str(tmp_path / "sizes"))
    save(tmp_path / "kinds" / "0.png", 4, 4)
    save(tmp_path / "kinds" / "1.png", 4, 4, 3)
    with pytest.raises(DataError, match="grey and coloured"):
        open_exact(str(tmp_path / "kinds"))
    save(tmp_path / "alpha" / "0.png", 4, 4, 4)
    with pytest.raises(DataError, match="mode RGBA"):
        open_exact(str(tmp_path / "alpha"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        open_exact(str(tmp_path / "empty"))


def pnm(kind: bytes, largest: int, count: int) -> bytes:
    return kind + b"\n4 3\n%d\n" % largest + bytes(count)


ODD = {
    "16 bits in colour": ("a.png", lambda: codecs().png_encode(np.zeros((3, 4, 3), np.uint16))),
    "16 bits in a ppm": ("a.ppm", lambda: pnm(b"P6", 65535, 72)),
    "4 bits in a pgm": ("a.pgm", lambda: pnm(b"P5", 15, 12)),
    "a transparent colour": ("a.png", lambda: with_transparency()),
}


def codecs():
    return pytest.importorskip("imagecodecs")


def with_transparency() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(file, "PNG", transparency=(0, 0, 0))
    return file.getvalue()


@pytest.mark.parametrize("name", ODD)
def test_pictures_that_reading_would_change_are_refused(tmp_path: Path, name):
    file, content = ODD[name]
    (tmp_path / file).write_bytes(content())
    with pytest.raises(DataError, match="is a picture"):
        open_exact(str(tmp_path))


def test_links_to_folders_are_not_left_out_silently(tmp_path: Path):
    save(tmp_path / "elsewhere" / "0.png", 4, 4)
    save(tmp_path / "here" / "1.png", 4, 4)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link to a folder"):
        open_exact(str(tmp_path / "here"))
