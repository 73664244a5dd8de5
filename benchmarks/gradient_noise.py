"""What gradient noise adds to a step of Adam, at 1 and 25 million parameters, as a ratio within one run.

    python -m benchmarks.gradient_noise
    python -m benchmarks.gradient_noise --optax       # also the schedule of optax's add_noise; where optax is installed
    python -m benchmarks.gradient_noise --device cuda

Beside the wrapper stands the snippet that people copy, `p.grad += std * torch.randn_like(p.grad)` for each parameter,
and ways to draw 2²⁰ normal numbers. Steps alone are timed: forward and backward of a real training come on top, for
which one of a network of 25 million parameters (512 → 4096 → 5120 → 400, 64 samples) is timed too.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.harness import parser_of, say, write_results
from encore.training.gradient_noise import GradientNoise, noise_variance
from encore.training.noise_blocks import block_size

SIZES = {"1M": (16, 250), "25M": (160, 395)}
"""How many square matrices, and their sides."""

ETA = 1e-12
"""So small that gradients, which are not computed anew, stay what they are."""


def in_turn(works: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of each, after one round that is not timed; rounds go over all in turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(one) for name, one in times.items()}


def matrices(size: str, device: torch.device) -> list[nn.Parameter]:
    """Parameters with gradients."""
    count, side = SIZES[size]
    made = [nn.Parameter(torch.zeros(side, side, device=device)) for _ in range(count)]
    for one in made:
        one.grad = torch.ones_like(one)
    return made


def copied_snippet(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Noise for each parameter, then the step."""
    for one in parameters:
        assert one.grad is not None
        one.grad += math.sqrt(ETA) * torch.randn_like(one.grad)
    optimizer.step()


def steps(size: str, rounds: int, device: torch.device) -> dict[str, Any]:
    """Steps of Adam without noise, with the wrapper, and with the snippet."""
    plain, wrapped, copied = (matrices(size, device) for _ in range(3))
    adam = torch.optim.Adam(plain)
    noisy = GradientNoise(torch.optim.Adam(wrapped), ETA)
    other = torch.optim.Adam(copied)
    works = {"adam": adam.step, "wrapper": noisy.step, "snippet": lambda: copied_snippet(copied, other)}
    taken = in_turn(works, rounds, device)
    row = {
        "parameters": sum(one.numel() for one in plain),
        **{f"{name}_milliseconds": round(value, 3) for name, value in taken.items()},
        "wrapper_over_adam": round(taken["wrapper"] / taken["adam"], 3),
        "snippet_over_adam": round(taken["snippet"] / taken["adam"], 3),
    }
    say(f"{size}: " + "  ".join(f"{key} {value}" for key, value in row.items()))
    return row


def whole_steps(rounds: int, device: torch.device) -> dict[str, Any]:
    """Forward, backward and Adam, with and without noise."""
    torch.manual_seed(0)
    inputs = torch.randn(64, 512, device=device)
    nets = {
        name: nn.Sequential(nn.Linear(512, 4096), nn.ReLU(), nn.Linear(4096, 5120), nn.ReLU(), nn.Linear(5120, 400)).to(
            device
        )
        for name in ("adam", "wrapper")
    }
    optimizers: dict[str, torch.optim.Optimizer] = {
        "adam": torch.optim.Adam(nets["adam"].parameters()),
        "wrapper": GradientNoise(torch.optim.Adam(nets["wrapper"].parameters()), ETA),
    }

    def step(name: str) -> None:
        optimizers[name].zero_grad()
        nets[name](inputs).square().mean().backward()
        optimizers[name].step()

    taken = in_turn({name: lambda name=name: step(name) for name in nets}, rounds, device)  # type: ignore[misc]
    row = {
        "parameters": sum(one.numel() for one in nets["adam"].parameters()),
        **{f"{name}_milliseconds": round(value, 2) for name, value in taken.items()},
        "wrapper_over_adam": round(taken["wrapper"] / taken["adam"], 3),
    }
    say("whole step: " + "  ".join(f"{key} {value}" for key, value in row.items()))
    return row


def generators(rounds: int, device: torch.device) -> dict[str, float]:
    """Nanoseconds a number of ways to draw 2²⁰ normal numbers in float32; NumPy's on the CPU."""
    count = 2**20
    buffer, block = torch.empty(count, device=device), torch.empty(min(count, block_size(device)), device=device)
    generator = torch.Generator(device).manual_seed(0)

    def blocks() -> None:
        for _ in range(count // len(block)):
            block.normal_(generator=generator)

    works: dict[str, Callable[[], Any]] = {
        "torch.randn": lambda: torch.randn(count, generator=generator, device=device),
        "normal_ into memory that is there": lambda: buffer.normal_(generator=generator),
        "normal_ into one block again and again": blocks,
    }
    if device.type == "cpu":
        values = np.empty(count, np.float32)
        for kind in (np.random.SFC64, np.random.PCG64DXSM, np.random.Philox):
            drawn = np.random.Generator(kind(0))
            works[f"NumPy {kind.__name__}, ziggurat"] = lambda drawn=drawn: drawn.standard_normal(  # type: ignore[misc]
                out=values, dtype=np.float32
            )
    taken = in_turn(works, rounds, device)
    row = {name: round(1e6 * value / count, 2) for name, value in taken.items()}
    say("nanoseconds a number: " + "  ".join(f"{key} {value}" for key, value in row.items()))
    return row


def optax_schedule() -> list[dict[str, float]]:
    """Variance of what optax's `add_noise` adds to a million zeros, beside ours and the formula."""
    import jax
    import optax

    chosen, eta = (0, 1, 10, 100), 0.3
    noise = optax.add_noise(eta, 0.55, jax.random.key(0))
    zeros = jax.numpy.zeros(1_000_000)
    state, rows = noise.init(zeros), []
    for step in range(max(chosen) + 1):
        drawn, state = noise.update(zeros, state)
        if step not in chosen:
            continue
        parameter = nn.Parameter(torch.zeros(1_000_000))
        parameter.grad = torch.zeros_like(parameter)
        ours = GradientNoise(torch.optim.SGD([parameter], lr=1.0), eta)
        ours.num_steps = step
        ours.step()
        row = {
            "step": step,
            "optax": float(np.asarray(drawn, np.float64).var()),
            "ours": float(parameter.detach().double().var()),
            "formula": noise_variance(step, eta),
        }
        rows.append({key: round(value, 6) for key, value in row.items()})
        say("  ".join(f"{key} {value}" for key, value in rows[-1].items()))
    return rows


def main() -> None:
    """Measure and write JSON."""
    parser = parser_of(__doc__)
    parser.add_argument("--optax", action="store_true", help="compare the schedule with optax's")
    options = parser.parse_args()
    device, rounds = torch.device(options.device), max(options.rounds, 5)
    content: dict[str, Any] = {
        "steps": {size: steps(size, rounds * (10 if size == "1M" else 1), device) for size in SIZES},
        "whole_step": whole_steps(rounds, device),
        "nanoseconds_per_number": generators(rounds, device),
    }
    if options.optax:
        content["schedule"] = optax_schedule()
    write_results("gradient_noise" if device.type == "cpu" else "gradient_noise_gpu", content, device)


if __name__ == "__main__":
    main()
