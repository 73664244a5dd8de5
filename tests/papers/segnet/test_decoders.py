"""The decoder variants of Table 1: counts, shapes, bilinear beginnings and stored bytes."""

import math

import pytest
import torch
import torch.nn.functional as F

from encore.nn.creation import create_model
from encore.nn.model import num_parameters
from encore.papers.segnet.baselines.decoders import (
    FCNBasicNoAddition,
    SegNetBasicBilinear,
    SegNetBasicEncoderAddition,
    bilinear_upsampling,
    feature_map_bytes,
)
from encore.papers.segnet.model import SegNet, SegNetBasic, stored_bytes

VARIANTS = {
    "segnet_basic_bilinear": (613_003, 0.625e6),
    "fcn_basic_no_addition": (643_979, 0.65e6),
    "segnet_basic_encoder_addition": (1_416_587, 1.425e6),
}
"""Parameters counted here, and as Table 1 prints them."""

SMALL = {"num_classes": 5, "width": 8, "kernel_size": 3}


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_as_counted_and_within_two_percent_of_table_1(name):
    counted, printed = VARIANTS[name]
    assert num_parameters(create_model(name)) == counted
    assert counted == pytest.approx(printed, rel=0.02)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [(1, 1), (16, 32), (17, 31), (3, 50)])
def test_logits_have_the_size_of_the_picture(name, size):
    model = create_model(name, **SMALL).eval()
    with torch.no_grad():
        logits = model(255 * torch.rand(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", VARIANTS)
def test_all_share_the_encoder_of_segnet_basic(name):
    torch.manual_seed(0)
    reference = SegNetBasic(**SMALL).eval()
    torch.manual_seed(0)
    model = create_model(name, **SMALL).eval()
    x = 255 * torch.rand(1, 3, 17, 20, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert model.encode(x)[0].equal(reference.encode(x)[0])


@pytest.mark.parametrize("name", VARIANTS)
def test_forward_is_decoding_what_was_encoded(name):
    model = create_model(name, **SMALL).eval()
    x = 255 * torch.rand(1, 3, 17, 20)
    with torch.no_grad():
        assert model.decode(*model.encode(x)).equal(model(x))


# bilinear upsampling


def test_the_bilinear_decoder_stretches_the_classified_map():
    model = SegNetBasicBilinear(**SMALL).eval()
    x = 255 * torch.rand(1, 3, 20, 33)
    with torch.no_grad():
        scores = model.conv_classifier(model.encode(x)[0])
        due = F.interpolate(scores, (20, 33), mode="bilinear", align_corners=False)
        assert model(x).equal(due)


def test_learned_upsampling_begins_as_bilinear_in_the_interior():
    x = torch.randn(2, 5, 6, 9, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        upsampled = bilinear_upsampling(5)(x)
    due = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    assert upsampled.shape == due.shape
    torch.testing.assert_close(upsampled[..., 1:-1, 1:-1], due[..., 1:-1, 1:-1])


def test_a_chain_of_learned_upsamplings_keeps_a_constant_in_the_interior():
    model = FCNBasicNoAddition(**SMALL).eval()
    torch.nn.init.zeros_(model.conv_classifier.weight)
    torch.nn.init.constant_(model.conv_classifier.bias, 3.0)
    with torch.no_grad():
        logits = model(torch.zeros(1, 3, 96, 96))
    torch.testing.assert_close(logits[..., 32:64, 32:64], torch.full((1, 5, 32, 32), 3.0))


def test_learned_upsampling_is_trained():
    model = FCNBasicNoAddition(**SMALL)
    model(255 * torch.rand(2, 3, 32, 32)).square().mean().backward()
    for stage in range(1, 5):
        assert model.get_submodule(f"deconv{stage}").weight.grad.abs().sum() > 0


# adding encoder maps


@pytest.mark.parametrize("added_map", ["pooled", "before_pooling"])
def test_the_encoder_maps_are_added_after_every_decoder_stage(added_map):
    torch.manual_seed(0)
    model = SegNetBasicEncoderAddition(**SMALL, depth=2, added_map=added_map).eval()
    x = 255 * torch.rand(1, 3, 9, 10)

    def stage(name, x):
        return model.get_submodule(f"{name}_bn")(model.get_submodule(name)(x))

    def pool(x):
        return F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)

    with torch.no_grad():
        full1 = stage("conv1", F.local_response_norm(x, 5, alpha=1e-4, beta=0.75)).relu()
        pooled1, indices1 = pool(full1)
        full2 = stage("conv2", pooled1).relu()
        pooled2, indices2 = pool(full2)
        due = stage("conv_decode2", F.max_unpool2d(pooled2, indices2, 2, 2, output_size=full2.shape[2:]))
        due = due + (pooled1 if added_map == "pooled" else full2)
        due = stage("conv_decode1", F.max_unpool2d(due, indices1, 2, 2, output_size=full1.shape[2:]))
        if added_map == "before_pooling":
            due = due + full1
        torch.testing.assert_close(model(x), model.conv_classifier(due))


# storage


@pytest.mark.parametrize("name", ["segnet_basic_bilinear", "fcn_basic_no_addition"])
def test_variants_that_know_nothing_of_the_encoder_store_nothing(name):
    assert stored_bytes(create_model(name, **SMALL), 360, 480) == 0


@pytest.mark.parametrize("size", [(32, 48), (33, 47)])
def test_encoder_addition_stores_offsets_and_float_maps(size):
    sizes = [size]
    for _ in range(4):
        sizes.append((math.ceil(sizes[-1][0] / 2), math.ceil(sizes[-1][1] / 2)))
    cells = [H * W for H, W in sizes]
    offsets = sum(8 * 2 * windows // 8 for windows in cells[1:])
    before_pooling = SegNetBasicEncoderAddition(**SMALL, added_map="before_pooling")
    pooled = SegNetBasicEncoderAddition(**SMALL, added_map="pooled")
    assert stored_bytes(before_pooling, *size) == offsets + sum(8 * 4 * count for count in cells[:-1])
    assert stored_bytes(pooled, *size) == offsets + sum(8 * 4 * count for count in cells[1:-1])


@pytest.mark.parametrize("name", ["segnet", "segnet_basic"])
def test_float_maps_take_64_times_the_offsets_before_pooling_and_16_times_after(name):
    with torch.device("meta"):
        model = create_model(name)
    assert feature_map_bytes(model, 384, 480) == 64 * stored_bytes(model, 384, 480)
    assert feature_map_bytes(model, 384, 480, pooled=True) == 16 * stored_bytes(model, 384, 480)
    assert feature_map_bytes(model, 33, 47, pooled=True) == 16 * stored_bytes(model, 33, 47)


def test_odd_sizes_store_a_little_more_than_a_64th():
    with torch.device("meta"):
        model = SegNet()
    ratio = feature_map_bytes(model, 360, 480) / stored_bytes(model, 360, 480)
    assert 63 < ratio < 64


def test_half_precision_halves_the_maps_and_not_the_offsets():
    model = SegNetBasic(**SMALL)
    single, offsets = feature_map_bytes(model, 32, 32), stored_bytes(model, 32, 32)
    model.to(torch.bfloat16)
    assert 2 * feature_map_bytes(model, 32, 32) == single
    assert stored_bytes(model, 32, 32) == offsets
