"""One door for all segmentation data: names, folders, arrays, and what is said where there is none."""

from pathlib import Path

import numpy as np
import pytest

from encore.base.errors import DataError, UnknownNameError
from encore.data.named import (
    find_set_path,
    named_set,
    named_sets,
    open_segmentation,
    open_segmentation_part,
    open_set,
)
from encore.data.sets import streets

from .conftest import make_folder, random_image, random_mask, refusal
from .sets.test_camvid import COUNTS, make_by_part, make_public


@pytest.fixture(autouse=True)
def _in_an_empty_directory(clean_directory: Path) -> None:
    """Relative names mean nothing that lies around."""


@pytest.fixture
def few_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"image_size": (16, 24), "train": 3, "val": 2, "test": 1}
    monkeypatch.setattr(streets.open_streets, "__kwdefaults__", few)
    monkeypatch.setattr(streets, "SIZE", (16, 24))


def save_arrays(path: Path, count: int = 10) -> Path:
    images = np.stack([random_image(seed) for seed in range(count)])
    np.savez(path, images=images, masks=np.stack([random_mask(seed) for seed in range(count)]))
    return path


def test_sets_are_found_by_name_in_order():
    assert list(named_sets()) == sorted(named_sets())
    assert {"camvid", "streets"} <= set(named_sets())
    for name, one in named_sets().items():
        assert one.name == name
        assert one.title
        assert one.licence
        assert one.url is None or not one.embedded


def test_an_unknown_name_is_refused_with_the_nearest():
    for action in (named_set, open_segmentation, open_segmentation_part):
        message = refusal(lambda action=action: action("camvit"), UnknownNameError)
        assert "did you mean 'camvid'?" in message


def test_an_absent_set_is_refused_with_both_ways_to_have_it():
    for action in (open_segmentation, open_segmentation_part):
        message = refusal(lambda action=action: action("camvid"), DataError)
        assert "the data set 'camvid' is not here" in message
        assert "encore data get camvid" in message
        assert "--data camvid=PATH or ENCORE_DATA" in message


def test_a_root_that_does_not_exist_is_named(tmp_path: Path):
    roots = {"camvid": tmp_path / "gone"}
    for action in (open_segmentation, open_segmentation_part):
        assert "gone does not exist" in refusal(lambda action=action: action("camvid", roots=roots), DataError)


def test_a_set_is_found_below_encore_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert find_set_path("camvid", {}) is None
    monkeypatch.setenv("ENCORE_DATA", str(tmp_path))
    assert find_set_path("camvid", {}) is None
    make_public(tmp_path / "camvid")
    assert find_set_path("camvid", {}) == tmp_path / "camvid"
    assert open_segmentation("camvid").sizes() == COUNTS
    assert len(open_segmentation_part("camvid")) == COUNTS["test"]


def test_a_given_root_wins_over_encore_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENCORE_DATA", str(tmp_path))
    (tmp_path / "camvid").mkdir()
    roots = {"camvid": make_by_part(tmp_path / "other")}
    assert find_set_path("camvid", roots) == tmp_path / "other"
    assert open_segmentation("camvid", roots=roots).sizes() == COUNTS


def test_home_is_understood_in_roots_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_public(tmp_path / "sets" / "camvid")
    assert find_set_path("camvid", {"camvid": Path("~/sets/camvid")}) == tmp_path / "sets" / "camvid"
    assert open_segmentation("~/sets/camvid").sizes() == COUNTS
    monkeypatch.setenv("ENCORE_DATA", "~/sets")
    assert find_set_path("camvid", {}) == tmp_path / "sets" / "camvid"


def test_a_folder_that_holds_a_set_is_recognised(tmp_path: Path):
    splits = open_segmentation(str(make_public(tmp_path / "somewhere")))
    assert splits.name == "camvid"
    assert splits.origin == "given"


def test_a_name_wins_over_a_folder_of_that_name(few_streets: None):
    make_folder(Path("streets"), count=5)
    assert open_segmentation("streets").name == "streets"
    assert open_segmentation("streets").embedded
    assert not open_segmentation("./streets").embedded
    assert len(open_segmentation_part("streets")) == 1
    assert len(open_segmentation_part("./streets")) == 5


def test_a_flat_folder_is_cut_and_says_so(tmp_path: Path):
    folder = make_folder(tmp_path / "roads", count=10)
    splits = open_segmentation(str(folder), seed=4)
    assert splits.sizes() == {"train": 8, "val": 1, "test": 1}
    assert splits.origin == "seeded split 80/10/10, seed 4"
    assert splits.name == str(folder)
    assert splits.source == "a folder of pictures and masks"
    assert not splits.embedded


def test_a_parted_folder_is_taken_as_given(tmp_path: Path):
    for part in ("train", "val", "test"):
        make_folder(tmp_path / part, count=2)
    assert open_segmentation(str(tmp_path)).origin == "given"


def test_arrays_are_cut_and_resized():
    splits = open_segmentation(str(save_arrays(Path("roads.NPZ.npz"))), image_size=(6, 8))
    assert splits.sizes() == {"train": 8, "val": 1, "test": 1}
    assert splits.source == "arrays in an .npz; resized to 6 × 8"
    assert splits.train[0]["image"].shape == (3, 6, 8)
    Path("roads.NPZ.npz").rename("capitals.NPZ")
    assert len(open_segmentation("capitals.NPZ").train) == 8


def test_too_few_samples_are_named(tmp_path: Path):
    folder = make_folder(tmp_path / "roads", count=2)
    assert f"{folder}: 2 samples cannot be cut" in refusal(lambda: open_segmentation(str(folder)), DataError)


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_name_is_refused(source: str):
    assert "the name of the data is empty" in refusal(lambda: open_segmentation(source), DataError)


@pytest.mark.parametrize("source", ["./gone", "gone.npz", "~nobody-of-that-name/data", "a/" + "b" * 5000, "a\0/b"])
def test_what_does_not_exist_is_named(source: str):
    for action in (open_segmentation, open_segmentation_part):
        refusal(lambda action=action: action(source), DataError)


def test_a_file_of_another_kind_is_named(tmp_path: Path):
    (tmp_path / "data.tar").write_bytes(b"x")
    message = refusal(lambda: open_segmentation(str(tmp_path / "data.tar")), DataError)
    assert "data.tar is no folder and no .npz" in message


def test_what_is_measured_is_the_test_part(tmp_path: Path):
    for number, part in enumerate(("train", "val", "test")):
        make_folder(tmp_path / part, count=2 + number)
    assert len(open_segmentation_part(str(tmp_path))) == 4


def test_without_test_the_val_part_is_measured(tmp_path: Path):
    for number, part in enumerate(("train", "val")):
        make_folder(tmp_path / part, count=2 + number)
    assert len(open_segmentation_part(str(tmp_path))) == 3


def test_train_alone_is_not_measured(tmp_path: Path):
    make_folder(tmp_path / "train")
    message = refusal(lambda: open_segmentation_part(str(tmp_path)), DataError)
    assert f"{tmp_path} has train/ alone, which a model may have learnt from" in message


def test_a_source_without_parts_is_measured_whole_at_its_own_size(tmp_path: Path):
    folder = make_folder(tmp_path / "roads", count=2)
    assert len(open_segmentation_part(str(folder))) == 2
    arrays = open_segmentation_part(str(save_arrays(tmp_path / "roads.npz", count=1)))
    assert arrays[0]["mask"].shape == (12, 16)


def test_the_number_of_classes_may_be_given(tmp_path: Path):
    folder = make_folder(tmp_path / "roads", count=2)
    assert len(open_segmentation_part(str(folder), num_classes=7).classes) == 7
    assert len(open_segmentation_part(str(save_arrays(tmp_path / "a.npz")), num_classes=7).classes) == 7
    (folder / "classes.txt").write_text("a\nb\nc\nd\n")
    assert open_segmentation_part(str(folder), num_classes=7).classes == ("a", "b", "c", "d")


def test_an_embedded_set_ignores_roots(tmp_path: Path, few_streets: None):
    roots = {"streets": tmp_path / "gone"}
    assert open_set("streets", image_size=None, seed=0, roots=roots).sizes() == {"train": 3, "val": 2, "test": 1}
    assert len(open_segmentation_part("streets", roots=roots)) == 1
