"""Reading the weights of Caffe's `.caffemodel` files, which are protocol buffers.

Only the fields that hold weights are declared, by the numbers that `caffe.proto` gives them; the protobuf library
skips all others, also those that forks of Caffe have added. Files of the old form (`V1LayerParameter`, blobs
measured by num, channels, height and width) are read as well.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from encore.base.errors import CheckpointError, InputError

SUFFIX = ".caffemodel"

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Shape": {"dim": (1, "repeated int64")},
    "Blob": {
        "num": (1, "int32"),
        "channels": (2, "int32"),
        "height": (3, "int32"),
        "width": (4, "int32"),
        # Packed numbers are bytes on the wire; as bytes they become arrays without passing through lists.
        "data": (5, "repeated bytes"),
        "shape": (7, "Shape"),
        "double_data": (8, "repeated bytes"),
    },
    "Layer": {"name": (1, "string"), "blobs": (7, "repeated Blob")},
    "OldLayer": {"name": (4, "string"), "blobs": (6, "repeated Blob")},
    "Net": {"layers": (2, "repeated OldLayer"), "layer": (100, "repeated Layer")},
}
"""Field numbers and types of `BlobShape`, `BlobProto`, `LayerParameter`, `V1LayerParameter`, `NetParameter`."""


def read_caffemodel(path: Path | str) -> dict[str, Tensor]:
    """The blobs of every layer by `<layer>/<number>`: weights are 0, biases 1 (`conv1_1/0`).

    Returns:
        float32 tensors, shaped as in the file.

    Raises:
        InputError: the protobuf library is not installed.
        CheckpointError: the file is damaged, or holds no weights.
    """
    decode_error, net_type = _protobuf()
    net = net_type()
    try:
        net.ParseFromString(Path(path).read_bytes())
    except (decode_error, OSError) as error:
        raise CheckpointError(f"{path} is no whole .caffemodel ({error})", "copy or download it again") from error
    tensors = {
        f"{layer.name}/{index}": _tensor(blob, f"{path}, layer {layer.name}, blob {index}")
        for layer in (*net.layers, *net.layer)
        for index, blob in enumerate(layer.blobs)
    }
    if not tensors:
        raise CheckpointError(f"{path} holds no layers with weights", "give a .caffemodel, not a solver's state")
    return tensors


def _tensor(blob: Any, where: str) -> Tensor:
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else (blob.num, blob.channels, blob.height, blob.width)
    packed, dtype = (b"".join(blob.double_data), "<f8") if blob.double_data else (b"".join(blob.data), "<f4")
    count, due = len(packed) / np.dtype(dtype).itemsize, math.prod(shape)
    if min(shape, default=0) < 0 or count != due:
        raise CheckpointError(
            f"{where}: {count:g} values where its shape {shape} asks for {due}", "copy or download it again"
        )
    return torch.from_numpy(np.frombuffer(packed, dtype).astype(np.float32).reshape(shape))


@cache
def _protobuf() -> tuple[type[Exception], Any]:
    """The library's error and the class of a whole net, made from `_MESSAGES`."""
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
    except ImportError as error:
        raise InputError(
            "reading .caffemodel files needs protobuf", "install it: pip install 'encore-papers[caffe]'"
        ) from error
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="encore/caffe.proto", package="encore.caffe", syntax="proto2")
    for name, fields in _MESSAGES.items():
        declared = file.message_type.add(name=name)
        for field_name, (number, kind) in fields.items():
            kind, repeated = kind.removeprefix("repeated "), kind.startswith("repeated ")
            field = declared.field.add(name=field_name, number=number)
            field.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".encore.caffe.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message.DecodeError, message_factory.GetMessageClass(pool.FindMessageTypeByName("encore.caffe.Net"))
