"""Performs the claims about deep plain networks (section 4.1, Table 1), and that about the noise itself."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from torch import nn

from encore.base.cards import Claim
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path, open_set
from encore.data.splits import some
from encore.nn.model import Preprocessing
from encore.papers.gradient_noise.deep_mlp import Ensemble
from encore.papers.gradient_noise.deep_mlp_pictures import accuracy_curves
from encore.papers.gradient_noise.deep_mlp_settings import (
    DROPOUT,
    SHALLOW,
    DeepMLPSettings,
    Group,
    groups_of,
)
from encore.papers.gradient_noise.deep_mlp_training import (
    EnsembleTraining,
    FlatParts,
    Outcome,
    flat_parts,
    mean_over,
)
from encore.papers.gradient_noise.model import DeepMLP
from encore.results.parts import Part
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord, ClaimRecord, comparative_record, exact_record, table_record
from encore.results.verdict import paired_difference
from encore.training.gradient_noise import GradientNoise, noise_variance
from encore.training.trainer import device_of

MNIST = "mnist"

NOISE, PLAIN = "noise", "no_noise"

ASKED: dict[str, tuple[str, ...]] = {
    "poor_initialisation": ("simple", "simple_clip_100", "simple_clip_10", DROPOUT),
    "zero_initialisation": ("zero_clip_10",),
    "good_initialisation": ("he_clip_10", "random_walk_clip_10", "simple_clip_10", "zero_clip_10"),
    "five_layers": (SHALLOW, "simple"),
}
"""The rows that each claim rests on."""

VARIANCE = "noise_variance"
VARIANCE_STEPS = (0, 10, 1000)
NUM_DRAWS = 1_000_000
PAPER_RATES = (0.1, 0.01)

LARGEST_ERROR = 0.01
"""Of a variance from a million draws, whose relative standard error is 0.0014."""


@dataclass
class Reached:
    """Test accuracies of one arm in percent.

    Attributes:
        mean: over the learning rates, a value for each seed.
        best: of the run that validation prefers, over all seeds and rates.
        diverged: runs whose weights became infinite, after their best step.
        last: accuracy on validation data at the last step, mean over all runs; one that has diverged has 0.
    """

    mean: list[float]
    best: float
    diverged: int
    last: float


Arms = Mapping[tuple[str, bool], Reached]


class DeepMLPPart(Part):
    """All networks of Table 1 and the control, in three batched trainings."""

    claims = (*ASKED, VARIANCE)

    def plan(self, performance: Performance) -> Plan:
        """Times a step of each ensemble."""
        settings: DeepMLPSettings = performance.configuration.mlp
        rows = self._rows(performance)
        if not rows:
            return Plan(data=[], arms=[], seeds=[], seconds=2, memory_bytes=500 * 2**20, disk_bytes=2**20)
        splits = self._open(performance)
        device = device_of(performance.runtime)
        side = splits.train[0]["image"].shape[1:]
        seconds, memory, arms = 5.0, 0, []
        for group in groups_of(rows, settings, side.numel(), len(splits.classes)):
            ensemble = group.ensemble(settings, performance.seeds, device)
            seconds += settings.steps * _seconds_per_step(ensemble) * 1.15
            count = len(performance.seeds) * len(group.settings)
            memory = max(memory, 4 * count * ensemble.num_parameters * 4)
            names = ", ".join(dict.fromkeys(row for row, _ in group.arms))
            arms.append(f"{count} networks of {group.shape.depth} × {group.shape.width} units ({names})")
        return Plan(
            data=[f"{splits.name} ({', '.join(f'{part} {size}' for part, size in splits.sizes().items())})"],
            arms=arms,
            seeds=list(performance.seeds),
            seconds=seconds,
            memory_bytes=memory + 900 * 2**20,
            disk_bytes=memory,
            notes=["time of the deep networks from a step of all of them, timed here"],
        )

    def perform(self, performance: Performance) -> None:
        """Train what is asked for, then judge."""
        for claim in performance.claims:
            if claim.id == VARIANCE:
                performance.record(variance_of_noise(claim))
        rows = self._rows(performance)
        if not rows:
            return
        splits = self._open(performance)
        performance.use_data(splits)
        settings: DeepMLPSettings = performance.configuration.mlp
        parts = flat_parts(splits, device_of(performance.runtime))
        arms: dict[tuple[str, bool], Reached] = {}
        for group in groups_of(rows, settings, parts.train.inputs.shape[1], len(parts.classes)):
            arms |= self._trained(performance, group, parts)
        stand_in = f"{splits.name} stands in for {MNIST}, so there is no verdict" if splits.embedded else ""
        note = _setting_in_words(settings, splits) + _diverged_in_words(arms)
        for claim in performance.claims:
            if claim.id in ASKED:
                performance.record(_judged(claim, arms, stand_in, note))
        table = next(table for table in performance.card.tables if table.id == "table_1")
        performance.tables.append(
            table_record(table, _table_rows(arms), undecided=bool(stand_in), note=f"{stand_in or splits.name}. {note}")
        )

    def _rows(self, performance: Performance) -> list[str]:
        """The rows that the claims asked for rest on."""
        return list(dict.fromkeys(row for claim in performance.claims for row in ASKED.get(claim.id, ())))

    def _open(self, performance: Performance) -> DataSplits:
        """MNIST where it is to be had, else scikit-learn's digits; smoke takes those unless MNIST is named."""
        roots = performance.runtime.data
        wanted = performance.scale != "smoke" or MNIST in roots
        there = wanted and find_set_path(MNIST, roots) is not None
        splits = open_set(MNIST if there else "digits", image_size=None, seed=performance.runtime.seed, roots=roots)
        settings: DeepMLPSettings = performance.configuration.mlp
        return replace(
            splits,
            train=some(splits.train, settings.train_samples),
            val=some(splits.val, settings.validation_samples),
        )

    def _trained(self, performance: Performance, group: Group, parts: FlatParts) -> dict[tuple[str, bool], Reached]:
        """Train a group, unless that is done; keep its records, its picture and a model."""
        assert performance.folder is not None
        settings: DeepMLPSettings = performance.configuration.mlp
        ensemble = group.ensemble(settings, performance.seeds, device_of(performance.runtime))
        folder = performance.folder.subfolder("mlp", group.name)
        step = f"mlp/{group.name}/outcome"
        done = performance.folder.finished(step)
        if done:
            outcome = Outcome(**done)
            performance.seconds_before += outcome.seconds
        else:
            training = EnsembleTraining(
                ensemble,
                parts,
                num_steps=settings.steps,
                steps_between=settings.steps_between,
                checkpoint=folder / "last.ckpt",
            )
            outcome = training.run(performance.progress, f"{len(group.settings)} settings, {group.name}")
            if group.name == "deep":
                _single(ensemble, group, parts).save(performance.path)
            performance.folder.finish(step, outcome.as_json())
            (folder / "last.ckpt").unlink(missing_ok=True)
        path = folder / "accuracy.png"
        accuracy_curves(group.arms, group.settings, outcome.curves, path)
        performance.picture(path, f"Validation accuracy of the {group.name} networks of all seeds while they learn.")
        return _reached(performance, group, outcome)


def _seconds_per_step(ensemble: Ensemble) -> float:
    shape = ensemble.shape
    inputs = torch.rand(len(ensemble.seeds), ensemble.batch_size, shape.num_inputs, device=ensemble.device)
    labels = torch.zeros(inputs.shape[:2], dtype=torch.int64, device=ensemble.device)
    times = []
    for _ in range(4):
        started = time.perf_counter()
        ensemble.train_step(inputs, labels).sum().item()
        times.append(time.perf_counter() - started)
    return min(times)


def _single(ensemble: Ensemble, group: Group, parts: FlatParts) -> DeepMLP:
    """The first network of the ensemble, of the first seed, with noise, as a model of its own."""
    shape, setting = group.shape, group.settings[0]
    model = DeepMLP(
        shape.num_classes,
        depth=shape.depth,
        width=shape.width,
        image_size=parts.image_size,
        initialisation=setting.initialisation,
    )
    with torch.no_grad():
        for layer, weights, biases in zip(model.layers, ensemble.weights, ensemble.biases, strict=True):
            assert isinstance(layer, nn.Linear)
            layer.weight.copy_(weights[0, 0])
            layer.bias.copy_(biases[0, 0])
    model.task, model.classes = "classification", parts.classes
    model.preprocessing = Preprocessing(size=parts.image_size, crop_ratio=1.0)
    return model.eval()


def _reached(performance: Performance, group: Group, outcome: Outcome) -> dict[tuple[str, bool], Reached]:
    """Accuracies of the group's arms; each arm and seed gets a record."""
    reached = {}
    seconds = outcome.seconds / (len(performance.seeds) * len(set(group.arms)))
    for arm in dict.fromkeys(group.arms):
        places = [place for place, one in enumerate(group.arms) if one == arm]
        means = mean_over(outcome.test, places)
        for index, seed in enumerate(performance.seeds):
            diverged = sum(outcome.diverged[index][place] for place in places)
            metrics: dict[str, float | None] = {"accuracy": means[index], "diverged": float(diverged)}
            for place in places:
                metrics[f"accuracy_rate_{group.settings[place].learning_rate:g}"] = outcome.test[index][place]
            name = f"{arm[0]}, {'noise' if arm[1] else 'no noise'}"
            performance.arms.append(ArmRecord(arm=name, seed=seed, seconds=round(seconds, 1), metrics=metrics))
        runs = itertools.product(range(len(performance.seeds)), places)
        seed_of_best, place_of_best = max(runs, key=lambda run: outcome.validation[run[0]][run[1]])
        reached[arm] = Reached(
            means,
            outcome.test[seed_of_best][place_of_best],
            sum(row[place] for row in outcome.diverged for place in places),
            fmean(mean_over(outcome.curves[-1]["accuracy"], places)),
        )
    return reached


def _changes(arms: Arms, row: str) -> list[float]:
    """How far noise moves the accuracy of a row, up or down, for each seed."""
    return [abs(one - other) for one, other in zip(arms[row, True].mean, arms[row, False].mean, strict=True)]


def _judged(claim: Claim, arms: Arms, stand_in: str, note: str) -> ClaimRecord:
    if claim.id in ("poor_initialisation", "zero_initialisation"):
        row = ASKED[claim.id][0]
        baselines = {PLAIN: arms[row, False].mean}
        if claim.id == "poor_initialisation":
            baselines["dropout"] = arms[DROPOUT, False].mean
        note = f"{_ends(arms[row, True], arms[row, False])}. {note}"
        if claim.id == "poor_initialisation":
            clipped = "; ".join(f"{limit} {_difference(arms, f'simple_clip_{limit}')}" for limit in (100, 10))
            note = f"With noise minus without where gradients are clipped: {clipped}. {note}"
        return comparative_record(claim, arms[row, True].mean, baselines, undecided=stand_in, note=note)
    if claim.id == "good_initialisation":
        measured = _changes(arms, "he_clip_10")
        baselines = {"simple": _changes(arms, "simple_clip_10"), "zero": _changes(arms, "zero_clip_10")}
        told = {"He": "he_clip_10", "random walk": "random_walk_clip_10"}
    else:
        measured, baselines = _changes(arms, SHALLOW), {"twenty_layers": _changes(arms, "simple")}
        told = {"five layers": SHALLOW}
    signed = "; ".join(f"{name} {_difference(arms, row)}" for name, row in told.items())
    return comparative_record(
        claim, measured, baselines, undecided=stand_in, note=f"With noise minus without: {signed}. {note}"
    )


def _ends(noisy: Reached, quiet: Reached) -> str:
    """Best runs, and where all of them end: a measured accuracy is that of a step that validation picks."""
    return (
        f"Best run {noisy.best:.1f} with noise, {quiet.best:.1f} without. At the last step all runs together have "
        f"{noisy.last:.1f} and {quiet.last:.1f} on validation data, where one that has diverged counts 0 "
        f"({noisy.diverged} with noise, {quiet.diverged} without)"
    )


def _difference(arms: Arms, row: str) -> str:
    """With noise minus without, with its interval."""
    if len(arms[row, True].mean) < 2:
        return f"{arms[row, True].mean[0] - arms[row, False].mean[0]:+.2f}"
    one = paired_difference(arms[row, True].mean, arms[row, False].mean)
    return f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}]"


def _table_rows(arms: Arms) -> dict[str, dict[str, list[float]]]:
    rows: dict[str, dict[str, list[float]]] = {}
    for row in dict.fromkeys(row for row, _ in arms):
        values = rows.setdefault(row, {})
        for noisy, name in ((False, PLAIN), (True, NOISE)):
            if (row, noisy) in arms:
                values[f"{name}_best"], values[name] = [arms[row, noisy].best], arms[row, noisy].mean
        if (row, True) in arms:
            values["gain"] = [
                one - other for one, other in zip(arms[row, True].mean, arms[row, False].mean, strict=True)
            ]
    return rows


def _setting_in_words(settings: DeepMLPSettings, splits: DataSplits) -> str:
    several = len(settings.learning_rates) > 1
    rates = ("mean over the learning rates " if several else "learning rate ") + " and ".join(
        f"{rate:g}" for rate in settings.learning_rates
    )
    if sorted(settings.learning_rates) != sorted(PAPER_RATES):
        rates += " (the paper's averages are over 0.1 and 0.01, which lowers them)"
    return (
        f"{splits.name}: {len(splits.train)} training and {len(splits.test)} test pictures; {settings.steps} steps of "
        f"{settings.batch_size} pictures, {rates}, η = {settings.noise:g}; validation "
        f"picks each network's step. The paper gives neither batch nor length of training, nor what share of units "
        f"dropout drops ({settings.dropout:g} here), so the order is what is claimed"
    )


def _diverged_in_words(arms: Arms) -> str:
    told = [f"{row}{' with noise' * noisy} {one.diverged}" for (row, noisy), one in arms.items() if one.diverged]
    return f". Runs that diverged after their best step: {', '.join(told)}" if told else ""


def variance_of_noise(claim: Claim) -> ClaimRecord:
    """Measure the noise that the optimiser adds to a gradient of zeros."""
    errors = {step: _relative_error(step) for step in VARIANCE_STEPS}
    largest = max(errors.values(), key=abs)
    told = ", ".join(f"{error:+.4f} at step {step}" for step, error in errors.items())
    return exact_record(
        claim,
        abs(largest),
        holds=abs(largest) < LARGEST_ERROR,
        note=f"Relative error of the variance of {NUM_DRAWS:,} draws: {told}; its standard error is 0.0014",
    )


def _relative_error(step: int, eta: float = 0.3) -> float:
    parameter = nn.Parameter(torch.zeros(NUM_DRAWS))
    parameter.grad = torch.zeros(NUM_DRAWS)
    optimizer = GradientNoise(torch.optim.SGD([parameter], lr=1.0), eta)
    optimizer.num_steps = step
    optimizer.step()
    return float(parameter.detach().double().var()) / noise_variance(step, eta) - 1


PART = DeepMLPPart()
