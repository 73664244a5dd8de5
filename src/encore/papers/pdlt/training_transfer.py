"""Do learning rates transfer between widths and depths? The book's rates for each layer against one rate for all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from encore.base.cards import Claim
from encore.nn.critical_init import layer_rates
from encore.nn.criticality import critical_point
from encore.papers.pdlt.training_arms import FUNCTIONS
from encore.papers.pdlt.training_networks import LayerRate, LayerStart, NetworkPlan
from encore.papers.pdlt.training_runs import Digits, TrainedNetwork, trained
from encore.papers.pdlt.training_settings import TrainingSettings
from encore.results.performance import Performance
from encore.results.record import ClaimRecord, comparative_record

BOOK, UNIFORM = "book", "one_rate_for_all"

ACTIVATIONS = ("tanh", "relu")

Shape = tuple[int, int]
"""Width and depth."""

Curves = dict[tuple[str, str, Shape], dict[int, dict[float, float]]]
"""By activation, arm and shape; then by seed: the loss at each rate."""


def transfer_plans(
    activation: str, widths: Sequence[int], seeds: Sequence[int], rates: Sequence[float]
) -> list[NetworkPlan]:
    """Critical networks of one shape at every rate, with the book's rates for each layer (9.94, 9.96) and without."""
    point = critical_point(activation)
    depth = len(widths) - 1
    starts = (LayerStart(point.weight_variance, point.bias_variance),) * depth
    by_layer = tuple(LayerRate(*layer_rates(point, layer, depth)) for layer in range(1, depth + 1))
    return [
        NetworkPlan(name, seed, rate, starts, by_layer if name == BOOK else None)
        for name in (BOOK, UNIFORM)
        for rate in rates
        for seed in seeds
    ]


def shapes(settings: TrainingSettings) -> list[Shape]:
    """Every width with every depth."""
    return [(width, depth) for width in settings.transfer_widths for depth in settings.transfer_depths]


def layer_widths(shape: Shape, digits: Digits) -> list[int]:
    """n_0 … n_L."""
    width, depth = shape
    return [digits.num_inputs, *[width] * (depth - 1), digits.num_classes]


def measured_curves(performance: Performance, settings: TrainingSettings, digits: Digits) -> Curves:
    """Train all of it."""
    curves: Curves = {}
    for activation in ACTIVATIONS:
        for shape in shapes(settings):
            widths = layer_widths(shape, digits)
            networks = trained(
                performance,
                f"transfer_{activation}_{shape[0]}x{shape[1]}",
                transfer_plans(activation, widths, performance.seeds, settings.transfer_rates),
                widths,
                FUNCTIONS[activation],
                digits,
                steps=settings.transfer_steps,
                batch_size=settings.batch_size,
                at_once=settings.networks_at_once,
            )
            for name in (BOOK, UNIFORM):
                curves[activation, name, shape] = _by_seed([one for one in networks if one.name == name])
    return curves


def _by_seed(networks: Sequence[TrainedNetwork]) -> dict[int, dict[float, float]]:
    found: dict[int, dict[float, float]] = {}
    for one in networks:
        found.setdefault(one.seed, {})[one.learning_rate] = one.loss
    return found


def best(losses: dict[float, float]) -> float:
    """The rate of the lowest loss."""
    return min(losses, key=lambda rate: losses[rate])


def spreads(curves: Curves, activation: str, name: str) -> list[float]:
    """For each seed the largest of the shapes' best rates over the smallest."""
    of_arm = [by_seed for (sigma, arm, _), by_seed in curves.items() if (sigma, arm) == (activation, name)]
    found = []
    for seed in sorted(of_arm[0]):
        rates = [best(by_seed[seed]) for by_seed in of_arm]
        found.append(max(rates) / min(rates))
    return found


def transfer_record(claim: Claim, curves: Curves, settings: TrainingSettings, undecided: str) -> ClaimRecord:
    """The geometric mean over the activations of how much the best rate varies between shapes."""
    by_arm = {
        name: [
            math.exp(sum(math.log(one) for one in of_seed) / len(of_seed))
            for of_seed in zip(*(spreads(curves, activation, name) for activation in ACTIVATIONS), strict=True)
        ]
        for name in (BOOK, UNIFORM)
    }
    each = "; ".join(
        f"{activation}: {' against '.join(_shown(spreads(curves, activation, name)) for name in (BOOK, UNIFORM))}"
        for activation in ACTIVATIONS
    )
    lowest = "; ".join(
        f"{activation}: {' against '.join(_lowest(curves, activation, name) for name in (BOOK, UNIFORM))}"
        for activation in ACTIVATIONS
    )
    edges = _at_the_edge(curves, settings.transfer_rates)
    note = (
        f"Largest over smallest best rate among widths {_words(settings.transfer_widths)} and depths "
        f"{_words(settings.transfer_depths)}, by the mean training loss of the last quarter of "
        f"{settings.transfer_steps} steps; {each}. Rates differ by factors of "
        f"{settings.transfer_rates[1] / settings.transfer_rates[0]:.3g}. The claim is about where the best rate lies, "
        f"not about how low the loss is; lowest losses, means over shapes and seeds: {lowest}"
    )
    if edges:
        note += f". The best rate lies at the edge of the grid, so that the spread may be larger: {', '.join(edges)}"
    return comparative_record(claim, by_arm[BOOK], {UNIFORM: by_arm[UNIFORM]}, undecided=undecided, note=note)


def _at_the_edge(curves: Curves, rates: Sequence[float]) -> list[str]:
    edges = {min(rates), max(rates)}
    return [
        f"{activation} {name} {width}×{depth}"
        for (activation, name, (width, depth)), by_seed in curves.items()
        if any(best(losses) in edges for losses in by_seed.values())
    ]


def _lowest(curves: Curves, activation: str, name: str) -> str:
    losses = [
        min(one.values())
        for (sigma, arm, _), by_seed in curves.items()
        if (sigma, arm) == (activation, name)
        for one in by_seed.values()
    ]
    return f"{sum(losses) / len(losses):.2f}"


def _shown(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def _words(values: Sequence[int]) -> str:
    return " and ".join(str(value) for value in values)
