"""SparK's encoder on visible cells alone, with masks, and on everything: time and peak memory of training.

    python -m benchmarks.spark [--device cuda] [--rounds 3] [--batch 4] [--networks resnet50 …] [--official SparK/]

Six tenths of a picture of 224×224 are hidden. `packed` and `masked` are the two forms of sparse convolution, equal up
to rounding; `dense` is the ordinary network on the whole picture. `encoder` is forward and backward of the backbone up
to its dense maps, `step` that of the whole pre-training model with its decoder. With `--official`, the encoder of an
unpacked copy of github.com/keyu-tian/SparK runs in the same rounds, as `official`.
"""

from __future__ import annotations

import argparse
import copy
import gc
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from benchmarks.harness import PLOTS, ROOT, dump, say, write_results
from benchmarks.official import official_file, official_module
from encore.base.files import replacing
from encore.nn.creation import create_model
from encore.nn.timing import milliseconds

NETWORKS = ("resnet50", "convnext_tiny", "hornet_tiny_7x7")
ENCODINGS = {"packed": "packed", "masked": "masked", "dense": "zero_out"}
REFERENCE = "masked"
SIZE = 224

Work = Callable[[], None]
"""Forward and backward of something."""


def pretraining(network: str, form: str, channels_last: bool, device: torch.device) -> nn.Module:
    """SparK around a network, in training mode."""
    torch.manual_seed(0)
    model: nn.Module = create_model("spark", backbone=network, encoding=ENCODINGS[form], image_size=SIZE)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.train().to(device=device, memory_format=layout)  # type: ignore[call-overload]


def inputs(model: Any, batch: int, channels_last: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pictures and a mask, the same for all forms."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(batch, 3, SIZE, SIZE, generator=generator)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return images.to(device=device, memory_format=layout), model.draw_mask(batch, generator).to(device)


def work(model: Any, what: str, form: str, images: Tensor, active: Tensor) -> Work:
    """What is timed: `encoder` or `step`."""

    def run() -> None:
        if what == "step":
            loss = model(images, active)
        else:
            maps = model.forward_features(images) if form == "dense" else model.encode(images, active)
            loss = sum(one.mean() for one in maps)
        loss.backward()
        model.zero_grad()

    return run


def official_encoder(path: Path, network: str, model: Any, images: Tensor, active: Tensor) -> Work | None:
    """The authors' encoder with the same network; None for one that they have no form for."""
    sparse = official_module(path / "pretrain", "encoder")
    if network.startswith("resnet"):
        converted = sparse.SparseEncoder.dense_model_to_sparse(copy.deepcopy(model.encoder)).train()
        forward = converted.forward_features
    elif network.startswith("convnext"):
        fields = model.encoder.encoder.config
        module = official_file(path / "pretrain" / "models" / "convnext.py")
        converted = module.ConvNeXt(depths=fields.depths, dims=fields.hidden_sizes, sparse=True).train()
        converted.to(images.device)

        def forward(x: Tensor) -> list[Tensor]:
            maps: list[Tensor] = converted(x, hierarchical=True)
            return maps
    else:
        return None
    cell = images.shape[2] // active.shape[2]
    mask = active.repeat_interleave(cell, 2).repeat_interleave(cell, 3)

    def run() -> None:
        sparse._cur_active = active
        sum(one.mean() for one in forward(images * mask)).backward()
        converted.zero_grad()

    return run


def measure(
    network: str, channels_last: bool, batch: int, rounds: int, device: torch.device, official: Path | None
) -> list[dict[str, Any]]:
    """Milliseconds of every form in one mode; the rounds go over all forms in turn."""
    rows = []
    for what in ("encoder", "step"):
        works: dict[str, Work] = {}
        for form in ENCODINGS:
            model = pretraining(network, form, channels_last, device)
            images, active = inputs(model, batch, channels_last, device)
            works[form] = work(model, what, form, images, active)
            if official is not None and what == "encoder" and form == REFERENCE:
                theirs = official_encoder(official, network, model, images, active)
                works |= {"official": theirs} if theirs is not None else {}
        times: dict[str, list[float]] = {form: [] for form in works}
        for round_ in range(rounds + 1):
            for form, run in works.items():
                elapsed = milliseconds(run, device)
                if round_:
                    times[form].append(elapsed)
        middle = {form: statistics.median(one) for form, one in times.items()}
        for form in works:
            ratio = middle[REFERENCE] / middle[form]
            rows.append(
                {
                    "network": network,
                    "what": what,
                    "form": form,
                    "channels_last": channels_last,
                    "batch": batch,
                    "milliseconds": [round(one, 2) for one in times[form]],
                    "speed_relative_to_" + REFERENCE: round(ratio, 4),
                }
            )
            layout = "channels last" if channels_last else "contiguous"
            say(f"  {network:18} {what:8} {layout:14} {form:9} {middle[form]:8.0f} ms   {ratio:5.2f} × {REFERENCE}")
        del works
        gc.collect()
    return rows


def peak_megabytes(network: str, form: str, what: str, batch: int, device: torch.device) -> float:
    """What forward and backward add to this process's peak, in 10⁶ bytes, gradients included and weights not."""
    model = pretraining(network, form, True, device)
    images, active = inputs(model, batch, True, device)
    small, small_active = inputs(model, 1, True, device)
    work(model, what, form, small, small_active)()  # what the first pass of a process loads
    run = work(model, what, form, images, active)
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    resident = status_kilobytes("VmRSS")
    run()
    return (status_kilobytes("VmHWM") - resident) * 1024 / 1e6


def status_kilobytes(entry: str) -> int:
    """What Linux says of this process: `VmRSS` now, `VmHWM` at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(entry))


def peaks(networks: list[str], batch: int, device: torch.device) -> list[dict[str, Any]]:
    """Peak memory of each form, every one in a process of its own."""
    rows = []
    for network in networks:
        for what in ("encoder", "step"):
            for form in ENCODINGS:
                words = [sys.executable, "-m", "benchmarks.spark", "--device", str(device), "--batch", str(batch)]
                words += ["--peak-of", network, form, what]
                answer = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
                megabytes = float(answer.strip().splitlines()[-1])
                rows.append({"network": network, "what": what, "form": form, "batch": batch, "megabytes": megabytes})
                say(f"  {network:18} {what:8} {form:9} {megabytes:8.0f} MB at the peak")
    return rows


def plot(rows: list[dict[str, Any]]) -> Path:
    """Bars of speed relative to the masked form, encoder and whole step side by side."""
    key = "speed_relative_to_" + REFERENCE
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharey=True, layout="constrained")
    groups = list(dict.fromkeys((row["network"], row["channels_last"]) for row in rows))
    forms = list(dict.fromkeys(row["form"] for row in rows))
    height, colours = 0.8 / len(forms), plt.get_cmap("viridis")
    for panel, what in zip(axes, ("encoder", "step"), strict=True):
        for place, form in enumerate(forms):
            found = {
                (row["network"], row["channels_last"]): row[key]
                for row in rows
                if row["form"] == form and row["what"] == what
            }
            at = [index + (place - (len(forms) - 1) / 2) * height for index in range(len(groups))]
            colour = colours(place / max(len(forms) - 1, 1) * 0.9)
            panel.barh(at, [found.get(one, 0) for one in groups], height, label=form, color=colour)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_title("encoder" if what == "encoder" else "whole training step", loc="left", fontsize=10)
        panel.set_xlabel(f"speed relative to {REFERENCE} (more is faster)")
        for side in ("top", "right"):
            panel.spines[side].set_visible(False)
    names = [f"{network}\n{'channels last' if channels_last else 'contiguous'}" for network, channels_last in groups]
    axes[0].set_yticks(range(len(groups)), names, fontsize=8)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, loc="outside lower center", ncols=len(forms), frameon=False)
    path = PLOTS / "spark.png"
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
    plt.close(figure)
    return path


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=3, help="timed passes of every form, after one that is not")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--official", type=Path, help="an unpacked copy of the authors' repository")
    parser.add_argument("--peak-of", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure, write JSON and plot."""
    options = arguments()
    device = torch.device(options.device)
    if options.peak_of:
        network, form, what = options.peak_of
        dump(round(peak_megabytes(network, form, what, options.batch, device), 1))
        return
    rows = [
        row
        for network in options.networks
        for channels_last in (False, True)
        for row in measure(network, channels_last, options.batch, options.rounds, device, options.official)
    ]
    content = {
        "shape": [options.batch, 3, SIZE, SIZE],
        "mask_ratio": 0.6,
        "reference": REFERENCE,
        "rows": rows,
        "peak_megabytes": peaks(options.networks, options.batch, device),
    }
    write_results("spark", content, device)
    plot(rows)


if __name__ == "__main__":
    main()
