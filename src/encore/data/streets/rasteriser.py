"""From polygons to pixels: which face a pixel shows, and how far away it is.

Faces are painted from far to near into a picture of face numbers at twice the resolution (PIL's polygon
filling is integer arithmetic, equal on every machine). Every second pixel of it is a pixel's middle and
decides class and depth; the others soften the outlines of the coloured image.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from encore.data.contracts import VOID
from encore.data.streets.camera import NEAR, Camera
from encore.data.streets.classes import ROAD, SKY
from encore.data.streets.faces import BENEATH, SHADOW, Faces
from encore.data.streets.street import VIEW, Street

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]

SKY_FACE, GROUND_FACE, BONNET_FACE, FIRST_FACE = 0, 1, 2, 3
BONNET_DEPTH = 1.3
"""Metres from the camera to the own car's bonnet."""
CAST_LEVEL, BENEATH_LEVEL = 205, 105
"""Light left on the ground, of 255: where the sun is hidden, and under a thing."""
FAR = 2000.0
"""Metres; the ground ends here."""
SKY_DEPTH = 10000.0
"""Metres; where the points of the sky are taken to be."""

SPECK = 8
"""Faces whose frame has fewer pixels, at twice the resolution, are left out."""


@dataclass(frozen=True)
class FaceTable:
    """What is known of each number in a picture of faces: 0 sky, 1 ground, 2 bonnet, 3… faces that are drawn.

    Attributes:
        faces: (N - 3,) int64, index of each drawn face in `Faces`.
        classes: (N,) uint8; sky, road (for all ground), void (bonnet), the faces' classes.
        inverse_depth: (3, N) float32, (a, b, c) with 1 / depth = a x + b y + c on the ray (x, y).
        inverse_limits: (2, N) float32, smallest and largest 1 / depth of the face.
        tangents: (3, N) float32, (t_x, t_z, s_0): along the face, s = t_x X + t_z Z - s_0 in metres.
        normals: (3, N) float32, unit normal in world coordinates, towards the camera.
    """

    faces: NDArray[np.int64]
    classes: NDArray[np.uint8]
    inverse_depth: Floats
    inverse_limits: Floats
    tangents: Floats
    normals: Floats


@dataclass(frozen=True)
class Raster:
    """One frame before it has colours.

    Attributes:
        camera: the camera of the frame.
        faces, table: what was drawn.
        fine: (2H, 2W) uint16, face number at twice the resolution.
        numbers: (H, W) int64, face number at the middle of each pixel.
        shade: (H, W) uint8, light that reaches the ground: 255, `CAST_LEVEL` or `BENEATH_LEVEL`.
        x, y: (H, W) float32, ray of each pixel at depth 1.
        depth: (H, W) float32, metres along the optical axis, infinite in the sky.
        world: X, Y, Z in metres, each (H, W) float32; in the sky, of a point at `SKY_DEPTH`.
    """

    camera: Camera
    faces: Faces
    table: FaceTable
    fine: NDArray[np.uint16]
    numbers: NDArray[np.int64]
    shade: NDArray[np.uint8]
    x: Floats
    y: Floats
    depth: Floats
    world: tuple[Floats, Floats, Floats]


def _crossed(u: Doubles, v: Doubles) -> Doubles:
    """Vector products of the columns of two (3, N) arrays."""
    product = np.empty_like(u)
    product[0] = u[1] * v[2] - u[2] * v[1]
    product[1] = u[2] * v[0] - u[0] * v[2]
    product[2] = u[0] * v[1] - u[1] * v[0]
    return product


def _table(
    faces: Faces, drawn: NDArray[np.int64], starts: NDArray[np.int64], camera: Camera, geometry: Doubles
) -> FaceTable:
    """The table of the faces in `drawn`; the rows of `geometry` are each face's normal in camera
    coordinates (3), its offset from the camera, its smallest and its largest depth."""
    normal, offset, nearest, farthest = geometry[:3], geometry[3], geometry[4], geometry[5]
    count = len(drawn) + FIRST_FACE
    classes = np.empty(count, dtype=np.uint8)
    classes[:FIRST_FACE], classes[FIRST_FACE:] = (SKY, ROAD, VOID), faces.classes[drawn]
    inverse = np.zeros((3, count), dtype=np.float32)
    inverse[:, FIRST_FACE:] = normal / np.where(np.abs(offset) < 1e-9, 1e-9, offset)
    inverse[1, GROUND_FACE] = 1.0 / camera.height
    limits = np.empty((2, count), dtype=np.float32)
    limits[:, SKY_FACE], limits[:, BONNET_FACE] = 1.0 / SKY_DEPTH, 1.0 / BONNET_DEPTH
    limits[:, GROUND_FACE] = 1.0 / FAR, 1.0 / NEAR
    limits[0, FIRST_FACE:] = 1.0 / np.maximum(farthest, NEAR)
    limits[1, FIRST_FACE:] = 1.0 / np.maximum(nearest, NEAR)

    # The normal in world axes, turned towards the camera (where it points away, its offset is positive).
    sine, cosine = camera.heading
    length = np.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
    unit = normal / (np.maximum(length, 1e-12) * np.where(offset > 0, -1.0, 1.0))
    normals = np.zeros((3, count), dtype=np.float32)
    normals[1] = 1.0
    normals[0, FIRST_FACE:] = unit[0] * cosine + unit[2] * sine
    normals[1, FIRST_FACE:] = -unit[1]
    normals[2, FIRST_FACE:] = unit[2] * cosine - unit[0] * sine

    origin = faces.vertices.take(starts[drawn], axis=1)
    along = faces.vertices.take(starts[drawn] + 1, axis=1) - origin
    along /= np.maximum(np.sqrt(along[0] * along[0] + along[2] * along[2]), 1e-9)
    tangents = np.zeros((3, count), dtype=np.float32)
    tangents[0, FIRST_FACE:], tangents[1, FIRST_FACE:] = along[0], along[2]
    tangents[2, FIRST_FACE:] = along[0] * origin[0] + along[2] * origin[2]
    return FaceTable(drawn, classes, inverse, limits, tangents, normals)


def _cut_at_near(points: list[list[float]]) -> list[list[float]]:
    """The part of a polygon (camera points) that lies beyond `NEAR`."""
    kept = []
    for index, point in enumerate(points):
        before = points[index - 1]
        if (before[2] > NEAR) != (point[2] > NEAR):
            share = (NEAR - before[2]) / (point[2] - before[2])
            kept.append([before[axis] + share * (point[axis] - before[axis]) for axis in range(3)])
        if point[2] > NEAR:
            kept.append(point)
    return kept


def _fine_pixels(camera: Camera, points: Doubles) -> Doubles:
    """(2, N): columns and rows at twice the resolution, whole numbers; even ones are pixels' middles."""
    places = np.rint(2.0 * np.stack(camera.project(points)) - 1.0)
    return np.clip(places, -30000.0, 30000.0, out=places)


def _flattened(places: Doubles) -> list[float]:
    flat: list[float] = places.T.ravel().tolist()
    return flat


def _outlines(camera: Camera, polygons: list[list[list[float]]]) -> list[list[float]]:
    """The projections of polygons of camera points, flattened."""
    points = [point for polygon in polygons for point in polygon]
    if not points:
        return [[] for _ in polygons]
    flat = _flattened(_fine_pixels(camera, np.array(points).T))
    ends = [2 * count for count in accumulate(len(polygon) for polygon in polygons)]
    return [flat[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def _ground_outline(camera: Camera) -> list[float]:
    edge = camera.height / FAR
    return _outlines(camera, [[[-4.0, edge, 1.0], [4.0, edge, 1.0], [4.0, 4.0, 1.0], [-4.0, 4.0, 1.0]]])[0]


def _draw_bonnet(draw: ImageDraw.ImageDraw, share: float, height: int, width: int) -> None:
    profile = ((-0.02, 0.25), (0.06, 0.62), (0.2, 0.86), (0.4, 0.98), (0.6, 0.98), (0.8, 0.86), (0.94, 0.62))
    edge = [*profile, (1.02, 0.25), (1.02, -1.0), (-0.02, -1.0)]
    points = [(round(2 * width * x), round(2 * height * (1 - share * y))) for x, y in edge]
    draw.polygon(points, fill=BONNET_FACE)


def rasterise(street: Street, seconds: float, height: int, width: int) -> Raster:
    """Draw the street at a time.

    Args:
        street: what there is.
        seconds: the time.
        height, width: size of the picture in pixels.
    """
    camera, faces = street.camera(seconds, height, width), street.faces(seconds)
    starts = np.cumsum(faces.sizes) - faces.sizes
    seen = camera.from_world(faces.vertices)
    places = np.empty_like(seen)
    places[:2] = _fine_pixels(camera, np.where(seen[2] > NEAR, seen, 1.0))
    places[2] = seen[2]
    low, high = np.minimum.reduceat(places, starts, axis=1), np.maximum.reduceat(places, starts, axis=1)
    inside = (high[0] >= 0) & (low[0] < 2 * width) & (high[1] >= 0) & (low[1] < 2 * height)
    inside &= (high[0] - low[0] + 1) * (high[1] - low[1] + 1) >= SPECK
    cut = low[2] <= NEAR
    anchors = np.zeros((3, faces.anchors.shape[1]))
    anchors[::2] = faces.anchors
    depth_of_face = camera.from_world(anchors)[2][faces.groups]
    in_view = (depth_of_face < VIEW) | (faces.classes == VOID)
    if not street.light.casts_shadows:
        in_view &= faces.classes != SHADOW
    candidates = np.flatnonzero((high[2] > NEAR) & (inside | cut) & in_view)
    corners = starts[candidates]
    corner = seen.take(corners, axis=1)
    normal = _crossed(seen.take(corners + 1, axis=1) - corner, seen.take(corners + 2, axis=1) - corner)
    offset = normal[0] * corner[0] + normal[1] * corner[1] + normal[2] * corner[2]
    # The camera's y points down, which turns windings over: a face seen from its front has offset > 0.
    kept = np.flatnonzero(~faces.solid[candidates] | (offset > 0))
    kept = kept[np.argsort(-depth_of_face[candidates[kept]], kind="stable")]
    drawn = candidates[kept]
    limits = low[2:].take(candidates, axis=1), high[2:].take(candidates, axis=1)
    geometry = np.concatenate([normal, offset[None], *limits]).take(kept, axis=1)
    table = _table(faces, drawn, starts, camera, geometry)

    picture = Image.new("I;16", (2 * width, 2 * height), SKY_FACE)
    shaded = Image.new("L", (width, height), 255)
    draw, draw_shade = ImageDraw.Draw(picture), ImageDraw.Draw(shaded)
    draw.polygon(_ground_outline(camera), fill=GROUND_FACE)
    first, last = starts[drawn], starts[drawn] + faces.sizes[drawn]
    outlines = _flattened(places[:2])
    pieces = [outlines[a:b] for a, b in zip((2 * first).tolist(), (2 * last).tolist(), strict=True)]
    crossing = np.flatnonzero(cut[drawn]).tolist()
    beyond = [_cut_at_near(seen[:, first[number] : last[number]].T.tolist()) for number in crossing]
    for number, outline in zip(crossing, _outlines(camera, beyond), strict=True):
        pieces[number] = outline
    levels = np.zeros(256, dtype=np.int64)
    levels[SHADOW], levels[BENEATH] = CAST_LEVEL, BENEATH_LEVEL
    for number, (outline, level) in enumerate(zip(pieces, levels[faces.classes[drawn]].tolist(), strict=True)):
        if len(outline) < 6:
            continue
        if level:
            draw_shade.polygon([value * 0.5 for value in outline], fill=level)
        else:
            draw.polygon(outline, fill=number + FIRST_FACE)
    if street.optics.bonnet > 0:
        _draw_bonnet(draw, street.optics.bonnet, height, width)

    fine = np.asarray(picture)
    numbers = fine[::2, ::2].astype(np.int64)
    x, y = camera.rays(height, width)
    a, b, c = table.inverse_depth
    smallest, largest = table.inverse_limits
    inverse = a.take(numbers, mode="clip") * x
    inverse += b.take(numbers, mode="clip") * y
    inverse += c.take(numbers, mode="clip")
    np.maximum(inverse, smallest.take(numbers, mode="clip"), out=inverse)
    np.minimum(inverse, largest.take(numbers, mode="clip"), out=inverse)
    depth = np.float32(1.0) / inverse
    world = camera.to_world(x, y, depth)
    depth[numbers == SKY_FACE] = np.inf
    return Raster(camera, faces, table, fine, numbers, np.asarray(shaded), x, y, depth, world)
