"""The ground plan: the road's course, its lanes and pavements, what is painted on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from encore.data.streets.classes import PAVEMENT, TREE
from encore.data.streets.dice import Colour, Dice

BEND = 150.0
"""Metres along Z after which the road runs straight on."""

Character = Literal["terrace", "houses", "park"]


@dataclass(frozen=True)
class Side:
    """One side of the street, seen from the camera.

    Attributes:
        sign: -1 left, +1 right.
        road_edge: metres from the centre line to the kerb.
        pavement: width of the pavement, metres.
        character: what stands along it.
        setback: metres from the pavement to the house fronts.
        parked: share of the kerb taken by parked cars, 0…1.
        beyond: class of the ground past the pavement: `tree` (grass) or `pavement`.
        yellow_line: true where a double yellow line runs along the kerb.
    """

    sign: float
    road_edge: float
    pavement: float
    character: Character
    setback: float
    parked: float
    beyond: int
    yellow_line: bool

    @property
    def outer(self) -> float:
        """Metres from the centre line to the pavement's far edge."""
        return self.road_edge + self.pavement


@dataclass(frozen=True)
class Road:
    """The course of the road and what lies on the ground.

    Attributes:
        curvature: 1 / metres, positive bends to the right.
        lane: width of a lane, metres.
        keeps: the side on which one drives: -1 left, +1 right.
        left, right: the two sides.
        centre_line: "dashed", "solid" or "none".
        zebra: Z of a zebra crossing, metres, or None.
        junction: Z at which a side road begins and ends, and the side (sign) it is on, or None.
        asphalt, paving, grass: colours of the ground, RGB 0…255.
    """

    curvature: float
    lane: float
    keeps: float
    left: Side
    right: Side
    centre_line: Literal["dashed", "solid", "none"]
    zebra: float | None
    junction: tuple[float, float, float] | None
    asphalt: Colour
    paving: Colour
    grass: Colour

    def centre(self, z: float) -> float:
        """World X of the centre line at Z."""
        if z <= 0.0:
            return 0.0
        bent = z if z < BEND else BEND
        return self.curvature * bent * (z - 0.5 * bent)

    def slope(self, z: float) -> float:
        """dX/dZ of the centre line at Z."""
        return self.curvature * min(max(z, 0.0), BEND)

    def centres(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """`centre` for an array, float32."""
        bent = np.clip(z, np.float32(0), np.float32(BEND))
        return np.float32(self.curvature) * bent * (np.maximum(z, np.float32(0)) - np.float32(0.5) * bent)

    def sides(self) -> tuple[Side, Side]:
        """Left and right."""
        return self.left, self.right


def _draw_side(dice: Dice, sign: float, lane: float, character: Character) -> Side:
    parked = dice.between(0.25, 0.85) if dice.chance(0.5) else 0.0
    setback = {"terrace": dice.between(0.0, 1.5), "houses": dice.between(2.5, 6.0), "park": 3.0}[character]
    return Side(
        sign=sign,
        road_edge=lane + (2.2 if parked else dice.between(0.2, 1.0)),
        pavement=0.5 if dice.chance(0.08) else dice.between(1.5, 3.2),
        character=character,
        setback=setback,
        parked=parked,
        beyond=PAVEMENT if character == "terrace" else TREE,
        yellow_line=not parked and dice.chance(0.4),
    )


def draw_road(dice: Dice) -> Road:
    """The ground plan of one street."""
    lane = dice.between(2.8, 3.5)
    characters: tuple[Character, ...] = ("terrace", "terrace", "terrace", "houses", "houses", "park")
    sides = [_draw_side(dice, sign, lane, dice.pick(characters)) for sign in (-1.0, 1.0)]
    begins = dice.between(14.0, 45.0)
    junction = (begins, begins + dice.between(6.0, 9.0), dice.pick((-1.0, 1.0)))
    grey = dice.between(84, 140)
    warm = dice.between(-6, 8)
    paving = dice.pick([(150, 146, 140), (168, 160, 148), (128, 128, 130), (158, 132, 116), (112, 108, 106)])
    return Road(
        curvature=dice.between(-1, 1) * dice.between(0.0, 0.0032),
        lane=lane,
        keeps=dice.pick((-1.0, 1.0)),
        left=sides[0],
        right=sides[1],
        centre_line=("dashed", "dashed", "dashed", "solid", "none")[dice.whole(0, 4)],
        zebra=dice.between(9.0, 24.0) if dice.chance(0.25) else None,
        junction=junction if dice.chance(0.4) else None,
        asphalt=(grey + warm, grey, grey - warm + dice.between(-2, 5)),
        paving=dice.shade(paving, 0.12),
        grass=dice.shade(dice.pick([(96, 124, 62), (112, 122, 74), (136, 128, 78)]), 0.14),
    )
