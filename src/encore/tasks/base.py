"""What a task is: the batch format, loss, metrics, prediction and picture that many papers share.

A task is found by its module: `encore.tasks.<name>` holds an instance called `TASK`.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning
import torch
from pydantic import AfterValidator, BeforeValidator, Field
from torch import Tensor
from torch.utils.data import DataLoader

from encore.base.configuration import Configuration
from encore.base.errors import ConfigurationError, InputError, UnknownNameError
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits, Samples
from encore.nn.batch_norm import recompute_batch_norm_statistics, single_values_refused
from encore.nn.creation import create_model
from encore.nn.export import Deployment
from encore.nn.model import EncoreModel
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import without_single_rest
from encore.training.trainer import TrainingOutcome, device_of, train, wait_for_all

Metrics = dict[str, float | None]


class Measured(Metrics):
    """Metrics by name, and what does not fit into one number each.

    Attributes:
        details: JSON values by name (`{"confusion": [[…]]}`).
    """

    def __init__(self, metrics: Metrics, details: dict[str, Any]) -> None:
        super().__init__(metrics)
        self.details = details


def details_of(metrics: Metrics) -> dict[str, Any]:
    """What was measured beside the metrics; empty for most tasks."""
    return metrics.details if isinstance(metrics, Measured) else {}


def _size_in_words(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    if isinstance(value, str) and "x" in value:
        return tuple(value.split("x"))
    return value


def _size_is_positive(value: tuple[int, int] | None) -> tuple[int, int] | None:
    if value is not None and min(value) < 1:
        raise ValueError("height and width are at least 1")
    return value


ImageSize = Annotated[tuple[int, int] | None, BeforeValidator(_size_in_words), AfterValidator(_size_is_positive)]
"""(height, width) of pictures, also written `224`, `90x120` or `[90,120]`; null where the task decides."""


class FitConfiguration(Configuration):
    """What `encore fit` can be told with `--set`; tasks add their own keys.

    Attributes:
        model: registered name of the model.
        model_arguments: further arguments of the model (`model_arguments.width=32`).
        weights: a checkpoint or RUN to start from.
        training: optimiser, schedule, length.
    """

    model: str
    model_arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None
    training: TrainingConfiguration = TrainingConfiguration()


@dataclass(frozen=True)
class TrainedModel:
    """A trained model with what it reached.

    Attributes:
        model: in evaluation mode, the weights of the best validation epoch.
        outcome: curves and time.
        validation, test: metrics of both parts; the test part was looked at once.
    """

    model: EncoreModel
    outcome: TrainingOutcome
    validation: Metrics
    test: Metrics


class Task(ABC):
    """One kind of work.

    Attributes:
        name: what `encore fit` calls it.
        configuration: its keys and defaults.
        better: whether a larger (`max`) or a smaller (`min`) value of the monitored metric is better.
        has_classes: whether its models answer with classes.
    """

    name: str
    configuration: type[FitConfiguration]
    better: Literal["max", "min"] = "max"
    has_classes: bool = True

    @abstractmethod
    def monitor(self, configuration: Any) -> str:
        """The validation metric that picks the model; `better` says in which direction."""

    @abstractmethod
    def open_data(self, source: str, configuration: Any, runtime: Runtime, progress: ProgressReporter) -> DataSplits:
        """Open a folder or named set, cut into train, val and test."""

    @abstractmethod
    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """Open the samples that `evaluate` measures: the test part, or all where there are no parts.

        Args:
            source: a folder, an `.npz` or a named set.
            model: whose classes and size they have to fit.
            runtime: folders of named data.
            progress: told of files that are left out.
            cut_seed: the seed with which a source without parts was cut for the model's training, whose test part is
                then taken; None measures all of such a source.
        """

    @abstractmethod
    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: Any) -> None:
        """Write classes, colours and preprocessing into a model that is to be trained."""

    @abstractmethod
    def module(self, model: EncoreModel, splits: DataSplits, configuration: Any) -> lightning.LightningModule:
        """The model with loss, metrics and optimiser."""

    @abstractmethod
    def training_set(self, splits: DataSplits, configuration: Any, seed: int) -> Samples:
        """The augmented training part; takes (epoch, index) pairs."""

    def training_part(self, splits: DataSplits, model: EncoreModel) -> Samples:
        """The training part without chance, as `model` sees it in evaluation; batches of it can be stacked."""
        samples: Samples = splits.train
        return samples

    def learns_all(self, configuration: Any) -> bool:
        """Whether the whole model is trained, so that its statistics may be averaged anew."""
        return True

    @abstractmethod
    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Batches of samples in order."""

    def forward(self, model: EncoreModel, batch: Any) -> Any:
        """What `model` makes of a batch that `loader` yields; its pictures by default."""
        return model(model.preprocess(batch["image"]))

    def example_batch(self, splits: DataSplits, configuration: Any) -> tuple[Any, float]:
        """A small batch on which a training step can be timed, and its share (0…1] of a full batch's work.

        Two samples by default.
        """
        size = min(2, len(splits.train), configuration.training.batch_size)
        return next(iter(self.loader(splits.train, size))), size / configuration.training.batch_size

    @abstractmethod
    def measure(
        self,
        model: EncoreModel,
        dataset: Samples,
        runtime: Runtime,
        progress: ProgressReporter,
        stage: str,
    ) -> Metrics:
        """Every metric of the task over `dataset`."""

    @abstractmethod
    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """Apply a model to files; writes results and pictures, returns the rows of `predictions.jsonl`.

        Inputs that cannot be read are refused before anything is written, so that no folder is left.
        """

    def deployed(self, model: EncoreModel) -> Deployment:
        """What `encore export` writes of `model`, for tasks that can leave Encore.

        Raises:
            InputError: this task's models do not.
        """
        raise InputError(f"models of the task '{self.name}' are not exported", "export it with --format safetensors")

    @abstractmethod
    def picture(self, models: Mapping[str, EncoreModel], dataset: Samples, path: Path, runtime: Runtime) -> None:
        """Draw a few samples beside the truth and what each of `models` makes of them."""

    def takes(self, source: str) -> bool:
        """Whether `source` is data that only this task takes, of all that a paper has; by default it says nothing."""
        return False

    def callbacks(self, splits: DataSplits, folder: Path, progress: ProgressReporter) -> list[lightning.Callback]:
        """What else watches a training; nothing by default."""
        return []

    def deliverable(self, model: EncoreModel) -> EncoreModel:
        """The model that leaves Encore: all of it by default."""
        return model

    def figures(self, measured: Metrics, folder: Path) -> list[Path]:
        """Draw what was measured, into `folder`; returns the pictures. None by default."""
        return []

    def make_model(self, splits: DataSplits, configuration: Any, seed: int) -> EncoreModel:
        """A fresh model for the data, initialised from `seed`."""
        torch.manual_seed(seed)
        arguments = {"num_classes": len(splits.classes), **configuration.model_arguments}
        model = create_model(configuration.model, weights=configuration.weights, **arguments)
        check_kind(model, self.name)
        check_channels(model)
        self.prepare(model, splits, configuration)
        return model

    def train(
        self,
        splits: DataSplits,
        configuration: Any,
        *,
        runtime: Runtime,
        folder: Path,
        progress: ProgressReporter,
        stage: str,
    ) -> TrainedModel:
        """Train a fresh model, or continue what `folder` holds; pick by validation, test once.

        Leaves `config.json` and `model.safetensors` in `folder`.
        """
        training: TrainingConfiguration = configuration.training
        model = self.make_model(splits, configuration, runtime.seed)
        if training.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        outcome = train(
            self.module(model, splits, configuration),
            self.training_set(splits, configuration, runtime.seed),
            self.loader(splits.val, training.batch_size),
            configuration=training,
            runtime=runtime,
            folder=folder,
            progress=progress,
            stage=stage,
            monitor=f"val_{self.monitor(configuration)}",
            better=self.better,
            callbacks=self.callbacks(splits, folder, progress),
        )
        load_trained(model, outcome.best_checkpoint)
        model.to(device_of(runtime))
        if training.recompute_batch_norm and self.learns_all(configuration):
            seen = self.training_part(splits, model)
            batches = self.loader(without_single_rest(seen, training.batch_size), training.batch_size)
            with single_values_refused():
                recompute_batch_norm_statistics(model, batches, forward=lambda batch: self.forward(model, batch))
        model.eval()
        validation = self.measure(model, splits.val, runtime, progress, f"{stage}: validation")
        test = self.measure(model, splits.test, runtime, progress, f"{stage}: test")
        model.save(folder)
        wait_for_all()  # the checkpoints may be removed from now on
        return TrainedModel(model, outcome, validation, test)


def check_kind(model: EncoreModel, task: str) -> None:
    """See that a model answers as `task` asks.

    Raises:
        ConfigurationError: it is made for another kind of work.
    """
    if model.task not in (None, task):
        remedy = "for segmentation build on it: model=upernet model_arguments.backbone=NAME"
        raise ConfigurationError(
            f"'{model.registered_name}' is a model for {model.task}, not for {task}",
            remedy if task == "segmentation" else f"see encore.list_models(task='{task}')",
        )


def check_channels(model: EncoreModel) -> None:
    """See that a model takes pictures, which have three channels.

    Raises:
        ConfigurationError: it takes another number.
    """
    channels = getattr(model, "in_channels", 3)
    if channels != 3:
        raise ConfigurationError(
            f"'{model.registered_name}' is to take {channels} channel{'s' * (channels != 1)}, and pictures have 3",
            "leave in_channels out; grey pictures are read as RGB",
        )


def load_trained(model: EncoreModel, checkpoint: Path) -> None:
    """Load a training checkpoint's weights into the bare model."""
    state: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    model.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    )


def remove_checkpoints(folder: Path) -> None:
    """Remove the training checkpoints of a finished training; `model.safetensors` stays."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def list_tasks() -> list[str]:
    """Names of the tasks there are."""
    import encore.tasks

    return sorted(
        module.name.replace("_", "-") for module in pkgutil.iter_modules(encore.tasks.__path__) if module.ispkg
    )


def get_task(name: str) -> Task:
    """The task called `name`.

    Raises:
        UnknownNameError: there is none, with the nearest.
    """
    if name not in list_tasks():
        raise UnknownNameError("task", name, list_tasks())
    return importlib.import_module(f"encore.tasks.{name.replace('-', '_')}").TASK
