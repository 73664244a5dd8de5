"""Writes `.caffemodel` files byte by byte, after the protocol buffers' wire format and the numbers of `caffe.proto`.

Nothing of the reader is used, so that a wrong field number in it shows.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor


def varint(value: int) -> bytes:
    """An unsigned number in groups of seven bits, the lowest first."""
    parts = []
    while True:
        value, low = value >> 7, value & 0x7F
        parts.append(low | (0x80 if value else 0))
        if not value:
            return bytes(parts)


def field(number: int, content: bytes | int) -> bytes:
    """A field of length-delimited content, or of a number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def blob(tensor: Tensor, *, old: bool = False, double: bool = False) -> bytes:
    """BlobProto: packed values, and `shape`, or the old `num`, `channels`, `height`, `width`."""
    values = tensor.flatten().tolist()
    packed = struct.pack(f"<{len(values)}{'d' if double else 'f'}", *values)
    data = field(8 if double else 5, packed)
    if old:
        shape = [1] * (4 - tensor.ndim) + list(tensor.shape)
        return b"".join(field(number, length) for number, length in enumerate(shape, start=1)) + data
    return data + field(7, field(1, b"".join(varint(length) for length in tensor.shape)))


def caffemodel(
    layers: Mapping[str, Sequence[Tensor]], *, old: bool = False, double: bool = False, between: bytes = b""
) -> bytes:
    """NetParameter with LayerParameters, or with the old V1LayerParameters.

    Args:
        layers: blobs by layer.
        old: the form before 2014.
        double: values of 64 bits.
        between: bytes of fields that the reader does not know, in every layer.
    """
    content = field(1, b"VGG_ILSVRC_16_layer")
    for name, blobs in layers.items():
        parts = field(4 if old else 1, name.encode()) + (field(5, 4) if old else field(2, b"Convolution")) + between
        parts += b"".join(field(6 if old else 7, blob(one, old=old, double=double)) for one in blobs)
        content += field(2 if old else 100, parts)
    return content


def write_caffemodel(path: Path, layers: Mapping[str, Sequence[Tensor]], **form: bool | bytes) -> Path:
    """Write `layers` to `path`."""
    path.write_bytes(caffemodel(layers, **form))
    return path
