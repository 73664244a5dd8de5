"""The paper's network for other kinds of data."""

from encore.papers.prototypes.tabular import TablePrototypes

__all__ = ["TablePrototypes"]
