"""Streets as files: a folder of pictures, masks, depth, captions and boxes in the layouts people have.

FOLDER/images/streets_0_00000.png    RGB
FOLDER/masks/streets_0_00000.png     grey, class index, void is 255
FOLDER/depth/streets_0_00000.png     16-bit grey, centimetres
FOLDER/classes.txt                   class names in index order, one a line
FOLDER/captions.jsonl                {"image": "streets_0_00000.png", "caption": "…"} a line
FOLDER/boxes.json                    COCO: cars, pedestrians and bicyclists
FOLDER/README.txt                    what it is
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encore.base.files import new_folder, write_json, write_text
from encore.base.progress import ProgressReporter
from encore.data.streets.classes import CLASSES, COUNTABLE
from encore.data.streets.dataset import Streets
from encore.data.streets.scene import Scene

PICTURES = ("images", "masks", "depth")
FARTHEST = 65535
"""Centimetres: the largest depth that a file holds; what is farther has it too."""


def write_folder(
    folder: Path, num_samples: int, *, height: int, width: int, seed: int, progress: ProgressReporter
) -> None:
    """Render the scenes of `Streets(num_samples, …)` into `folder`, all of it or nothing.

    Depth is in centimetres along the optical axis, 1…65534; 0 where it is infinite (the sky), 65535 for
    655.35 m and all that is farther. A COCO annotation's `bbox` is [x, y, width, height] in pixels around what
    is visible, its `area` the number of visible pixels, its `category_id` the class index in the masks.
    `encore.data.segmentation_folder.open_folder` reads images and masks back as they are in `Streets`.

    Args:
        folder: made if missing; has to be empty.
        num_samples: number of scenes, at least 1.
        height, width: of the pictures in pixels, at least 16.
        seed: as for `Streets`.
        progress: is told of every scene, stage `rendering`.

    Raises:
        DataError: a number is too small.
        RunFolderError: `folder` is a file, is not empty or cannot be written.
    """
    streets = Streets(num_samples, height=height, width=width, seed=seed)
    with new_folder(Path(folder)) as partial:
        _render(streets, partial, progress)


def _render(streets: Streets, folder: Path, progress: ProgressReporter) -> None:
    for kind in PICTURES:
        (folder / kind).mkdir()
    captions: list[str] = []
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(len(streets)):
        scene, file = streets.scene(number), f"{streets.name(number)}.png"
        pictures: list[NDArray[Any]] = [scene.image, scene.mask, centimetres(scene.depth)]
        for kind, pixels in zip(PICTURES, pictures, strict=True):
            Image.fromarray(pixels).save(folder / kind / file)
        captions.append(json.dumps({"image": file, "caption": scene.caption}, ensure_ascii=False) + "\n")
        images.append({"id": number + 1, "file_name": file, "height": streets.height, "width": streets.width})
        annotations += _annotations(scene, number + 1, len(annotations) + 1)
        progress.update("rendering", number + 1, len(streets))
    write_text(folder / "classes.txt", "\n".join(CLASSES) + "\n")
    write_text(folder / "captions.jsonl", "".join(captions))
    categories = [{"id": index, "name": CLASSES[index]} for index in COUNTABLE]
    write_json(folder / "boxes.json", {"images": images, "annotations": annotations, "categories": categories})
    write_text(folder / "README.txt", _read_me(streets))


def centimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Depth as it is in the files.

    Args:
        depth: (H, W) float32, metres, infinite in the sky.

    Returns:
        (H, W) uint16, centimetres; 0 where it is infinite, at most 65535.
    """
    finite = np.isfinite(depth)
    rounded = np.rint(np.where(finite, depth, 0) * 100)
    return np.minimum(rounded, FARTHEST).astype(np.uint16)


def _annotations(scene: Scene, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """The boxes of a scene as COCO has them."""
    objects = scene.objects
    found = []
    for row, (box, label, track) in enumerate(zip(objects.boxes, objects.labels, objects.tracks, strict=True)):
        left, top, right, bottom = (int(edge) for edge in box)
        found.append(
            {
                "id": first_id + row,
                "image_id": image_id,
                "category_id": int(label),
                "bbox": [left, top, right - left, bottom - top],
                "area": int(np.count_nonzero(scene.instances == track)),
                "iscrowd": 0,
            }
        )
    return found


def _read_me(streets: Streets) -> str:
    height, width, seed = streets.height, streets.width, streets.seed
    return f"""Streets: {len(streets)} street scenes of {height} x {width} pixels (height x width), seed {seed}.

Rendered by Encore, no photographs. Licence: Apache-2.0.
Made again by: encore data make streets --num-samples {len(streets)} --size {height}x{width} --seed {seed}

images/         RGB
masks/          class index of each pixel, named in classes.txt; 255 is void
depth/          16-bit, centimetres along the optical axis; 0 is infinite (sky), 65535 is 655.35 m or farther
captions.jsonl  one sentence for each picture
boxes.json      cars, pedestrians and bicyclists, in COCO's format
"""
