"""The file that holds compressed blocks: whole, damaged, or of another model, it always says which.

```text
"\\x89ENCPC\\r\\n\\x1a\\n"  10 bytes; a copy in text mode damages it
u16 version · u32 length · heading, zlib of JSON · u32 CRC of all before it
block, block, …            each the words of one range coder, little-endian
index                      zlib of one (u64 offset, u64 bytes, u32 samples, u32 CRC, u32 CRC of the content) per block
footer                     u64 offset of the index · u32 its bytes · u32 its CRC · "ENCPCEND"
```

Every byte of the file is under a checksum or has one value alone. The index stands at the end, so that writing needs
one block in memory at a time; a file without its footer was cut off.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import Any

from encore.base.errors import DataError

MAGIC = b"\x89ENCPC\r\n\x1a\n"
END = b"ENCPCEND"
VERSION = 1

_HEADING = struct.Struct("<HI")
_ENTRY = struct.Struct("<QQIII")
_FOOTER = struct.Struct("<QII8s")


@dataclass(frozen=True)
class Entry:
    """Where a block lies.

    Attributes:
        offset: of its first byte in the file.
        num_bytes: of the block.
        num_samples: that it holds.
        checksum: CRC-32 of its bytes.
        content: CRC-32 of what they decode to.
    """

    offset: int
    num_bytes: int
    num_samples: int
    checksum: int
    content: int


class Writer:
    """Writes a file from front to back.

    Args:
        file: open for writing, at its beginning.
        heading: JSON values that a reader needs first.
    """

    def __init__(self, file: BufferedWriter, heading: dict[str, Any]) -> None:
        self._file, self._entries = file, list[Entry]()
        # Names need not be Unicode; what is none is written as an escape.
        content = zlib.compress(json.dumps(heading, separators=(",", ":")).encode(), 9)
        start = MAGIC + _HEADING.pack(VERSION, len(content)) + content
        file.write(start + struct.pack("<I", zlib.crc32(start)))

    def add(self, block: bytes, num_samples: int, content: int = 0) -> None:
        """Write one block; `content` is the CRC-32 of what it decodes to."""
        self._entries.append(Entry(self._file.tell(), len(block), num_samples, zlib.crc32(block), content))
        self._file.write(block)

    def close(self) -> None:
        """Write index and footer; the file is whole only then."""
        packed = b"".join(
            _ENTRY.pack(one.offset, one.num_bytes, one.num_samples, one.checksum, one.content) for one in self._entries
        )
        index = zlib.compress(packed, 9)
        offset = self._file.tell()
        self._file.write(index + _FOOTER.pack(offset, len(index), zlib.crc32(index), END))


class Reader:
    """Reads heading and index at once, and blocks in any order.

    Args:
        path: of the file, for what is said of it.
        file: open for reading.

    Attributes:
        heading: a JSON value.
        entries: of all blocks.

    Raises:
        DataError: it is no such file, of a later version, cut off, or damaged.
    """

    def __init__(self, path: Path, file: BufferedReader) -> None:
        self._path, self._file = path, file
        start = file.read(len(MAGIC) + _HEADING.size)
        if start[: len(MAGIC)] != MAGIC:
            what = "is empty" if not start else "was not made by pc_compression, or its first bytes are damaged"
            raise DataError(f"{path} {what}", "give a file that `encore compress` wrote")
        if len(start) < len(MAGIC) + _HEADING.size:
            raise self._cut_off()
        version, length = _HEADING.unpack(start[len(MAGIC) :])
        if version != VERSION:
            raise DataError(
                f"{path} has format version {version}, and this Encore reads {VERSION}",
                "use a newer Encore",
            )
        size = file.seek(0, 2)
        after = len(start) + length
        if size < after + 4 + _FOOTER.size:
            raise self._cut_off()
        file.seek(len(start))
        content, checksum = file.read(length), struct.unpack("<I", file.read(4))[0]
        if zlib.crc32(start + content) != checksum:
            raise self._damaged("its heading")
        self.heading: Any = json.loads(zlib.decompress(content))
        file.seek(size - _FOOTER.size)
        offset, num_bytes, checksum, end = _FOOTER.unpack(file.read(_FOOTER.size))
        if end != END:
            raise self._cut_off()
        if offset + num_bytes + _FOOTER.size != size or offset < after + 4:
            raise self._damaged("its footer")
        file.seek(offset)
        index = file.read(num_bytes)
        if zlib.crc32(index) != checksum:
            raise self._damaged("its index")
        self.entries = [Entry(*one) for one in _ENTRY.iter_unpack(zlib.decompress(index))]
        expected = after + 4
        for entry in self.entries:
            if entry.offset != expected:
                raise self._damaged("its index")
            expected += entry.num_bytes
        if expected != offset:
            raise self._damaged("its index")

    def block(self, number: int) -> bytes:
        """The bytes of one block.

        Raises:
            DataError: they are not those that were written.
        """
        entry = self.entries[number]
        self._file.seek(entry.offset)
        block = self._file.read(entry.num_bytes)
        if zlib.crc32(block) != entry.checksum:
            raise self._damaged(f"block {number + 1} of {len(self.entries)}")
        return block

    def _cut_off(self) -> DataError:
        return DataError(f"{self._path} was cut off before its end", "copy it again, or compress the data again")

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self._path} is damaged: {what} fails its checksum", "copy it again, or compress the data again"
        )
