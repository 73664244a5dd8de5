"""Where an activation is not smooth: kinks found by looking, with what jumps there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_RANGE = 24.0
"""Kinks are looked for within ±24."""

_GRID = 4801

_COARSE, _FINE = 0.04, 0.002
"""How far on each side of a suspect place the function is fitted."""


@dataclass(frozen=True)
class Kink:
    """A place where a function or one of its first two derivatives jumps.

    Attributes:
        position: z.
        values, slopes, curvatures: of the function, from the left and from the right.
    """

    position: float
    values: tuple[float, float]
    slopes: tuple[float, float]
    curvatures: tuple[float, float]


def probe_kinks(function: Callable[[Tensor], Tensor], name: str = "") -> tuple[Kink, ...]:
    """Kinks of an elementwise function within ±24, from its values alone.

    A cell is suspect where the third difference stands out against its neighbours'; the place is then narrowed down by
    halving, and kept if a jump of value, slope or curvature remains. Jumps that are smaller than about a thousandth are
    not seen.

    Args:
        function: (N,) float64 → (N,).
        name: for the reader alone.
    """
    return tuple(kink for centre in _suspects(function) if (kink := _kink_near(function, centre)) is not None)


def _suspects(function: Callable[[Tensor], Tensor]) -> list[float]:
    # half a cell off, so that no point of the grid is a likely kink
    grid = torch.linspace(-_RANGE, _RANGE, _GRID, dtype=torch.float64) + 0.31 * (2 * _RANGE / (_GRID - 1))
    with torch.no_grad():
        values = function(grid).double()
    third = torch.diff(values, n=3).abs()
    third = torch.where(values[:-3].abs() < 1e6, third, 0.0)  # beyond, rounding is all there is to see
    third = torch.nan_to_num(third, nan=0.0, posinf=0.0)
    width = 12
    around = torch.nn.functional.max_pool1d(third[None, None], 2 * width + 1, 1, width)[0, 0]
    far = torch.stack([third.roll(8), third.roll(-8), third.roll(16), third.roll(-16)]).amax(0)
    step = 2 * _RANGE / (_GRID - 1)
    scale = values.abs().clamp(1e-3, 1e3)[:-3]
    peaks = (third == around) & (third > 3 * far) & (third > 1e-4 * step**2 * scale)
    return [float(grid[index] + 1.5 * step) for index in torch.nonzero(peaks).ravel()]


def _kink_near(function: Callable[[Tensor], Tensor], centre: float) -> Kink | None:
    width = 2.0 * (2 * _RANGE / (_GRID - 1))
    position = _narrowed(function, centre - width, centre + width)
    if not _jumps(function, position, _FINE):  # a bend that is only steep is smooth when seen from near
        return None
    left, right = (_one_sided(function, position, side) for side in (-1.0, 1.0))
    jumps = [abs(one - other) for one, other in zip(left, right, strict=True)]
    sizes = [max(1.0, abs(one), abs(other)) for one, other in zip(left, right, strict=True)]
    tolerances = (1e-7, 1e-6, 1e-3)
    if not any(jump > tolerance * size for jump, tolerance, size in zip(jumps, tolerances, sizes, strict=True)):
        return None
    pairs = [
        (_rounded(one, digits), _rounded(one if jump <= tolerance * size else other, digits))
        for one, other, jump, tolerance, size, digits in zip(
            left, right, jumps, tolerances, sizes, (11, 9, 7), strict=True
        )
    ]
    return Kink(position, *pairs)


def _narrowed(function: Callable[[Tensor], Tensor], low: float, high: float) -> float:
    """The place between `low` and `high` where lines fitted on both sides meet, or where the value jumps."""
    simple = round((low + high) / 2, 1)
    for guess in (0.0, simple, float(round(simple))):
        if low <= guess <= high and _jumps(function, guess):
            return guess
    for _ in range(40):
        grid = torch.linspace(low, high, 33, dtype=torch.float64)
        with torch.no_grad():
            values = function(grid).double()
        order = 1 if high - low < 1e-6 else 2
        rough = torch.diff(values, n=order).abs()
        best = int(rough.argmax())
        step = (high - low) / 32
        low, high = float(grid[best]) - step, float(grid[min(best + order, 32)]) + step
        if high - low < 1e-9:
            break
    return (low + high) / 2


def _jumps(function: Callable[[Tensor], Tensor], position: float, reach: float = _COARSE) -> bool:
    left, right = (_one_sided(function, position, side, reach) for side in (-1.0, 1.0))
    return any(
        abs(one - other) > tolerance * max(1.0, abs(one), abs(other))
        for one, other, tolerance in zip(left, right, (1e-7, 1e-6, 1e-3), strict=True)
    )


def _one_sided(
    function: Callable[[Tensor], Tensor], position: float, side: float, reach: float = _COARSE
) -> tuple[float, float, float]:
    """Value, slope and curvature at `position`, from a polynomial through Chebyshev points on one side of it."""
    degree = 10
    points = torch.arange(degree + 1, dtype=torch.float64)
    t = (1 - torch.cos(torch.pi * (points + 0.5) / (degree + 1))) / 2  # 0 … 1, without the ends
    with torch.no_grad():
        values = function(position + side * reach * t).double()
    powers = torch.vander(t, degree + 1, increasing=True)
    coefficients = torch.linalg.solve(powers, values)
    value, slope, bend = (float(one) for one in coefficients[:3])
    return value, side * slope / reach, 2 * bend / reach**2


def _rounded(value: float, digits: int) -> float:
    """The value, or the number of at most three decimals that it is but for its error in the given decimal."""
    nearest = round(value, 3)
    return nearest + 0.0 if abs(value - nearest) < 10.0**-digits else value
