"""Arrays by name in an `.npz`, read without unpickling anything."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.images import unreadable

DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    SyntaxError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What `zipfile` and numpy raise over damaged `.npz` files."""


def read_arrays(path: Path, due: Collection[str], optional: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Those arrays of an `.npz` that are `due`, and the `optional` ones that are there.

    Raises:
        DataError: missing, damaged, holding Python objects, or without an array that is due.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise DataError(f"{path} is no .npz, or is truncated", "save it with numpy.savez_compressed")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                found = {key: arrays[key] for key in arrays.files if key in due or key in optional}
                there = ", ".join(arrays.files) or "nothing"
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except (IsADirectoryError, PermissionError) as error:
        raise unreadable(path, error) from None
    except DAMAGE as error:
        if "Object arrays" in str(error):
            raise DataError(
                f"{path} holds Python objects, which are not unpickled",
                "save pictures as uint8, masks and labels as integers and classes as text (dtype=str)",
            ) from None
        raise DataError(f"{path} is damaged ({error})", "save it again with numpy.savez_compressed") from error
    for key in due:
        if not isinstance(found.get(key), np.ndarray):  # other files of a zip come as bytes
            words = " and ".join(f"{name}=" for name in due)
            raise DataError(f"{path} has no array '{key}', it holds {there}", f"save it with {words}")
    return {key: value for key, value in found.items() if isinstance(value, np.ndarray)}


def names_in(path: Path) -> list[str]:
    """The names of the arrays in an `.npz`, from its table of contents.

    Raises:
        DataError: missing or no `.npz`.
    """
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except zipfile.BadZipFile:
        raise DataError(f"{path} is no .npz, or is truncated", "save it with numpy.savez_compressed") from None
    except OSError as error:
        raise unreadable(path, error) from None


def texts(array: NDArray[Any], path: Path) -> list[str]:
    """The entries of a one-dimensional array of text.

    Raises:
        DataError: it is none.
    """
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise DataError(f"{path}: classes are {array.dtype} of shape {array.shape}", "due is text of shape (K,)")
    return [entry.decode("utf-8", "replace") if isinstance(entry, bytes) else str(entry) for entry in array.tolist()]
