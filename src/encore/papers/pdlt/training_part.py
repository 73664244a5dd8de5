"""Practice: deep networks trained from critical and from usual beginnings, and learning rates that transfer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from encore.base.cards import Claim
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path, open_set
from encore.papers.pdlt.training_arms import (
    CRITICAL,
    DEFAULT,
    FUNCTIONS,
    KAIMING,
    LESS,
    MORE,
    TWINS,
    XAVIER,
    deep_arms,
)
from encore.papers.pdlt.training_networks import NetworkPlan
from encore.papers.pdlt.training_pictures import accuracy_picture, transfer_picture
from encore.papers.pdlt.training_runs import (
    Digits,
    TrainedNetwork,
    as_vectors,
    best_rate,
    chosen,
    rate_of_lowest_loss,
    seconds_a_network_step,
    trained,
)
from encore.papers.pdlt.training_settings import TrainingSettings
from encore.papers.pdlt.training_transfer import (
    ACTIVATIONS,
    measured_curves,
    shapes,
    transfer_plans,
    transfer_record,
)
from encore.results.parts import Part
from encore.results.performance import Performance, Plan
from encore.results.record import ClaimRecord, comparative_record
from encore.training.trainer import device_of

MNIST = "mnist"

DEEP = {"deep_tanh": "tanh", "deep_relu": "relu", "deep_gelu": "gelu"}
"""The activation of each claim about usual initialisations."""

OFF, TRANSFER = "critical_training", "learning_rate_transfer"
SOLVED = ("tanh", "relu")
"""The activations of the claim about a quarter more or less weight variance."""

USUAL = (DEFAULT, XAVIER, KAIMING)

Results = Mapping[str, list[TrainedNetwork]]
"""Of one activation, for each arm the networks of its chosen rate, by seed."""


class TrainingPart(Part):
    """Trains all arms of an activation side by side, each at the learning rate that suits it best."""

    claims = (*DEEP, OFF, TRANSFER)

    def plan(self, performance: Performance) -> Plan:
        """Times a step of a deep network in an ensemble."""
        settings: TrainingSettings = performance.configuration.training
        splits = _open(performance)
        inputs, seeds = splits.train[0]["image"][0].numel(), len(performance.seeds)
        widths = _deep_widths(settings, inputs, len(splits.classes))
        seconds, arms = 5.0, []
        asked = _asked_arms(performance)
        if asked:
            step = _step_seconds(widths, settings, "tanh")
            count = sum(len(names) for names in asked.values())
            searched = count * len(settings.search_rates) * settings.search_steps
            seconds += step * (searched + count * len(settings.refinement) * seeds * settings.steps)
            arms += [f"{settings.depth} layers of {settings.width}, {one}: {', '.join(asked[one])}" for one in asked]
        if performance.asks(TRANSFER):
            for shape in shapes(settings):
                shape_widths = [inputs, *[shape[0]] * (shape[1] - 1), len(splits.classes)]
                networks = 2 * len(settings.transfer_rates) * seeds * len(ACTIVATIONS)
                seconds += _step_seconds(shape_widths, settings, "tanh") * networks * settings.transfer_steps
            arms.append(
                f"book and one_rate_for_all at {len(settings.transfer_rates)} rates, {len(shapes(settings))} shapes"
            )
        kinds = ([(settings.width, settings.depth)] if asked else []) + (
            shapes(settings) if performance.asks(TRANSFER) else []
        )
        weights = max((width**2 * depth for width, depth in kinds), default=0) * 4 * settings.networks_at_once
        signals = max((width * depth for width, depth in kinds), default=0) * 4 * settings.networks_at_once
        return Plan(
            data=[f"{splits.name} ({', '.join(f'{part} {size}' for part, size in splits.sizes().items())})"],
            arms=arms,
            seeds=list(performance.seeds),
            seconds=seconds,
            memory_bytes=700 * 2**20 + 3 * weights + 3 * signals * settings.batch_size,
            disk_bytes=weights + 2**20,
            notes=["time of the trainings from a step of a few networks, timed here"],
        )

    def perform(self, performance: Performance) -> None:
        """Train what the claims ask for, then judge them."""
        if not performance.asks(*self.claims):
            return
        settings: TrainingSettings = performance.configuration.training
        splits = _open(performance)
        performance.use_data(splits)
        digits = as_vectors(splits, settings.training_samples, device_of(performance.runtime))
        undecided = f"{splits.name} stands in for {MNIST}, so there is no verdict" if splits.embedded else ""
        results = {
            activation: _deep_results(performance, settings, digits, activation, arms)
            for activation, arms in _asked_arms(performance).items()
        }
        if results:
            path = performance.path / "deep_training.png"
            accuracy_picture(results, path)
            performance.picture(
                path, f"Test accuracy of networks of {settings.depth} layers by how they begin, a dot for each seed."
            )
        note = (
            f"{splits.name}, {len(digits.train[0])} training pictures. {settings.depth} layers of {settings.width}, "
            f"{settings.steps} steps of plain gradient descent in batches of {settings.batch_size}. Each arm at the "
            f"best of the same {len(settings.search_rates)} rates (by loss after {settings.search_steps} steps on a "
            f"seed of its own), times the best of {', '.join(f'{one:g}' for one in settings.refinement)} by validation"
        )
        for claim in performance.claims:
            if claim.id in DEEP:
                activation = DEEP[claim.id]
                edges = _edges_in_words({activation: results[activation]}, settings)
                performance.record(_deep_record(claim, activation, results[activation], undecided, note + edges))
            elif claim.id == OFF:
                edges = _edges_in_words({one: results[one] for one in SOLVED}, settings, (CRITICAL, MORE, LESS))
                performance.record(_off_record(claim, results, undecided, note + edges))
        if performance.asks(TRANSFER):
            claim = next(one for one in performance.claims if one.id == TRANSFER)
            curves = measured_curves(performance, settings, digits)
            performance.record(transfer_record(claim, curves, settings, undecided))
            path = performance.path / "learning_rate_transfer.png"
            transfer_picture(curves, path)
            performance.picture(path, "Training loss over the global learning rate; a line for each shape of network.")


TRAINING_PART = TrainingPart()


def _open(performance: Performance) -> DataSplits:
    """MNIST where it is to be had, else scikit-learn's digits; smoke takes those unless MNIST is named."""
    roots = performance.runtime.data
    wanted = performance.scale != "smoke" or MNIST in roots
    name = MNIST if wanted and find_set_path(MNIST, roots) is not None else "digits"
    return open_set(name, image_size=None, seed=0, roots=roots)


def _asked_arms(performance: Performance) -> dict[str, list[str]]:
    """The arms to train, by activation."""
    asked: dict[str, list[str]] = {}
    for claim, activation in DEEP.items():
        usual = [name for name in USUAL if not (activation == "relu" and name == TWINS["relu"])]
        names = usual if performance.asks(claim) else []
        off = [MORE, LESS] if performance.asks(OFF) and activation in SOLVED else []
        if names or off:
            asked[activation] = [CRITICAL, *names, *off]
    return asked


def _deep_widths(settings: TrainingSettings, num_inputs: int, num_classes: int) -> list[int]:
    return [num_inputs, *[settings.width] * (settings.depth - 1), num_classes]


def _step_seconds(widths: Sequence[int], settings: TrainingSettings, activation: str) -> float:
    plan = transfer_plans(activation, widths, [0], [1e-3])[0]
    count = min(8, settings.networks_at_once)
    return seconds_a_network_step(widths, FUNCTIONS[activation], plan, settings.batch_size, count)


def _deep_results(
    performance: Performance, settings: TrainingSettings, digits: Digits, activation: str, names: Sequence[str]
) -> Results:
    """Search every arm's rate on a seed of its own, then train all seeds around it and choose by validation."""
    widths = _deep_widths(settings, digits.num_inputs, digits.num_classes)
    arms = [arm for arm in deep_arms(activation, widths) if arm.name in names]

    def networks(stage: str, plans: list[NetworkPlan], steps: int) -> list[TrainedNetwork]:
        return trained(
            performance,
            f"{activation}_{stage}",
            plans,
            widths,
            FUNCTIONS[activation],
            digits,
            steps=steps,
            batch_size=settings.batch_size,
            at_once=settings.networks_at_once,
        )

    search_seed = 1_000_000 + performance.seeds[0]
    search = [NetworkPlan(arm.name, search_seed, rate, arm.starts) for arm in arms for rate in settings.search_rates]
    tried = networks("search", search, settings.search_steps)
    rates = {arm.name: rate_of_lowest_loss(tried, arm.name) for arm in arms}
    plans = [
        NetworkPlan(arm.name, seed, factor * rates[arm.name], arm.starts)
        for arm in arms
        for factor in settings.refinement
        for seed in performance.seeds
    ]
    found = networks("seeds", plans, settings.steps)
    return {arm.name: chosen(found, arm.name, best_rate(found, arm.name)) for arm in arms}


def _accuracies(networks: Sequence[TrainedNetwork]) -> list[float]:
    return [one.test for one in networks]


def _rates_in_words(results: Results) -> str:
    return ", ".join(f"{name} {networks[0].learning_rate:.1g}" for name, networks in results.items())


def _edges_in_words(
    results: Mapping[str, Results], settings: TrainingSettings, names: Sequence[str] = (CRITICAL, *USUAL)
) -> str:
    """Arms that the largest or smallest of all rates suited best, for which a better one may lie outside."""
    limits = (
        min(settings.search_rates) * min(settings.refinement),
        max(settings.search_rates) * max(settings.refinement),
    )
    found = [
        f"{activation} {name}"
        for activation, arms in results.items()
        for name in names
        if name in arms and any(math.isclose(arms[name][0].learning_rate, limit) for limit in limits)
    ]
    return f". A better rate may lie beyond the grid for {', '.join(found)}" if found else ""


def _deep_record(claim: Claim, activation: str, results: Results, undecided: str, note: str) -> ClaimRecord:
    """Critical against the usual beginnings that are not the same thing for this activation."""
    twin = TWINS.get(activation)
    against = {name: _accuracies(results[name]) for name in USUAL if name in results and name != twin}
    if twin is not None and twin in results:
        mean = sum(_accuracies(results[twin])) / len(results[twin])
        note += (
            f". {twin} is no baseline here: for {activation} it has the critical weight variance in all hidden layers, "
            f"and reached {mean:.1f} %"
        )
    elif twin is not None:
        note += f". {twin} is no baseline here: for {activation} it is the critical initialisation itself"
    note += f". Learning rates: {_rates_in_words({name: results[name] for name in (CRITICAL, *against)})}"
    return comparative_record(claim, _accuracies(results[CRITICAL]), against, undecided=undecided, note=note)


def _off_record(claim: Claim, results: Mapping[str, Results], undecided: str, note: str) -> ClaimRecord:
    """Means over the activations, seed by seed; each activation's own figures in the note."""
    values = {
        name: [
            math.fsum(of_seed) / len(of_seed)
            for of_seed in zip(*(_accuracies(results[one][name]) for one in SOLVED), strict=True)
        ]
        for name in (CRITICAL, MORE, LESS)
    }
    each = "; ".join(
        f"{one}: "
        + ", ".join(
            f"{name} {sum(_accuracies(results[one][name])) / len(results[one][name]):.1f} %"
            for name in (CRITICAL, MORE, LESS)
        )
        for one in SOLVED
    )
    return comparative_record(
        claim,
        values[CRITICAL],
        {name: values[name] for name in (MORE, LESS)},
        undecided=undecided,
        note=f"Means over {' and '.join(SOLVED)}. {each}. {note}",
    )
