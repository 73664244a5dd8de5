"""Batch normalisation after training: population statistics, and folding into the convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from encore.base.errors import DataError


@contextmanager
def single_values_refused() -> Iterator[None]:
    """Turn PyTorch's refusal to normalise one value per channel, met inside the block, into one line.

    Raises:
        DataError: with the remedy.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise DataError(
            "batch normalisation cannot learn from one value per channel, which is what a batch of one picture leaves "
            "where maps shrink to 1×1",
            "use batches of two or more (training.batch_size), or larger pictures",
        ) from error


def recompute_batch_norm_statistics(
    model: nn.Module, batches: Iterable[Any], *, forward: Callable[[Any], Any] | None = None
) -> None:
    """Replace the running statistics by plain averages over a whole set, without training.

        mean = 1/N Σ_n mean_n        var = 1/N Σ_n m_n/(m_n - 1) var_n        over N batches of m_n values

    where mean_n and var_n are those of batch n, with every layer before it normalising by its batch. The
    exponential average that PyTorch keeps while training follows the last few batches of weights that have
    since moved; forgetting this pass is the usual cause of SegNets that answer with one colour. Everything
    but batch normalisation is in evaluation mode (no dropout); training flags are left as they were, and
    after an error the statistics too.

    Source: Ioffe and Szegedy (1502.03167), algorithm 2; `compute_bn_statistics.py` of SegNet-Tutorial.

    Args:
        model: any; without batch normalisation nothing happens, and `batches` is not read.
        batches: what `forward` takes, on the model's device. Batches of one size weigh every picture alike.
        forward: runs the model on one batch; `model(batch)` by default.

    Raises:
        DataError: there are no batches.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    run = forward if forward is not None else model
    training = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    previous = [{name: buffer.clone() for name, buffer in norm.named_buffers(recurse=False)} for norm in norms]
    num_batches = 0
    try:
        model.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # PyTorch's cumulative average; its running_var takes m/(m - 1) by itself
        with torch.no_grad():
            for batch in batches:
                run(batch)
                num_batches += 1
        if num_batches == 0:
            raise DataError("there are no batches to take statistics from", "give the training set")
    except BaseException:
        for norm, buffers in zip(norms, previous, strict=True):
            for name, buffer in buffers.items():
                norm.get_buffer(name).copy_(buffer)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, flag in training.items():
            module.training = flag


def folded(model: nn.Module) -> nn.Module:
    """A copy for inference in which each `<name>_bn` is folded into the (transposed) convolution `<name>` beside it.

        W' = γ/√(var + ε) · W        b' = γ/√(var + ε) · (b - mean) + β

    The copy is in evaluation mode and gives the same outputs up to rounding; where a batch normalisation
    was stands an `nn.Identity`, so its state dict is no longer that of `model`.

    Args:
        model: one whose pairs carry such names, as SegNet's do; others are left as they are, and so is
            batch normalisation without running statistics.
    """
    copied = copy.deepcopy(model).eval()
    for parent in list(copied.modules()):
        for name, norm in list(parent.named_children()):
            convolution = getattr(parent, name.removesuffix("_bn"), None)
            if (
                name.endswith("_bn")
                and isinstance(norm, _BatchNorm)
                and norm.running_mean is not None
                and isinstance(convolution, nn.Conv2d | nn.ConvTranspose2d)
            ):
                transposed = isinstance(convolution, nn.ConvTranspose2d)
                setattr(parent, name.removesuffix("_bn"), fuse_conv_bn_eval(convolution, norm, transpose=transposed))
                setattr(parent, name, nn.Identity())
    return copied
