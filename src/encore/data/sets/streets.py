"""Streets as a named set, its pictures rendered once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np

from encore.base.files import cache_folder
from encore.data.contracts import DataSplits, SegmentationDataset
from encore.data.named import NamedSet
from encore.data.resizing import Size
from encore.data.segmentation_folder import ArraySamples
from encore.data.streets import CLASSES, COLOURS, Streets

SIZE = (96, 128)
"""(height, width) in pixels where nothing else is asked for."""

SAMPLES = {"train": 600, "val": 100, "test": 200}
"""Pictures in each part where nothing else is asked for."""


class StreetsSet(NamedSet):
    """Encore's own pictures of streets."""

    name = "streets"
    title = "Streets: rendered street scenes in the classes of CamVid"
    task = "segmentation"
    licence = "Apache-2.0"
    embedded = True

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """Rendered at `image_size` itself; see `open_streets`."""
        return open_streets(image_size=image_size or SIZE)


def open_streets(
    *, image_size: Size = SIZE, train: int = SAMPLES["train"], val: int = SAMPLES["val"], test: int = SAMPLES["test"]
) -> DataSplits:
    """The set that everybody gets: seeds 0, 1 and 2 for its three parts, whatever the seed of a training.

    Args:
        image_size: (height, width) in pixels, at least 16 each.
        train, val, test: number of pictures in each part; the first ones of the same sequence.

    Raises:
        DataError: a number is too small.
    """
    height, width = image_size
    parts = {
        part: on_disk(Streets(count, height=height, width=width, seed=seed))
        for seed, (part, count) in enumerate({"train": train, "val": val, "test": test}.items())
    }
    return DataSplits(
        name="streets",
        **parts,
        classes=CLASSES,
        origin="given",
        source=f"Streets, Encore's renderer, seeds 0, 1 and 2, at {height} × {width} pixels",
        embedded=True,
        colours=COLOURS,
    )


def on_disk(streets: Streets) -> SegmentationDataset:
    """The samples of `streets`, rendered once per machine and read from the cache afterwards.

    The cache is named after the renderer's source code, so that a changed renderer renders anew. Where it cannot
    be written, `streets` itself comes back.
    """
    name = f"{streets.height}x{streets.width}-seed{streets.seed}-{len(streets)}"
    folder = cache_folder() / "streets" / _renderer_version() / name
    if not folder.is_dir():
        try:
            _render(streets, folder)
        except OSError:
            return streets
    images, masks = (np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in ("images", "masks"))
    return ArraySamples(images, masks, CLASSES, f"streets_{streets.seed}")


def _render(streets: Streets, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        shape = (len(streets), streets.height, streets.width)
        images = np.lib.format.open_memmap(partial / "images.npy", mode="w+", dtype=np.uint8, shape=(*shape, 3))
        masks = np.lib.format.open_memmap(partial / "masks.npy", mode="w+", dtype=np.uint8, shape=shape)
        for index in range(len(streets)):
            scene = streets.scene(index)
            images[index], masks[index] = scene.image, scene.mask
        images.flush()
        masks.flush()
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@cache
def _renderer_version() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(resources.files("encore.data.streets").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()


SET = StreetsSet()
