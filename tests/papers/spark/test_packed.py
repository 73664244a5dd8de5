"""The packed form: equal to the masked form, layer by layer and network by network."""

import pytest
import torch
from torch import nn

from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.papers.spark import packed as packed_module
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.packed import pack, packed_view, unpack
from encore.papers.spark.sparse import hide, masked_view
from encore.papers.spark.survey import survey
from tests.papers.spark.test_sparse import drawn

LAYERS = {
    "3x3": nn.Conv2d(4, 6, 3, padding=1),
    "3x3/2": nn.Conv2d(4, 6, 3, 2, 1, bias=False),
    "7x7/2": nn.Conv2d(4, 6, 7, 2, 3),
    "5x5 dilated": nn.Conv2d(4, 6, 5, padding=4, dilation=2),
    "1x1/2": nn.Conv2d(4, 6, 1, 2),
    "2x2/2": nn.Conv2d(4, 6, 2, 2),
    "grouped": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise 7x7": nn.Conv2d(4, 4, 7, padding=3, groups=4),
    "reflecting": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
    "same": nn.Conv2d(4, 6, 3, padding="same"),
    "1x5": nn.Conv2d(4, 6, (1, 5), padding=(0, 2)),
    "max 3x3/2": nn.MaxPool2d(3, 2, 1),
    "max 2x2": nn.MaxPool2d(2, 2),
    "max 3x3": nn.MaxPool2d(3, 1, 1),
    "mean 3x3/2": nn.AvgPool2d(3, 2, 1),
    "mean without padding": nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "mean 2x2": nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    "transposed 2x2/2": nn.ConvTranspose2d(4, 6, 2, 2),
    "transposed 4x4/2": nn.ConvTranspose2d(4, 6, 4, 2, 1),
}


def both_forms(network, x, cells, mixing=(), forward=lambda view, x: [view(x)]):
    """Per form: dense maps, gradients of input and parameters, buffers."""
    start = {name: one.clone() for name, one in network.state_dict().items()}
    answers = []
    for form in ("masked", "packed"):
        network.load_state_dict(start)
        network.zero_grad()
        given = hide(x, cells).requires_grad_()
        if form == "masked":
            maps = forward(masked_view(network, cells, mixing), given)
        else:
            maps = [unpack(one, cells) for one in forward(packed_view(network, cells, mixing), pack(given, cells))]
        generator = torch.Generator().manual_seed(0)
        sum((one * torch.randn(one.shape, generator=generator)).sum() for one in maps).backward()
        gradients = {name: one.grad for name, one in network.named_parameters() if one.grad is not None}
        buffers = {name: one.clone() for name, one in network.named_buffers()}
        answers.append((maps, hide(given.grad, cells), gradients, buffers))
    return answers


def assert_near(one, due):
    assert one.shape == due.shape
    assert (one - due).abs().max() <= 1e-5 * due.abs().max().clamp_min(1e-6)


def assert_equal_forms(masked, packed):
    for one, due in zip(packed[0], masked[0], strict=True):
        assert_near(one, due)
    assert_near(packed[1], masked[1])
    assert packed[2].keys() == masked[2].keys()


@pytest.mark.parametrize("side", [2, 4, 8, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_equals_its_masked_form(name, side):
    torch.manual_seed(0)
    cells = drawn(2, (3, 2), 3)
    x = torch.randn(2, 4, 3 * side, 2 * side) - 1  # mostly negative: zeros of hidden neighbours win in max pooling
    masked, packed = both_forms(LAYERS[name], x, cells)
    assert_equal_forms(masked, packed)
    for key, due in masked[2].items():
        assert_near(packed[2][key], due)


@pytest.mark.parametrize("way", ["columns", "halo", "dense"])
@pytest.mark.parametrize("name", ["3x3", "3x3/2", "7x7/2", "depthwise 7x7", "max 3x3/2"])
def test_all_ways_are_equal(name, way, monkeypatch):
    monkeypatch.setattr(packed_module, "COLUMNS_UP_TO", 99 if way == "columns" else 0)
    monkeypatch.setattr(packed_module, "HALO_UP_TO", 99 if way == "halo" else 0)
    torch.manual_seed(0)
    cells = drawn(2, (3, 3), 4)
    for side in (2, 8):
        assert_equal_forms(*both_forms(LAYERS[name], torch.randn(2, 4, 3 * side, 3 * side), cells))


RESNET = {"depths": [1, 1, 2, 1], "hidden_sizes": [16, 32, 48, 64], "embedding_size": 8}
NETWORKS = {
    "hornet 7x7": ("hornet", {"width": 16, "depths": (1, 1, 2, 1), "layer_scale": 1.0}),
    "hornet gf": (
        "hornet",
        {"width": 16, "depths": (1, 1, 1, 1), "layer_scale": 1.0, "filters": (None, None, (14, 8), (7, 4))},
    ),
    "segnet": ("segnet_basic", {"width": 8}),
    "bottlenecks": ("resnet", RESNET),
    "basic blocks": ("resnet", {**RESNET, "layer_type": "basic"}),
    "convnext": ("convnext", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32], "layer_scale": 1.0}),
    "convnextv2": ("convnextv2", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_their_masked_form(name, training, channels_last):
    if not name.startswith(("hornet", "segnet")):
        pytest.importorskip("transformers")
    torch.manual_seed(0)
    backbone, arguments = NETWORKS[name]
    extractor = create_model(backbone, features_only=True, **arguments)
    network = extractor.model.train(training)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    found = survey(network, extractor.feature_info, 3)
    assert found.averaging == ()
    assert len(found.mixing) == (2 if name == "hornet gf" else 0)
    cell = extractor.feature_info[-1].reduction
    cells = drawn(2, (3, 2), 3)
    x = torch.randn(2, 3, 3 * cell, 2 * cell)
    if channels_last:
        network.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    masked, packed = both_forms(network, x, cells, found.mixing, lambda view, given: view.forward_features(given))
    assert_equal_forms(masked, packed)
    largest = max(one.abs().max() for one in masked[2].values())
    for key, due in masked[2].items():
        assert (packed[2][key] - due).abs().max() <= 1e-5 * largest, key
    for key, due in masked[3].items():
        torch.testing.assert_close(packed[3][key], due, rtol=1e-5, atol=1e-6)


def test_packing_keeps_tiles_in_order_and_unpacking_puts_them_back():
    cells = VisibleCells(torch.tensor([[[[True, False], [False, True]]]]))
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert pack(x, cells).flatten().tolist() == [0, 1, 4, 5, 10, 11, 14, 15]
    assert unpack(pack(x, cells), cells).equal(hide(x, cells))


def test_second_derivatives_of_moved_rows_are_right():
    cells = drawn(1, (2, 2), 2)
    layer = packed_view(nn.Conv2d(2, 2, 3, padding=1, groups=2).double(), cells)
    x = torch.randn(1, 2, 16, 8, dtype=torch.float64, requires_grad=True)
    small = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one: unpack(pack(one, cells), cells), small)
    assert torch.autograd.gradgradcheck(lambda one: unpack(pack(one, cells), cells).square(), small)
    assert torch.autograd.gradcheck(lambda one: layer(one).sum((2, 3)), x, fast_mode=True)


def test_samples_that_see_different_numbers_of_cells_cannot_be_packed():
    cells = VisibleCells(torch.tensor([True, False, True, True]).view(2, 1, 1, 2))
    with pytest.raises(InputError, match="encoding='masked'"):
        pack(torch.zeros(2, 3, 4, 8), cells)
    assert masked_view(nn.GroupNorm(1, 3), cells)(torch.zeros(2, 3, 4, 8)).shape == (2, 3, 4, 8)


def test_attention_is_refused_in_one_line():
    pytest.importorskip("transformers")
    extractor = create_model("swin", features_only=True, depths=[1, 1], num_heads=[1, 2], embed_dim=8, window_size=4)
    with pytest.raises(InputError, match="attends") as caught:
        survey(extractor.model, extractor.feature_info, 3)
    assert "\n" not in str(caught.value)
