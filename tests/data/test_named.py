"""One door for all segmentation data: names, folders, arrays, parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encore.base.errors import DataError, UnknownNameError
from encore.data.named import find_set_path, named_sets, open_segmentation, open_segmentation_part

from .conftest import make_folder, random_mask, refusal


def test_sets_are_found_by_looking():
    assert {"camvid", "streets"} <= set(named_sets())
    for name, one in named_sets().items():
        assert one.name == name
        assert one.title
        assert one.licence
        assert one.embedded or one.url


def test_an_unknown_name_suggests_the_nearest():
    assert "did you mean 'camvid'" in refusal(lambda: open_segmentation("camvidd"), UnknownNameError)


def test_an_absent_set_says_how_to_get_it():
    message = refusal(lambda: open_segmentation("camvid"), DataError)
    assert "encore data get camvid" in message
    assert "--data camvid=PATH" in message


def test_sets_are_found_below_encore_data_and_where_data_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert find_set_path("camvid", {}) is None
    (tmp_path / "all" / "camvid").mkdir(parents=True)
    monkeypatch.setenv("ENCORE_DATA", str(tmp_path / "all"))
    assert find_set_path("camvid", {}) == tmp_path / "all" / "camvid"
    assert find_set_path("camvid", {"camvid": tmp_path}) == tmp_path


def test_a_folder_without_parts_is_cut_and_the_cut_recorded(tmp_path: Path):
    splits = open_segmentation(str(make_folder(tmp_path, count=10)))
    assert splits.sizes() == {"train": 8, "val": 1, "test": 1}
    assert "seeded split 80/10/10, seed 0" in splits.origin
    names = [part[i]["name"] for part in (splits.train, splits.val, splits.test) for i in range(len(part))]
    assert len(set(names)) == 10


def test_a_folder_s_own_parts_are_taken_as_they_are(tmp_path: Path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        make_folder(tmp_path / part, count=count)
    splits = open_segmentation(str(tmp_path), image_size=(6, 8))
    assert splits.sizes() == {"train": 4, "val": 2, "test": 3}
    assert splits.origin == "given"
    assert tuple(splits.test[0]["image"].shape) == (3, 6, 8)
    assert len(open_segmentation_part(str(tmp_path))) == 3


def test_a_name_wins_over_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    make_folder(Path("camvid"), count=5)
    with pytest.raises(DataError, match="is not here"):
        open_segmentation("camvid")
    assert open_segmentation("./camvid").sizes()["train"] == 3


def test_arrays_are_opened_and_cut(tmp_path: Path):
    masks = np.stack([random_mask(seed) for seed in range(6)])
    np.savez(tmp_path / "a.npz", images=np.zeros((6, 12, 16, 3), np.uint8), masks=masks)
    splits = open_segmentation(str(tmp_path / "a.npz"))
    assert splits.sizes() == {"train": 4, "val": 1, "test": 1}
    assert len(open_segmentation_part(str(tmp_path / "a.npz"))) == 6


def test_what_is_measured_is_all_test_or_val_but_never_train(tmp_path: Path):
    make_folder(tmp_path / "flat", count=4)
    assert len(open_segmentation_part(str(tmp_path / "flat"))) == 4
    make_folder(tmp_path / "parts" / "train", count=4)
    assert "train/ alone" in refusal(lambda: open_segmentation_part(str(tmp_path / "parts")), DataError)
    make_folder(tmp_path / "parts" / "val", count=2)
    assert len(open_segmentation_part(str(tmp_path / "parts"))) == 2


@pytest.mark.parametrize("source", ["./nothing", "nothing.npz", "", "a/b/c"])
def test_what_does_not_exist_is_named(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    refusal(lambda: open_segmentation(source), DataError)


def test_a_file_that_is_no_data_is_named(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("x")
    assert "no folder and no .npz" in refusal(lambda: open_segmentation(str(tmp_path / "notes.txt")), DataError)
