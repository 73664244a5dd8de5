"""The decoder variants of Table 1: parameters, shapes, initialisation and what each keeps."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from encore.nn.creation import create_model
from encore.nn.model import num_parameters
from encore.papers.segnet.baselines import bilinear_upsampling, feature_map_bytes
from encore.papers.segnet.model import stored_bytes

COUNTS = {
    "segnet_basic_bilinear": (613_003, 0.625),
    "fcn_basic_no_addition": (643_979, 0.65),
    "segnet_basic_encoder_addition": (1_416_587, 1.425),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_as_counted_and_within_two_percent_of_table_1(name: str):
    counted, printed = COUNTS[name]
    assert num_parameters(create_model(name)) == counted
    assert counted / 1e6 == pytest.approx(printed, rel=0.02)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("size", [(24, 32), (23, 45), (1, 1)])
def test_logits_have_the_picture_s_size(name: str, size: tuple[int, int]):
    model = create_model(name, num_classes=4, width=8, kernel_size=3).eval()
    logits = model(255 * torch.rand(2, 3, *size))
    assert tuple(logits.shape) == (2, 4, *size)
    assert logits.isfinite().all()


def test_learnt_upsampling_begins_as_bilinear():
    x = torch.randn(1, 5, 6, 7)
    expected = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    made = bilinear_upsampling(5)(x)
    assert torch.allclose(made[..., 2:-2, 2:-2], expected[..., 2:-2, 2:-2], atol=1e-6)


def test_decoders_without_encoder_information_keep_nothing():
    for name in ("segnet_basic_bilinear", "fcn_basic_no_addition"):
        assert stored_bytes(create_model(name), 360, 480) == 0


def test_maps_before_pooling_take_64_times_what_offsets_take_and_pooled_ones_16_times():
    model = create_model("segnet_basic")
    offsets = stored_bytes(model, 320, 480)
    assert feature_map_bytes(model, 320, 480) == 64 * offsets
    assert feature_map_bytes(model, 320, 480, pooled=True) == 16 * offsets


@pytest.mark.parametrize("added_map", ["pooled", "before_pooling"])
def test_encoder_addition_keeps_offsets_and_maps_and_adds_them(added_map: str):
    model = create_model("segnet_basic_encoder_addition", width=8, kernel_size=3, added_map=added_map).eval()
    plain = create_model("segnet_basic", width=8, kernel_size=3).eval()
    plain.load_state_dict(model.state_dict())
    x = 255 * torch.rand(1, 3, 32, 48)
    assert not torch.allclose(model(x), plain(x))
    kept = stored_bytes(model, 32, 48) - stored_bytes(plain, 32, 48)
    # float32 maps of 8 channels: of all stages but the deepest pooled one, or of all stages before pooling
    sizes = [(16, 24), (8, 12), (4, 6)] if added_map == "pooled" else [(32, 48), (16, 24), (8, 12), (4, 6)]
    assert kept == sum(8 * H * W * 4 for H, W in sizes)
