"""Applying a model to files: what is written, how it is named, and what stops it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from encore.base.errors import DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.images import read_image
from encore.data.streets import Streets
from encore.nn.creation import create_model
from encore.nn.model import EncoreModel, Preprocessing
from encore.tasks.inputs import input_files, unique_stems
from encore.tasks.segmentation import TASK
from encore.tasks.segmentation.module import logits_at, predicted_mask
from encore.tasks.segmentation.prediction import SUFFIXES, predict_files, shares


class Brightness(EncoreModel):
    """Class 1 where red is above the middle, else class 0."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = torch.nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.middle - x[:, 0], x[:, 0] - self.middle, x[:, 0] - 9], dim=1)


@pytest.fixture
def model() -> EncoreModel:
    model = Brightness().eval()
    model.classes = ("dark", "bright", "never")
    return model


def save(path: Path, height: int = 10, width: int = 14, bright: int = 4) -> Path:
    """A black picture whose left `bright` columns are white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((height, width, 3), np.uint8)
    values[:, :bright] = 255
    Image.fromarray(values).save(path)
    return path


def rows_in(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_index_pngs_hold_the_predicted_classes_at_the_pictures_own_sizes(model: EncoreModel, tmp_path: Path):
    files = [save(tmp_path / "in" / "a.png"), save(tmp_path / "in" / "b.png", 31, 7, bright=2)]
    predict_files(model, files, tmp_path / "out", SilentProgress())
    for file in files:
        with Image.open(tmp_path / "out" / file.name) as mask:
            assert np.array_equal(np.asarray(mask), (read_image(file)[0] > 127).numpy())


def test_the_classes_are_those_of_a_real_model_that_sees_pictures_at_its_own_size(tmp_path: Path):
    torch.manual_seed(0)
    model = create_model("segnet_basic", num_classes=11, width=8, kernel_size=3, depth=2).eval()
    streets = Streets(1, height=40, width=64)
    model.classes = streets.classes
    model.preprocessing = Preprocessing(channel_order="BGR", scale=255.0, size=(32, 48))
    image = streets[0]["image"]
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / "street.png")
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    TASK.predict(model, [tmp_path / "street.png"], tmp_path / "out", Runtime(device="cpu"), SilentProgress())
    assert set(seen) == {(1, 3, 32, 48)}
    with Image.open(tmp_path / "out" / "street.png") as mask:
        assert np.array_equal(np.asarray(mask), predicted_mask(model, image).numpy())
        assert mask.size == (64, 40)
    with torch.no_grad():
        assert logits_at(model, image[None], (40, 64)).shape == (1, 11, 40, 64)


def test_an_overlay_is_the_picture_with_a_legend_below(model: EncoreModel, tmp_path: Path):
    predict_files(model, [save(tmp_path / "a.png", 200, 300)], tmp_path / "out", SilentProgress())
    with Image.open(tmp_path / "out" / "a_overlay.png") as picture:
        assert picture.width == 300
        assert picture.height > 200
        legend = np.asarray(picture)[200:].reshape(-1, 3)
        assert len(np.unique(legend, axis=0)) > 2


def test_every_row_names_its_files_its_size_and_the_share_of_each_class(model: EncoreModel, tmp_path: Path):
    file = save(tmp_path / "straße.png", 10, 14, bright=7)
    rows = predict_files(model, [file], tmp_path / "out", SilentProgress())
    assert rows == [
        {
            "input": str(file),
            "mask": "straße.png",
            "overlay": "straße_overlay.png",
            "height": 10,
            "width": 14,
            "classes": {"dark": 0.5, "bright": 0.5},
        }
    ]
    assert rows_in(tmp_path / "out") == rows
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "straße.png",
        "straße_overlay.png",
        "predictions.jsonl",
    }


def test_shares_of_classes_sum_to_one():
    mask = torch.tensor([[0, 0, 1], [3, 3, 3]], dtype=torch.uint8)
    assert shares(mask, [0, 1, 3]) == pytest.approx({0: 2 / 6, 1: 1 / 6, 3: 3 / 6}, abs=1e-6)


def test_folders_mean_their_pictures_in_natural_order(model: EncoreModel, tmp_path: Path):
    for name in ("10.png", "2.png", "notes.txt"):
        path = tmp_path / "photos" / name
        save(path) if path.suffix == ".png" else path.write_text("x")
    single = save(tmp_path / "single.png")
    rows = predict_files(model, [tmp_path / "photos", single], tmp_path / "out", SilentProgress())
    assert [row["mask"] for row in rows] == ["2.png", "10.png", "single.png"]


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["x/a.png", "y/a.png", "a.jpg"], ["a", "a_2", "a_3"]),
        (["x/a.png", "y/a.png", "a_2.png"], ["a", "a_2", "a_2_2"]),
        (["a_2.png", "x/a.png", "y/a.png"], ["a_2", "a", "a_3"]),
        (["a.png", "a_overlay.png"], ["a", "a_overlay_2"]),
        (["a_overlay.png", "a.png"], ["a_overlay", "a_2"]),
        (["a.png", "A.png"], ["a", "A_2"]),
    ],
)
def test_results_that_would_have_one_name_are_numbered(names: list[str], stems: list[str]):
    assert unique_stems([Path(name) for name in names], SUFFIXES) == stems


def test_pictures_of_one_name_leave_a_mask_each(model: EncoreModel, tmp_path: Path):
    files = [save(tmp_path / "x" / "a.png", width=14), save(tmp_path / "y" / "a.png", width=20)]
    rows = predict_files(model, [*files, save(tmp_path / "a_overlay.png", width=9)], tmp_path / "out", SilentProgress())
    masks = [Image.open(tmp_path / "out" / str(row["mask"])) for row in rows]
    assert [mask.width for mask in masks] == [14, 20, 9]
    assert all(mask.mode == "L" for mask in masks)


@pytest.mark.parametrize("cut", [0, 60])
def test_one_damaged_picture_among_several_is_named_and_nothing_is_written(
    model: EncoreModel, tmp_path: Path, cut: int
):
    files = [save(tmp_path / f"{name}.png", 60, 60) for name in "abc"]
    files[1].write_bytes(files[1].read_bytes()[:cut])
    with pytest.raises(DataError, match=r"b\.png"):
        TASK.predict(model, files, tmp_path / "out", Runtime(device="cpu"), SilentProgress())
    with pytest.raises(DataError, match=r"b\.png"):
        predict_files(model, files, tmp_path / "out", SilentProgress())
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_not_there_are_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty holds no pictures"):
        input_files([tmp_path / "empty"])
    with pytest.raises(DataError, match=r"gone\.png does not exist"):
        input_files([save(tmp_path / "a.png"), tmp_path / "gone.png"])
