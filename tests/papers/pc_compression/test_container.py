"""A file says what is wrong with it, wherever it was damaged."""

import io
import random
from pathlib import Path

import pytest

from encore.base.errors import DataError
from encore.papers.pc_compression.container import Reader, Writer

HEADING = {"names": ["ä.png"], "shape": [2, 3]}
BLOCKS = [b"abc" * 40, b"", random.Random(0).randbytes(33)]


def whole() -> bytes:
    file = io.BytesIO()
    writer = Writer(file, HEADING)
    for number, block in enumerate(BLOCKS):
        writer.add(block, number)
    writer.close()
    return file.getvalue()


def read(content: bytes) -> tuple[dict, list[bytes]]:
    reader = Reader(Path("x.pc"), io.BytesIO(content))
    return reader.heading, [reader.block(number) for number in reversed(range(len(reader.entries)))][::-1]


def test_what_was_written_is_read_in_any_order():
    assert read(whole()) == (HEADING, BLOCKS)
    assert [one.num_samples for one in Reader(Path("x"), io.BytesIO(whole())).entries] == [0, 1, 2]


def test_every_flipped_bit_is_noticed():
    content = whole()
    for place in range(len(content)):
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            with pytest.raises(DataError, match=r"x\.pc"):
                read(bytes(damaged))


def test_every_shorter_file_is_noticed():
    content = whole()
    for length in range(len(content)):
        with pytest.raises(DataError, match=r"x\.pc (was cut off|is empty|was not made|is damaged)"):
            read(content[:length])


def test_bytes_behind_the_end_are_noticed():
    with pytest.raises(DataError):
        read(whole() + b"\0")
