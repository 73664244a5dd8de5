"""Segmentation: a class for every pixel."""

from encore.tasks.segmentation.task import TASK, SegmentationFit, SegmentationTask

__all__ = ["TASK", "SegmentationFit", "SegmentationTask"]
