"""Lossless compression: learn how probable samples are, and code them in as many bits as that says.

Samples are integers of one shape (`encore.data.exact`); a model of this task is a `Density`.
"""

from encore.tasks.lossless_compression.task import TASK, CompressionFit, LosslessCompressionTask

__all__ = ["TASK", "CompressionFit", "LosslessCompressionTask"]
