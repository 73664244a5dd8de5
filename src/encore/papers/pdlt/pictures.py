"""Theory and ensembles in one picture: lines are predicted, points measured, bars are standard errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encore.base.files import replacing
from encore.papers.pdlt.ensemble_claims import FACTORS, SKIP, EnsembleClaims
from encore.papers.pdlt.ensemble_runs import (
    SCALE_INVARIANT,
    SLOWLY_FALLING,
    critical_setting,
    tangent_rates,
)
from encore.papers.pdlt.exact import scale_invariant_vertex
from encore.papers.pdlt.recursions import recursions
from encore.papers.pdlt.residual import vertices
from encore.papers.pdlt.scales import HALF_STABLE
from encore.papers.pdlt.statistics import Estimate
from encore.results.plots import PALETTE

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8,
}


def _points(axis: Axes, x: Sequence[float], found: Estimate, colour: str, label: str, every: int = 1) -> None:
    places = list(range(len(x)))[::every]
    axis.errorbar(
        [x[place] for place in places],
        [float(found.value[place]) for place in places],
        [float(found.error[place]) for place in places],
        fmt="o",
        markersize=3,
        linewidth=0.9,
        color=colour,
        label=label,
    )


def _written(figure: Figure, path: Path) -> Path:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    return path


def kernel_picture(claims: EnsembleClaims, path: Path) -> str:
    """E[z²] over depth for the widest and the narrowest ensembles of every class; returns the caption."""
    widths = claims.settings.widths
    shown = dict(zip((widths[0], widths[-1]), PALETTE, strict=False))
    names = ("relu", *SLOWLY_FALLING, *HALF_STABLE)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 5.6), layout="constrained")
        for axis, name in zip(figure.subplots(2, 2).ravel(), names, strict=True):
            depth, setting = claims.settings.depth_of(name), critical_setting(name)
            theory = setting.theory(depth)
            layers = [one.layer for one in theory]
            axis.plot(layers, [one.K for one in theory], color="#777777", linestyle="--", label="K (infinite width)")
            for width, colour in shown.items():
                due = [one.K + one.G1 / width for one in theory]
                axis.plot(layers, due, color=colour, linewidth=1)
                found = claims.runs.signals(name, width, depth)["metric"]
                _points(axis, layers, found, colour, f"width {width}", max(1, depth // 20))
            if name in SLOWLY_FALLING:
                axis.set_xscale("log")
                axis.set_yscale("log")
            axis.set_title(f"{name}")
            axis.set_xlabel("layer ℓ")
            axis.set_ylabel("E[z²]")
        axis.legend()
        _written(figure, path)
    return (
        "The mean square of preactivations at criticality, layer by layer: ensembles of real networks (points) and the "
        "kernel with its first correction in one over the width (lines; dashed: infinite width). Bars are standard "
        "errors; where ν·ℓ/n is above about one half, as of ReLU of width 30 from layer 4 on, a few networks rule the "
        "averages and the bars are too short."
    )


def growth_picture(claims: EnsembleClaims, path: Path) -> str:
    """The normalised four-point function against L/n; returns the caption."""
    names = (*SCALE_INVARIANT, "tanh", *HALF_STABLE)
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 6), layout="constrained")
        for axis, name in zip(figure.subplots(2, 2).ravel(), names, strict=True):
            depth, setting = claims.settings.depth_of(name), critical_setting(name)
            theory = setting.theory(depth)
            widths = claims.settings.widths
            for width, colour in zip(widths, PALETTE, strict=False):
                found = claims.runs.signals(name, width, depth)["normalised_vertex"]
                kept = [
                    place
                    for place, one in enumerate(theory)
                    if one.layer > 1 and one.normalised_vertex(width) < 1.2 and one.layer % max(1, depth // 20) == 0
                ]
                ratios = [theory[place].layer / width for place in kept]
                _points(axis, ratios, found[kept], colour, f"width {width}")
                if name in SCALE_INVARIANT:
                    due = [scale_invariant_vertex(setting.growth, theory[place].layer, width) / width for place in kept]
                    axis.plot(ratios, due, color=colour, linewidth=0.9)
                else:
                    due = [theory[place].normalised_vertex(width) for place in kept]
                    axis.plot(ratios, due, color=colour, linewidth=0.9)
            end = axis.get_xlim()[1]
            axis.plot(
                [0, end], [0, setting.growth * end], color="#999999", linestyle=":", label=f"{setting.growth:.3g}·ℓ/n"
            )
            axis.set_title(name)
            axis.set_xlabel("depth over width, ℓ/n")
            axis.set_ylabel("E[z²z²]/E[z²]² − 1")
            axis.set_xlim(left=0)
            axis.legend()
        _written(figure, path)
    return (
        "Connected four-point function of different neurons over the squared metric, against depth over width. Points "
        "are ensembles of real networks with standard errors; lines are theory: for linear and ReLU exact at every "
        "width, for tanh and GELU to first order, so that points leave them as ℓ/n grows; dotted: the asymptote ν·ℓ/n."
    )


def tangent_picture(claims: EnsembleClaims, path: Path) -> str:
    """Mean and fluctuations of the tangent kernel; returns the caption."""
    depth, widths = claims.settings.kernel_depth, claims.settings.kernel_widths
    quantities = {"mean": "E[Ĥ]", "A": "A", "B": "B", "D": "D", "F": "F"}
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(12, 5), layout="constrained")
        grid = figure.subplots(2, len(quantities))
        for row, name in zip(grid, ("relu", "tanh"), strict=True):
            theory = critical_setting(name).theory(depth, tangent_rates(name, depth))
            layers = [one.layer for one in theory]
            for axis, (quantity, label) in zip(row, quantities.items(), strict=True):
                field = "theta" if quantity == "mean" else quantity
                axis.plot(layers, [getattr(one, field) for one in theory], color="#444444", linewidth=1, label="theory")
                for width, colour in zip((widths[0], widths[-1]), PALETTE, strict=False):
                    _points(axis, layers, claims.runs.kernels(name, width)[quantity], colour, f"width {width}")
                axis.set_title(f"{label}, {name}")
                axis.set_xlabel("layer ℓ")
        grid[0][0].legend()
        _written(figure, path)
    return (
        "The neural tangent kernel of real networks: its mean and its fluctuations A, B, D, F (a factor 1/n pulled "
        "out) against the recursions of first order; narrow networks lie further from them."
    )


def law_picture(claims: EnsembleClaims, path: Path) -> str:
    """E[z²] over depth at and off criticality; returns the caption."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        for axis, name in zip(figure.subplots(1, 3), ("relu", "tanh", "sin"), strict=True):
            for factor, colour in zip(FACTORS[name], PALETTE, strict=False):
                found = claims.runs.law(name, factor, claims.settings.depth)["metric"]
                layers = [float(one + 1) for one in range(len(found.value))]
                label = "critical" if factor == 1 else f"{100 * (factor - 1):+.0f} %"
                _points(axis, layers, found, colour, label, max(1, len(layers) // 20))
                axis.plot(layers, _law_theory(name, factor, len(layers)), color=colour, linewidth=0.9)
            axis.set_yscale("log")
            axis.set_title(name)
            axis.set_xlabel("layer ℓ")
            axis.set_ylabel("E[z²]")
            axis.legend()
        _written(figure, path)
    return (
        "At the critical weight variance the kernel stays (ReLU) or falls as a power of depth (tanh, sin); a quarter "
        "less or more changes it exponentially. Points: real networks; lines: the kernel recursion."
    )


def _law_theory(name: str, factor: float, depth: int) -> list[float]:
    setting = critical_setting(name)
    found = recursions(setting.activation, depth, weight_variance=factor * setting.weight_variance)
    return [one.K for one in found]


def residual_picture(claims: EnsembleClaims, path: Path) -> str:
    """The vertex of ReLU networks with skip connections: the book's recursion, the corrected one, and ensembles."""
    depth, widths = claims.settings.residual_depth, claims.settings.residual_widths
    theory = vertices(critical_setting("relu").activation, depth, weight_variance=1.0, skip=SKIP)
    layers = [float(one.layer) for one in theory]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 3.4), layout="constrained")
        axis = figure.subplots()
        axis.plot(layers, [one.book_vertex for one in theory], color="#999999", linestyle="--", label="book, B.26")
        axis.plot(layers, [one.V for one in theory], color="#222222", label="with E[z²z] of different neurons")
        for width, colour in zip((widths[0], widths[-1]), PALETTE, strict=False):
            found = claims.runs.residual("relu", width, depth, SKIP)["vertex"]
            _points(axis, layers, found, colour, f"width {width}")
        axis.set_xlabel("layer ℓ")
        axis.set_ylabel("V/K²")
        axis.legend()
        _written(figure, path)
    return (
        "ReLU networks with skip connections of γ² = ½. The book's recursion leaves out correlations of an odd number "
        "of preactivations; with them theory meets ensembles, up to corrections of higher order in one over the width."
    )


PICTURES: dict[str, tuple[tuple[str, ...], Callable[[EnsembleClaims, Path], str]]] = {
    "kernel": (("ensemble_kernel", "critical_exponents"), kernel_picture),
    "four_point_growth": (("four_point_growth", "relu_fluctuations"), growth_picture),
    "tangent_kernels": (("tangent_kernel_mean", "tangent_kernel_fluctuations"), tangent_picture),
    "laws_of_depth": (("power_and_exponential",), law_picture),
    "residual": (("residual_relu_fluctuations",), residual_picture),
}
"""The claims that each picture belongs to, and what draws it."""
