"""Which of several processes this one is, when a training is shared by devices."""

from __future__ import annotations

import os

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "LOCAL_RANK")
"""Set by torchrun, by SLURM, and by Lightning for the processes that it starts itself."""


def process_rank() -> int:
    """0 in the process that writes and prints, 1, 2, … in those that only help it to train."""
    return next((int(os.environ[name]) for name in _RANK_VARIABLES if name in os.environ), 0)


def local_rank() -> int:
    """The number of this process among those of its machine: which GPU is its own."""
    return int(os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", 0)))
