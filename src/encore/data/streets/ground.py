"""The ground of a street, pixel by pixel: its class and its colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encore.data.contracts import VOID
from encore.data.streets.classes import PAVEMENT, ROAD
from encore.data.streets.dice import value_noise
from encore.data.streets.road import Road
from encore.data.streets.street import VIEW

Floats = NDArray[np.float32]

NOISE_SIDE = 256
NOISE: Floats = value_noise(NOISE_SIDE, (16, 32, 64, 128, 256), (0.6, 0.5, 0.6, 0.7, 0.6)).ravel()
"""A tile of noise -1…1 for all surfaces, (256 * 256,) float32."""


def noise_at(x: Floats, y: Floats) -> Floats:
    """The tile at the places (x, y), given in its pixels; it repeats."""
    column = x.astype(np.int32) & (NOISE_SIDE - 1)
    row = y.astype(np.int32) & (NOISE_SIDE - 1)
    return NOISE.take((row << 8) + column, mode="clip")


def remainder(values: Floats, period: float) -> Floats:
    """`values` modulo `period`, 0…period; many times faster than `%`."""
    whole = np.floor(values * np.float32(1 / period))
    whole *= np.float32(-period)
    whole += values
    return whole


@dataclass(frozen=True)
class Ground:
    """The ground pixels of one frame, N of them.

    Attributes:
        lateral: (N,) float32, metres right of the centre line.
        along: (N,) float32, Z in metres.
        depth: (N,) float32, metres.
        classes: (N,) uint8: road, pavement, tree (grass) or, past the view, void.
        kerb: (N,) bool, true on the kerb stones.
    """

    lateral: Floats
    along: Floats
    depth: Floats
    classes: NDArray[np.uint8]
    kerb: NDArray[np.bool_]


def ground_of(road: Road, x: Floats, z: Floats, depth: Floats) -> Ground:
    """What lies at the ground points (x, z), world metres, seen at `depth`; all (N,) float32."""
    lateral = x - road.centres(z)
    is_right = lateral > 0
    outward = np.abs(lateral)
    left, right = road.sides()
    edge = np.where(is_right, np.float32(right.road_edge), np.float32(left.road_edge))
    outer = np.where(is_right, np.float32(right.outer), np.float32(left.outer))
    beyond = np.where(is_right, np.uint8(right.beyond), np.uint8(left.beyond))
    on_road = outward < edge
    if road.junction is not None:
        begin, end, sign = road.junction
        on_road |= (z > begin) & (z < end) & (is_right if sign > 0 else ~is_right)
    classes = np.where(outward < outer, np.uint8(PAVEMENT), beyond)
    classes[on_road] = ROAD
    classes[depth > VIEW] = VOID
    kerb = ~on_road & (outward < edge + np.float32(0.16))
    return Ground(lateral, z, depth, classes, kerb)


def _coverage(distance: Floats, width: float, footprint: Floats) -> Floats:
    """Share of a pixel that a line of `width` covers, given the distance to its middle (metres)."""
    share = (np.float32(width / 2) - distance) / footprint + np.float32(0.5)
    np.clip(share, 0, 1, out=share)
    return share * np.minimum(np.float32(width) / footprint, np.float32(1))


def _paint(road: Road, ground: Ground, outward: Floats, footprint: Floats) -> tuple[Floats, Floats]:
    """White and yellow paint on the road, as shares 0…1 of each pixel."""
    along, lateral = ground.along, ground.lateral
    white = np.zeros_like(lateral)
    if road.centre_line != "none":
        white = _coverage(outward, 0.13, footprint)
        if road.centre_line == "dashed":
            white *= remainder(along, 7.0) < np.float32(4)
    yellow = np.zeros_like(lateral)
    for side in road.sides():
        if side.yellow_line:  # a double one, 0.3 and 0.55 m from the kerb
            away = np.abs(np.abs(lateral - np.float32(side.sign * (side.road_edge - 0.425))) - np.float32(0.125))
            yellow += _coverage(away, 0.1, footprint)
    if road.junction is not None:
        begin, end, sign = road.junction
        mouth = (along > begin) & (along < end) & (lateral * np.float32(sign) > np.float32(road.lane + 0.1))
        white *= ~mouth
        yellow *= ~mouth
    if road.zebra is not None:
        crossing = np.abs(along - np.float32(road.zebra + 1.4)) < np.float32(1.4)
        stripe = remainder(lateral, 1.1) < np.float32(0.55)
        white = np.where(crossing, stripe, white).astype(np.float32)
    return white, yellow


def ground_colours(road: Road, ground: Ground, focal: float, wear: float) -> Floats:
    """Colours under white light.

    Args:
        road, ground: what lies where.
        focal: the camera's focal length in pixels.
        wear: 0…1, how much of the paint is worn off.

    Returns:
        (3, N) float32, RGB 0…255.
    """
    classes, lateral, along, depth = ground.classes, ground.lateral, ground.along, ground.depth
    palette = np.empty((256, 3), dtype=np.float32)
    palette[:] = road.grass
    palette[ROAD], palette[PAVEMENT], palette[VOID] = road.asphalt, road.paving, road.asphalt
    strengths = np.full(256, 0.16, dtype=np.float32)
    strengths[ROAD] = 0.09
    footprint = depth * np.float32(1.0 / focal)
    outward = np.abs(lateral)
    on_road = classes == ROAD
    coarse = noise_at(lateral * np.float32(3) + np.float32(4096), along + np.float32(512))
    fine = noise_at(lateral * np.float32(19) + np.float32(8192), along * np.float32(19) + np.float32(4096))
    relief = fine * strengths.take(classes)
    relief /= np.float32(1) + depth * np.float32(0.08)
    relief += coarse * np.float32(0.10)
    relief += np.float32(1)
    wheel = np.abs(np.abs(outward - np.float32(road.lane / 2)) - np.float32(0.75)) * np.float32(-0.154)
    relief -= on_road * np.maximum(wheel + np.float32(0.07), np.float32(0))
    relief += ground.kerb * np.float32(0.16)
    paved = np.flatnonzero((classes == PAVEMENT) & (depth < 18))
    joint = remainder(along[paved], 0.9) < np.float32(0.07)
    joint |= remainder(outward[paved], 0.75) < np.float32(0.06)
    relief[paved] -= joint * np.float32(0.16)
    colours = palette.T.take(classes, axis=1)
    colours *= relief

    white, yellow = _paint(road, ground, outward, footprint)
    for share, paint in ((white, (226, 226, 220)), (yellow, (214, 176, 64))):
        painted = np.flatnonzero((share > 0) & on_road)
        worn = np.float32(1 - wear) - np.float32(wear) * np.maximum(coarse[painted] + fine[painted], 0)
        worn = np.maximum(worn, np.float32(0.15)) * share[painted]
        for channel, value in zip(colours, paint, strict=True):
            channel[painted] += worn * (np.float32(value) - channel[painted])
    return colours
