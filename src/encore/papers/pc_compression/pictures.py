"""Plots of what the recipe measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from encore.base.files import replacing


def rate_picture(files: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Bits per dimension over megabytes per second of decompression, a point for each codec."""
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, rows in files.items():
        rate = sum(one["file"] for one in rows) / len(rows)
        speed = sum(one["decompress"] for one in rows) / len(rows)
        is_ours = name == "hclt"
        axes.plot(speed, rate, "o", color="#b3322e" if is_ours else "#33658a", markersize=8 if is_ours else 6)
        axes.annotate(name.replace("_", " "), (speed, rate), xytext=(7, 5), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.margins(x=0.15, y=0.12)
    axes.set_xlabel("decompression, 10⁶ values a second →")
    axes.set_ylabel("bits per dimension of the files, models left out ↓")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
