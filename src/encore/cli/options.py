"""The options that every verb spells the same way."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from encore.base.processes import process_rank
from encore.base.progress import ProgressReporter, make_progress
from encore.base.runtime import Runtime, parse_data_options

if TYPE_CHECKING:
    from rich.console import Console

USAGE_ERROR: Any = typer.BadParameter.__mro__[2]
"""The base of all usage errors of the click that typer uses, its own copy or the package."""


class ScaleName(StrEnum):
    """Scales of `encore run`."""

    smoke = "smoke"
    laptop = "laptop"
    paper = "paper"


class FormatName(StrEnum):
    """What `encore export` writes."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


class DeviceName(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class ProgressName(StrEnum):
    """How progress is shown on standard error."""

    bars = "bars"
    json = "json"
    none = "none"


Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to; a non-empty one is refused.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue what lies in --out.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="First seed.")]
DeviceOption = Annotated[DeviceName, typer.Option("--device", help="Where to compute.")]
Devices = Annotated[int, typer.Option("--devices", min=1, help="How many devices; more than one trains with DDP.")]
Precision = Annotated[str, typer.Option("--precision", help="32-true, bf16-mixed, 16-mixed …")]
Data = Annotated[list[str] | None, typer.Option("--data", metavar="[NAME=]PATH", help="Where a named set lies.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the configuration; repeatable.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
ProgressOption = Annotated[ProgressName, typer.Option("--progress", help="Progress on standard error.")]


def runtime_of(
    seed: int,
    device: DeviceName,
    devices: int,
    precision: str,
    data: list[str] | None,
    data_name: str | None = None,
) -> Runtime:
    """The common options as a runtime."""
    return Runtime(
        seed=seed,
        device=device.value,
        devices=devices,
        precision=precision,
        data=parse_data_options(data or (), data_name),
    )


@contextmanager
def reporting(style: ProgressName) -> Iterator[ProgressReporter]:
    """A progress reporter that is closed whatever happens."""
    progress = make_progress(style.value if process_rank() == 0 else "none")
    try:
        yield progress
    finally:
        progress.close()


def print_json(value: Any) -> None:
    """Write one JSON object to standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def stdout() -> Console:
    """Standard output for people: as wide as the terminal, 110 columns where there is none."""
    from rich.console import Console  # late: `encore list --json` answers without it

    console = Console()
    return console if console.is_terminal else Console(width=110)
