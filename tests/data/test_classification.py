"""Classification data through its one door: class folders, arrays, named sets, and what is wrong with them."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encore.base.errors import DataError
from encore.data.classification import open_classification, open_classification_part
from encore.data.classification_augmentation import ClassificationAugmentation
from encore.data.classification_folder import is_in_class_folders
from encore.data.idx import read_idx
from encore.data.named import named_sets
from encore.data.sets.cifar10 import CLASSES as CIFAR_CLASSES
from encore.data.sets.digit_pairs import open_digit_pairs
from encore.data.splits import seeded_split, shuffled
from tests.data.conftest import encoded, random_image, refusal, save

COUNTS = {"cat": 6, "dog10": 4, "dog2": 10}


def make_classes(folder: Path, counts: dict[str, int] = COUNTS) -> Path:
    """Folders of classes with so many pictures each."""
    for name, count in counts.items():
        for index in range(count):
            save(folder / name / f"{name}_{index}.png", random_image(index))
    return folder


def test_classes_come_in_the_natural_order_of_their_folders(tmp_path: Path):
    splits = open_classification(str(make_classes(tmp_path)))
    assert splits.classes == ("cat", "dog2", "dog10")
    assert splits.sizes() == {"train": 16, "val": 2, "test": 2}
    sample = splits.train[0]
    assert sample["image"].shape == (3, 12, 16)
    assert sample["name"].startswith(splits.classes[sample["label"]])


def test_classes_txt_sets_another_order(tmp_path: Path):
    make_classes(tmp_path)
    (tmp_path / "classes.txt").write_text("dog2\ncat\ndog10\n")
    assert open_classification(str(tmp_path)).classes == ("dog2", "cat", "dog10")


def test_given_parts_stay_and_a_tenth_of_train_becomes_val(tmp_path: Path):
    for part in ("train", "test"):
        make_classes(tmp_path / part)
    splits = open_classification(str(tmp_path))
    assert splits.sizes() == {"train": 18, "val": 2, "test": 20}
    assert len(open_classification_part(str(tmp_path))) == 20


def test_every_part_has_its_share_of_every_class():
    labels = [0] * 600 + [1] * 300 + [2] * 100
    parts = seeded_split(1000, labels=labels)
    for part, size in (("train", 800), ("val", 100), ("test", 100)):
        counted = Counter(labels[index] for index in parts[part])
        assert all(abs(counted[label] - share * size) <= 1 for label, share in enumerate((0.6, 0.3, 0.1)))
    assert sorted(index for part in parts.values() for index in part) == list(range(1000))


def test_a_stratified_order_differs_by_seed_and_is_the_same_for_the_same():
    labels = [index % 3 for index in range(30)]
    assert shuffled(30, 1, labels) == shuffled(30, 1, labels) != shuffled(30, 2, labels)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda root: [path.unlink() for path in (root / "cat").iterdir()], "holds no pictures"),
        (lambda root: save(root / "loose.png", random_image()), "belong to no class"),
        (lambda root: make_classes(root / "train"), "side by side"),
        (lambda root: (root / "classes.txt").write_text("cat\ndog2\n"), "dog10"),
        (lambda root: (root / "classes.txt").write_text("cat\ncat\ndog2\ndog10"), "twice"),
    ],
    ids=["an empty class", "a loose picture", "parts and classes", "a class unnamed", "a class named twice"],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path: Path, spoil, says: str):
    spoil(make_classes(tmp_path))
    assert says in refusal(lambda: open_classification(str(tmp_path)), DataError)


def test_a_class_that_train_has_not_is_refused(tmp_path: Path):
    make_classes(tmp_path / "train")
    make_classes(tmp_path / "val", {"cat": 2, "wolf": 2})
    assert "wolf" in refusal(lambda: open_classification(str(tmp_path)), DataError)


@pytest.mark.parametrize("names", [[], ["only"]])
def test_fewer_than_two_classes_are_refused(tmp_path: Path, names: list[str]):
    make_classes(tmp_path, dict.fromkeys(names, 3))
    assert "class" in refusal(lambda: open_classification(str(tmp_path)), DataError)


def test_class_folders_are_told_from_other_folders(tmp_path: Path):
    assert is_in_class_folders(make_classes(tmp_path / "classes"))
    assert is_in_class_folders(make_classes(tmp_path / "parts" / "train").parent)
    save(tmp_path / "flat" / "one.png", random_image())
    assert not is_in_class_folders(tmp_path / "flat")


def arrays(path: Path, **changes: object) -> Path:
    content = {
        "images": np.zeros((12, 5, 7, 3), np.uint8),
        "labels": np.arange(12) % 3,
        "classes": np.array(["a", "b", "c"]),
    }
    content.update(changes)
    np.savez_compressed(path, **{name: one for name, one in content.items() if one is not None})
    return path


def test_arrays_are_opened_with_and_without_names_of_classes(tmp_path: Path):
    assert open_classification(str(arrays(tmp_path / "a.npz"))).classes == ("a", "b", "c")
    assert open_classification(str(arrays(tmp_path / "b.npz", classes=None))).classes == (
        "class_0",
        "class_1",
        "class_2",
    )


def test_grey_arrays_become_rgb(tmp_path: Path):
    grey = np.arange(12 * 35, dtype=np.uint8).reshape(12, 5, 7)
    image = open_classification(str(arrays(tmp_path / "grey.npz", images=grey))).train[0]["image"]
    assert image.shape == (3, 5, 7)
    assert image[0].equal(image[2])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": np.zeros((12, 5, 7, 4), np.uint8)}, "shape (12, 5, 7, 4)"),
        ({"images": np.zeros((12, 5, 7, 3))}, "float64"),
        ({"labels": np.arange(11) % 3}, "shape (11,)"),
        ({"labels": np.arange(12) / 2}, "float64"),
        ({"labels": np.arange(12)}, "label 11"),
        ({"labels": np.arange(12) - 1}, "label -1"),
        ({"labels": None}, "no array 'labels'"),
        ({"labels": np.arange(12) * 1000, "classes": None}, "up to 11000"),
        ({"labels": np.zeros(12, int), "classes": None}, "one class"),
        ({"images": np.zeros((0, 5, 7, 3), np.uint8), "labels": np.zeros(0, int)}, "no samples"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changes: dict[str, object], says: str):
    path = arrays(tmp_path / "spoilt.npz", **changes)
    assert says in refusal(lambda: open_classification(str(path)), DataError)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">2x2B{values.ndim}I", 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()


def make_idx(folder: Path) -> Path:
    folder.mkdir()
    for part, count in (("train", 20), ("t10k", 10)):
        images, labels = np.full((count, 28, 28), 7, np.uint8), np.arange(count, dtype=np.uint8) % 10
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return folder


def test_mnist_is_read_from_its_published_files(tmp_path: Path):
    splits = open_classification("mnist", roots={"mnist": make_idx(tmp_path / "mnist")})
    assert splits.sizes() == {"train": 18, "val": 2, "test": 10}
    assert splits.test[3]["label"] == 3
    assert splits.classes == tuple("0123456789")


def test_mnist_is_read_from_arrays(tmp_path: Path):
    content = {"x_train": np.zeros((20, 28, 28), np.uint8), "y_train": np.arange(20) % 10}
    content |= {"x_test": np.zeros((10, 28, 28), np.uint8), "y_test": np.arange(10)}
    np.savez(tmp_path / "mnist.npz", **content)
    assert open_classification(str(tmp_path)).name == "mnist"  # recognised by its file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08\x01\0\0\0\x05abc",
        b"\0\0\x0d\x01\0\0\0\x01abcd",
        gzip.compress(b"xx", mtime=0)[:-3],
    ],
    ids=["empty", "too short", "of other values", "cut off"],
)
def test_a_damaged_idx_file_is_named(tmp_path: Path, content: bytes):
    path = tmp_path / ("labels.gz" if content[:1] == b"\x1f" else "labels")
    path.write_bytes(content)
    assert str(path) in refusal(lambda: read_idx(path), DataError)


def make_cifar_batches(folder: Path) -> Path:
    folder.mkdir()
    records = np.random.default_rng(0).integers(0, 256, (10, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(10)
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def test_cifar10_is_read_from_its_binary_version(tmp_path: Path):
    folder = make_cifar_batches(tmp_path / "cifar-10-batches-bin")
    splits = open_classification("cifar10", roots={"cifar10": tmp_path})
    assert splits.sizes() == {"train": 45, "val": 5, "test": 10}
    record = np.frombuffer((folder / "test_batch.bin").read_bytes(), np.uint8)[3073 : 2 * 3073]
    sample = splits.test[1]
    assert sample["label"] == record[0]
    assert np.array_equal(sample["image"].numpy().ravel(), record[1:])


def test_cifar10_is_read_from_the_authors_archive(tmp_path: Path):
    folder = make_cifar_batches(tmp_path / "cifar-10-batches-bin")
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as archive:
        archive.add(folder, "cifar-10-batches-bin")
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert open_classification(str(tmp_path)).sizes() == {"train": 45, "val": 5, "test": 10}


def test_cifar10_is_read_from_archives_of_pictures(tmp_path: Path):
    for part in ("train", "test"):
        with tarfile.open(tmp_path / f"cifar10_{part}_jpg.tar.xz", "w:xz") as archive:
            for name in CIFAR_CLASSES * 2:
                content = encoded(Image.fromarray(random_image(height=32, width=32)))
                member = tarfile.TarInfo(f"{name}/0001.png")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    splits = open_classification("cifar10", roots={"cifar10": tmp_path})
    assert splits.sizes() == {"train": 18, "val": 2, "test": 20}
    assert splits.classes == CIFAR_CLASSES


def test_damaged_cifar10_is_refused(tmp_path: Path):
    folder = make_cifar_batches(tmp_path / "bin")
    (folder / "test_batch.bin").write_bytes(b"short")
    assert "truncated" in refusal(lambda: open_classification("cifar10", roots={"cifar10": folder}), DataError)
    (tmp_path / "broken").mkdir()
    for part in ("train", "test"):
        (tmp_path / "broken" / f"cifar10_{part}.tar.xz").write_bytes(b"no archive")
    roots = {"cifar10": tmp_path / "broken"}
    assert "damaged" in refusal(lambda: open_classification("cifar10", roots=roots), DataError)
    assert "no CIFAR-10" in refusal(lambda: open_classification("cifar10", roots={"cifar10": tmp_path}), DataError)


def test_digits_are_there_on_every_machine():
    splits = open_classification("digits")
    assert splits.embedded
    assert splits.sizes() == {"train": 1212, "val": 135, "test": 450}
    assert splits.train[0]["image"].max() == 255


def test_half_of_the_digit_pairs_are_of_one_class_and_test_digits_are_in_no_other_part():
    splits = open_digit_pairs(train=400, val=50, test=100)
    assert sum(splits.train.labels) == 200
    halves = {
        part: {
            dataset[index]["image"][0, :, columns].numpy().tobytes()
            for index in range(len(dataset))
            for columns in (slice(8), slice(8, 16))
        }
        for part, dataset in (("train", splits.train), ("test", splits.test))
    }
    digits = open_classification("digits")
    of_test = {digits.test[index]["image"][0].numpy().tobytes() for index in range(len(digits.test))}
    assert halves["test"] <= of_test
    assert len(halves["train"] & of_test) <= 2  # two digits of the set may be drawn alike
    assert all(splits.train.labels[index] == open_digit_pairs(train=400).train.labels[index] for index in range(400))


def test_a_set_of_another_task_is_refused_with_those_that_fit():
    message = refusal(lambda: open_classification("streets"), DataError)
    assert "segmentation" in message
    assert "digits" in message


def test_an_absent_set_says_how_to_get_it():
    for name in ("mnist", "cifar10"):
        assert named_sets()[name].url
        assert f"encore data get {name}" in refusal(lambda name=name: open_classification(name), DataError)


def test_erasing_blanks_a_rectangle_with_black_or_with_noise():
    torch.manual_seed(0)
    images = torch.full((8, 3, 16, 20), 2.0)
    for fill in ("black", "noise"):
        augmentation = ClassificationAugmentation(
            crop="none", horizontal_flip=0, random_erasing=1, random_erasing_fill=fill
        )
        changed = augmentation.of_batches((16, 20))(images)
        assert changed.shape == images.shape
        for before, after in zip(images, changed, strict=True):
            erased = (after != before).any(0)
            rows, columns = erased.any(1).nonzero()[:, 0], erased.any(0).nonzero()[:, 0]
            assert erased[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
            assert 0 < erased.sum() == len(rows) * len(columns) < erased.numel()
            values = after[:, erased]
            assert len(values.unique()) == (1 if fill == "black" else values.numel())
