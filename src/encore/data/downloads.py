"""Downloads that continue where they stopped, and archives that are unpacked whole or not at all."""

from __future__ import annotations

import lzma
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

import httpx

from encore.base.errors import DataError, InputError, RunFolderError
from encore.base.files import unwritable
from encore.base.progress import ProgressReporter

_BLOCK = 2**18


def get_set(name: str, destination: Path, *, url: str | None = None, progress: ProgressReporter) -> Path:
    """Download the named set `name` into the folder `destination`.

    Args:
        name: one of `named_sets()`.
        destination: made; refused where something lies in it.
        url: another place than the set's own.
        progress: told of every block.

    Returns:
        `destination`.

    Raises:
        UnknownNameError: no set has that name.
        RunFolderError: the destination is not empty or cannot be written.
        InputError: the source cannot be reached.
    """
    from encore.data.named import named_set

    one = named_set(name)
    if one.embedded or (url or one.url) is None:
        raise InputError(f"'{name}' has nothing to download", f"use it as it is, or: encore data make {name}")
    try:
        occupied = destination.exists() and (not destination.is_dir() or any(destination.iterdir()))
    except OSError as error:
        raise unwritable(destination, error) from error
    if occupied:
        raise RunFolderError(f"{destination} is not empty", "name another folder with --out")
    source = url or one.url
    assert source is not None
    one.download(destination, source, progress)
    return destination


def download_file(url: str, path: Path, progress: ProgressReporter) -> None:
    """Download `url` to `path`; what an interrupted download left in `<path>.part` is continued.

    Raises:
        InputError: the server cannot be reached or refuses.
        RunFolderError: `path` cannot be written.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        start = part.stat().st_size if part.exists() else 0
        if start and not _continue_download(url, path, part, start, progress):
            start = 0
        if not start:
            _continue_download(url, path, part, 0, progress)
        part.rename(path)
    except httpx.HTTPStatusError as error:
        answer = error.response
        raise InputError(
            f"{url} cannot be downloaded (the server answers {answer.status_code} {answer.reason_phrase})",
            "try again later, or name another place with --url",
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise InputError(
            f"{url} cannot be downloaded ({str(error) or type(error).__name__})",
            "check the connection and run the same command again: it continues; or name another --url",
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error


def _continue_download(url: str, path: Path, part: Path, start: int, progress: ProgressReporter) -> bool:
    """Write what follows byte `start` of `url` to the end of `part`, or all of it where the server sends all.

    Returns:
        False where the server has no such bytes: `part` is of another file, and nothing was written.
    """
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=30) as answer:
        sent = answer.headers.get("Content-Range", "").removeprefix("bytes ")
        if start and answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
            return bool(sent == f"*/{start}")  # all of it had come already
        answer.raise_for_status()
        resumed = answer.status_code == httpx.codes.PARTIAL_CONTENT
        if resumed and not sent.startswith(f"{start}-"):
            return False
        done = start if resumed else 0
        length = int(answer.headers.get("Content-Length", 0))
        total = done + length if length else None
        with part.open("ab" if resumed else "wb") as file:
            for block in answer.iter_bytes(_BLOCK):
                file.write(block)
                done += len(block)
                progress.update(f"downloading {path.name} (KiB)", done // 1024, total and total // 1024)
    return True


def extract(archive: Path, destination: Path, *, inside: str = "") -> None:
    """Unpack what lies below the folder `inside` of a zip archive into `destination`, whole or not at all.

    Args:
        archive: the zip file.
        destination: the folder that is made.
        inside: a folder in the archive, at any depth, with its `/`; everything by default.

    Raises:
        DataError: no whole zip archive, without that folder, or with files that would lie outside.
        RunFolderError: the destination cannot be written.
    """
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.partial")
    try:
        with zipfile.ZipFile(archive) as file:
            members = [name for name in file.namelist() if f"/{inside}" in f"/{name}" and not name.endswith("/")]
            if not members:
                raise DataError(f"{archive} holds no {inside}", "check the address")
            for name in members:
                below = PurePosixPath(f"/{name}".split(f"/{inside}", 1)[1])
                if below.is_absolute() or ".." in below.parts or "\\" in name:
                    raise DataError(f"{archive} has a file that would lie outside: {name}", "do not use it")
                target = partial / below
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(name) as packed, target.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
        if destination.is_dir():
            destination.rmdir()
        partial.rename(destination)
    except FileNotFoundError as error:
        if archive.exists():
            raise unwritable(destination, error) from error
        raise DataError(f"{archive} does not exist", "download it again") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, struct.error) as error:
        raise DataError(f"{archive} is no whole zip archive ({error})", "remove it and download again") from error
    except OSError as error:
        raise unwritable(destination, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
