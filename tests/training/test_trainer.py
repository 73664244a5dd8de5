"""Training: resumed runs reach the weights of uninterrupted ones; a diverging loss stops."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encore.base.errors import ConfigurationError, DivergenceError, RunFolderError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.nn.creation import create_model
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
