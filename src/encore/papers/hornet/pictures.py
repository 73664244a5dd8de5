"""Plots of what the recipe measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encore.base.files import replacing

Values = Mapping[str, Sequence[float]]
"""Accuracies of each arm, one per seed, in percent."""


def probe_picture(accuracies: Mapping[int, Values], path: Path) -> None:
    """Accuracies by number of steps, both budgets beside each other; a line marks chance."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    colours = plt.get_cmap("viridis")
    budgets = list(accuracies)
    height = 0.8 / len(budgets)
    names = list(accuracies[budgets[0]])
    for place, steps in enumerate(budgets):
        colour = colours(0.15 + 0.6 * place / max(len(budgets) - 1, 1))
        for row, name in enumerate(names):
            at = row + (place - (len(budgets) - 1) / 2) * height
            values = accuracies[steps][name]
            axes.barh(
                at, sum(values) / len(values), height * 0.9, color=colour, label=f"{steps} steps" if not row else None
            )
            axes.plot(values, [at] * len(values), "o", color="black", markersize=3)
    axes.axvline(50, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlim(40, 100)
    axes.set_xlabel("accuracy on held-out pairs of digits, % (chance is 50)")
    axes.legend(frameon=False, loc="lower right")
    _finish(figure, axes, path)


def accuracy_per_mac_picture(accuracies: Values, costs: Mapping[str, int], path: Path) -> None:
    """Mean accuracy over multiply-accumulates of each arm, with the range of its seeds."""
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in accuracies.items():
        mean = sum(values) / len(values)
        error = [[mean - min(values)], [max(values) - mean]]
        axes.errorbar(costs[name] / 1e6, mean, yerr=error, fmt="o", capsize=3)
        axes.annotate(
            name.replace("_", " "), (costs[name] / 1e6, mean), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.margins(x=0.2)
    axes.set_xlabel("10⁶ multiply-accumulates a picture")
    axes.set_ylabel("test accuracy, %")
    _finish(figure, axes, path)


def _finish(figure: Figure, axes: Axes, path: Path) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
