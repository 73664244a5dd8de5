"""Random choices and noise that are the same on every machine and in every version of the libraries.

Only `random.Random.random` is used (its sequence is guaranteed by Python) and integer hashing (exact), no
library distribution, whose algorithms may change.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Choice = TypeVar("Choice")
Colour = tuple[float, float, float]


class Dice:
    """A stream of random choices fixed by a seed and the number of the stream.

    Args:
        seed: any integer.
        stream: 0…15; streams of one seed are independent of each other.
    """

    def __init__(self, seed: int, stream: int = 0) -> None:
        unsigned = 2 * seed if seed >= 0 else -2 * seed - 1
        self._random = random.Random(unsigned * 16 + stream).random

    def between(self, low: float, high: float) -> float:
        """A float in [low, high)."""
        return low + (high - low) * self._random()

    def whole(self, low: int, high: int) -> int:
        """An integer in low…high, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with `probability` (0…1)."""
        return self._random() < probability

    def pick(self, choices: Sequence[Choice]) -> Choice:
        """One of `choices`, all equally likely."""
        return choices[int(self._random() * len(choices))]

    def shade(self, colour: Colour, spread: float) -> Colour:
        """`colour` (RGB 0…255) made lighter or darker as a whole and a little in each channel."""
        draw, tint = self._random, spread * 80.0
        gain = 1.0 - spread + 2.0 * spread * draw()
        red, green, blue = colour
        return (
            red * gain + tint * (draw() - 0.5),
            green * gain + tint * (draw() - 0.5),
            blue * gain + tint * (draw() - 0.5),
        )


def hashed(x: NDArray[np.integer], y: NDArray[np.integer]) -> NDArray[np.uint32]:
    """A well mixed 32-bit number for each pair of integers; equal pairs give equal numbers."""
    mixed = x.astype(np.uint32) * np.uint32(374761393) + y.astype(np.uint32) * np.uint32(668265263)
    mixed = (mixed ^ (mixed >> np.uint32(13))) * np.uint32(1274126177)
    return mixed ^ (mixed >> np.uint32(16))


def value_noise(size: int, cells: Sequence[int], gains: Sequence[float]) -> NDArray[np.float32]:
    """A smooth tile of noise that repeats without a seam.

    Args:
        size: the tile's side in pixels.
        cells: number of random values along a side, one per octave; each divides `size`.
        gains: weight of each octave.

    Returns:
        (size, size) float32, scaled to -1…1.
    """
    tile = np.zeros((size, size))
    place = np.arange(size)
    for octave, (count, gain) in enumerate(zip(cells, gains, strict=True)):
        grid = hashed(np.arange(count)[:, None] + 97 * octave, np.arange(count)[None, :]) / 2.0**32
        step = size // count
        cell, rest = place // step, (place % step) / step
        rest = rest * rest * (3 - 2 * rest)
        after = (cell + 1) % count
        rows = grid[cell] * (1 - rest[:, None]) + grid[after] * rest[:, None]
        tile += gain * (rows[:, cell] * (1 - rest) + rows[:, after] * rest)
    low, high = tile.min(), tile.max()
    return ((tile - low) / (high - low) * 2 - 1).astype(np.float32)
