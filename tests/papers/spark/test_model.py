"""SparK: the official code's outputs, published sizes, a slow reference of the loss, masks, pictures, and errors."""

from itertools import product
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from encore.base.errors import ConfigurationError, InputError
from encore.nn.creation import create_model, from_official, load
from encore.nn.model import num_parameters
from encore.papers.spark.decoder import ChannelNorm
from encore.papers.spark.targets import from_patches, to_patches

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden" / "spark_convnext.safetensors"
HORNET = {"width": 8, "depths": (1, 1, 1, 1), "orders": (1, 2, 2, 2), "layer_scale": 1.0}
MILLIONS = {"resnet50": 29.4, "convnext_small": 24.9, "convnext_base": 26.3, "convnext_large": 27.9}
"""Of densify, decoder and mask tokens, counted from the official code."""


def small(**more):
    torch.manual_seed(0)
    return create_model(
        "spark", **{"backbone": "hornet", "backbone_arguments": HORNET, "image_size": 96, "width": 32, **more}
    )


def pictures(batch=2, size=96):
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("backbone", MILLIONS)
def test_what_is_thrown_away_afterwards_has_the_published_size(backbone):
    pytest.importorskip("transformers")
    with torch.device("meta"):
        model = create_model("spark", backbone=backbone)
    assert round(num_parameters(model.decoder) / 1e6, 2) == 23.18
    assert round((num_parameters(model.decoder) + num_parameters(model.densify)) / 1e6, 1) == MILLIONS[backbone]


@pytest.mark.shared
@pytest.mark.parametrize("encoding", ["packed", "masked"])
def test_maps_loss_and_gradient_are_those_of_the_official_code(encoding):
    pytest.importorskip("transformers")
    if not GOLDEN.is_file():
        pytest.skip("the official code's outputs are not here")
    golden = load_file(GOLDEN)
    state = {key.removeprefix("state."): one for key, one in golden.items() if key.startswith("state.")}
    model = from_official("spark", state, image_size=96, encoding=encoding).train()
    active = golden["active"].bool()
    loss = model(golden["input"], active)
    loss.backward()
    maps = {f"encoder_feature.{index}": one for index, one in enumerate(model.encode(golden["input"], active))}
    for name, one in {**maps, "loss": loss.view(1)}.items():
        due = golden[name]
        assert ((one - due).abs() <= 1e-5 * due.abs().max() + 1e-4 * due.abs()).all()
    gradient, due = model.encoder.encoder.encoder.stages[0].layers[0].dwconv.weight.grad, None
    due = golden["grad.stages.0.0.dwconv.weight"]
    assert ((gradient - due).abs() <= 1e-4 * due.abs().max()).all()


@pytest.mark.parametrize("ratio", [0.3, 0.6, 0.75])
def test_masks_show_every_picture_as_many_cells_and_come_from_the_generator(ratio):
    model = small(mask_ratio=ratio, image_size=(96, 128))
    active = model.draw_mask(5, torch.Generator().manual_seed(3))
    assert active.shape == (5, 1, 3, 4)
    assert active.flatten(1).sum(1).tolist() == [round(12 * (1 - ratio))] * 5
    assert active.equal(model.draw_mask(5, torch.Generator().manual_seed(3)))
    assert not active.equal(model.draw_mask(5, torch.Generator().manual_seed(4)))
    assert len({tuple(one.flatten().tolist()) for one in model.draw_mask(50)}) > 10


def test_a_picture_of_224_shows_20_of_49_cells():
    with torch.device("meta"):
        model = create_model("spark", backbone="hornet_tiny_7x7")
    assert model.num_visible_of(model.grid_of(224, 224)) == 20


def test_the_loss_by_hand():
    """Cell by cell, pixel by pixel, with the unbiased variance over all three channels together."""
    model = small().eval()
    images, active = pictures(), model.draw_mask(2)
    with torch.no_grad():
        painted = from_patches(model.predict_patches(images, active), 32, (3, 3), 3).double()
        loss = model(images, active)
    errors = []
    for sample, row, column in product(range(2), range(3), range(3)):
        if active[sample, 0, row, column]:
            continue
        place = (sample, slice(None), slice(32 * row, 32 * row + 32), slice(32 * column, 32 * column + 32))
        cell = images[place].double()
        mean = cell.sum() / 3072
        variance = ((cell - mean) ** 2).sum() / 3071
        errors.append((((cell - mean) / (variance + 1e-6) ** 0.5 - painted[place]) ** 2).sum() / 3072)
    torch.testing.assert_close(loss.double(), sum(errors) / len(errors), rtol=1e-5, atol=1e-6)


def test_patches_are_pixels_in_rows_with_channels_last():
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    patches = to_patches(images, 2)
    assert patches.shape == (2, 6, 12)
    assert patches[1, 4].tolist() == [int(images[1, c, 2 + p, 2 + q]) for p in (0, 1) for q in (0, 1) for c in range(3)]
    assert from_patches(patches, 2, (2, 3), 3).equal(images)


@pytest.mark.parametrize("encoding", ["packed", "masked", "zero_out"])
def test_hidden_pixels_are_targets_and_nothing_else(encoding):
    model = small(encoding=encoding)
    images, active = pictures(), model.draw_mask(2)
    hidden = ~active.repeat_interleave(32, 2).repeat_interleave(32, 3)
    images.requires_grad_()
    maps = model.encode(images, active)
    sum(one.square().sum() for one in maps).backward()
    assert (images.grad * hidden).abs().max() == 0
    changed = torch.where(hidden, 100 * torch.randn_like(images), images)
    for one, other in zip(maps, model.encode(changed, active), strict=True):
        assert one.equal(other)
        side = one.shape[-1] // 3
        assert (one * ~active.repeat_interleave(side, 2).repeat_interleave(side, 3)).abs().max() == 0
    assert model.predict_patches(changed, active).equal(model.predict_patches(images, active))


def test_packed_and_masked_train_alike_and_zeroing_out_does_not():
    batch = pictures(3)
    losses, gradients, statistics = {}, {}, {}
    arguments = {"backbone": "segnet_basic", "backbone_arguments": {"width": 8}, "image_size": 64, "width": 16}
    for encoding in ("packed", "masked", "zero_out"):
        model = small(**arguments, encoding=encoding)
        active = model.draw_mask(3, torch.Generator().manual_seed(0))
        loss = model(batch[..., :64, :64], active)
        loss.backward()
        losses[encoding] = loss.detach()
        gradients[encoding] = torch.cat([one.grad.flatten() for one in model.parameters()])
        statistics[encoding] = torch.cat([one.flatten() for name, one in model.named_buffers() if "running_" in name])
    torch.testing.assert_close(losses["packed"], losses["masked"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(statistics["packed"], statistics["masked"], rtol=1e-4, atol=1e-6)
    largest = gradients["masked"].abs().max()
    assert (gradients["packed"] - gradients["masked"]).abs().max() <= 1e-4 * largest
    assert (statistics["zero_out"] - statistics["masked"]).abs().max() > 1e-2


@pytest.mark.parametrize(("hierarchy", "scales"), [(True, 4), (2, 2), (False, 1)])
def test_the_hierarchy_is_of_the_smallest_maps(hierarchy, scales):
    model = small(hierarchy=hierarchy)
    assert [one.mask_token.shape[1] for one in model.densify] == [64, 32, 16, 8][:scales]
    kernels = [getattr(one.proj, "kernel_size", None) for one in model.densify]
    assert kernels == [(1, 1), (3, 3), (3, 3), (3, 3)][:scales]
    loss = model(pictures())
    loss.backward()
    without = [name for name, one in model.named_parameters() if one.grad is None]
    assert without == []


def test_the_smallest_map_needs_no_convolution_where_widths_agree():
    assert isinstance(small(width=64).densify[0].proj, nn.Identity)


def test_nets_of_other_depths_and_strides_are_decoded_at_the_strides_that_fit():
    model = small(backbone="segnet_basic", backbone_arguments={"width": 8}, image_size=48, width=16)
    assert model.cell == 16
    assert len(model.decoder.blocks) == len(model.densify) == 4
    assert model(pictures(2, 48)).isfinite()
    three = {"width": 8, "depths": (1, 1, 1), "orders": (1, 2, 2), "filters": (None,) * 3}
    model = small(backbone_arguments=three, image_size=64)
    assert (model.cell, len(model.decoder.blocks), len(model.densify)) == (16, 4, 3)
    assert model(pictures(2, 64)).isfinite()


def test_a_map_of_stride_1_is_left_out():
    pytest.importorskip("transformers")
    arguments = {"depths": [1, 1, 1], "hidden_sizes": [16, 32, 64], "embedding_size": 16, "small_stem": True}
    model = small(backbone="resnet", backbone_arguments=arguments, image_size=16, width=16)
    assert [info.reduction for info in model.feature_info] == [1, 2, 4]
    assert (model.cell, len(model.densify)) == (4, 2)
    assert model(pictures(2, 16)).isfinite()


def test_the_norm_before_the_holes_is_the_backbones_kind():
    assert isinstance(small().densify[0].norm, ChannelNorm)
    basic = {"backbone": "segnet_basic", "backbone_arguments": {"width": 8}}
    assert isinstance(small(**basic).densify[0].norm, nn.BatchNorm2d)
    assert isinstance(small(**basic, densify_norm="ln").densify[0].norm, ChannelNorm)


def test_pictures_are_painted_where_hidden_with_each_cells_brightness():
    model = small().eval()
    images = 3 * pictures() + 2
    active = model.draw_mask(2)
    with torch.no_grad():
        painted = model.reconstruct(images, active)
        patches = to_patches(painted, 32)
        normalised = model.predict_patches(images, active)
    visible = active.flatten(1)
    assert patches[visible].equal(to_patches(images, 32)[visible])
    truth = to_patches(images, 32)[~visible]
    due = normalised[~visible] * (truth.var(1, keepdim=True) + 1e-6).sqrt() + truth.mean(1, keepdim=True)
    torch.testing.assert_close(patches[~visible], due)


def test_cells_of_one_colour_have_a_finite_loss():
    model = small()
    loss = model(torch.full((2, 3, 96, 96), 0.3))
    loss.backward()
    assert loss.isfinite()
    assert all(one.grad.isfinite().all() for one in model.parameters())


@pytest.mark.parametrize("encoding", ["packed", "masked"])
def test_the_loss_is_float32_in_mixed_precision(encoding):
    model = small(encoding=encoding)
    images, active = pictures(), model.draw_mask(2)
    due = model(images, active)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(images, active)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, due, rtol=0.03, atol=0.0)


def test_columns_are_multiplied_in_the_precision_of_autocast():
    pytest.importorskip("transformers")
    arguments = {"depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 16, "layer_type": "basic"}
    model = small(backbone="resnet", backbone_arguments=arguments, image_size=32)
    with torch.autocast("cpu", torch.bfloat16):
        maps = model.encode(pictures(2, 32), model.draw_mask(2))
        loss = model(pictures(2, 32))
    loss.backward()
    assert maps[-1].dtype == torch.bfloat16
    assert all(one.grad.isfinite().all() for one in model.encoder.parameters())


def test_pictures_of_other_channels_are_taken_where_the_backbone_takes_them():
    model = small(backbone_arguments={**HORNET, "in_channels": 5})
    images = torch.randn(2, 5, 96, 96)
    assert model(images).isfinite()
    assert model.reconstruct(images, model.draw_mask(2)).shape == images.shape


def test_what_remains_is_the_plain_backbone(tmp_path):
    model = small()
    model(pictures()).backward()
    plain = model.encoder_model()
    plain.save(tmp_path)
    same = load(tmp_path)
    assert same.registered_name == "hornet"
    assert same.configuration["num_classes"] == 0
    with torch.no_grad():
        for one, due in zip(same.forward_features(pictures()), model.forward_features(pictures()), strict=True):
            assert one.equal(due)
    with torch.no_grad():
        for one in model.encoder.parameters():
            one.zero_()
    assert any(one.abs().max() > 0 for one in plain.parameters())
    segnet = small(backbone="segnet_basic", backbone_arguments={"width": 8}, image_size=48, width=16)
    assert segnet.encoder_model()(torch.zeros(1, 3, 48, 48)).shape[0] == 1


def test_a_saved_model_continues_where_it_was(tmp_path):
    model = small(encoding="masked", mask_ratio=0.5)
    model.save(tmp_path)
    same = load(tmp_path)
    images, active = pictures(), model.draw_mask(2)
    assert same.preprocessing.size == (96, 96)
    assert same.mask_ratio == 0.5
    assert same(images, active).equal(model.eval()(images, active))


def test_the_drawn_mask_is_used_and_masks_are_checked():
    model = small().eval()
    images = pictures()
    with torch.no_grad():
        drawn = model(images, generator=torch.Generator().manual_seed(5))
        assert drawn.equal(model(images, model.draw_mask(2, torch.Generator().manual_seed(5))))
    with pytest.raises(InputError, match="draw_mask"):
        model(images, torch.ones(2, 1, 4, 4, dtype=torch.bool))
    with pytest.raises(InputError, match="draw_mask"):
        model(images, torch.ones(2, 1, 3, 3))


@pytest.mark.parametrize("shape", [(2, 3, 16, 96), (2, 3, 100, 96), (2, 1, 96, 96), (3, 96, 96)])
def test_pictures_that_cannot_be_cut_are_refused_in_one_line(shape):
    with pytest.raises(InputError) as caught:
        small()(torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"image_size": 32}, "mask_ratio"),
        ({"image_size": 16}, "image_size"),
        ({"image_size": 100}, "image_size"),
        ({"width": 48}, "halved 5 times"),
        ({"hierarchy": 5}, "hierarchy"),
        ({"hierarchy": 0}, "hierarchy"),
        ({"encoding": "dense"}, "encoding"),
        ({"densify_norm": "gn"}, "densify_norm"),
        ({"backbone_arguments": {"widht": 8}}, "widht"),
        ({"backbone": "hornt"}, "did you mean"),
    ],
)
def test_impossible_arguments_are_refused_in_one_line(arguments, words):
    with pytest.raises(InputError, match=words) as caught:
        small(**arguments)
    assert "\n" not in str(caught.value)


def test_attention_is_refused_but_can_be_zeroed_out():
    pytest.importorskip("transformers")
    swin = {"depths": [1, 1], "num_heads": [1, 2], "embed_dim": 8, "window_size": 4}
    arguments = {"backbone": "swin", "backbone_arguments": swin, "image_size": 32, "width": 16}
    with pytest.raises(InputError, match="convolutional backbone"):
        small(**arguments)
    assert small(**arguments, encoding="zero_out")(pictures(2, 32)).isfinite()


def test_configuration_errors_are_the_same_from_python():
    with pytest.raises(ConfigurationError):
        small(mask_ratio=2.0)
