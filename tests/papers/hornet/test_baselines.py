"""The mixers that gnConv is compared with: counted, and computed pixel by pixel."""

import pytest
import torch
from torch import nn

from encore.nn.creation import create_model
from encore.nn.model import num_parameters
from encore.papers.hornet.baselines import WideDepthwise, WindowAttention

NAMES = ("hornet_depthwise", "hornet_depthwise_matched", "hornet_window_attention", "hornet_gated")

PROBE = {"num_classes": 2, "in_channels": 1, "width": 32, "depths": (3,), "stem": (3, 1), "layer_scale": 1.0}
PROBE_THOUSANDS = {
    "hornet_gated": 40.5,
    "hornet_depthwise_matched": 48.3,
    "hornet_depthwise": 30.9,
    "hornet_window_attention": 39.8,
}
"""Three blocks of 32 channels behind a 3×3 stem, two classes."""


def thousands(model: nn.Module) -> float:
    return (num_parameters(model) + 50) // 100 / 10  # halves are rounded up


@pytest.mark.parametrize("name", PROBE_THOUSANDS)
def test_small_networks_have_the_parameters_of_the_probe(name):
    assert thousands(create_model(name, **PROBE)) == PROBE_THOUSANDS[name]


@pytest.mark.parametrize(("order", "count"), [(4, 46.8), (2, 44.5)])
def test_so_has_gnconv(order, count):
    assert thousands(create_model("hornet", **PROBE, orders=(order,), filters=(None,))) == count


def test_networks_of_three_stages_have_the_parameters_that_were_counted():
    three = {"num_classes": 10, "width": 32, "depths": (1, 2, 1), "stem": (4, 2), "initialisation": "xavier"}
    assert thousands(create_model("hornet_depthwise_matched", **three)) == 384.6
    assert thousands(create_model("hornet_depthwise", **three)) == 266.9
    assert thousands(create_model("hornet", **three, orders=(2, 3, 4), filters=(None, None, None))) == 372.6


@pytest.mark.parametrize("name", NAMES)
def test_they_share_the_skeleton_and_learn_in_all_parts(name):
    torch.manual_seed(0)
    arguments = {"width": 8, "depths": (1, 1), "num_classes": 3, "layer_scale": 1.0, "feature_norms": False}
    model = create_model(name, **arguments)
    ours = create_model("hornet", **arguments, orders=(1, 2), filters=(None, None))
    besides = [[key for key in one.state_dict() if ".mixer." not in key] for one in (model, ours)]
    assert besides[0] == besides[1]
    model(torch.randn(2, 3, 36, 44)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    maps = create_model(name, **arguments, features_only=True)(torch.randn(1, 3, 32, 64))
    assert [tuple(one.shape) for one in maps] == [(1, 8, 8, 16), (1, 16, 4, 8)]


def slow_attention(layer: WindowAttention, x: torch.Tensor, window: int) -> torch.Tensor:
    """Every pixel asks those of its window, one head after the other."""
    rows = (x + layer.position(x)).permute(0, 2, 3, 1)
    queries, keys, values = layer.qkv(rows).chunk(3, dim=-1)
    _, H, W, C = rows.shape
    width = C // layer.num_heads
    mixed = torch.zeros_like(rows)
    for row in range(H):
        for column in range(W):
            top, left = row // window * window, column // window * window
            here = (slice(None), slice(top, min(top + window, H)), slice(left, min(left + window, W)))
            for head in range(layer.num_heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.einsum("bc,bhwc->bhw", queries[:, row, column, part], keys[here][..., part])
                weights = (scores / width**0.5).flatten(1).softmax(1).view_as(scores)
                mixed[:, row, column, part] = torch.einsum("bhw,bhwc->bc", weights, values[here][..., part])
    return layer.proj_out(mixed).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(4, 6), (3, 3), (7, 5), (2, 9)])
def test_windows_attend_as_pixel_by_pixel(size):
    torch.manual_seed(0)
    layer = WindowAttention(64, window=3).double()
    assert layer.num_heads == 2
    x = torch.randn(2, 64, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), slow_attention(layer, x, 3))


def test_a_map_smaller_than_a_window_is_attended_to_as_a_whole():
    torch.manual_seed(0)
    layer = WindowAttention(32)
    assert layer.window == 7
    x = torch.randn(1, 32, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), slow_attention(layer, x, 100), rtol=1e-4, atol=1e-5)


def test_the_matched_control_is_two_projections_around_a_depthwise_convolution():
    torch.manual_seed(0)
    layer = WideDepthwise(8)
    x = torch.randn(1, 8, 9, 5)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), layer.proj_out(layer.dwconv(layer.proj_in(x))), rtol=1e-4, atol=1e-5)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(ValueError, match="whole number of heads"):
        WindowAttention(65)
