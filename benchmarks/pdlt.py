"""Ensembles of networks in batched products beside a Python loop over networks, and tangent kernels beside autograd.

    python -m benchmarks.pdlt [--networks 1000] [--width 100] [--depth 20] [--rounds 3] [--device cuda]
    python -m benchmarks.pdlt --neural-tangents PYTHON    # also infinite-width kernels, in that interpreter

Both ways draw weights, go forward and keep mean squares and products of different neurons in every layer; the loop
makes plain `nn.Sequential` networks as one would by hand. PYTHON is an interpreter that has `neural_tangents`
(0.6.5 wants jax 0.4.35 and tf2jax 0.3.6).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import say, write_results
from encore.nn.activations import activation_named
from encore.papers.pdlt.ensemble_runs import derivative_of
from encore.papers.pdlt.ensembles import Architecture, measure, measure_kernel
from encore.papers.pdlt.kernel_learning import kernels
from encore.papers.pdlt.own_networks import measure_networks
from encore.papers.pdlt.own_tangents import tangent_kernels_of

INPUTS = 16

NEURAL_TANGENTS = """
import json, sys, time
import jax, jax.numpy as jnp
from neural_tangents import stax
jax.config.update("jax_enable_x64", True)
depth, x = json.loads(sys.stdin.read())
layers = []
for _ in range(depth - 1):
    layers += [stax.Dense(1, W_std=2 ** 0.5), stax.Relu()]
kernel_of = jax.jit(stax.serial(*layers, stax.Dense(1, W_std=2 ** 0.5))[2], static_argnames="get")
x = jnp.array(x)
times = []
for _ in range(4):
    start = time.perf_counter()
    found = kernel_of(x, None, get=("nngp", "ntk"))
    found.ntk.block_until_ready()
    times.append(time.perf_counter() - start)
print(json.dumps({"nngp": found.nngp.tolist(), "ntk": found.ntk.tolist(), "seconds": times}))
"""
"""What the other interpreter runs: ReLU networks, weights of variance 2 over the fan-in, without biases."""


def seconds(work: Callable[[], Any], rounds: int, device: torch.device) -> float:
    """The median of some rounds, after one that is not timed."""
    times = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def plain_network(width: int, depth: int) -> nn.Sequential:
    """A tanh network of critical weights, as one writes it by hand."""
    widths = [INPUTS, *[width] * depth]
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layer = nn.Linear(fan_in, fan_out, bias=False)
        nn.init.normal_(layer.weight, std=fan_in**-0.5)
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def loop_over_networks(networks: int, width: int, depth: int, device: torch.device) -> Tensor:
    """Mean squares and products of different neurons, (networks, depth, 2), one network after the other."""
    x = torch.ones(INPUTS, device=device)
    rows = []
    for _ in range(networks):
        z, row = x, []
        for layer in plain_network(width, depth).to(device):
            z = layer(z)
            if isinstance(layer, nn.Linear):
                squares = z.double() ** 2
                mean = squares.mean()
                pairs = (width * mean**2 - (squares**2).mean()) / (width - 1)
                row.append(torch.stack([mean, pairs]))
        rows.append(torch.stack(row))
    return torch.stack(rows)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--width", type=int, default=100)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--neural-tangents", metavar="PYTHON")
    return parser.parse_args()


def ensembles(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Seconds of an ensemble: batched, through vmap of modules, in a loop."""
    networks, width, depth = options.networks, options.width, options.depth
    architecture = Architecture.rectangle(torch.tanh, width, depth)
    x = torch.ones(INPUTS, device=device)
    ways: dict[str, Callable[[], Any]] = {
        "batched": lambda: measure(architecture, x, networks),
        "loop": lambda: loop_over_networks(networks, width, depth, device),
    }
    if device.type == "cpu":
        ways["modules_through_vmap"] = lambda: measure_networks(
            lambda: plain_network(width, depth), torch.ones(1, INPUTS), networks
        )
    return timed(ways, options.rounds, device, "loop")


def tangent_kernels(options: argparse.Namespace, device: torch.device) -> list[dict[str, Any]]:
    """Seconds of tangent kernels of small networks: iterated, and by automatic differentiation of each network."""
    networks, width, depth = max(options.networks // 10, 1), 32, 6
    architecture = Architecture.rectangle(torch.tanh, width, depth)
    slope = derivative_of(activation_named("tanh"))
    ways: dict[str, Callable[[], Any]] = {
        "iterated": lambda: measure_kernel(architecture, torch.ones(INPUTS, device=device), networks, slope),
        "autograd_through_vmap": lambda: tangent_kernels_of(
            lambda: plain_network(width, depth), torch.ones(1, INPUTS), networks
        ),
    }
    return timed(ways, options.rounds, device, "autograd_through_vmap")


def timed(
    ways: dict[str, Callable[[], Any]], rounds: int, device: torch.device, reference: str
) -> list[dict[str, Any]]:
    """A row per way, with its speed relative to `reference`."""
    found = {name: seconds(work, rounds, device) for name, work in ways.items()}
    for name, value in found.items():
        say(f"  {name:24} {value:8.3f} s   {found[reference] / value:6.1f} × {reference}")
    return [
        {"way": name, "seconds": round(value, 4), f"speed_relative_to_{reference}": round(found[reference] / value, 2)}
        for name, value in found.items()
    ]


def beside_neural_tangents(python: str, rounds: int) -> dict[str, Any]:
    """Largest relative differences of K and Θ from neural-tangents, and seconds of both (theirs after compiling)."""
    depth, x = 10, torch.randn(100, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    relu = activation_named("relu")
    answer = subprocess.run(
        [python, "-c", NEURAL_TANGENTS],
        input=json.dumps([depth, x.tolist()]),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    theirs = json.loads(answer.strip().splitlines()[-1])
    # their tangent kernel takes a step of each weight as it is drawn, N(0, 1): λ_W = C_W
    ours = kernels(relu, x, depth, weight_variance=2.0, rates=lambda layer: (0.0, 2.0))
    nngp, ntk = torch.tensor(theirs["nngp"]).double(), torch.tensor(theirs["ntk"]).double()
    return {
        "inputs": len(x),
        "depth": depth,
        "largest_relative_difference_nngp": float(((ours.K - nngp) / nngp).abs().max()),
        "largest_relative_difference_ntk": float(((ours.theta - ntk) / ntk).abs().max()),
        "seconds": seconds(lambda: kernels(relu, x, depth, weight_variance=2.0), rounds, torch.device("cpu")),
        "seconds_neural_tangents": statistics.median(theirs["seconds"][1:]),
    }


def main() -> None:
    """Measure and write JSON."""
    options = arguments()
    device = torch.device(options.device)
    say(f"{options.networks} networks of width {options.width} and depth {options.depth}")
    content: dict[str, Any] = {
        "networks": options.networks,
        "width": options.width,
        "depth": options.depth,
        "ensemble_rows": ensembles(options, device),
    }
    say("tangent kernels, width 32, depth 6")
    content["tangent_rows"] = tangent_kernels(options, device)
    if options.neural_tangents:
        content["neural_tangents"] = beside_neural_tangents(options.neural_tangents, options.rounds)
        say(json.dumps(content["neural_tangents"]))
    write_results("pdlt", content, device)


if __name__ == "__main__":
    main()
