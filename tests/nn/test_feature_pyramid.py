"""The feature pyramid against its definition, and its extra levels."""

import pytest
import torch
import torch.nn.functional as F

from encore.nn.feature_pyramid import FPN
from encore.nn.model import num_parameters

MAPS = [torch.randn(2, channels, height, width) for channels, height, width in ((4, 13, 9), (8, 7, 5), (12, 4, 3))]
"""Odd sizes, as pictures that strides do not divide leave them."""


def test_a_pyramid_is_laterals_a_way_down_and_a_convolution_of_each():
    torch.manual_seed(0)
    pyramid = FPN((4, 8, 12), 6)
    with torch.no_grad():
        levels = pyramid(MAPS)
        above = None
        for index in (2, 1, 0):
            merged = pyramid.laterals[index](MAPS[index])
            if above is not None:
                height, width = merged.shape[-2:]
                rows = torch.arange(height) * above.shape[2] // height
                columns = torch.arange(width) * above.shape[3] // width
                merged = merged + above[:, :, rows][:, :, :, columns]
            torch.testing.assert_close(levels[index], pyramid.outputs[index](merged))
            above = merged


@pytest.mark.parametrize("extra", ["max_pool", "input", "output"])
def test_levels_beyond_the_maps_are_each_of_half_the_size(extra):
    torch.manual_seed(0)
    pyramid = FPN((4, 8, 12), 6, num_levels=5, extra=extra)
    with torch.no_grad():
        levels = pyramid(MAPS)
        assert [tuple(level.shape) for level in levels[2:]] == [(2, 6, 4, 3), (2, 6, 2, 2), (2, 6, 1, 1)]
        if extra == "max_pool":
            assert levels[3].equal(levels[2][..., ::2, ::2])
            assert len(pyramid.extra_convs) == 0
        else:
            first, second = pyramid.extra_convs
            torch.testing.assert_close(levels[3], first(MAPS[2] if extra == "input" else levels[2]))
            torch.testing.assert_close(levels[4], second(F.relu(levels[3])))


def test_an_output_convolution_of_256_channels_has_590_080_parameters():
    with torch.device("meta"):
        assert num_parameters(FPN((1,)).outputs[0]) == 590_080


def test_pyramids_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="1 levels cannot be made of 2 maps"):
        FPN((4, 8), num_levels=1)
    with pytest.raises(ValueError, match="not 'pool'"):
        FPN((4,), extra="pool")
