"""Whatever Pillow opens becomes one of the two contract tensors, or one line that names the file."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encore.base.errors import DataError
from encore.data.images import (
    class_indices,
    find_images,
    mask_from_colours,
    natural_order,
    read_image,
    read_mask,
    read_mask_values,
    size_of,
)

from .conftest import encoded, random_image, random_mask, refusal, save

GREY = np.array([[0, 100, 255], [7, 50, 200]], dtype=np.uint8)


def pixels(tensor: torch.Tensor) -> np.ndarray:
    return tensor.permute(1, 2, 0).numpy()


def grey_rgb(values: object) -> np.ndarray:
    return np.repeat(np.asarray(values, dtype=np.uint8)[..., None], 3, axis=2)


def test_rgb_comes_as_it_is(tmp_path: Path):
    picture = random_image()
    image = read_image(save(tmp_path / "a.png", picture))
    assert image.dtype == torch.uint8
    assert image.shape == (3, 12, 16)
    assert image.is_contiguous()
    assert np.array_equal(pixels(image), picture)


@pytest.mark.parametrize(
    ("image", "due"),
    [
        (Image.fromarray(GREY > 60), grey_rgb((GREY > 60) * 255)),
        (Image.fromarray(GREY), grey_rgb(GREY)),
        (Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (3, 2), 255)]), grey_rgb(GREY)),
        (Image.merge("LA", [Image.fromarray(GREY), Image.new("L", (3, 2), 0)]), grey_rgb(np.full((2, 3), 255))),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 0)), np.full((2, 3, 3), 255)),
        (Image.new("RGBA", (3, 2), (10, 20, 30, 255)), np.full((2, 3, 3), (10, 20, 30))),
        (Image.new("RGBA", (3, 2), (0, 0, 0, 51)), np.full((2, 3, 3), 204)),
    ],
    ids=["1", "L", "LA", "LA transparent", "RGBA transparent", "RGBA", "RGBA half"],
)
def test_pillows_modes_become_rgb_on_white(image: Image.Image, due: np.ndarray):
    assert np.array_equal(pixels(read_image(encoded(image))), due)


def palette_image() -> Image.Image:
    image = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8)).convert("P")
    image.putdata([0, 1, 2])
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


def test_a_palette_becomes_its_colours_and_transparent_entries_white():
    assert pixels(read_image(encoded(palette_image()))).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    transparent = encoded(palette_image(), transparency=1)
    assert pixels(read_image(transparent)).tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_cmyk_becomes_rgb():
    image = pixels(read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)))
    assert image.shape == (16, 16, 3)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 6


@pytest.mark.parametrize("mode", ["I;16", "I"])
def test_16_bits_are_scaled_from_the_whole_range(mode: str):
    values = np.array([[0, 128, 129, 32768, 65535]])
    image = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    assert image.mode == mode
    due = np.round(values / 65535 * 255)
    assert np.array_equal(pixels(read_image(encoded(image, "TIFF"))), grey_rgb(due))


def test_the_transparent_value_of_16_bit_grey_is_white():
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 0, 0, 0, 0))
    transparent = chunk(b"tRNS", struct.pack(">H", 1000))
    rows = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">HH", 1000, 32768)))
    file = b"\x89PNG\r\n\x1a\n" + header + transparent + rows + chunk(b"IEND", b"")
    assert pixels(read_image(file)).tolist() == [[[255] * 3, [128] * 3]]


def test_32_bit_and_floating_values_are_refused(tmp_path: Path):
    wide, floating = tmp_path / "wide.tif", tmp_path / "floating.tif"
    Image.fromarray(np.array([[0, 70000]], dtype=np.int32)).save(wide)
    Image.fromarray(np.array([[0.0, 0.5]], dtype=np.float32)).save(floating)
    assert "wide.tif has 32-bit values" in refusal(lambda: read_image(wide), DataError)
    assert "floating.tif has floating-point values" in refusal(lambda: read_image(floating), DataError)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_orientation_says(kind: str, orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    corners = np.zeros((16, 32, 3), dtype=np.uint8)
    corners[:8, :8] = 255
    file = encoded(Image.fromarray(corners), kind, exif=exif)
    upright = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
        8: np.rot90,
    }[orientation](corners)
    image = pixels(read_image(file))
    assert size_of(file) == image.shape[:2]
    assert np.abs(image.astype(int) - upright).mean() < 10


def test_nonsense_in_the_orientation_is_as_none():
    exif = Image.Exif()
    exif[0x0112] = 9
    file = encoded(Image.fromarray(random_image()), "PNG", exif=exif)
    assert size_of(file) == (12, 16)
    assert read_image(file).shape == (3, 12, 16)
    damaged = encoded(Image.fromarray(random_image()), "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert size_of(damaged) == (12, 16)
    assert read_image(damaged).shape == (3, 12, 16)


def test_a_mask_with_an_orientation_turns_as_its_picture_does():
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = random_mask()
    file = encoded(Image.fromarray(mask), "PNG", exif=exif)
    assert size_of(file) == (16, 12)
    assert np.array_equal(read_mask(file, 3).numpy(), np.rot90(mask, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, suffix: str):
    path = save(tmp_path / f"cut.{suffix}", random_image(height=64, width=64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert str(path) in refusal(lambda: read_image(path), DataError)


def test_files_that_are_no_pictures_are_refused_by_name(tmp_path: Path):
    empty, text, folder = tmp_path / "empty.png", tmp_path / "text.png", tmp_path / "folder.png"
    empty.touch()
    text.write_text("no picture")
    folder.mkdir()
    for path, reason in (
        (empty, "is empty"),
        (text, "is no picture"),
        (folder, "cannot be read"),
        (tmp_path / "gone.png", "does not exist"),
    ):
        for read in (read_image, size_of, read_mask_values):
            message = refusal(lambda path=path, read=read: read(path), DataError)
            assert str(path) in message
            assert reason in message


def test_a_file_without_permission_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    message = refusal(lambda: read_image(tmp_path / "secret.png"), DataError)
    assert "secret.png cannot be read (permission denied)" in message


def test_bytes_are_called_what_the_caller_says():
    assert "a.png in b.zip is empty" in refusal(lambda: read_image(b"", "a.png in b.zip"), DataError)


def test_a_bomb_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    path = save(tmp_path / "bomb.png", random_image(height=100, width=100))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "bomb.png has more than" in refusal(lambda: read_image(path), DataError)
    assert "bomb.png has more than" in refusal(lambda: size_of(path), DataError)


def test_palette_indices_count_and_not_colours():
    assert read_mask(encoded(palette_image()), 3).tolist() == [[0, 1, 2]]
    assert read_mask(encoded(palette_image(), transparency=1), 3).tolist() == [[0, 1, 2]]


def test_masks_of_1_8_and_16_bits_are_read():
    mask = random_mask(num_classes=2)
    for image in (
        Image.fromarray(mask.astype(bool)),
        Image.fromarray(mask),
        Image.fromarray(mask.astype(np.uint16)),
        Image.fromarray(mask.astype(np.int32)),
    ):
        read = read_mask(encoded(image, "TIFF"), 2)
        assert read.dtype == torch.uint8
        assert np.array_equal(read.numpy(), mask)


def test_a_mask_in_colours_is_refused_with_the_remedy(tmp_path: Path):
    path = save(tmp_path / "coloured.png", random_image())
    message = refusal(lambda: read_mask(path, 3), DataError)
    assert "coloured.png is an RGB picture" in message
    assert "mask_from_colours" in message


@pytest.mark.parametrize("mode", ["LA", "RGBA", "F"])
def test_masks_of_other_modes_are_refused(mode: str):
    file = encoded(Image.fromarray(GREY).convert(mode), "TIFF")
    assert "masks hold one class index per pixel" in refusal(lambda: read_mask(file, 3, where="mask.tif"), DataError)


def test_a_jpeg_mask_is_refused(tmp_path: Path):
    path = save(tmp_path / "mask.jpg", random_mask())
    assert "mask.jpg is a JPEG, which blurs class indices: save masks as PNG" in refusal(lambda: read_mask(path, 3))


def test_values_beyond_the_classes_are_named_with_the_file(tmp_path: Path):
    path = save(tmp_path / "mask.png", np.array([[0, 3, 7], [1, 2, 255]], dtype=np.uint8))
    message = refusal(lambda: read_mask(path, 3), DataError)
    assert "mask.png holds the values 3, 7, but there are 3 classes, values 0…2, and void is 255" in message
    wide = tmp_path / "wide.tif"
    Image.fromarray(np.array([[0, 300]], dtype=np.uint16)).save(wide)
    assert "wide.tif holds the values 300" in refusal(lambda: read_mask(wide, 3), DataError)


def test_a_void_value_shifts_the_classes_after_it():
    values = np.array([[0, 1, 2, 3, 255]])
    assert class_indices(values, 3, {0}, "mask").tolist() == [[255, 0, 1, 2, 255]]
    assert class_indices(values, 3, {1}, "mask").tolist() == [[0, 255, 1, 2, 255]]
    assert class_indices(values, 3, {3}, "mask").tolist() == [[0, 1, 2, 255, 255]]


def test_negative_and_very_large_values_are_refused():
    for value in (-1, 256, 2**40):
        assert str(value) in refusal(lambda value=value: class_indices(np.array([[0, value]]), 3, (), "mask"))


def test_a_mask_has_room_for_255_classes():
    values = np.arange(256)[None]
    assert class_indices(values, 255, (), "mask").tolist() == [list(range(256))]
    for number in (0, 256):
        refusal(lambda number=number: class_indices(values, number, (), "mask"), DataError)


def test_colours_become_class_indices_and_strange_ones_are_named():
    picture = torch.tensor([[10, 0, 30]] * 3, dtype=torch.uint8)[:, None]
    assert mask_from_colours(picture, [(30, 30, 30), (10, 10, 10)]).tolist() == [[1, 255, 0]]
    assert mask_from_colours(picture, [(0, 0, 0), (10, 10, 10), (30, 30, 30)]).tolist() == [[1, 0, 2]]
    message = refusal(lambda: mask_from_colours(picture, [(10, 10, 10)]), DataError)
    assert "33 % of the pixels have a colour of no class, the first (30, 30, 30)" in message


def test_names_are_ordered_as_people_count():
    names = ["10.png", "2.png", "b.png", "A.png", "2b.png", "a10.png", "a9.png"]
    assert sorted(names, key=natural_order) == ["2.png", "2b.png", "10.png", "a9.png", "a10.png", "A.png", "b.png"]


def test_pictures_are_found_by_suffix_without_hidden_files_and_folders(tmp_path: Path):
    for name in ("b10.PNG", "b9.jpeg", "._b9.jpeg", ".hidden.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["b9.jpeg", "b10.PNG"]


def test_a_folder_that_is_none_or_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    for name in ("file", "gone"):
        assert f"{name} is no folder" in refusal(lambda name=name: find_images(tmp_path / name), DataError)

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read (permission denied)" in refusal(lambda: find_images(tmp_path), DataError)
