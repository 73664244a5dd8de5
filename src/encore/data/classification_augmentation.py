"""Augmentation of pictures that have a class, through kornia.

Crops to one size are made sample by sample, since pictures may differ in size; everything else happens to whole
batches. All of it is decided by seed, epoch and sample, or by seed and step.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from kornia import augmentation as K
from kornia.augmentation.auto import RandAugment, TrivialAugment
from pydantic import AfterValidator, Field, field_validator
from torch import Tensor, nn

from encore.base.configuration import Configuration
from encore.base.seeds import derive_seed
from encore.data.contracts import ImageDataset
from encore.data.resizing import Size


def _is_a_share(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError("crop_scale is [smallest, largest] share of the area, above 0 and at most 1")
    return value


CropScale = Annotated[tuple[float, float], AfterValidator(_is_a_share)]
"""Smallest and largest share of a picture's area."""


class ClassificationAugmentation(Configuration):
    """What may happen to a training picture.

    Attributes:
        crop: `resized`: a random part of the picture, resized (Szegedy and others 2015); `padded`: the picture, shifted
            by up to `crop_padding` pixels; `none`: the picture as evaluation sees it.
        crop_scale: smallest and largest share of the area, of `resized`.
        crop_proportions: smallest and largest width / height of the part, of `resized`.
        crop_padding: pixels, of `padded`.
        horizontal_flip: probability of a mirror image, 0…1.
        brightness, contrast, saturation: largest relative change, 0…1.
        hue: largest shift of the hue, 0…0.5 of the colour circle.
        rand_augment: how many operations of RandAugment (arXiv 1909.13719), 0 for none.
        rand_augment_magnitude: their strength, 0…30.
        trivial_augment: TrivialAugment (arXiv 2103.10158).
        random_erasing: probability with which a rectangle is blanked (arXiv 1708.04896), 0…1.
        random_erasing_fill: what it is blanked with: `black`, or `noise` about grey, of ImageNet's mean and deviation.
        elastic_strength: pixels by which the random field of an elastic deformation is multiplied (Simard, Steinkraus
            and Platt 2003), 0 for none; the shifts themselves are smaller, with the default smoothness about a
            twenty-fifth of it.
        elastic_smoothness: standard deviation of the Gaussian that smooths the field, in pixels.
    """

    crop: Literal["resized", "padded", "none"] = "resized"
    crop_scale: CropScale = (0.5, 1.0)
    crop_proportions: tuple[float, float] = (3 / 4, 4 / 3)
    crop_padding: int = Field(default=4, ge=0)
    horizontal_flip: float = Field(default=0.5, ge=0, le=1)
    brightness: float = Field(default=0.0, ge=0, le=1)
    contrast: float = Field(default=0.0, ge=0, le=1)
    saturation: float = Field(default=0.0, ge=0, le=1)
    hue: float = Field(default=0.0, ge=0, le=0.5)
    rand_augment: int = Field(default=0, ge=0)
    rand_augment_magnitude: int = Field(default=9, ge=0, le=30)
    trivial_augment: bool = False
    random_erasing: float = Field(default=0.0, ge=0, le=1)
    random_erasing_fill: Literal["black", "noise"] = "black"
    elastic_strength: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    elastic_smoothness: float = Field(default=4.0, gt=0, le=1000)

    @field_validator("crop_proportions")
    @classmethod
    def _proportions_are_positive(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] < float("inf"):
            raise ValueError("crop_proportions is [smallest, largest] width / height, above 0")
        return value

    def of_batches(self, size: Size) -> nn.Sequential:
        """What happens to (B, 3, *size) in 0…1, random numbers from PyTorch's own generator."""
        steps: list[nn.Module] = []
        if self.crop == "padded" and self.crop_padding:
            steps.append(K.RandomCrop(size, padding=self.crop_padding))
        if self.horizontal_flip:
            steps.append(K.RandomHorizontalFlip(p=self.horizontal_flip))
        if self.elastic_strength:
            steps.append(ElasticDeformation(self.elastic_strength, self.elastic_smoothness))
        if self.brightness or self.contrast or self.saturation or self.hue:
            steps.append(K.ColorJitter(self.brightness, self.contrast, self.saturation, self.hue, p=1.0))
        if self.rand_augment:
            steps.append(RandAugment(n=self.rand_augment, m=self.rand_augment_magnitude))
        if self.trivial_augment:
            steps.append(TrivialAugment())
        if self.random_erasing:
            kind = NoiseErasing if self.random_erasing_fill == "noise" else K.RandomErasing
            steps.append(kind(p=self.random_erasing))
        return nn.Sequential(*steps)


class NoiseErasing(K.RandomErasing):
    """Random erasing whose rectangle is filled with normal noise, about standard once pictures are normalised.

    It is kornia's, which knows one value for the whole rectangle, in the form that its authors found best ("RE-R").
    """

    mean, deviation = 0.45, 0.225

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """(B, 3, H, W) → (B, 3, H, W); may leave 0…1 in the rectangle."""
        kept = super().apply_transform(torch.ones_like(input[:, :1]), params, flags, transform)
        return torch.where(kept > 0, input, self.mean + self.deviation * torch.randn_like(input))


class ElasticDeformation(nn.Module):
    """Moves every pixel by a smooth random field, one for each picture (Simard, Steinkraus and Platt 2003).

    The field is uniform in [-1, 1], smoothed by a Gaussian with zeros beyond the border, times `strength`; pixels are
    sampled bilinearly, and what comes from beyond the border is 0. kornia's `RandomElasticTransform` counts in half
    pictures and repeats the border instead.

    Args:
        strength: factor of the smoothed field, in pixels.
        smoothness: standard deviation of the Gaussian, in pixels; it is cut at four of them.
    """

    def __init__(self, strength: float = 20.0, smoothness: float = 4.0) -> None:
        super().__init__()
        self.strength, self.smoothness = strength, smoothness

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) floating point → the same, deformed; random numbers from PyTorch's own generator."""
        field = torch.rand(len(images), 2, *images.shape[-2:], device=images.device) * 2 - 1
        return self.deformed(images, field)

    def deformed(self, images: Tensor, field: Tensor) -> Tensor:
        """(B, C, H, W) moved by a raw field (B, 2, H, W) in [-1, 1], its channels down and to the right."""
        height, width = images.shape[-2:]
        rows, columns = (gaussian_band(length, self.smoothness).to(field) for length in (height, width))
        shifts = self.strength * (rows @ field @ columns)  # a band is symmetric
        down = torch.arange(height, device=field.device).view(-1, 1) + shifts[:, 0]
        right = torch.arange(width, device=field.device) + shifts[:, 1]
        # grid_sample counts from the centre of the first pixel, -1, to that of the last, 1.
        grid = torch.stack([2 * right / max(width - 1, 1) - 1, 2 * down / max(height - 1, 1) - 1], dim=-1)
        moved = nn.functional.grid_sample(images, grid.to(images.dtype), align_corners=True)
        inside = (down >= 0) & (down <= height - 1) & (right >= 0) & (right <= width - 1)
        return moved * inside.unsqueeze(1)


def gaussian_band(length: int, deviation: float) -> Tensor:
    """The smoothing of `length` values by a Gaussian, zeros beyond them, as a matrix (length, length) float32.

    Weights sum to 1 over four deviations to both sides, as SciPy's `gaussian_filter` has them.
    """
    radius = int(4 * deviation + 0.5)
    offsets = torch.arange(length).view(-1, 1) - torch.arange(length)
    total = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).double() / deviation) ** 2).sum()
    weights = torch.exp(-0.5 * (offsets.double() / deviation) ** 2) / total
    return (weights * (offsets.abs() <= radius)).float()


class RandomCrops:
    """A dataset that is asked for (epoch, index) and answers with a random part of the picture, resized to `size`.

    Which part is a function of seed, epoch and index alone.

    Args:
        dataset: pictures of any sizes.
        size: (height, width) of what comes out.
        scale: smallest and largest share of the area.
        proportions: smallest and largest width / height of the part.
        seed: of the random numbers.
        horizontal_flip: probability with which the part is mirrored.
        interpolation: `bilinear` or `bicubic`.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        size: Size,
        *,
        scale: tuple[float, float],
        proportions: tuple[float, float] = (3 / 4, 4 / 3),
        seed: int,
        horizontal_flip: float = 0.0,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        self.dataset, self.seed, self.size = dataset, seed, size
        self.classes = dataset.classes
        self._flip = horizontal_flip
        self._interpolation = interpolation
        self._crop: Any = K.RandomResizedCrop(size, scale=scale, ratio=proportions)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Any:
        """The sample of (epoch, index), its image (3, *size) uint8."""
        epoch, index = key
        sample = self.dataset[index]
        image: Tensor = sample["image"]
        with torch.random.fork_rng(devices=[]):  # of the CPU alone: torch.manual_seed would reset the GPU's as well
            torch.default_generator.manual_seed(derive_seed(self.seed, "crop", epoch, index))
            corners = self._crop.generate_parameters(torch.Size([1, *image.shape]))["src"][0]
            mirrored = bool(torch.rand(()) < self._flip)
        left, top = (int(one) for one in corners[0])
        right, bottom = (int(one) + 1 for one in corners[2])
        part = image[:, top:bottom, left:right].unsqueeze(0).float()
        part = torch.nn.functional.interpolate(
            part, self.size, mode=self._interpolation, antialias=True, align_corners=False
        )[0]
        part = part.flip(-1) if mirrored else part
        return {**sample, "image": part.round_().clamp_(0, 255).to(torch.uint8)}
