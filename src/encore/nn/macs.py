"""Multiply-accumulate operations of a network, counted on shapes alone."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def macs(model: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-accumulates of one pass in evaluation mode.

    Convolutions, linear layers, matrix products and attention count, as in the tables of papers; Fourier transforms,
    normalisation and activations do not.

    Args:
        model: a copy on the meta device is asked; its weights do not matter.
        shape: of the input, (B, C, H, W).
    """
    asked = copy.deepcopy(model).to("meta").eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        asked(torch.empty(*shape, device="meta"))
    return counter.get_total_flops() // 2
