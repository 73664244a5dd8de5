"""Models with a loss of their own, with cases, with reasons: what the task makes of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from torch import Tensor

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, DataError, DivergenceError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.classification_augmentation import ClassificationAugmentation, ElasticDeformation, gaussian_band
from encore.nn.creation import load
from encore.papers.prototypes.fit import PrototypesFit
from encore.tasks.classification import TASK, ClassificationFit
from encore.tasks.classification.cases import pruned
from encore.verbs.apply import predict
from encore.verbs.fit import fit
from tests.conftest import Answer

SHORT = {
    "training.epochs": 2,
    "training.batch_size": 50,
    "train_samples": 300,
    "augmentation.elastic_strength": 0.0,
    "model_arguments.per_class": True,
}
RUNTIME = Runtime(seed=0, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training on digits."""
    out = tmp_path_factory.mktemp("prototypes") / "run"
    fit("prototypes", "digits", settings=SHORT, out=out, runtime=RUNTIME)
    return out


def digit(folder: Path, side: int = 8) -> Path:
    path = folder / "seven.png"
    values = (255 * torch.rand(side, side, generator=torch.Generator().manual_seed(0))).byte().numpy()
    Image.fromarray(values).save(path)
    return path


# elastic deformation


def test_elastic_deformation_is_scipys():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 28, 21, generator=generator)
    field = torch.rand(3, 2, 28, 21, generator=generator) * 2 - 1
    moved = ElasticDeformation(20.0, 4.0).deformed(images, field)
    places = np.meshgrid(np.arange(28), np.arange(21), indexing="ij")
    for picture, raw, ours in zip(images.double().numpy(), field.double().numpy(), moved, strict=True):
        shifts = [20 * gaussian_filter(one, 4, mode="constant") for one in raw]
        where = [place + shift for place, shift in zip(places, shifts, strict=True)]
        for channel, result in zip(picture, ours, strict=True):
            due = map_coordinates(channel, where, order=1, mode="constant")
            assert np.abs(due - result.numpy()).max() < 1e-5


def test_every_picture_has_a_field_of_its_own_and_seeds_repeat_it():
    images = torch.rand(1, 1, 28, 28).expand(2, 1, 28, 28)
    deformation = ElasticDeformation()
    torch.manual_seed(3)
    first = deformation(images)
    torch.manual_seed(3)
    assert torch.equal(first, deformation(images))
    assert not torch.allclose(first[0], first[1])
    assert 0.01 < (first - images).abs().mean() < 0.5


def test_the_band_sums_to_one_away_from_the_border():
    band = gaussian_band(60, 4.0)
    assert torch.equal(band, band.T)
    assert band.sum(1)[20:40] == pytest.approx(torch.ones(20))
    assert band[0, 17] == 0
    assert band[0].sum() == pytest.approx(0.55, abs=0.01)


def test_deformation_is_one_step_of_a_batch_and_absent_by_default():
    assert len(ClassificationAugmentation(horizontal_flip=0).of_batches((8, 8))) == 0
    steps = ClassificationAugmentation(horizontal_flip=0, elastic_strength=5).of_batches((8, 8))
    assert [type(step) for step in steps] == [ElasticDeformation]


# a loss of its own


def module(**arguments: float) -> tuple[object, dict[str, Tensor]]:
    configuration = configure(PrototypesFit, {**SHORT, "model_arguments": arguments})
    splits = TASK.open_data("digits", configuration, RUNTIME, SilentProgress())
    model = TASK.make_model(splits, configuration, seed=0)
    samples = [splits.train[index] for index in range(30)]
    batch = {
        "image": torch.stack([sample["image"] for sample in samples]),
        "label": torch.tensor([sample["label"] for sample in samples]),
    }
    return TASK.module(model, splits, configuration), batch


def test_a_model_learns_by_its_own_loss():
    training, batch = module(reconstruction_weight=3.0)
    model = training.model
    inputs = batch["image"].float() / 255
    targets = torch.eye(10)[batch["label"]]
    due = model.own_loss(inputs, targets)
    assert torch.isclose(training.training_step(batch, 0), due["loss"], rtol=1e-5)
    total = 20 * due["class_error"] + 3 * due["reconstruction"] + due["r1"] + due["r2"]
    assert torch.isclose(total, due["loss"])


def test_grey_pictures_make_a_grey_network_of_their_size():
    training, _ = module()
    assert training.model.num_channels == 1
    assert training.model.image_size == (8, 8)


def test_the_curves_have_every_term(folder: Path):
    curves = json.loads((folder / "curves.json").read_text())
    assert len(curves) == 2
    terms = {"val_loss", "val_class_error", "val_reconstruction", "val_r1", "val_r2", "val_accuracy"}
    assert all(terms <= row.keys() for row in curves)


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path: Path):
    with pytest.raises(DivergenceError, match="the loss became"):
        fit("prototypes", "digits", settings={**SHORT, "training.learning_rate": 1e20}, out=tmp_path / "run")


# cases


def test_fit_leaves_the_cases_beside_their_nearest_examples(folder: Path):
    rows = json.loads((folder / "prototypes.json").read_text())["prototypes"]
    model = load(folder)
    assert sorted(row["case"] for row in rows) == list(range(15))
    assert [row["supports"] for row in rows] == sorted(row["supports"] for row in rows)
    weights = model.head.weight
    for row in rows:
        assert row["weights"][row["supports"]] == min(row["weights"].values())
        assert row["weights"]["3"] == pytest.approx(float(weights[3, row["case"]].detach()))
        assert row["nearest"]["name"].startswith("digits_train_")
        assert not row["replaced_by_nearest"]
    assert (folder / "prototypes.png").is_file()


def test_replaced_cases_are_training_examples_and_the_head_is_fitted_to_them(tmp_path: Path):
    settings = {**SHORT, "replace_cases": True}
    outcome = fit("prototypes", "digits", settings=settings, out=tmp_path / "run", runtime=RUNTIME)
    rows = json.loads((tmp_path / "run" / "prototypes.json").read_text())["prototypes"]
    assert all(row["replaced_by_nearest"] for row in rows)
    assert max(row["nearest"]["distance"] for row in rows) < 1e-4
    saved = load(tmp_path / "run")
    assert torch.equal(saved.prototypes, outcome.model.prototypes.cpu())
    assert torch.equal(saved.head.weight, outcome.model.head.weight.cpu())
    owners = {row["case"]: row["nearest"]["class"] for row in rows}
    assert all(owners[case] == str(case % 10) for case in owners)


def test_the_purest_cases_stay():
    purity = torch.tensor([0.9, 0.2, 0.5, 0.1])
    assert pruned(purity, 0.5) == [0, 2]
    assert pruned(purity, 1.0) == [0]
    assert pruned(purity, 0.5, owners=torch.tensor([0, 1, 0, 1])) == [0, 1, 2]


def test_prototypes_of_a_class_without_samples_are_refused_before_training():
    configuration = configure(PrototypesFit, {**SHORT, "train_samples": 2})
    splits = TASK.open_data("digits", configuration, RUNTIME, SilentProgress())
    with pytest.raises(DataError, match="8 have no training sample"):
        TASK.make_model(splits, configuration, seed=0)
    free = configure(PrototypesFit, {"train_samples": 2})
    TASK.make_model(splits, free, seed=0)


def test_a_model_without_cases_cannot_have_them_replaced():
    configuration = configure(ClassificationFit, {"model": "prototypes_twin", "replace_cases": True})
    splits = TASK.open_data("digits", configuration, RUNTIME, SilentProgress())
    with pytest.raises(ConfigurationError, match="learns no cases"):
        TASK.make_model(splits, configuration, seed=0)


# reasons


def test_predict_gives_reasons_that_add_up(folder: Path, tmp_path: Path):
    rows = predict(folder, [digit(tmp_path)], out=tmp_path / "out")
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    row = json.loads(line)
    assert row["reasons"] == rows[0]["reasons"]
    assert len(row["reasons"]) == 15
    distances = [reason["distance"] for reason in row["reasons"]]
    assert distances == sorted(distances)
    logits = {name: sum(reason["contributions"][name] for reason in row["reasons"]) for name in "0123456789"}
    assert max(logits, key=lambda name: logits[name]) == row["class"]
    best = sum(reason["contribution"] for reason in row["reasons"])
    assert best == pytest.approx(logits[row["class"]], rel=1e-5, abs=1e-5)
    shares = torch.tensor(list(logits.values())).softmax(0)
    assert float(shares.max()) == pytest.approx(row["probability"], abs=1e-4)
    with Image.open(tmp_path / "out" / row["picture"]) as picture:
        assert picture.height > 280  # the cases lie below the classes


def test_other_models_give_none(tmp_path: Path):
    fit("classification", "digits", settings={"model": "prototypes_twin", "training.epochs": 1}, out=tmp_path / "run")
    row = predict(tmp_path / "run", [digit(tmp_path)], out=tmp_path / "out")[0]
    assert "reasons" not in row
    assert not (tmp_path / "run" / "prototypes.json").exists()


def test_a_network_with_prototypes_leaves_encore(folder: Path, tmp_path: Path, encore: Callable[..., Answer]):
    answer = encore("export", folder, "--format", "torch-export", "-o", tmp_path / "net.pt2")
    assert answer.code == 0, answer.err


def test_a_single_class_is_refused_in_one_line(tmp_path: Path, encore: Callable[..., Answer]):
    for number in range(6):
        path = tmp_path / "photos" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 12), (number * 20, 0, 0)).save(path)
    answer = encore("fit", "prototypes", tmp_path / "photos", "--out", tmp_path / "run", "--progress", "none")
    assert answer.code == 2
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("model_arguments.num_prototypes=0", "num_prototypes is 0"),
        ("model_arguments.encoder=resnet81", "did you mean"),
        ("model_arguments.prototype_count=3", "unknown argument"),
        ("model_arguments.encoder=3", "encoder is 3"),
        ("model_arguments.num_classes=3", "has 10 classes"),
        ("loss=binary_cross_entropy", "a loss of its own"),
        ("augmentation.elastic_strength=Infinity", "elastic_strength"),
        ("augmentation.elastic_smoothness=1e9", "elastic_smoothness"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(
    tmp_path: Path, encore: Callable[..., Answer], setting: str, words: str
):
    answer = encore("fit", "prototypes", "digits", "--set", setting, "--out", tmp_path / "run", "--progress", "none")
    assert answer.code == 2
    assert words in answer.err
    assert answer.err.count("\n") == 1
