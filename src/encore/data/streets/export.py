"""Streets as files, in the layouts that people's own data has."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from encore.base.errors import RunFolderError
from encore.base.files import unwritable
from encore.base.progress import ProgressReporter
from encore.data.streets.classes import CLASSES, COUNTABLE
from encore.data.streets.dataset import Streets

README = """Streets: {count} scenes of {height} x {width} pixels, rendered by Encore from seed {seed}. Apache-2.0.

images/NAME.png   RGB
masks/NAME.png    class index per pixel, 255 is void; names in classes.txt
depth/NAME.png    16 bits, centimetres along the optical axis; 0 in the sky and past 655 m
boxes.json        cars, pedestrians and bicyclists in COCO's format
captions.jsonl    one English sentence per picture
"""


def write_folder(
    folder: Path, num_samples: int, *, height: int, width: int, seed: int, progress: ProgressReporter
) -> None:
    """Render `Streets(num_samples, height, width, seed)` into `folder`, all of it or nothing.

    Leaves images/, masks/, depth/ (16-bit PNG, centimetres, 0 where there is no depth below 655.36 m), `classes.txt`,
    `boxes.json` (COCO), `captions.jsonl` and `README.txt`.

    Args:
        folder: made; refused where something lies in it.
        num_samples: at least 1.
        height, width: in pixels, at least 16.
        seed: of the data set.
        progress: told of every scene.

    Raises:
        RunFolderError: the folder is not empty, is a file, or cannot be written.
        DataError: a number is too small.
    """
    streets = Streets(num_samples, height=height, width=width, seed=seed)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunFolderError(f"--out {folder} is not an empty folder", "name another folder with --out")
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        for part in ("images", "masks", "depth"):
            (partial / part).mkdir(parents=True)
        _write_scenes(streets, partial, progress)
        (partial / "classes.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        readme = README.format(count=num_samples, height=height, width=width, seed=seed)
        (partial / "README.txt").write_text(readme, encoding="utf-8")
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_scenes(streets: Streets, folder: Path, progress: ProgressReporter) -> None:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    captions: list[str] = []
    for index in range(len(streets)):
        scene, name = streets.scene(index), f"streets_{streets.seed}_{index:05d}.png"
        Image.fromarray(scene.image).save(folder / "images" / name)
        Image.fromarray(scene.mask).save(folder / "masks" / name)
        Image.fromarray(_centimetres(scene.depth)).save(folder / "depth" / name)
        images.append({"id": index, "file_name": name, "height": streets.height, "width": streets.width})
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True):
            left, top, right, bottom = box
            sides = [left, top, right - left, bottom - top]
            area = sides[2] * sides[3]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": label, "bbox": sides}
                | {"area": area, "iscrowd": 0}
            )
        captions.append(json.dumps({"image": name, "caption": scene.caption}) + "\n")
        progress.update("rendering", index + 1, len(streets))
    categories = [{"id": label, "name": CLASSES[label]} for label in COUNTABLE]
    boxes = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(boxes), encoding="utf-8")
    (folder / "captions.jsonl").write_text("".join(captions), encoding="utf-8")


def _centimetres(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """(H, W) metres → (H, W) whole centimetres, 0 where that is more than 16 bits hold."""
    near = np.where(depth < 655.35, depth, 0)
    return np.rint(near * 100).astype(np.uint16)
