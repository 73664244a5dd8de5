"""What needs no training: parameters and multiply-accumulates of all networks at the paper's size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from encore.base import registry
from encore.base.cards import Claim
from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.nn.feature_pyramid import FPN
from encore.nn.macs import macs
from encore.nn.model import num_parameters
from encore.nn.upernet import UPerHead
from encore.papers.hornet.horfpn import GnFPN, GnUPerHead
from encore.results.record import ClaimRecord, exact_record

STAGE_CHANNELS = (64, 128, 256, 512)
"""What HorNet-T hands to a feature pyramid."""


def measured_sizes(names: Iterable[str]) -> dict[str, dict[str, list[float]]]:
    """Parameters in millions and multiply-accumulates in thousand millions, 1000 classes, by name of the network.

    Networks of a library that is not installed are left out.
    """
    measured = {}
    for name in names:
        try:
            with torch.device("meta"):
                model = create_model(name)
        except InputError:
            if registry.paper_of_model(name) is not None:
                raise
            continue
        side = 384 if name.endswith("img384") else 224
        measured[name] = {
            "parameters": [num_parameters(model) / 1e6],
            "gmacs": [macs(model, (1, 3, side, side)) / 1e9],
        }
    return measured


def model_size(claim: Claim) -> ClaimRecord:
    """Parameters of HorNet-T 7x7 with 1000 classes, in millions."""
    with torch.device("meta"):
        size = num_parameters(create_model("hornet_tiny_7x7")) / 1e6
    assert claim.paper is not None
    return exact_record(
        claim,
        size,
        holds=round(size) == claim.paper.value,
        note=f"{round(size * 1e6):,} parameters, as the official code has; the paper rounds to millions",
    )


def fusion_size(claim: Claim) -> ClaimRecord:
    """Parameters of the feature pyramid and of UPerNet's fusion, both forms, on HorNet-T's maps."""
    with torch.device("meta"):
        recursive, ordinary = (num_parameters(kind(STAGE_CHANNELS)) for kind in (GnFPN, FPN))
        heads = [num_parameters(kind(STAGE_CHANNELS, 512, 150)) for kind in (GnUPerHead, UPerHead)]
    return exact_record(
        claim,
        recursive,
        holds=recursive < ordinary and heads[0] < heads[1],
        baselines={"fpn": ordinary},
        note=(
            f"The detection pyramid of four levels and 256 channels on the maps of HorNet-T. UPerNet's head of 512 "
            f"channels with a recursive fusion has {heads[0]:,} parameters, with the ordinary one {heads[1]:,}"
        ),
    )


EXACT: dict[str, Callable[[Claim], ClaimRecord]] = {"model_size": model_size, "fusion_size": fusion_size}
"""The claims that need no training, by id."""
