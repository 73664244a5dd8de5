"""Stands in for `encore run`: says what it is told to by the slug, slowly, and imports nothing of Encore.

Also a program: `stand_in.py SLUG OUT RECORD`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from encore.hub.database import Run

RECORD = Path(__file__).parents[3] / "results" / "laptop" / "hornet" / "result.json"


def command(run: Run, output: Path) -> list[str]:
    """What a `Runner` is given instead of `encore_command`."""
    return [sys.executable, "-I", "-S", __file__, run.slug, str(output), str(RECORD)]


def _say(**event: object) -> None:
    print(json.dumps(event), file=sys.stderr, flush=True)  # noqa: T201


def _speak(output: Path, seconds: float) -> None:
    """40 numbered messages between progress, a picture in the middle, and words that are no JSON."""
    first = len(list(output.glob("step_*")))
    for step in range(first, 40):
        _say(stage="training", step=step + 1, total=40, metrics={"loss": 1 / (step + 1), "odd": float("nan")})
        _say(message=f"step {step}")
        (output / f"step_{step}").touch()
        time.sleep(seconds)
    (output / "sheets").mkdir(exist_ok=True)
    (output / "sheets" / "one.png").write_bytes(b"png")
    (output.parent / "outside.png").write_bytes(b"png")
    _say(stage="training", picture=str(output / "sheets" / "one.png"))
    _say(stage="training", picture=str(output.parent / "outside.png"))
    _say(stage="training", picture="/etc/passwd")
    sys.stderr.write("a warning of a library \x1b[31min red\x1b[0m\r\n\n")


def _perform(slug: str, output: Path, record: Path) -> int:
    output.mkdir(exist_ok=True)
    with (output.parent / "starts").open("a") as file:
        file.write(f"{os.getpid()} {os.nice(0)}\n")
    if slug == "refused":
        sys.stderr.write(f"encore: {output} cannot be used: name another\n")
        return 2
    if slug == "broken":
        raise ValueError("a fault")
    if slug == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if slug == "empty":
        return 0
    if slug in {"waits", "stubborn"}:
        if slug == "stubborn":
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        _say(message="waits")
        time.sleep(60)
    _speak(output, 0.025 if slug == "slow" else 0)
    content = "{}" if slug == "damaged" else record.read_text(encoding="utf-8")
    (output / "report.html").write_text("<html>")
    (output / "result.json").write_text(content, encoding="utf-8")
    return 3 if slug == "strict" else 0


if __name__ == "__main__":
    try:
        sys.exit(_perform(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])))
    except KeyboardInterrupt:
        sys.exit(130)
