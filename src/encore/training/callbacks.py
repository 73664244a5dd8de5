"""What watches a training: progress, learning curves, and the guard against a diverging loss."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor

from encore.base.errors import DivergenceError
from encore.base.progress import ProgressReporter
from encore.base.seeds import derive_seed
from encore.training.loading import EpochBatches


class ReportProgress(lightning.Callback):
    """Hands every step to a progress reporter and keeps one row of metrics per epoch.

    The rows are part of the checkpoint, so that the learning curves of a resumed run are whole.
    """

    def __init__(self, progress: ProgressReporter, stage: str) -> None:
        self.progress = progress
        self.stage = stage
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0
        self._started = time.monotonic()
        self._losses: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        """Rows so far, the losses of the epoch under way and the seconds spent."""
        return {"rows": self.rows, "losses": self._losses, "seconds": self.elapsed()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what the part that ran before has left."""
        self.rows, self._losses = list(state_dict["rows"]), list(state_dict["losses"])
        self.seconds = state_dict["seconds"]

    def elapsed(self) -> float:
        """Seconds of training, earlier parts included."""
        return self.seconds + time.monotonic() - self._started

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Report the step."""
        loss = float(outputs["loss"].detach())
        self._losses.append(loss)
        total = int(trainer.estimated_stepping_batches)
        self.progress.update(self.stage, trainer.global_step, total, {"loss": loss})

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the epoch's row: mean loss of its steps and the validation metrics."""
        row = {"epoch": float(trainer.current_epoch + 1)}
        if self._losses:
            row["train_loss"] = sum(self._losses) / len(self._losses)
            self._losses.clear()
        row |= {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val_")}
        self.rows.append(row)


class SeedEveryStep(lightning.Callback):
    """Seeds PyTorch before every step from (seed, step, rank), so that dropout repeats after a resume."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of all devices."""
        torch.manual_seed(derive_seed(self.seed, "step", trainer.global_step, trainer.global_rank))


class ScheduleWeightDecay(lightning.Callback):
    """Moves the weight decay from `first` to `last` along half a cosine; parameters without decay stay without.

    Args:
        first, last: at the first and the last step.
    """

    def __init__(self, first: float, last: float) -> None:
        self.first, self.last = first, last

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Set the decay of this step."""
        share = min(trainer.global_step / max(int(trainer.estimated_stepping_batches) - 1, 1), 1.0)
        decay = self.last + (self.first - self.last) * (1 + math.cos(math.pi * share)) / 2
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                if group["decays"]:
                    group["weight_decay"] = decay


class ShareBatches(lightning.Callback):
    """Tells the batch sampler which epoch it is, and which share of it this process takes."""

    def __init__(self, batches: EpochBatches) -> None:
        self.batches = batches

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Hand on the rank, before any batch is drawn."""
        self.batches.rank = trainer.global_rank

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Hand on the epoch; the loader's iterator is made afterwards."""
        self.batches.set_epoch(trainer.current_epoch)


class StopOnDivergence(lightning.Callback):
    """Stops before a loss that is not finite reaches the weights.

    Args:
        where: what the message calls the training.
        last: the checkpoint that a resumed training would continue from.
    """

    def __init__(self, where: str, last: Path) -> None:
        self.where, self.last = where, last

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Raise DivergenceError for a NaN or infinite loss, with the step and the remedy."""
        if torch.isfinite(loss).all():
            return
        kept = f"the last good checkpoint is kept in {self.last}" if self.last.is_file() else "no epoch was finished"
        raise DivergenceError(
            f"the loss became {float(loss.detach())} at step {trainer.global_step + 1} "
            f"(epoch {trainer.current_epoch + 1}) of {self.where}; {kept}",
            "lower --set training.learning_rate, or set training.gradient_clip=1",
        )
