"""Mixed pictures and their mixed targets: mixup and cutmix through kornia, label smoothing."""

from __future__ import annotations

from typing import Any

import torch
from kornia import augmentation as K
from torch import Tensor


class Mixing:
    """With some probability mixes each picture of a batch with another one, and their classes alike.

    - mixup (Zhang and others, arXiv 1710.09412): (1 - λ)·x + λ·x', λ ~ Beta(α, α).
    - cutmix (Yun and others, arXiv 1905.04899): a rectangle of x' in x, of a share λ of the area.

    Where both are wanted, each batch takes one of them.

    Args:
        num_classes: K.
        mixup, cutmix: α of the Beta distribution of λ; 0 for none.
        probability: with which a batch is mixed at all.
        switch: probability of cutmix, where both are wanted.
        label_smoothing: share of the target that is spread over all classes.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        probability: float = 1.0,
        switch: float = 0.5,
        label_smoothing: float = 0.0,
    ) -> None:
        self.num_classes, self.label_smoothing = num_classes, label_smoothing
        self.mixup, self.cutmix = mixup, cutmix
        self.probability, self.switch = probability, switch

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Draw with PyTorch's own generator.

        Args:
            images: (B, 3, H, W), floating point.
            labels: (B,) class indices.

        Returns:
            The pictures, and targets (B, K) float32 that sum to 1.
        """
        targets = self.targets(labels)
        if not (self.mixup or self.cutmix) or torch.rand(()) >= self.probability:
            return images, targets
        cut = bool(self.cutmix) and (not self.mixup or bool(torch.rand(()) < self.switch))
        images, others, shares = (self._cutmix if cut else self._mixup)(images, labels)
        shares = shares.unsqueeze(1)
        return images, (1 - shares) * targets + shares * self.targets(others)

    def targets(self, labels: Tensor) -> Tensor:
        """One-hot targets (B, K) of class indices, smoothed."""
        targets = torch.full((len(labels), self.num_classes), self.label_smoothing / self.num_classes)
        targets = targets.to(labels.device)
        return targets.scatter_add_(1, labels.unsqueeze(1), torch.full_like(targets[:, :1], 1 - self.label_smoothing))

    def _mixup(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mix: Any = K.RandomMixUpV2(data_keys=["input", "class"])
        drawn = mix.generate_parameters(images.shape)
        drawn["mixup_lambdas"] = torch.distributions.Beta(self.mixup, self.mixup).sample((len(images),)).to(images)
        drawn["batch_prob"] = torch.ones(len(images))
        drawn["dtype"] = torch.tensor(0)  # kornia's number of float32
        mixed, parts = mix(images, labels, params=drawn)
        return mixed, parts[:, 1].long(), parts[:, 2]

    def _cutmix(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mix: Any = K.RandomCutMixV2(
            data_keys=["input", "class"], beta=torch.tensor(self.cutmix), use_correct_lambda=True
        )
        mixed, parts = mix(images, labels)
        return mixed, parts[0, :, 1].long(), 1 - parts[0, :, 2]  # kornia gives the share that stays
