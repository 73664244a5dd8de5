"""Progress of long work: bars for people, JSON lines for programs, or nothing.

All three write to standard error, so that standard output stays free for results.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

ProgressStyle = Literal["bars", "json", "none"]


class ProgressReporter(Protocol):
    """Where long work says how far it is."""

    def update(
        self, stage: str, step: int, total: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Say that `stage` has done `step` of `total` units, with the metrics so far."""

    def message(self, text: str) -> None:
        """Say one sentence."""

    def picture(self, stage: str, path: Path) -> None:
        """Say that a picture lies at `path`."""

    def close(self) -> None:
        """End the display."""


class SilentProgress:
    """Says nothing."""

    def update(
        self, stage: str, step: int, total: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Say nothing."""

    def message(self, text: str) -> None:
        """Say nothing."""

    def picture(self, stage: str, path: Path) -> None:
        """Say nothing."""

    def close(self) -> None:
        """Nothing to end."""


class JsonProgress:
    """One JSON object a line: `stage`, `step`, `total`, `metrics`; `message`; `stage`, `picture`.

    Args:
        stream: where to write; standard error by default.
        seconds_between: updates of one stage that follow sooner are left out, except the last of a stage.
    """

    def __init__(self, stream: TextIO | None = None, seconds_between: float = 0.2) -> None:
        self._stream = stream or sys.stderr
        self._seconds_between = seconds_between
        self._last: dict[str, float] = {}

    def _write(self, event: dict[str, object]) -> None:
        self._stream.write(json.dumps(event, ensure_ascii=False) + "\n")
        self._stream.flush()

    def update(
        self, stage: str, step: int, total: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Write one line, at most every `seconds_between` but always the last one."""
        now = time.monotonic()
        if step != total and now - self._last.get(stage, -1e9) < self._seconds_between:
            return
        self._last[stage] = now
        self._write({"stage": stage, "step": step, "total": total, "metrics": dict(metrics or {})})

    def message(self, text: str) -> None:
        """Write one line with the key `message`."""
        self._write({"message": text})

    def picture(self, stage: str, path: Path) -> None:
        """Write one line with the key `picture`."""
        self._write({"stage": stage, "picture": str(path)})

    def close(self) -> None:
        """Nothing to end: every line is flushed."""


class BarProgress:
    """Bars on a terminal; where standard error is none, one line when a stage is done."""

    def __init__(self, stream: TextIO | None = None) -> None:
        from rich.console import Console  # late: `encore list` answers without it

        self._console = Console(file=stream or sys.stderr)
        self._bars: Progress | None = None
        self._stages: dict[str, TaskID] = {}

    def _started(self) -> Progress:
        if self._bars is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[metrics]}"),
                console=self._console,
                transient=True,
            )
            self._bars.start()
        return self._bars

    def update(
        self, stage: str, step: int, total: int | None = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Move the bar of `stage`; when it is full it becomes a line of text."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in (metrics or {}).items())
        done = total is not None and step >= total
        if self._console.is_terminal:
            bars = self._started()
            if stage not in self._stages:
                self._stages[stage] = bars.add_task(stage, total=total, metrics=shown)
            bars.update(self._stages[stage], completed=step, total=total, metrics=shown)
            if done:
                bars.remove_task(self._stages.pop(stage))
        if done:
            self.message(f"{stage}: {step}/{total}  {shown}".rstrip())

    def message(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def picture(self, stage: str, path: Path) -> None:
        """Print where the picture lies."""
        self.message(f"{stage}: picture {path}")

    def close(self) -> None:
        """Remove what is left of the bars."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._stages.clear()


def make_progress(style: ProgressStyle) -> ProgressReporter:
    """The reporter for `--progress bars|json|none`."""
    return {"bars": BarProgress, "json": JsonProgress, "none": SilentProgress}[style]()
