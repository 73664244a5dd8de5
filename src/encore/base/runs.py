"""A run's folder: opened once, never half-written, continued where it stopped.

Protocol. On opening, the folder is locked and `request.json` records what was asked. Work is cut into
named steps; a step leaves one JSON file when it is done, so that a killed run, opened again with
`resume`, skips what is done. Training keeps its own checkpoints under `checkpoints/`. Everything is written
under a temporary name and renamed.
"""

from __future__ import annotations

import datetime
import json
import shutil
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from encore.base.errors import RunFolderError
from encore.base.files import unwritable, write_json
from encore.base.processes import process_rank

REQUEST = "request.json"
ELAPSED = "elapsed.json"
_LOCK = ".lock"


def default_folder(name: str) -> Path:
    """`runs/<name>-<date>-<time>`, below the working directory."""
    return Path("runs") / f"{name}-{datetime.datetime.now():%Y%m%d-%H%M%S}"


def read_request(folder: Path) -> dict[str, Any]:
    """What was asked of the run in `folder`; empty where that cannot be read."""
    try:
        content = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


class RunFolder:
    """One run on disk.

    Attributes:
        path: the folder.
        resumed: whether it held something already.
        seconds_before: what earlier processes spent on it, up to the last step that each finished.

    Args:
        path: the folder; made if missing.
        request: what was asked, plain JSON values; a resumed run has to ask the same.
        resume: continue what lies there; without it a non-empty folder is refused.

    Raises:
        RunFolderError: the folder is not empty, is in use by another process, cannot be written, or was
            started with another request.
    """

    def __init__(self, path: Path | str, request: dict[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.seconds_before = 0.0
        self._opened = time.monotonic()
        self.request = json.loads(json.dumps(request))
        if self.path.exists() and not self.path.is_dir():
            raise RunFolderError(f"--out {self.path} is a file", "name a folder")
        if process_rank() > 0:  # the first process has opened the folder and holds the lock
            self.resumed = True
            return
        self._made = not self.path.exists()
        occupied = self.path.is_dir() and any(entry.name != _LOCK for entry in self.path.iterdir())
        if occupied and not resume:
            raise RunFolderError(
                f"--out {self.path} is not empty", "add --resume to continue it, or name another folder"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.path / _LOCK)
            self._lock.acquire(timeout=0)
        except Timeout:
            raise RunFolderError(
                f"{self.path} is in use by another run", "wait for it, or name another folder with --out"
            ) from None
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.resumed = occupied
        if occupied:
            try:
                self._check_request()
            except RunFolderError:
                self.release()
                raise
            self.seconds_before = float((self.finished(ELAPSED.removesuffix(".json")) or {}).get("seconds", 0.0))
        else:
            write_json(self.path / REQUEST, self.request)

    def _check_request(self) -> None:
        path = self.path / REQUEST
        try:
            earlier = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunFolderError(
                f"{self.path} cannot be resumed: it is no run ({REQUEST} is missing)",
                "name another folder with --out",
            ) from None
        except json.JSONDecodeError as error:
            raise RunFolderError(f"{path} is damaged ({error})", "start again in another folder") from error
        changed = sorted(key for key in {*earlier, *self.request} if earlier.get(key) != self.request.get(key))
        if changed:
            raise RunFolderError(
                f"{self.path} was started with other values of: {', '.join(changed)}",
                "resume with the same options, or name another folder with --out",
            )

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and process_rank() == 0:
            self._remove_if_nothing_was_done()
        self.release()

    def _remove_if_nothing_was_done(self) -> None:
        """Leave no trace of a request that was refused before it produced anything."""
        left = [entry for entry in self.path.rglob("*") if entry.is_file() and entry.name not in (_LOCK, REQUEST)]
        if left or self.resumed:
            return
        for entry in self.path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
        (self.path / REQUEST).unlink(missing_ok=True)

    def release(self) -> None:
        """Let other processes open the folder."""
        if process_rank() > 0:
            return
        self._lock.release()
        (self.path / _LOCK).unlink(missing_ok=True)
        if self._made and self.path.is_dir() and not any(self.path.iterdir()):
            self.path.rmdir()

    def subfolder(self, *names: str) -> Path:
        """A folder below the run's, made if missing."""
        path = self.path.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def finished(self, step: str) -> Any | None:
        """What the step named `step` left when it was done, or None."""
        path = self.path / f"{step}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def finish(self, step: str, outcome: Any) -> None:
        """Record that `step` is done, with its outcome (JSON values), and how long the run has taken so far."""
        write_json(self.path / f"{step}.json", outcome)
        write_json(self.path / ELAPSED, {"seconds": round(self.seconds_before + time.monotonic() - self._opened, 1)})
