"""Published weights: the authors' `.caffemodel` files, and VGG16 encoders in torchvision's layout.

The authors' layers carry the names of ours; blob 0 is a weight, blob 1 a bias. Their batch normalisation was folded
to y = scale · x + shift when the training statistics were computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from encore.base.errors import CheckpointError
from encore.data.streets.classes import CLASSES, COLOURS
from encore.nn.model import IMAGENET, EncoreModel
from encore.papers.segnet.model import ENCODER
from encore.papers.segnet.sizes import PAPER_SIZE
from encore.tasks.segmentation.pictures import class_colours

EPS = nn.BatchNorm2d(1).eps

BASIC_CLASSIFIERS = {"conv_classifier": "segnet_basic", "dense_softmax_inner_prod": "bayesian_segnet_basic"}
"""How the prototxts call the last layer, and the model that says it so."""

VGG16_BN_PLACES = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
"""Of the convolutions in torchvision's `vgg16_bn().features`; each one's batch normalisation follows it."""


def recognises(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are of SegNet, SegNet-Basic or one of their Bayesian forms in Caffe, or a VGG16-BN."""
    return {"conv1_1/0", "conv1_1_D/0"} <= state.keys() or _is_basic(state) or is_encoder(state)


def is_encoder(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are a VGG16-BN's in torchvision's layout, which fills the encoder alone."""
    return {f"features.{place}.weight" for place in VGG16_BN_PLACES} <= state.keys() and "features.1.weight" in state


def _is_basic(state: Mapping[str, Tensor]) -> bool:
    return {"conv1/0", "conv_decode1/0"} <= state.keys() and any(f"{name}/0" in state for name in BASIC_CLASSIFIERS)


def configuration(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """The model's name and arguments, read off the tensors.

    Bayesian SegNet has the tensors and names of SegNet, so that its files open as `segnet`; as
    `create_model("bayesian_segnet", weights=…)` they are what they were made for.

    Raises:
        CheckpointError: the weights are of an encoder alone.
    """
    if is_encoder(state):
        raise CheckpointError(
            "a VGG16 has no decoder, so that these weights are not a whole model",
            "start from them: create_model('segnet', weights=…), or encore fit … --set weights=…",
        )
    if not _is_basic(state):
        return "segnet", {
            "num_classes": state["conv1_1_D/0"].shape[0],
            "in_channels": state["conv1_1/0"].shape[1],
        }
    classifier = next(name for name in BASIC_CLASSIFIERS if f"{name}/0" in state)
    first = state["conv1/0"]
    return BASIC_CLASSIFIERS[classifier], {
        "num_classes": state[f"{classifier}/0"].shape[0],
        "in_channels": first.shape[1],
        "width": first.shape[0],
        "kernel_size": first.shape[-1],
        "depth": sum(re.fullmatch(r"conv\d+/0", name) is not None for name in state),
    }


def convert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by our names.

    Folded normalisation becomes one with mean 0 and variance 1 - eps, which is exact.
    """
    return _from_torchvision(state) if is_encoder(state) else _from_caffe(state)


def describe(model: EncoreModel, state: Mapping[str, Tensor]) -> None:
    """Set what the weights ask for: colours and order of the input; the authors' classes, where they are known."""
    if is_encoder(state):
        model.preprocessing = replace(IMAGENET, size=model.preprocessing.size)
        return
    # All but two of the published nets saw pictures of this size.
    model.preprocessing = replace(model.preprocessing, size=PAPER_SIZE)
    num_classes: int = configuration(state)[1]["num_classes"]
    if num_classes == len(CLASSES):
        model.classes, model.colours = CLASSES, COLOURS
    else:
        model.classes = tuple(f"class_{index}" for index in range(num_classes))
        model.colours = class_colours(num_classes)


def _from_caffe(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        layer, _, number = name.partition("/")
        layer = "conv_classifier" if layer in BASIC_CLASSIFIERS else layer
        kind = {"0": "weight", "1": "bias"}.get(number)
        if kind is None:
            converted[name] = tensor  # left over, and named as such
        elif layer.endswith("_bn"):
            values = tensor.reshape(-1)
            converted[f"{layer}.{kind}"] = values
            if kind == "weight":
                converted[f"{layer}.running_mean"] = values.new_zeros(values.shape)
                converted[f"{layer}.running_var"] = values.new_full(values.shape, 1 - EPS)
        else:
            converted[f"{layer}.{kind}"] = tensor.reshape(-1) if kind == "bias" else tensor
    return converted


def _from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    converted: dict[str, Tensor] = {}
    units = [name for stage in ENCODER for name, _ in stage]
    for unit, place in zip(units, VGG16_BN_PLACES, strict=True):
        for theirs, ours in ((f"features.{place}.", f"{unit}."), (f"features.{place + 1}.", f"{unit}_bn.")):
            converted |= {
                ours + name.removeprefix(theirs): tensor for name, tensor in state.items() if name.startswith(theirs)
            }
    return converted
