"""The task `lossless-compression`: its configuration, the hooks of `Task`, and what its models promise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from encore.base import registry
from encore.base.errors import ConfigurationError, DataError, InputError
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits, Samples
from encore.data.exact import ExactSamples, open_exact, values_of
from encore.nn.creation import create_model
from encore.nn.model import EncoreModel
from encore.tasks.base import FitConfiguration, ImageSize, Metrics, Task, TrainedModel
from encore.tasks.lossless_compression.module import DensityModule
from encore.tasks.sheets import picture_sheet, save_picture
from encore.training.loading import plain_loader
from encore.training.trainer import device_of, wait_for_all

SHOWN = 6
"""Samples in a picture."""


class CompressionFit(FitConfiguration):
    """Keys of `encore fit lossless-compression`.

    Attributes:
        tile: (height, width) into which pictures are cut, as `16`, `16x16` or `[16,16]`; null takes them whole.
        train_samples: how many of the training samples are used; null for all.
    """

    model: str = "bits_back_vae"
    tile: ImageSize = None
    train_samples: int | None = Field(default=None, ge=2)


@runtime_checkable
class Density(Protocol):
    """A model that says how probable samples are."""

    sample_shape: tuple[int, ...]
    """Of one sample."""

    def refusal(self, shape: Sequence[int], low: int, high: int) -> str | None:
        """Why samples of this shape with values low…high are none of the model's; None if they are."""
        ...

    def bits(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → the bits that each ideally takes, (N,)."""
        ...

    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random samples, (num_samples, *sample_shape) int64."""
        ...


class LosslessCompressionTask(Task):
    """Learning a density; the loss is bits."""

    name = "lossless-compression"
    configuration = CompressionFit
    better = "min"
    has_classes = False

    def monitor(self, configuration: Any) -> str:
        """Bits on the validation part."""
        return "bits_per_dimension"

    def open_data(
        self, source: str, configuration: CompressionFit, runtime: Runtime, progress: ProgressReporter
    ) -> DataSplits:
        """Lossless pictures, integer arrays, or a named set without its truth."""
        splits = open_exact(source, tile=configuration.tile, seed=runtime.seed, roots=runtime.data, progress=progress)
        return self.shortened(splits, configuration)

    def shortened(self, splits: DataSplits, configuration: CompressionFit) -> DataSplits:
        """`splits` with as many training samples as the configuration asks for, spread over all."""
        total, wanted = len(splits.train), configuration.train_samples
        if wanted is None or wanted >= total:
            return splits
        places = np.linspace(0, total - 1, wanted).astype(np.int64)
        return replace(splits, train=ExactSamples(values_of(splits.train)[places], splits.train.name))

    def open_part(
        self,
        source: str,
        model: EncoreModel,
        runtime: Runtime,
        *,
        progress: ProgressReporter | None = None,
        cut_seed: int | None = None,
    ) -> Samples:
        """The test part.

        Raises:
            DataError: its samples are none of the model's.
        """
        density = as_density(model)
        tile = density.sample_shape[:2] if getattr(model, "takes_tiles", False) else None
        seed = runtime.seed if cut_seed is None else cut_seed
        splits = open_exact(source, tile=tile, seed=seed, roots=runtime.data, progress=progress)  # type: ignore[arg-type]
        test: ExactSamples = splits.test
        refused = density.refusal(test.values.shape[1:], *test.extremes)
        if refused:
            raise DataError(f"{source}: {refused}", "give samples of the kind that the model was fitted to")
        return test

    def prepare(self, model: EncoreModel, splits: DataSplits, configuration: Any) -> None:
        """The task."""
        model.task = self.name

    def module(self, model: EncoreModel, splits: DataSplits, configuration: Any) -> DensityModule:
        """The model with its optimiser."""
        as_density(model)
        return DensityModule(model, configuration.training)

    def make_model(self, splits: DataSplits, configuration: Any, seed: int) -> EncoreModel:
        """A fresh model for samples of the data's form, initialised from `seed`."""
        torch.manual_seed(seed)
        kinds = registry.owner_of_model(configuration.model).tasks
        if self.name not in kinds:
            raise ConfigurationError(
                f"'{configuration.model}' is a model for {kinds[0]}, not for {self.name}",
                f"see encore.list_models(task='{self.name}')",
            )
        if configuration.tile is not None:
            raise ConfigurationError(
                f"'{configuration.model}' takes pictures whole, not in tiles", "fit pc_compression, or leave tile out"
            )
        shape, num_values, lowest = form_of(splits)
        arguments = {"sample_shape": list(shape), "num_values": num_values, "lowest": lowest}
        model: EncoreModel = create_model(
            configuration.model, weights=configuration.weights, **{**arguments, **configuration.model_arguments}
        )
        self.prepare(model, splits, configuration)
        return model

    def training_set(self, splits: DataSplits, configuration: Any, seed: int) -> Samples:
        """The training samples as they are, whatever the epoch."""
        return EveryEpoch(splits.train)

    def loader(self, dataset: Samples, batch_size: int) -> DataLoader[Any]:
        """Stacked samples in order."""
        return plain_loader(dataset, batch_size)

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
        """As `Task.train`, by the method of the model's room where it has its own (`method.learn`)."""
        paper = registry.paper_of_model(configuration.model)
        method = registry.room(paper.slug, "method") if paper and registry.has_part(paper.slug, "method") else None
        if configuration.model not in getattr(method, "LEARNS", ()):
            return super().train(splits, configuration, runtime=runtime, folder=folder, progress=progress, stage=stage)
        assert method is not None
        model, outcome = method.learn(splits, configuration, runtime, folder, progress, stage)
        self.prepare(model, splits, configuration)
        model.to(device_of(runtime)).eval()
        validation = self.measure(model, splits.val, runtime, progress, f"{stage}: validation")
        test = self.measure(model, splits.test, runtime, progress, f"{stage}: test")
        model.save(folder)
        wait_for_all()
        return TrainedModel(model, outcome, validation, test)

    @torch.no_grad()
    def measure(
        self, model: EncoreModel, dataset: Samples, runtime: Runtime, progress: ProgressReporter, stage: str
    ) -> Metrics:
        """`bits_per_dimension`: what an ideal coder would need for each value, without the model itself."""
        device = device_of(runtime)
        density = as_density(model.to(device).eval())
        values = values_of(dataset)
        total = 0.0
        for start in range(0, len(values), 500):
            part = torch.from_numpy(values[start : start + 500].astype(np.int64)).to(device)
            total += float(density.bits(part).double().sum())
            progress.update(stage, min(start + 500, len(values)), len(values))
        return {"bits_per_dimension": total / values.size}

    def predict(
        self,
        model: EncoreModel,
        inputs: Sequence[Path],
        folder: Path,
        runtime: Runtime,
        progress: ProgressReporter,
    ) -> list[dict[str, Any]]:
        """Refused: densities are asked through `compress` and `evaluate`.

        Raises:
            InputError: always.
        """
        raise InputError("a density predicts nothing of a file", "use encore compress, or encore evaluate")

    def picture(self, models: Mapping[str, EncoreModel], dataset: Samples, path: Path, runtime: Runtime) -> None:
        """Samples of the data beside what each model draws; nothing where samples are no pictures."""
        values = values_of(dataset)
        if values.ndim not in (3, 4) or (values.ndim == 4 and values.shape[3] != 3):
            return
        places = np.linspace(0, len(values) - 1, min(SHOWN, len(values))).astype(np.int64)
        columns = [[_shown(one, values) for one in values[places]]]
        for model in models.values():
            generator = torch.Generator().manual_seed(0)
            drawn = as_density(model.cpu()).draw(len(places), generator).numpy()
            columns.append([_shown(one, values) for one in drawn])
        rows = [list(row) for row in zip(*columns, strict=True)]
        save_picture(picture_sheet(rows, ["data", *models], 150), path)


class EveryEpoch:
    """A dataset that is asked for (epoch, index) and answers the same in every epoch."""

    def __init__(self, dataset: Samples) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The sample `index` of (epoch, index)."""
        return self.dataset[key[1]]


def form_of(splits: DataSplits) -> tuple[tuple[int, ...], int, int]:
    """Shape of a sample, number of values, and the lowest: bytes have 256, others as many as there are."""
    values = [values_of(part) for part in (splits.train, splits.val, splits.test)]
    low, high = min(int(one.min()) for one in values), max(int(one.max()) for one in values)
    shape = values[0].shape[1:]
    return (shape, 256, 0) if all(one.dtype == np.uint8 for one in values) else (shape, high - low + 1, low)


def _shown(sample: Any, among: Any) -> Image.Image:
    """A sample in the range of all, as a picture, its pixels as squares."""
    low, high = int(among.min()), max(int(among.max()), int(among.min()) + 1)
    pixels = np.clip((sample.astype(np.float64) - low) * (255 / (high - low)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(pixels).convert("RGB")
    factor = math.ceil(150 / picture.width)
    return picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)


def as_density(model: Any) -> Density:
    """A model as a density.

    Raises:
        ConfigurationError: it is none.
    """
    if not isinstance(model, Density):
        raise ConfigurationError(
            f"'{getattr(model, 'registered_name', type(model).__name__)}' says nothing of how probable samples are",
            "choose a model of the task lossless-compression",
        )
    return model


TASK = LosslessCompressionTask()
