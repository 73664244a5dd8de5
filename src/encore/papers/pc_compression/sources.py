"""What can be compressed: a folder of pictures, or the arrays of an `.npz`; read and written piece by piece."""

from __future__ import annotations

import lzma
import os
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.lib import format as npy
from PIL import Image

from encore.base.errors import DataError
from encore.base.files import replacing, unwritable
from encore.data.arrays import DAMAGE
from encore.data.exact import LOSSLESS, cut_tiles, join_tiles, lossless_pictures, num_tiles, picture_shape, read_picture
from encore.data.images import unreadable
from encore.papers.pc_compression.form import Integers, SampleForm

CHUNK = 1024
"""Samples of an array that are read at once, if they are small."""

CHUNK_BYTES = 2**24
"""Their bytes, if they are not."""


class Source(ABC):
    """Something to be compressed.

    Attributes:
        kind: `folder` or `npz`.
        items: for each picture or array its `name`, `shape` and `dtype`; those with `raw` are kept as they are.
        num_samples: of all items together.
    """

    kind: str
    items: list[dict[str, Any]]
    num_samples: int

    @abstractmethod
    def samples(self) -> Iterator[Integers]:
        """Arrays (n, *shape), all items one after the other."""

    def raw(self) -> Iterator[bytes]:
        """What is kept as it is, in the order of the items."""
        return iter(())


def open_source(path: Path, form: SampleForm) -> Source:
    """Open a folder or an `.npz`, everything checked that can be without reading it all.

    Raises:
        DataError: it is neither, empty, damaged, or holds what the model does not take.
    """
    if path.is_dir():
        return FolderSource(path, form)
    if not path.exists():
        raise DataError(f"{path} does not exist", "name a folder of pictures, or an .npz")
    if path.suffix.lower() == ".npz":
        return NpzSource(path, form)
    raise DataError(f"{path} is no folder and no .npz", "put pictures into a folder; save arrays with numpy.savez")


class FolderSource(Source):
    """Pictures at any depth of a folder.

    Args:
        path: the folder.
        form: what the model takes.

    Raises:
        DataError: there are no pictures; one is not of 8 bits, has an alpha channel, is stored with loss or is of
            another size or kind; another file lies there.
    """

    kind = "folder"

    def __init__(self, path: Path, form: SampleForm) -> None:
        self.path, self.form = path, form
        self.items, self.num_samples = [], 0
        if len(form.shape) not in (2, 3) or (len(form.shape) == 3 and form.shape[2] != 3):
            raise DataError(f"{path} holds pictures, and the model takes arrays of {form.shape}", "give it an .npz")
        for file in lossless_pictures(path):
            name = file.relative_to(path).as_posix()
            shape = picture_shape(file)
            if shape[2:] != form.shape[2:]:
                is_colour = len(shape) == 3
                raise DataError(
                    f"{file} is {'coloured' if is_colour else 'grey'}, and the model takes "
                    f"{'coloured' if not is_colour else 'grey'} pictures",
                    "fit a model to pictures of this kind",
                )
            refused = None if form.tiles else form.refusal(shape)
            if refused:
                raise DataError(f"{file}: {refused}", "fit a model to this size, or to tiles: --set tile=16x16")
            self.items.append({"name": name, "shape": list(shape), "dtype": "uint8"})
            self.num_samples += num_tiles(shape, form.shape) if form.tiles else 1
        if not self.items:
            raise DataError(f"{path} holds no pictures", f"give a folder with {', '.join(LOSSLESS)}")

    def samples(self) -> Iterator[Integers]:
        """As `Source.samples`.

        Raises:
            DataError: a picture is damaged.
        """
        for item in self.items:
            picture = read_picture(self.path / item["name"])
            refused = self.form.refusal(self.form.shape, int(picture.min()), int(picture.max()))
            if refused:
                raise DataError(f"{self.path / item['name']}: {refused}", "fit a model to pictures with these values")
            yield cut_tiles(picture, self.form.shape) if self.form.tiles else picture[None]


class NpzSource(Source):
    """The arrays of an `.npz`: integer arrays (N, *shape) are compressed by the model, all others by LZMA.

    Args:
        path: the file.
        form: what the model takes.

    Raises:
        DataError: the file is damaged or holds Python objects, or no array is of the model's form.
    """

    kind = "npz"

    def __init__(self, path: Path, form: SampleForm) -> None:
        self.path, self.form = path, form
        self.items, self.num_samples = [], 0
        reasons = []
        with self._opened() as archive:
            for member in archive.namelist():
                with _member(path, archive, member) as file:
                    shape, dtype, fortran = _header(path, member, file)
                item: dict[str, Any] = {"name": member, "shape": list(shape), "dtype": npy.dtype_to_descr(dtype)}
                refused = "in Fortran's order" if fortran else self._refusal(shape, dtype)
                if refused:
                    item["raw"] = True
                    reasons.append(f"{member.removesuffix('.npy')}: {refused}")
                else:
                    self.num_samples += self._num_samples(shape)
                self.items.append(item)
        if all("raw" in item for item in self.items):
            raise DataError(
                f"{path} has no array for this model ({'; '.join(reasons) or 'it is empty'})",
                "give integer arrays of the shape that the model was fitted to",
            )

    def _refusal(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
        if dtype.kind not in "iu" or len(shape) < 2:
            return f"{dtype} of shape {shape}"
        if self.form.tiles:
            return (
                None
                if len(shape) == len(self.form.shape) + 1 and shape[3:] == self.form.shape[2:]
                else (f"shape {shape}")
            )
        return self.form.refusal(shape[1:])

    def _num_samples(self, shape: tuple[int, ...]) -> int:
        return shape[0] * (num_tiles(shape[1:], self.form.shape) if self.form.tiles else 1)

    def _opened(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except OSError as error:
            raise unreadable(self.path, error) from None
        except DAMAGE as error:
            raise DataError(f"{self.path} is no .npz, or damaged ({error})", "save it with numpy.savez") from None

    def samples(self) -> Iterator[Integers]:
        """As `Source.samples`.

        Raises:
            DataError: the file is damaged, or a value is none that the model knows.
        """
        with self._opened() as archive:
            for item in self.items:
                if item.get("raw"):
                    continue
                for part in _parts(self.path, archive, item["name"]):
                    extremes = (int(part.min()), int(part.max())) if part.size else (None, None)
                    refused = self.form.refusal(self.form.shape, *extremes)
                    if refused:
                        raise DataError(
                            f"{self.path}, {item['name'].removesuffix('.npy')}: {refused}",
                            "fit a model to data with these values",
                        )
                    if self.form.tiles:
                        yield from (cut_tiles(picture, self.form.shape) for picture in part)
                    else:
                        yield part

    def raw(self) -> Iterator[bytes]:
        """As `Source.raw`: members as they lie in the archive, by LZMA."""
        with self._opened() as archive:
            for item in self.items:
                if item.get("raw"):
                    with _member(self.path, archive, item["name"]) as file:
                        content = file.read()
                    yield lzma.compress(content, preset=6)


def _header(path: Path, member: str, file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Shape and type of an array, and whether it lies in Fortran's order.

    Raises:
        DataError: it is no array, damaged, or holds Python objects.
    """
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except (ValueError, EOFError, zipfile.BadZipFile, OSError) as error:
        raise _damaged(path, member, error) from None
    if dtype.hasobject:
        raise DataError(f"{path}, {member}: Python objects are not unpickled", "save it as integers or text")
    return shape, dtype, fortran and len(shape) > 1


@contextmanager
def _member(path: Path, archive: zipfile.ZipFile, member: str) -> Iterator[Any]:
    """Open one array of an archive; whatever is wrong with it while it is read is said in one line.

    Raises:
        DataError: it is damaged, encrypted, or packed in a way that is not known.
    """
    try:
        with archive.open(member) as file:
            yield file
    except DAMAGE as error:
        raise _damaged(path, member, error) from None


def _damaged(path: Path, member: str, error: BaseException) -> DataError:
    return DataError(f"{path}, {member} is damaged ({error})", "save it again with numpy.savez")


def _parts(path: Path, archive: zipfile.ZipFile, member: str) -> Iterator[Integers]:
    """An array of an open `.npz`, up to `CHUNK` samples at a time."""
    with _member(path, archive, member) as file:
        shape, dtype, _ = _header(path, member, file)
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        rows = max(min(CHUNK_BYTES // max(row, 1), CHUNK), 1)
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            content = file.read(count * row)
            if len(content) < count * row:
                raise _damaged(path, member, EOFError("it ends too early"))
            yield np.frombuffer(content, dtype).reshape(count, *shape[1:])


# what comes back


def write_folder(items: list[dict[str, Any]], samples: Iterator[Integers], form: SampleForm, out: Path) -> None:
    """Write pictures below a new folder, which is there whole or not at all.

    Args:
        items: of the compressed file.
        samples: (n, *shape) arrays, cut anywhere.
        form: of the model.
        out: absent, or an empty folder.

    Raises:
        DataError: a name leads out of the folder.
        RunFolderError: it cannot be written.
    """
    take = Taker(samples, form.shape)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.partial")
    try:
        for item in items:
            shape = item["shape"]
            tiles = take(num_tiles(shape, form.shape) if form.tiles else 1)
            picture = join_tiles(tiles, shape) if form.tiles else tiles[0]
            file = temporary / inside(item["name"])
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture.astype(np.uint8)).save(file, lossless=True)  # a word that WebP alone looks at
        if out.exists():
            out.rmdir()
        os.replace(temporary, out)
    except OSError as error:
        raise unwritable(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_npz(
    items: list[dict[str, Any]], samples: Iterator[Integers], raw: Iterator[bytes], form: SampleForm, out: Path
) -> None:
    """Write the arrays of an `.npz`, piece by piece. Arguments: see `write_folder`; `raw` as `Source.raw` gave them."""
    take = Taker(samples, form.shape)
    with replacing(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in items:
            with archive.open(item["name"], "w", force_zip64=True) as file:
                if item.get("raw"):
                    file.write(_unpacked(next(raw), out))
                    continue
                dtype = npy.descr_to_dtype(item["dtype"])
                _write_header(file, item, dtype)
                count, *shape = item["shape"]
                pictures = 1 if form.tiles else CHUNK
                for start in range(0, count, pictures):
                    here = min(pictures, count - start)
                    part = take(num_tiles(shape, form.shape) if form.tiles else here)
                    part = join_tiles(part, shape)[None] if form.tiles else part
                    file.write(np.ascontiguousarray(part.astype(dtype)).tobytes())


def _write_header(file: Any, item: dict[str, Any], dtype: np.dtype[Any]) -> None:
    heading = BytesIO()
    description = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": tuple(item["shape"])}
    npy.write_array_header_1_0(heading, description)
    file.write(heading.getvalue())


def inside(name: str) -> PurePosixPath:
    """A name that stays inside the folder that it is written to; a file may come from anybody.

    Raises:
        DataError: it does not.
    """
    path = PurePosixPath(name)
    foreign = os.name == "nt" and ("\\" in name or ":" in name)
    if not path.parts or path.is_absolute() or ".." in path.parts or foreign:
        raise DataError(f"the compressed file names '{name}', which is no place inside a folder", "do not trust it")
    return path


def _unpacked(content: bytes, out: Path) -> bytes:
    try:
        return lzma.decompress(content)
    except lzma.LZMAError as error:
        raise DataError(f"an array of {out} does not unpack ({error})", "compress the data again") from None


class Taker:
    """Hands out as many samples as are asked for, from pieces of any length.

    Args:
        pieces: (n, *shape) arrays.
        shape: of a sample.
    """

    def __init__(self, pieces: Iterator[Integers], shape: Sequence[int]) -> None:
        self._pieces, self._shape, self._left = pieces, tuple(shape), list[Integers]()

    def __call__(self, count: int) -> Integers:
        """The next `count` samples, (count, *shape)."""
        if not count:
            return np.zeros((0, *self._shape), np.int64)
        while sum(map(len, self._left)) < count:
            self._left.append(next(self._pieces))
        whole = np.concatenate(self._left) if len(self._left) > 1 else self._left[0]
        self._left = [whole[count:]]
        return whole[:count]
