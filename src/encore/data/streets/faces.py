"""Planar polygons in the world: what the rasteriser draws, and the meshes they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from encore.data.streets.dice import Colour

Point = tuple[float, float, float]

SHADOW, BENEATH = 254, 252
"""Classes of polygons that darken the ground and are not seen themselves: those from which the sun is
hidden, and those right under a thing."""

UNCLASSED = 253
"""Class of a mesh's faces that have none of their own."""


class Kind(IntEnum):
    """How a face is coloured."""

    PLAIN = 0
    FOLIAGE = 1
    FACADE = 2
    SLATS = 3
    SHINY = 4
    GLOWING = 5
    ROUGH = 6


@dataclass(frozen=True)
class Mesh:
    """A thing in its own coordinates: x to the right, y up, z forward, metres, standing on y = 0.

    Attributes:
        vertices: (3, V) float64.
        swing: (V,) float64, how far a vertex moves along x at a full stride.
        cast: (V,) float64, 1 where a vertex is thrown on the ground along the sunlight, else 0.
        sizes: (F,) int64, vertices per face, which lie one face after the other.
        parts: (F,) int64, the entry of the thing's palette that colours a face.
        kinds: (F,) uint8, `Kind`.
        solid: (F,) bool, true where a face turned away from the camera is not drawn.
        classes: (F,) uint8, `UNCLASSED` where the class is that of the thing.
    """

    vertices: NDArray[np.float64]
    swing: NDArray[np.float64]
    cast: NDArray[np.float64]
    sizes: NDArray[np.int64]
    parts: NDArray[np.int64]
    kinds: NDArray[np.uint8]
    solid: NDArray[np.bool_]
    classes: NDArray[np.uint8]


class MeshMaker:
    """Collects faces, then makes the `Mesh`."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._swing: list[float] = []
        self._cast: list[float] = []
        self._faces: list[tuple[int, int, Kind, bool, int]] = []

    def flat(
        self,
        points: Sequence[tuple[float, float]],
        part: int,
        kind: Kind = Kind.PLAIN,
        swings: Sequence[float] | None = None,
        class_index: int = UNCLASSED,
    ) -> None:
        """A polygon in the plane z = 0 that is seen from both sides."""
        self._add([(x, y, 0.0) for x, y in points], (part, kind, False, class_index), swings)

    def shadow(self, points: Sequence[Point], class_index: int = SHADOW) -> None:
        """A polygon whose image on the ground, along the sunlight, darkens it."""
        self._add(points, (0, Kind.PLAIN, False, class_index), cast=1.0)

    def _add(
        self,
        points: Sequence[Point],
        face: tuple[int, Kind, bool, int],
        swings: Sequence[float] | None = None,
        cast: float = 0.0,
    ) -> None:
        self._points += points
        self._swing += swings or [0.0] * len(points)
        self._cast += [cast] * len(points)
        self._faces.append((len(points), *face))

    def solid(self, points: Sequence[Point], part: int, outside: Point, kind: Kind = Kind.PLAIN) -> None:
        """A polygon that is seen only from the side towards which `outside` points."""
        first, second, third = (np.asarray(point) for point in points[:3])
        normal = np.cross(second - first, third - first)
        turned = list(points) if float(normal @ np.asarray(outside)) > 0 else [points[1], points[0]]
        if len(turned) == 2:
            turned += list(reversed(points[2:]))
        self._add(turned, (part, kind, True, UNCLASSED))

    def mesh(self) -> Mesh:
        """The collected faces."""
        sizes, parts, kinds, solid, classes = zip(*self._faces, strict=True)
        return Mesh(
            vertices=np.ascontiguousarray(np.asarray(self._points, dtype=np.float64).T),
            swing=np.asarray(self._swing, dtype=np.float64),
            cast=np.asarray(self._cast, dtype=np.float64),
            sizes=np.asarray(sizes, dtype=np.int64),
            parts=np.asarray(parts, dtype=np.int64),
            kinds=np.asarray(kinds, dtype=np.uint8),
            solid=np.asarray(solid, dtype=np.bool_),
            classes=np.asarray(classes, dtype=np.uint8),
        )


@dataclass
class Faces:
    """Polygons of a whole street at one moment.

    Attributes:
        vertices: (3, V) float64, world X, Y, Z in metres.
        sizes: (F,) int64, vertices per face.
        classes: (F,) uint8, class index, void, `SHADOW` or `BENEATH`.
        colours: (3, F) float64, RGB 0…255 under white light.
        kinds: (F,) uint8, `Kind`.
        solid: (F,) bool, back faces are not drawn.
        patterns: (4, F) float64; a facade's storey height and bay width (metres), share of a bay that is
            window, and a number that varies it; other kinds use the last alone.
        groups: (F,) int64, the thing a face belongs to; faces of a thing are in drawing order.
        tracks: (F,) int64, 1… for countable objects, 0 elsewhere.
        anchors: (2, G) float64, world X and Z by whose depth the things are ordered.
    """

    vertices: NDArray[np.float64]
    sizes: NDArray[np.int64]
    classes: NDArray[np.uint8]
    colours: NDArray[np.float64]
    kinds: NDArray[np.uint8]
    solid: NDArray[np.bool_]
    patterns: NDArray[np.float64]
    groups: NDArray[np.int64]
    tracks: NDArray[np.int64]
    anchors: NDArray[np.float64]


def joined(parts: Sequence[Faces]) -> Faces:
    """All `parts` as one; groups are renumbered."""
    before = np.cumsum([0] + [part.anchors.shape[1] for part in parts])
    return Faces(
        vertices=np.concatenate([part.vertices for part in parts], axis=1),
        sizes=np.concatenate([part.sizes for part in parts]),
        classes=np.concatenate([part.classes for part in parts]),
        colours=np.concatenate([part.colours for part in parts], axis=1),
        kinds=np.concatenate([part.kinds for part in parts]),
        solid=np.concatenate([part.solid for part in parts]),
        patterns=np.concatenate([part.patterns for part in parts], axis=1),
        groups=np.concatenate([part.groups + shift for part, shift in zip(parts, before, strict=False)]),
        tracks=np.concatenate([part.tracks for part in parts]),
        anchors=np.concatenate([part.anchors for part in parts], axis=1),
    )


def columns_of(rows: Sequence[Sequence[float]], size: int) -> NDArray[np.float64]:
    """(size, N) float64 from N tuples of `size` numbers."""
    values = np.fromiter(chain.from_iterable(rows), dtype=np.float64, count=size * len(rows))
    return np.ascontiguousarray(values.reshape(-1, size).T)


class Polygons:
    """Collects single polygons (walls, roofs, fences, shadows), then makes `Faces`."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._sizes: list[int] = []
        self._classes: list[int] = []
        self._colours: list[Colour] = []
        self._kinds: list[int] = []
        self._patterns: list[tuple[float, float, float, float]] = []
        self._groups: list[int] = []
        self._anchors: list[tuple[float, float]] = []

    def begin(self, x: float, z: float) -> None:
        """Start a thing that is ordered by the depth of the point (x, 0, z)."""
        self._anchors.append((x, z))

    def add(
        self,
        points: Sequence[Point],
        class_index: int,
        colour: Colour,
        kind: Kind = Kind.PLAIN,
        pattern: tuple[float, float, float, float] = (1.0, 1.0, 0.0, 0.0),
    ) -> None:
        """Add a polygon (world coordinates; its first edge runs horizontally) to the thing begun last."""
        self._points += points
        self._sizes.append(len(points))
        self._classes.append(class_index)
        self._colours.append(colour)
        self._kinds.append(kind)
        self._patterns.append(pattern)
        self._groups.append(len(self._anchors) - 1)

    def faces(self) -> Faces:
        """Everything that was added; there must be something."""
        count = len(self._sizes)
        return Faces(
            vertices=columns_of(self._points, 3),
            sizes=np.asarray(self._sizes, dtype=np.int64),
            classes=np.asarray(self._classes, dtype=np.uint8),
            colours=columns_of(self._colours, 3),
            kinds=np.asarray(self._kinds, dtype=np.uint8),
            solid=np.zeros(count, dtype=np.bool_),
            patterns=columns_of(self._patterns, 4),
            groups=np.asarray(self._groups, dtype=np.int64),
            tracks=np.zeros(count, dtype=np.int64),
            anchors=columns_of(self._anchors, 2),
        )
