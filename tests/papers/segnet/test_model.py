"""SegNet and SegNet-Basic against the paper's counts and shapes and the official prototxts' names."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from encore.base.errors import InputError
from encore.nn.model import num_parameters
from encore.papers.segnet.model import DECODER, ENCODER, SegNet, SegNetBasic, stored_bytes


@pytest.fixture(scope="module")
def segnet() -> SegNet:
    with torch.device("meta"):
        return SegNet(num_classes=11)


def test_the_encoder_is_vgg16_s_convolutions(segnet: SegNet):
    convolutions = [segnet.get_submodule(name) for stage in ENCODER for name, _ in stage]
    assert len(convolutions) == 13
    assert sum(one.weight.numel() for one in convolutions) == 14_710_464
    assert sum(num_parameters(one) for one in convolutions) == 14_714_688


def test_all_convolutions_are_the_paper_s_117_megabytes(segnet: SegNet):
    convolutions = [one for one in segnet.modules() if isinstance(one, nn.Conv2d)]
    assert len(convolutions) == 26
    assert sum(one.weight.numel() for one in convolutions) / 1e6 == pytest.approx(29.42, abs=0.01)
    assert int(sum(num_parameters(one) for one in convolutions) * 4 / 1e6) == 117


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv1_1", (64, 3, 3, 3)),
        ("conv5_3", (512, 512, 3, 3)),
        ("conv5_3_D", (512, 512, 3, 3)),
        ("conv5_1_D", (512, 512, 3, 3)),
        ("conv4_1_D", (256, 512, 3, 3)),
        ("conv3_1_D", (128, 256, 3, 3)),
        ("conv2_1_D", (64, 128, 3, 3)),
        ("conv1_2_D", (64, 64, 3, 3)),
        ("conv1_1_D", (11, 64, 3, 3)),
    ],
)
def test_layers_have_the_prototxt_s_names_and_shapes(segnet: SegNet, name: str, shape: tuple[int, ...]):
    layer = segnet.get_submodule(name)
    assert tuple(layer.weight.shape) == shape
    assert layer.bias.shape == shape[:1]
    assert hasattr(segnet, f"{name}_bn") == (name != "conv1_1_D")


def test_stages_at_the_paper_s_size_have_23_and_12_rows(segnet: SegNet):
    features, kept = segnet.eval().encode(torch.empty(1, 3, 360, 480, device="meta"))
    assert tuple(features.shape) == (1, 512, 12, 15)
    assert [one.size for one in kept] == [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]
    assert tuple(segnet.decode(features, kept).shape) == (1, 11, 360, 480)


def test_units_mirror_each_other():
    assert [name for stage in DECODER for name, _ in stage] == [
        f"{name}_D" for stage in reversed(ENCODER) for name, _ in reversed(stage)
    ][:-1]


def test_initialisation_is_msra_with_batch_norm_shifted_by_a_thousandth():
    model = SegNetBasic()
    for name, layer in model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert torch.allclose(layer.bias, torch.tensor(0.001))
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.in_channels * layer.kernel_size[0] ** 2
            assert (layer.bias == 0).all()
            assert layer.weight.detach().std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.1), name


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (33, 47), (64, 32)])
def test_any_size_comes_back_as_it_went_in(size: tuple[int, int]):
    model = SegNet(num_classes=4).eval()
    basic = SegNetBasic(num_classes=4, width=8, kernel_size=3).eval()
    for one in (model, basic):
        logits = one(255 * torch.rand(1, 3, *size))
        assert tuple(logits.shape) == (1, 4, *size)
        assert logits.isfinite().all()


def test_forward_is_a_slow_reading_of_the_prototxt():
    torch.manual_seed(0)
    model = SegNetBasic(num_classes=5, width=6, kernel_size=3, depth=2).eval()
    x = 255 * torch.rand(2, 3, 9, 14)
    y, stack = F.local_response_norm(x, 5, 1e-4, 0.75), []
    for stage in (1, 2):
        y = F.relu(getattr(model, f"conv{stage}_bn")(getattr(model, f"conv{stage}")(y)))
        size = y.shape[2:]
        y, indices = F.max_pool2d(y, 2, 2, ceil_mode=True, return_indices=True)
        stack.append((indices, size))
    for stage in (2, 1):
        indices, size = stack.pop()
        y = F.max_unpool2d(y, indices, 2, 2, output_size=size)
        y = getattr(model, f"conv_decode{stage}_bn")(getattr(model, f"conv_decode{stage}")(y))
    assert torch.allclose(model(x), model.conv_classifier(y), atol=1e-5)


def test_segnet_basic_has_the_counted_parameters():
    assert num_parameters(SegNetBasic()) == 1_416_587


def test_the_decoder_sees_nothing_but_what_is_kept():
    model = SegNet(num_classes=3).eval()
    x = 255 * torch.rand(1, 3, 20, 28)
    assert torch.equal(model(x), model.decode(*model.encode(x)))


@pytest.mark.parametrize("size", [(360, 480), (33, 47)])
def test_two_bits_per_window_and_channel_are_kept(size: tuple[int, int]):
    H, W = size
    due = 0
    for stage in ENCODER:
        H, W = math.ceil(H / 2), math.ceil(W / 2)
        due += stage[-1][1] * H * W * 2 // 8
    assert stored_bytes(SegNet(), *size) == due


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 1, 3, 8, 8)])
def test_a_wrong_input_is_named_with_what_is_due(shape: tuple[int, ...]):
    with pytest.raises(InputError, match=r"takes \(B, 3, H, W\)"):
        SegNetBasic(width=8, kernel_size=3)(torch.zeros(shape))
