"""SegNet beside the networks of its benchmark: images per second and peak memory of one picture of 360×480.

    python -m benchmarks.segnet [--device cuda] [--rounds 3] [--dtypes float32 bfloat16] [--add]

All networks have batch normalisation folded into their convolutions, as `encore predict` runs them;
`segnet_not_folded` shows what that gains, `segnet_int64_indices` what PyTorch's own pooling indices cost.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.harness import (
    arguments,
    dump,
    earlier,
    measure,
    modes,
    peak_megabytes,
    peak_of,
    plot_ratios,
    write_results,
)
from encore.nn.batch_norm import folded
from encore.papers.segnet import sizes

REFERENCE = "segnet"
NOT_FOLDED = "segnet_not_folded"
SHAPE = (1, 3, *sizes.PAPER_SIZE)
NAMES = (*sizes.BENCHMARK, NOT_FOLDED)
STUDY = tuple(sizes.DECODER_STUDY)


def build(name: str) -> nn.Module:
    """A network of the benchmark or the decoder study, with 11 classes."""
    torch.manual_seed(0)
    if name == NOT_FOLDED:
        return sizes.build(REFERENCE, device="cpu")
    rows = sizes.BENCHMARK if name in sizes.BENCHMARK else sizes.DECODER_STUDY
    return folded(sizes.build(name, rows, device="cpu"))


def main() -> None:
    """Measure, write JSON and plot."""
    options = arguments(__doc__)
    device = torch.device(options.device)
    if options.peak_of:
        dump(round(peak_of(build, options.peak_of, SHAPE, device), 1))
        return
    chosen = modes(options.dtypes)
    in_float32 = [mode for mode in chosen if mode.dtype == "float32"]
    kept = earlier("segnet", chosen) if options.add else {"rows": [], "study_rows": []}
    content = {
        "shape": list(SHAPE),
        "reference": REFERENCE,
        "rows": kept["rows"] + measure(build, NAMES, REFERENCE, SHAPE, chosen, device, options.rounds),
        "study_reference": "segnet_basic",
        "study_rows": kept["study_rows"]
        + measure(build, STUDY, "segnet_basic", SHAPE, in_float32, device, options.rounds),
        "peak_megabytes": kept.get("peak_megabytes") or peak_megabytes("segnet", (*NAMES, *STUDY), device),
    }
    write_results("segnet", content, device)
    plot_ratios(content["rows"], REFERENCE, "One picture of 360×480, 11 classes")
    plot_ratios(content["study_rows"], "segnet_basic", "Table 1's networks, one picture of 360×480")


if __name__ == "__main__":
    main()
