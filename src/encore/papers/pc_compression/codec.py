"""The lossless codec: a folder of pictures or an `.npz` becomes one file, and comes back in every value.

Samples are coded in blocks of 64, each with a stream of its own, so that a block can be read without the others; the
samples of a block share what a stream costs beyond its content. Several blocks are coded at once, so that the products
of matrices are large, and several such groups by threads side by side.
"""

from __future__ import annotations

import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from threadpoolctl import threadpool_limits

from encore.base.errors import CheckpointError, DataError, RunFolderError
from encore.base.files import replacing
from encore.base.progress import ProgressReporter
from encore.data.exact import LOSSLESS, Integers, num_tiles
from encore.data.images import unreadable
from encore.papers.pc_compression.coder import TreeCoder
from encore.papers.pc_compression.container import MAGIC, Reader, Writer
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.sources import Taker, inside, open_source, write_folder, write_npz
from encore.results.codecs import CodecReport

Given = TypeVar("Given")
Made = TypeVar("Made")

NAME = "pc_compression"

BLOCK_SIZE = 64
"""Samples that share a stream."""

BLOCKS_AT_ONCE = 8
"""Blocks that are coded side by side."""


class Item(BaseModel):
    """One picture or array.

    Attributes:
        name: of the file in its folder, or of the array's member.
        shape, dtype: of its values.
        raw: whether it was kept as it is.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    shape: tuple[Annotated[int, Field(ge=0)], ...]
    dtype: str | list[Any]
    raw: bool = False

    def num_samples(self, model: HCLT) -> int:
        """How many samples it was coded as."""
        form = model.form
        if len(self.shape) == len(form.shape):
            return num_tiles(self.shape, form.shape) if form.tiles else 1
        return self.shape[0] * (num_tiles(self.shape[1:], form.shape) if form.tiles else 1)


class Heading(BaseModel):
    """What a compressed file says of itself."""

    model_config = ConfigDict(extra="forbid")

    codec: Literal["pc_compression"]
    kind: Literal["folder", "npz"]
    model: str
    block_size: Annotated[int, Field(ge=1, le=2**16)]
    items: list[Item]

    @model_validator(mode="after")
    def _items_are_files(self) -> Heading:
        names = [one.name for one in self.items]
        if len(set(names)) < len(names):
            raise ValueError("a name stands there twice")
        if self.kind == "folder":
            for one in self.items:
                if inside(one.name).suffix.lower() not in LOSSLESS or one.raw or len(one.shape) not in (2, 3):
                    raise ValueError(f"{one.name} is no picture")
        return self


def num_values(items: Sequence[Mapping[str, Any]]) -> int:
    """Values of all items that the model coded."""
    return sum(prod(item["shape"]) for item in items if not item.get("raw"))


def checksum_of(block: NDArray[np.int32]) -> int:
    """CRC-32 of a block's categories, (n, D)."""
    return zlib.crc32(np.ascontiguousarray(block, "<i4").tobytes())


def recognises(start: bytes) -> bool:
    """Whether a file that starts like this was made by this codec."""
    return start.startswith(MAGIC)


def check_model(model: Any, run: str) -> HCLT:
    """See that a RUN's model is one that this codec works with.

    Raises:
        CheckpointError: it is another one.
    """
    if not isinstance(model, HCLT):
        raise CheckpointError(
            f"{run} holds the model '{getattr(model, 'registered_name', None)}', which {NAME} cannot code with",
            f"give a RUN of encore fit {NAME}",
        )
    return model


def compress(source: Path, out: Path, model: HCLT, progress: ProgressReporter) -> CodecReport:
    """Write what lies in `source` as one file.

    Args:
        source: a folder of pictures, or an `.npz`; see `sources`.
        out: the file; written under another name first, so that it is whole or not there.
        model: has to be given again to decompress.
        progress: told of the samples.

    Raises:
        DataError: `source` is damaged, or holds what the model does not take.
        RunFolderError: `out` cannot be written.
    """
    start = time.perf_counter()
    opened = open_source(source, model.form)
    coder = TreeCoder(model)
    heading = {
        "codec": NAME,
        "kind": opened.kind,
        "model": coder.fingerprint,
        "block_size": BLOCK_SIZE,
        "items": opened.items,
    }
    done = 0
    with replacing(out) as temporary, temporary.open("wb") as file:
        writer = Writer(file, heading)
        for one in opened.raw():
            writer.add(one, 0)

        def encoded(samples: Integers) -> list[tuple[bytes, int, int]]:
            variables = model.form.variables(samples)
            blocks = [variables[at : at + BLOCK_SIZE] for at in range(0, len(variables), BLOCK_SIZE)]
            streams = coder.encode(blocks)
            return [
                (one.astype("<u4").tobytes(), len(block), checksum_of(block))
                for block, one in zip(blocks, streams, strict=True)
            ]

        for group in side_by_side(encoded, _regrouped(opened.samples(), opened.num_samples, model.form.shape)):
            for block, count, content in group:
                writer.add(block, count, content)
                done += count
            progress.update("compressing", done, opened.num_samples)
        writer.close()
    seconds = time.perf_counter() - start
    return CodecReport(out, out.stat().st_size, num_values(opened.items), done, seconds)


def decompress(source: Path, out: Path, model: HCLT, progress: ProgressReporter) -> CodecReport:
    """Write back what `compress` was given.

    Args:
        source: the compressed file.
        out: the folder or `.npz`; absent, or an empty folder.
        model: the one that compressed it.
        progress: told of the samples.

    Raises:
        CheckpointError: it was compressed with another model.
        DataError: the file is damaged.
        RunFolderError: `out` is there already, or cannot be written.
    """
    start = time.perf_counter()
    with opened_archive(source, model) as archive:
        heading = archive.heading
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise RunFolderError(f"{out} is there already", "name another place with -o")
        if heading.kind == "npz" and out.suffix.lower() != ".npz":
            raise RunFolderError(f"{source} holds arrays, and {out} is no .npz", "name one with -o")
        samples = archive.all_samples(progress)
        items = [one.model_dump() for one in heading.items]
        if heading.kind == "npz":
            write_npz(items, samples, archive.raw(), model.form, out)
        else:
            write_folder(items, samples, model.form, out)
        total = archive.num_samples
    seconds = time.perf_counter() - start
    return CodecReport(out, source.stat().st_size, num_values(items), total, seconds)


class Archive:
    """A compressed file, of which any sample can be read.

    Args:
        reader: of the file.
        model: the one that compressed it.

    Raises:
        CheckpointError: it is another one.
    """

    def __init__(self, reader: Reader, path: Path, model: HCLT) -> None:
        self.reader, self.model, self._path = reader, model, path
        self._coder = TreeCoder(model)
        damaged = DataError(f"{path} has a heading that is none", "compress the data again")
        try:
            self.heading = Heading.model_validate(reader.heading)
        except ValidationError:
            raise damaged from None
        if self.heading.model != self._coder.fingerprint:
            raise CheckpointError(f"{path} was compressed with another model", "give that RUN with --model")
        num_raw = sum(one.raw for one in self.heading.items)
        self._raw, self._blocks = reader.entries[:num_raw], reader.entries[num_raw:]
        full = all(one.num_samples == self.heading.block_size for one in self._blocks[:-1])
        due = sum(one.num_samples(model) for one in self.heading.items if not one.raw)
        if not full or due != self.num_samples or len(self._raw) != num_raw:
            raise damaged

    @property
    def num_samples(self) -> int:
        """Coded samples of all items."""
        return sum(one.num_samples for one in self._blocks)

    def samples(self, start: int, stop: int) -> Integers:
        """Samples start…stop-1, (stop - start, *shape); no blocks but theirs are read.

        Raises:
            DataError: a block is damaged.
            IndexError: there are not so many.
        """
        if not 0 <= start <= stop <= self.num_samples:
            raise IndexError(f"samples {start}…{stop} of {self.num_samples}")
        size = self.heading.block_size
        first, last = start // size, -(-stop // size)
        numbers = range(first, last)
        decoded = self._decoded(numbers, self._read(numbers))
        return decoded[start - first * size : stop - first * size]

    def all_samples(self, progress: ProgressReporter) -> Iterator[Integers]:
        """All of them, some blocks at a time."""
        done, total = 0, len(self._blocks)
        groups = (range(first, min(first + BLOCKS_AT_ONCE, total)) for first in range(0, total, BLOCKS_AT_ONCE))
        read = ((one, self._read(one)) for one in groups)
        for samples in side_by_side(lambda one: self._decoded(*one), read):
            done += len(samples)
            progress.update("decompressing", done, self.num_samples)
            yield samples

    def raw(self) -> Iterator[bytes]:
        """What was kept as it is."""
        return (self.reader.block(number) for number in range(len(self._raw)))

    def _read(self, numbers: Sequence[int]) -> list[bytes]:
        return [self.reader.block(len(self._raw) + number) for number in numbers]

    def _decoded(self, numbers: Sequence[int], blocks: Sequence[bytes]) -> Integers:
        sizes = [self._blocks[number].num_samples for number in numbers]
        refused = DataError(f"{self._path} does not decode to what was compressed", "compress the data again")
        try:
            streams = [np.frombuffer(block, "<u4").astype(np.uint32) for block in blocks]
            variables = self._coder.decode(streams, sizes)
        except (ValueError, AssertionError) as error:  # what constriction says of streams that it did not write
            raise refused from error
        for number, block in zip(numbers, variables, strict=True):
            if checksum_of(block) != self._blocks[number].content:
                raise refused
        return self.model.form.samples(np.concatenate([np.zeros((0, self.model.num_variables), np.int32), *variables]))


@contextmanager
def opened_archive(path: Path, model: HCLT) -> Iterator[Archive]:
    """Open a compressed file for reading.

    Raises:
        CheckpointError: it was compressed with another model.
        DataError: it does not exist, is no such file, or is damaged.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise unreadable(path, error) from None
    with file:
        yield Archive(Reader(path, file), path, model)


def side_by_side(work: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """`work` of every item in order, by as many threads as there are cores; items are drawn as they are needed.

    Products of matrices are left one thread each meanwhile.
    """
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[Made]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _regrouped(pieces: Iterator[Integers], total: int, shape: Sequence[int]) -> Iterator[Integers]:
    """The same samples, as many at a time as are coded at once."""
    take = Taker(pieces, shape)
    size = BLOCK_SIZE * BLOCKS_AT_ONCE
    for start in range(0, total, size):
        yield take(min(size, total - start))
