"""A small net, its training, and what two processes leave of it: light to import, since each process does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from encore.training.gradient_noise import GradientNoise


class Net(nn.Module):
    """Small, with a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)
        self.linear = nn.Linear(12, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, 2, 4, 4) → (B, 4)."""
        out: Tensor = self.linear(self.convolution(inputs).flatten(1))
        return out


def batch(step: int) -> Tensor:
    return torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(step))


def walk(optimizer: torch.optim.Optimizer, net: nn.Module, steps: range, clip: float | None = None) -> None:
    """Train for some steps."""
    for step in steps:
        optimizer.zero_grad()
        net(batch(step)).square().mean().backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), clip)
        optimizer.step()


def leave_noise(rank: int, port: int, folder: str) -> None:
    """One of two processes: a replica of DDP, DTensors, and FSDP2; leaves `<rank>.pt`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    kept = {"replica": _replica(rank), **_tensors(), **_fsdp()}
    torch.save(kept, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def _replica(rank: int) -> dict[str, Tensor]:
    """Weights after some steps in which each process saw other pictures."""
    torch.manual_seed(0)
    net = nn.parallel.DistributedDataParallel(Net())
    optimizer = GradientNoise(torch.optim.Adam(net.parameters(), lr=0.01), 0.3)
    for step in range(4):
        optimizer.zero_grad()
        net(batch(2 * step + rank)).square().mean().backward()
        optimizer.step()
    return {name: one.detach() for name, one in net.module.state_dict().items()}


def _tensors() -> dict[str, Tensor]:
    """A step from zero: of a sharded and a replicated tensor with gradients of zero, and of one whose gradient is the
    sum of ones that the processes hold.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    sharded = nn.Parameter(distribute_tensor(torch.zeros(10, 50), mesh, [Shard(0)]))
    replicated = nn.Parameter(distribute_tensor(torch.zeros(7), mesh, [Replicate()]))
    for one in (sharded, replicated):
        one.grad = torch.zeros_like(one)
    summed = nn.Parameter(distribute_tensor(torch.zeros(20_000), mesh, [Replicate()]))
    summed.grad = DTensor.from_local(torch.ones(20_000), mesh, [Partial()])  # as of layers in sequence parallelism
    GradientNoise(torch.optim.SGD([sharded, replicated, summed], lr=1.0), 0.3).step()
    named: dict[str, Any] = {"sharded": sharded.data, "replicated": replicated.data, "summed": summed.data}
    return {name: one.to_local().clone() for name, one in named.items()}


def _fsdp() -> dict[str, Any]:
    """Weights, whole, after two steps; and the noise of this process's shard of a layer in a third of rate 1."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.manual_seed(0)
    net: Any = fully_shard(nn.Linear(8, 4, bias=False), mesh=init_device_mesh("cpu", (2,)))
    optimizer = GradientNoise(torch.optim.SGD(net.parameters(), lr=0.1), 0.3)
    for step in range(2):
        optimizer.zero_grad()
        net(torch.ones(3, 8) * step).square().mean().backward()
        optimizer.step()
    kept: dict[str, Any] = {"fsdp": {name: one.full_tensor().detach() for name, one in net.state_dict().items()}}
    optimizer.zero_grad()
    (0 * net(torch.ones(3, 8))).sum().backward()
    before = net.weight.data.to_local().clone()
    optimizer.param_groups[0]["lr"] = 1.0
    optimizer.step()
    kept["fsdp_noise"] = net.weight.data.to_local() - before
    return kept
