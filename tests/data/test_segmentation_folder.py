"""Folders and arrays as people have them: opened, or refused in one line that names the file."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from encore.base.errors import DataError
from encore.data.class_names import parse_classes
from encore.data.segmentation_arrays import open_arrays
from encore.data.segmentation_folder import open_folder

from .conftest import make_folder, random_image, random_mask, refusal, save


def test_a_flat_folder_has_one_part(tmp_path: Path):
    parts = open_folder(make_folder(tmp_path))
    assert list(parts) == ["all"]
    samples = parts["all"]
    assert samples.classes == ("class_0", "class_1", "class_2")
    assert samples.sizes == [(12, 16)] * 4
    sample = samples[1]
    assert sample["name"] == "street_1"
    assert sample["image"].shape == (3, 12, 16)
    assert sample["image"].dtype == sample["mask"].dtype == torch.uint8
    assert np.array_equal(sample["image"].permute(1, 2, 0), random_image(1))
    assert np.array_equal(sample["mask"], random_mask(1))


def test_a_parted_folder_has_the_parts_that_are_there(tmp_path: Path):
    for number, part in enumerate(("train", "test")):
        make_folder(tmp_path / part, count=2 + number)
    parts = open_folder(tmp_path)
    assert {part: len(samples) for part, samples in parts.items()} == {"train": 2, "test": 3}


def test_samples_come_in_natural_order(tmp_path: Path):
    make_folder(tmp_path, count=12)
    assert [sample["name"] for sample in open_folder(tmp_path)["all"]] == [f"street_{i}" for i in range(12)]


def test_suffixes_may_differ_and_be_in_capitals(tmp_path: Path):
    save(tmp_path / "images" / "a.jpg", random_image())
    save(tmp_path / "masks" / "a.PNG", random_mask())
    assert len(open_folder(tmp_path)["all"]) == 1


def test_hidden_files_are_left_out(tmp_path: Path):
    make_folder(tmp_path)
    for name in ("images/._street_0.png", "masks/._street_0.png", "images/.DS_Store"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    assert len(open_folder(tmp_path)["all"]) == 4


def test_folders_may_be_links(tmp_path: Path):
    make_folder(tmp_path / "real")
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("images", "masks"):
        (linked / name).symlink_to(tmp_path / "real" / name, target_is_directory=True)
    assert len(open_folder(linked)["all"]) == 4


def test_classes_are_read_with_any_line_ends_and_byte_order_mark(tmp_path: Path):
    make_folder(tmp_path)
    for text in (b"sky\nroad\ntree\n", b"sky\r\nroad\r\ntree\r\n\r\n", b"\xef\xbb\xbfsky\r\nroad\r\ntree"):
        (tmp_path / "classes.txt").write_bytes(text)
        assert open_folder(tmp_path)["all"].classes == ("sky", "road", "tree")


def test_the_entry_void_is_no_class_and_shifts_those_after_it(tmp_path: Path):
    make_folder(tmp_path)
    (tmp_path / "classes.txt").write_text("sky\nVoid\ntree\n")
    samples = open_folder(tmp_path)["all"]
    assert samples.classes == ("sky", "tree")
    due = np.array([0, 255, 1], dtype=np.uint8)[random_mask(2)]
    assert np.array_equal(samples[2]["mask"], due)


def test_one_part_takes_the_classes_beside_it(tmp_path: Path):
    make_folder(tmp_path / "test")
    (tmp_path / "classes.txt").write_text("sky\nroad\ntree\ncar\n")
    assert open_folder(tmp_path / "test")["all"].classes == ("sky", "road", "tree", "car")


def test_a_linked_part_takes_the_classes_beside_the_link_or_beside_itself(tmp_path: Path):
    make_folder(tmp_path / "elsewhere")
    data = tmp_path / "data"
    data.mkdir()
    (data / "test").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (data / "classes.txt").write_text("sky\nroad\ntree\n")
    assert open_folder(data / "test")["all"].classes == ("sky", "road", "tree")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ([], "names 0 classes"),
        (["void"], "names 0 classes"),
        (["sky", "", "road"], "line 2 is empty"),
        (["sky", "road", "sky"], "names 'sky' twice"),
        ([f"c{i}" for i in range(256)], "names 256 classes"),
        (["void", *(f"c{i}" for i in range(255))], "names 255 classes in 256 entries"),
    ],
)
def test_classes_that_cannot_be_are_refused(lines: list[str], problem: str):
    assert f"classes.txt{':' if 'line' in problem else ''} {problem}" in refusal(
        lambda: parse_classes(lines, "classes.txt"), DataError
    )


def test_255_classes_and_void_at_255_are_taken():
    classes = parse_classes([*(f"c{i}" for i in range(255)), "void"], "classes.txt")
    assert len(classes.names) == 255
    assert classes.void == {255}


def test_classes_in_another_encoding_are_refused_by_name(tmp_path: Path):
    make_folder(tmp_path)
    (tmp_path / "classes.txt").write_bytes("straße\n".encode("latin-1"))
    assert "classes.txt is no UTF-8 text" in refusal(lambda: open_folder(tmp_path), DataError)


def test_the_number_of_classes_is_the_largest_training_index_plus_one(tmp_path: Path):
    make_folder(tmp_path / "train", num_classes=5)
    make_folder(tmp_path / "val", num_classes=4)
    assert len(open_folder(tmp_path)["val"].classes) == 5


def test_void_does_not_count_as_a_class(tmp_path: Path):
    make_folder(tmp_path)
    save(tmp_path / "masks" / "street_0.png", np.full((12, 16), 255, dtype=np.uint8))
    assert len(open_folder(tmp_path)["all"].classes) == 3


def test_a_class_that_training_lacks_is_refused_by_name(tmp_path: Path):
    make_folder(tmp_path / "train", num_classes=3)
    make_folder(tmp_path / "test", num_classes=4)
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert str(tmp_path / "test" / "masks" / "street_0.png") in message
    assert "holds the values 3" in message


def test_a_given_number_of_classes_leaves_the_masks_unread(tmp_path: Path):
    make_folder(tmp_path, num_classes=3)
    samples = open_folder(tmp_path, num_classes=2)["all"]
    assert len(samples.classes) == 2
    assert "street_0.png holds the values 2" in refusal(lambda: samples[0], DataError)


def test_masks_are_checked_at_once_where_wanted(tmp_path: Path):
    make_folder(tmp_path, num_classes=3)
    (tmp_path / "classes.txt").write_text("sky\nroad\n")
    open_folder(tmp_path)
    assert "street_0.png" in refusal(lambda: open_folder(tmp_path, check_masks=True), DataError)


def test_grey_levels_are_refused(tmp_path: Path):
    make_folder(tmp_path, num_classes=2)
    for mask in (tmp_path / "masks").iterdir():
        save(mask, random_mask(num_classes=2) * 127)
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert str(tmp_path) in message
    assert "look like grey levels, not class indices" in message


@pytest.mark.parametrize("background", [0, 255])
def test_a_foreground_drawn_as_255_is_refused(tmp_path: Path, background: int):
    make_folder(tmp_path)
    for mask in (tmp_path / "masks").iterdir():
        save(mask, np.where(random_mask() > 0, 255, background).astype(np.uint8))
    assert "a foreground drawn as 255 has to become 1" in refusal(lambda: open_folder(tmp_path), DataError)


def test_an_image_without_mask_and_the_reverse_are_named(tmp_path: Path):
    make_folder(tmp_path)
    (tmp_path / "masks" / "street_2.png").unlink()
    assert "1 images/ file has no mask: street_2.png" in refusal(lambda: open_folder(tmp_path), DataError)
    save(tmp_path / "masks" / "street_2.png", random_mask())
    (tmp_path / "images" / "street_0.png").unlink()
    (tmp_path / "images" / "street_1.png").unlink()
    assert "2 masks/ files have no image: street_0.png" in refusal(lambda: open_folder(tmp_path), DataError)


def test_a_mask_of_another_size_is_named(tmp_path: Path):
    make_folder(tmp_path)
    save(tmp_path / "masks" / "street_1.png", random_mask(height=6))
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert "street_1.png is 16 × 12 pixels, its mask 16 × 6" in message


def test_two_files_of_one_name_are_named(tmp_path: Path):
    make_folder(tmp_path)
    save(tmp_path / "images" / "street_1.jpg", random_image())
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert "street_1.jpg and street_1.png in images/ have the same name" in message


def test_parts_below_images_are_refused_with_the_way_round(tmp_path: Path):
    make_folder(tmp_path / "other")
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / "other" / name).rename(tmp_path / name / "train")
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert "has images/train, masks/train: turn them round: train/images" in message


def test_two_layouts_side_by_side_are_refused(tmp_path: Path):
    make_folder(tmp_path)
    make_folder(tmp_path / "train")
    assert "has images/, masks/, train/ side by side" in refusal(lambda: open_folder(tmp_path), DataError)


def test_an_empty_folder_and_what_is_none_are_named(tmp_path: Path):
    assert "has no images/, it holds nothing" in refusal(lambda: open_folder(tmp_path), DataError)
    (tmp_path / "file").touch()
    assert "file is no folder" in refusal(lambda: open_folder(tmp_path / "file"), DataError)
    assert "gone is no folder" in refusal(lambda: open_folder(tmp_path / "gone"), DataError)
    assert "has no images/, it holds file" in refusal(lambda: open_folder(tmp_path), DataError)


def test_pictures_one_level_too_deep_are_refused_with_the_hint(tmp_path: Path):
    make_folder(tmp_path / "deep")
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        (tmp_path / "deep" / name).rename(tmp_path / name / "berlin")
    message = refusal(lambda: open_folder(tmp_path), DataError)
    assert "holds no pictures: move what is in images/berlin/ up into images/" in message


def test_a_file_that_vanishes_after_opening_is_named(tmp_path: Path):
    samples = open_folder(make_folder(tmp_path))["all"]
    (tmp_path / "images" / "street_0.png").unlink()
    (tmp_path / "masks" / "street_1.png").unlink()
    assert "images/street_0.png does not exist" in refusal(lambda: samples[0], DataError)
    assert "masks/street_1.png does not exist" in refusal(lambda: samples[1], DataError)


def test_a_file_that_changes_its_size_after_opening_is_named(tmp_path: Path):
    samples = open_folder(make_folder(tmp_path))["all"]
    save(tmp_path / "masks" / "street_1.png", random_mask(height=6))
    assert "street_1.png was 16 × 12 pixels and is now 16 × 6" in refusal(lambda: samples[1], DataError)


def test_a_folder_that_may_not_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_folder(tmp_path)

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "images cannot be read (permission denied)" in refusal(lambda: open_folder(tmp_path), DataError)


def test_samples_are_read_alike_in_workers(tmp_path: Path):
    samples = open_folder(make_folder(tmp_path))["all"]
    here = [sample["mask"] for sample in samples]
    there = [batch["mask"][0] for batch in DataLoader(samples, num_workers=1)]
    assert all(torch.equal(*pair) for pair in zip(here, there, strict=True))
    again = pickle.loads(pickle.dumps(samples))
    assert torch.equal(again[0]["image"], samples[0]["image"])


def arrays(count: int = 4, **others: object) -> dict[str, object]:
    images = np.stack([random_image(seed) for seed in range(count)])
    masks = np.stack([random_mask(seed) for seed in range(count)])
    return {"images": images, "masks": masks, **others}


def test_arrays_are_samples(tmp_path: Path):
    path = tmp_path / "roads.npz"
    np.savez(path, **arrays(classes=np.array(["sky", "road", "void"])))
    samples = open_arrays(path)
    assert samples.classes == ("sky", "road")
    assert samples.sizes == [(12, 16)] * 4
    sample = samples[3]
    assert sample["name"] == "roads_00003"
    assert np.array_equal(sample["image"].permute(1, 2, 0), random_image(3))
    assert np.array_equal(sample["mask"], np.array([0, 1, 255])[random_mask(3)])
    with pytest.raises(IndexError):
        samples[4]


def test_writing_into_a_sample_leaves_the_arrays(tmp_path: Path):
    np.savez(tmp_path / "one.npz", images=np.zeros((3, 1, 1, 3), np.uint8), masks=np.zeros((3, 1, 1), np.uint8))
    samples = open_arrays(tmp_path / "one.npz")
    samples[0]["image"].fill_(9)
    samples[0]["mask"].fill_(9)
    assert int(samples[0]["image"].max()) == int(samples[0]["mask"].max()) == 0


@pytest.mark.parametrize("kind", [bool, np.int64, np.uint16])
def test_masks_of_other_integers_are_taken(tmp_path: Path, kind: type):
    masks = np.stack([random_mask(seed, num_classes=2) for seed in range(4)])
    np.savez(tmp_path / "a.npz", **arrays() | {"masks": masks.astype(kind)})
    samples = open_arrays(tmp_path / "a.npz")
    assert len(samples.classes) == 2
    assert np.array_equal(samples[0]["mask"], masks[0])
    assert samples[0]["mask"].dtype == torch.uint8


def test_class_names_may_be_bytes(tmp_path: Path):
    np.savez(tmp_path / "a.npz", **arrays(classes=np.array([b"sky", b"road", b"tree"])))
    assert open_arrays(tmp_path / "a.npz").classes == ("sky", "road", "tree")


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"images": None}, "has no array 'images', it holds masks"),
        ({"masks": None}, "has no array 'masks', it holds images"),
        ({"images": np.zeros((4, 12, 16), np.uint8)}, "images are uint8 of shape (4, 12, 16)"),
        ({"images": np.zeros((4, 3, 12, 16), np.uint8)}, "images are uint8 of shape (4, 3, 12, 16)"),
        ({"images": np.zeros((4, 12, 16, 3), np.float32)}, "images are float32"),
        ({"images": np.zeros((4, 0, 16, 3), np.uint8)}, "images are uint8 of shape (4, 0, 16, 3)"),
        ({"masks": np.zeros((3, 12, 16), np.uint8)}, "masks are uint8 of shape (3, 12, 16)"),
        ({"masks": np.zeros((4, 12, 16))}, "masks are float64"),
        ({"masks": np.full((4, 12, 16), -1)}, "the values -1"),
        ({"images": np.zeros((0, 2, 2, 3), np.uint8), "masks": np.zeros((0, 2, 2), np.uint8)}, "holds no samples"),
        ({"classes": np.array([["sky"], ["road"]])}, "classes are <U4 of shape (2, 1)"),
        ({"classes": np.arange(3)}, "classes are int64"),
        ({"classes": np.array(["sky"])}, "masks holds the values 1, 2"),
        ({"classes": np.array(["sky", "sky"])}, "names 'sky' twice"),
        ({"images": np.array([None] * 4)}, "holds Python objects, which are not unpickled"),
        ({"classes": np.array(["sky", "road", "tree"], dtype=object)}, "holds Python objects"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(tmp_path: Path, changed: dict[str, object], problem: str):
    path = tmp_path / "data.npz"
    np.savez(path, **{key: value for key, value in (arrays() | changed).items() if value is not None})
    message = refusal(lambda: open_arrays(path), DataError)
    assert str(path) in message
    assert problem in message


def test_what_is_no_npz_is_named(tmp_path: Path):
    np.save(tmp_path / "single.npy", np.zeros(3))
    (tmp_path / "single.npy").rename(tmp_path / "single.npz")
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps({"images": 1}))
    (tmp_path / "empty.npz").touch()
    for name in ("single.npz", "pickled.npz", "empty.npz"):
        assert f"{name} is no .npz" in refusal(lambda name=name: open_arrays(tmp_path / name), DataError)
    (tmp_path / "folder.npz").mkdir()
    assert "folder.npz cannot be read" in refusal(lambda: open_arrays(tmp_path / "folder.npz"), DataError)
    assert "gone.npz does not exist" in refusal(lambda: open_arrays(tmp_path / "gone.npz"), DataError)


def test_a_zip_of_other_files_is_named(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("images", b"no array")
        file.writestr("notes.txt", b"no array either")
    message = refusal(lambda: open_arrays(tmp_path / "a.npz"), DataError)
    assert "a.npz has no array 'images', it holds images, notes.txt" in message


@pytest.mark.parametrize("save_arrays", [np.savez, np.savez_compressed])
def test_damaged_arrays_are_opened_or_refused_but_never_crash(tmp_path: Path, save_arrays: object):
    buffer = io.BytesIO()
    save_arrays(buffer, **arrays(count=3, classes=np.array(["sky", "road", "tree"])))  # type: ignore[operator]
    whole, path, generator = buffer.getvalue(), tmp_path / "a.npz", np.random.default_rng(0)
    for _ in range(150):
        data = np.frombuffer(whole, np.uint8).copy()
        places = generator.integers(0, len(data) if generator.random() < 0.5 else 200, 3)
        data[places] = generator.integers(0, 256, 3)
        end = len(data) if generator.random() < 0.8 else int(generator.integers(len(data)))
        path.write_bytes(data.tobytes()[:end])
        try:
            samples = open_arrays(path)
        except DataError as error:
            refused = str(error)
        else:
            refused = None
            assert samples[0]["image"].dtype == torch.uint8
        assert refused is None or "a.npz" in refused
