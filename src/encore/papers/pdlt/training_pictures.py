"""Plots of the training experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from encore.base.files import replacing
from encore.papers.pdlt.training_runs import TrainedNetwork
from encore.papers.pdlt.training_transfer import ACTIVATIONS, BOOK, UNIFORM, Curves

_COLOURS = ("#1b5e9e", "#d1663b", "#5b8c3a", "#8a4f9e", "#b58a1e", "#4a4a4a", "#2a9d8f", "#c05780", "#7f7f7f")
_WORDS = {BOOK: "the book's rates for each layer", UNIFORM: "one rate for all"}


def accuracy_picture(results: Mapping[str, Mapping[str, Sequence[TrainedNetwork]]], path: Path) -> None:
    """A panel for each activation, a row for each arm, a dot for each seed."""
    rows = max(len(arms) for arms in results.values())
    figure = Figure(figsize=(3.4 * len(results) + 1.2, 0.9 + 0.36 * rows), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (activation, arms) in zip(panels, results.items(), strict=True):
        names = list(arms)[::-1]
        for place, name in enumerate(names):
            values = [one.test for one in arms[name]]
            colour = _COLOURS[0] if name == "critical" else "#777777"
            axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.6, markersize=5)
            axes.plot([sum(values) / len(values)], [place], "|", color=colour, markersize=15, markeredgewidth=2)
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names], fontsize=8)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(-2, 102)
        axes.axvline(10, color="#cccccc", linewidth=0.8, zorder=0)
        axes.set_title(activation, loc="left", fontsize=10)
        axes.set_xlabel("test accuracy, %", fontsize=9)
        axes.grid(axis="x", color="#eeeeee")
        _bare(axes)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def transfer_picture(curves: Curves, path: Path) -> None:
    """Mean loss over the rate, a row for each activation, a column for each way, a line for each shape."""
    figure = Figure(figsize=(7.6, 2.7 * len(ACTIVATIONS) + 0.4), layout="constrained")
    panels = figure.subplots(len(ACTIVATIONS), 2, squeeze=False, sharey="row")
    for row, activation in zip(panels, ACTIVATIONS, strict=True):
        for axes, name in zip(row, (BOOK, UNIFORM), strict=True):
            lines = [
                (shape, found) for (sigma, arm, shape), found in curves.items() if (sigma, arm) == (activation, name)
            ]
            for colour, ((width, depth), by_seed) in zip(_COLOURS, lines, strict=False):
                rates = sorted(next(iter(by_seed.values())))
                means = [_mean_or_nan([losses[rate] for losses in by_seed.values()]) for rate in rates]
                axes.plot(rates, means, "-", color=colour, linewidth=1.3, label=f"width {width}, {depth} layers")
                finite = [place for place, mean in enumerate(means) if math.isfinite(mean)]
                if finite:
                    lowest = min(finite, key=lambda place: means[place])
                    axes.plot(rates[lowest], means[lowest], "o", color=colour, markersize=6)
            axes.set_xscale("log", base=2)
            axes.set_xlim(rates[0], rates[-1])
            axes.set_ylim(0, 2.6)
            axes.set_title(f"{activation}: {_WORDS[name]}", loc="left", fontsize=10)
            axes.grid(color="#eeeeee")
            _bare(axes)
        row[0].set_ylabel("training loss", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("global learning rate η", fontsize=9)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _mean_or_nan(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return mean if math.isfinite(mean) else math.nan


def _bare(axes: object) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)  # type: ignore[attr-defined]
