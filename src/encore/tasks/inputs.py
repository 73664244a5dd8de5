"""The files that people ask a prediction for, and what its results are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encore.base.errors import DataError
from encore.data.images import find_images


def input_files(inputs: Sequence[Path]) -> list[Path]:
    """The pictures that `inputs` (files and folders) mean, in order.

    Raises:
        DataError: a path does not exist, or a folder holds no picture.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = find_images(path)
            if not found:
                raise DataError(f"{path} holds no pictures", "name a picture, or a folder of pictures")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist", "name a picture, or a folder of pictures")
    return files


def unique_stems(files: Sequence[Path], suffixes: Sequence[str]) -> list[str]:
    """A name for each file's results: its stem, numbered where another file's results have that name already.

    Capitals make no difference, since they make none on many disks.

    Args:
        files: the inputs.
        suffixes: what the names of an input's results have after the stem.
    """
    stems: list[str] = []
    taken: set[str] = set()
    for file in files:
        stem, number = file.stem, 1
        while taken & (names := {f"{stem}{suffix}".casefold() for suffix in suffixes}):
            number += 1
            stem = f"{file.stem}_{number}"
        taken |= names
        stems.append(stem)
    return stems
