"""Streets as a named set: rendered once, read afterwards, the same for everybody."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encore.data.named import open_segmentation, open_segmentation_part
from encore.data.sets import streets as module
from encore.data.sets.streets import on_disk, open_streets
from encore.data.streets import Streets


def test_a_second_opening_reads_what_the_first_one_rendered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENCORE_CACHE", str(tmp_path))
    first = open_streets(image_size=(16, 24), train=3, val=1, test=1)
    monkeypatch.setattr(module, "_render", lambda *_: pytest.fail("rendered again"))
    again = open_streets(image_size=(16, 24), train=3, val=1, test=1)
    assert torch.equal(first.train[2]["image"], again.train[2]["image"])
    assert len(list(tmp_path.glob("streets/*/16x24-seed*"))) == 3


def test_cached_samples_are_those_of_the_renderer():
    rendered = Streets(3, height=16, width=24, seed=5)
    cached = on_disk(rendered)
    for index in range(3):
        assert torch.equal(cached[index]["image"], rendered[index]["image"])
        assert torch.equal(cached[index]["mask"], rendered[index]["mask"])
        assert cached[index]["name"] == rendered[index]["name"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("ENCORE_CACHE", str(tmp_path / "file"))
    assert torch.equal(
        on_disk(Streets(2, height=16, width=16))[1]["image"], Streets(2, height=16, width=16)[1]["image"]
    )


def test_a_damaged_cache_is_rendered_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ENCORE_CACHE", str(tmp_path))
    streets = Streets(2, height=16, width=16)
    on_disk(streets)
    (file,) = tmp_path.rglob("images.npy")
    file.write_bytes(file.read_bytes()[:200])
    assert torch.equal(on_disk(streets)[1]["image"], streets[1]["image"])


def test_the_set_is_the_same_whatever_the_seed_and_rendered_at_the_size_that_is_asked_for():
    one, other = (open_segmentation("streets", image_size=(16, 16), seed=seed) for seed in (0, 7))
    assert one.embedded
    assert one.sizes() == {"train": 600, "val": 100, "test": 200}
    assert torch.equal(one.test[3]["image"], other.test[3]["image"])
    assert "16 × 16" in one.source


def test_a_trained_model_is_measured_on_the_test_part():
    assert len(open_segmentation_part("streets")) == 200
