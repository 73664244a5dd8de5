"""The verdict rule: one for all claims.

A comparative claim holds if the 95 % interval of the paired difference (method minus baseline, seed by
seed) lies in the claim's direction against every baseline, is broken if it lies in the other direction
against any, and stays open otherwise. A claim to be about as good is judged by the same rule, counted from a
margin on the other side of the baseline instead of from the baseline itself. See DESIGN "Honest claims".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # scipy.stats has it too, and takes most of a second to load

from encore.base.cards import Direction

CONFIDENCE = 0.95
FEWEST_SEEDS = 3


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95 % interval (Student's t)."""

    mean: float
    low: float
    high: float


def confidence_interval(values: Sequence[float]) -> Interval:
    """The interval of the mean of `values`; unbounded where fewer than two are given.

    Args:
        values: independent measurements, at least one.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return Interval(mean, -math.inf, math.inf)
    half = float(stdtrit(len(array) - 1, (1 + CONFIDENCE) / 2) * array.std(ddof=1) / math.sqrt(len(array)))
    return Interval(mean, mean - half, mean + half)


def paired_difference(measured: Sequence[float], baseline: Sequence[float]) -> Interval:
    """The interval of measured minus baseline over paired seeds.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(measured) != len(baseline):
        raise ValueError(f"{len(measured)} measurements cannot be paired with {len(baseline)} of the baseline")
    return confidence_interval([one - other for one, other in zip(measured, baseline, strict=True)])


def comparative_verdict(
    direction: Direction,
    measured: Sequence[float],
    baselines: Mapping[str, Sequence[float]],
    margin: float = 0.0,
) -> tuple[bool | None, str]:
    """Decide a comparative claim.

    Args:
        direction: `higher` or `lower`.
        measured: the method's value for each seed.
        baselines: each baseline's values for the same seeds.
        margin: how far the method may lie on the other side of a baseline, from 0 on.

    Returns:
        (holds, why): True, False or None, and a sentence with the intervals.
    """
    if len(measured) < FEWEST_SEEDS:
        return None, f"{len(measured)} seed{'s' * (len(measured) > 1)}: no interval, so no verdict"
    sign = 1.0 if direction == "higher" else -1.0
    outcomes: list[bool | None] = []
    sentences = []
    for name, values in baselines.items():
        difference = paired_difference(measured, values)
        low, high = sorted((sign * difference.low, sign * difference.high))
        outcomes.append(True if low > -margin else False if high < -margin else None)
        sentences.append(f"{difference.mean:+.3g} over {name} [{difference.low:+.3g}, {difference.high:+.3g}]")
    why = "Difference, 95 % interval: " + "; ".join(sentences)
    if margin:
        why += f"; asked is whether it lies {'above' if sign > 0 else 'below'} {-sign * margin:+g}"
    if any(outcome is False for outcome in outcomes):
        return False, why
    return (True if outcomes and all(outcomes) else None), why
