"""Streets as a named set: rendered once, read from the cache afterwards, and always the same."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from encore.base.errors import DataError
from encore.data.named import open_set
from encore.data.resizing import sizes_of
from encore.data.segmentation_arrays import ArraySamples
from encore.data.sets import streets as module
from encore.data.sets.streets import SET, on_disk, open_streets
from encore.data.streets import CLASSES, Streets

from ..conftest import refusal


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENCORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def renderings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The indices of the scenes that were rendered."""
    rendered: list[int] = []
    scene = Streets.scene

    def counted(streets: Streets, index: int) -> object:
        rendered.append(index)
        return scene(streets, index)

    monkeypatch.setattr(Streets, "scene", counted)
    return rendered


def tiny(num_samples: int = 3, seed: int = 0) -> Streets:
    return Streets(num_samples, height=16, width=24, seed=seed)


def check(samples: object, streets: Streets) -> None:
    assert len(samples) == len(streets)  # type: ignore[arg-type]
    assert samples.classes == CLASSES  # type: ignore[attr-defined]
    for index in range(len(streets)):
        sample, due = samples[index], streets[index]  # type: ignore[index]
        assert torch.equal(sample["image"], due["image"])
        assert torch.equal(sample["mask"], due["mask"])
        assert sample["name"] == due["name"]


def test_samples_from_the_cache_equal_those_of_the_renderer(cache: Path):
    check(on_disk(tiny()), tiny())
    check(on_disk(tiny()), tiny())


def test_samples_are_rendered_once_and_then_read(cache: Path, renderings: list[int]):
    on_disk(tiny())
    assert renderings == [0, 1, 2]
    samples = on_disk(tiny())
    assert samples[2]["name"] == "streets_0_00002"
    assert renderings == [0, 1, 2]
    files = [path.name for path in cache.rglob("*") if path.is_file()]
    assert sorted(files) == ["images.npy", "masks.npy"]


def test_other_sizes_seeds_and_numbers_are_other_places(cache: Path):
    on_disk(tiny())
    on_disk(tiny(seed=1))
    on_disk(tiny(num_samples=2))
    on_disk(Streets(3, height=24, width=16, seed=0))
    assert len(list(cache.glob("streets/*/*"))) == 4


def test_a_changed_renderer_renders_anew(cache: Path, renderings: list[int], monkeypatch: pytest.MonkeyPatch):
    on_disk(tiny())
    monkeypatch.setattr(module, "_renderer_version", lambda: "another")
    on_disk(tiny())
    assert renderings == [0, 1, 2] * 2


def test_a_cache_that_cannot_be_written_leaves_the_renderer(cache: Path, renderings: list[int]):
    cache.write_text("a file in its place")
    samples = on_disk(tiny())
    assert sizes_of(samples) == [(16, 24)] * 3
    assert renderings == []
    check(samples, tiny())
    assert cache.read_text() == "a file in its place"


def test_a_full_disk_leaves_the_renderer_and_no_rest(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_header", refuse)
    check(on_disk(tiny()), tiny())
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "text", "shape", "folder"])
def test_a_damaged_cache_is_rendered_again(cache: Path, damage: str):
    on_disk(tiny())
    (masks,) = cache.rglob("masks.npy")
    data = masks.read_bytes()
    masks.unlink()
    if damage == "truncated":
        masks.write_bytes(data[:-10])
    elif damage == "empty":
        masks.touch()
    elif damage == "text":
        masks.write_text("no array")
    elif damage == "shape":
        np.save(masks, np.zeros((3, 16, 25), np.uint8))
    elif damage == "folder":
        shutil.rmtree(masks.parent)
        masks.parent.mkdir()
    samples = on_disk(tiny())
    assert isinstance(samples, ArraySamples)
    check(samples, tiny())


def test_the_set_has_seeds_0_1_and_2_whatever_the_seed_of_a_training(cache: Path):
    splits = open_streets(image_size=(16, 24), train=3, val=2, test=1)
    assert splits.sizes() == {"train": 3, "val": 2, "test": 1}
    assert splits.embedded
    for seed, part in enumerate((splits.train, splits.val, splits.test)):
        check(part, tiny(len(part), seed=seed))


def test_the_named_set_is_rendered_at_the_size_that_is_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        module.open_streets, "__kwdefaults__", {"image_size": (16, 24), "train": 3, "val": 2, "test": 1}
    )
    one, other = (open_set("streets", image_size=(20, 16), seed=seed, roots={}) for seed in (0, 5))
    assert one.train.sizes == [(20, 16)] * 3
    assert "resized" not in one.source
    assert torch.equal(one.train[0]["image"], other.train[0]["image"])
    assert SET.embedded


def test_sizes_and_numbers_that_are_too_small_are_refused(cache: Path):
    refusal(lambda: open_streets(image_size=(8, 24), train=1, val=1, test=1), DataError)
    refusal(lambda: open_streets(image_size=(16, 24), train=0, val=1, test=1), DataError)
