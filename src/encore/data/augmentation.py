"""Augmentation of pictures together with their masks, through kornia, decided by seed, epoch and sample alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from kornia import augmentation as K
from pydantic import Field, field_validator
from torch import Tensor

from encore.base.configuration import Configuration
from encore.base.seeds import derive_seed
from encore.data.contracts import SegmentationDataset, SegmentationSample


class SegmentationAugmentation(Configuration):
    """What may happen to a training sample; picture and mask move together.

    Attributes:
        horizontal_flip: probability of a mirror image, 0…1.
        rotation: largest angle to either side, degrees.
        translation: largest shift, as a share of height and width, 0…1.
        scale: smallest and largest magnification about the middle.
        brightness, contrast, saturation: largest relative change, 0…1; of the picture only.
        hue: largest shift of the hue, 0…0.5 of the colour circle; of the picture only.
    """

    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    rotation: float = Field(default=0.0, ge=0, le=180)
    translation: float = Field(default=0.0, ge=0, le=1)
    scale: tuple[float, float] = (1.0, 1.0)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)

    @field_validator("scale")
    @classmethod
    def _scale_is_an_interval(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < math.inf:
            raise ValueError("scale is [smallest, largest], both finite and above 0")
        return value

    def pipeline(self) -> K.AugmentationSequential | None:
        """The kornia pipeline over ("input", "mask"), or None where nothing is to happen."""
        steps: list[Any] = []
        if self.horizontal_flip:
            steps.append(K.RandomHorizontalFlip(p=self.horizontal_flip))
        if self.rotation or self.translation or self.scale != (1.0, 1.0):
            shift = (self.translation, self.translation) if self.translation else None
            steps.append(K.RandomAffine(degrees=self.rotation, translate=shift, scale=self.scale, p=1.0))
        if self.brightness or self.contrast or self.saturation or self.hue:
            steps.append(K.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue, p=1.0))
        return K.AugmentationSequential(*steps, data_keys=["input", "mask"]) if steps else None


class Augmented:
    """A `SegmentationDataset` that is asked for (epoch, index) and answers with an augmented sample.

    What happens to a sample is a function of seed, epoch and index, so that a resumed training, another number
    of workers and another order all see the same samples. Pixels that come from outside the picture are black,
    and void in the mask.

    Args:
        dataset: what is augmented.
        configuration: what may happen.
        seed: of the random numbers.
    """

    def __init__(self, dataset: SegmentationDataset, configuration: SegmentationAugmentation, seed: int) -> None:
        self.dataset, self.seed = dataset, seed
        self.classes = dataset.classes
        self._pipeline = configuration.pipeline()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> SegmentationSample:
        """The sample of (epoch, index): image (3, H, W) uint8, mask (H, W) uint8, name."""
        epoch, index = key
        sample = self.dataset[index]
        if self._pipeline is None:
            return sample
        with torch.random.fork_rng(devices=[]):  # of the CPU alone: torch.manual_seed would reset the GPU's as well
            torch.default_generator.manual_seed(derive_seed(self.seed, "augmentation", epoch, index))
            image, mask = self._pipeline(
                sample["image"].unsqueeze(0).float() / 255, _void_as_zero(sample["mask"])[None, None].float()
            )
        return {
            **sample,
            "image": (image[0] * 255).round_().clamp_(0, 255).to(torch.uint8),
            "mask": _zero_as_void(mask[0, 0].round().to(torch.uint8)),
        }


def _void_as_zero(mask: Tensor) -> Tensor:
    """uint8 classes 0…254 and void 255 → 1…255 and 0, which is what kornia fills with."""
    return mask + 1  # 255 + 1 wraps to 0


def _zero_as_void(mask: Tensor) -> Tensor:
    """The inverse of `_void_as_zero`."""
    return mask - 1  # 0 - 1 wraps to 255
