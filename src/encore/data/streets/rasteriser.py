"""From polygons to pixels: which face a pixel shows, and how far away it is.

Faces are painted from far to near into a picture of face numbers at twice the resolution (PIL's polygon
filling is integer arithmetic, equal on every machine). Every second pixel of it is a pixel's middle and
decides class and depth; the others soften the outlines of the coloured image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from encore.data.contracts import VOID
from encore.data.streets.camera import NEAR, Camera
from encore.data.streets.classes import ROAD, SKY
from encore.data.streets.faces import SHADOW, Faces
from encore.data.streets.street import VIEW, Street

SKY_FACE, GROUND_FACE, FIRST_FACE = 0, 1, 2
BONNET_DEPTH = 1.3
"""Metres from the camera to the own car's bonnet."""
FAR = 2000.0
"""Metres; the ground ends here."""


@dataclass(frozen=True)
class FaceTable:
    """What is known of each number in a picture of faces: 0 sky, 1 ground, 2… the faces, last the bonnet.

    Attributes:
        classes: (N,) uint8; sky, road (for all ground), the faces' classes, void for the bonnet.
        inverse_depth: (3, N) float32, (a, b, c) with 1 / depth = a x + b y + c on the ray (x, y).
        inverse_limits: (2, N) float32, smallest and largest 1 / depth of the face.
        tangents: (3, N) float32, (t_x, t_z, s_0): along the face, s = t_x X + t_z Z - s_0 in metres.
        normals: (3, N) float32, unit normal in world coordinates, towards the camera.
    """

    classes: NDArray[np.uint8]
    inverse_depth: NDArray[np.float32]
    inverse_limits: NDArray[np.float32]
    tangents: NDArray[np.float32]
    normals: NDArray[np.float32]


@dataclass(frozen=True)
class Raster:
    """One frame before it has colours.

    Attributes:
        camera: the camera of the frame.
        faces, table: what was drawn.
        fine: (2H, 2W) int32, face number at twice the resolution.
        numbers: (H, W) int32, face number at the middle of each pixel.
        shade: (H, W) uint8, 255 in full light, less where something darkens the ground.
        x, y: (H, W) float32, ray of each pixel at depth 1.
        depth: (H, W) float32, metres along the optical axis, infinite in the sky.
        world: X, Y, Z in metres, each (H, W) float32; in the sky, of a point 10 km away.
    """

    camera: Camera
    faces: Faces
    table: FaceTable
    fine: NDArray[np.int32]
    numbers: NDArray[np.int32]
    shade: NDArray[np.uint8]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    depth: NDArray[np.float32]
    world: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def _face_table(
    faces: Faces, camera: Camera, seen: NDArray[np.float64], starts: NDArray[np.int64]
) -> FaceTable:
    count = len(starts) + 3
    classes = np.empty(count, dtype=np.uint8)
    classes[:FIRST_FACE], classes[FIRST_FACE:-1], classes[-1] = (SKY, ROAD), faces.classes, VOID
    corner, first, second = seen[starts], seen[starts + 1], seen[starts + 2]
    u, v = first - corner, second - corner
    normal = np.empty_like(u)
    normal[:, 0] = u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1]
    normal[:, 1] = u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2]
    normal[:, 2] = u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]
    offset = normal[:, 0] * corner[:, 0] + normal[:, 1] * corner[:, 1] + normal[:, 2] * corner[:, 2]
    edge_on = np.abs(offset) < 1e-9
    inverse = np.zeros((3, count), dtype=np.float32)
    inverse[:, FIRST_FACE:-1] = (normal / np.where(edge_on, 1e-9, offset)[:, None]).T
    inverse[1, GROUND_FACE] = 1.0 / camera.height
    inverse[2, -1] = 1.0 / BONNET_DEPTH

    nearest = np.maximum(np.minimum.reduceat(seen[:, 2], starts), NEAR)
    farthest = np.maximum(np.maximum.reduceat(seen[:, 2], starts), NEAR)
    limits = np.empty((2, count), dtype=np.float32)
    limits[:, SKY_FACE] = 1e-4
    limits[:, GROUND_FACE] = 1.0 / FAR, 1.0 / NEAR
    limits[0, FIRST_FACE:-1], limits[1, FIRST_FACE:-1] = 1.0 / farthest, 1.0 / nearest
    limits[:, -1] = 1.0 / BONNET_DEPTH

    # The world's normal: camera axes turned back, and towards the camera (offset < 0 points at it).
    sine, cosine = camera.heading
    length = np.sqrt(normal[:, 0] ** 2 + normal[:, 1] ** 2 + normal[:, 2] ** 2)
    length = np.maximum(length, 1e-12) * np.where(offset > 0, -1.0, 1.0)
    normals = np.zeros((3, count), dtype=np.float32)
    normals[1] = 1.0
    normals[0, FIRST_FACE:-1] = (normal[:, 0] * cosine + normal[:, 2] * sine) / length
    normals[1, FIRST_FACE:-1] = -normal[:, 1] / length
    normals[2, FIRST_FACE:-1] = (normal[:, 2] * cosine - normal[:, 0] * sine) / length

    origin, along = faces.vertices[starts], faces.vertices[starts + 1] - faces.vertices[starts]
    run = np.maximum(np.sqrt(along[:, 0] ** 2 + along[:, 2] ** 2), 1e-9)
    tangents = np.zeros((3, count), dtype=np.float32)
    t_x, t_z = along[:, 0] / run, along[:, 2] / run
    tangents[0, FIRST_FACE:-1], tangents[1, FIRST_FACE:-1] = t_x, t_z
    tangents[2, FIRST_FACE:-1] = t_x * origin[:, 0] + t_z * origin[:, 2]
    return FaceTable(classes, inverse, limits, tangents, normals)


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


def _fine_pixels(
    camera: Camera, points: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows at twice the resolution, as whole numbers; even ones are pixels' middles."""
    u, v = camera.project(points)
    limit = 30000.0
    return np.clip(np.rint(2 * u - 1), -limit, limit), np.clip(np.rint(2 * v - 1), -limit, limit)


def _flattened(camera: Camera, points: list[list[float]]) -> list[float]:
    columns, rows = _fine_pixels(camera, np.array(points))
    return [value for pair in zip(columns.tolist(), rows.tolist(), strict=True) for value in pair]


def _draw_bonnet(draw: ImageDraw.ImageDraw, share: float, height: int, width: int, number: int) -> None:
    if share <= 0:
        return
    profile = ((-0.02, 0.25), (0.06, 0.62), (0.2, 0.86), (0.4, 0.98), (0.6, 0.98), (0.8, 0.86), (0.94, 0.62))
    edge = [*profile, (1.02, 0.25), (1.02, -1.0), (-0.02, -1.0)]
    points = [(round(2 * width * x), round(2 * height * (1 - share * y))) for x, y in edge]
    draw.polygon(points, fill=number)


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
    table = _face_table(faces, camera, seen, starts)

    columns, rows = _fine_pixels(camera, np.where(seen[:, 2:] > NEAR, seen, 1.0))
    nearest, farthest = np.minimum.reduceat(seen[:, 2], starts), np.maximum.reduceat(seen[:, 2], starts)
    inside = (np.maximum.reduceat(columns, starts) >= 0) & (np.minimum.reduceat(columns, starts) < 2 * width)
    inside &= (np.maximum.reduceat(rows, starts) >= 0) & (np.minimum.reduceat(rows, starts) < 2 * height)
    cut = nearest <= NEAR
    corner = seen[starts]
    # A face is turned away where its normal, taken by the winding, points along the line of sight.
    u, v = seen[starts + 1] - corner, seen[starts + 2] - corner
    turned = (
        (u[:, 1] * v[:, 2] - u[:, 2] * v[:, 1]) * corner[:, 0]
        + (u[:, 2] * v[:, 0] - u[:, 0] * v[:, 2]) * corner[:, 1]
        + (u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0]) * corner[:, 2]
    )
    group_depth = camera.from_world(
        np.stack([faces.anchors[:, 0], np.zeros(len(faces.anchors)), faces.anchors[:, 1]], axis=1)
    )[:, 2]
    depth_of_face = group_depth[faces.groups]
    in_view = (depth_of_face < VIEW) | (faces.classes == VOID)
    visible = (farthest > NEAR) & (inside | cut) & (~faces.solid | (turned < 0)) & in_view
    candidates = np.flatnonzero(visible)
    order = candidates[np.argsort(-depth_of_face[candidates], kind="stable")]

    picture = Image.new("I", (2 * width, 2 * height), SKY_FACE)
    shaded = Image.new("L", (width, height), 255)
    draw, draw_shade = ImageDraw.Draw(picture), ImageDraw.Draw(shaded)
    edge = camera.height / FAR
    ground = [[-4.0, edge, 1.0], [4.0, edge, 1.0], [4.0, 4.0, 1.0], [-4.0, 4.0, 1.0]]
    draw.polygon(_flattened(camera, ground), fill=GROUND_FACE)
    flat = np.stack([columns, rows], axis=1).ravel().tolist()
    is_shadow, is_cut = (faces.classes == SHADOW).tolist(), cut.tolist()
    begin, size = starts.tolist(), faces.sizes.tolist()
    darkness = faces.colours[:, 0]
    for face in order.tolist():
        first, last = begin[face], begin[face] + size[face]
        outline = flat[2 * first : 2 * last]
        if is_cut[face]:
            kept = _cut_at_near(seen[first:last].tolist())
            if len(kept) < 3:
                continue
            outline = _flattened(camera, kept)
        if is_shadow[face]:
            draw_shade.polygon([value * 0.5 for value in outline], fill=int(darkness[face]))
        else:
            draw.polygon(outline, fill=face + FIRST_FACE)
    _draw_bonnet(draw, street.optics.bonnet, height, width, len(starts) + FIRST_FACE)

    fine = np.asarray(picture, dtype=np.int32)
    numbers = np.ascontiguousarray(fine[::2, ::2])
    x, y = camera.rays(height, width)
    inverse = table.inverse_depth[0][numbers] * x
    inverse += table.inverse_depth[1][numbers] * y
    inverse += table.inverse_depth[2][numbers]
    np.maximum(inverse, table.inverse_limits[0][numbers], out=inverse)
    np.minimum(inverse, table.inverse_limits[1][numbers], out=inverse)
    depth = np.float32(1.0) / inverse
    world = camera.to_world(x, y, depth)
    depth[numbers == SKY_FACE] = np.inf
    return Raster(camera, faces, table, fine, numbers, np.asarray(shaded), x, y, depth, world)
