"""Masked pre-training: a network learns pictures by painting what was hidden of them."""

from encore.tasks.masked_pretraining.task import TASK, MaskedPretrainingFit, MaskedPretrainingTask

__all__ = ["TASK", "MaskedPretrainingFit", "MaskedPretrainingTask"]
