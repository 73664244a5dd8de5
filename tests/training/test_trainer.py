"""Training: resumed runs reach the weights of uninterrupted ones; a diverging loss stops."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import lightning
import pytest
import torch
from torch import nn

from encore.base.errors import ConfigurationError, DivergenceError, RunFolderError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.nn.creation import create_model
from encore.tasks.base import load_trained
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import plain_loader
from encore.training.trainer import TrainingOutcome, accelerator_of, train

from ..full_disk import disk_full_after
from .toy import Points, Regression

CONFIGURATION = TrainingConfiguration(epochs=4, batch_size=5, learning_rate=0.02)


def trained(
    folder: Path,
    *,
    fail_at: int | None = None,
    data: Points | None = None,
    configuration: TrainingConfiguration = CONFIGURATION,
    callbacks: Sequence[lightning.Callback] = (),
) -> tuple[Regression, TrainingOutcome]:
    torch.manual_seed(0)
    module = Regression(configuration, fail_at)
    outcome = train(
        module,
        data or Points(),
        plain_loader(Points(), 5),
        configuration=configuration,
        runtime=Runtime(seed=3, device="cpu"),
        folder=folder,
        progress=SilentProgress(),
        stage="toy",
        monitor="val_score",
        callbacks=callbacks,
    )
    return module, outcome


@pytest.mark.parametrize("fail_at", [7, 10, 13])
def test_a_run_that_died_reaches_the_weights_of_one_that_did_not(tmp_path: Path, fail_at: int):
    whole, outcome = trained(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "killed", fail_at=fail_at)
    resumed, outcome_resumed = trained(tmp_path / "killed")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert outcome.curves == outcome_resumed.curves
    assert outcome.best_epoch == outcome_resumed.best_epoch
    best, best_resumed = (
        torch.load(one.best_checkpoint, weights_only=True)["state_dict"] for one in (outcome, outcome_resumed)
    )
    assert all(torch.equal(tensor, best_resumed[name]) for name, tensor in best.items())


def test_the_weight_decay_follows_half_a_cosine_and_leaves_biases_alone(tmp_path: Path):
    seen: list[list[float]] = []

    class Watch(lightning.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
            seen.append([group["weight_decay"] for group in optimizer.param_groups])

    rising = CONFIGURATION.model_copy(update={"weight_decay": 0.04, "final_weight_decay": 0.2})
    trained(tmp_path, configuration=rising, callbacks=[Watch()])
    decays = [groups[0] for groups in seen]
    assert decays[0] == pytest.approx(0.04)
    assert decays[-1] == pytest.approx(0.2)
    assert decays == sorted(decays)
    assert decays[len(decays) // 2] == pytest.approx(0.12, abs=0.02)
    assert {group for groups in seen for group in groups[1:]} == {0.0}


def test_a_checkpoint_within_an_epoch_continues_with_the_batches_that_are_left(tmp_path: Path):
    often = CONFIGURATION.model_copy(update={"checkpoint_minutes": 1e-9})
    whole, outcome = trained(tmp_path / "whole", configuration=often)
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "killed", fail_at=8, configuration=often)
    last = torch.load(tmp_path / "killed" / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 8
    resumed, outcome_resumed = trained(tmp_path / "killed", configuration=often)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert outcome.curves == outcome_resumed.curves


AVERAGED = CONFIGURATION.model_copy(
    update={"ema_decay": 0.8, "schedule": "cosine", "warmup_epochs": 1.5, "optimizer": "lamb", "weight_decay": 0.1}
)


@pytest.mark.parametrize("minutes", [5.0, 1e-9])
@pytest.mark.parametrize("fail_at", [3, 8, 13])
def test_a_run_that_died_reaches_the_same_average(tmp_path: Path, fail_at: int, minutes: float):
    configuration = AVERAGED.model_copy(update={"checkpoint_minutes": minutes})
    whole, outcome = trained(tmp_path / "whole", configuration=configuration)
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "killed", fail_at=fail_at, configuration=configuration)
    resumed, outcome_resumed = trained(tmp_path / "killed", configuration=configuration)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert outcome.curves == outcome_resumed.curves
    for file in ("last", "best"):
        one, other = (
            torch.load(tmp_path / run / "checkpoints" / f"{file}.ckpt", weights_only=True)
            for run in ("whole", "killed")
        )
        for kind in ("state_dict", "current_model_state", "averaging_state"):
            assert all(torch.equal(tensor, other[kind][name]) for name, tensor in one[kind].items()), (file, kind)


def test_validation_and_the_best_checkpoint_take_the_average_of_the_weights(tmp_path: Path):
    configuration = AVERAGED.model_copy(update={"epochs": 2, "warmup_epochs": 0.0})
    expected: list[dict[str, torch.Tensor]] = []

    class Follow(lightning.Callback):
        """The average, one step at a time; batch statistics included."""

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            now = {name: tensor.clone() for name, tensor in pl_module.model.state_dict().items()}
            before = expected[-1] if expected else now
            expected.append(
                {
                    name: 0.8 * before[name] + 0.2 * tensor if tensor.is_floating_point() else tensor
                    for name, tensor in now.items()
                }
            )

    module, outcome = trained(tmp_path, configuration=configuration, callbacks=[Follow()])
    best = nn.Sequential(*deepcopy(list(module.model)))
    load_trained(best, outcome.best_checkpoint)
    average = expected[outcome.best_epoch * 5 - 1]
    for name, tensor in best.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, average[name])
    points = Points()
    with torch.no_grad():
        batches = plain_loader(points, 5)
        losses = [
            (len(inputs), nn.functional.mse_loss(best.eval()(inputs), targets).item()) for inputs, targets in batches
        ]
    score = -sum(count * loss for count, loss in losses) / len(points)
    assert outcome.curves[outcome.best_epoch - 1]["val_score"] == pytest.approx(score, rel=1e-5)


def test_resuming_a_finished_training_changes_nothing(tmp_path: Path):
    first, outcome = trained(tmp_path)
    again, outcome_again = trained(tmp_path)
    assert outcome_again.curves == outcome.curves
    assert outcome_again.best_epoch == outcome.best_epoch
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in first.state_dict().items())


def test_a_loss_that_turns_nan_stops_names_the_step_and_keeps_the_last_good_checkpoint(tmp_path: Path):
    with pytest.raises(DivergenceError, match=r"became nan at step 11 \(epoch 3\)"):
        trained(tmp_path, data=Points(poison=2))
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 10
    assert all(tensor.isfinite().all() for tensor in last["state_dict"].values())


def test_early_stopping_ends_when_nothing_gets_better(tmp_path: Path):
    still = TrainingConfiguration(epochs=50, batch_size=5, learning_rate=1e-12, patience=2, schedule="constant")
    with torch.random.fork_rng():
        _, outcome = trained(tmp_path, configuration=still.model_copy(update={"schedule": "cosine"}))
    assert len(outcome.curves) < 50


def test_a_gpu_that_is_not_there_is_named():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigurationError, match="sees no GPU"):
        accelerator_of(Runtime(device="cuda"))


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="cannot be shared by 2 devices"):
        train(
            Regression(CONFIGURATION),
            Points(),
            plain_loader(Points(), 5),
            configuration=CONFIGURATION,
            runtime=Runtime(devices=2),
            folder=tmp_path,
            progress=SilentProgress(),
            stage="toy",
            monitor="val_score",
        )


def test_a_disk_that_fills_within_a_checkpoint_keeps_the_earlier_one(tmp_path: Path):
    whole, _ = trained(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        trained(tmp_path / "full", fail_at=7)
    checkpoints = tmp_path / "full" / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    with disk_full_after(100), pytest.raises(RunFolderError, match=r"cannot write .*: free some space"):
        trained(tmp_path / "full")
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before
    resumed, _ = trained(tmp_path / "full")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_disk_that_fills_within_the_weights_keeps_the_earlier_ones(tmp_path: Path):
    model = create_model("segnet_basic", width=8, kernel_size=3)
    model.save(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with disk_full_after(100), pytest.raises(RunFolderError, match=r"cannot write .*model\.safetensors"):
        model.save(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
