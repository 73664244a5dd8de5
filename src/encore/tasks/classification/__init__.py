"""Classification: one class for every picture."""

from encore.tasks.classification.configuration import ClassificationFit
from encore.tasks.classification.task import TASK, ClassificationTask

__all__ = ["TASK", "ClassificationFit", "ClassificationTask"]
