"""Studies: several arms, trained on the same data with the same budget over the same seeds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from encore.base.configuration import Configuration
from encore.data.contracts import DataSplits
from encore.nn.creation import load
from encore.nn.model import EncoreModel
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord
from encore.tasks.base import Task, remove_checkpoints
from encore.training.trainer import device_of


@dataclass(frozen=True)
class Arm:
    """One competitor of a study.

    Attributes:
        name: what tables call it.
        model: its registered name.
        arguments: of the model, beyond those that all arms share.
    """

    name: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def configuration(self, shared: Configuration) -> Any:
        """The shared configuration with this arm's model."""
        arguments = {**getattr(shared, "model_arguments", {}), **self.arguments}
        return shared.model_copy(update={"model": self.model, "model_arguments": arguments})


@dataclass(frozen=True)
class Study:
    """Arms that differ in their model alone.

    Attributes:
        task: what they learn.
        arms: the competitors; the first is the paper's method.
        splits: the data.
        configuration: a fit configuration that all arms share.
    """

    task: Task
    arms: Sequence[Arm]
    splits: DataSplits
    configuration: Any

    def perform(self, performance: Performance) -> dict[str, list[ArmRecord]]:
        """Train every arm for every seed; what a killed run has finished is not trained again.

        Each training lies in `arms/<arm>/seed<k>/`. Seeds are the outer loop, so that a run that is stopped
        early has complete pairs.

        Returns:
            For each arm its records in the order of the seeds.
        """
        assert performance.folder is not None
        records: dict[str, list[ArmRecord]] = {arm.name: [] for arm in self.arms}
        for seed in performance.seeds:
            for arm in self.arms:
                step = f"arms/{arm.name}/seed{seed}/arm"
                done = performance.folder.finished(step)
                if done:
                    record = ArmRecord.model_validate(done)
                    performance.seconds_before += record.seconds
                else:
                    record = self._train(performance, arm, seed)
                    performance.folder.finish(step, record.model_dump(mode="json"))
                records[arm.name].append(record)
                performance.arms.append(record)
        return records

    def _train(self, performance: Performance, arm: Arm, seed: int) -> ArmRecord:
        assert performance.folder is not None
        folder = performance.folder.subfolder("arms", arm.name, f"seed{seed}")
        trained = self.task.train(
            self.splits,
            arm.configuration(self.configuration),
            runtime=replace(performance.runtime, seed=seed),
            folder=folder,
            progress=performance.progress,
            stage=f"{arm.name}, seed {seed}",
        )
        remove_checkpoints(folder)
        return ArmRecord(
            arm=arm.name,
            seed=seed,
            seconds=round(trained.outcome.seconds, 1),
            metrics=trained.test,
            curves=trained.outcome.curves,
        )

    def models(self, performance: Performance, seed: int) -> dict[str, EncoreModel]:
        """The trained models of all arms for one seed."""
        return {arm.name: load(performance.path / "arms" / arm.name / f"seed{seed}") for arm in self.arms}

    def plan(self, performance: Performance) -> Plan:
        """Time, memory and disk of the study, from one training step of each arm timed on this machine.

        The step is taken on a small crop and scaled by the number of pixels.
        """
        seconds, memory, disk = 0.0, 0, 0
        training = self.configuration.training
        steps = training.epochs * max(len(self.splits.train) // training.batch_size, 1)
        names = []
        for arm in self.arms:
            configuration = arm.configuration(self.configuration)
            model = self.task.make_model(self.splits, configuration, seed=0)
            cost = _step_cost(self.task, model, self.splits, configuration, device_of(performance.runtime))
            parameters = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
            seconds += len(performance.seeds) * steps * cost.seconds
            memory = max(memory, cost.activation_bytes + 4 * parameters)
            disk += len(performance.seeds) * parameters + 6 * parameters
            names.append(f"{arm.name}: {arm.model}, {parameters / 4 / 1e6:.3f} M parameters")
        sizes = ", ".join(f"{part} {size}" for part, size in self.splits.sizes().items())
        return Plan(
            data=[f"{self.splits.name} ({sizes}; {len(self.splits.classes)} classes)"],
            arms=names,
            seeds=list(performance.seeds),
            seconds=1.2 * seconds,
            memory_bytes=memory + 700 * 2**20,
            disk_bytes=disk,
            notes=["time from one training step of each arm, timed here; one fifth added for validation and test"],
        )


@dataclass(frozen=True)
class _StepCost:
    seconds: float
    activation_bytes: int


def _step_cost(
    task: Task, model: EncoreModel, splits: DataSplits, configuration: Any, device: torch.device
) -> _StepCost:
    """Time one forward and backward of a batch of two on a crop, and scale to the batch's pixels."""
    if configuration.training.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = task.module(model, splits, configuration).to(device)
    batch = next(iter(task.loader(splits.train, 2)))
    height, width = batch["image"].shape[-2:]
    rows, columns = min(height, 96), min(width, 128)
    crop = {"image": batch["image"][..., :rows, :columns], "mask": batch["mask"][..., :rows, :columns]}
    crop = {name: tensor.to(device) for name, tensor in crop.items()}
    share = len(crop["image"]) * rows * columns / (configuration.training.batch_size * height * width)
    saved = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += tensor.numel() * tensor.element_size()
        return tensor

    def step() -> None:
        loss = module.training_step(crop, 0)
        assert isinstance(loss, torch.Tensor)
        loss.backward()

    module.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step()
    started = time.perf_counter()
    step()
    elapsed = time.perf_counter() - started
    return _StepCost(elapsed / share, int(saved / share))
