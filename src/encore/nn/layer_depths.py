"""Which layer of a network a parameter belongs to, for learning rates that fall from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn

from encore.base.errors import InputError

_LISTS = ("stages", "layers", "layer", "blocks")
"""What networks call the list of their stages, and of a stage's blocks."""


@runtime_checkable
class Layered(Protocol):
    """A model that knows the order of its layers better than `stage_depths` can tell."""

    def parameter_depths(self) -> dict[str, int]:
        """By the name of each parameter its layer, counted from 0 at the input."""
        ...


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """By the name of each parameter its layer, counted from 0 at the input.

    A model that is `Layered` tells by itself. One that holds such a model, or a network in stages, as its encoder gets
    the encoder's layers, and everything else is one last layer.

    Raises:
        InputError: the model has neither.
    """
    for prefix, module in model.named_modules():
        if isinstance(module, Layered):
            below = {f"{prefix}.{name}" if prefix else name: one for name, one in module.parameter_depths().items()}
            last = 1 + max(below.values())
            return {name: below.get(name, last) for name, _ in model.named_parameters()}
    return stage_depths(model)


def stage_depths(model: nn.Module, block_depths: Sequence[Sequence[int]] | None = None) -> dict[str, int]:
    """Layers of a network in stages: the stem, the blocks in order, the rest.

    The stages are a list called `stages`, `layers`, `layer` or `blocks`, and so are the blocks of a stage, which may
    also be a list itself. The stem, 0, is what the model registers before them; what it registers after them is one
    last layer. What lies between two stages belongs to the first block behind it, or, where a stage ends with it, to
    that stage's last block.

    Args:
        model: holds the stages, at any depth.
        block_depths: the layer of each block of each stage; 1, 2, 3 … by default.

    Raises:
        InputError: there are no stages.
        ValueError: `block_depths` are of other stages.
    """
    found = _stages(model)
    if found is None:
        raise InputError(
            f"{type(model).__name__} does not say in which order its layers come, as layer_decay asks",
            "give the model a method parameter_depths, or leave layer_decay out",
        )
    path, stages = found
    blocks = [_blocks(stage) for stage in stages.children()]
    order = {name: index for index, (name, _) in enumerate(stages.named_children())}
    if block_depths is None:
        starts = [1 + sum(len(names) for names in blocks[:index]) for index in range(len(blocks))]
        block_depths = [range(start, start + len(names)) for start, names in zip(starts, blocks, strict=True)]
    if [len(depths) for depths in block_depths] != [len(names) for names in blocks]:
        raise ValueError(
            f"block_depths are of {[len(one) for one in block_depths]} blocks, not {list(map(len, blocks))}"
        )
    last = 1 + max(depth for depths in block_depths for depth in depths)
    parent, _, _ = path.rpartition(".")
    depths: dict[str, int] = {}
    passed = False
    for name, _ in model.named_parameters():
        if name.startswith(f"{path}."):
            passed = True
            child, _, rest = name.removeprefix(f"{path}.").partition(".")
            depths[name] = _depth_in_stage(rest, blocks[order[child]], block_depths[order[child]])
            continue
        between = _index_beside(name, parent)
        if between is not None and 0 < between < len(blocks):
            depths[name] = block_depths[between][0]
        else:
            depths[name] = last if passed else 0
    return depths


def _is_list(name: str, module: nn.Module) -> bool:
    return name in _LISTS and isinstance(module, nn.ModuleList | nn.Sequential) and len(module) > 0


def _stages(model: nn.Module) -> tuple[str, nn.Module] | None:
    """The outermost list of stages and its name."""
    return next((found for found in model.named_modules() if _is_list(found[0].rpartition(".")[2], found[1])), None)


def _blocks(stage: nn.Module) -> list[str]:
    """Prefixes of a stage's blocks; a stage without a list of them is one block."""
    if isinstance(stage, nn.ModuleList | nn.Sequential):
        return [f"{name}." for name, _ in stage.named_children()]
    for name, child in stage.named_children():
        if _is_list(name, child):
            return [f"{name}.{index}." for index, _ in child.named_children()]
    return [""]


def _depth_in_stage(rest: str, blocks: Sequence[str], depths: Sequence[int]) -> int:
    for prefix, depth in zip(blocks, depths, strict=True):
        if rest.startswith(prefix):
            return depth
    return depths[-1] if rest.startswith("downsample.") else depths[0]


def _index_beside(name: str, parent: str) -> int | None:
    """i of `downsample_layers.i.…` beside the stages."""
    inner = name.removeprefix(f"{parent}.") if parent else name
    first, _, rest = inner.partition(".")
    index = rest.partition(".")[0]
    return int(index) if first == "downsample_layers" and index.isdigit() else None
