"""Reading other people's checkpoints without ever executing them."""

from __future__ import annotations

import pickle
import struct
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encore.base.errors import CheckpointError
from encore.nn.caffe import SUFFIX, read_caffemodel

_WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "net")
_PREFIXES = ("module.", "_orig_mod.")
"""What DistributedDataParallel and torch.compile put before every name."""

_DAMAGED = (
    RuntimeError,
    OSError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    struct.error,
)
"""What PyTorch's reader raises on files with bytes missing or changed."""


def read_state_dict(path: Path | str) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint by name.

    Takes safetensors files, Caffe's `.caffemodel` files (`read_caffemodel`), and PyTorch files through
    `torch.load(weights_only=True)`: a pickle that holds anything but tensors and plain containers is refused,
    never executed. Wrappers are taken off: see `unwrapped`.

    Raises:
        CheckpointError: the file is absent, truncated, not a checkpoint, or would need unpickling.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path} is no checkpoint file", "name a .safetensors, .pth or .caffemodel file")
    if path.suffix == SUFFIX:
        return read_caffemodel(path)
    if path.suffix == ".safetensors":
        try:
            return unwrapped(load_file(path), str(path))
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is not a whole safetensors file ({error})", "copy or download it again"
            ) from error
    try:
        with warnings.catch_warnings():
            # Of another pickle protocol than PyTorch's own: it is read all the same, or refused below.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} would execute code when unpickled, or is no PyTorch file; it was not opened ({_refused(error)})",
            "ask for it as safetensors, or save its plain state dict with torch.save",
        ) from error
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path} is not a whole PyTorch checkpoint ({_refused(error)})", "copy or download it again"
        ) from error
    return unwrapped(content, str(path))


def _refused(error: Exception) -> str:
    """The telling sentence of PyTorch's long message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (telling or lines or [type(error).__name__])[0][:160]


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name, with `metadata` beside the usual `format`.

    Raises:
        OSError: the disk is full or cannot be written; `replacing` says so in one line.
    """
    try:
        save_file(dict(tensors), path, metadata={"format": "pt", **(metadata or {})})
    except SafetensorError as error:  # what the library makes of a full disk
        raise OSError(str(error)) from error


def unwrapped(content: Any, where: str) -> dict[str, Tensor]:
    """The tensors by name in what a checkpoint holds.

    A state dict under `state_dict`, `model`, `module` … is taken out, whatever lies beside it; the prefixes
    that DistributedDataParallel and torch.compile put before every name are cut off.

    Args:
        content: what was read.
        where: its file, for the error.

    Raises:
        CheckpointError: there are no tensors by name.
    """
    while isinstance(content, Mapping):
        inner = next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    tensors = (
        {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
        if isinstance(content, Mapping)
        else {}
    )
    if not tensors:
        raise CheckpointError(f"{where} holds no tensors by name", "give a state dict")
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def load_state(
    model: nn.Module,
    state: Mapping[str, Tensor],
    where: str,
    *,
    may_miss: Collection[str] = (),
    fresh: Collection[str] = (),
) -> None:
    """Load `state` into `model`, every tensor of it, or say in one line what does not fit.

    Args:
        model: is filled.
        state: its tensors by name.
        where: their file, for the error.
        may_miss: submodules that keep what they have where `state` says nothing of them.
        fresh: submodules that keep all of what they have where `state` lacks some of it, or has it in another shape.

    Raises:
        CheckpointError: tensors are missing, left over, of another shape, or not finite.
    """
    own = model.state_dict()
    kept = {name for name in fresh if not _fills(own, state, name)}
    own = {name: tensor for name, tensor in own.items() if name.partition(".")[0] not in kept}
    state = {name: tensor for name, tensor in state.items() if name.partition(".")[0] not in kept}
    wrong_shape = [
        f"{name} is {tuple(state[name].shape)} where {tuple(own[name].shape)} is due"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    missing = [name for name in own if name not in state and not name.endswith("num_batches_tracked")]
    missing = [name for name in missing if name.partition(".")[0] not in may_miss]
    left_over = [name for name in state if name not in own]
    not_finite = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if wrong_shape or missing or left_over or not_finite:
        parts = [
            _first(wrong_shape, "of another shape"),
            _first(missing, "missing"),
            _first(left_over, "left over"),
            _first(not_finite, "not finite"),
        ]
        raise CheckpointError(
            f"{where} does not fit {type(model).__name__}: {'; '.join(part for part in parts if part)}",
            "name the model that the checkpoint is of, with its own number of classes",
        )
    model.load_state_dict(dict(state), strict=False)


def _fills(own: Mapping[str, Tensor], state: Mapping[str, Tensor], submodule: str) -> bool:
    """Whether `state` holds all tensors of `submodule` in their shapes."""
    names = [name for name in own if name.startswith(f"{submodule}.")]
    return all(name in state and state[name].shape == own[name].shape for name in names)


def _first(names: list[str], what: str) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
    return f"{len(names)} {what} ({shown})"
