"""Boundary F1: how well the outlines of a segmentation lie on those of the ground truth.

Mean IoU hardly sees whether outlines are crisp; this does. For every image and class

    P = share of the predicted boundary pixels that are matched by the ground truth
    R = share of the ground truth's boundary pixels that are matched by the prediction
    F1 = 2·P·R / (P + R)

where matching means to lie no further apart than a tolerance. F1 is averaged over the classes of an image, then
over images.

Source: Csurka, Larlus & Perronnin, "What is a good evaluation measure for semantic segmentation?" (BMVC 2013),
section 3; SegNet (arXiv 1511.00561), section 4 (tolerance: 0.75 % of the image diagonal).

What the sources leave open is settled so:

- A boundary pixel of class c is a pixel of c with one of its four neighbours in another class (the inner boundary).
- Void is left out on both sides: where the ground truth is void the prediction is void too, and the border between
  a class and void is no boundary, neither to be found nor to be blamed for. The edge of the image is none either.
- A class that has boundary pixels on one side only scores 0; one without any on both sides is not counted, and
  nor is an image without a counted class.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from torch import Tensor
from torchmetrics import Metric

from encore.base.errors import InputError
from encore.data.contracts import VOID
from encore.tasks.segmentation.balancing import check_mask_range

CountedClasses = Literal["target", "either"]
BoundaryMatching = Literal["distance", "one_to_one"]

PAPER_TOLERANCE = 0.0075
"""The tolerance of the SegNet paper, as a share of the image diagonal: 4.5 pixels at 360×480."""


def boundary_f1(
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    tolerance: float = PAPER_TOLERANCE,
    classes: CountedClasses = "target",
    matching: BoundaryMatching = "distance",
    ignore_index: int = VOID,
) -> Tensor:
    """The boundary F1 of every image: the mean over its classes.

    Args, returned range and errors are those of `boundary_f1_per_class`.

    Returns:
        (B,) float64, percent 0…100; NaN where no class of an image has a boundary. A scalar for (H, W) inputs.

    Example:
        >>> mask = torch.tensor([[0, 0, 1, 1]] * 4)
        >>> boundary_f1(mask, mask, num_classes=2)
        tensor(100., dtype=torch.float64)
        >>> boundary_f1(mask.roll(1, dims=1), mask, num_classes=2, tolerance=0.0)
        tensor(33.3333, dtype=torch.float64)
    """
    per_class = boundary_f1_per_class(prediction, target, num_classes, tolerance, classes, matching, ignore_index)
    return per_class.nanmean(dim=-1)


def boundary_f1_per_class(
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    tolerance: float = PAPER_TOLERANCE,
    classes: CountedClasses = "target",
    matching: BoundaryMatching = "distance",
    ignore_index: int = VOID,
) -> Tensor:
    """The boundary F1 of every class in every image.

    Args:
        prediction: (B, H, W) or (H, W), integers, class indices 0…K-1; any value where `target` is void.
        target: the ground truth, same shape, class index or `ignore_index`.
        num_classes: K.
        tolerance: how far apart matching pixels may lie, as a share of the image diagonal √(H² + W²).
        classes: which classes count in an image: those of its ground truth (`"target"`, the paper), or those of
            ground truth or prediction (`"either"`, the official script), which also blames invented objects.
        matching: `"distance"` matches a pixel to any boundary pixel of its class within the tolerance;
            `"one_to_one"` pairs boundary pixels so that as many as possible have a partner of their own, as
            `correspondPixels` of the Berkeley benchmark does (slower, on the CPU).
        ignore_index: the void value of `target`.

    Returns:
        (B, K), or (K,) for (H, W) inputs, float64, percent 0…100; NaN for a class that is not counted.

    Raises:
        InputError: the shapes do not fit.
        DataError: a value is out of range.
    """
    if prediction.shape != target.shape or target.ndim not in (2, 3):
        raise InputError(
            f"a prediction of shape {tuple(prediction.shape)} came for a mask of shape {tuple(target.shape)}",
            "give both as (batch, height, width) or (height, width)",
        )
    if target.ndim == 2:
        prediction, target = prediction.unsqueeze(0), target.unsqueeze(0)
        return boundary_f1_per_class(prediction, target, num_classes, tolerance, classes, matching, ignore_index)[0]
    void = num_classes  # one more class, so that counts have a place for it
    invalid = target == ignore_index
    check_mask_range(target, num_classes, "a mask", void=ignore_index)
    check_mask_range(prediction.masked_fill(invalid, 0), num_classes, "a prediction", void=None)
    target = target.to(torch.int16).masked_fill(invalid, void)
    prediction = prediction.to(torch.int16).masked_fill(invalid, void)
    truth = _boundary_pixels(boundary_map(target, void), void)
    guess = _boundary_pixels(boundary_map(prediction, void), void)
    offsets = _disk(tolerance * math.hypot(*target.shape[-2:]), target.device)
    match = _match_by_distance if matching == "distance" else _match_one_to_one
    guess_matched, truth_matched = match(guess, truth, offsets)

    num_guess, num_truth = guess.count(num_classes), truth.count(num_classes)
    precision = guess.count(num_classes, guess_matched).double() / num_guess.clamp(min=1)
    recall = truth.count(num_classes, truth_matched).double() / num_truth.clamp(min=1)
    total = precision + recall
    scores = 200 * precision * recall / total.where(total > 0, 1)
    present = _occurs(target, num_classes)
    if classes == "either":
        present |= _occurs(prediction, num_classes)
    return scores.where(present & (num_guess + num_truth > 0), torch.nan)


def boundary_map(labels: Tensor, void: int = VOID) -> Tensor:
    """The inner boundaries of all classes at once.

    Args:
        labels: (B, H, W), integers.
        void: the value that is no class.

    Returns:
        (B, H, W) in the type of `labels`: the class of a pixel with one of its four neighbours in another class,
        neither of them void; `void` elsewhere.

    Example:
        >>> boundary_map(torch.tensor([[[0, 0, 1, 1, 255, 2]]]))
        tensor([[[255,   0,   1, 255, 255, 255]]])
    """
    valid = labels != void
    boundary = torch.zeros_like(valid)
    vertical = (labels[:, 1:] != labels[:, :-1]) & valid[:, 1:] & valid[:, :-1]
    boundary[:, 1:] |= vertical
    boundary[:, :-1] |= vertical
    horizontal = (labels[:, :, 1:] != labels[:, :, :-1]) & valid[:, :, 1:] & valid[:, :, :-1]
    boundary[:, :, 1:] |= horizontal
    boundary[:, :, :-1] |= horizontal
    return labels.where(boundary, void)


class BoundaryF1(Metric):
    """The mean of `boundary_f1` over images, for whole data sets and many processes.

    Args:
        num_classes: K.
        tolerance, classes, matching, ignore_index: as in `boundary_f1_per_class`.

    Attributes:
        score_sum: sum of the images' F1, percent.
        num_images: how many images had a counted class.

    Example:
        >>> metric = BoundaryF1(num_classes=2)
        >>> mask = torch.tensor([[[0, 0, 1, 1]] * 4])
        >>> metric.update(mask, mask)
        >>> metric.compute()
        tensor(100., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    score_sum: Tensor
    num_images: Tensor

    def __init__(
        self,
        num_classes: int,
        tolerance: float = PAPER_TOLERANCE,
        classes: CountedClasses = "target",
        matching: BoundaryMatching = "distance",
        ignore_index: int = VOID,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.num_classes = num_classes
        self.tolerance = tolerance
        self.classes: CountedClasses = classes
        self.matching: BoundaryMatching = matching
        self.ignore_index = ignore_index
        self.add_state("score_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add images: both (B, H, W) or (H, W), integers, class indices (and void in `target`)."""
        scores = boundary_f1(
            prediction,
            target,
            self.num_classes,
            self.tolerance,
            self.classes,
            self.matching,
            self.ignore_index,
        )
        self.score_sum += scores.nansum()
        self.num_images += (~scores.isnan()).sum()

    def compute(self) -> Tensor:
        """The mean over images, float64, percent 0…100; NaN without a counted image."""
        return self.score_sum / self.num_images


@dataclass(frozen=True)
class _BoundaryPixels:
    """The N boundary pixels of a batch: their class map (B, H, W), and each pixel's image, row, column and class."""

    map: Tensor
    void: int
    image: Tensor
    row: Tensor
    column: Tensor
    label: Tensor

    def count(self, num_classes: int, matched: Tensor | None = None) -> Tensor:
        """How many there are, or are matched, per image and class: (B, K) int64."""
        places = self.image * num_classes + self.label
        if matched is not None:
            places = places[matched]
        num_images = len(self.map)
        return torch.bincount(places, minlength=num_images * num_classes).view(num_images, num_classes)


def _boundary_pixels(labels: Tensor, void: int) -> _BoundaryPixels:
    image, row, column = (labels != void).nonzero(as_tuple=True)
    return _BoundaryPixels(labels, void, image, row, column, labels[image, row, column].long())


def _occurs(labels: Tensor, num_classes: int) -> Tensor:
    """Whether each class has a pixel in each image, (B, K) bool; `labels` are 0…K, K being void."""
    num_images, num_values = len(labels), num_classes + 1
    image = torch.arange(num_images, device=labels.device).view(-1, 1, 1)
    counts = torch.bincount((image * num_values + labels).flatten(), minlength=num_images * num_values)
    return counts.view(num_images, num_values)[:, :num_classes] > 0


def _disk(radius: float, device: torch.device) -> Tensor:
    """The offsets (row, column) of all pixels no further than `radius`, nearest first: (N, 2) int64."""
    reach = torch.arange(-math.floor(radius + 1e-9), math.floor(radius + 1e-9) + 1)
    offsets = torch.cartesian_prod(reach, reach).view(-1, 2)
    distances = offsets.square().sum(1)
    inside = distances <= radius**2 + 1e-9
    return offsets[inside][distances[inside].argsort(stable=True)].to(device)


def _padded(values: Tensor, offsets: Tensor, fill: int) -> Tensor:
    margin = int(offsets.max())
    return F.pad(values, (margin, margin, margin, margin), value=fill)


def _places(pixels: _BoundaryPixels, padded: Tensor, offsets: Tensor) -> tuple[Tensor, list[int]]:
    """Flat positions of pixels in a padded map, and how far each offset leads from them."""
    margin, (height, width) = int(offsets.max()), padded.shape[-2:]
    places = (pixels.image * height + pixels.row + margin) * width + pixels.column + margin
    return places, (offsets[:, 0] * width + offsets[:, 1]).tolist()


def _match_by_distance(guess: _BoundaryPixels, truth: _BoundaryPixels, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """For each boundary pixel, whether the other side has one of its class within reach: two bool tensors.

    The same as a distance transform per class that is cut off at the tolerance, but for all classes and
    images at once.
    """
    return _within_reach(guess, truth, offsets), _within_reach(truth, guess, offsets)


def _within_reach(pixels: _BoundaryPixels, others: _BoundaryPixels, offsets: Tensor) -> Tensor:
    padded = _padded(others.map, offsets, others.void)
    places, steps = _places(pixels, padded, offsets)
    flat, labels = padded.flatten(), pixels.label.to(padded.dtype)
    found = torch.zeros_like(pixels.label, dtype=torch.bool)
    for step in steps:
        found |= flat[places + step] == labels
    return found


def _match_one_to_one(guess: _BoundaryPixels, truth: _BoundaryPixels, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """For each boundary pixel, whether it is paired in a largest matching of pixels within reach."""
    numbers = torch.full(truth.map.shape, -1, dtype=torch.int64, device=truth.map.device)
    numbers[truth.image, truth.row, truth.column] = torch.arange(len(truth.label), device=numbers.device)
    padded = _padded(numbers, offsets, -1)
    places, steps = _places(guess, padded, offsets)
    flat = padded.flatten()
    guess_numbers, truth_numbers = [], []
    for step in steps:
        partner = flat[places + step]
        candidates = (partner >= 0).nonzero().flatten()
        candidates = candidates[truth.label[partner[candidates]] == guess.label[candidates]]
        guess_numbers.append(candidates)
        truth_numbers.append(partner[candidates])
    rows, columns = torch.cat(guess_numbers).cpu().numpy(), torch.cat(truth_numbers).cpu().numpy()
    graph = csr_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(guess.label), len(truth.label)))
    # Pixels of different images or classes share no edge, so that one matching serves the whole batch.
    partner_of_guess = torch.from_numpy(maximum_bipartite_matching(graph, perm_type="column"))
    guess_matched = (partner_of_guess >= 0).to(truth.map.device)
    truth_matched = torch.zeros_like(truth.label, dtype=torch.bool)
    truth_matched[partner_of_guess.to(truth.map.device)[guess_matched].long()] = True
    return guess_matched, truth_matched
