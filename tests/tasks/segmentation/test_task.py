"""The task from data to a tested model, at tiny size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from encore.base.configuration import configure
from encore.base.errors import DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits
from encore.data.streets import streets_splits
from encore.nn.creation import load
from encore.tasks.base import TrainedModel, get_task, list_tasks
from encore.tasks.segmentation import TASK, SegmentationFit
from encore.tasks.segmentation.module import SegmentationModule

RUNTIME = Runtime(seed=1, device="cpu")
CONFIGURATION = configure(
    SegmentationFit,
    {"model_arguments.width": 8, "model_arguments.kernel_size": 3, "training.epochs": 3, "training.batch_size": 4},
)


@pytest.fixture(scope="module")
def splits() -> DataSplits:
    return streets_splits(height=24, width=32, train=12, val=4, test=5)


def trained(splits: DataSplits, folder: Path, runtime: Runtime = RUNTIME) -> TrainedModel:
    return TASK.train(
        splits, CONFIGURATION, runtime=runtime, folder=folder, progress=SilentProgress(), stage="training"
    )


@pytest.fixture(scope="module")
def first(splits: DataSplits, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainedModel, Path]:
    folder = tmp_path_factory.mktemp("first")
    return trained(splits, folder), folder


def test_tasks_are_found_by_looking():
    assert "segmentation" in list_tasks()
    assert get_task("segmentation") is TASK


def test_what_is_loaded_again_measures_what_was_measured(splits: DataSplits, first: tuple[TrainedModel, Path]):
    outcome, folder = first
    again = TASK.measure(load(folder), splits.test, RUNTIME, SilentProgress(), "test")
    assert again == outcome.test
    assert not outcome.model.training
    assert {"config.json", "model.safetensors"} <= {path.name for path in folder.iterdir()}


def test_the_same_seed_trains_the_same_weights_and_another_one_others(
    splits: DataSplits, first: tuple[TrainedModel, Path], tmp_path: Path
):
    same = trained(splits, tmp_path / "same").model.state_dict()
    other = trained(splits, tmp_path / "other", replace(RUNTIME, seed=2)).model.state_dict()
    state = first[0].model.state_dict()
    assert all(torch.equal(tensor, same[name]) for name, tensor in state.items())
    assert not torch.equal(state["conv1.weight"], other["conv1.weight"])


def test_the_best_validation_epoch_is_the_one_that_is_kept(first: tuple[TrainedModel, Path]):
    outcome, _ = first
    scores = [row["val_mean_iou"] for row in outcome.outcome.curves]
    assert outcome.outcome.best_epoch == scores.index(max(scores)) + 1
    kept = torch.load(outcome.outcome.best_checkpoint, weights_only=True)["state_dict"]
    assert torch.equal(kept["model.conv1.weight"], outcome.model.conv1.weight)


def test_an_early_best_epoch_is_kept_although_training_goes_on(
    splits: DataSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def worse_every_epoch(module: SegmentationModule) -> None:
        module.metrics.reset()
        module.log("val_mean_iou", -float(module.current_epoch))

    monkeypatch.setattr(SegmentationModule, "on_validation_epoch_end", worse_every_epoch)
    outcome = trained(splits, tmp_path)
    assert outcome.outcome.best_epoch == 1
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    best = torch.load(outcome.outcome.best_checkpoint, weights_only=True)
    assert (best["epoch"], last["epoch"]) == (0, 2)
    weight = load(tmp_path).conv1.weight
    assert torch.equal(weight, best["state_dict"]["model.conv1.weight"])
    assert not torch.equal(weight, last["state_dict"]["model.conv1.weight"])


def test_batch_norm_statistics_are_averages_over_the_training_part(
    splits: DataSplits, first: tuple[TrainedModel, Path]
):
    # In the memory format of the training: another one rounds otherwise, and a maximum that is nearly tied moves.
    model = load(first[1]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    norms = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in norms}
    kept = {name: (norm.running_mean.clone(), norm.running_var.clone()) for name, norm in norms.items()}
    for name, norm in norms.items():
        norm.train()  # what comes before a layer is normalised by its batch
        norm.register_forward_pre_hook(lambda module, inputs, name=name: seen[name].append(inputs[0]))
    with torch.no_grad():
        for batch in TASK.loader(splits.train, 4):
            model(model.preprocess(batch["image"]))
    for name, (mean, variance) in kept.items():
        assert len(seen[name]) == 3
        means = torch.stack([maps.mean((0, 2, 3)) for maps in seen[name]]).mean(0)
        variances = torch.stack([maps.transpose(0, 1).flatten(1).var(1) for maps in seen[name]]).mean(0)
        torch.testing.assert_close(mean, means, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(variance, variances, atol=1e-4, rtol=1e-4)


def test_the_model_knows_classes_colours_and_the_size_it_was_trained_at(first: tuple[TrainedModel, Path]):
    model = first[0].model
    assert model.classes[0] == "sky"
    assert len(model.colours) == 11
    assert model.preprocessing.size == (24, 32)


def test_masks_with_more_or_other_classes_are_not_measured(first: tuple[TrainedModel, Path], tmp_path: Path):
    import numpy as np

    model = load(first[1])
    images, masks = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 8, 8), np.uint8)
    np.savez(tmp_path / "more.npz", images=images, masks=masks, classes=[f"c{index}" for index in range(12)])
    np.savez(tmp_path / "other.npz", images=images, masks=masks, classes=["road", "sky"])
    np.savez(tmp_path / "unnamed.npz", images=images, masks=masks)
    for name in ("more", "other"):
        with pytest.raises(DataError, match="but the model learnt sky"):
            TASK.open_part(str(tmp_path / f"{name}.npz"), model, RUNTIME)
    assert len(TASK.open_part(str(tmp_path / "unnamed.npz"), model, RUNTIME)) == 3
    model.classes = tuple(name.upper() for name in model.classes)
    assert len(TASK.open_part("streets", model, RUNTIME)) > 0
    model.classes = tuple(f"class_{index}" for index in range(11))  # learnt from masks without names
    assert len(TASK.open_part(str(tmp_path / "other.npz"), model, RUNTIME)) == 3
    with pytest.raises(DataError, match="but the model learnt class_0"):
        TASK.open_part(str(tmp_path / "more.npz"), model, RUNTIME)


def test_pictures_show_samples_beside_every_model(splits: DataSplits, first: tuple[TrainedModel, Path], tmp_path: Path):
    from PIL import Image

    TASK.picture({"one": first[0].model, "two": first[0].model}, splits.test, tmp_path / "a.png", RUNTIME)
    assert Image.open(tmp_path / "a.png").width > 4 * 260
