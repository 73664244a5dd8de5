"""Trains an ensemble of deep plain networks: validation picks each network's step, the test part is looked at once."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from encore.base.files import replacing
from encore.base.progress import ProgressReporter
from encore.data.contracts import DataSplits, ImageDataset
from encore.papers.gradient_noise.deep_mlp import Ensemble, batch_indices


@dataclass(frozen=True)
class FlatPictures:
    """Pictures as the networks see them, all in memory.

    Attributes:
        inputs: (N, H · W) float32, grey, 0…1.
        labels: (N,) class indices.
    """

    inputs: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> FlatPictures:
        """At most `count` of them."""
        return FlatPictures(self.inputs[:count], self.labels[:count])


@dataclass(frozen=True)
class FlatParts:
    """Training, validation and test pictures, and what they are.

    Attributes:
        train, val, test: the parts.
        image_size: (height, width).
        classes: names of the classes.
    """

    train: FlatPictures
    val: FlatPictures
    test: FlatPictures
    image_size: tuple[int, int]
    classes: tuple[str, ...]


def flat_parts(splits: DataSplits, device: torch.device) -> FlatParts:
    """All pictures of a set whose pictures have one size."""
    parts = {name: _flat(getattr(splits, name), device) for name in ("train", "val", "test")}
    height, width = splits.train[0]["image"].shape[1:]
    return FlatParts(**parts, image_size=(int(height), int(width)), classes=tuple(splits.classes))


def _flat(dataset: ImageDataset, device: torch.device) -> FlatPictures:
    samples = [dataset[index] for index in range(len(dataset))]
    images = torch.stack([sample["image"].float().mean(0).flatten() for sample in samples]) / 255
    labels = torch.tensor([sample["label"] for sample in samples])
    return FlatPictures(images.to(device), labels.to(device))


@dataclass
class Outcome:
    """What an ensemble reached, each network by itself.

    Attributes:
        validation: (S, A), percent, at the best step.
        test: (S, A), percent, at that step.
        best_step: (S, A).
        diverged: (S, A), whether weights were infinite at the end; what was kept is from before.
        curves: one row per validation: step, and validation accuracies (S, A).
        seconds: of training, all parts of a resumed one together.
    """

    validation: list[list[float]]
    test: list[list[float]]
    best_step: list[list[int]]
    diverged: list[list[bool]]
    curves: list[dict[str, Any]]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return dict(self.__dict__)


class EnsembleTraining:
    """The training of one ensemble, which a kill does not end.

    Args:
        ensemble: to be trained.
        parts: its data.
        num_steps: of the whole training.
        steps_between: validations.
        checkpoint: a file that is written every `seconds_between` and taken up if it is there.
        seconds_between: checkpoints.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        parts: FlatParts,
        *,
        num_steps: int,
        steps_between: int,
        checkpoint: Path,
        seconds_between: float = 60.0,
    ) -> None:
        self.ensemble, self.parts, self.checkpoint = ensemble, parts, checkpoint
        self.num_steps, self.steps_between, self.seconds_between = num_steps, steps_between, seconds_between
        shape = len(ensemble.seeds), len(ensemble.settings)
        self.best = torch.full(shape, -1.0, device=ensemble.device)
        self.best_step = torch.zeros(shape, dtype=torch.int64, device=ensemble.device)
        self.best_parameters = [one.clone() for one in ensemble.parameters]
        self.curves: list[dict[str, Any]] = []
        self.seconds = 0.0

    def run(self, progress: ProgressReporter, stage: str) -> Outcome:
        """Train to the end, from the checkpoint if there is one, and measure the test part."""
        if self.checkpoint.is_file():
            self._load()
        started = saved = time.monotonic()
        before = self.seconds
        ensemble, train = self.ensemble, self.parts.train
        if not self.curves:
            self._validate(before)
        while ensemble.step < self.num_steps:
            chosen = torch.stack(
                [batch_indices(seed, ensemble.step, len(train), ensemble.batch_size) for seed in ensemble.seeds]
            ).to(ensemble.device)
            ensemble.train_step(train.inputs[chosen], train.labels[chosen])
            if ensemble.step % self.steps_between == 0 or ensemble.step == self.num_steps:
                self._validate(before + time.monotonic() - started)
            if ensemble.step % 20 == 0 or ensemble.step == self.num_steps:
                progress.update(stage, ensemble.step, self.num_steps, {"best": float(self.best.max())})
            if time.monotonic() - saved > self.seconds_between:
                self.seconds, saved = before + time.monotonic() - started, time.monotonic()
                self._save()
        self.seconds = before + time.monotonic() - started
        return self._outcome()

    def _validate(self, seconds: float) -> None:
        """Keep the parameters of networks that are better than ever."""
        accuracies = self.ensemble.accuracies(self.parts.val.inputs, self.parts.val.labels)
        better = accuracies > self.best
        self.best = torch.where(better, accuracies, self.best)
        self.best_step = torch.where(better, self.ensemble.step, self.best_step)
        for kept, now in zip(self.best_parameters, self.ensemble.parameters, strict=True):
            kept[better] = now[better]
        self.curves.append({"step": self.ensemble.step, "accuracy": accuracies.tolist(), "seconds": round(seconds, 1)})

    def _outcome(self) -> Outcome:
        finite = torch.stack([one.flatten(2).isfinite().all(2) for one in self.ensemble.parameters]).all(0)
        for parameter, kept in zip(self.ensemble.parameters, self.best_parameters, strict=True):
            parameter.copy_(kept)
        test = self.ensemble.accuracies(self.parts.test.inputs, self.parts.test.labels)
        return Outcome(
            validation=self.best.tolist(),
            test=test.tolist(),
            best_step=self.best_step.tolist(),
            diverged=(~finite).tolist(),
            curves=self.curves,
            seconds=round(self.seconds, 1),
        )

    def _save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "ensemble": self.ensemble.state_dict(),
            "best": self.best,
            "best_step": self.best_step,
            "best_parameters": self.best_parameters,
            "curves": self.curves,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        with replacing(self.checkpoint) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def _load(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.ensemble.device, weights_only=True)
        self.ensemble.load_state_dict(state["ensemble"])
        self.best, self.best_step = state["best"], state["best_step"]
        self.best_parameters, self.curves, self.seconds = state["best_parameters"], state["curves"], state["seconds"]


def mean_over(values: Sequence[Sequence[float]], places: Sequence[int]) -> list[float]:
    """For each seed the mean over settings at `places`."""
    return [sum(row[place] for place in places) / len(places) for row in values]
