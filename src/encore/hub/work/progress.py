"""What a run says on standard error, read as far as it has come and thinned to events."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import sysconfig
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import encore
from encore.hub.runs import Event, picture_name

LIMITS = {"progress": 4_000, "message": 4_500, "picture": 4_900}
"""The number of events of a run from which no more of a kind are kept. Changes of its state always are."""

SECONDS_BETWEEN = 0.5
"""Between two events of one stage; doubled with every 500 events, so that long runs are told to their end."""

CHUNK = 1 << 20
"""Bytes that are read at once; a longer line is cut."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Position:
    """How far a log has been read.

    Attributes:
        offset: bytes that need not be read again.
        pending: the newest progress of each stage, where it came too soon to be kept.
    """

    offset: int = 0
    pending: Mapping[str, dict[str, Any]] = field(default_factory=dict)


class ProgressLog:
    """The file `progress.jsonl` of a run.

    Args:
        folder: of the run.
        output: where `encore run` writes; pictures elsewhere are refused.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self.path, self.output = folder / "progress.jsonl", output
        self._last: dict[str, float] = {}

    def read(self, position: Position, kept: int, *, ended: bool = False) -> tuple[Position, list[Event]]:
        """The events since `position`, and the position after them.

        Args:
            position: of the events that are kept already.
            kept: how many events there are.
            ended: the process has gone; a line without an end is one, and nothing is held back.
        """
        lines, length = self._lines(position.offset, ended)
        pending = dict(position.pending)
        events: list[Event] = []
        for line in lines:
            for kind, body in self._events(line):
                if kind == "progress" and body["step"] != body["total"]:
                    pending[body["stage"]] = body
                    continue
                if kind == "progress":
                    pending.pop(body["stage"], None)
                    self._last[body["stage"]] = time.monotonic()
                events.append((kind, body))
        events += self._due(pending, kept + len(events), everything=ended and not length)
        events = [event for place, event in enumerate(events) if kept + place < LIMITS[event[0]]]
        return Position(position.offset + length, pending), events

    def _due(self, pending: dict[str, dict[str, Any]], kept: int, *, everything: bool) -> Iterator[Event]:
        now = time.monotonic()
        seconds = SECONDS_BETWEEN * 2 ** (kept // 500)
        for stage in list(pending):
            if everything or now - self._last.get(stage, -math.inf) >= seconds:
                self._last[stage] = now
                yield "progress", pending.pop(stage)

    def _lines(self, offset: int, ended: bool) -> tuple[list[bytes], int]:
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                chunk = file.read(CHUNK)
        except FileNotFoundError:
            return [], 0
        length = chunk.rfind(b"\n") + 1
        if length == 0 and (ended or len(chunk) == CHUNK):
            length = len(chunk)
        return chunk[:length].split(b"\n"), length

    def _events(self, line: bytes) -> list[Event]:
        text = line.decode("utf-8", errors="replace").strip()
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        match said:
            case {"stage": str(stage), "step": int(step), **rest}:
                total = rest.get("total")
                body = {"stage": _clean(stage, 100), "step": step, "metrics": _numbers(rest.get("metrics"))}
                return [("progress", {**body, "total": total if isinstance(total, int) else None})]
            case {"stage": str(stage), "picture": str(path)}:
                name = picture_name(self.output, self.path.parent / path)
                if name is None:
                    _logger.warning("a picture outside the folder of its run is not shown: %s", path)
                    return []
                return [("picture", {"stage": _clean(stage, 100), "name": name})]
            case {"message": str(message)}:
                text = message
        text = _clean(without_places(text, self.output), 2000)
        return [("message", {"text": text})] if text else []


def without_places(text: str, output: Path) -> str:
    """What a run said, without the folders of this machine: everybody may read it.

    Args:
        text: may hold paths, as tracebacks do.
        output: where the run writes; it becomes `run`, and the folder that it is in `.`.
    """
    places = [(output.parent, "."), (output, "run"), *_places()]
    for place, name in sorted(places, key=lambda one: -len(str(one[0]))):
        text = re.sub(rf"(?<![\w.-]){re.escape(str(place))}(?![\w-])", name, text)
    return text


@cache
def _places() -> list[tuple[Path, str]]:
    """Where Encore and other packages are installed and whose home this is, and what is said instead."""
    package, packages = Path(encore.__file__).parent, Path(sysconfig.get_paths()["purelib"])
    named = ((package, "encore"), (packages, "site-packages"), (Path(sys.prefix), "python"), (Path.home(), "~"))
    both = {place: name for path, name in named for place in (path, path.resolve())}
    return [(place, name) for place, name in both.items() if len(place.parts) > 1]


def error_line(path: Path) -> str | None:
    """The last line of a log that is no JSON: how a command says what was wrong, or the end of a traceback."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 16_384, 0))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    said = (_clean(line, 500) for line in reversed(lines) if not line.lstrip().startswith("{"))
    return next((line.removeprefix("encore: ") for line in said if line), None)


def _clean(text: str, length: int) -> str:
    """Text that every database takes: no control characters, no halves of letters."""
    text = _ESCAPES.sub("", text.rstrip("\r\n").rpartition("\r")[2])
    return text.encode("utf-8", errors="replace").decode("utf-8").strip()[:length]


def _numbers(metrics: Any) -> dict[str, float | None]:
    """Metrics as every JSON has them: what is not finite is null."""
    if not isinstance(metrics, dict):
        return {}
    numbers = {_clean(name, 60): value for name, value in metrics.items() if isinstance(value, int | float)}
    return {name: value if abs(value) < 1e300 else None for name, value in list(numbers.items())[:40]}
