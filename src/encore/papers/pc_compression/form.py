"""What a sample of a model is, and how pictures and integer arrays become the variables of its circuit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from encore.data.exact import Integers


@dataclass(frozen=True)
class SampleForm:
    """The form of a sample.

    Attributes:
        shape: (h, w) of grey pictures, (h, w, 3) of coloured ones, or any other of integer arrays.
        num_values: K.
        lowest: the value of category 0.
        tiles: whether pictures of all sizes are cut into samples.
    """

    shape: tuple[int, ...]
    num_values: int = 256
    lowest: int = 0
    tiles: bool = False

    @property
    def num_variables(self) -> int:
        """D."""
        return prod(self.shape)

    @property
    def is_colour(self) -> bool:
        """Whether samples are coloured pictures of 8 bits, whose channels are decorrelated."""
        return len(self.shape) == 3 and self.shape[2] == 3 and (self.num_values, self.lowest) == (256, 0)

    def refusal(self, shape: Sequence[int], low: int | None = None, high: int | None = None) -> str | None:
        """Why samples of (N, *shape) with values low…high are none of this form; None if they are."""
        if tuple(shape) != self.shape:
            return f"{'×'.join(map(str, shape))} came where the model takes {'×'.join(map(str, self.shape))}"
        last = self.lowest + self.num_values - 1
        if low is not None and high is not None and not self.lowest <= low <= high <= last:
            return f"values from {low} to {high} came where the model knows {self.lowest}…{last}"
        return None

    def variables(self, samples: Integers) -> NDArray[np.int32]:
        """(N, *shape) → categories (N, D), 0…K-1."""
        if self.is_colour:
            samples = decorrelated(samples.astype(np.uint8))
        flat: NDArray[np.int32] = (samples.reshape(len(samples), -1).astype(np.int64) - self.lowest).astype(np.int32)
        return flat

    def samples(self, variables: Integers) -> NDArray[np.int64]:
        """The inverse of `variables`, (N, *shape)."""
        values = variables.astype(np.int64) + self.lowest
        shaped = values.reshape(len(values), *self.shape)
        return recorrelated(shaped.astype(np.uint8)).astype(np.int64) if self.is_colour else shaped


class OfForm:
    """Mixin of models whose samples have a `form`: what the task asks of it."""

    form: SampleForm

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        return self.form.shape

    @property
    def takes_tiles(self) -> bool:
        """Whether samples are tiles of larger pictures."""
        return self.form.tiles

    def refusal(self, shape: Sequence[int], low: int, high: int) -> str | None:
        """Why samples of this shape with values low…high are none of the model's; None if they are."""
        return self.form.refusal(shape, low, high)


def decorrelated(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB → (Y, Co, Cg) modulo 256, without loss (…, 3): YCoCg-R by lifting, each difference kept in 8 bits.

    Differences wrap around, and are read as -128…127 where they are halved; the inverse does the same.
    """
    red, green, blue = (rgb[..., channel] for channel in range(3))
    orange = red - blue
    middle = blue + _half(orange)
    green_part = green - middle
    return np.stack([middle + _half(green_part), orange, green_part], -1)


def recorrelated(transformed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The inverse of `decorrelated`."""
    luma, orange, green_part = (transformed[..., channel] for channel in range(3))
    middle = luma - _half(green_part)
    blue = middle - _half(orange)
    return np.stack([blue + orange, green_part + middle, blue], -1)


def _half(difference: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Half of a signed byte, rounded down, as a byte."""
    return (difference.view(np.int8) >> 1).view(np.uint8)
