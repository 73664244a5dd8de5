"""The networks of the controlled benchmark: counts, shapes at full size, and what each computes."""

import pytest
import torch
import torch.nn.functional as F

from encore.nn.batch_norm import folded
from encore.nn.creation import create_model
from encore.nn.memory import inference_memory, on_meta_device
from encore.nn.model import num_parameters
from encore.papers.segnet.baselines.benchmark import DeconvNet, upsampling_layer
from encore.papers.segnet.model import SegNet, kept_for_decoder, stored_bytes
from encore.papers.segnet.sizes import BENCHMARK, DECODER_STUDY, bits_and_indices, build, convolution_megabytes

COUNTED = {
    "segnet": 29_449_355,
    "segnet_int64_indices": 29_449_355,
    "deeplab_largefov": 20_507_723,
    "fcn_fixed": 134_338_913,
    "fcn_learnt_deconv": 134_373_761,
    "deconvnet": 81_917_259,
    "unet": 25_867_595,
}
"""Weights, biases, scales and shifts with 11 classes."""

STUDY_COUNTED = {
    "bilinear": 613_003,
    "segnet_basic": 1_416_587,
    "encoder_addition": 1_416_587,
    "single_channel_decoder": 626_315,
    "fcn_basic": 646_839,
    "fcn_no_addition": 643_979,
    "fcn_no_dim_reduction": 1_661_579,
    "fcn_no_addition_no_dim_reduction": 1_661_579,
}

PRINTED_MILLIONS = {
    "bilinear": 0.625,
    "segnet_basic": 1.425,
    "encoder_addition": 1.425,
    "single_channel_decoder": 0.625,
    "fcn_basic": 0.65,
    "fcn_no_addition": 0.65,
    "fcn_no_dim_reduction": 1.625,
    "fcn_no_addition_no_dim_reduction": 1.625,
}
"""Table 1."""


@pytest.mark.parametrize("name", BENCHMARK)
def test_parameters_are_as_counted(name):
    assert num_parameters(build(name)) == COUNTED[name]


@pytest.mark.parametrize(("name", "printed"), [("segnet", 117), ("fcn_learnt_deconv", 539), ("deeplab_largefov", 83)])
def test_convolutions_take_the_megabytes_of_table_6(name, printed):
    assert convolution_megabytes(build(name)) == pytest.approx(printed, rel=0.015)


@pytest.mark.parametrize("name", DECODER_STUDY)
def test_the_study_s_parameters_are_within_three_percent_of_table_1(name):
    counted = num_parameters(build(name, DECODER_STUDY))
    assert counted == STUDY_COUNTED[name]
    assert counted / 1e6 == pytest.approx(PRINTED_MILLIONS[name], rel=0.03)


@pytest.mark.parametrize(
    ("name", "multiple"),
    [("bilinear", 0), ("segnet_basic", 1), ("single_channel_decoder", 1), ("fcn_basic", 11), ("fcn_no_addition", 0)],
)
def test_storage_multipliers_are_those_of_table_1(name, multiple):
    model = build(name, DECODER_STUDY)
    two_bits, _ = bits_and_indices(create_model("segnet_basic"), 384, 480)
    assert stored_bytes(model, 384, 480) / two_bits == multiple


@pytest.mark.parametrize("name", BENCHMARK)
@pytest.mark.parametrize("size", [(360, 480), (37, 61), (1, 1)])
def test_logits_have_the_size_of_any_picture(name, size):
    with torch.no_grad():
        assert build(name)(torch.empty(2, 3, *size, device="meta")).shape == (2, 11, *size)


def test_what_each_keeps_for_its_decoder():
    kept = {name: stored_bytes(build(name), 352, 480) for name in BENCHMARK}
    windows = sum(c * (352 >> i) * (480 >> i) for i, c in enumerate((64, 128, 256, 512, 512), start=1))
    assert kept["segnet"] == kept["deconvnet"] == windows // 4
    assert kept["segnet_int64_indices"] == 8 * windows
    assert kept["deeplab_largefov"] == 0
    assert kept["fcn_learnt_deconv"] == 4 * 11 * (44 * 60 + 22 * 30)
    assert kept["unet"] == sum(4 * c * (352 >> i) * (480 >> i) for i, c in enumerate((64, 128, 256, 512)))


def test_deeplab_scores_at_an_eighth_with_the_stated_field_of_view():
    model = build("deeplab_largefov")
    with torch.no_grad():
        features, size = model.encode(torch.empty(1, 3, 360, 480, device="meta"))
    assert features.shape == (1, 512, 45, 60)
    assert size == (360, 480)
    assert model.get_submodule("fc6").dilation == (12, 12)
    assert model.get_submodule("conv5_1").dilation == (2, 2)


def test_deconvnet_has_one_cell_left_for_a_picture_of_224():
    with torch.device("meta"):
        model = DeconvNet().eval()
    with torch.no_grad():
        features, _ = model.encode(torch.empty(1, 3, 224, 224, device="meta"))
        middle = model.apply_unit("fc6", features)
    assert middle.shape == (1, 1024, 1, 1)


def test_int64_indices_and_offsets_give_the_same_logits():
    torch.manual_seed(0)
    model = SegNet(num_classes=3).eval()
    other = create_model("segnet_int64_indices", num_classes=3).eval()
    other.load_state_dict(model.state_dict())
    x = 255 * torch.rand(1, 3, 37, 45, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(other(x), model(x))


@pytest.mark.parametrize("factor", [2, 8])
def test_fcn_s_upsampling_begins_bilinear(factor):
    x = torch.randn(1, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        enlarged = upsampling_layer(3, factor)(x)
    due = F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
    assert enlarged.shape == due.shape
    inner = (..., slice(factor, -factor), slice(factor, -factor))
    torch.testing.assert_close(enlarged[inner], due[inner])


@pytest.mark.parametrize("name", ["deeplab_largefov", "fcn8s_learnt", "deconvnet", "vgg16_unet", "segnet"])
def test_every_parameter_learns(name):
    """On the meta device: gradients have shapes, which says that each parameter is on the way to the output."""
    with torch.device("meta"):
        model = create_model(name, num_classes=3, dropout=0.5)
    model(torch.empty(2, 3, 64, 96, device="meta")).sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []


def test_inference_memory_of_segnet_is_below_that_of_all_but_deeplab():
    size = (1, 3, 360, 480)
    memory = {name: inference_memory(folded(build(name)), size) for name in BENCHMARK}
    smaller = {name for name, one in memory.items() if one.total < memory["segnet"].total}
    assert smaller == {"deeplab_largefov"}
    assert memory["segnet"].activations < memory["segnet_int64_indices"].activations < memory["unet"].activations


def test_kept_tensors_are_seen_without_storage():
    kept = kept_for_decoder(on_meta_device(build("unet")), 32, 32)
    assert next(tuple(one.shape) for one in kept) == (1, 64, 32, 32)
