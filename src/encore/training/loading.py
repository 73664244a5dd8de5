"""Loaders whose order is a function of seed and epoch, so that nothing has to be remembered to resume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Subset

from encore.base.seeds import derive_seed
from encore.data.contracts import Samples

EpochIndex = tuple[int, int]


class EpochBatches:
    """A batch sampler: every sample once per epoch, in an order drawn from seed and epoch.

    Yields lists of (epoch, index) pairs, so that an augmenting dataset can derive its random numbers from
    both. A last batch of one sample is left out, since batch normalisation cannot learn from it.

    Args:
        num_samples: samples in the dataset.
        batch_size: samples in a batch, on this process.
        seed: of the order.
        start_epoch, start_batch: where a resumed training goes on.
        rank, num_replicas: the share of a process in distributed training.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        seed: int,
        start_epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        num_replicas: int = 1,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.seed = seed
        self.start_epoch = start_epoch
        self.start_batch = start_batch
        self.rank = rank
        self.num_replicas = num_replicas
        self.epoch = start_epoch

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of `epoch` from now on."""
        self.epoch = epoch

    def _share(self) -> int:
        return -(-self.num_samples // self.num_replicas)

    def __len__(self) -> int:
        full, rest = divmod(self._share(), self.batch_size)
        return max(full + (rest > 1), 1)

    def __iter__(self) -> Iterator[list[EpochIndex]]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", self.epoch))
        order = torch.randperm(self.num_samples, generator=generator).tolist()
        padded = order + order[: self._share() * self.num_replicas - self.num_samples]
        mine = padded[self.rank :: self.num_replicas]
        first = self.start_batch if self.epoch == self.start_epoch else 0
        for batch in range(first, len(self)):
            indices = mine[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in indices]


def training_loader(dataset: Samples, batches: EpochBatches, num_workers: int) -> DataLoader[Any]:
    """A loader over `dataset`, whose `__getitem__` takes (epoch, index) pairs."""
    return DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_sampler=batches,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def without_single_rest(dataset: Samples, batch_size: int) -> Samples:
    """`dataset` without its last sample, where that would be a batch of its own; training leaves it out too."""
    if len(dataset) % batch_size != 1 or len(dataset) == 1:
        return dataset
    return Subset(dataset, range(len(dataset) - 1))  # type: ignore[arg-type]


def plain_loader(dataset: Samples, batch_size: int, num_workers: int = 0) -> DataLoader[Any]:
    """A loader in the dataset's own order, every sample once."""
    loader: DataLoader[Any] = DataLoader(
        dataset,  # type: ignore[arg-type]
        batch_size=batch_size,
        num_workers=num_workers,
        shuffle=False,
    )
    return loader
