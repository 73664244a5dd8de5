"""Cuts can be repeated, share no sample and leave no part empty."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encore.base.errors import ConfigurationError, DataError
from encore.data.contracts import names_of
from encore.data.segmentation_folder import open_folder
from encore.data.splits import PARTS, Subset, complete_parts, cut_whole, seeded_split

from .conftest import make_folder, refusal


@given(st.integers(3, 300), st.integers(0, 2**31), st.tuples(*[st.integers(1, 50)] * 3))
def test_a_split_has_every_sample_once_and_no_empty_part(num_samples: int, seed: int, weights: tuple[int, int, int]):
    fractions = [weight / sum(weights) for weight in weights]
    split = seeded_split(num_samples, fractions, seed)
    assert list(split) == list(PARTS)
    assert all(split.values())
    assert all(indices == sorted(indices) for indices in split.values())
    assert sorted(index for indices in split.values() for index in indices) == list(range(num_samples))


def test_a_split_is_the_same_each_time_and_differs_between_seeds():
    assert seeded_split(50, seed=3) == seeded_split(50, seed=3)
    assert seeded_split(50, seed=3) != seeded_split(50, seed=4)
    assert {part: len(indices) for part, indices in seeded_split(100).items()} == {"train": 80, "val": 10, "test": 10}


def test_a_split_stays_as_earlier_records_had_it():
    assert seeded_split(6, seed=0) == {"train": [0, 2, 3, 5], "val": [1], "test": [4]}


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (1.0, 0.0, 0.0), (0.8, 0.1, 0.2), (1.2, -0.1, -0.1), (float("nan"),) * 3]
)
def test_fractions_that_are_none_are_refused(fractions: tuple[float, ...]):
    assert "three positive fractions" in refusal(lambda: seeded_split(10, fractions), ConfigurationError)


@pytest.mark.parametrize("num_samples", [0, 1, 2])
def test_too_few_samples_are_refused(num_samples: int):
    assert "cannot be cut" in refusal(lambda: seeded_split(num_samples), DataError)


def test_a_subset_has_its_samples_sizes_and_classes(tmp_path: Path):
    whole = open_folder(make_folder(tmp_path))["all"]
    subset = Subset(whole, [3, 1])
    assert names_of(subset) == ["street_3", "street_1"]
    assert subset.sizes == [(12, 16)] * 2
    assert subset.classes == whole.classes
    with pytest.raises(IndexError):
        subset[2]


def test_a_whole_is_cut_and_says_how(tmp_path: Path):
    whole = open_folder(make_folder(tmp_path, count=10))["all"]
    cut = cut_whole(whole, seed=7)
    assert cut.origin == "seeded split 80/10/10, seed 7"
    assert [len(cut.train), len(cut.val), len(cut.test)] == [8, 1, 1]
    assert len({*names_of(cut.train), *names_of(cut.val), *names_of(cut.test)}) == 10


def test_a_whole_that_is_too_small_is_named(tmp_path: Path):
    whole = open_folder(make_folder(tmp_path, count=2))["all"]
    assert refusal(lambda: cut_whole(whole, 0, "DATA"), DataError).startswith("DATA: 2 samples cannot be cut")


def parts_at(folder: Path, *parts: str, count: int = 10) -> dict:
    for number, part in enumerate(parts):
        make_folder(folder / part, count=count, first_seed=100 * number)
    return open_folder(folder)


def test_three_given_parts_are_taken_as_they_are(tmp_path: Path):
    parts = parts_at(tmp_path, "train", "val", "test", count=2)
    cut = complete_parts(parts, 0, "DATA")
    assert (cut.train, cut.val, cut.test, cut.origin) == (parts["train"], parts["val"], parts["test"], "given")


def test_without_val_a_tenth_of_train_becomes_it(tmp_path: Path):
    parts = parts_at(tmp_path, "train", "test", count=20)
    cut = complete_parts(parts, 0, "DATA")
    assert cut.test is parts["test"]
    assert len(cut.train), len(cut.val) == (18, 2)
    assert not set(names_of(cut.train)) & set(names_of(cut.val))
    assert "val is a seeded tenth of train (2 samples), seed 0" in cut.origin


def test_without_test_the_given_val_is_measured_and_never_chosen_by(tmp_path: Path):
    parts = parts_at(tmp_path, "train", "val")
    cut = complete_parts(parts, 0, "DATA")
    assert cut.test is parts["val"]
    assert cut.val is not parts["val"]
    assert "the given val serves as test" in cut.origin


def test_train_alone_is_cut(tmp_path: Path):
    cut = complete_parts(parts_at(tmp_path, "train"), 0, "DATA")
    assert cut.origin == "only train given: seeded split 80/10/10, seed 0"
    assert [len(cut.train), len(cut.val), len(cut.test)] == [8, 1, 1]


def test_parts_that_cannot_be_completed_are_refused_by_name(tmp_path: Path):
    no_train = parts_at(tmp_path / "a", "val", "test", count=1)
    assert "DATA has val/, test/ but no train/" in refusal(lambda: complete_parts(no_train, 0, "DATA"), DataError)
    one = parts_at(tmp_path / "b", "train", "test", count=1)
    assert "DATA: train/ has 1 sample" in refusal(lambda: complete_parts(one, 0, "DATA"), DataError)
    two = parts_at(tmp_path / "c", "train", count=2)
    assert "DATA: train/: 2 samples cannot be cut" in refusal(lambda: complete_parts(two, 0, "DATA"), DataError)
