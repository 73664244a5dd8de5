"""Classification: one class for every picture."""

from encore.tasks.classification.task import TASK, ClassificationFit, ClassificationTask

__all__ = ["TASK", "ClassificationFit", "ClassificationTask"]
