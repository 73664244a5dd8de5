"""HorNet (Rao and others; arXiv 2207.14284): a pyramid whose blocks mix space by recursive gated convolution.

gnConv multiplies features with depthwise-convolved copies of themselves, n times over, each time with twice the
channels; an output depends on products of n + 1 values, at the cost of one large-kernel convolution. Names of
parameters are those of the official code, but for `gnconv`, which is one `mixer` among others here.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.registry import register_model
from encore.nn.model import IMAGENET, EncoreModel, FeatureInfo

EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H, W), eps 1e-6."""

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class GlobalLocalFilter(nn.Module):
    """Half of the channels through a 3×3 depthwise convolution, half through a learned filter of their spectrum.

    ```text
    z (B, D, H, W) → LN → halves ─ 3×3 depthwise ────────────────────────────┐
                               └── rfft2 → × filter (D/2, h, w) → irfft2 ────┤ interleaved → LN → (B, D, H, W)
    ```

    The filter is resized bilinearly where the spectrum, H × (W//2 + 1), is of another size. The transform is
    computed in float32 whatever the type of the input. Channels of the two halves alternate, so that every gate
    that is cut from the result is half local, half global (official `GlobalLocalFilter`).

    Args:
        num_channels: D, even.
        filter_size: (h, w) of the stored filter; (14, 8) for maps of 14×14.
    """

    def __init__(self, num_channels: int, filter_size: tuple[int, int]) -> None:
        super().__init__()
        half = num_channels // 2
        self.dw = nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False)
        self.complex_weight = nn.Parameter(torch.empty(half, *filter_size, 2))
        nn.init.trunc_normal_(self.complex_weight, std=0.02)
        self.pre_norm = ChannelNorm(num_channels)
        self.post_norm = ChannelNorm(num_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) → (B, D, H, W)."""
        local, spectral = self.pre_norm(x).chunk(2, dim=1)
        H, W = x.shape[-2:]
        spectrum = torch.fft.rfft2(spectral.float(), norm="ortho")
        spectral = torch.fft.irfft2(spectrum * self.filter_of(H, W // 2 + 1), s=(H, W), norm="ortho").to(x.dtype)
        mixed = torch.stack([self.dw(local), spectral], dim=2).flatten(1, 2)
        return self.post_norm(mixed)

    def filter_of(self, height: int, width: int) -> Tensor:
        """The filter, (D/2, height, width) complex64, resized if it is stored at another size."""
        weight = self.complex_weight.float()
        if weight.shape[1:3] != (height, width):
            weight = F.interpolate(
                weight.permute(3, 0, 1, 2), (height, width), mode="bilinear", align_corners=True
            ).permute(1, 2, 3, 0)
        return torch.view_as_complex(weight.contiguous())


class GnConv(nn.Module):
    """Recursive gated convolution gnConv of order n (section 3.1; official `gnconv`).

    ```text
    x (B, C, H, W) → 1×1 to 2C → p_0 (C_0) and q (ΣC_k) ;  q ← s · depthwise(q) → q_0 … q_{n-1}
    p_1 = p_0 · q_0 ;  p_{k+1} = pw_k(p_k) · q_k ;  out = 1×1(p_n)        C_k = C / 2^(n-1-k)
    ```

    Args:
        dim: C, divisible by 2^(n-1).
        order: n; 1 is the plain gated convolution.
        filter_size: None for a 7×7 depthwise convolution, else (h, w) of a `GlobalLocalFilter`.
        scale: s, the paper's 1/α, on every gate.

    Raises:
        ValueError: C cannot be halved n-1 times.
    """

    def __init__(
        self, dim: int, order: int = 5, filter_size: tuple[int, int] | None = None, scale: float = 1 / 3
    ) -> None:
        super().__init__()
        if order < 1 or dim % 2 ** (order - 1):
            raise ValueError(f"{dim} channels cannot be halved {order - 1} times, as order {order} asks")
        self.order, self.scale = order, scale
        self.dims = [dim // 2 ** (order - 1 - k) for k in range(order)]
        total = sum(self.dims)
        self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
        self.dwconv: nn.Module = (
            nn.Conv2d(total, total, 7, padding=3, groups=total)
            if filter_size is None
            else GlobalLocalFilter(total, filter_size)
        )
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.pws = nn.ModuleList(nn.Conv2d(self.dims[k], self.dims[k + 1], 1) for k in range(order - 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        p, q = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        gates = (self.dwconv(q) * self.scale).split(self.dims, dim=1)
        p = p * gates[0]
        for pw, gate in zip(self.pws, gates[1:], strict=True):
            p = pw(p) * gate
        out: Tensor = self.proj_out(p)
        return out


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
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma1, self.gamma2 = (
            nn.Parameter(torch.full((dim,), layer_scale)) if layer_scale is not None else None for _ in range(2)
        )
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        mixed = self.mixer(self.norm1(x))
        if self.gamma1 is not None:
            mixed = mixed * self.gamma1.view(-1, 1, 1)
        x = x + drop_path(mixed, self.drop_path, self.training)
        rows = x.permute(0, 2, 3, 1)
        rows = self.pwconv2(F.gelu(self.pwconv1(self.norm2(rows))))
        if self.gamma2 is not None:
            rows = rows * self.gamma2
        return x + drop_path(rows.permute(0, 3, 1, 2), self.drop_path, self.training)


def drop_path(x: Tensor, probability: float, training: bool) -> Tensor:
    """Leave a whole sample's branch out with `probability` and scale the others up (stochastic depth)."""
    if not training or probability == 0:
        return x
    kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= probability
    return x * (kept / (1 - probability)).to(x.dtype)


@register_model("hornet")
class HorNet(EncoreModel):
    """HorNet: four stages of blocks whose spatial mixing is gnConv, of growing order.

    ```text
    (B, 3, 224, 224) → conv 4×4/4, LN →  [block] × 2   C    order 2   (B, C, 56, 56)
                       LN, conv 2×2/2 →  [block] × 3   2C   order 3   (B, 2C, 28, 28)
                       LN, conv 2×2/2 →  [block] × 18  4C   order 4   (B, 4C, 14, 14)
                       LN, conv 2×2/2 →  [block] × 2   8C   order 5   (B, 8C, 7, 7)  → mean → LN → linear → (B, K)
    ```

    As a backbone (`features_only=True`) it hands out the four stages' maps.

    Args:
        num_classes: K; 0 for a backbone that classifies nothing.
        in_channels: channels of the pictures.
        width: C.
        depths: blocks of each stage.
        orders: n of each stage.
        filters: for each stage the (h, w) of its global filters, or None for 7×7 convolutions.
        scale: s of gnConv.
        drop_path: stochastic depth, rising linearly to this over all blocks.
        layer_scale: where the branches' factors begin.
        feature_norms: whether every map that is handed out is normalised, as in detection and segmentation.

    Raises:
        ValueError: the stages' numbers differ, or a width cannot be halved often enough.
    """

    preprocessing = IMAGENET
    beyond_features = ("norm", "head")

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
    ) -> None:
        super().__init__()
        if not len(depths) == len(orders) == len(filters):
            raise ValueError(f"depths, orders and filters are of {len(depths)}, {len(orders)}, {len(filters)} stages")
        self.num_classes, self.in_channels = num_classes, in_channels
        dims = [width * 2**stage for stage in range(len(depths))]
        self.dims = dims
        self.downsample_layers = nn.ModuleList([nn.Sequential(nn.Conv2d(in_channels, width, 4, 4), ChannelNorm(width))])
        for before, after in pairwise(dims):
            self.downsample_layers.append(nn.Sequential(ChannelNorm(before), nn.Conv2d(before, after, 2, 2)))
        rates = np.linspace(0, drop_path, sum(depths)).tolist()
        self.stages = nn.ModuleList()
        for dim, depth, order, size in zip(dims, depths, orders, filters, strict=True):
            blocks = []
            for _ in range(depth):
                mixer = GnConv(dim, order, None if size is None else (size[0], size[1]), scale)
                blocks.append(Block(dim, mixer, rates.pop(0), layer_scale))
            self.stages.append(nn.Sequential(*blocks))
        self.norm = nn.LayerNorm(dims[-1], eps=EPS) if num_classes else nn.Identity()
        self.head = nn.Linear(dims[-1], num_classes) if num_classes else nn.Identity()
        self.feature_norms = feature_norms
        if feature_norms:
            for stage, dim in enumerate(dims):
                self.add_module(f"norm{stage}", ChannelNorm(dim))
        self.apply(initialise)

    @property
    def feature_info(self) -> list[FeatureInfo]:
        """The maps of `forward_features`."""
        return [FeatureInfo(f"stage{index + 1}", dim, 4 * 2**index) for index, dim in enumerate(self.dims)]

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """(B, in_channels, H, W) → the map of every stage, (B, C·2^i, H/(4·2^i), W/(4·2^i))."""
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
        """(B, in_channels, H, W) → the features that are classified, (B, 8C)."""
        for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(downsample(x))
        features: Tensor = self.norm(x.mean((-2, -1)))
        return features


def initialise(module: nn.Module) -> None:
    """Truncated normal weights of deviation 0.02, zero biases."""
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


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
    ) -> HorNet:
        return HorNet(
            num_classes,
            in_channels,
            SIZES[size],
            filters=FORMS[form],
            drop_path=drop_path,
            layer_scale=layer_scale,
            feature_norms=feature_norms,
        )


for _size, _form in PUBLISHED:
    _register(_size, _form)
