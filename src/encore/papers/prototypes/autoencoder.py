"""The autoencoders of the picture models: the paper's convolutions, and any registered backbone.

All convolutions of the paper are 3×3 with stride 2 and TensorFlow's `SAME` padding, which for even sizes pads below and
on the right alone, so that published weights would see the pixels that they were made for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import ConfigurationError
from encore.nn.creation import create_model
from encore.nn.model import Preprocessing

Size = tuple[int, int]

KERNEL, STRIDE = 3, 2
INITIAL_DEVIATION = 0.01
"""Filters begin as N(0, 0.01²), biases at 0 (official code)."""


def halved(size: Size, times: int = 1) -> Size:
    """What `times` convolutions of stride 2 leave of a size."""
    unit = STRIDE**times
    return -(-size[0] // unit), -(-size[1] // unit)


def same_padding(length: int) -> tuple[int, int]:
    """Zeros before and behind `length` values, of TensorFlow's `SAME` for kernel 3 and stride 2."""
    total = max((-(-length // STRIDE) - 1) * STRIDE + KERNEL - length, 0)
    return total // 2, total - total // 2


class SameConvolution(nn.Conv2d):
    """(B, C, H, W) → (B, C', ⌈H/2⌉, ⌈W/2⌉)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE)
        initialise(self)

    def forward(self, input: Tensor) -> Tensor:
        """Pad as `SAME` does, then convolve."""
        rows, columns = same_padding(input.shape[-2]), same_padding(input.shape[-1])
        if rows == columns == (1, 1):
            return F.conv2d(input, self.weight, self.bias, STRIDE, padding=1)
        return super().forward(F.pad(input, (*columns, *rows)))


class SameTransposedConvolution(nn.ConvTranspose2d):
    """The transpose of `SameConvolution`: (B, C, h, w) → (B, C', *size), where h, w = ⌈size/2⌉."""

    def __init__(self, in_channels: int, out_channels: int, size: Size) -> None:
        super().__init__(in_channels, out_channels, KERNEL, STRIDE)
        self.size = size
        initialise(self)

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """Convolve, then cut off what `SAME` padded."""
        whole = super().forward(input)
        top, left = (same_padding(length)[0] for length in self.size)
        return whole[..., top : top + self.size[0], left : left + self.size[1]]


def initialise(convolution: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """As the official code: N(0, 0.01²), biases 0."""
    nn.init.normal_(convolution.weight, std=INITIAL_DEVIATION)
    if convolution.bias is not None:
        nn.init.zeros_(convolution.bias)


class ConvolutionalEncoder(nn.Sequential):
    """The paper's f: `SameConvolution` and ReLU, once for each of `widths`.

    (B, C, H, W) → (B, widths[-1], ⌈H/2ⁿ⌉, ⌈W/2ⁿ⌉), n convolutions.
    """

    def __init__(self, num_channels: int, widths: Sequence[int]) -> None:
        before = (num_channels, *widths)
        super().__init__(*(SameConvolution(*pair) for pair in zip(before, widths, strict=False)))

    def forward(self, input: Tensor) -> Tensor:
        """Pictures 0…1 → maps from 0 on."""
        for convolution in self:
            input = convolution(input).relu()
        return input


class TransposedDecoder(nn.Sequential):
    """The paper's g: the mirror image of its f with weights of its own; ReLU, at the end a sigmoid.

    (B, q) → (B, widths[0], *sizes[0]).

    Args:
        widths: channels of the picture and of each map of the encoder, outermost first.
        sizes: their sizes.
    """

    def __init__(self, widths: Sequence[int], sizes: Sequence[Size]) -> None:
        self.code_shape = (widths[-1], *sizes[-1])
        layers = range(len(widths) - 1, 0, -1)
        super().__init__(*(SameTransposedConvolution(widths[one], widths[one - 1], sizes[one - 1]) for one in layers))

    def forward(self, input: Tensor) -> Tensor:
        """Codes → pictures 0…1."""
        return _restored(self, input.unflatten(1, self.code_shape))


class UpsamplingDecoder(nn.Sequential):
    """A g without the chequered traces of transposed convolutions: nearest pixels, then a 3×3 convolution.

    (B, q) → (B, widths[0], *sizes[0]); arguments as for `TransposedDecoder`, but sizes need not be halves.
    """

    def __init__(self, widths: Sequence[int], sizes: Sequence[Size]) -> None:
        self.code_shape = (widths[-1], *sizes[-1])
        layers = range(len(widths) - 1, 0, -1)
        super().__init__(
            *(
                nn.Sequential(
                    nn.Upsample(sizes[one - 1], mode="nearest"),
                    nn.Conv2d(widths[one], widths[one - 1], KERNEL, padding=1),
                )
                for one in layers
            )
        )

    def forward(self, input: Tensor) -> Tensor:
        """Codes → pictures 0…1."""
        return _restored(self, input.unflatten(1, self.code_shape))


def _restored(layers: nn.Sequential, maps: Tensor) -> Tensor:
    for place, layer in enumerate(layers):
        maps = layer(maps)
        maps = maps.relu() if place < len(layers) - 1 else maps.sigmoid()
    return maps


class BackboneEncoder(nn.Module):
    """A registered backbone as f: its smallest map, reduced to few channels by a 1×1 convolution and ReLU.

    (B, C, H, W) in 0…1 → (B, code_channels, H/r, W/r), r being the map's reduction.

    Args:
        name, arguments: of the backbone.
        code_channels: of the code.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, arguments: Mapping[str, Any], code_channels: int) -> None:
        super().__init__()
        self.backbone = create_model(name, features_only=True, out_indices=(-1,), **arguments)
        self.info = self.backbone.feature_info[0]
        self.projection = nn.Conv2d(self.info.num_channels, code_channels, 1)
        seen: Preprocessing = self.backbone.preprocessing
        self.backwards = seen.channel_order == "BGR"
        # Kept with the weights: what a trained backbone takes may be another than what its kind takes.
        self.register_buffer("mean", torch.tensor(seen.mean).view(3, 1, 1) / seen.scale)
        self.register_buffer("std", torch.tensor(seen.std).view(3, 1, 1) / seen.scale)

    def forward(self, input: Tensor) -> Tensor:
        """Pictures 0…1, grey or RGB → maps from 0 on."""
        input = input.expand(-1, 3, -1, -1)
        if self.backwards:
            input = input.flip(1)
        (maps,) = self.backbone((input - self.mean) / self.std)
        return torch.relu(self.projection(maps))

    def map_size(self, size: Size) -> Size:
        """The size of the map of pictures of `size`.

        Raises:
            ConfigurationError: the pictures are too small for the backbone.
        """
        was_training = self.training
        try:
            with torch.no_grad():
                maps = self.eval()(torch.zeros(1, 3, *size))
        except (RuntimeError, ValueError) as error:
            raise ConfigurationError(
                f"pictures of {size[0]} × {size[1]} do not pass through this encoder ({error})",
                "give a larger image_size",
            ) from error
        finally:
            self.train(was_training)
        return int(maps.shape[-2]), int(maps.shape[-1])

    @property
    def num_halvings(self) -> int:
        """How often the decoder has to double."""
        return max(round(math.log2(self.info.reduction)), 1)
