"""Sentences that say truthfully what a picture shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from encore.data.streets.classes import BICYCLIST, BUILDING, CAR, FENCE, PEDESTRIAN, TREE
from encore.data.streets.street import Street

_NUMBERS = ("no", "a", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_NOUNS = {CAR: ("car", "cars"), PEDESTRIAN: ("pedestrian", "pedestrians"), BICYCLIST: ("cyclist", "cyclists")}
_CONDITIONS = {"day": "in daylight", "overcast": "under a grey sky", "dusk": "at dusk", "fog": "in fog"}
_SCENERY = ((TREE, "trees", 0.10), (BUILDING, "buildings", 0.12), (FENCE, "a fence", 0.02))
BEND = 0.0014
"""1 / metres; a road of this curvature or more is said to bend."""


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def _counted(count: int, nouns: tuple[str, str]) -> str:
    number = _NUMBERS[count] if count < len(_NUMBERS) else str(count)
    return f"{number} {nouns[0] if count == 1 else nouns[1]}"


def caption_of(street: Street, mask: NDArray[np.uint8], labels: NDArray[np.int64]) -> str:
    """Describe a picture: who is there, where, in what light, and what lines the street.

    Args:
        street: tells the light, the road's surface and its course.
        mask: (H, W) uint8, class index or void; tells what is seen on which side.
        labels: (N,) int64, class of each box.

    Returns:
        One sentence without a full stop, such as "Two cars and a cyclist on a wet road at dusk, trees on the
        left".
    """
    counts = [(int(np.count_nonzero(labels == label)), nouns) for label, nouns in _NOUNS.items()]
    present = [_counted(count, nouns) for count, nouns in counts if count]
    surface = "a wet road" if street.light.wet else "a dry road"
    subject = f"{_joined(present)} on {surface}" if present else surface.replace("a ", "an empty ", 1)
    if abs(street.road.curvature) >= BEND:
        subject += " that bends to the " + ("right" if street.road.curvature > 0 else "left")
    sentence = f"{subject} {_CONDITIONS[street.light.condition]}"
    middle = mask.shape[1] // 2
    halves = (("on the left", mask[:, :middle]), ("on the right", mask[:, middle:]))
    for class_index, noun, least in _SCENERY:
        where = [place for place, half in halves if np.count_nonzero(half == class_index) >= least * half.size]
        if where:
            sentence += f", {noun} " + (where[0] if len(where) == 1 else "on both sides")
    return sentence[0].upper() + sentence[1:]


def motion_of(street: Street, tracks: NDArray[np.int64]) -> str:
    """What happens in a clip, as a clause that follows its caption.

    Args:
        street: tells who moves where.
        tracks: (N,) int64, the objects that are seen.
    """
    seen = set(tracks.tolist())
    clauses = []
    for thing in street.moving:
        if thing.track not in seen:
            continue
        noun = _NOUNS[thing.class_index][0]
        across, along = thing.velocity
        if abs(across) > abs(along):
            clauses.append(f"a {noun} crosses from the {'left' if across > 0 else 'right'}")
        elif along < 0 and thing.class_index != PEDESTRIAN:
            clauses.append(f"a {noun} comes towards us")
        elif thing.class_index == CAR:
            clauses.append("a car drives ahead of us")
    own = "we drive on" if street.speed else "we stand still"
    unlike = list(dict.fromkeys(clauses))
    return f"; {_joined([own, *unlike])}"
