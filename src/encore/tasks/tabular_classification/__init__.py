"""Classes for the rows of a table."""

from encore.tasks.tabular_classification.configuration import TabularFit
from encore.tasks.tabular_classification.task import TASK, columns_of

__all__ = ["TASK", "TabularFit", "columns_of"]
