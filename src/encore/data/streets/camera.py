"""A pinhole camera behind the windscreen.

World: X to the right, Y up, Z along the street, in metres; the ground is the plane Y = 0.
Camera: x to the right, y down, z along the optical axis. The pitch is a shift of the principal point and
the roll a rotation about the optical axis, so that depth is exactly the z of a point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAR = 0.4
"""Metres; nothing nearer is drawn."""


@dataclass(frozen=True)
class Camera:
    """Where the camera is and how it maps the world onto pixels.

    Attributes:
        x, z: position on the ground plane, metres.
        height: above the ground, metres.
        yaw: tangent of the angle between optical axis and Z, positive to the right.
        roll: tangent of half the roll angle (rational rotation: exact on every machine).
        focal: focal length in pixels.
        centre: (u, v) of the principal point in pixels; v is the row of the horizon.
    """

    x: float
    z: float
    height: float
    yaw: float
    roll: float
    focal: float
    centre: tuple[float, float]

    @property
    def heading(self) -> tuple[float, float]:
        """(sine, cosine) of the yaw."""
        length = (1.0 + self.yaw * self.yaw) ** 0.5
        return self.yaw / length, 1.0 / length

    @property
    def rolled(self) -> tuple[float, float]:
        """(sine, cosine) of the roll."""
        square = self.roll * self.roll
        return 2.0 * self.roll / (1.0 + square), (1.0 - square) / (1.0 + square)

    def from_world(self, points: NDArray[np.floating]) -> NDArray[np.floating]:
        """World points (3, N) in metres as camera points (3, N)."""
        sine, cosine = self.heading
        across, along = points[0] - self.x, points[2] - self.z
        seen = np.empty_like(points)
        seen[0] = across * cosine - along * sine
        seen[1] = self.height - points[1]
        seen[2] = across * sine + along * cosine
        return seen

    def project(self, points: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Pixel coordinates (u, v), each (N,), of camera points (3, N) with z > 0; pixel i spans i…i+1."""
        sine, cosine = self.rolled
        x, y = points[0] / points[2], points[1] / points[2]
        u = self.centre[0] + self.focal * (x * cosine - y * sine)
        v = self.centre[1] + self.focal * (x * sine + y * cosine)
        return u, v

    def rays(self, height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Camera x and y at depth 1 of every pixel's middle, each (height, width) float32."""
        sine, cosine = self.rolled
        across = ((np.arange(width) + 0.5 - self.centre[0]) / self.focal).astype(np.float32)[None, :]
        down = ((np.arange(height) + 0.5 - self.centre[1]) / self.focal).astype(np.float32)[:, None]
        sine32, cosine32 = np.float32(sine), np.float32(cosine)
        return across * cosine32 + down * sine32, down * cosine32 - across * sine32

    def to_world(
        self, x: NDArray[np.float32], y: NDArray[np.float32], depth: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """World X, Y, Z of the points at `depth` on the rays (x, y), all of one shape, float32."""
        sine, cosine = (np.float32(value) for value in self.heading)
        across = x * depth
        return (
            across * cosine + depth * sine + np.float32(self.x),
            np.float32(self.height) - y * depth,
            depth * cosine - across * sine + np.float32(self.z),
        )
