"""What needs no training: parameters, kept bytes, memory and time of all networks at the paper's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encore.base.cards import Claim
from encore.base.progress import ProgressReporter
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model
from encore.nn.memory import InferenceMemory, inference_memory, training_bytes
from encore.nn.model import num_parameters
from encore.nn.timing import time_forward, time_training_step
from encore.papers.segnet.baselines.decoders import feature_map_bytes
from encore.papers.segnet.model import SegmentationHourglass, SegNet, SegNetBasic, stored_bytes
from encore.results.performance import Plan
from encore.results.record import ClaimRecord, exact_record

PAPER_SIZE = (360, 480)
"""Height and width of the pictures in the paper."""

NUM_CLASSES = 11
"""Of CamVid, without void."""

Build = tuple[str, dict[str, Any]]

DECODER_STUDY: dict[str, Build] = {
    "bilinear": ("segnet_basic_bilinear", {}),
    "segnet_basic": ("segnet_basic", {}),
    "encoder_addition": ("segnet_basic_encoder_addition", {"added_map": "before_pooling"}),
    "single_channel_decoder": ("segnet_basic_single_channel_decoder", {}),
    "fcn_basic": ("fcn_basic", {}),
    "fcn_no_addition": ("fcn_basic_no_addition", {}),
    "fcn_no_dim_reduction": ("fcn_basic_no_dim_reduction", {}),
    "fcn_no_addition_no_dim_reduction": ("fcn_basic_no_addition_no_dim_reduction", {}),
}
"""The rows of Table 1. The storage column of EncoderAddition, 64, counts the encoder's maps before pooling, so
these are the ones that are added here."""

BENCHMARK: dict[str, Build] = {
    "segnet": ("segnet", {}),
    "segnet_int64_indices": ("segnet_int64_indices", {}),
    "deeplab_largefov": ("deeplab_largefov", {}),
    "fcn_fixed": ("fcn8s_fixed", {}),
    "fcn_learnt_deconv": ("fcn8s_learnt", {}),
    "deconvnet": ("deconvnet", {}),
    "unet": ("vgg16_unet", {}),
}
"""The rows of Table 6, and those that today's reader misses in it."""


def build(name: str, rows: Mapping[str, Build] = BENCHMARK, *, device: str = "meta") -> SegmentationHourglass:
    """A row's network with 11 classes; on the meta device it has shapes but no weights."""
    model, arguments = rows[name]
    with torch.device(device):
        made: SegmentationHourglass = create_model(model, num_classes=NUM_CLASSES, **arguments)
    return made.eval()


def decoder_storage(claim: Claim) -> ClaimRecord:
    """What SegNet-Basic keeps for its decoder at the paper's size, as multiples of two bits per window.

    Measured on the tensors that `encode` hands to `decode`, against the encoder's float maps and against the
    int64 indices that PyTorch's pooling returns.
    """
    model = create_model("segnet_basic", num_classes=NUM_CLASSES)
    height, width = PAPER_SIZE
    two_bits, int64 = bits_and_indices(model, height, width)
    kept = stored_bytes(model, height, width)
    before = feature_map_bytes(model, height, width)
    pooled = feature_map_bytes(model, height, width, pooled=True)
    baselines = {"encoder_addition": before / two_bits, "int64_indices": int64 / two_bits}
    return exact_record(
        claim,
        kept / two_bits,
        holds=kept < before and kept == two_bits,
        baselines=baselines,
        note=(
            f"SegNet-Basic, one picture of {height}×{width}: {kept:,} bytes of packed offsets, where two bits per "
            f"window are {two_bits:,.0f}; float32 maps before pooling {before:,}, after pooling {pooled:,} "
            f"({pooled / two_bits:.3g}×); PyTorch's int64 indices {int64:,}. The paper's 64 counts the maps before "
            f"pooling"
        ),
    )


def bits_and_indices(model: SegNetBasic, height: int, width: int) -> tuple[float, int]:
    """Bytes of two bits per window and channel, and of PyTorch's indices, counted stage by stage."""
    two_bits, int64 = 0.0, 0
    for _ in range(model.depth):
        full = torch.empty(1, model.width, height, width, device="meta")
        indices = F.max_pool2d(full, 2, 2, ceil_mode=True, return_indices=True)[1]
        two_bits += indices.numel() * 2 / 8
        int64 += indices.nbytes
        height, width = indices.shape[-2:]
    return two_bits, int64


def model_size(claim: Claim) -> ClaimRecord:
    """Megabytes of SegNet's convolutions in float32, with 11 classes, beside those of the other networks."""
    with torch.device("meta"):
        model = SegNet(num_classes=NUM_CLASSES)
    size = convolution_megabytes(model)
    assert claim.paper is not None
    return exact_record(
        claim,
        size,
        holds=int(size) == claim.paper.value,
        baselines={name: convolution_megabytes(build(name)) for name in claim.paper.baselines},
        note=(
            "Convolutions in float32; the paper gives whole megabytes. With its fully connected layers cut to 1024 "
            "channels, as the paper says, DeconvNet has a third of the size that its table prints"
        ),
    )


def convolution_megabytes(model: nn.Module) -> float:
    """Weights and biases of all (transposed) convolutions, in 10⁶ bytes."""
    kinds = nn.Conv2d | nn.ConvTranspose2d
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    return sum(parameter.nbytes for layer in layers for parameter in layer.parameters()) / 1e6


def paper_memory(model: nn.Module) -> InferenceMemory:
    """Of one picture at the paper's size, batch normalisation folded."""
    return inference_memory(folded(model), (1, 3, *PAPER_SIZE))


def inference_megabytes(claim: Claim) -> ClaimRecord:
    """Weights and the peak of intermediate maps while one picture is segmented."""
    assert claim.paper is not None
    ours = paper_memory(build("segnet"))
    beside = {name: paper_memory(build(name)) for name in BENCHMARK if name != "segnet"}
    holds = all(ours.total < beside[name].total for name in claim.paper.baselines)
    maps = ", ".join(f"{name} {memory.activations / 1e6:.1f}" for name, memory in {"segnet": ours, **beside}.items())
    smaller = [name for name in claim.paper.baselines if beside[name].total <= ours.total]
    why = f" {', '.join(smaller)} needs less here" if smaller else ""
    return exact_record(
        claim,
        ours.total / 1e6,
        holds=holds,
        baselines={name: memory.total / 1e6 for name, memory in beside.items()},
        note=(
            f"Weights and the largest sum of maps alive at once, 10⁶ bytes, one picture of {PAPER_SIZE[0]}×"
            f"{PAPER_SIZE[1]}, contiguous layout, batch normalisation folded; of these, maps: {maps}.{why}: PyTorch "
            f"frees a map after its last use, where Caffe, with which the paper measured, keeps every layer's, so that "
            f"weights and single maps decide here"
        ),
    )


def measured_sizes(rows: Mapping[str, Build]) -> dict[str, dict[str, list[float]]]:
    """Parameters, kept bytes and memory of every row at the paper's size."""
    height, width = PAPER_SIZE
    two_bits, _ = bits_and_indices(create_model("segnet_basic"), height, width)
    measured: dict[str, dict[str, list[float]]] = {}
    for name in rows:
        model = build(name, rows)
        kept = stored_bytes(model, height, width)
        measured[name] = {
            "parameters": [num_parameters(model) / 1e6],
            "storage_multiplier": [kept / two_bits],
            "kept_megabytes": [kept / 1e6],
            "model_megabytes": [convolution_megabytes(model)],
            "inference_megabytes": [paper_memory(model).total / 1e6],
            "training_megabytes": [training_bytes(model, (4, 3, *PAPER_SIZE)) / 1e6],
        }
    return measured


def measured_times(
    rows: Mapping[str, Build], device: torch.device, progress: ProgressReporter, *, training: bool
) -> dict[str, dict[str, list[float]]]:
    """Milliseconds per picture at the paper's size, the quickest pass of a few.

    Inference is measured as `predict` runs, batch normalisation folded and channels last, all rows in turn; with
    `training` also forward and backward of a training step, batch 1.
    """
    x: Tensor = (255 * torch.rand(1, 3, *PAPER_SIZE)).to(device, memory_format=torch.channels_last)
    measured: dict[str, dict[str, list[float]]] = {name: {} for name in rows}
    models = {name: on_device(folded(build(name, rows, device="cpu")), device) for name in rows}
    progress.message(f"timing {len(rows)} networks at {PAPER_SIZE[0]}×{PAPER_SIZE[1]}")
    for name, times in time_forward(models, x).items():
        measured[name]["inference_milliseconds"] = [min(times)]
    del models
    for step, name in enumerate(rows if training else (), start=1):
        passes = time_training_step(on_device(build(name, rows, device="cpu"), device), x)
        measured[name]["forward_milliseconds"] = [min(passes.forward)]
        measured[name]["backward_milliseconds"] = [min(passes.backward)]
        progress.update("timing a training step", step, len(rows))
    return measured


def timing_plan(rows: Mapping[str, Build], device: torch.device) -> Plan:
    """What `measured_times` of `rows` costs, from one pass of SegNet timed here."""
    models = [build(name, rows) for name in rows]
    weights = [sum(tensor.nbytes for tensor in model.state_dict().values()) for model in models]
    training = max(training_bytes(model, (1, 3, *PAPER_SIZE)) for model in models)
    x = torch.rand(1, 3, *PAPER_SIZE).to(device, memory_format=torch.channels_last)
    one = min(time_forward({"": on_device(folded(build("segnet", device="cpu")), device)}, x, repeats=1)[""]) / 1000
    # four passes of inference, three steps of training that take three passes each; larger nets take twice SegNet's
    return Plan(
        data=[],
        arms=[],
        seeds=[],
        seconds=2 * one * len(models) * (4 + 3 * 3),
        memory_bytes=sum(weights) + training + 700 * 2**20,
        disk_bytes=0,
        notes=[f"{len(models)} networks are timed at {PAPER_SIZE[0]}×{PAPER_SIZE[1]} after the trainings"],
    )


def on_device(model: nn.Module, device: torch.device) -> nn.Module:
    """The model where it is to run, channels last."""
    return model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def merged(*parts: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, dict[str, Sequence[float]]]:
    """Rows with the values of all parts."""
    rows: dict[str, dict[str, Sequence[float]]] = {}
    for part in parts:
        for name, values in part.items():
            rows.setdefault(name, {}).update(values)
    return rows


EXACT: dict[str, Callable[[Claim], ClaimRecord]] = {
    "decoder_storage": decoder_storage,
    "model_size": model_size,
    "inference_memory": inference_megabytes,
}
"""The claims that need no training, by id."""
