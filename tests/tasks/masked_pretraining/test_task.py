"""Masked pre-training as a task, with a toy model: data, training, resuming, pictures, probes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits
from encore.data.splits import Subset
from encore.nn.model import Preprocessing
from encore.tasks.base import get_task, list_tasks
from encore.tasks.masked_pretraining import TASK, MaskedPretrainingFit
from encore.tasks.masked_pretraining.model import MaskedAutoencoder
from encore.tasks.masked_pretraining.module import fixed_mask
from encore.tasks.masked_pretraining.pictures import as_pictures
from encore.tasks.masked_pretraining.task import LabelledPictures
from tests.tasks.masked_pretraining.toy import ToyAutoencoder

RUNTIME = Runtime(seed=0, device="cpu")
CONFIGURATION = configure(
    MaskedPretrainingFit,
    {"training.epochs": 2, "training.batch_size": 16, "training.learning_rate": 1e-2, "image_size": [8, 8]},
)


@pytest.fixture(scope="module")
def splits() -> DataSplits:
    opened = TASK.open_data("digits", CONFIGURATION, RUNTIME, SilentProgress())
    return replace(opened, train=Subset(opened.train, range(48)), val=Subset(opened.val, range(16)))


@pytest.fixture
def toy_task(monkeypatch: pytest.MonkeyPatch):
    """The task, its model the toy."""

    def make(name: str, *, weights: object = None, **arguments: object) -> ToyAutoencoder:
        model = ToyAutoencoder(**arguments)
        model.registered_name = "toy"
        return model

    monkeypatch.setattr("encore.tasks.masked_pretraining.task.create_model", make)
    return TASK


def train(task, splits: DataSplits, folder: Path):
    return task.train(
        splits, CONFIGURATION, runtime=RUNTIME, folder=folder, progress=SilentProgress(), stage="pre-training"
    )


def test_the_task_is_found_by_its_name():
    assert "masked-pretraining" in list_tasks()
    assert get_task("masked-pretraining") is TASK
    assert isinstance(ToyAutoencoder(), MaskedAutoencoder)


def test_training_lowers_the_loss_and_leaves_the_encoder_and_a_picture_per_epoch(toy_task, splits, tmp_path: Path):
    before = ToyAutoencoder()
    before.task = "masked-pretraining"
    start = TASK.measure(before, splits.test, RUNTIME, SilentProgress(), "test")["masked_loss"]
    outcome = train(toy_task, splits, tmp_path)
    assert outcome.test["masked_loss"] < start
    assert {path.name for path in (tmp_path / "reconstructions").iterdir()} == {"epoch_0001.png", "epoch_0002.png"}
    assert (tmp_path / "encoder" / "model.safetensors").is_file()
    assert (tmp_path / "encoder" / "config.json").is_file()


def test_the_best_epoch_has_the_lowest_loss(toy_task, splits, tmp_path: Path):
    outcome = train(toy_task, splits, tmp_path).outcome
    losses = [row["val_loss"] for row in outcome.curves]
    assert outcome.best_epoch == 1 + int(np.argmin(losses))


def test_the_same_seed_pre_trains_the_same_weights(toy_task, splits, tmp_path: Path):
    one, other = (train(toy_task, splits, tmp_path / name).model for name in ("one", "other"))
    assert all(tensor.equal(other.state_dict()[name]) for name, tensor in one.state_dict().items())


def test_masks_of_a_validation_are_the_same_every_time():
    model = ToyAutoencoder((16, 16))
    assert fixed_mask(model, 4, 0).equal(fixed_mask(model, 4, 0))
    assert not fixed_mask(model, 4, 0).equal(fixed_mask(model, 4, 1))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("scale", [1.0, 255.0])
def test_preprocessing_is_undone_exactly(order: str, scale: float):
    images = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    preprocessing = Preprocessing(
        channel_order=order, scale=scale, mean=(0.4 * scale, 0.5 * scale, 0.6 * scale), std=(0.2 * scale,) * 3
    )
    assert as_pictures(preprocessing(images), preprocessing).equal(images)


def test_frozen_features_are_probed_on_labelled_pictures():
    part = TASK.open_part("digits", ToyAutoencoder((8, 8)), RUNTIME)
    assert isinstance(part, LabelledPictures)
    small = LabelledPictures(
        replace(
            part.parts,
            train=Subset(part.parts.train, range(200)),
            val=Subset(part.parts.val, range(60)),
            test=Subset(part.parts.test, range(60)),
        )
    )
    metrics = TASK.measure(ToyAutoencoder((8, 8)), small, RUNTIME, SilentProgress(), "test")
    assert set(metrics) == {"masked_loss", "knn_accuracy", "linear_probe_accuracy"}
    assert metrics["linear_probe_accuracy"] > 30  # random features tell digits apart better than chance


def test_pictures_are_painted_for_files(tmp_path: Path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "out").mkdir()
    rows = TASK.predict(ToyAutoencoder((8, 8)), [tmp_path / "a.png"], tmp_path / "out", RUNTIME, SilentProgress())
    assert rows[0]["masked_loss"] >= 0
    assert Image.open(tmp_path / "out" / "a.png").width > 3 * 260


def test_copies_of_one_picture_and_too_few_pictures_are_refused(tmp_path: Path):
    picture = Image.fromarray(np.full((8, 8, 3), 90, np.uint8))
    for index in range(3):
        picture.save(tmp_path / f"{index}.png")
    with pytest.raises(DataError, match="3 pictures, too few"):
        TASK.open_data(str(tmp_path), CONFIGURATION, RUNTIME, SilentProgress())
    for index in range(3, 30):
        picture.save(tmp_path / f"{index}.png")
    with pytest.raises(DataError, match="all the same"):
        TASK.open_data(str(tmp_path), CONFIGURATION, RUNTIME, SilentProgress())


def test_a_model_that_paints_nothing_is_refused(splits):
    configuration = configure(MaskedPretrainingFit, {"model": "segnet_basic"})
    with pytest.raises(ConfigurationError, match="encore fit spark"):
        TASK.make_model(splits, configuration, 0)
