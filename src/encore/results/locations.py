"""Where records lie: those that Encore publishes, and those of the user's own runs."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import encore


def published_records() -> Path:
    """The folder of the laptop-scale records that come with Encore: `<paper>/result.json`.

    In an installed package it lies beside this module; in a checkout at `results/laptop`.
    """
    packaged = Path(str(resources.files("encore.results"))) / "laptop"
    if packaged.is_dir():
        return packaged
    return Path(encore.__file__).parents[2] / "results" / "laptop"


def record_folders(working_directory: Path) -> tuple[Path, ...]:
    """Folders that hold records, one level deep: the published ones and `runs/` here."""
    return published_records(), working_directory / "runs"
