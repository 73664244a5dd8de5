"""HorFPN: the parameters it saves, levels that work, and what stands in the place of the convolutions."""

import json

import pytest
import torch

from encore.nn.creation import create_model
from encore.nn.feature_pyramid import FPN
from encore.nn.model import num_parameters
from encore.nn.upernet import UPerHead
from encore.papers.hornet.horfpn import GnFPN, GnUPerHead


def test_a_gated_level_has_less_than_half_the_parameters():
    with torch.device("meta"):
        gated, plain = GnFPN((1, 2)), FPN((1, 2))
    assert num_parameters(gated.outputs[0]) == 249_600
    assert num_parameters(plain) - num_parameters(gated) == 2 * (590_080 - 249_600)


def test_a_gated_fusion_has_a_quarter_of_the_parameters():
    with torch.device("meta"):
        gated, plain = (kind((64, 128, 256, 512), 512, 150) for kind in (GnUPerHead, UPerHead))
    assert num_parameters(gated.fusion.gnconv) == 2_530_816
    assert num_parameters(plain.fusion.conv) == 9_437_184


@pytest.mark.parametrize("filter_size", [None, (6, 4)])
@pytest.mark.parametrize("extra", ["max_pool", "input", "output"])
def test_gated_pyramids_work_with_extra_levels_and_learn_in_all_parts(filter_size, extra):
    torch.manual_seed(0)
    pyramid = GnFPN((4, 8), 8, num_levels=4, extra=extra, filter_size=filter_size)
    levels = pyramid([torch.randn(2, 4, 12, 9), torch.randn(2, 8, 6, 5)])
    assert [tuple(level.shape) for level in levels] == [(2, 8, 12, 9), (2, 8, 6, 5), (2, 8, 3, 3), (2, 8, 2, 2)]
    sum(level.square().sum() for level in levels).backward()
    assert all(parameter.grad is not None for parameter in pyramid.parameters())


def test_gates_are_not_scaled_and_weights_begin_xavier_uniform():
    torch.manual_seed(0)
    gate = GnFPN((4,), 32).outputs[0]
    assert (gate.scale, gate.order, gate.dims) == (1.0, 2, [16, 32])
    bound = (6 / (32 + 64)) ** 0.5
    assert bound * 0.97 < gate.proj_in.weight.abs().max() <= bound
    assert not gate.proj_in.bias.any()


@pytest.mark.parametrize("fusion_filter", [None, [8, 5]])
def test_upernet_with_horfpn_segments(fusion_filter, tmp_path):
    torch.manual_seed(0)
    model = create_model(
        "upernet_horfpn",
        num_classes=3,
        backbone="hornet",
        backbone_arguments={"width": 16, "depths": [1, 1, 1, 1], "feature_norms": True},
        channels=8,
        fusion_filter=fusion_filter,
    )
    assert model(torch.randn(2, 3, 64, 96)).shape == (2, 3, 16, 24)
    model.save(tmp_path)
    again = create_model("upernet_horfpn", weights=tmp_path)
    assert json.loads(json.dumps(again.configuration)) == json.loads(json.dumps(model.configuration))
