"""Pictures of many networks that learn at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from encore.base.files import replacing
from encore.papers.gradient_noise.deep_mlp import Setting
from encore.results.plots import PALETTE

COLUMNS = 3


def accuracy_curves(
    arms: Sequence[tuple[str, bool]], settings: Sequence[Setting], curves: Sequence[dict[str, Any]], path: Path
) -> None:
    """Validation accuracy against steps: a panel for each row, a line for each network.

    Args:
        arms: row and whether there is noise, of each setting.
        settings: of the ensemble.
        curves: rows of `step` and `accuracy` (S, A).
        path: a PNG.
    """
    rows = list(dict.fromkeys(row for row, _ in arms))
    rates = sorted({setting.learning_rate for setting in settings}, reverse=True)
    columns = min(COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    steps = [one["step"] for one in curves]
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(3.3 * columns, 2.3 * lines + 0.6), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
        labelled: dict[str, Any] = {}
        for panel, row in zip(panels, rows, strict=False):
            for place, (name, noisy) in enumerate(arms):
                if name != row:
                    continue
                rate = settings[place].learning_rate
                for seed in range(len(curves[0]["accuracy"])):
                    (line,) = panel.plot(
                        steps,
                        [one["accuracy"][seed][place] for one in curves],
                        color=PALETTE[0 if noisy else 1],
                        linestyle="-" if rate == rates[0] else ":",
                        linewidth=1.1,
                        alpha=0.7,
                    )
                    labelled[f"{'noise' if noisy else 'no noise'}, rate {rate:g}"] = line
            panel.set_title(row.replace("_", " "), loc="left", fontsize=9)
            panel.set_ylim(0, 100)
        for panel in panels[len(rows) :]:
            panel.set_visible(False)
        for panel in panels[max(0, len(rows) - columns) : len(rows)]:
            panel.set_xlabel("step")
        figure.supylabel("validation accuracy, %", fontsize=9)
        figure.legend(labelled.values(), labelled.keys(), loc="outside lower center", ncols=4, frameon=False)
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=130, format="png")
