"""Prototypes: elastic deformation of a batch beside SciPy's, and training steps of several networks at once.

    python -m benchmarks.prototypes [--device cuda] [--rounds 5] [--networks 4]

`deformation` moves 250 pictures of 28×28: `scipy` does so one by one, as the official code does (`gaussian_filter` and
`map_coordinates`, one field a picture), `encore` in one `grid_sample`. `step` is forward, backward and Adam of the
paper's MNIST network on a batch of 250, for several networks: `one by one`, or `together` through `torch.func.vmap`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vmap

from benchmarks.harness import say, write_results
from encore.data.classification_augmentation import ElasticDeformation
from encore.nn.creation import create_model
from encore.nn.timing import milliseconds

BATCH, SIDE = 250, 28

Work = Callable[[], Any]


def deformations(device: torch.device) -> dict[str, Work]:
    """The same batch, moved by both."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    images = torch.rand(BATCH, 1, SIDE, SIDE)
    on_device, ours = images.to(device), ElasticDeformation(20.0, 4.0)
    arrays, random = images[:, 0].numpy(), np.random.default_rng(0)
    places = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")

    def one_by_one() -> None:
        for picture in arrays:
            shifts = [20 * gaussian_filter(random.uniform(-1, 1, picture.shape), 4, mode="constant") for _ in places]
            where = [place + shift for place, shift in zip(places, shifts, strict=True)]
            map_coordinates(picture, where, order=1, mode="constant")

    return {"scipy": one_by_one, "encore": lambda: ours(on_device)}


def steps(count: int, device: torch.device) -> dict[str, Work]:
    """Training steps of `count` networks on one batch."""
    torch.manual_seed(0)
    inputs = torch.rand(BATCH, 1, SIDE, SIDE, device=device)
    targets = torch.eye(10, device=device)[torch.arange(BATCH) % 10]
    models = [create_model("prototypes").to(device) for _ in range(count)]

    class Loss(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, pictures: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
            loss: torch.Tensor = self.model.own_loss(pictures, classes)["loss"]
            return loss

    losses = [Loss(model) for model in models]
    stacked, _ = stack_module_state(losses)
    for loss in losses:
        loss.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizers = [torch.optim.Adam(loss.parameters(), 0.002) for loss in losses]
    together = torch.optim.Adam(list(stacked.values()), 0.002)
    of_all = vmap(lambda weights, *batch: functional_call(losses[0], weights, batch), in_dims=(0, None, None))

    def one_by_one() -> None:
        for loss, optimizer in zip(losses, optimizers, strict=True):
            optimizer.zero_grad()
            loss(inputs, targets).backward()
            optimizer.step()

    def at_once() -> None:
        together.zero_grad()
        of_all(stacked, inputs, targets).sum().backward()
        together.step()

    return {"one by one": one_by_one, "together": at_once}


def measure(what: str, works: dict[str, Work], rounds: int, device: torch.device) -> list[dict[str, Any]]:
    """Milliseconds of each way, in turn; ratios to the first."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            times[name].append(milliseconds(work, device))
    reference = next(iter(works))
    middle = {name: statistics.median(one) for name, one in times.items()}
    for name in works:
        say(f"  {what}: {name:12} {middle[name]:9.2f} ms   {middle[reference] / middle[name]:6.2f} × {reference}")
    return [
        {
            "what": what,
            "way": name,
            "milliseconds": [round(one, 3) for one in times[name]],
            "speed_relative_to_first": round(middle[reference] / middle[name], 3),
        }
        for name in works
    ]


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--networks", type=int, default=4)
    options = parser.parse_args()
    device = torch.device(options.device)
    rows = measure("deformation", deformations(device), options.rounds, device)
    rows += measure("step", steps(options.networks, device), options.rounds, device)
    write_results(
        "prototypes" if device.type == "cpu" else "prototypes_gpu",
        {"batch": BATCH, "networks": options.networks, "rows": rows},
        device,
    )


if __name__ == "__main__":
    main()
