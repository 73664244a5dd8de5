"""The masked form: what is hidden stays hidden, statistics see what is visible, and the network is never touched."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.decoder import ChannelNorm
from encore.papers.spark.packed import pack, packed_view, unpack
from encore.papers.spark.sparse import hide, masked_view


def drawn(batch, grid, visible, seed=0):
    generator = torch.Generator().manual_seed(seed)
    num_cells = grid[0] * grid[1]
    active = torch.stack([torch.randperm(num_cells, generator=generator) < visible for _ in range(batch)])
    return VisibleCells(active.view(batch, 1, *grid))


def positions_of(x, cells):
    """(N, C) at visible positions, by boolean indexing."""
    side = x.shape[-1] // cells.grid[1]
    return x.permute(0, 2, 3, 1)[cells.mask(side)[:, 0]]


def test_masks_repeat_every_cell():
    cells = drawn(2, (2, 3), 2)
    for side in (1, 2, 5):
        due = F.interpolate(cells.active.float(), scale_factor=side, mode="nearest").bool()
        assert cells.mask(side).equal(due)
    assert cells.tile_side(8, 12) == 4
    assert cells.tile_side(8, 10) is None
    assert cells.tile_side(1, 1) is None


@pytest.mark.parametrize("form", ["masked", "packed", "dense"])
def test_the_mask_vanishes_in_dense_convolutions_alone(form):
    torch.manual_seed(0)
    cells = drawn(4, (4, 4), 6)
    layers = nn.Sequential(*(nn.Conv2d(4, 4, 3, padding=1, bias=False) for _ in range(8)))
    x = hide(torch.randn(4, 4, 32, 32), cells)
    if form == "packed":
        view, x = packed_view(layers, cells), pack(x, cells)
    else:
        view = masked_view(layers, cells) if form == "masked" else layers
    shares = []
    with torch.no_grad():
        for layer in view:
            x = layer(x)
            on_map = unpack(x, cells) if form == "packed" else x
            shares.append((on_map != 0).any(1).float().mean().item())
    if form == "dense":
        assert shares == sorted(shares)
        assert shares[-1] > 0.9
    else:
        assert shares == [0.375] * 8


@pytest.mark.parametrize("form", ["masked", "packed"])
def test_batch_norm_sees_visible_positions_alone(form):
    torch.manual_seed(0)
    cells = drawn(3, (4, 4), 5)
    x = hide(3 + 2 * torch.randn(3, 6, 16, 16), cells)
    norm = nn.BatchNorm2d(6, momentum=1.0)
    visible = positions_of(x, cells)
    y = unpack(packed_view(norm, cells)(pack(x, cells)), cells) if form == "packed" else masked_view(norm, cells)(x)
    torch.testing.assert_close(norm.running_mean, visible.mean(0))
    torch.testing.assert_close(norm.running_var, visible.var(0))
    due = (visible - visible.mean(0)) / (visible.var(0, unbiased=False) + norm.eps).sqrt()
    torch.testing.assert_close(positions_of(y, cells), due)
    assert (y * ~cells.mask(4)).abs().max() == 0
    zeroed = nn.BatchNorm2d(6, momentum=1.0)
    zeroed(x)
    torch.testing.assert_close(zeroed.running_mean, visible.mean(0) * 5 / 16)  # the shift of zeroing out


@pytest.mark.parametrize("form", ["masked", "packed"])
@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True)], ids=["group", "instance"])
def test_group_norm_sees_the_visible_positions_of_a_sample_alone(form, norm):
    torch.manual_seed(0)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    cells = drawn(3, (4, 4), 5)
    x = hide(3 + torch.randn(3, 6, 8, 8), cells)
    y = unpack(packed_view(norm, cells)(pack(x, cells)), cells) if form == "packed" else masked_view(norm, cells)(x)
    size = 3 if isinstance(norm, nn.GroupNorm) else 1
    for sample in range(3):
        seen = x[sample, :, cells.mask(2)[sample, 0]]  # (6, N)
        due = torch.cat([(one - one.mean()) / (one.var(unbiased=False) + norm.eps).sqrt() for one in seen.split(size)])
        due = due * norm.weight.view(-1, 1) + norm.bias.view(-1, 1)
        torch.testing.assert_close(y[sample, :, cells.mask(2)[sample, 0]], due)


@pytest.mark.parametrize("norm", [nn.LayerNorm(6), ChannelNorm(6)], ids=["last", "first"])
def test_layer_norm_is_of_each_visible_position(norm):
    torch.manual_seed(0)
    nn.init.normal_(norm.bias)
    cells = drawn(2, (2, 3), 2)
    x = torch.randn(2, 6, 4, 6)
    view = masked_view(norm, cells)
    y = view(x) if isinstance(norm, ChannelNorm) else view(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(
        positions_of(y, cells), F.layer_norm(positions_of(x, cells), (6,), norm.weight, norm.bias, norm.eps)
    )
    assert (y * ~cells.mask(2)).abs().max() == 0


def test_pooling_to_a_point_counts_visible_positions():
    cells = drawn(2, (4, 4), 5)
    x = hide(torch.randn(2, 3, 8, 8), cells)
    for pool, reduce in ((nn.AdaptiveAvgPool2d(1), torch.mean), (nn.AdaptiveMaxPool2d((1, 1)), torch.amax)):
        y = masked_view(pool, cells)(x)
        for sample in range(2):
            torch.testing.assert_close(y[sample, :, 0, 0], reduce(x[sample, :, cells.mask(2)[sample, 0]], dim=1))
        torch.testing.assert_close(packed_view(pool, cells)(pack(x, cells)), y)
    with pytest.raises(InputError, match="mixes visible and hidden"):
        masked_view(nn.AdaptiveAvgPool2d(2), cells)(x)


class SqueezeAndExcitation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, 2, 1), nn.ReLU(), nn.Conv2d(2, channels, 1), nn.Sigmoid()
        )
        self.norm = nn.GroupNorm(2, channels)

    def forward(self, x):
        y = self.conv(x)
        return x + self.norm(y * self.gate(y))


@pytest.mark.parametrize("form", ["masked", "packed"])
def test_hidden_pixels_change_nothing(form):
    torch.manual_seed(0)
    cells = drawn(2, (3, 4), 5)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2, 3),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(3, 2, 1),
        SqueezeAndExcitation(8),
        nn.Conv2d(8, 8, 3, 2, 1),
    )
    x, other = torch.randn(2, 2, 3, 24, 32)
    other = torch.where(cells.mask(8), x, 100 * other)
    answers = []
    for images in (x, other):
        images = images.clone().requires_grad_()
        if form == "packed":
            y = unpack(packed_view(network, cells)(pack(images, cells)), cells)
        else:
            y = masked_view(network, cells)(hide(images, cells))
        y.square().sum().backward()
        assert (y.detach() * ~cells.mask(1)).abs().max() == 0
        assert (images.grad * ~cells.mask(8)).abs().max() == 0
        answers.append((y, images.grad))
    assert all(one.equal(another) for one, another in zip(*answers, strict=True))


@pytest.mark.parametrize("form", ["masked", "packed"])
@pytest.mark.parametrize("training", [True, False])
def test_with_nothing_hidden_the_network_is_the_ordinary_one(form, training):
    torch.manual_seed(0)
    network = create_model("hornet", num_classes=0, width=8, depths=(1, 1, 1, 1), layer_scale=1.0).train(training)
    segnet = create_model("segnet_basic", width=4, features_only=True).model.train(training)
    for model in (network, segnet):
        cell = model.feature_info[-1].reduction
        cells = VisibleCells(torch.ones(2, 1, 2, 2, dtype=torch.bool))
        x = torch.randn(2, 3, 2 * cell, 2 * cell)
        before = {name: one.clone() for name, one in model.state_dict().items()}
        with torch.no_grad():
            due = model.forward_features(x)
            moved = {name: one.clone() for name, one in model.state_dict().items()}
            model.load_state_dict(before)
            if form == "packed":
                maps = [unpack(one, cells) for one in packed_view(model, cells).forward_features(pack(x, cells))]
            else:
                maps = masked_view(model, cells).forward_features(x)
        for one, another in zip(maps, due, strict=True):
            torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)
        for name, one in model.state_dict().items():
            torch.testing.assert_close(one, moved[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("view_of", [masked_view, packed_view])
def test_a_view_shares_the_tensors_and_leaves_the_network_as_it_was(view_of):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), SqueezeAndExcitation(4)).eval()
    calls = []
    network[0].register_forward_hook(lambda module, args, output: calls.append(type(module)))
    kinds = [type(one) for one in network.modules()]
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        due = network(x)
    view = view_of(network, drawn(2, (2, 2), 2))
    assert list(view.state_dict()) == list(network.state_dict())
    assert all(one is other for one, other in zip(view.parameters(), network.parameters(), strict=True))
    assert type(view[0]) is not nn.Conv2d
    assert isinstance(view[0], nn.Conv2d)
    view[0].register_forward_hook(lambda *_: None)
    assert len(network[0]._forward_hooks) == 1
    with torch.no_grad():
        view(torch.zeros(2, 3, 4, 2) if view_of is packed_view else torch.zeros(2, 3, 4, 4))
        assert network(x).equal(due)
    assert [type(one) for one in network.modules()] == kinds
    assert len(calls) == 3


@pytest.mark.parametrize("form", ["masked", "packed"])
def test_views_with_other_masks_do_not_meet_even_where_layers_are_run_again(form):
    """Two passes before one backward, each through a checkpoint that runs its layers once more."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
    x = torch.randn(2, 3, 8, 8)

    def gradient(reentrant):
        network.zero_grad()
        total = 0.0
        for seed in (1, 2):
            cells = drawn(2, (2, 2), 2, seed)
            view = packed_view(network, cells) if form == "packed" else masked_view(network, cells)
            given = (pack(x, cells) if form == "packed" else hide(x, cells)).requires_grad_()
            y = view(given) if reentrant is None else checkpoint(view, given, use_reentrant=reentrant)
            total = total + (seed * y).square().sum()
        total.backward()
        return network[0].weight.grad.clone()

    due = gradient(None)
    assert gradient(False).equal(due)
    assert gradient(True).equal(due)


def test_maps_that_cells_do_not_fit_are_refused_in_one_line():
    cells = drawn(1, (2, 2), 2)
    with pytest.raises(InputError, match="does not cover the grid") as caught:
        masked_view(nn.Conv2d(3, 3, 4), cells)(torch.zeros(1, 3, 8, 8))
    assert "\n" not in str(caught.value)
