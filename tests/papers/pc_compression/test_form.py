"""Pictures become categories and come back."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encore.data.exact import cut_tiles, join_tiles, num_tiles
from encore.papers.pc_compression.form import SampleForm, decorrelated, recorrelated


def test_the_colour_transform_is_without_loss_and_grey_has_no_colour():
    steps = np.array([0, 1, 2, 63, 64, 127, 128, 129, 200, 254, 255], np.uint8)
    rgb = np.array(list(itertools.product(steps, repeat=3)), np.uint8)
    assert (recorrelated(decorrelated(rgb)) == rgb).all()
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, 1)
    assert (decorrelated(grey)[:, 0] == grey[:, 0]).all()
    assert not decorrelated(grey)[:, 1:].any()


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 7), st.integers(1, 7), st.booleans())
def test_tiles_come_together_again(H, W, h, w, colour):
    rest = (3,) if colour else ()
    picture = np.random.default_rng(H * W).integers(0, 256, (H, W, *rest)).astype(np.uint8)
    tiles = cut_tiles(picture, (h, w))
    assert tiles.shape == (num_tiles(picture.shape, (h, w)), h, w, *rest)
    assert (join_tiles(tiles, picture.shape) == picture).all()


@pytest.mark.parametrize("form", [SampleForm((2, 3)), SampleForm((2, 2, 3)), SampleForm((2, 2, 3), 7, -3)])
def test_variables_are_categories(form):
    samples = np.random.default_rng(0).integers(form.lowest, form.lowest + form.num_values, (5, *form.shape))
    variables = form.variables(samples)
    assert variables.shape == (5, form.num_variables)
    assert 0 <= variables.min() <= variables.max() < form.num_values
    assert (form.samples(variables) == samples).all()


def test_other_shapes_and_values_are_named():
    form = SampleForm((2, 3), 4, 1)
    assert form.refusal((2, 3), 1, 4) is None
    assert "3×2 came" in form.refusal((3, 2))
    assert "0 to 4" in form.refusal((2, 3), 0, 4)
    assert "1 to 5" in form.refusal((2, 3), 1, 5)
