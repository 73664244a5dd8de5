"""Feature Pyramid Network (Lin and others; arXiv 1612.03144): maps of all scales with the same number of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

ExtraLevels = Literal["max_pool", "input", "output"]


class FPN(nn.Module):
    """Lateral 1×1 convolutions, a way from the coarsest map down to the finest, and a 3×3 convolution of each map.

    ```text
    C_5 ─ 1×1 ─────────── P_5' ─ 3×3 ─ P_5 ─ extra levels: P_6 …
    C_4 ─ 1×1 ─ + ← ×2 ── P_4' ─ 3×3 ─ P_4
    C_3 ─ 1×1 ─ + ← ×2 ── P_3' ─ 3×3 ─ P_3         ×2: nearest neighbour, to the size of the finer map
    ```

    Args:
        in_channels: of the maps that come in, from the finest to the coarsest.
        out_channels: of all maps that go out.
        num_levels: how many maps go out, at least as many as come in; by default as many.
        extra: how levels beyond those are made, each of half the size: `max_pool` takes every second value of the
            level before (Faster R-CNN); with `input` and `output` a 3×3 convolution of stride 2 reads C_5 or P_5
            (RetinaNet), and each further one the rectified level before.
        make_output: for `out_channels`, what makes P of P' in place of a 3×3 convolution.

    Weights begin Xavier-uniform, biases at zero.

    Raises:
        ValueError: there are no maps, fewer levels than maps, or an unknown kind of extra level.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int = 256,
        num_levels: int | None = None,
        extra: ExtraLevels = "max_pool",
        make_output: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        num_extra = 0 if num_levels is None else num_levels - len(in_channels)
        if not in_channels or num_extra < 0:
            raise ValueError(f"{num_levels} levels cannot be made of {len(in_channels)} maps")
        if extra not in get_args(ExtraLevels):
            raise ValueError(f"extra levels are made by {', '.join(get_args(ExtraLevels))}, not '{extra}'")
        self.out_channels, self.num_extra, self.extra = out_channels, num_extra, extra
        self.laterals = nn.ModuleList(nn.Conv2d(channels, out_channels, 1) for channels in in_channels)
        make_output = make_output or _output_convolution
        self.outputs = nn.ModuleList(make_output(out_channels) for _ in in_channels)
        self.extra_convs = nn.ModuleList()
        if extra != "max_pool":
            first = in_channels[-1] if extra == "input" else out_channels
            for channels in (first, *[out_channels] * (num_extra - 1))[:num_extra]:
                self.extra_convs.append(nn.Conv2d(channels, out_channels, 3, stride=2, padding=1))
        self.apply(_xavier)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i), the finest first → `num_levels` maps (B, out_channels, H_i, W_i)."""
        merged = [lateral(one) for lateral, one in zip(self.laterals, maps, strict=True)]
        for finer in range(len(merged) - 2, -1, -1):
            merged[finer] = merged[finer] + F.interpolate(merged[finer + 1], merged[finer].shape[-2:], mode="nearest")
        levels: list[Tensor] = [output(one) for output, one in zip(self.outputs, merged, strict=True)]
        if self.extra == "max_pool":
            for _ in range(self.num_extra):
                levels.append(F.max_pool2d(levels[-1], 1, stride=2))
            return levels
        before = maps[-1] if self.extra == "input" else levels[-1]
        for conv in self.extra_convs:
            levels.append(conv(before))
            before = levels[-1].relu()
        return levels


def _output_convolution(channels: int) -> nn.Module:
    return nn.Conv2d(channels, channels, 3, padding=1)


def _xavier(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
