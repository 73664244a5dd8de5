"""The loss of segmentation: cross-entropy per pixel, with classes weighted and void left out."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.errors import ConfigurationError, InputError
from encore.data.contracts import VOID

Normalisation = Literal["weights", "pixels"]


class SegmentationLoss(nn.Module):
    """Weighted cross-entropy over the pixels that are annotated.

    With CE(i) the cross-entropy of pixel i, y(i) its class, w the class weights, and sums over the pixels that are
    not void:

        normalisation "weights":  loss = Σ w[y(i)] · CE(i) / Σ w[y(i)]     PyTorch's `reduction="mean"`
        normalisation "pixels":   loss = Σ w[y(i)] · CE(i) / Σ 1           the Caffe fork of SegNet

    The second lets an image of rare classes weigh more than an image of frequent ones, and scales with the mean
    weight; without class weights both are the same. A batch without an annotated pixel (or with weights of 0
    alone) has the loss 0 and a gradient of zeros.

    With label smoothing ε the term is that of `torch.nn.CrossEntropyLoss`:
    w[y]·CE(y) becomes (1-ε)·w[y]·CE(y) + ε/K · Σ_c w[c]·CE(c).

    Args:
        num_classes: K.
        class_weights: (K,), at least 0, as `median_frequency_weights` returns; none weighs all alike.
        normalisation: what the sum is divided by.
        ignore_index: the mask value that is left out.
        label_smoothing: ε, 0…1.

    Raises:
        ConfigurationError: the weights are not K finite numbers of at least 0.

    Source: SegNet (arXiv 1511.00561), section 4; `SoftmaxWithLoss` of caffe-segnet.

    Example:
        >>> loss = SegmentationLoss(2, class_weights=torch.tensor([1.0, 3.0]), normalisation="pixels")
        >>> loss(torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 255]]]))  # (1 + 3) · ln 2 / 2
        tensor(1.3863)
    """

    class_weights: Tensor | None

    def __init__(
        self,
        num_classes: int,
        class_weights: Tensor | None = None,
        normalisation: Normalisation = "weights",
        ignore_index: int = VOID,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        if class_weights is not None:
            _check_weights(class_weights, num_classes)
            class_weights = class_weights.detach().clone().float()
        self.num_classes = num_classes
        self.normalisation: Normalisation = normalisation
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        # The weights belong to the configuration, not to what is learnt.
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss of a batch.

        Args:
            logits: (B, K, H, W), floating point; half precision is computed in float32.
            masks: (B, H, W), any integer type, class index or `ignore_index`.

        Returns:
            A scalar, float32 (float64 for float64 logits).

        Raises:
            InputError: the shapes do not fit.
        """
        due = (masks.shape[0], self.num_classes, *masks.shape[1:])
        if tuple(logits.shape) != due:
            raise InputError(
                f"logits of shape {tuple(logits.shape)} came for masks of shape {tuple(masks.shape)}",
                f"give logits of shape {due} (batch, classes, height, width)",
            )
        if logits.dtype != torch.float64:
            logits = logits.float()
        masks = masks.long()
        annotated = masks != self.ignore_index
        weights = None if self.class_weights is None else self.class_weights.to(logits.dtype)
        # Summed here: PyTorch's own mean is NaN without a pixel, and its 2-D sum is not deterministic on CUDA.
        terms = F.cross_entropy(
            logits,
            masks,
            weight=weights,
            ignore_index=self.ignore_index,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        if weights is None or self.normalisation == "pixels":
            divisor = annotated.sum().to(logits.dtype)
        else:
            divisor = (weights[masks.where(annotated, 0)] * annotated).sum()
        return terms.sum() / divisor.where(divisor > 0, 1)

    def extra_repr(self) -> str:
        weighted = "none" if self.class_weights is None else "given"
        return f"num_classes={self.num_classes}, class_weights={weighted}, normalisation={self.normalisation!r}"


def _check_weights(class_weights: Tensor, num_classes: int) -> None:
    if tuple(class_weights.shape) != (num_classes,):
        raise ConfigurationError(
            f"class weights of shape {tuple(class_weights.shape)} came for {num_classes} classes",
            f"give one weight for each class, shape ({num_classes},)",
        )
    if not bool(torch.isfinite(class_weights).all()) or bool((class_weights < 0).any()):
        raise ConfigurationError(f"class weights are {class_weights.tolist()}", "give finite numbers of at least 0")
