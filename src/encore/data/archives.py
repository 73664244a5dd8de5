"""Files in a folder or in a zip archive, read alike."""

from __future__ import annotations

import lzma
import os
import struct
import zipfile
import zlib
from pathlib import Path

from encore.base.errors import DataError
from encore.data.images import Source, unreadable

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    MemoryError,
    struct.error,
)
"""What `zipfile` raises over archives that are damaged, encrypted, or packed in a way that it does not know."""


class FileTree:
    """The files below a folder, or inside a zip archive.

    Args:
        path: the folder or the archive.

    Attributes:
        names: of all files, relative to the root, with `/`, sorted; without hidden ones (`._photo.png`) and what
            a Mac adds to archives (`__MACOSX/`).

    Raises:
        DataError: `path` is missing or neither, or the archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._process = -1
        if path.is_dir():
            try:
                found = [entry.relative_to(path).as_posix() for entry in path.rglob("*") if entry.is_file()]
            except OSError as error:
                raise unreadable(path, error) from None
        elif zipfile.is_zipfile(path):
            found = [name for name in self._opened().namelist() if not name.endswith("/")]
        elif not path.exists():
            raise DataError(f"{path} does not exist", "check the path")
        else:
            raise DataError(f"{path} is no folder and no whole zip archive", "give a folder, or download it again")
        self.names = sorted(name for name in found if not _hidden(name))

    def read(self, name: Path) -> Source:
        """What is decoded for the file `name` (relative, as in `names`): its path, or its bytes in an archive.

        Raises:
            DataError: the archive or its member is damaged or gone.
        """
        if self.path.is_dir():
            return self.path / name
        try:
            return self._opened().read(name.as_posix())
        except _DAMAGE as error:
            raise DataError(f"{name} in {self.path} is damaged ({error})", "download the archive again") from error

    def _opened(self) -> zipfile.ZipFile:
        if self._archive is None or self._process != os.getpid():  # a forked worker needs a file position of its own
            try:
                self._archive, self._process = zipfile.ZipFile(self.path), os.getpid()
            except FileNotFoundError:
                raise DataError(f"{self.path} does not exist", "check the path") from None
            except PermissionError as error:
                raise unreadable(self.path, error) from None
            except _DAMAGE as error:
                raise DataError(f"{self.path} is damaged ({error})", "download it again") from error
        return self._archive

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None}


def _hidden(name: str) -> bool:
    parts = name.split("/")
    return parts[-1].startswith(".") or "__MACOSX" in parts
