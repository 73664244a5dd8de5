"""What a backbone does, found out before it is trained by one pass on the meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from encore.base.errors import InputError
from encore.nn.memory import on_meta_device
from encore.nn.model import FeatureInfo
from encore.papers.spark.sparse import CONVOLUTIONS, GLOBAL_POOLINGS, POOLINGS

_ATTENTION = {F.scaled_dot_product_attention, F.multi_head_attention_forward}
_SOFTMAX = {F.softmax, torch.softmax, Tensor.softmax}
_MEANS = {torch.mean, Tensor.mean, F.adaptive_avg_pool2d}
_MIXING = {
    F.interpolate,
    F.grid_sample,
    F.unfold,
    F.conv2d,
    F.conv_transpose2d,
    F.max_pool2d,
    F.avg_pool2d,
    F.pad,
    torch.roll,
    Tensor.roll,
    torch.cumsum,
    Tensor.cumsum,
}
"""Functions that carry values from one position to another."""


@dataclass(frozen=True)
class Survey:
    """What one pass showed.

    Attributes:
        mixing: names of modules that are no layers known here and carry values across positions: global filters,
            convolutions by hand. In the packed form they run on the dense map.
        averaging: names of modules that average over a map without a layer for it, which the masked form cannot see.
    """

    mixing: tuple[str, ...]
    averaging: tuple[str, ...]


def survey(backbone: nn.Module, maps: Sequence[FeatureInfo], in_channels: int) -> Survey:
    """Run a backbone on a picture of 2×3 cells and look at what its modules call.

    Args:
        backbone: has `forward_features`; is left as it is.
        maps: its `feature_info`.
        in_channels: of its pictures.

    Raises:
        InputError: it attends, or its maps do not halve evenly, so that hidden cells cannot be left out.
    """
    cell = maps[-1].reduction
    skeleton = on_meta_device(backbone)
    watch = _Watch(2 * 3)
    handles = []
    for name, module in skeleton.named_modules():
        handles.append(module.register_forward_pre_hook(_entering(watch, name, module)))
        handles.append(module.register_forward_hook(_leaving(watch)))
    forward: Any = skeleton.forward_features
    with torch.no_grad(), watch:
        outputs = forward(torch.empty(1, in_channels, 2 * cell, 3 * cell, device="meta"))
    for info, one in zip(maps, outputs, strict=True):
        if tuple(one.shape[-2:]) != (2 * cell // info.reduction, 3 * cell // info.reduction):
            raise InputError(
                f"the map '{info.name}' of {type(backbone).__name__} is of {one.shape[-2]}×{one.shape[-1]} where its "
                f"stride {info.reduction} makes {2 * cell // info.reduction}×{3 * cell // info.reduction}",
                "choose a backbone whose maps divide the picture evenly",
            )
    return Survey(tuple(watch.mixing), tuple(watch.averaging))


def _entering(watch: _Watch, name: str, module: nn.Module) -> Callable[..., None]:
    def enter(*_: Any) -> None:
        watch.path.append((name, module))

    return enter


def _leaving(watch: _Watch) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        watch.path.pop()

    return leave


class _Watch(TorchFunctionMode):
    """Notes which module calls what."""

    def __init__(self, num_cells: int) -> None:
        super().__init__()
        self.num_cells = num_cells
        self.path: list[tuple[str, nn.Module]] = []
        self.mixing: dict[str, None] = {}
        self.averaging: dict[str, None] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, module = self.path[-1] if self.path else ("", None)
        if func in _ATTENTION or (func in _SOFTMAX and _is_attention(args[0], kwargs.get("dim", (*args, None)[1]))):
            raise InputError(
                f"'{name}' attends from every position to others, so that hidden cells cannot be left out as in a "
                "convolution",
                "choose a convolutional backbone: a ResNet, ConvNeXt, HorNet …",
            )
        known = isinstance(module, (*CONVOLUTIONS, *POOLINGS, *GLOBAL_POOLINGS))
        if not known and _mixes(func, args, kwargs):
            self.mixing[name] = None
        out = func(*args, **kwargs)
        if not known and func in _MEANS and isinstance(out, Tensor) and self._is_map(args[0]) and not self._is_map(out):
            self.averaging[name] = None
        return out

    def _is_map(self, x: Tensor) -> bool:
        """Whether there is a value for every position of a map, wherever its axes stand."""
        sizes = x.shape[1:]
        pairs = [sizes[i] * sizes[i + 1] for i in range(len(sizes) - 1)]
        shapes = [sizes[i : i + 2] for i in range(len(sizes) - 1)]
        return any(
            pair % self.num_cells == 0 and one[0] * 3 == one[1] * 2 for pair, one in zip(pairs, shapes, strict=True)
        )


def _mixes(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a call carries values from one position to another; a convolution by 1×1 kernels does not."""
    if func is F.conv2d and len(args) <= 3 and not kwargs.keys() - {"input", "weight", "bias"}:
        weight: Tensor = kwargs["weight"] if "weight" in kwargs else args[1]
        return tuple(weight.shape[2:]) != (1, 1)
    return func in _MIXING or (resolve_name(func) or "").startswith("torch.fft.")


def _is_attention(x: Tensor, dim: int | None) -> bool:
    """Whether a softmax is over the last axis of a table of positions by positions."""
    return x.ndim >= 3 and dim in (-1, x.ndim - 1) and x.shape[-1] > 1 and x.shape[-2] > 1
