"""Tiny folders of street scenes, and the command line as a user calls it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from encore.cli import main
from encore.data.streets import CLASSES, render_scene

TINY = ("--set", "model_arguments.width=8", "--set", "model_arguments.kernel_size=3", "--device", "cpu")
"""A net that trains in a second."""


@pytest.fixture(scope="session")
def streets_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen scenes of 24×32 pixels as images/ and masks/, with classes.txt; not to be written to."""
    folder = tmp_path_factory.mktemp("streets")
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for seed in range(16):
        scene = render_scene(seed, 24, 32)
        Image.fromarray(scene.image).save(folder / "images" / f"street_{seed}.png")
        Image.fromarray(scene.mask).save(folder / "masks" / f"street_{seed}.png")
    (folder / "classes.txt").write_text("\n".join(CLASSES))
    return folder


@pytest.fixture
def damaged(streets_folder: Path, tmp_path: Path) -> Path:
    """A copy of `streets_folder` that a test may damage."""
    return Path(shutil.copytree(streets_folder, tmp_path / "data"))


@pytest.fixture(scope="session")
def trained(streets_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN that `encore fit` left; not to be written to."""
    out = tmp_path_factory.mktemp("trained") / "run"
    words = ("fit", "segmentation", str(streets_folder), "--epochs", "2", "--out", str(out), "--progress", "none")
    assert main([*words, *TINY]) == 0
    return out
