"""Pictures of streets, and everything that is known of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import index as exactly

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.data.streets.captions import caption_of, motion_of
from encore.data.streets.ground import ground_of
from encore.data.streets.motion import motion_between
from encore.data.streets.rasteriser import FIRST_FACE, GROUND_FACE, Raster, rasterise
from encore.data.streets.shading import shade
from encore.data.streets.street import Street, draw_street

SMALLEST_SIDE = 16
"""Pixels; a smaller picture shows nothing."""
SMALLEST_SHARE = 0.0004
"""Share of the picture below which what is seen of an object counts for nothing: it has no box and its
pixels are void (at 96 × 128, fewer than 5 pixels)."""


@dataclass(frozen=True)
class Boxes:
    """The countable objects of one picture: cars, pedestrians, bicyclists.

    Attributes:
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels, around what is visible; x2 and y2 are exclusive
            (a single pixel in the corner is 0, 0, 1, 1).
        labels: (N,) int64, class index.
        tracks: (N,) int64, the object's number, the same in all frames of a clip.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    tracks: NDArray[np.int64]


@dataclass(frozen=True)
class Scene:
    """One picture of a street.

    Attributes:
        seed: what it was rendered from.
        image: (H, W, 3) uint8, RGB.
        mask: (H, W) uint8, class index or void (255).
        depth: (H, W) float32, metres along the optical axis; infinite in the sky.
        instances: (H, W) int64, the track of the object a pixel belongs to, 0 where there is none.
        objects: boxes, labels and tracks.
        caption: one English sentence.
        condition: `day`, `overcast`, `dusk` or `fog`.
        wet: true on a wet road.
    """

    seed: int
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instances: NDArray[np.int64]
    objects: Boxes
    caption: str
    condition: str
    wet: bool

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32, x1, y1, x2, y2 in pixels."""
        return self.objects.boxes

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) int64, class index of each box."""
        return self.objects.labels


@dataclass(frozen=True)
class Clip:
    """A short drive through a street, T frames.

    Attributes:
        seed: what it was rendered from; frame 0 is `render_scene(seed)`.
        images: (T, H, W, 3) uint8, RGB.
        masks: (T, H, W) uint8, class index or void (255).
        depth: (T, H, W) float32, metres; infinite in the sky.
        instances: (T, H, W) int64, track of the object, 0 where there is none.
        motion: (T, H, W, 2) float32, by how many pixels (right, down) the point that a pixel shows has moved
            in the next frame, whether or not it is still seen there.
        objects: boxes, labels and tracks of each frame.
        caption: one English sentence on the middle frame and on what happens.
        frames_per_second: of the clip.
        speed: of the own car, metres per second.
    """

    seed: int
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    depth: NDArray[np.float32]
    instances: NDArray[np.int64]
    motion: NDArray[np.float32]
    objects: tuple[Boxes, ...]
    caption: str
    frames_per_second: float
    speed: float

    @property
    def boxes(self) -> tuple[NDArray[np.float32], ...]:
        """For each frame, (N, 4) float32, x1, y1, x2, y2 in pixels."""
        return tuple(frame.boxes for frame in self.objects)

    @property
    def labels(self) -> tuple[NDArray[np.int64], ...]:
        """For each frame, (N,) int64, class index of each box."""
        return tuple(frame.labels for frame in self.objects)


def check_size(height: int, width: int) -> None:
    """Raise `DataError` where a picture of `height` × `width` pixels would be too small."""
    if height < SMALLEST_SIDE or width < SMALLEST_SIDE:
        raise DataError(
            f"Streets cannot be rendered at {height} × {width} pixels",
            f"ask for a height and width of at least {SMALLEST_SIDE}",
        )


def _boxes(instances: NDArray[np.int64], tracks: NDArray[np.int64], street: Street) -> Boxes:
    """Boxes around the pixels of each of `tracks`."""
    places = find_objects(instances)
    boxes = np.empty((len(tracks), 4), dtype=np.float32)
    for row, track in enumerate(tracks.tolist()):
        down, across = places[track - 1]
        boxes[row] = across.start, down.start, across.stop, down.stop
    labels = [street.countable[track - 1].class_index for track in tracks.tolist()]
    return Boxes(boxes, np.array(labels, dtype=np.int64), tracks)


def _known(
    raster: Raster, street: Street, ground_classes: NDArray[np.uint8]
) -> tuple[NDArray[np.uint8], Boxes, NDArray[np.int64]]:
    """Mask, boxes and instances of a frame."""
    mask = raster.table.classes.take(raster.numbers, mode="clip")
    mask[raster.numbers == GROUND_FACE] = ground_classes
    tracks = np.zeros(len(raster.table.classes), dtype=np.int64)
    tracks[FIRST_FACE:] = raster.faces.tracks[raster.table.faces]
    instances = tracks.take(raster.numbers, mode="clip")
    areas = np.bincount(instances.ravel())
    areas[0] = 0
    too_small = (areas > 0) & (areas < SMALLEST_SHARE * mask.size)
    if too_small.any():
        small = too_small[instances]
        mask[small] = VOID
        instances[small] = 0
    return mask, _boxes(instances, np.flatnonzero((areas > 0) & ~too_small), street), instances


def _frame(
    street: Street, raster: Raster, number: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64], Boxes]:
    """Image, mask, instances and boxes of a frame."""
    soil = np.flatnonzero(raster.numbers == GROUND_FACE)
    x, _, z = (part.ravel()[soil] for part in raster.world)
    ground = ground_of(street.road, x, z, raster.depth.ravel()[soil])
    mask, objects, instances = _known(raster, street, ground.classes)
    return shade(street, raster, ground, number), mask, instances, objects


def render_scene(seed: int, height: int = 96, width: int = 128) -> Scene:
    """Render one picture of a street.

    Args:
        seed: any integer; it decides everything but the resolution.
        height, width: in pixels, at least 16 each.

    Raises:
        DataError: the picture would be too small.
    """
    check_size(height, width)
    seed = exactly(seed)  # NumPy's integers overflow
    street = draw_street(seed, 0.0)
    raster = rasterise(street, 0.0, height, width)
    image, mask, instances, objects = _frame(street, raster, 0)
    caption = caption_of(street, mask, objects.labels)
    light = street.light
    return Scene(seed, image, mask, raster.depth, instances, objects, caption, light.condition, light.wet)


def render_clip(
    seed: int, num_frames: int = 8, height: int = 96, width: int = 128, frames_per_second: float = 10
) -> Clip:
    """Render a short drive; frame 0 is what `render_scene` gives for the same seed.

    Args:
        seed: any integer.
        num_frames: T, at least 1.
        height, width: in pixels, at least 16 each.
        frames_per_second: more than 0.

    Raises:
        DataError: the pictures would be too small, too few or without time between them.
    """
    check_size(height, width)
    if num_frames < 1 or not 0 < frames_per_second < math.inf:
        raise DataError(
            f"a clip of {num_frames} frames at {frames_per_second} frames per second cannot be rendered",
            "ask for one frame at least, and for more than 0 frames per second",
        )
    seed, step = exactly(seed), 1.0 / frames_per_second
    street = draw_street(seed, num_frames * step)
    rasters = [rasterise(street, number * step, height, width) for number in range(num_frames)]
    frames = [_frame(street, raster, number) for number, raster in enumerate(rasters)]
    motion = [
        motion_between(street, raster, number * step, (number + 1) * step) for number, raster in enumerate(rasters)
    ]
    middle = num_frames // 2
    _, mask, _, objects = frames[middle]
    caption = caption_of(street, mask, objects.labels) + motion_of(street, objects.tracks)
    return Clip(
        seed=seed,
        images=np.stack([frame[0] for frame in frames]),
        masks=np.stack([frame[1] for frame in frames]),
        depth=np.stack([raster.depth for raster in rasters]),
        instances=np.stack([frame[2] for frame in frames]),
        motion=np.stack(motion),
        objects=tuple(frame[3] for frame in frames),
        caption=caption,
        frames_per_second=frames_per_second,
        speed=street.speed,
    )
