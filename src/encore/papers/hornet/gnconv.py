"""gnConv, the recursive gated convolution of HorNet, and the global filter that can stand for its depthwise kernel.

Maps are (B, C, H, W). They are worked on with their channels innermost in memory, where layer normalisation and 1×1
convolutions read them as rows of C values; a map that comes otherwise is brought into that order once, by the first
normalisation, and stays in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.nn.channel_norm import ChannelNorm, map_of
from encore.nn.pointwise import linear_of_rows


class GlobalLocalFilter(nn.Module):
    """Half of the channels through a 3×3 depthwise convolution, half through a learned filter of their spectrum.

    ```text
    z (B, D, H, W) → LN → halves ─ 3×3 depthwise ────────────────────────────┐
                               └── rfft2 → × filter (D/2, h, w) → irfft2 ────┤ interleaved → LN → (B, D, H, W)
    ```

    The filter is resized bilinearly where the spectrum, H × (W//2 + 1), is of another size. The transform is
    computed in float32 whatever the type of the input; in an exported program it is a product with its matrix, since
    runtimes have no Fourier transform in common. Channels of the two halves alternate, so that every gate that is cut
    from the result is half local, half global (official `GlobalLocalFilter`).

    Args:
        num_channels: D, even.
        filter_size: (h, w) of the stored filter; (14, 8) for maps of 14×14.

    Raises:
        ValueError: D is odd.
    """

    def __init__(self, num_channels: int, filter_size: tuple[int, int]) -> None:
        super().__init__()
        if num_channels % 2:
            raise ValueError(f"a global filter takes half of its channels, and {num_channels} is odd")
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
        if torch.compiler.is_exporting():
            local = local.contiguous()  # see `map_of`
            spectral = filtered_by_matrices(spectral.float(), *self.resized_weight(H, W // 2 + 1).unbind(-1))
        else:
            spectrum = torch.fft.rfft2(spectral.float(), norm="ortho")
            spectral = torch.fft.irfft2(spectrum * self.filter_of(H, W // 2 + 1), s=(H, W), norm="ortho")
        mixed = torch.stack([self.dw(local), spectral.to(x.dtype)], dim=2).flatten(1, 2)
        out: Tensor = self.post_norm(mixed)
        return out

    def filter_of(self, height: int, width: int) -> Tensor:
        """The filter, (D/2, height, width) complex64, resized if it is stored at another size."""
        return torch.view_as_complex(self.resized_weight(height, width).contiguous())

    def resized_weight(self, height: int, width: int) -> Tensor:
        """The filter, (D/2, height, width, 2) float32: see `resized_filter`."""
        return resized_filter(self.complex_weight.float(), height, width)


def resized_filter(weight: Tensor, height: int, width: int) -> Tensor:
    """(D/2, h, w, 2) → (D/2, height, width, 2), bilinearly with corners aligned; the same tensor if it fits."""
    if torch.compiler.is_exporting():
        rows, columns = _aligned(height, weight.shape[1], weight), _aligned(width, weight.shape[2], weight)
        return (rows @ weight.permute(3, 0, 1, 2) @ columns.T).permute(1, 2, 3, 0)
    if weight.shape[1:3] == (height, width):
        return weight
    planes = weight.permute(3, 0, 1, 2)
    return F.interpolate(planes, (height, width), mode="bilinear", align_corners=True).permute(1, 2, 3, 0)


def _aligned(length: int, stored: int, like: Tensor) -> Tensor:
    """Linear interpolation of `stored` values at `length` places, ends on ends, as a matrix (length, stored).

    An exported program multiplies by it: the resizing of open sizes would have to know whether they are 1.
    """
    places = torch.arange(length, device=like.device)
    steps = places[-1].clamp(min=1)
    places = (places * (stored - 1)).to(like.dtype) / steps
    return (1 - (places.unsqueeze(1) - torch.arange(stored, device=like.device)).abs()).clamp(min=0)


def filtered_by_matrices(x: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """irfft2(rfft2(x) · filter) by products with the transform's matrices, in real numbers alone.

    Args:
        x: (B, C, H, W) float32.
        real, imaginary: the filter's parts, (C, H, W//2 + 1).

    Returns:
        (B, C, H, W).
    """
    H, W = x.shape[-2:]
    half = W // 2 + 1
    cos_w, sin_w = _fourier(W, half, x.device)
    cos_h, sin_h = _fourier(H, H, x.device)
    # Along W, then along H: e^(-ia) = cos a - i sin a.
    a, b = x @ cos_w, -(x @ sin_w)
    a, b = cos_h @ a + sin_h @ b, cos_h @ b - sin_h @ a
    a, b = a * real - b * imaginary, a * imaginary + b * real
    # Back along H, then along W, where every frequency but the first and, of an even W, the last stands for two.
    a, b = cos_h @ a - sin_h @ b, cos_h @ b + sin_h @ a
    frequency = torch.arange(half, device=x.device)
    count = torch.where((frequency == 0) | (2 * frequency == W), 1.0, 2.0)
    return ((a * count) @ cos_w.T - (b * count) @ sin_w.T) / (H * W)


def _fourier(length: int, num_frequencies: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin of 2πjk/n of the places j and the first frequencies k, (n, num_frequencies) each."""
    places = torch.arange(length, device=device)
    count = places[-1] + 1  # n as a tensor, which an exported program can take remainders of
    # The product is reduced first, so that large angles lose no digits.
    reduced = places.unsqueeze(1) * torch.arange(num_frequencies, device=device) % count
    angles = reduced.float() * (2 * math.pi / count)
    return angles.cos(), angles.sin()


class Pointwise(nn.Conv2d):
    """A 1×1 convolution as a product of rows, for maps whose channels are innermost in memory.

    Args:
        in_channels: C.
        out_channels: C'.
        scale: a factor of the first `num_scaled` output channels, beside the weights.
        num_scaled: how many; all by default.
    """

    def __init__(self, in_channels: int, out_channels: int, scale: float = 1.0, num_scaled: int | None = None) -> None:
        super().__init__(in_channels, out_channels, 1)
        self.scale, self.num_scaled = scale, out_channels if num_scaled is None else num_scaled

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C', H, W), channels innermost."""
        weight = self._scaled(self.weight.flatten(1))
        bias = None if self.bias is None else self._scaled(self.bias)
        return map_of(linear_of_rows(x.permute(0, 2, 3, 1), weight, bias))

    def _scaled(self, values: Tensor) -> Tensor:
        if self.scale == 1:
            return values
        scaled = values[: self.num_scaled] * self.scale
        return torch.cat([scaled, values[self.num_scaled :]]) if self.num_scaled < len(values) else scaled


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
        in_channels: channels of x where they are not C.

    Raises:
        ValueError: C cannot be halved n-1 times.
    """

    def __init__(
        self,
        dim: int,
        order: int = 5,
        filter_size: Sequence[int] | None = None,
        scale: float = 1 / 3,
        in_channels: int | None = None,
    ) -> None:
        super().__init__()
        if order < 1 or dim % 2 ** (order - 1):
            raise ValueError(f"{dim} channels cannot be halved {order - 1} times, as order {order} asks")
        self.order, self.scale = order, scale
        self.dims = [dim // 2 ** (order - 1 - k) for k in range(order)]
        total = sum(self.dims)
        # s is a factor of what each gate multiplies: there it scales a few weights, on the gates it would scale maps.
        self.proj_in = Pointwise(in_channels or dim, 2 * dim, scale, self.dims[0])
        self.dwconv: nn.Conv2d | GlobalLocalFilter = (
            nn.Conv2d(total, total, 7, padding=3, groups=total)
            if filter_size is None
            else GlobalLocalFilter(total, (filter_size[0], filter_size[1]))
        )
        self.proj_out = Pointwise(dim, dim)
        self.pws = nn.ModuleList(Pointwise(before, after, scale) for before, after in pairwise(self.dims))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) → (B, C, H, W)."""
        p, q = self.proj_in(x).split((self.dims[0], sum(self.dims)), dim=1)
        gates = self.dwconv(q).split(self.dims, dim=1)
        p = p * gates[0]
        for pw, gate in zip(self.pws, gates[1:], strict=True):
            p = pw(p) * gate
        out: Tensor = self.proj_out(p)
        return out
