"""Files in a folder or in a zip archive, read alike."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from encore.base.errors import DataError
from encore.data.images import Source


class FileTree:
    """The files below a folder, or inside a zip archive.

    Args:
        path: the folder or the archive.

    Attributes:
        names: of all files, relative to the root, with `/`, sorted.

    Raises:
        DataError: `path` is neither, or the archive is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        self._process = -1
        if path.is_dir():
            found = (entry for entry in path.rglob("*") if entry.is_file())
            self.names = sorted(entry.relative_to(path).as_posix() for entry in found)
        elif zipfile.is_zipfile(path):
            self.names = sorted(name for name in self._opened().namelist() if not name.endswith("/"))
        else:
            raise DataError(f"{path} is no folder and no whole zip archive", "give a folder, or download it again")

    def read(self, name: Path) -> Source:
        """What is decoded for the file `name` (relative, as in `names`): its path, or its bytes in an archive.

        Raises:
            DataError: the archive's member is damaged.
        """
        if self.path.is_dir():
            return self.path / name
        try:
            return self._opened().read(name.as_posix())
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise DataError(f"{name} in {self.path} is damaged ({error})", "download the archive again") from error

    def _opened(self) -> zipfile.ZipFile:
        if self._archive is None or self._process != os.getpid():  # a forked worker needs a file position of its own
            try:
                self._archive, self._process = zipfile.ZipFile(self.path), os.getpid()
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(f"{self.path} is damaged ({error})", "download it again") from error
        return self._archive

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_archive": None}
