"""Training checkpoints that are either whole or absent."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from encore.base.files import replacing


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the earlier checkpoint and then takes its place, so that a full disk or a kill leaves that one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write `checkpoint` to `path`.

        Raises:
            RunFolderError: the disk is full or cannot be written; what was at `path` is there still.
        """
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(buffer.getbuffer())
