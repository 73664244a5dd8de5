"""How often classes occur in masks, and the weights that balance them in a loss.

Source: Eigen & Fergus, "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale
Convolutional Architecture" (ICCV 2015), section 6.3.2 on class balancing; SegNet (arXiv 1511.00561), section 4.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import torch
from torch import Tensor

from encore.base.errors import DataError
from encore.data.contracts import VOID

_logger = logging.getLogger(__name__)


def check_mask_range(mask: Tensor, num_classes: int, where: str, void: int | None = VOID) -> None:
    """See that every pixel of a mask is a class or void; cheap enough for every mask that is read.

    Args:
        mask: any shape, any integer type.
        num_classes: K; classes are 0…K-1.
        where: what the mask is, for the message (`"masks/0007.png"`).
        void: the one value beside the classes that is allowed; none allows none.

    Raises:
        DataError: the mask is not of integers, or a value is neither a class nor void.

    Example:
        >>> check_mask_range(torch.tensor([[0, 10], [255, 3]], dtype=torch.uint8), 11, "a mask")
    """
    if mask.dtype.is_floating_point or mask.dtype.is_complex:
        raise DataError(f"{where} is of type {mask.dtype}, a mask holds integers", "give class indices, uint8 or int64")
    wrong = mask >= num_classes
    if mask.dtype.is_signed:
        wrong |= mask < 0
    if void is not None:
        wrong &= mask != void
    if wrong.any():
        values = mask[wrong].unique().tolist()
        shown = ", ".join(str(value) for value in values[:5]) + (", …" if len(values) > 5 else "")
        also, remedy = "", f"number the classes 0…{num_classes - 1}, or name more classes"
        if void is not None:
            also, remedy = f" and void is {void}", f"mark void pixels with {void}, {remedy}"
        raise DataError(
            f"{where} holds the {'value' if len(values) == 1 else 'values'} {shown}, "
            f"but {num_classes} classes have the indices 0…{num_classes - 1}{also}",
            remedy,
        )


def class_frequencies(masks: Iterable[Tensor], num_classes: int) -> Tensor:
    """How much of the images in which a class occurs is that class.

    freq(c) = pixels of c / all pixels of the images in which c occurs

    Void pixels are no class, but belong to "all pixels" of their image: so counted, the formula meets on CamVid
    the weights that were recomputed from the label maps of the SegNet tutorial.

    Args:
        masks: each (H, W), integers, class index or `VOID`; sizes may differ. Read once, in order.
        num_classes: K.

    Returns:
        (K,) float64, 0…1; 0 for a class that never occurs.

    Raises:
        DataError: a mask is out of range, or no pixel of any mask is annotated.

    Example:
        >>> class_frequencies([torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 0, 0]])], 2)
        tensor([0.8750, 0.2500], dtype=torch.float64)
    """
    pixels = torch.zeros(num_classes, dtype=torch.int64)
    pixels_of_images = torch.zeros(num_classes, dtype=torch.int64)
    for index, mask in enumerate(masks):
        check_mask_range(mask, num_classes, f"mask {index}")
        counts = torch.bincount(mask.flatten(), minlength=num_classes)[:num_classes].cpu()
        pixels += counts
        pixels_of_images += (counts > 0) * mask.numel()
    if not pixels.any():
        raise DataError("no pixel of the masks belongs to a class", f"check that the masks are not all void ({VOID})")
    return pixels.double() / pixels_of_images.clamp(min=1)


def median_frequency_weights(masks: Iterable[Tensor], num_classes: int, power: float = 1.0) -> Tensor:
    """Weights that make rare classes count as much as frequent ones: median frequency balancing.

    w(c) = (median(freq) / freq(c)) ** power, with the median over the classes that occur

    `freq` is that of `class_frequencies`, per image as in Eigen & Fergus, not over the whole data set. A class
    that never occurs gets the weight 0 and is named in a logged warning.

    Args:
        masks: each (H, W), integers, class index or `VOID`; sizes may differ. Read once, in order.
        num_classes: K.
        power: 1 for the paper's weights, 0.5 for their square root, which disturbs short trainings less.

    Returns:
        (K,) float32, at least 0; with an odd number of classes the median class has exactly 1.

    Raises:
        DataError: a mask is out of range, or no pixel of any mask is annotated.

    Example:
        >>> median_frequency_weights([torch.tensor([[0, 0, 0, 0, 0, 1, 1, 2]])], 3)
        tensor([0.4000, 1.0000, 2.0000])
    """
    frequencies = class_frequencies(masks, num_classes)
    occurs = frequencies > 0
    if not occurs.all():
        absent = (~occurs).nonzero().flatten().tolist()
        _logger.warning(
            "%s %s never occur%s in the masks and get%s the weight 0",
            "class" if len(absent) == 1 else "classes",
            ", ".join(str(index) for index in absent),
            *(("s", "s") if len(absent) == 1 else ("", "")),
        )
    weights = torch.zeros_like(frequencies)
    # quantile, because Tensor.median takes the lower of two middle values.
    weights[occurs] = (frequencies[occurs].quantile(0.5) / frequencies[occurs]) ** power
    return weights.float()
