"""Hidden Chow-Liu trees: seconds of an EM pass, speed of coding, and how far both are from this machine's limits.

    python -m benchmarks.pc_compression --mnist mnist.npz [--states 16 32 64] [--rounds 3]
    python -m benchmarks.pc_compression --mnist mnist.npz --device cuda [--pyjuice]    # EM only; coding is a CPU's

The limits are those of memory and arithmetic, measured in the same run: copying an array that fits no cache, and one
large product of matrices. `--pyjuice` times an EM pass of the same kind of tree in pyjuice, where that is installed; it
asks for a GPU (version 2.6).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import say, write_results
from encore.papers.pc_compression.circuit import PathCoder, circuit_of
from encore.papers.pc_compression.codec import side_by_side
from encore.papers.pc_compression.coder import TreeCoder
from encore.papers.pc_compression.method import learn_structure, maximise
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.passes import shrunk
from encore.papers.pc_compression.structure import LEVELS, chow_liu_tree, mutual_information

BATCH = 512
"""Of EM."""

CODED = 1024
"""Pictures that are coded, in blocks of 64, eight blocks at once."""


def seconds(work: Callable[[], Any], rounds: int) -> float:
    """The median of some rounds, after one that is not timed."""
    work()
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def limits(rounds: int, device: str) -> dict[str, float]:
    """Bytes and operations a second: a copy of 400 MB counts twice, and a product of 4096 × 4096 in both types."""
    x = torch.rand(50_000_000, dtype=torch.float64, device=device)
    y = torch.empty_like(x)
    copied = 2 * x.nbytes / seconds(lambda: y.copy_(x), rounds)
    n = 4096
    single = torch.rand(n, n, device=device)
    double = single.double()
    return {
        "gigabytes_per_second": copied / 1e9,
        "gigaflops_float32": 2 * n**3 / seconds(lambda: single @ single, rounds) / 1e9,
        "gigaflops_float64": 2 * n**3 / seconds(lambda: double @ double, rounds) / 1e9,
    }


def training(model: HCLT, x: torch.Tensor, rounds: int, limit: dict[str, float]) -> dict[str, float]:
    """One EM step, scaled to a pass over 60,000 pictures."""

    taken = seconds(lambda: maximise(model, model.flows(x), 0.1, 0.5), rounds)
    D, H, inner = model.num_variables, model.num_states, len(model.tree.inner)
    # Messages are read and written a few times each: gathered, multiplied, normalised, sent; then the same downwards.
    moved = len(x) * H * 4 * (D * (1 + 2 + 1) + inner * (3 + 2 + 2 + 4 + 3)) + 3 * model.emissions.nbytes
    flops = 2 * len(x) * inner * H * H * 3
    return {
        "pass_seconds": taken * 60_000 / len(x),
        "microseconds_per_picture": taken / len(x) * 1e6,
        "bandwidth_share": moved / taken / 1e9 / limit["gigabytes_per_second"],
        "arithmetic_share": flops / taken / 1e9 / limit["gigaflops_float32"],
    }


def coding(model: HCLT, pictures: np.ndarray, rounds: int, limit: dict[str, float]) -> dict[str, float]:
    """Compressing and decompressing, without files."""
    coder = TreeCoder(model)
    groups = [[pictures[at + 64 * block : at + 64 * (block + 1)] for block in range(8)] for at in range(0, CODED, 512)]
    streams = [coder.encode(group) for group in groups]
    there = seconds(lambda: list(side_by_side(coder.encode, groups)), rounds)
    back = seconds(lambda: list(side_by_side(lambda one: coder.decode(one, [64] * 8), streams)), rounds)
    size = pictures[:CODED].size
    H, K = model.num_states, model.num_values
    flops = 2 * size * (2 * H * H + H * K)
    per_symbol = 8 * (2 * H * H + 2 * H * K) / 512
    # Beside the tables every symbol moves its weights, in both types, and a dozen beliefs there and back.
    moved = size * (per_symbol + 12 * K + 2 * 12 * 8 * H)
    return {
        "compress_megabytes_per_second": size / there / 1e6,
        "decompress_megabytes_per_second": size / back / 1e6,
        "bits_per_dimension": 32 * sum(len(one) for stream in streams for one in stream) / size,
        "parameter_bytes_per_symbol": per_symbol,
        "bandwidth_share": moved / there / 1e9 / limit["gigabytes_per_second"],
        "arithmetic_share": flops / there / 1e9 / limit["gigaflops_float64"],
    }


def growth(pictures: np.ndarray, rounds: int) -> list[dict[str, float]]:
    """Microseconds a pixel of coding on balanced trees of several sizes: the walk, paths, and a pass for each pixel.

    64 pictures, 8 states, 16 values; the time of a pass for each pixel is that of one pass, times the pixels.
    """
    return [_growth_at(side, pictures[:5000].reshape(-1, 28, 28), rounds) for side in (7, 14, 28)]


def _growth_at(side: int, pictures: np.ndarray, rounds: int) -> dict[str, float]:
    small = shrunk(pictures, 28 // side).reshape(len(pictures), -1) * LEVELS // 256
    tree = chow_liu_tree(mutual_information(small, LEVELS), "balanced")
    model = HCLT(tree.parents.tolist(), LEVELS, 8)
    model.randomise(torch.Generator().manual_seed(0))
    circuit, block = circuit_of(model), small[:64]
    walk, paths = TreeCoder(model), PathCoder(circuit)
    works: dict[str, Callable[[], Any]] = {
        "walk": lambda: walk.encode([block]),
        "paths": lambda: paths.encode([block]),
        "passes": lambda: circuit.log_likelihood(block),
    }
    pixel = {name: seconds(work, rounds) / block.size * 1e6 for name, work in works.items()}
    pixel["passes"] *= side * side
    return {"side": side, **{f"{name}_microseconds": round(value, 3) for name, value in pixel.items()}}


def pyjuice_pass(x: torch.Tensor, num_states: int, rounds: int) -> float:
    """Seconds of an EM pass over 60,000 pictures in pyjuice."""
    import pyjuice as juice

    pc = juice.compile(juice.structures.HCLT(x.float() / 255, num_latents=num_states)).to(x.device)

    def step(record: bool = False) -> float:
        likelihood = pc(x, record_cudagraph=record).mean()
        pc.backward(x, flows_memory=0.0, record_cudagraph=record)
        pc.mini_batch_em(step_size=0.5, pseudocount=0.1)
        return float(likelihood)

    step(record=True)
    return seconds(step, rounds) * 60_000 / len(x)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, required=True, help="an .npz with x_train and x_test")
    parser.add_argument("--states", type=int, nargs="+", default=[16, 32, 64])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of training on 10,000 pictures before coding")
    parser.add_argument("--device", default="cpu", help="of EM; coding is done by the CPU")
    parser.add_argument("--pyjuice", action="store_true")
    options = parser.parse_args()
    with np.load(options.mnist) as arrays:
        train, test = (arrays[name].reshape(-1, 784) for name in ("x_train", "x_test"))
    x = torch.from_numpy(train[:10_000])
    limit = limits(options.rounds, options.device)
    say("  ".join(f"{name} {value:.1f}" for name, value in limit.items()))
    started = time.perf_counter()
    parents = learn_structure(x, 256)
    structure = time.perf_counter() - started
    say(f"structure from 10,000 pictures: {structure:.1f} s")
    by_cpu = options.device == "cpu"
    rows = []
    for num_states in options.states:
        model = HCLT(parents, 256, num_states, (28, 28))
        model.randomise(torch.Generator().manual_seed(0))
        model.to(options.device)
        for _ in range(options.epochs):
            for part in x.to(options.device).split(BATCH)[:-1]:
                maximise(model, model.flows(part), 0.1, 0.5)
        row: dict[str, Any] = {"num_states": num_states, "parameters": model.num_free_parameters}
        batch = x[:BATCH].to(options.device)
        row |= training(model, batch, options.rounds, limit)
        if by_cpu:
            coded = coding(model, test, options.rounds, limit)
            row |= {"coding_" + key if key.endswith("share") else key: value for key, value in coded.items()}
        if options.pyjuice:
            row["pyjuice_pass_seconds"] = pyjuice_pass(batch.long(), num_states, options.rounds)
        rows.append({key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()})
        say("  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    grown = growth(train, options.rounds) if by_cpu else []
    for row in grown:
        say("  ".join(f"{key} {value}" for key, value in row.items()))
    content = {
        "shape": [BATCH, 784],
        "limits": {key: round(value, 1) for key, value in limit.items()},
        "structure_seconds": round(structure, 1),
        "trees": rows,
        "growth": grown,
    }
    write_results("pc_compression" if by_cpu else "pc_compression_gpu", content, torch.device(options.device))


if __name__ == "__main__":
    main()
