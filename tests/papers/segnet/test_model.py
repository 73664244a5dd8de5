"""SegNet and SegNet-Basic: counts, shapes and names of the paper and its prototxts."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.nn.model import Backbone, FeatureInfo, num_parameters
from encore.papers.segnet.model import DECODER, ENCODER, RAW_BGR, SegNet, SegNetBasic, kept_for_decoder, stored_bytes

VGG16 = [
    ("conv1_1", 3, 64),
    ("conv1_2", 64, 64),
    ("conv2_1", 64, 128),
    ("conv2_2", 128, 128),
    ("conv3_1", 128, 256),
    ("conv3_2", 256, 256),
    ("conv3_3", 256, 256),
    ("conv4_1", 256, 512),
    ("conv4_2", 512, 512),
    ("conv4_3", 512, 512),
    ("conv5_1", 512, 512),
    ("conv5_2", 512, 512),
    ("conv5_3", 512, 512),
]
MIRROR = [
    ("conv5_3_D", 512, 512),
    ("conv5_2_D", 512, 512),
    ("conv5_1_D", 512, 512),
    ("conv4_3_D", 512, 512),
    ("conv4_2_D", 512, 512),
    ("conv4_1_D", 512, 256),
    ("conv3_3_D", 256, 256),
    ("conv3_2_D", 256, 256),
    ("conv3_1_D", 256, 128),
    ("conv2_2_D", 128, 128),
    ("conv2_1_D", 128, 64),
    ("conv1_2_D", 64, 64),
]


@pytest.fixture(scope="module")
def on_meta() -> SegNet:
    """The full model without storage: shapes and counts take no time."""
    with torch.device("meta"):
        return SegNet(num_classes=11)


@pytest.fixture(scope="module")
def full() -> SegNet:
    """The full model with weights; tests leave them as they are."""
    torch.manual_seed(0)
    return SegNet(num_classes=11).eval()


@pytest.fixture(scope="module")
def small() -> SegNetBasic:
    torch.manual_seed(0)
    return SegNetBasic(num_classes=5, width=8, kernel_size=3).eval()


def convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    return {name: module for name, module in model.named_children() if isinstance(module, nn.Conv2d)}


# counts and names


def test_the_encoder_holds_the_weights_of_vgg16(on_meta):
    encoder = [module for name, module in convolutions(on_meta).items() if not name.endswith("_D")]
    assert len(encoder) == 13
    assert sum(module.weight.numel() for module in encoder) == 14_710_464
    assert sum(num_parameters(module) for module in encoder) == 14_714_688


def test_the_convolutions_take_the_papers_117_megabytes(on_meta):
    parameters = sum(num_parameters(module) for module in convolutions(on_meta).values())
    assert round(parameters / 1e6, 2) == 29.43
    assert int(4 * parameters / 1e6) == 117
    decoder = sum(num_parameters(module) for name, module in convolutions(on_meta).items() if name.endswith("_D"))
    assert round(decoder / 1e6, 3) == 14.719


def test_layers_and_weights_are_those_of_the_prototxt(on_meta):
    due = {}
    for name, in_channels, out_channels in VGG16 + MIRROR:
        due[f"{name}.weight"] = (out_channels, in_channels, 3, 3)
        due[f"{name}.bias"] = (out_channels,)
        for part in ("weight", "bias", "running_mean", "running_var"):
            due[f"{name}_bn.{part}"] = (out_channels,)
        due[f"{name}_bn.num_batches_tracked"] = ()
    due |= {"conv1_1_D.weight": (11, 64, 3, 3), "conv1_1_D.bias": (11,)}
    assert {name: tuple(tensor.shape) for name, tensor in on_meta.state_dict().items()} == due


def test_channels_drop_in_the_last_convolution_of_a_stage():
    mirrored = [f"{name}_D" for stage in reversed(ENCODER) for name, _ in reversed(stage)]
    assert [name for stage in DECODER for name, _ in stage] == mirrored[:-1]
    entering = [512, 512, 256, 128, 64]
    leaving = [512, 256, 128, 64, 64]
    for stage, (before, after) in zip(DECODER, zip(entering, leaving, strict=True), strict=True):
        assert [channels for _, channels in stage] == [before] * (len(stage) - 1) + [after]
    assert entering == [stage[-1][1] for stage in reversed(ENCODER)]


def test_layers_and_weights_of_segnet_basic_are_those_of_the_prototxt():
    model = SegNetBasic()
    shapes = {name: tuple(module.weight.shape) for name, module in convolutions(model).items()}
    assert shapes == {
        "conv1": (64, 3, 7, 7),
        **{f"conv{stage}": (64, 64, 7, 7) for stage in (2, 3, 4)},
        **{f"conv_decode{stage}": (64, 64, 7, 7) for stage in (4, 3, 2, 1)},
        "conv_classifier": (11, 64, 1, 1),
    }
    assert num_parameters(model) == 1_416_587


# initialisation and input


def test_batch_norm_begins_with_scale_1_and_shift_0_001(full):
    norms = [module for module in full.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 25
    for norm in norms:
        assert norm.weight.eq(1.0).all()
        assert norm.bias.eq(0.001).all()


def test_convolutions_begin_with_msra_weights_and_no_bias(full):
    for name, module in convolutions(full).items():
        due = math.sqrt(2 / module.weight[0].numel())
        tolerance = 5 / math.sqrt(2 * module.weight.numel())  # five standard errors of a standard deviation
        assert module.weight.std().item() == pytest.approx(due, rel=tolerance), name
        assert module.bias.eq(0).all()


def test_the_input_is_raw_bgr(full):
    pictures = torch.randint(0, 256, (1, 3, 4, 5), dtype=torch.uint8)
    assert full.preprocessing == RAW_BGR
    torch.testing.assert_close(full.preprocess(pictures), pictures.flip(1).float())


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (3, 8, 8), (1, 1, 8, 8), (8, 8)])
@pytest.mark.parametrize("call", ["forward", "encode", "forward_features"])
def test_other_channels_or_dimensions_are_refused(shape, call, small):
    with pytest.raises(InputError, match=r"SegNetBasic takes \(B, 3, H, W\)") as caught:
        getattr(small, call)(torch.zeros(shape))
    assert "\n" not in str(caught.value)


# shapes


def test_maps_of_a_360x480_picture_are_those_of_the_paper(on_meta):
    seen: dict[str, tuple[int, ...]] = {}
    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: tuple(output.shape)}))
        for name, module in convolutions(on_meta).items()
    ]
    with torch.no_grad():
        logits = on_meta(torch.empty(1, 3, 360, 480, device="meta"))
    for handle in handles:
        handle.remove()
    assert logits.shape == (1, 11, 360, 480)
    sizes = {1: (360, 480), 2: (180, 240), 3: (90, 120), 4: (45, 60), 5: (23, 30)}
    for name, _, channels in [*VGG16, *MIRROR, ("conv1_1_D", 64, 11)]:
        assert seen[name] == (1, channels, *sizes[int(name[4])]), name


def test_the_bottleneck_of_a_360x480_picture_is_12x15(on_meta):
    with torch.no_grad():
        features, kept = on_meta.encode(torch.empty(2, 3, 360, 480, device="meta"))
    assert features.shape == (2, 512, 12, 15)
    assert [offsets.size for offsets in kept] == [(360, 480), (180, 240), (90, 120), (45, 60), (23, 30)]


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 3), (17, 16), (33, 31)])
def test_logits_have_the_size_of_any_picture(size, small, on_meta):
    with torch.no_grad():
        logits = small(255 * torch.rand(2, 3, *size))
        assert logits.shape == (2, 5, *size)
        assert logits.isfinite().all()
        assert on_meta(torch.empty(2, 3, *size, device="meta")).shape == (2, 11, *size)


# what the networks compute


def by_hand(model: SegNet, x: Tensor) -> Tensor:
    """The network in plain PyTorch operators, layer after layer."""

    def unit(name: str, x: Tensor) -> Tensor:
        convolution, norm = getattr(model, name), getattr(model, f"{name}_bn")
        x = F.conv2d(x, convolution.weight, convolution.bias, padding=1)
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-5).relu()

    poolings = []
    for stage in ENCODER:
        for name, _ in stage:
            x = unit(name, x)
        size = x.shape[2:]
        x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        poolings.append((indices, size))
    for stage in DECODER:
        indices, size = poolings.pop()
        x = F.max_unpool2d(x, indices, 2, 2, output_size=size)
        for name, _ in stage:
            x = unit(name, x)
    return F.conv2d(x, model.conv1_1_D.weight, model.conv1_1_D.bias, padding=1)


def test_logits_are_those_of_the_plain_operators(full):
    x = 255 * torch.rand(1, 3, 37, 29, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, due = full(x), by_hand(full, x)
    torch.testing.assert_close(logits, due, rtol=1e-4, atol=1e-4 * due.abs().max().item())
    assert logits.lt(0).any()  # the classifier has neither batch normalisation nor ReLU
    assert logits.gt(0).any()


def test_logits_of_segnet_basic_are_those_of_the_plain_operators(small):
    x = 255 * torch.rand(2, 3, 9, 14, generator=torch.Generator().manual_seed(0))

    def unit(name: str, x: Tensor) -> Tensor:
        return small.get_submodule(f"{name}_bn")(small.get_submodule(name)(x))

    with torch.no_grad():
        due, poolings = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75), []
        for stage in (1, 2, 3, 4):
            due = unit(f"conv{stage}", due).relu()
            size = due.shape[2:]
            due, indices = F.max_pool2d(due, 2, 2, ceil_mode=True, return_indices=True)
            poolings.append((indices, size))
        for stage in (4, 3, 2, 1):
            indices, size = poolings.pop()
            due = unit(f"conv_decode{stage}", F.max_unpool2d(due, indices, 2, 2, output_size=size))
        torch.testing.assert_close(small(x), small.conv_classifier(due))


def test_the_decoder_of_segnet_basic_has_no_relu(small):
    seen: list[Tensor] = []
    handle = small.conv_classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        small(255 * torch.rand(1, 3, 16, 16))
    handle.remove()
    assert seen[0].lt(0).any()


def test_the_encoder_of_segnet_basic_has_relu(small):
    with torch.no_grad():
        assert small.encode(255 * torch.rand(1, 3, 16, 16))[0].ge(0).all()


def test_local_response_normalisation_can_be_left_out(small):
    without = SegNetBasic(num_classes=5, width=8, kernel_size=3, local_response_norm=False).eval()
    without.load_state_dict(small.state_dict())
    x = 255 * torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not small(x).equal(without(x))
        assert small(x).equal(without(F.local_response_norm(x, 5, alpha=1e-4, beta=0.75)))


def test_the_decoder_sees_what_was_kept_and_nothing_else(small):
    x, other = 255 * torch.rand(2, 1, 3, 17, 12)
    with torch.no_grad():
        features, kept = small.encode(x)
        due = small(x)
        small(other)  # the model remembers nothing of a picture
        assert small.decode(features, kept).equal(due)
        assert not small.decode(features, small.encode(other)[1]).equal(due)


def test_gradients_reach_every_parameter():
    model = SegNetBasic(num_classes=5, width=8, kernel_size=3, depth=2)
    model(255 * torch.rand(2, 3, 9, 10)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_state_dict_carries_everything(small):
    copied = SegNetBasic(num_classes=5, width=8, kernel_size=3).eval()
    x = 255 * torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert not copied(x).equal(small(x))
        copied.load_state_dict(small.state_dict())
        assert copied(x).equal(small(x))


def test_channels_last_gives_the_same_logits(small):
    x = 255 * torch.rand(2, 3, 19, 22)
    with torch.no_grad():
        torch.testing.assert_close(
            small(x.to(memory_format=torch.channels_last)), small(x), check_stride=False, rtol=1e-4, atol=1e-3
        )


# storage


def two_bits_per_window(channels: list[int], height: int, width: int) -> int:
    stored = 0
    for num_channels in channels:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
        stored += num_channels * height * width * 2 // 8
    return stored


@pytest.mark.parametrize("size", [(360, 480), (90, 120), (33, 47), (1, 1)])
def test_two_bits_per_window_and_channel_are_stored(size, small, on_meta):
    assert stored_bytes(on_meta, *size) == two_bits_per_window([64, 128, 256, 512, 512], *size)
    assert stored_bytes(small, *size) == two_bits_per_window([8] * 4, *size)


def test_64_channels_of_180x240_windows_take_0_69_megabytes():
    with torch.device("meta"):
        model = SegNetBasic(depth=1)
    assert stored_bytes(model, 360, 480) == 691_200


def test_counting_leaves_the_model_alone(small):
    before = {name: tensor.clone() for name, tensor in small.state_dict().items()}
    small.train()
    kept = kept_for_decoder(small, 16, 16)
    assert all(offsets.packed.is_meta for offsets in kept)
    assert small.training
    assert all(tensor.equal(before[name]) for name, tensor in small.eval().state_dict().items())


# as a backbone


def test_segnet_hands_out_the_pooled_map_of_every_stage(full):
    assert isinstance(full, Backbone)
    assert full.feature_info == [
        FeatureInfo("pool1", 64, 2),
        FeatureInfo("pool2", 128, 4),
        FeatureInfo("pool3", 256, 8),
        FeatureInfo("pool4", 512, 16),
        FeatureInfo("pool5", 512, 32),
    ]
    x = 255 * torch.rand(1, 3, 33, 20)
    with torch.no_grad():
        maps = full.forward_features(x)
        assert maps[-1].equal(full.encode(x)[0])
    for one, info in zip(maps, full.feature_info, strict=True):
        assert one.shape == (1, info.num_channels, math.ceil(33 / info.reduction), math.ceil(20 / info.reduction))


def test_features_are_those_of_the_layers_by_hand(small):
    x = 255 * torch.rand(1, 3, 9, 10)
    with torch.no_grad():
        due = F.local_response_norm(x, 5, alpha=1e-4, beta=0.75)
        for stage, one in enumerate(small.forward_features(x), start=1):
            full_map = getattr(small, f"conv{stage}_bn")(getattr(small, f"conv{stage}")(due)).relu()
            due = F.max_pool2d(full_map, 2, 2, ceil_mode=True)
            assert one.equal(due)


def test_features_only_is_the_encoder_of_14_7_million_weights(on_meta):
    with torch.device("meta"):
        extractor = create_model("segnet", features_only=True, out_indices=(2, 4))
    norms = 2 * sum(channels for _, _, channels in VGG16)
    assert num_parameters(extractor) == 14_714_688 + norms
    with torch.no_grad():
        shapes = [tuple(one.shape) for one in extractor(torch.empty(1, 3, 360, 480, device="meta"))]
    assert shapes == [(1, 256, 45, 60), (1, 512, 12, 15)]


@pytest.mark.parametrize("name", ["segnet_basic", "segnet_basic_bilinear", "fcn_basic_no_addition"])
def test_the_basic_encoders_are_backbones_too(name):
    extractor = create_model(name, width=8, kernel_size=3, depth=3, features_only=True)
    assert extractor.feature_info == [FeatureInfo(f"pool{stage}", 8, 2**stage) for stage in (1, 2, 3)]
    assert {key.split(".")[1] for key in extractor.state_dict()} == {
        f"conv{stage}{suffix}" for stage in (1, 2, 3) for suffix in ("", "_bn")
    }
