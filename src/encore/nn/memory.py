"""How much memory a model's inference needs, counted without doing the arithmetic."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from encore.base.errors import DataError

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class InferenceMemory:
    """Bytes of one inference.

    Attributes:
        weights: parameters and buffers.
        activations: the most that input, intermediate maps and output take at any one moment.
    """

    weights: int
    activations: int

    @property
    def total(self) -> int:
        """Weights and activations together."""
        return self.weights + self.activations


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every tensor made inside the block for as long as it lives.

    Views share their storage and count once. What a kernel allocates for itself (im2col buffers, oneDNN's
    reordered weights) does not pass through PyTorch's operators and is not seen.

    Args:
        exempt: tensors that live anyway, such as weights; neither they nor views of them are counted.

    Attributes:
        live: bytes alive now.
        peak: the most there were at once.
    """

    def __init__(self, exempt: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = {id(tensor.untyped_storage()) for tensor in exempt}

    def add(self, tensor: Tensor) -> None:
        """Count the storage of `tensor`, unless it is counted already."""
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return result


def on_meta_device(model: Module) -> Module:
    """A copy of `model` in evaluation mode whose tensors have shapes but no storage."""
    own = model.state_dict(keep_vars=True).values()
    return copy.deepcopy(model, {id(tensor): tensor.detach().to("meta") for tensor in own}).eval()


def inference_memory(model: nn.Module, shape: Sequence[int], dtype: torch.dtype | None = None) -> InferenceMemory:
    """What one call of `model` on an input of `shape` needs at its peak.

    The call is made on PyTorch's meta device: the operators and the lifetimes of their results are the real
    ones of contiguous tensors, the arithmetic is left out, so that it takes milliseconds and no memory whatever
    the size. (Convolutions on that device answer in contiguous layout; channels last can take a little more.)

    Args:
        model: takes one tensor.
        shape: of the input, for example (1, 3, 360, 480).
        dtype: of the input; that of the model's weights by default.
    """
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    dtype = dtype or next(model.parameters()).dtype
    skeleton = on_meta_device(model)
    with torch.no_grad(), LiveBytes(skeleton.state_dict(keep_vars=True).values()) as counter:
        skeleton(torch.empty(*shape, dtype=dtype, device="meta"))
    return InferenceMemory(weights, counter.peak)


def check_memory(model: nn.Module, shape: Sequence[int], what: str, dtype: torch.dtype | None = None) -> None:
    """Refuse an input whose intermediate maps do not fit the memory that is free where the model lies.

    Args:
        model: takes one tensor; its weights are there already.
        shape, dtype: of the input, as for `inference_memory`.
        what: names the input in the error.

    Raises:
        DataError: with the memory that it would need.
    """
    device = next(model.parameters()).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    needed = inference_memory(model, shape, dtype).activations
    if needed > free:
        raise DataError(
            f"{what} would need {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are free",
            "reduce it, or cut it into tiles",
        )


def training_bytes(model: nn.Module, shape: Sequence[int]) -> int:
    """The most that one training step holds: weights, their gradients, and what backward needs of the forward pass.

    Counted on the meta device like `inference_memory`; the optimiser's own state is not included.

    Args:
        model: takes one tensor.
        shape: of a batch, for example (4, 3, 360, 480).
    """
    skeleton = on_meta_device(model).train()
    for parameter in skeleton.parameters():
        parameter.requires_grad_()
    dtype = next(model.parameters()).dtype
    with LiveBytes(skeleton.state_dict(keep_vars=True).values()) as counter:
        skeleton(torch.empty(*shape, dtype=dtype, device="meta")).sum().backward()
    return sum(tensor.nbytes for tensor in model.state_dict().values()) + counter.peak
