"""Exact motion from one frame of a clip to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encore.data.streets.rasteriser import BONNET_FACE, FIRST_FACE, Raster
from encore.data.streets.street import Street


def motion_between(street: Street, raster: Raster, now: float, later: float) -> NDArray[np.float32]:
    """Where the point that each pixel shows goes.

    Objects count as rigid (legs that swing are left out); the sky stands still, 10 km away.

    Args:
        street: the scene.
        raster: the frame at time `now`, seconds.
        later: time of the other frame.

    Returns:
        (H, W, 2) float32, pixels to the right and downwards.
    """
    height, width = raster.numbers.shape
    road = street.road
    tracks = np.zeros(len(raster.table.classes), dtype=np.int64)
    tracks[FIRST_FACE:] = raster.faces.tracks[raster.table.faces]
    number = tracks[raster.numbers].ravel()
    points = np.stack([part.ravel() for part in raster.world], axis=0).astype(np.float64)
    for thing in street.moving:
        if not thing.track:
            continue
        mine = np.flatnonzero(number == thing.track)
        if not len(mine):
            continue
        x, z, slope = thing.position(road, now)
        x_later, z_later, slope_later = thing.position(road, later)
        # The turn from one heading to the other, from the tangents of both.
        cosine, sine = 1 + slope * slope_later, slope_later - slope
        length = (cosine * cosine + sine * sine) ** 0.5
        cosine, sine = cosine / length, sine / length
        across, along = points[0, mine] - x, points[2, mine] - z
        points[0, mine] = x_later + across * cosine + along * sine
        points[2, mine] = z_later + along * cosine - across * sine
    seen = street.camera(later, height, width).from_world(points)
    seen[2] = np.maximum(seen[2], 1e-2)
    u, v = raster.camera.project(seen)
    u -= np.tile(np.arange(width) + 0.5, height)
    v -= np.repeat(np.arange(height) + 0.5, width)
    own_car = raster.numbers.ravel() == BONNET_FACE
    u[own_car], v[own_car] = 0.0, 0.0
    return np.stack([u, v], axis=1).reshape(height, width, 2).astype(np.float32)
