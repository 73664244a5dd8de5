"""Plots of a record as SVG text: learning curves, and every seed's value beside the baselines'."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from encore.results.record import ArmRecord, ClaimRecord

PALETTE = ("#1b5e9e", "#d1663b", "#5b8c3a", "#8a4f9e", "#b58a1e", "#4a4a4a")
_STYLE: Any = {
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "svg.fonttype": "none",
    "svg.hashsalt": "encore",
}


def learning_curves(arms: Sequence[ArmRecord]) -> str | None:
    """One panel per curve (`train_loss`, `val_…`), one line per arm and seed; None without curves.

    Returns:
        An SVG element without XML header.
    """
    quantities = sorted({name for arm in arms for row in arm.curves for name in row} - {"epoch"})
    if not quantities:
        return None
    quantities.sort(key=lambda name: (name != "train_loss", name != "val_loss", name))
    names = list(dict.fromkeys(arm.arm for arm in arms))
    columns = min(2, len(quantities))
    lines = math.ceil(len(quantities) / columns)
    with matplotlib.rc_context(_STYLE):
        picture = Figure(figsize=(3.7 * columns, 2.3 * lines), layout="constrained")
        axes = picture.subplots(lines, columns, squeeze=False).ravel()
        for axis, quantity in zip(axes, quantities, strict=False):
            labelled: set[str] = set()
            for arm in arms:
                points = [(row["epoch"], row[quantity]) for row in arm.curves if quantity in row]
                label = None if arm.arm in labelled else arm.arm
                labelled.add(arm.arm)
                colour = PALETTE[names.index(arm.arm) % len(PALETTE)]
                axis.plot(*zip(*points, strict=True), color=colour, linewidth=1.1, alpha=0.85, label=label)
            axis.set_title(quantity.replace("_", " "))
        for axis in axes[len(quantities) :]:
            axis.set_visible(False)
        for axis in axes[max(0, len(quantities) - columns) : len(quantities)]:
            axis.set_xlabel("epoch")
        picture.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return _svg(picture)


def seed_values(claims: Iterable[ClaimRecord]) -> str | None:
    """For each comparative claim every seed's value and the mean, method and baselines side by side."""
    shown = [claim for claim in claims if claim.kind == "comparative" and claim.measured is not None]
    if not shown:
        return None
    with matplotlib.rc_context(_STYLE):
        height = 0.7 + max(1 + len(claim.baselines) for claim in shown) * 0.32
        picture = Figure(figsize=(7.4, height * len(shown)), layout="constrained")
        axes = picture.subplots(len(shown), 1, squeeze=False).ravel()
        for axis, claim in zip(axes, shown, strict=True):
            assert claim.measured is not None
            rows = [(one.name, one) for one in reversed(claim.baselines)] + [("method", claim.measured)]
            for place, (name, measured) in enumerate(rows):
                colour = PALETTE[0] if name == "method" else "#777777"
                axis.plot(measured.values, [place] * measured.n, "o", color=colour, alpha=0.55, markersize=5)
                axis.plot([measured.mean], [place], "|", color=colour, markersize=16, markeredgewidth=2)
            axis.set_yticks(range(len(rows)), [name for name, _ in rows])
            axis.set_ylim(-0.6, len(rows) - 0.4)
            axis.set_title(f"{claim.metric.replace('_', ' ')} ({claim.unit})")
            axis.grid(axis="x", color="#e5e5e5")
        return _svg(picture)


def _svg(picture: Figure) -> str:
    buffer = io.StringIO()
    picture.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"',
        r"\1",
        re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1),
        count=1,
    )
