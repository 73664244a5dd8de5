"""Pictures of segmentations: colours, legends, sheets and the index PNG."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encore.data.contracts import VOID
from encore.tasks.segmentation.pictures import (
    class_colours,
    colour_mask,
    overlay,
    present_classes,
    sample_sheet,
    save_index_mask,
    with_legend,
)

NAMES = ("sky", "road", "pedestrian")
COLOURS = class_colours(3)


def test_the_colours_of_twenty_classes_are_distinct_to_the_eye_and_none_is_that_of_void():
    colours = class_colours(20)
    assert len(colours) == 20
    assert min(math.dist(one, other) for one, other in itertools.combinations([*colours, (0, 0, 0)], 2)) > 25


def test_more_classes_keep_the_colours_of_fewer():
    assert class_colours(20)[:5] == class_colours(5)


def test_a_coloured_mask_shows_each_class_in_its_colour_and_void_in_black():
    coloured = colour_mask(torch.tensor([[0, 2, VOID]], dtype=torch.uint8), COLOURS)
    assert [tuple(pixel) for pixel in coloured[0].tolist()] == [COLOURS[0], COLOURS[2], (0, 0, 0)]


def test_an_overlay_lies_between_the_picture_and_its_mask():
    image = torch.full((3, 4, 6), 200, dtype=torch.uint8)
    mask = torch.ones(4, 6, dtype=torch.uint8)
    blended = np.asarray(overlay(image, mask, COLOURS, strength=0.5))
    assert blended.shape == (4, 6, 3)
    np.testing.assert_allclose(blended[2, 3], [(200 + value) / 2 for value in COLOURS[1]], atol=1)


def test_classes_are_present_if_any_mask_has_them():
    masks = [torch.tensor([[0, VOID]], dtype=torch.uint8), torch.tensor([[2, 2]], dtype=torch.uint8)]
    assert present_classes(masks, 4) == [0, 2]
    assert present_classes([torch.full((2, 2), VOID, dtype=torch.uint8)], 4) == []


@pytest.mark.parametrize("size", [(640, 480), (48, 32), (5, 900)])
def test_a_legend_shows_the_colour_and_the_whole_name_of_every_class(size: tuple[int, int]):
    picture = Image.new("RGB", size, (1, 2, 3))
    sheet = with_legend(picture, NAMES, COLOURS)
    assert sheet.crop((0, 0, *size)).tobytes() == picture.tobytes()
    strip = np.asarray(sheet)[size[1] :]
    for colour in COLOURS:
        assert (strip == colour).all(-1).any()
    assert (strip[:, -1] == 255).all(), "a name reaches the right edge"


def test_a_legend_without_classes_adds_nothing():
    assert with_legend(Image.new("RGB", (30, 20)), [], []).size == (30, 20)


def test_an_index_png_holds_the_classes_as_grey_values(tmp_path: Path):
    mask = torch.arange(12, dtype=torch.uint8).view(3, 4)
    save_index_mask(mask, tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as saved:
        assert saved.mode == "L"
        assert np.asarray(saved).tolist() == mask.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["mask.png"]


@pytest.mark.parametrize(("height", "width"), [(60, 80), (80, 10), (3, 900), (1, 1)])
def test_a_sheet_has_a_column_for_each_heading_and_a_row_for_each_sample(height: int, width: int):
    image = torch.randint(256, (3, height, width), dtype=torch.uint8)
    mask = torch.randint(3, (height, width), dtype=torch.uint8)
    rows = [(image, [mask, mask]), (image, [mask, torch.full_like(mask, VOID)])]
    sheet = sample_sheet(rows, ["picture", "truth", "model"], NAMES, COLOURS, cell_width=50)
    assert sheet.width >= 3 * 50
    assert sheet.height > 2 * max(50 * height // width, 1)


def test_a_sheet_shows_the_masks_in_their_colours():
    image, mask = torch.zeros(3, 20, 20, dtype=torch.uint8), torch.ones(20, 20, dtype=torch.uint8)
    sheet = np.asarray(sample_sheet([(image, [mask])], ["picture", "truth"], NAMES, COLOURS, cell_width=100))
    title, gap = 24, 6
    assert tuple(sheet[title + gap + 50, 2 * gap + 100 + 50]) == COLOURS[1]
    assert (sheet[title + gap + 50, gap + 50] == 0).all()
