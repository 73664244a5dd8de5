"""Times several networks in one run and keeps the figures: what every script here shares."""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import statistics
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import nn

from encore.base.files import replacing, write_json
from encore.nn.timing import time_forward, time_training_steps
from encore.results.environment import machine_in_words, package_versions

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PLOTS = ROOT / "docs" / "images" / "benchmarks"

Build = Callable[[str], nn.Module]
"""Makes the network of a name, ready for inference, in float32 on the CPU."""


@dataclass(frozen=True)
class Mode:
    """How a network runs.

    Attributes:
        compiled: through torch.compile, sizes fixed.
        channels_last: memory format of input and weights.
        dtype: `float32` or `bfloat16`, of weights and maps.
    """

    compiled: bool
    channels_last: bool
    dtype: str

    @property
    def name(self) -> str:
        """For people: `eager, channels last, float32`."""
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{'compiled' if self.compiled else 'eager'}, {layout}, {self.dtype}"

    def prepared(self, model: nn.Module, device: torch.device) -> nn.Module:
        """`model` as this mode runs it."""
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        model = model.to(device=device, dtype=getattr(torch, self.dtype), memory_format=form)  # type: ignore[call-overload]
        return torch.compile(model, dynamic=False) if self.compiled else model  # type: ignore[return-value]

    def input(self, shape: Sequence[int], device: torch.device) -> torch.Tensor:
        """Random pixels, 0…255."""
        generator = torch.Generator().manual_seed(0)
        form = torch.channels_last if self.channels_last else torch.contiguous_format
        x = 255 * torch.rand(*shape, generator=generator)
        return x.to(device=device, dtype=getattr(torch, self.dtype), memory_format=form)


def modes(dtypes: Sequence[str]) -> list[Mode]:
    """Eager and compiled, in each type; contiguous and channels last in float32, channels last in others."""
    return [
        Mode(compiled, channels_last, dtype)
        for dtype in dtypes
        for compiled in (False, True)
        for channels_last in ((False, True) if dtype == "float32" else (True,))
    ]


def measure(
    build: Build,
    names: Sequence[str],
    reference: str,
    shape: Sequence[int],
    chosen: Sequence[Mode],
    device: torch.device,
    rounds: int,
    *,
    training: bool = False,
) -> list[dict[str, Any]]:
    """Milliseconds and images per second of every network in every mode; ratios to `reference` in the same mode.

    With `training` a pass is forward and backward of a training step.

    In each mode the rounds go over all networks in turn, so that a disturbance meets all of them.
    """
    rows = []
    for mode in chosen:
        say(mode.name + ", training" * training)
        models = {name: mode.prepared(build(name), device) for name in names}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)  # PyTorch's compiler speaks of its own parts
            times = (time_training_steps if training else time_forward)(models, mode.input(shape, device), rounds)
        middle = {name: statistics.median(one) for name, one in times.items()}
        for name in names:
            rows.append(
                {
                    "network": name,
                    **asdict(mode),
                    "milliseconds": [round(one, 2) for one in times[name]],
                    "images_per_second": round(1000 * shape[0] / middle[name], 4),
                    "speed_relative_to_" + reference: round(middle[reference] / middle[name], 4),
                }
            )
            say(f"  {name:28} {middle[name]:9.0f} ms   {middle[reference] / middle[name]:5.2f} × {reference}")
        del models
        torch.compiler.reset()
    return rows


def peak_megabytes(script: str, names: Sequence[str], device: torch.device) -> dict[str, float]:
    """What one inference adds to the process's peak memory, weights included; each in a process of its own."""
    peaks = {}
    for name in names:
        words = [sys.executable, "-m", f"benchmarks.{script}", "--peak-of", name, "--device", str(device)]
        answer = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
        peaks[name] = float(answer.strip().splitlines()[-1])
        say(f"  {name:28} {peaks[name]:9.0f} MB at the peak")
    return peaks


def peak_of(build: Build, name: str, shape: Sequence[int], device: torch.device) -> float:
    """Of this process, in 10⁶ bytes: what making and asking the network adds to it (eager, channels last, float32)."""
    mode = Mode(compiled=False, channels_last=True, dtype="float32")
    small = nn.Conv2d(3, 8, 3).to(device)
    with torch.no_grad():
        small(mode.input((1, 3, 16, 16), device))  # what the first convolution of a process loads
    before = _kilobytes("VmRSS")
    model = mode.prepared(build(name), device)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building
    with torch.no_grad():
        model(mode.input(shape, device))
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return (_kilobytes("VmHWM") - before) * 1024 / 1e6


def _kilobytes(entry: str) -> int:
    """What Linux says of this process: `VmRSS` now, `VmHWM` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def write_results(name: str, content: dict[str, Any], device: torch.device) -> Path:
    """Write `results/<name>.json` with date, machine and versions."""
    path = RESULTS / f"{name}.json"
    heading = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine_in_words(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "versions": package_versions(),
    }
    write_json(path, {**heading, **content})
    return path


def earlier(name: str, chosen: Sequence[Mode]) -> dict[str, Any]:
    """What `results/<name>.json` holds, rows of the `chosen` modes left out."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    new = [asdict(mode) for mode in chosen]
    for key in [key for key in content if key.endswith("rows")]:
        content[key] = [row for row in content[key] if {name: row[name] for name in new[0]} not in new]
    return content


def plot_ratios(rows: Sequence[dict[str, Any]], reference: str, title: str, name: str | None = None) -> Path:
    """Bars of speed relative to `reference` in each mode, into `docs/images/benchmarks/<name or reference>.png`."""
    key = "speed_relative_to_" + reference
    names = list(dict.fromkeys(row["network"] for row in rows))
    kinds = list(dict.fromkeys(Mode(row["compiled"], row["channels_last"], row["dtype"]) for row in rows))
    figure, axes = plt.subplots(figsize=(8, 0.5 + 0.11 * len(names) * (len(kinds) + 1.5)), layout="constrained")
    height = 0.8 / len(kinds)
    colours = plt.get_cmap("viridis")
    for place, mode in enumerate(kinds):
        values = {
            row["network"]: row[key]
            for row in rows
            if (row["compiled"], row["channels_last"], row["dtype"]) == (mode.compiled, mode.channels_last, mode.dtype)
        }
        at = [index + (place - (len(kinds) - 1) / 2) * height for index in range(len(names))]
        colour = colours(place / max(len(kinds) - 1, 1) * 0.9)
        axes.barh(at, [values.get(one, 0) for one in names], height, label=mode.name, color=colour)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"speed relative to {reference} in the same mode (more is faster)")
    axes.set_title(title, loc="left", fontsize=10)
    figure.legend(fontsize=7, loc="outside lower center", ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path = PLOTS / f"{name or reference}.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)
    return path


def arguments(description: str | None) -> argparse.Namespace:
    """What every script takes."""
    return parser_of(description).parse_args()


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser of what every script takes, to which a script may add."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of every network, after one that is not")
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--add", action="store_true", help="keep what the last run measured in other modes")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    return parser


def say(line: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(line + "\n")


def dump(content: Any) -> None:
    """One line on standard output, for the process that asked."""
    sys.stdout.write(json.dumps(content) + "\n")
