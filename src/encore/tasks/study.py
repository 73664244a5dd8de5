"""Studies: several arms, trained on the same data with the same budget over the same seeds."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.apply_func import move_data_to_device

from encore.base.configuration import Configuration
from encore.data.contracts import DataSplits
from encore.nn.creation import load
from encore.nn.model import EncoreModel, num_parameters
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
        settings: other keys of the configuration in which the arm differs (`{"class_balancing": "none"}`).
    """

    name: str
    model: str
    arguments: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def configuration(self, shared: Configuration) -> Any:
        """The shared configuration with this arm's model and settings."""
        arguments = {**getattr(shared, "model_arguments", {}), **self.arguments}
        return shared.model_copy(update={**self.settings, "model": self.model, "model_arguments": arguments})


@dataclass(frozen=True)
class Study:
    """Arms that differ in their model, or in what else their settings name, and in nothing more.

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
        return {arm.name: load(self.folder(performance, arm, seed)) for arm in self.arms}

    def folder(self, performance: Performance, arm: Arm, seed: int) -> Path:
        """Where the training of `arm` for `seed` lies."""
        return performance.path / "arms" / arm.name / f"seed{seed}"

    def plan(self, performance: Performance) -> Plan:
        """Time, memory and disk of the study, from one training step of each arm timed on this machine.

        The step is taken on the task's example batch and scaled by its share of a full one.
        """
        seconds, memory, disk, checkpoints = 0.0, 0, 0, 0
        training = self.configuration.training
        loading = _loading_seconds(self.task, self.splits, self.configuration)
        steps = training.epochs * max(len(self.splits.train) // training.batch_size, 1)
        names = []
        for arm in self.arms:
            configuration = arm.configuration(self.configuration)
            model = self.task.make_model(self.splits, configuration, seed=0)
            cost = _step_cost(self.task, model, self.splits, configuration, device_of(performance.runtime))
            size = sum(tensor.nbytes for tensor in model.state_dict().values())
            seconds += len(performance.seeds) * steps * (cost.seconds + loading)
            # Weights, gradients and two moments; in a checkpoint no gradients, and there are two, removed at the end.
            memory = max(memory, cost.activation_bytes + 4 * size)
            checkpoints = max(checkpoints, 2 * 3 * size)
            disk += len(performance.seeds) * size
            names.append(f"{arm.name}: {arm.model}, {num_parameters(model) / 1e6:.3f} M parameters")
        sizes = ", ".join(f"{part} {size}" for part, size in self.splits.sizes().items())
        return Plan(
            data=[f"{self.splits.name} ({sizes}; {len(self.splits.classes)} classes)"],
            arms=names,
            seeds=list(performance.seeds),
            seconds=1.2 * seconds,
            memory_bytes=memory + 700 * 2**20,
            disk_bytes=disk + checkpoints,
            notes=["time from one training step of each arm, timed here; one fifth added for validation and test"],
        )


@dataclass(frozen=True)
class _StepCost:
    seconds: float
    activation_bytes: int


def _step_cost(
    task: Task, model: EncoreModel, splits: DataSplits, configuration: Any, device: torch.device
) -> _StepCost:
    """Time one forward and backward of the example batch, and scale to a full one."""
    if configuration.training.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    module = task.module(model, splits, configuration).to(device)
    example, share = task.example_batch(splits, configuration)
    batch = move_data_to_device(example, device)
    saved = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += tensor.nbytes
        return tensor

    def step() -> None:
        loss = module.training_step(batch, 0)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    module.train()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        step()
    elapsed = _quickest(step)
    return _StepCost(elapsed / share, int(saved / share))


def _loading_seconds(task: Task, splits: DataSplits, configuration: Any) -> float:
    """Time to load and augment a batch in the training process; workers of their own load meanwhile."""
    if configuration.training.num_workers > 0:
        return 0.0
    samples = task.training_set(splits, configuration, seed=0)
    samples[0, 0]  # the first time also pays for what is set up once
    return _quickest(lambda: samples[0, 0]) * configuration.training.batch_size


def _quickest(work: Callable[[], Any], repetitions: int = 3) -> float:
    """Seconds of the quickest of a few repetitions, which other programs have disturbed least."""
    times = []
    for _ in range(repetitions):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
