"""What hiding does to a network, measured without training: masks that vanish, statistics that shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from encore.base.cards import Claim
from encore.base.files import replacing
from encore.data.sets.streets import open_streets
from encore.nn.creation import create_model
from encore.papers.spark.cells import VisibleCells
from encore.papers.spark.packed import pack, packed_view, unpack
from encore.papers.spark.sparse import masked_view
from encore.results.record import ClaimRecord, exact_record

LAYERS = 8
GRID, CELL = 4, 8
VISIBLE = 6
"""Of 16 cells: 37.5 %."""

SCENES = 32
STATISTICS_SIZE = (96, 128)


@dataclass(frozen=True)
class Shares:
    """Percent of positions that are not zero, before the first layer and after each."""

    sparse: list[float]
    dense: list[float]


def active_shares() -> Shares:
    """Eight 3×3 convolutions without bias on 32×32 positions of which 6 of 4×4 cells are visible.

    Once as sparse convolutions, once as ordinary ones on the picture with holes.
    """
    generator = torch.Generator().manual_seed(0)
    active = torch.zeros(1, 1, GRID, GRID, dtype=torch.bool)
    active.view(-1)[torch.randperm(GRID**2, generator=generator)[:VISIBLE]] = True
    cells = VisibleCells(active)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(LAYERS)))
    picture = torch.randn(1, 8, GRID * CELL, GRID * CELL, generator=generator) * cells.mask(CELL)
    return Shares(_nonzero(masked_view(layers, cells), picture), _nonzero(layers, picture))


@torch.no_grad()
def _nonzero(layers: Any, x: Tensor) -> list[float]:
    shares = []
    for layer in (nn.Identity(), *layers):
        x = layer(x)
        shares.append(100 * float((x != 0).any(1).float().mean()))
    return shares


def mask_pattern(claim: Claim) -> ClaimRecord:
    """The share of positions that are not zero after eight sparse convolutions, beside ordinary ones."""
    shares = active_shares()
    grown = " ".join(f"{one:.0f}" for one in shares.dense[1:])
    return exact_record(
        claim,
        shares.sparse[-1],
        holds=len(set(shares.sparse)) == 1,
        baselines={"dense": shares.dense[-1]},
        note=(
            f"{LAYERS} convolutions of 3×3 without bias, {VISIBLE} of {GRID}×{GRID} cells visible: sparse "
            f"{shares.sparse[0]:.1f} % before the first and after every layer; ordinary ones after each: {grown} %"
        ),
    )


def _networks() -> dict[str, nn.Module]:
    """Small forms of the kinds of convnets, in float64 so that rounding cannot hide a difference."""
    resnet = create_model(
        "resnet", num_classes=0, depths=[1, 1], hidden_sizes=[16, 32], layer_type="basic", embedding_size=16
    )
    hornet = create_model("hornet", num_classes=0, width=16, depths=[1, 1], orders=[2, 3], filters=[None, None])
    segnet = create_model("segnet_basic", num_classes=2, width=8, kernel_size=3)
    return {"resnet": resnet.double(), "hornet": hornet.double(), "segnet_basic": segnet.double()}


@torch.no_grad()
def dense_equivalence(claim: Claim) -> ClaimRecord:
    """The largest difference between a network and both its sparse forms with nothing hidden, in training mode."""
    differences = {}
    for name, network in _networks().items():
        backbone: Any = network
        cell = backbone.feature_info[-1].reduction
        picture = torch.randn(2, 3, 3 * cell, 2 * cell, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        cells = VisibleCells(torch.ones(2, 1, 3, 2, dtype=torch.bool))
        due = backbone.forward_features(picture)
        masked = masked_view(backbone, cells).forward_features(picture)
        packed = packed_view(backbone, cells).forward_features(pack(picture, cells))
        unpacked = [unpack(one, cells) for one in packed]
        differences[name] = max(
            float((one - other).abs().max() / one.abs().max())
            for form in (masked, unpacked)
            for one, other in zip(due, form, strict=True)
        )
    largest = max(differences.values())
    shown = ", ".join(f"{name} {value:.0e}" for name, value in differences.items())
    return exact_record(
        claim,
        largest,
        holds=largest < 1e-12,
        note=(
            f"Feature maps of all scales, in training mode, computed in float64, as a share of the largest value: "
            f"{shown}. Both forms, masked and packed; sums in another order differ in the last digits"
        ),
    )


@dataclass(frozen=True)
class Statistics:
    """How batch statistics lie to those of whole pictures, for each batch normalisation from the input on.

    Attributes:
        shift: mean distance of the channels' means, in standard deviations of whole pictures.
        width: mean ratio of the channels' standard deviations.
    """

    shift: list[float]
    width: list[float]


def batch_statistics() -> dict[str, Statistics]:
    """What batch normalisation meets on Streets: visible positions alone, and pictures with holes of zeros.

    A ResNet-18 at its beginning, in training mode, six tenths of the cells hidden.
    """
    splits = open_streets(image_size=STATISTICS_SIZE, train=SCENES, val=2, test=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = create_model("resnet18", num_classes=0).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # keeps the batch's own statistics
    images = network.preprocess(torch.stack([splits.train[index]["image"] for index in range(SCENES)]))
    cell = network.feature_info[-1].reduction
    grid = (STATISTICS_SIZE[0] // cell, STATISTICS_SIZE[1] // cell)
    number = grid[0] * grid[1]
    ranks = torch.rand(SCENES, number, generator=torch.Generator().manual_seed(0)).argsort(1).argsort(1)
    cells = VisibleCells((ranks < round(0.4 * number)).view(SCENES, 1, *grid))
    holes = images * cells.mask(cell)
    found = []
    for net, inputs in ((network, images), (masked_view(network, cells), holes), (network, holes)):
        with torch.no_grad():
            net.forward_features(inputs)
        norms: list[Any] = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        found.append([(norm.running_mean.clone(), norm.running_var.sqrt()) for norm in norms])
    whole, *others = found
    return {
        name: Statistics(
            shift=[float(((one[0] - due[0]) / due[1]).abs().mean()) for one, due in zip(rows, whole, strict=True)],
            width=[float((one[1] / due[1]).mean()) for one, due in zip(rows, whole, strict=True)],
        )
        for name, rows in zip(("sparse", "zero_out"), others, strict=True)
    }


def visible_statistics(claim: Claim) -> ClaimRecord:
    """How far the means of the first batch normalisation lie from those of whole pictures; deeper ones in the note."""
    found = batch_statistics()
    sparse, holes = found["sparse"], found["zero_out"]
    middle, last = len(sparse.shift) // 2, len(sparse.shift) - 1
    deeper = "; ".join(
        f"at the {place}. {sparse.shift[place - 1]:.2f} and {holes.shift[place - 1]:.2f}"
        for place in (middle, last + 1)
    )
    return exact_record(
        claim,
        sparse.shift[0],
        holds=sparse.shift[0] < holes.shift[0],
        baselines={"zero_out": holes.shift[0]},
        note=(
            f"ResNet-18 at its beginning, {SCENES} pictures of Streets, six tenths hidden: mean distance of a "
            f"channel's mean from that of whole pictures, in standard deviations, at the first batch normalisation. "
            f"Deviations relative to whole pictures: {sparse.width[0]:.2f} of visible positions, {holes.width[0]:.2f} "
            f"of pictures with holes. Deeper, where windows look across cells and find nothing there, visible "
            f"positions shift more: {deeper}"
        ),
    )


EXACT: dict[str, Callable[[Claim], ClaimRecord]] = {
    "mask_pattern": mask_pattern,
    "dense_equivalence": dense_equivalence,
    "visible_statistics": visible_statistics,
}
"""The claims that need no training, by id."""


def effect_pictures(folder: Path) -> list[tuple[Path, str]]:
    """Draw both effects into `folder`; returns the pictures with their captions."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    shares = active_shares()
    left.plot(range(LAYERS + 1), shares.dense, "o-", color="#b03030", label="ordinary convolution")
    left.plot(range(LAYERS + 1), shares.sparse, "o-", color="#20608a", label="sparse convolution")
    left.set_ylim(0, 100)
    left.set_xlabel("layer")
    left.set_ylabel("positions that are not zero, %")
    left.legend(frameon=False)
    found = batch_statistics()
    for name, colour, label in (
        ("zero_out", "#b03030", "pictures with holes"),
        ("sparse", "#20608a", "visible positions"),
    ):
        right.plot(range(1, len(found[name].shift) + 1), found[name].shift, "o-", color=colour, label=label)
    right.set_ylim(bottom=0)
    right.set_xlabel("batch normalisation, from the input on")
    right.set_ylabel("distance of means from whole pictures\n(in standard deviations)")
    right.legend(frameon=False)
    for axes in (left, right):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    path = folder / "effects.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120)
    caption = (
        "What hiding does: the mask vanishes under ordinary convolutions and stays under sparse ones (left). Holes of "
        "zeros shift what the first layers' batch normalisation meets, where visible positions alone do not; in deep "
        "layers, whose windows look across cells, it is the other way round (right; a ResNet-18 at its beginning)."
    )
    return [(path, caption)]
