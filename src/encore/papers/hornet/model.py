"""HorNet (Rao and others; arXiv 2207.14284): a pyramid whose blocks mix space by recursive gated convolution.

gnConv multiplies features with depthwise-convolved copies of themselves, n times over, each time with twice the
channels; an output depends on products of n + 1 values, at the cost of one large-kernel convolution. Names of
parameters are those of the official code, but for `gnconv`, which is one `mixer` among others here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.registry import register_model
from encore.nn.channel_norm import EPS, ChannelNorm, map_of
from encore.nn.layer_depths import stage_depths
from encore.nn.model import IMAGENET, EncoreModel, FeatureInfo
from encore.nn.pointwise import RowLinear
from encore.nn.stochastic_depth import drop_path
from encore.papers.hornet.gnconv import GlobalLocalFilter, GnConv, resized_filter

Initialisation = Literal["truncated_normal", "xavier"]


class Block(nn.Module):
    """x + γ₁ · mixer(LN(x)), then x + γ₂ · MLP(LN(x)) with an MLP of 4C and GELU.

    Args:
        dim: C.
        mixer: mixes space, (B, C, H, W) → (B, C, H, W).
        drop_path: probability with which a branch is left out in training.
        layer_scale: where γ begins; None for no γ.
    """

    def __init__(self, dim: int, mixer: nn.Module, drop_path: float = 0.0, layer_scale: float | None = 1e-6) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(dim)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dim, eps=EPS)
        self.pwconv1 = RowLinear(dim, 4 * dim)
        self.pwconv2 = RowLinear(4 * dim, dim)
        self.gamma1, self.gamma2 = (
            nn.Parameter(torch.full((dim,), layer_scale)) if layer_scale is not None else None for _ in range(2)
        )
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        rows = x.permute(0, 2, 3, 1)
        rows = self.added(rows, self.mixer(self.norm1(x)).permute(0, 2, 3, 1), self.gamma1)
        rows = self.added(rows, self.pwconv2(F.gelu(self.pwconv1(self.norm2(rows)))), self.gamma2)
        return map_of(rows)

    def added(self, rows: Tensor, branch: Tensor, gamma: Tensor | None) -> Tensor:
        """rows + γ · branch, each (B, H, W, C), with drop path."""
        branch = drop_path(branch, self.drop_path, self.training)
        return rows + branch if gamma is None else torch.addcmul(rows, branch, gamma)


class Reduction(nn.Conv2d):
    """A convolution that makes maps smaller, down to one cell: a map that its kernel does not fit into is padded."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H', W'), both at least 1."""
        # An exported program compares no sizes; it takes no pictures below the model's `smallest_side`.
        if not torch.compiler.is_exporting():
            below, right = (max(self.input_side(1) - side, 0) for side in x.shape[-2:])
            if below or right:
                x = F.pad(x, (0, right, 0, below))
        return super().forward(x)

    def input_side(self, side: int) -> int:
        """The smallest map of which one with `side` cells is made without padding it."""
        return (side - 1) * self.stride[0] + self.kernel_size[0] - 2 * int(self.padding[0])


class Pyramid(EncoreModel):
    """What HorNet and those it is compared with share: stages of blocks, and a classifier.

    As a backbone (`features_only=True`) it hands out the stages' maps.

    Args:
        mixers: for each stage, what makes the spatial mixer of one of its blocks for C channels.
        num_classes: K; 0 for a backbone that classifies nothing.
        in_channels: channels of the pictures.
        width: C of the first stage, doubled from stage to stage.
        depths: blocks of each stage.
        drop_path: stochastic depth, rising linearly to this over all blocks.
        layer_scale: where the branches' factors begin; None for no factors.
        feature_norms: whether every map that is handed out is normalised, as in detection and segmentation.
        stem: (kernel, stride) of the first convolution, padded so that maps are 1/stride of the picture.
        initialisation: of convolutions and linear layers: `truncated_normal` of deviation 0.02, or `xavier` (uniform;
            the official `uniform_init`), with which products of many gates do not begin near zero.

    Raises:
        ValueError: there are no stages, or the stem or initialisation is none of the above.
    """

    preprocessing = IMAGENET
    beyond_features = ("norm", "head")

    def __init__(
        self,
        mixers: Sequence[Callable[[int], nn.Module]],
        num_classes: int,
        in_channels: int,
        width: int,
        depths: Sequence[int],
        drop_path: float,
        layer_scale: float | None,
        feature_norms: bool,
        stem: Sequence[int],
        initialisation: Initialisation,
    ) -> None:
        super().__init__()
        if not depths or len(mixers) != len(depths):
            raise ValueError(f"depths are of {len(depths)} stages, mixers of {len(mixers)}")
        if initialisation not in _WEIGHTS:
            raise ValueError(f"initialisation is '{initialisation}', not one of {', '.join(_WEIGHTS)}")
        kernel, self.stride = stem
        if not 1 <= self.stride <= kernel:
            raise ValueError(f"stem ({kernel}, {self.stride}) is no (kernel, stride) that sees every pixel")
        self.num_classes, self.in_channels = num_classes, in_channels
        dims = [width * 2**stage for stage in range(len(depths))]
        self.dims = dims
        first = Reduction(in_channels, width, kernel, self.stride, padding=(kernel - self.stride + 1) // 2)
        self.downsample_layers = nn.ModuleList([nn.Sequential(first, ChannelNorm(width))])
        for before, after in pairwise(dims):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(before), Reduction(before, after, 2, 2)))
        rates = np.linspace(0, drop_path, sum(depths)).tolist()
        self.stages = nn.ModuleList()
        for dim, depth, mixer in zip(dims, depths, mixers, strict=True):
            self.stages.append(
                nn.Sequential(*(Block(dim, mixer(dim), rates.pop(0), layer_scale) for _ in range(depth)))
            )
        self.norm = nn.LayerNorm(dims[-1], eps=EPS) if num_classes else nn.Identity()
        self.head = nn.Linear(dims[-1], num_classes) if num_classes else nn.Identity()
        self.feature_norms = feature_norms
        if feature_norms:
            for stage, dim in enumerate(dims):
                self.add_module(f"norm{stage}", ChannelNorm(dim))
        self.smallest_side = 1
        for reduction in reversed([one for one in self.downsample_layers.modules() if isinstance(one, Reduction)]):
            self.smallest_side = reduction.input_side(self.smallest_side)
        self.apply(partial(initialise, initialisation=initialisation))

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The maps of `forward_features`."""
        return [FeatureInfo(f"stage{index + 1}", dim, self.stride * 2**index) for index, dim in enumerate(self.dims)]

    def parameter_depths(self) -> dict[str, int]:
        """The layers of layer-wise learning rates: the authors' 14 groups where there are four stages.

        Stages are a group each, but for the third, whose blocks pair up (official `optim_factory.py`).
        """
        depths = [len(stage) for stage in self.stages if isinstance(stage, nn.Sequential)]
        if len(depths) != 4:
            return stage_depths(self)
        third = [3 + block // 2 for block in range(depths[2])]
        return stage_depths(self, [[1] * depths[0], [2] * depths[1], third, [third[-1] + 1] * depths[3]])

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) → the map of every stage, (B, C·2^i, H/(s·2^i), W/(s·2^i)) stem of stride s."""
        maps = []
        for index, (downsample, stage) in enumerate(zip(self.downsample_layers, self.stages, strict=True)):
            x = stage(downsample(x))
            maps.append(self.get_submodule(f"norm{index}")(x) if self.feature_norms else x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W), normalised RGB → logits (B, K)."""
        logits: Tensor = self.head(self.pooled(x))
        return logits

    def pooled(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → the features that are classified, (B, C of the last stage)."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        features: Tensor = self.norm(x.mean((-2, -1)))
        return features


def _truncated_normal(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=0.02)


_WEIGHTS: dict[str, Callable[[Tensor], object]] = {
    "truncated_normal": _truncated_normal,
    "xavier": nn.init.xavier_uniform_,
}


def initialise(module: nn.Module, initialisation: Initialisation = "truncated_normal") -> None:
    """Fill the weights of one convolution or linear layer, and zero its bias; others are left as they are."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        _WEIGHTS[initialisation](module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


@register_model("hornet")
class HorNet(Pyramid):
    """HorNet: four stages of blocks whose spatial mixing is gnConv, of growing order.

    ```text
    (B, 3, 224, 224) → conv 4×4/4, LN →  [block] × 2   C    order 2   (B, C, 56, 56)
                       LN, conv 2×2/2 →  [block] × 3   2C   order 3   (B, 2C, 28, 28)
                       LN, conv 2×2/2 →  [block] × 18  4C   order 4   (B, 4C, 14, 14)
                       LN, conv 2×2/2 →  [block] × 2   8C   order 5   (B, 8C, 7, 7)  → mean → LN → linear → (B, K)
    ```

    As a backbone (`features_only=True`) it hands out the four stages' maps.

    Args:
        orders: n of each stage.
        filters: for each stage the (h, w) of its global filters, or None for 7×7 convolutions.
        scale: s of gnConv.
        others: see `Pyramid`.

    Raises:
        ValueError: the stages' numbers differ, a width cannot be halved often enough, or see `Pyramid`.

    Example:
        >>> model = HorNet(num_classes=10, width=16, depths=(1, 1), orders=(1, 2), filters=(None, (14, 8)))
    """

    def __init__(
        self,
        num_classes: int = 1000,
        in_channels: int = 3,
        width: int = 64,
        depths: Sequence[int] = (2, 3, 18, 2),
        orders: Sequence[int] = (2, 3, 4, 5),
        filters: Sequence[Sequence[int] | None] = (None, None, None, None),
        scale: float = 1 / 3,
        drop_path: float = 0.0,
        layer_scale: float | None = 1e-6,
        feature_norms: bool = False,
        stem: Sequence[int] = (4, 4),
        initialisation: Initialisation = "truncated_normal",
    ) -> None:
        if not len(depths) == len(orders) == len(filters):
            raise ValueError(f"depths, orders and filters are of {len(depths)}, {len(orders)}, {len(filters)} stages")
        mixers = [
            partial(GnConv, order=order, filter_size=size, scale=scale)
            for order, size in zip(orders, filters, strict=True)
        ]
        super().__init__(
            mixers,
            num_classes,
            in_channels,
            width,
            depths,
            drop_path,
            layer_scale,
            feature_norms,
            stem,
            initialisation,
        )

    def fitting_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Global filters of another size are resized to the model's, as the official loader for dense prediction does.

        A classifier's tensors have no norms of maps; the model's own are put beside them.
        """
        fitting = dict(state)
        norms = {name: one for name, one in self.state_dict().items() if re.match(r"norm\d", name)}
        if not norms.keys() & state.keys():
            fitting.update(norms)
        for name, module in self.named_modules():
            key = f"{name}.complex_weight"
            if isinstance(module, GlobalLocalFilter) and key in state and state[key].ndim == 4:
                _, height, width, _ = module.complex_weight.shape
                fitting[key] = resized_filter(state[key], height, width)
        return fitting


SIZES = {"tiny": 64, "small": 96, "base": 128, "large": 192}
"""Widths C."""

FORMS: dict[str, tuple[tuple[int, int] | None, ...]] = {
    "7x7": (None, None, None, None),
    "gf": (None, None, (14, 8), (7, 4)),
    "gf_img384": (None, None, (24, 13), (12, 7)),
}
"""Filters of the four stages: depthwise 7×7, or global filters for pictures of 224 and 384 pixels."""

PUBLISHED = (
    *((size, form) for form in ("7x7", "gf") for size in SIZES),
    ("base", "gf_img384"),
    ("large", "gf_img384"),
)
"""The networks that the authors name."""


def _register(size: str, form: str) -> None:
    @register_model(f"hornet_{size}_{form}")
    def make(
        num_classes: int = 1000,
        in_channels: int = 3,
        drop_path: float = 0.0,
        layer_scale: float | None = 1e-6,
        feature_norms: bool = False,
        stem: Sequence[int] = (4, 4),
        initialisation: Initialisation = "truncated_normal",
    ) -> HorNet:
        return HorNet(
            num_classes,
            in_channels,
            SIZES[size],
            filters=FORMS[form],
            drop_path=drop_path,
            layer_scale=layer_scale,
            feature_norms=feature_norms,
            stem=stem,
            initialisation=initialisation,
        )


for _size, _form in PUBLISHED:
    _register(_size, _form)
