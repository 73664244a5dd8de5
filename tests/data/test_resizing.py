"""Pictures are averaged, masks are picked, and what fits is read once."""

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encore.base.errors import ConfigurationError
from encore.data import resizing
from encore.data.contracts import DataSplits, SegmentationSample
from encore.data.resizing import (
    Kept,
    Resized,
    decoded_bytes,
    fit_sizes,
    most_common_size,
    resize_image,
    resize_mask,
    sizes_of,
)
from encore.data.segmentation_folder import open_folder

from .conftest import make_folder, random_image, random_mask, refusal

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))


class Plain:
    """Samples of given sizes, which counts what is read."""

    classes = ("a", "b", "c")

    def __init__(self, *sizes: tuple[int, int]) -> None:
        self.shapes, self.reads = sizes, 0

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, index: int) -> SegmentationSample:
        self.reads += 1
        height, width = self.shapes[index]
        image = torch.from_numpy(random_image(index, height, width)).permute(2, 0, 1)
        return {"image": image, "mask": torch.full((height, width), index % 3, dtype=torch.uint8), "name": str(index)}


@settings(deadline=None)
@given(sizes, sizes)
def test_each_pixel_of_a_mask_takes_the_class_under_its_centre(old: tuple[int, int], new: tuple[int, int]):
    mask = np.random.default_rng(0).choice([0, 7, 255], old).astype(np.uint8)
    rows = [min(math.floor((row + 0.5) * old[0] / new[0]), old[0] - 1) for row in range(new[0])]
    columns = [min(math.floor((column + 0.5) * old[1] / new[1]), old[1] - 1) for column in range(new[1])]
    resized = resize_mask(torch.from_numpy(mask), new)
    assert resized.dtype == torch.uint8
    assert resized.shape == new
    centred = [
        [abs((place + 0.5) * o / n % 1) > 1e-3 for place in range(n)] for o, n in zip(old, new, strict=True)
    ]  # a centre on the border between two pixels may fall to either
    sure = np.outer(*centred)
    assert np.array_equal(resized.numpy()[sure], mask[np.ix_(rows, columns)][sure])
    assert set(np.unique(resized)) <= set(np.unique(mask))


def triangle_weights(old: int, new: int) -> np.ndarray:
    """(new, old): how much each old pixel gives to each new one, as bilinear antialiasing is defined."""
    scale = max(old / new, 1.0)
    centres = (np.arange(new) + 0.5) * old / new
    distance = np.abs(np.arange(old) + 0.5 - centres[:, None]) / scale
    weights = np.maximum(1 - distance, 0)
    return weights / weights.sum(axis=1, keepdims=True)


@settings(deadline=None)
@given(sizes, sizes.filter(lambda size: size[1] > 1))  # PyTorch 2.13 repeats rows when it enlarges to a width of 1
def test_pictures_are_averaged_as_antialiasing_is_defined(old: tuple[int, int], new: tuple[int, int]):
    picture = random_image(1, *old).astype(np.float64)
    due = np.einsum("yh,xw,hwc->cyx", triangle_weights(old[0], new[0]), triangle_weights(old[1], new[1]), picture)
    resized = resize_image(torch.from_numpy(picture.astype(np.uint8)).permute(2, 0, 1), new)
    assert resized.dtype == torch.uint8
    assert np.abs(resized.numpy() - due).max() <= 0.5 + 1e-3


def test_the_same_size_leaves_everything_as_it_is():
    image, mask = torch.zeros(3, 5, 6, dtype=torch.uint8), torch.zeros(5, 6, dtype=torch.uint8)
    assert resize_image(image, (5, 6)) is image
    assert resize_mask(mask, (5, 6)) is mask


def test_resized_samples_have_one_size():
    resized = Resized(Plain((4, 6), (8, 3)), (5, 7))
    assert resized.sizes == [(5, 7)] * 2
    assert resized.classes == Plain.classes
    for sample in (resized[0], resized[1]):
        assert sample["image"].shape == (3, 5, 7)
        assert sample["mask"].shape == (5, 7)
    assert resized[1]["name"] == "1"


@pytest.mark.parametrize("size", [(0, 4), (4, -1)])
def test_a_size_of_nothing_is_refused(size: tuple[int, int]):
    assert "at least 1" in refusal(lambda: Resized(Plain((4, 6)), size), ConfigurationError)


def test_what_is_kept_is_read_once():
    plain = Plain((4, 6), (4, 6))
    kept = Kept(plain)
    first, again = kept[1], kept[1]
    assert plain.reads == 1
    assert torch.equal(first["image"], again["image"])
    first["name"] = "changed"
    assert kept[1]["name"] == "1"
    with pytest.raises(IndexError):
        kept[2]


def test_what_is_kept_does_not_travel_to_other_processes():
    kept = Kept(Plain((4, 6)))
    kept[0]
    there = pickle.loads(pickle.dumps(kept))
    assert there._kept == {}
    assert torch.equal(there[0]["image"], kept[0]["image"])


def test_sizes_are_asked_for_or_looked_at():
    assert sizes_of(Plain((4, 6), (8, 3))) == [(4, 6), (8, 3)]
    assert sizes_of(Resized(Plain((4, 6), (8, 3)), (2, 2))) == [(2, 2), (2, 2)]
    assert decoded_bytes(Plain((4, 6), (8, 3))) == 4 * (24 + 24)


def test_the_most_common_size_is_that_of_most_samples_and_the_first_of_equals():
    assert most_common_size(Plain((1, 1), (2, 2), (2, 2))) == (2, 2)
    assert most_common_size(Plain((3, 3), (2, 2), (2, 2), (3, 3))) == (3, 3)


def splits_of(train: Plain, val: Plain, test: Plain) -> DataSplits:
    return DataSplits("plain", train, val, test, Plain.classes, "given", "numbers")


def test_parts_that_agree_are_left_at_their_size():
    splits = fit_sizes(splits_of(Plain((4, 6), (4, 6)), Plain((4, 6)), Plain((4, 6))), None)
    assert splits.source == "numbers"
    assert splits.test[0]["mask"].shape == (4, 6)


def test_parts_that_differ_take_the_most_common_size_of_train():
    splits = fit_sizes(splits_of(Plain((4, 6), (2, 2), (4, 6)), Plain((9, 9), (9, 9)), Plain((9, 9))), None)
    assert splits.source == "numbers; resized to 4 × 6"
    assert {sample["mask"].shape for part in (splits.train, splits.val, splits.test) for sample in iterate(part)} == {
        (4, 6)
    }


def iterate(part: object) -> list[SegmentationSample]:
    return [part[index] for index in range(len(part))]  # type: ignore[arg-type, index]


def test_a_wanted_size_is_given_to_all_and_recorded():
    splits = fit_sizes(splits_of(Plain((4, 6)), Plain((4, 6)), Plain((4, 6))), (3, 5))
    assert splits.source == "numbers; resized to 3 × 5"
    assert splits.val[0]["image"].shape == (3, 3, 5)


def test_small_sets_are_kept_and_large_ones_are_not(monkeypatch: pytest.MonkeyPatch):
    parts = splits_of(Plain((4, 6)), Plain((4, 6)), Plain((4, 6)))
    assert isinstance(fit_sizes(parts, None).train, Kept)
    monkeypatch.setattr(resizing, "KEEP_BYTES", 100)
    assert fit_sizes(parts, None).train is parts.train


def test_resizing_a_folder_invents_no_class(tmp_path: Path):
    whole = open_folder(make_folder(tmp_path, num_classes=3))["all"]
    mask = Resized(whole, (31, 5))[0]["mask"]
    assert set(mask.unique().tolist()) <= set(np.unique(random_mask(0)).tolist())
