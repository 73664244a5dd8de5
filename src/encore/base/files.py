"""Files that are either whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from encore.base.errors import RunFolderError


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on leaving without an error it becomes `path`.

    The temporary file has the suffix of `path`, so that writers which look at it (PIL, safetensors,
    matplotlib) behave. On an error nothing is left behind and an earlier `path` stays as it was.

    Raises:
        RunFolderError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    writer = f"{os.getpid()}-{threading.get_ident():x}"  # others may be writing the same file
    temporary = path.with_name(f".{path.stem}.{writer}.partial{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if temporary.exists():
            os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder whose contents become those of `folder`, unless there is an error.

    It lies beside `folder`; where that exists already, within it, as it may be the working directory or a
    mounted disk, which cannot be replaced.

    Raises:
        RunFolderError: `folder` is a file, something lies in it, it cannot be written, or the disk is full.
    """
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"--out {folder} is a file", "name a folder")
    exists = folder.is_dir()
    if exists and any(folder.iterdir()):
        raise RunFolderError(f"--out {folder} is not empty", "empty it, or name another folder")
    name = f".{os.getpid()}.partial" if exists else f".{folder.resolve().name}.{os.getpid()}.partial"
    partial = (folder if exists else folder.parent) / name
    try:
        partial.mkdir(parents=True)
        yield partial
        if exists:
            for entry in sorted(partial.iterdir()):
                entry.rename(folder / entry.name)
        else:
            partial.rename(folder)
    except OSError as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def unwritable(path: Path, error: OSError) -> RunFolderError:
    """Say in one line why `path` could not be written."""
    reason = error.strerror or str(error)
    return RunFolderError(
        f"cannot write {path} ({reason.lower()})",
        "free some space or name another place with --out",
    )


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def cache_folder() -> Path:
    """Where what can be made again is kept: `$ENCORE_CACHE`, else `encore` below `$XDG_CACHE_HOME` or `~/.cache`."""
    named = os.environ.get("ENCORE_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "encore"
