"""Metrics of segmentation, in percent: global and class accuracy, mean IoU, boundary F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from encore.base.errors import InputError
from encore.data.contracts import VOID
from encore.tasks.segmentation.balancing import check_mask_range
from encore.tasks.segmentation.boundary import (
    PAPER_TOLERANCE,
    BoundaryMatching,
    CountedClasses,
    boundary_f1,
)


class SegmentationMetrics(Metric):
    """What the SegNet paper reports of a segmentation, and the figures of every class.

    From the confusion matrix n (n[t, p] pixels of class t that were predicted as p; void pixels of the ground
    truth are in no cell), summed over all images:

        global_accuracy   G = Σ n[c, c] / Σ n
        accuracy/<class>  n[c, c] / Σ_p n[c, p]
        class_accuracy    C = the mean of accuracy over the classes that occur in the ground truth
        iou/<class>       n[c, c] / (Σ_p n[c, p] + Σ_t n[t, c] - n[c, c])
        mean_iou          the mean of iou over the classes that occur in ground truth or prediction
        boundary_f1       the mean of `boundary.boundary_f1` over images

    The states are sums, so that any number of processes may share the images. Boundary F1 is measured at the size of
    the masks.

    Args:
        classes: names of the K classes in index order, without void.
        boundary_tolerance: as a share of the image diagonal; none leaves `boundary_f1` out and saves its time.
        boundary_classes, boundary_matching: as `classes` and `matching` of `boundary.boundary_f1_per_class`.
        settings: of `torchmetrics.Metric`.

    Attributes:
        confusion: (K, K) int64, rows are the ground truth.

    Source: SegNet (arXiv 1511.00561), section 4.

    Example:
        >>> metrics = SegmentationMetrics(["road", "car"], boundary_tolerance=None)
        >>> metrics.update(torch.tensor([[[0, 0, 1, 1]]]), torch.tensor([[[0, 0, 0, 255]]]))
        >>> round(metrics.compute()["global_accuracy"], 2), metrics.compute()["accuracy/car"]
        (66.67, None)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    confusion: Tensor
    boundary_sum: Tensor
    boundary_images: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        boundary_tolerance: float | None = PAPER_TOLERANCE,
        boundary_classes: CountedClasses = "target",
        boundary_matching: BoundaryMatching = "distance",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.boundary_tolerance = boundary_tolerance
        self.boundary_classes: CountedClasses = boundary_classes
        self.boundary_matching: BoundaryMatching = boundary_matching
        matrix = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        self.add_state("confusion", matrix, dist_reduce_fx="sum")
        self.add_state("boundary_sum", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("boundary_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, masks: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: logits (B, K, H, W), or class indices (B, H, W) of an integer type; what it is where the mask
                is void does not matter.
            masks: (B, H, W), any integer type, class index or `VOID`.

        Raises:
            InputError: the shapes do not fit.
            DataError: a mask or a prediction is out of range.
        """
        scored = prediction.ndim == masks.ndim + 1
        labels = prediction.argmax(1) if scored else prediction
        if labels.shape != masks.shape or masks.ndim != 3 or (scored and prediction.shape[1] != self.num_classes):
            raise InputError(
                f"a prediction of shape {tuple(prediction.shape)} came for masks of shape {tuple(masks.shape)}",
                "give masks as (batch, height, width), with class indices of that shape or logits "
                f"(batch, {self.num_classes}, height, width)",
            )
        check_mask_range(masks, self.num_classes, "a mask")
        labels = labels.masked_fill(masks == VOID, 0)
        check_mask_range(labels, self.num_classes, "a prediction", void=None)
        self.confusion += multiclass_confusion_matrix(
            labels, masks, self.num_classes, ignore_index=VOID, validate_args=False
        )
        if self.boundary_tolerance is not None:
            scores = boundary_f1(
                labels,
                masks,
                self.num_classes,
                self.boundary_tolerance,
                self.boundary_classes,
                self.boundary_matching,
            )
            self.boundary_sum += scores.nansum()
            self.boundary_images += (~scores.isnan()).sum()

    def compute(self) -> dict[str, float | None]:
        """Everything measured so far, percent 0…100; none (JSON null) where there was nothing to measure."""
        matrix = self.confusion.double()
        correct, of_truth, of_prediction = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        accuracy = correct / of_truth
        iou = correct / (of_truth + of_prediction - correct)
        values: dict[str, float | None] = {
            "global_accuracy": _percent(correct.sum() / matrix.sum()),
            "class_accuracy": _percent(accuracy.nanmean()),
            "mean_iou": _percent(iou.nanmean()),
        }
        if self.boundary_tolerance is not None:
            values["boundary_f1"] = _percent(self.boundary_sum / self.boundary_images / 100)
        for prefix, shares in (("iou", iou), ("accuracy", accuracy)):
            for name, share in zip(self.classes, shares, strict=True):
                values[f"{prefix}/{name}"] = _percent(share)
        return values


def _percent(share: Tensor) -> float | None:
    return None if share.isnan() else 100 * share.item()
