"""Lightning's Trainer, set up once for every paper."""

from __future__ import annotations

import logging
import math
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from encore.base.errors import ConfigurationError
from encore.base.files import unwritable
from encore.base.processes import local_rank
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.contracts import Samples
from encore.nn.batch_norm import single_values_refused
from encore.training.callbacks import ReportProgress, ScheduleWeightDecay, SeedEveryStep, ShareBatches, StopOnDivergence
from encore.training.checkpoints import WholeCheckpoints
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import EpochBatches, training_loader


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out what Lightning says of the machine, and two hints that do not apply here."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # Small sets load faster in the training process than in workers.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # The batch sampler takes care of continuing in the middle of an epoch (training/loading.py).
        warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch.*")
        # Resuming writes into the folder that it resumes.
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*GPU available but not used.*")
        # Lightning and PyTorch speak of each other's internals.
        warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@dataclass(frozen=True)
class TrainingOutcome:
    """What a training left.

    Attributes:
        curves: one row per epoch: `epoch`, `train_loss`, `val_…`.
        seconds: wall time of the training, all parts of a resumed one together.
        best_checkpoint: the checkpoint with the best validation metric.
        best_epoch: its epoch, counted from 1.
        steps: optimiser steps taken.
    """

    curves: list[dict[str, float]]
    seconds: float
    best_checkpoint: Path
    best_epoch: int
    steps: int


def accelerator_of(runtime: Runtime) -> str:
    """Lightning's accelerator for `--device`.

    Raises:
        ConfigurationError: a GPU was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if runtime.device == "cuda" and not available:
        raise ConfigurationError("--device cuda: PyTorch sees no GPU here", "use --device cpu or auto")
    if available and runtime.device != "cpu" and runtime.devices > torch.cuda.device_count():
        raise ConfigurationError(
            f"--devices {runtime.devices}: PyTorch sees {torch.cuda.device_count()} here",
            "ask for as many as there are",
        )
    return "gpu" if available and runtime.device != "cpu" else "cpu"


def device_of(runtime: Runtime) -> torch.device:
    """The device that prediction and evaluation use."""
    return torch.device("cuda", local_rank()) if accelerator_of(runtime) == "gpu" else torch.device("cpu")


def wait_for_all() -> None:
    """Let every process of a shared training come to this point before any goes on."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def train(
    module: lightning.LightningModule,
    train_set: Samples,
    val_loader: DataLoader[Any],
    *,
    configuration: TrainingConfiguration,
    runtime: Runtime,
    folder: Path,
    progress: ProgressReporter,
    stage: str,
    monitor: str,
    better: Literal["max", "min"] = "max",
    callbacks: Sequence[lightning.Callback] = (),
) -> TrainingOutcome:
    """Train `module`, or continue what `folder` holds.

    Args:
        module: the task's LightningModule; logs `monitor` in validation.
        train_set: takes (epoch, index) pairs and has a length.
        val_loader: the validation part.
        configuration: optimiser, schedule, length.
        runtime: seed, device, precision.
        folder: keeps `checkpoints/last.ckpt` and `checkpoints/best.ckpt`.
        progress: told every step.
        stage: what the progress calls this training.
        monitor: the validation metric that picks the model.
        better: whether a larger (`max`) or a smaller (`min`) value of it is better.
        callbacks: of the task.

    Returns:
        Curves, time and the best checkpoint; the module's weights are those of the last step, or their average.

    Raises:
        DivergenceError: the loss is not finite; the last checkpoint stays.
        RunFolderError: the disk is full.
        KeyboardInterrupt: the user stopped it.
    """
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    resume = last if last.is_file() else None
    world = runtime.devices
    if configuration.batch_size % world:
        raise ConfigurationError(
            f"a batch of {configuration.batch_size} cannot be shared by {world} devices", "choose a multiple"
        )
    batches = EpochBatches(
        len(train_set),
        configuration.batch_size // world,
        seed=runtime.seed,
        num_replicas=world,
    )
    if resume is not None:
        step = torch.load(resume, map_location="cpu", weights_only=True)["global_step"]
        batches.start_epoch, batches.start_batch = divmod(step, len(batches))
        batches.epoch = batches.start_epoch
    report = ReportProgress(progress, stage)
    best = ModelCheckpoint(checkpoints, filename="best", monitor=monitor, mode=better, enable_version_counter=False)
    every_epoch = ModelCheckpoint(
        checkpoints,
        filename="last",
        save_on_train_epoch_end=True,
        enable_version_counter=False,
    )
    within_epochs = ModelCheckpoint(
        checkpoints,
        filename="last",
        train_time_interval=timedelta(minutes=configuration.checkpoint_minutes),
        enable_version_counter=False,
    )
    watching: list[lightning.Callback] = [
        report,
        SeedEveryStep(runtime.seed),
        StopOnDivergence(stage, last),
        ShareBatches(batches),
        best,
        *callbacks,
    ]
    if configuration.ema_decay is not None:
        # Checkpoints hold the average as `state_dict`, and beside it the weights that a resumed training goes on with.
        average = get_ema_multi_avg_fn(configuration.ema_decay)
        watching.append(WeightAveraging(device_of(runtime), multi_avg_fn=average))
    if configuration.final_weight_decay is not None:
        watching.append(ScheduleWeightDecay(configuration.weight_decay, configuration.final_weight_decay))
    if configuration.patience is not None:
        watching.append(EarlyStopping(monitor, mode=better, patience=configuration.patience))
    watching += [within_epochs, every_epoch]
    torch.manual_seed(runtime.seed)
    with quiet_lightning():
        trainer = lightning.Trainer(
            accelerator=accelerator_of(runtime),
            devices=world,
            strategy="ddp" if world > 1 else "auto",
            precision=runtime.precision,  # type: ignore[arg-type]
            max_epochs=configuration.epochs,
            gradient_clip_val=configuration.gradient_clip,
            callbacks=watching,
            plugins=[WholeCheckpoints()],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder,
        )
        loader = training_loader(train_set, batches, configuration.num_workers)
        interrupt = signal.getsignal(signal.SIGINT)
        try:
            with single_values_refused():
                trainer.fit(module, loader, val_loader, ckpt_path=resume, weights_only=True)
        except SystemExit:  # Lightning turns Ctrl-C into exit(1)
            raise KeyboardInterrupt from None
        except OSError as error:
            raise unwritable(checkpoints, error) from error
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
    best_path = Path(best.best_model_path) if best.best_model_path else last
    sign = 1 if better == "max" else -1
    best_row = max(report.rows, key=lambda row: sign * row.get(monitor, -sign * math.inf))
    return TrainingOutcome(
        curves=report.rows,
        seconds=report.elapsed(),
        best_checkpoint=best_path,
        best_epoch=int(best_row["epoch"]),
        steps=trainer.global_step,
    )
