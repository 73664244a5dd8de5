"""HorNet: parameter counts to the last digit, the official code's outputs, and a slow reference of each part."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from encore.base.errors import CheckpointError
from encore.nn.creation import create_model, from_official
from encore.nn.model import num_parameters
from encore.papers.hornet.model import FORMS, ChannelNorm, GlobalLocalFilter, GnConv, HorNet, drop_path

COUNTED = {
    "hornet_tiny_7x7": 22_409_512,
    "hornet_tiny_gf": 22_991_848,
    "hornet_small_7x7": 49_528_264,
    "hornet_small_gf": 50_401_768,
    "hornet_base_7x7": 87_256_680,
    "hornet_base_gf": 88_421_352,
}
"""Read off the official code."""

PRINTED_MILLIONS = {
    "hornet_large_7x7": 194.543,
    "hornet_large_gf": 196.290,
    "hornet_base_gf_img384": 92.100,
    "hornet_large_gf_img384": 201.807,
}

SMALL = {"width": 16, "depths": (1, 1, 2, 1), "num_classes": 5}
GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"


@pytest.mark.parametrize("name", COUNTED)
def test_parameters_are_those_of_the_official_code(name):
    with torch.device("meta"):
        assert num_parameters(create_model(name)) == COUNTED[name]


@pytest.mark.parametrize("name", PRINTED_MILLIONS)
def test_parameters_round_to_those_that_were_counted(name):
    with torch.device("meta"):
        assert round(num_parameters(create_model(name)) / 1e6, 3) == PRINTED_MILLIONS[name]


@pytest.mark.parametrize(("channels", "order", "count"), [(64, 2, 19_392), (128, 3, 71_168), (256, 4, 264_832)])
def test_a_gnconv_has_the_parameters_of_its_stage(channels, order, count):
    assert num_parameters(GnConv(channels, order)) == count


def test_maps_of_a_picture_of_224_are_those_of_the_paper():
    with torch.device("meta"):
        model = create_model("hornet_tiny_gf", features_only=True)
    maps = model(torch.empty(1, 3, 224, 224, device="meta"))
    assert [tuple(one.shape) for one in maps] == [(1, 64, 56, 56), (1, 128, 28, 28), (1, 256, 14, 14), (1, 512, 7, 7)]
    assert [(info.num_channels, info.reduction) for info in model.feature_info] == [
        (64, 4),
        (128, 8),
        (256, 16),
        (512, 32),
    ]


def test_order_1_is_a_gated_convolution():
    torch.manual_seed(0)
    layer = GnConv(8, 1, scale=1.0)
    x = torch.randn(2, 8, 9, 7)
    with torch.no_grad():
        p, q = layer.proj_in(x).chunk(2, 1)
        torch.testing.assert_close(layer(x), layer.proj_out(p * layer.dwconv(q)))


def test_a_gnconv_by_hand():
    """Order 3 on 8 channels, pixel by pixel: gates of 2, 4 and 8 channels, each times s."""
    torch.manual_seed(0)
    layer = GnConv(8, 3, scale=0.5).double()
    x = torch.randn(1, 8, 5, 6, dtype=torch.float64)
    with torch.no_grad():
        both = torch.einsum("oc,bchw->bohw", layer.proj_in.weight[..., 0, 0], x) + layer.proj_in.bias.view(-1, 1, 1)
        p, q = both[:, :2], both[:, 2:]
        padded = F.pad(q, (3, 3, 3, 3))
        mixed = torch.zeros_like(q)
        for row in range(7):
            for column in range(7):
                mixed += (
                    layer.dwconv.weight[:, 0, row, column].view(-1, 1, 1)
                    * padded[..., row : row + 5, column : column + 6]
                )
        mixed = 0.5 * (mixed + layer.dwconv.bias.view(-1, 1, 1))
        p = p * mixed[:, :2]
        for pw, gate in zip(layer.pws, (mixed[:, 2:6], mixed[:, 6:]), strict=True):
            p = torch.einsum("oc,bchw->bohw", pw.weight[..., 0, 0], p) + pw.bias.view(-1, 1, 1)
            p = p * gate
        due = torch.einsum("oc,bchw->bohw", layer.proj_out.weight[..., 0, 0], p) + layer.proj_out.bias.view(-1, 1, 1)
        torch.testing.assert_close(layer(x), due)


def test_channels_that_cannot_be_halved_are_refused():
    with pytest.raises(ValueError, match="cannot be halved 4 times"):
        GnConv(24, 5)
    with pytest.raises(ValueError, match="stages"):
        HorNet(depths=(1, 1), orders=(2, 3, 4, 5))


def slow_filter(layer: GlobalLocalFilter, x: np.ndarray) -> np.ndarray:
    """The global half with numpy: spectrum times filter, the filter resized with corners aligned."""
    H, W = x.shape[-2:]
    weight = layer.complex_weight.detach().double().numpy()
    h, w = weight.shape[1:3]
    rows, columns = np.linspace(0, h - 1, H), np.linspace(0, w - 1, W // 2 + 1)
    resized = np.zeros((weight.shape[0], H, W // 2 + 1, 2))
    for i, y in enumerate(rows):
        for j, z in enumerate(columns):
            top, left = min(int(y), max(h - 2, 0)), min(int(z), max(w - 2, 0))
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dz = y - top, z - left
            resized[:, i, j] = (1 - dy) * ((1 - dz) * weight[:, top, left] + dz * weight[:, top, right]) + dy * (
                (1 - dz) * weight[:, bottom, left] + dz * weight[:, bottom, right]
            )
    spectrum = np.fft.rfft2(x, norm="ortho") * (resized[..., 0] + 1j * resized[..., 1])
    return np.fft.irfft2(spectrum, s=(H, W), norm="ortho")


@pytest.mark.parametrize("size", [(6, 7), (12, 9), (5, 4), (16, 16)])
def test_filters_are_resized_as_by_hand(size):
    torch.manual_seed(0)
    layer = GlobalLocalFilter(6, (6, 4))
    torch.nn.init.normal_(layer.complex_weight)
    x = torch.randn(2, 6, *size)
    with torch.no_grad():
        local, spectral = layer.pre_norm(x).chunk(2, 1)
        due = torch.from_numpy(slow_filter(layer, spectral.double().numpy())).float()
        interleaved = torch.empty_like(x)
        interleaved[:, 0::2], interleaved[:, 1::2] = layer.dw(local), due
        torch.testing.assert_close(layer(x), layer.post_norm(interleaved), rtol=1e-4, atol=1e-5)


def test_a_filter_of_ones_changes_nothing():
    layer = GlobalLocalFilter(4, (8, 5))
    with torch.no_grad():
        layer.complex_weight.zero_()
        layer.complex_weight[..., 0] = 1
    layer.post_norm = torch.nn.Identity()
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(layer(x)[:, 1::2], layer.pre_norm(x)[:, 2:])


def test_a_filter_of_its_own_size_is_taken_as_it_is():
    layer = GlobalLocalFilter(4, (8, 5))
    assert torch.view_as_real(layer.filter_of(8, 5)).equal(layer.complex_weight)


@pytest.mark.parametrize("form", ["7x7", "gf"])
@pytest.mark.parametrize("size", [(64, 96), (33, 47), (256, 256)])
def test_pictures_of_other_sizes_are_classified(form, size):
    model = HorNet(**SMALL, filters=FORMS[form]).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, *size)).isfinite().all()


@pytest.mark.parametrize("form", ["7x7", "gf"])
def test_mixed_precision_works_and_is_near(form):
    torch.manual_seed(0)
    model = HorNet(**SMALL, filters=FORMS[form], layer_scale=1.0).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        due = model(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(x)
    torch.testing.assert_close(mixed.float(), due, rtol=0.1, atol=0.02)


@pytest.mark.parametrize("form", ["7x7", "gf"])
def test_channels_last_gives_the_same_logits_and_gradients_reach_all(form):
    torch.manual_seed(0)
    model = HorNet(**SMALL, filters=FORMS[form], layer_scale=1.0)
    x = torch.randn(2, 3, 64, 64)
    model(x).square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    model.eval()
    with torch.no_grad():
        due = model(x)
        model.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(x.to(memory_format=torch.channels_last)), due, rtol=1e-4, atol=1e-5)


def test_drop_path_leaves_out_whole_samples_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 1, 1)
    dropped = drop_path(x, 0.25, training=True)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert dropped[:, 0].equal(dropped[:, 1])
    assert dropped.mean() == pytest.approx(1, abs=0.03)
    assert drop_path(x, 0.25, training=False) is x


def official(model: HorNet) -> dict[str, Tensor]:
    return {name.replace(".mixer.", ".gnconv."): tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("form", ["7x7", "gf"])
def test_official_checkpoints_open_in_one_call(form, tmp_path):
    torch.manual_seed(0)
    model = HorNet(**SMALL, filters=FORMS[form], orders=(1, 2, 3, 4), layer_scale=1.0).eval()
    torch.save({"model": official(model), "epoch": 299}, tmp_path / "hornet.pth")
    same = from_official("hornet", tmp_path / "hornet.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert same(x).equal(model(x))
    assert same.configuration["orders"] == [1, 2, 3, 4]
    named = create_model("hornet_tiny_7x7", num_classes=5)
    with pytest.raises(CheckpointError, match="does not fit"):
        create_model("hornet_tiny_7x7", num_classes=6, weights=official(named))
    assert create_model("hornet_tiny_7x7", num_classes=5, weights=official(named)).head.weight.equal(named.head.weight)


def test_the_backbone_of_a_detector_hands_out_normalised_maps(tmp_path):
    torch.manual_seed(0)
    model = HorNet(**{**SMALL, "num_classes": 0}, feature_norms=True).eval()
    state = {f"backbone.{name}": tensor for name, tensor in official(model).items()}
    state["decode_head.conv_seg.weight"] = torch.zeros(3)
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "upernet_hornet.pth")
    same = from_official("hornet", tmp_path / "upernet_hornet.pth")
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, due in zip(same.forward_features(x), model.forward_features(x), strict=True):
            assert one.equal(due)
            torch.testing.assert_close(one.mean(1), torch.zeros_like(one.mean(1)), atol=1e-5, rtol=0)
    assert isinstance(same.norm3, ChannelNorm)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["hornet_7x7", "hornet_gf"])
def test_outputs_are_those_of_the_official_code(name):
    if not (GOLDEN / f"{name}.safetensors").is_file():
        pytest.skip("the official code's outputs are not here")
    golden = load_file(GOLDEN / f"{name}.safetensors")
    state = {key.removeprefix("state."): one for key, one in golden.items() if key.startswith("state.")}
    model = from_official("hornet", state)
    with torch.no_grad():
        features, output = model.pooled(golden["input"]), model(golden["input"])
    for one, due in ((features, golden["features"]), (output, golden["output"])):
        assert ((one - due).abs() <= 1e-5 * due.abs().max() + 1e-4 * due.abs()).all()
