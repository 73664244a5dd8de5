"""Learning a hidden Chow-Liu tree: structure from pairs of variables, probabilities by expectation maximisation.

The E step counts how often each choice was made, in expectation (`HCLT.flows`); the M step makes every distribution
proportional to its counts, α added to each distribution as a whole:

    θ_k = (F_k + α / fan-in) / (Σ F + α)

In mini-batch steps the parameters move towards that by 1 - ι, θ ← ι·θ + (1 - ι)·θ_new, with an inertia ι that rises
over the epochs; at last one or a few steps take the whole training set, which is worth hundredths of a bit. α is added
to the counts of the batch, so that mini-batches smooth far more than the whole set (official code).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from encore.base.configuration import Configuration
from encore.base.errors import ConfigurationError, DataError
from encore.base.files import replacing
from encore.base.progress import ProgressReporter
from encore.base.runtime import Runtime
from encore.base.seeds import derive_seed
from encore.data.contracts import DataSplits
from encore.data.exact import values_of
from encore.nn.creation import create_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.form import SampleForm
from encore.papers.pc_compression.model import HCLT, Flows, step_towards
from encore.papers.pc_compression.structure import LEVELS, Shape, chow_liu_tree, mutual_information
from encore.tasks.lossless_compression import CompressionFit
from encore.tasks.lossless_compression.task import form_of
from encore.training.trainer import TrainingOutcome, device_of

MOST_VALUES = 4096
"""Categories of a variable; each state has a probability of every one."""

WATCHED = 1000
"""Validation samples that are measured after every epoch."""


class ExpectationMaximisation(Configuration):
    """How long, and with how much inertia.

    Attributes:
        epochs: of mini-batches.
        first_phase: the share of them in which ι rises from the first to the second value of `inertia`; in the rest it
            rises to the third.
        inertia: ι at the start, after the first phase, and at the end; linear between.
        full_batch_steps: steps with the whole training set at the end.
        batch_size: samples of a mini-batch; what is left over at the end of an epoch is not used in it.
        pseudocount: α.
        checkpoint_minutes: how often the state is saved.
    """

    epochs: int = Field(default=20, ge=1)
    first_phase: float = Field(default=2 / 7, ge=0, le=1)
    inertia: tuple[float, float, float] = (0.1, 0.9, 0.95)
    full_batch_steps: int = Field(default=1, ge=0)
    batch_size: int = Field(default=512, ge=1)
    pseudocount: float = Field(default=0.1, gt=0)
    checkpoint_minutes: float = Field(default=1.0, gt=0)

    @field_validator("inertia")
    @classmethod
    def _inertia_is_a_share(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0 <= one < 1 for one in value):
            raise ValueError("inertia is three shares from 0 to below 1")
        return value

    @property
    def total(self) -> int:
        """Epochs of all kinds."""
        return self.epochs + self.full_batch_steps

    def inertia_of(self, epoch: int) -> float | None:
        """ι of an epoch of mini-batches; None for a step with the whole set."""
        if epoch >= self.epochs:
            return None
        start, middle, end = self.inertia
        first = max(round(self.first_phase * self.epochs), 1) if self.first_phase else 0
        if epoch < first:
            return start + (middle - start) * epoch / max(first - 1, 1)
        return middle + (end - middle) * (epoch - first + 1) / (self.epochs - first)


class HCLTFit(CompressionFit):
    """Keys of `encore fit pc_compression`.

    Attributes:
        model: `hclt`, or `chow_liu_tree`, a tree over the values themselves, which is counted in one pass.
        num_states: H, hidden states of a node.
        num_values: K; null takes 256 for bytes, and as many as there are from the least to the greatest for others.
        lowest: the least value that there may be; null takes 0 for bytes, and the least there is for others.
        shape: of the tree: `directed`, or `balanced`, whose depth grows as log D.
        structure_samples: training samples from which the tree is found.
        training: expectation maximisation.
    """

    model: Literal["hclt", "chow_liu_tree"] = "hclt"
    num_states: int = Field(default=16, ge=1)
    num_values: int | None = Field(default=None, ge=1)
    lowest: int | None = None
    shape: Shape = "directed"
    structure_samples: int = Field(default=10_000, ge=2)
    training: ExpectationMaximisation = ExpectationMaximisation()  # type: ignore[assignment]


LEARNS = ("hclt", "chow_liu_tree")
"""Models that do not learn by gradients."""


def learn_structure(x: Tensor, num_values: int, shape: Shape = "directed") -> list[int]:
    """The parents of a Chow-Liu tree of samples (N, D), values sorted into at most 16 levels."""
    levels = min(num_values, LEVELS)
    sorted_in = x.cpu().numpy().astype(np.int64) * levels // num_values
    return [int(one) for one in chow_liu_tree(mutual_information(sorted_in, levels), shape).parents]


def sample_form(splits: DataSplits, configuration: HCLTFit) -> SampleForm:
    """The form of the data's samples.

    Raises:
        DataError: the values do not fit into `num_values`, or there are too many of them to be categories.
    """
    shape, there, least = form_of(splits)
    lowest = least if configuration.lowest is None else configuration.lowest
    num_values = configuration.num_values or there + least - lowest
    values = [values_of(part) for part in (splits.train, splits.val, splits.test)]
    low, high = min(int(one.min()) for one in values), max(int(one.max()) for one in values)
    if low < lowest or high - lowest >= num_values or num_values > MOST_VALUES:
        raise DataError(
            f"{splits.name} has values from {low} to {high}",
            f"a value is one of num_values={min(num_values, MOST_VALUES)} categories from lowest={lowest} on",
        )
    return SampleForm(shape, num_values, lowest, configuration.tile is not None)


def learn(
    splits: DataSplits,
    configuration: CompressionFit,
    runtime: Runtime,
    folder: Path,
    progress: ProgressReporter,
    stage: str,
) -> tuple[EncoreModel, TrainingOutcome]:
    """Find a tree and learn its probabilities, or continue what `folder` holds.

    Args:
        splits: integer samples; val is watched, and decides nothing.
        configuration: see its class.
        runtime: seed, device.
        folder: keeps `checkpoints/last.pt`.
        progress: told of every step.
        stage: what the progress calls this training.

    Returns:
        The model on the device, and curves in bits per dimension.

    Raises:
        ConfigurationError: the configuration is not this room's.
        DataError: see `sample_form`.
    """
    if not isinstance(configuration, HCLTFit):
        raise ConfigurationError(
            f"'{configuration.model}' learns by counting, not by gradients", "fit it with: encore fit pc_compression"
        )
    if configuration.model == "chow_liu_tree" and configuration.tile is not None:
        raise ConfigurationError("'chow_liu_tree' takes pictures whole, not in tiles", "fit hclt, or leave tile out")
    schedule = configuration.training
    form = sample_form(splits, configuration)
    device = device_of(runtime)
    train, val = (_variables(part, form).to(device) for part in (splits.train, splits.val))
    checkpoint = folder / "checkpoints" / "last.pt"
    state: dict[str, Any] = {}
    if checkpoint.is_file():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    else:
        progress.update(f"{stage}: structure", 0, 1)
        places = np.linspace(0, len(train) - 1, min(configuration.structure_samples, len(train))).astype(np.int64)
        parents = learn_structure(train[torch.from_numpy(places).to(device)], form.num_values, configuration.shape)
        progress.update(f"{stage}: structure", 1, 1)
        state = {"parents": parents, "epoch": 0, "curves": [], "seconds": 0.0}
    if configuration.model == "chow_liu_tree":
        return _counted(state["parents"], form, train, val, stage, progress)
    model: HCLT = create_model(
        "hclt",
        parents=state["parents"],
        num_values=form.num_values,
        num_states=configuration.num_states,
        sample_shape=list(form.shape),
        lowest=form.lowest,
        tiles=form.tiles,
    )
    if "model" in state:
        model.load_state_dict(state["model"])
    else:
        model.randomise(torch.Generator().manual_seed(derive_seed(runtime.seed, "start")))
    model.to(device)
    started = time.perf_counter() - state["seconds"]
    saved = time.perf_counter()
    per_bit = -1 / (math.log(2) * form.num_variables)
    steps = max(len(train) // schedule.batch_size, 1)
    for epoch in range(state["epoch"], schedule.total):
        inertia = schedule.inertia_of(epoch)
        total = count = 0.0
        if inertia is None:
            flows = flows_of_all(model, train, schedule.batch_size)
            progress.update(f"{stage}: all samples", epoch + 1 - schedule.epochs, schedule.full_batch_steps)
            total, count = flows.log_likelihood, len(train)
            maximise(model, flows, schedule.pseudocount)
        else:
            for step, batch in enumerate(batches_of(train, schedule.batch_size, runtime.seed, epoch), start=1):
                flows = model.flows(batch)
                maximise(model, flows, schedule.pseudocount, inertia)
                total, count = total + flows.log_likelihood, count + len(batch)
                metrics = {"bits_per_dimension": flows.log_likelihood / len(batch) * per_bit}
                progress.update(stage, epoch * steps + step, schedule.epochs * steps, metrics)
        watched = val[:WATCHED]
        likelihood = sum(float(model(part).sum()) for part in watched.split(500))
        row = {
            "epoch": epoch + 1,
            "train_bits_per_dimension": total / count * per_bit,
            "val_bits_per_dimension": likelihood / len(watched) * per_bit,
        }
        state["curves"].append(row)
        last = epoch + 1 == schedule.total
        if last or time.perf_counter() - saved > 60 * schedule.checkpoint_minutes:
            saved = time.perf_counter()
            state |= {"epoch": epoch + 1, "seconds": saved - started, "model": model.state_dict()}
            with replacing(checkpoint) as temporary:
                torch.save(state, temporary)
    seconds = time.perf_counter() - started
    return model, TrainingOutcome(state["curves"], seconds, checkpoint, schedule.total, schedule.epochs * steps)


def _counted(
    parents: list[int], form: SampleForm, train: Tensor, val: Tensor, stage: str, progress: ProgressReporter
) -> tuple[EncoreModel, TrainingOutcome]:
    """A tree over the values themselves; validation samples choose its pseudocount."""
    started = time.perf_counter()
    model = create_model(
        "chow_liu_tree", parents=parents, num_values=form.num_values, sample_shape=list(form.shape), lowest=form.lowest
    )
    progress.update(stage, 0, 1)
    model.count(train.cpu())
    model.choose_pseudocount(val.cpu())
    bits = sum(float(model.log_likelihood(part.cpu()).sum()) for part in train.split(2000))
    rate = bits / len(train) / (-math.log(2) * form.num_variables)
    progress.update(stage, 1, 1, {"bits_per_dimension": rate})
    rows = [{"epoch": 1, "train_bits_per_dimension": rate}]
    return model, TrainingOutcome(rows, time.perf_counter() - started, Path(), 1, 1)


def _variables(dataset: Any, form: SampleForm) -> Tensor:
    """Categories, (N, D), in the smallest type that holds them."""
    dtype = torch.uint8 if form.num_values <= 256 else torch.int16
    return torch.from_numpy(form.variables(values_of(dataset))).to(dtype)


def maximise(model: HCLT, flows: Flows, pseudocount: float, inertia: float = 0.0) -> None:
    """The M step, in place."""
    for own, counts, axis in (
        (model.prior, flows.prior, 0),
        (model.transitions, flows.transitions, 2),
        (model.emissions, flows.emissions, 1),
    ):
        step_towards(own, counts, axis, pseudocount, inertia)


def flows_of_all(model: HCLT, x: Tensor, batch_size: int) -> Flows:
    """The expected counts of (N, D), summed in double precision."""
    first, *others = x.split(batch_size)
    one = model.flows(first)
    total = Flows(one.log_likelihood, one.prior.double(), one.transitions.double(), one.emissions.double())
    for part in others:
        total += model.flows(part)
    return total


def batches_of(x: Tensor, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """Mini-batches in an order that seed and epoch decide; one smaller batch where there is no whole one."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    order = torch.randperm(len(x), generator=generator)
    size = min(batch_size, len(x))
    for start in range(0, len(x) - size + 1, size):
        yield x[order[start : start + size].to(x.device)]
