"""Processes of runs: they outlive the worker that started them, and are found again by another."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from encore.hub.settings import PREFIX

GATE = Path(__file__).with_name("gate.py")

_CLOCK_SECONDS = 2.0
"""By which the start of one process may seem to differ when the clock of the machine was set."""


@cache
def machine() -> str:
    """Names the machine, and the container on it, in which a process number means something."""
    try:
        namespace = f"@{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # not Linux
        namespace = ""
    return socket.gethostname()[:28] + namespace


def process_lives(pid: int, started: float) -> bool:
    """Whether the process with this number, and not a later one with the same, is running."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < _CLOCK_SECONDS and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass
class RunProcess:
    """A process in a session of its own.

    Attributes:
        pid: its number, which is also that of its group.
        started: when it began.
        child: its handle, where this worker started it; only then an exit code can be known.
    """

    pid: int
    started: float
    child: subprocess.Popen[bytes] | None = None

    @classmethod
    def start(cls, command: Sequence[str], folder: Path) -> RunProcess:
        """Start a command that waits for `go`. It writes `result.out` and appends to `progress.jsonl` in `folder`.

        The hub's own environment variables (its secret, its passwords) are kept from it.

        Raises:
            OSError: it cannot be started, or `folder` cannot be written.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        with (folder / "result.out").open("wb") as output, (folder / "progress.jsonl").open("ab+") as progress:
            _end_line(progress.fileno())
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(GATE), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=progress,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        return cls(child.pid, psutil.Process(child.pid).create_time(), child)

    def go(self) -> None:
        """Let it begin."""
        if self.child is not None and self.child.stdin is not None:
            with suppress(BrokenPipeError):  # it has been killed, which is noticed soon
                self.child.stdin.write(b"\n")
                self.child.stdin.close()

    def give_up(self) -> None:
        """End it before it has begun."""
        if self.child is not None and self.child.stdin is not None:
            self.child.stdin.close()
            self.child.wait()

    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self.child.poll() is not None if self.child is not None else not process_lives(self.pid, self.started)

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended and was started here; negative for the signal that ended it."""
        return self.child.returncode if self.child is not None else None

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        if not self.has_ended():
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


def _end_line(file: int) -> None:
    """End the line that an earlier process left half written."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        os.write(file, b"\n")
