"""Streets as a named set, its pictures rendered once and kept on disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from functools import cache
from importlib import resources
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from encore.base.files import cache_folder
from encore.data.contracts import DataSplits, SegmentationDataset
from encore.data.named import NamedSet
from encore.data.resizing import Resized, Size
from encore.data.segmentation_arrays import ArraySamples
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
    parts = [
        on_disk(Streets(count, height=height, width=width, seed=seed)) for seed, count in enumerate((train, val, test))
    ]
    return DataSplits(
        name="streets",
        train=parts[0],
        val=parts[1],
        test=parts[2],
        classes=CLASSES,
        origin="given",
        source=f"Streets, Encore's renderer, seeds 0, 1 and 2, at {height} × {width} pixels",
        embedded=True,
        colours=COLOURS,
    )


def on_disk(streets: Streets) -> SegmentationDataset:
    """The samples of `streets`, rendered once per machine and read from the cache afterwards.

    The cache is named after the renderer's source code, so that a changed renderer renders anew; what is damaged
    in it is rendered again. Where it cannot be written, the samples are rendered as they are asked for.
    """
    name = f"{streets.height}x{streets.width}-seed{streets.seed}-{len(streets)}"
    try:
        folder = cache_folder() / "streets" / _renderer_version() / name
        there = folder.is_dir()
        arrays = _read(streets, folder)
        if arrays is None:
            if there:
                shutil.rmtree(folder, ignore_errors=True)
            _render(streets, folder)
            arrays = _read(streets, folder)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder to keep a cache in
        arrays = None
    if arrays is None:
        return Resized(streets, (streets.height, streets.width))  # which knows the sizes without rendering
    return ArraySamples(*arrays, CLASSES, f"streets_{streets.seed}")


def _read(streets: Streets, folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Images (N, H, W, 3) and masks (N, H, W) from `folder`; None where they are not there whole."""
    shape = (len(streets), streets.height, streets.width)
    try:
        images, masks = (np.load(folder / f"{kind}.npy", mmap_mode="r") for kind in ("images", "masks"))
    except (FileNotFoundError, NotADirectoryError, ValueError, EOFError):
        return None
    whole = images.shape == (*shape, 3) and masks.shape == shape and images.dtype == masks.dtype == np.uint8
    return (images, masks) if whole else None


def _render(streets: Streets, folder: Path) -> None:
    """Render all samples into `folder`, which is then whole or absent.

    Raises:
        OSError: it cannot be written, or the disk is full.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        shape = (len(streets), streets.height, streets.width)
        # written as files: on a full disk a memory map ends the process
        with (partial / "images.npy").open("wb") as images, (partial / "masks.npy").open("wb") as masks:
            _write_header(images, (*shape, 3))
            _write_header(masks, shape)
            for index in range(len(streets)):
                scene = streets.scene(index)
                images.write(scene.image.tobytes())
                masks.write(scene.mask.tobytes())
        try:
            partial.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    """Begin an `.npy` file of uint8."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


@cache
def _renderer_version() -> str:
    digest = hashlib.blake2b(digest_size=6)
    for file in sorted(resources.files("encore.data.streets").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()


SET = StreetsSet()
