"""What tests of data share: a cache of their own, no data sets from outside, small pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encore.base.errors import InputError


@pytest.fixture(scope="session")
def cache_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of this session's tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache_and_no_data_sets(cache_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCORE_CACHE", str(cache_root))
    monkeypatch.delenv("ENCORE_DATA", raising=False)


def random_image(seed: int = 0, height: int = 12, width: int = 16) -> np.ndarray:
    """(height, width, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def random_mask(seed: int = 0, height: int = 12, width: int = 16, num_classes: int = 3) -> np.ndarray:
    """(height, width) uint8, every class in it."""
    mask = np.random.default_rng(seed).integers(0, num_classes, (height, width), dtype=np.uint8)
    mask.flat[:num_classes] = np.arange(num_classes)
    return mask


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    """Save pixels in the format of the path's suffix, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def make_folder(folder: Path, count: int = 4, num_classes: int = 3, first_seed: int = 0) -> Path:
    """A valid images/ and masks/ of `count` pairs."""
    for index in range(count):
        save(folder / "images" / f"street_{index}.png", random_image(first_seed + index))
        save(folder / "masks" / f"street_{index}.png", random_mask(first_seed + index, num_classes=num_classes))
    return folder


def refusal(action: Callable[[], object], kind: type[InputError] = InputError) -> str:
    """The message with which `action` is refused; checks that it is one line with a remedy."""
    with pytest.raises(kind) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.problem
    assert caught.value.remedy
    return message
