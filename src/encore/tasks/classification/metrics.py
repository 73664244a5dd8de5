"""How well a classifier does: accuracies, log loss, and the confusion matrix that they come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_confusion_matrix

from encore.base.errors import DataError, InputError


class ClassificationMetrics(Metric):
    """Accuracies in percent, from the confusion matrix n (n[t, p] pictures of class t that were taken for p).

        accuracy          Σ n[c, c] / Σ n, also called top-1
        top5_accuracy     share of pictures whose class is among the five with the largest scores; only of more than
                          five classes
        accuracy/<class>  n[c, c] / Σ_p n[c, p], the class's recall
        precision/<class> n[c, c] / Σ_t n[t, c]
        class_accuracy    the mean of accuracy over the classes that occur, also called balanced accuracy
        log_loss          the mean of -log softmax(logits)[class], in nats

    The states are sums, so that any number of processes may share the pictures.

    Args:
        classes: names of the K classes in index order.
        settings: of `torchmetrics.Metric`.

    Attributes:
        confusion: (K, K) int64, rows are the truth.

    Example:
        >>> metrics = ClassificationMetrics(["cat", "dog"])
        >>> metrics.update(torch.tensor([[2.0, 0.0], [3.0, 1.0]]), torch.tensor([0, 1]))
        >>> metrics.compute()["accuracy"], metrics.compute()["accuracy/dog"]
        (50.0, 0.0)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor
    in_five: Tensor
    loss: Tensor

    def __init__(self, classes: Sequence[str], **settings: Any) -> None:
        super().__init__(**settings)
        self.classes = tuple(classes)
        self.num_classes = len(self.classes)
        self.add_state(
            "confusion",
            torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64),
            dist_reduce_fx="sum",
        )
        self.add_state("in_five", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Args:
            logits: (B, K).
            labels: (B,), any integer type, 0…K-1.

        Raises:
            InputError: the shapes do not fit.
            DataError: a label is out of range.
        """
        if logits.shape != (len(labels), self.num_classes) or labels.ndim != 1:
            raise InputError(
                f"logits of shape {tuple(logits.shape)} came for labels of shape {tuple(labels.shape)}",
                f"give logits (batch, {self.num_classes}) and labels (batch,)",
            )
        if len(labels) and (labels.min() < 0 or labels.max() >= self.num_classes):
            raise DataError(
                f"a label is {int(labels.max() if labels.max() >= self.num_classes else labels.min())}, "
                f"but {self.num_classes} classes have the indices 0…{self.num_classes - 1}",
                "number the classes from 0, or name more of them",
            )
        logits, labels = logits.float(), labels.long()
        self.confusion += multiclass_confusion_matrix(logits.argmax(1), labels, self.num_classes, validate_args=False)
        best = logits.topk(min(5, self.num_classes), dim=1).indices
        self.in_five += (best == labels.unsqueeze(1)).any(1).sum()
        self.loss += F.cross_entropy(logits, labels, reduction="sum").double()

    def compute(self) -> dict[str, float | None]:
        """Everything measured so far; none (JSON null) where there was nothing to measure."""
        matrix = self.confusion.double()
        correct, of_truth, of_prediction = matrix.diagonal(), matrix.sum(1), matrix.sum(0)
        recall, precision = correct / of_truth, correct / of_prediction
        total = of_truth.sum()
        values: dict[str, float | None] = {"accuracy": _percent(correct.sum() / total)}
        if self.num_classes > 5:
            values["top5_accuracy"] = _percent(self.in_five / total)
        values["class_accuracy"] = _percent(recall.nanmean())
        values["log_loss"] = float(self.loss / total) if total else None
        for prefix, shares in (("accuracy", recall), ("precision", precision)):
            for name, share in zip(self.classes, shares, strict=True):
                values[f"{prefix}/{name}"] = _percent(share)
        return values


def _percent(share: Tensor) -> float | None:
    return None if share.isnan() else 100 * share.item()
