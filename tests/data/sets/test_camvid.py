"""CamVid in its forms."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.data.named import named_set, open_segmentation, open_segmentation_part

from ..conftest import encoded, random_image, refusal

SHARED = Path(__file__).parents[3].parent / "shared" / "data" / "camvid"
COUNTS = {"train": 4, "val": 2, "test": 3}


def files(image_place: str, mask_place: str) -> dict[str, bytes]:
    """A tiny CamVid whose masks hold every class and void (11)."""
    made = {}
    for part, count in COUNTS.items():
        for index in range(count):
            name = f"0001TP_{len(made):06d}"
            mask = np.resize(np.arange(12, dtype=np.uint8), (12, 16))
            made[image_place.format(part) + f"/{name}.png"] = encoded(Image.fromarray(random_image(index)))
            made[mask_place.format(part) + f"/{name}.png"] = encoded(Image.fromarray(mask))
    return made


@pytest.fixture(params=["public", "public in its repository", "by part", "zip in a folder", "zip"])
def camvid(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    public = request.param.startswith("public")
    made = files("{}", "{}annot") if public else files("{}/images", "{}/labels")
    if "zip" in request.param:
        with zipfile.ZipFile(tmp_path / "camvid_tiny.zip", "w") as archive:
            for name, content in made.items():
                archive.writestr(name, content)
        return tmp_path / "camvid_tiny.zip" if request.param == "zip" else tmp_path
    root = tmp_path / "CamVid" if "repository" in request.param else tmp_path
    for name, content in made.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return tmp_path


def test_every_form_gives_the_given_parts_with_11_as_void(camvid: Path):
    splits = open_segmentation("camvid", roots={"camvid": camvid})
    assert splits.sizes() == COUNTS
    assert splits.origin == "given"
    assert len(splits.classes) == 11
    sample = splits.train[0]
    assert sorted(sample["mask"].unique().tolist()) == [*range(11), VOID]
    assert torch.equal(sample["image"], torch.from_numpy(random_image(0)).permute(2, 0, 1))


def test_every_form_is_recognised_by_its_path_alone(camvid: Path):
    assert named_set("camvid").recognises(camvid)
    assert open_segmentation(str(camvid)).name == "camvid"
    assert len(open_segmentation_part(str(camvid))) == COUNTS["test"]


def test_samples_come_out_of_workers(camvid: Path):
    part = open_segmentation_part(str(camvid))
    names = [name for batch in DataLoader(part, batch_size=2, num_workers=2) for name in batch["name"]]
    assert names == [part[index]["name"] for index in range(len(part))]


def test_a_missing_part_and_a_missing_mask_are_named(tmp_path: Path):
    made = files("{}", "{}annot")
    for name, content in made.items():
        if not name.startswith("val/"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
    open_it = lambda: open_segmentation("camvid", roots={"camvid": tmp_path})  # noqa: E731
    assert "no pictures in val/" in refusal(open_it, DataError)
    (tmp_path / "val").mkdir()
    for name in [name for name in made if name.startswith("val/")][:1]:
        (tmp_path / name).write_bytes(made[name])
    assert "no image" in refusal(open_it, DataError)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the development data sets beside the checkout")
def test_the_development_set_has_its_published_sizes():
    splits = open_segmentation("camvid", roots={"camvid": SHARED})
    assert splits.sizes() == {"train": 367, "val": 101, "test": 233}
    assert tuple(splits.train[0]["image"].shape) == (3, 180, 240)
    assert "CC BY-NC" in splits.source
