"""HorNet-T beside ConvNeXt at equal multiply-accumulates, and beside the official code where that lies at hand.

    python -m benchmarks.hornet [--official FOLDER] [--device cuda] [--rounds 3] [--dtypes float32] [--batch 4]

Inference and a training step (forward and backward), pictures of 224×224, images per second as ratios in one run.
FOLDER is the unpacked repository github.com/raoyongming/HorNet.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.harness import measure, modes, parser_of, plot_ratios, write_results
from benchmarks.official import official_module
from encore.nn.creation import create_model
from encore.nn.macs import macs

REFERENCE = "hornet_tiny_7x7"
OFFICIAL = {"official_tiny_7x7": "hornet_tiny_7x7", "official_tiny_gf": "hornet_tiny_gf"}
CONVNEXT = {"depths": [3, 3, 7, 3]}
"""ConvNeXt-T without two blocks of its third stage, which costs what HorNet-T costs."""


def build(name: str, official: Path | None) -> nn.Module:
    """A network of the comparison, 1000 classes."""
    torch.manual_seed(0)
    if name in OFFICIAL:
        assert official is not None
        module: Any = official_module(official, "hornet")
        made: nn.Module = getattr(module, OFFICIAL[name])(pretrained=False)
        return made.eval()
    model: nn.Module = create_model("convnext", **CONVNEXT) if name == "convnext" else create_model(name)
    return model.eval()


def main() -> None:
    """Measure, write JSON and plot."""
    parser = parser_of(__doc__)
    parser.add_argument("--official", type=Path, help="the unpacked official repository")
    parser.add_argument("--batch", type=int, default=4)
    parser.set_defaults(dtypes=["float32"])
    options = parser.parse_args()
    device = torch.device(options.device)
    names = [REFERENCE, "hornet_tiny_gf", "convnext", *(OFFICIAL if options.official else ())]
    make = partial(build, official=options.official)
    shape = (options.batch, 3, 224, 224)
    chosen = modes(options.dtypes)
    content = {
        "shape": list(shape),
        "reference": REFERENCE,
        "gmacs": {name: round(macs(make(name), (1, *shape[1:])) / 1e9, 3) for name in names},
        "rows": measure(make, names, REFERENCE, shape, chosen, device, options.rounds),
        "plot": "hornet_inference",
        "training_reference": REFERENCE,
        "training_plot": "hornet_training",
        "training_rows": measure(make, names, REFERENCE, shape, chosen, device, options.rounds, training=True),
    }
    write_results("hornet", content, device)
    heading = f"{options.batch} pictures of 224×224"
    plot_ratios(content["rows"], REFERENCE, f"Inference, {heading}", content["plot"])
    plot_ratios(content["training_rows"], REFERENCE, f"Training step, {heading}", content["training_plot"])


if __name__ == "__main__":
    main()
