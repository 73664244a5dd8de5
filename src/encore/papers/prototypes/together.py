"""Trains all arms and seeds of one architecture as one stack of networks, which is what a GPU wants of nets this small.

The networks are the same as if each were trained for itself: own initial weights, own order of batches, own
deformations, by the same seeds. Only the sums of a step are made in another order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from encore.base.errors import ConfigurationError, DivergenceError
from encore.base.files import replacing
from encore.base.runtime import Runtime
from encore.base.seeds import derive_seed
from encore.data.classification_augmentation import ClassificationAugmentation
from encore.data.contracts import Samples
from encore.nn.model import EncoreModel
from encore.papers.prototypes.fit import PrototypesFit
from encore.papers.prototypes.prototype_network import PrototypeNetwork
from encore.results.performance import Performance
from encore.results.record import ArmRecord
from encore.tasks.base import TrainedModel
from encore.tasks.classification import TASK
from encore.tasks.study import Arm, Study
from encore.training.configuration import TrainingConfiguration
from encore.training.loading import EpochBatches
from encore.training.trainer import TrainingOutcome, device_of

VALIDATION_BATCH = 1000
"""Pictures that the stack sees at once in validation."""


class _Loss(nn.Module):
    """A network's loss as a function of weights that may differ from one network of the stack to the next."""

    def __init__(self, model: EncoreModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
        """(B, C, H, W), (B, K) and the weights of the terms (4,) → a scalar; a plain network has its cross-entropy."""
        if not isinstance(self.model, PrototypeNetwork):
            return F.cross_entropy(self.model(inputs), targets)
        terms = self.model.own_loss(inputs, targets)
        values = [weight * terms[name] for name, weight in zip(self.model.weights_of_terms, weights, strict=True)]
        return torch.stack(values).sum()


@dataclass
class _Progress:
    """Where the stack is: what a checkpoint holds beside weights and moments."""

    epoch: int = 0
    seconds: float = 0.0
    best: list[float] = field(default_factory=list)
    best_epochs: list[int] = field(default_factory=list)
    curves: list[list[dict[str, float]]] = field(default_factory=list)


def can_train_together(configuration: PrototypesFit, runtime: Runtime) -> bool:
    """Whether a stack trains the same networks: Adam at a constant rate in single precision, and nothing around it."""
    training, augmentation = configuration.training, configuration.augmentation
    plain = TrainingConfiguration(
        epochs=training.epochs,
        batch_size=training.batch_size,
        optimizer="adam",
        learning_rate=training.learning_rate,
        momentum=training.momentum,
        beta2=training.beta2,
        weight_decay=0.0,
        schedule="constant",
        recompute_batch_norm=False,
        num_workers=training.num_workers,
        channels_last=training.channels_last,
        checkpoint_minutes=training.checkpoint_minutes,
    )
    # Others look at colours, or draw a number for each of three channels; a stack of grey networks sees one.
    of_any_channels = ClassificationAugmentation(
        crop="none",
        crop_scale=augmentation.crop_scale,
        crop_proportions=augmentation.crop_proportions,
        crop_padding=augmentation.crop_padding,
        horizontal_flip=augmentation.horizontal_flip,
        elastic_strength=augmentation.elastic_strength,
        elastic_smoothness=augmentation.elastic_smoothness,
    )
    return (
        training == plain
        and augmentation == of_any_channels
        and configuration.weights is None
        and configuration.learnt == "all"
        and configuration.loss == "cross_entropy"
        and configuration.monitor == "accuracy"
        and "encoder" not in configuration.model_arguments
        and runtime.devices == 1
        and runtime.precision == "32-true"
    )


def train_together(study: Study, performance: Performance) -> None:
    """Train what `study` has not finished yet, and finish it as `Study.perform` would.

    A stack that was stopped goes on with all its members, also where some of them have been measured already.

    Raises:
        ConfigurationError: settings that a stack does not know.
        DivergenceError: a loss is not finite.
    """
    if not can_train_together(study.configuration, performance.runtime):
        raise ConfigurationError(
            "batched: arms are trained together on one device in single precision, by Adam at a constant rate, with no "
            "augmentation but mirror images and elastic deformation",
            "leave these settings out, or add batched=false",
        )
    assert performance.folder is not None
    for model in dict.fromkeys(arm.model for arm in study.arms):
        everyone = [(arm, seed) for seed in performance.seeds for arm in study.arms if arm.model == model]
        due = [one for one in everyone if performance.folder.finished(_step(*one)) is None]
        stopped = _checkpoint(performance, model)
        if due and stopped.is_file():
            begun = torch.load(stopped, map_location="cpu", weights_only=True)["members"]
            due = [one for one in everyone if one in due or _step(*one) in begun]
        if due:
            _Stack(study, performance, due).train()
        stopped.unlink(missing_ok=True)


def _step(arm: Arm, seed: int) -> str:
    """What `Study.perform` calls the training of an arm."""
    return f"arms/{arm.name}/seed{seed}/arm"


def _checkpoint(performance: Performance, model: str) -> Path:
    """Where the stack of a model lies until its members are finished."""
    return performance.path / "arms" / f"together_{model}.ckpt"


class _Stack:
    """Networks of one architecture, the members of a study.

    Args:
        study: its data and settings.
        performance: of which this is a part.
        members: arms and seeds.
    """

    def __init__(self, study: Study, performance: Performance, members: Sequence[tuple[Arm, int]]) -> None:
        self.study, self.performance, self.members = study, performance, list(members)
        self.shared: PrototypesFit = study.configuration
        self.device = device_of(performance.runtime)
        self.models = [
            TASK.make_model(study.splits, arm.configuration(self.shared), seed).to(self.device)
            for arm, seed in self.members
        ]
        self.seeds = list(dict.fromkeys(seed for _, seed in self.members))
        self.seed_of = torch.tensor([self.seeds.index(seed) for _, seed in self.members], device=self.device)
        self.parameters, _ = stack_module_state([_Loss(model) for model in self.models])
        self.best = {name: one.detach().clone() for name, one in self.parameters.items()}
        rates = self.shared.training
        self.optimizer = torch.optim.Adam(
            list(self.parameters.values()), lr=rates.learning_rate, betas=(rates.momentum, rates.beta2)
        )
        self.weights = torch.tensor(
            [list(getattr(model, "weights_of_terms", {"": 1.0}).values()) for model in self.models], device=self.device
        )
        self.steps_per_epoch = len(EpochBatches(len(study.splits.train), rates.batch_size, seed=0))
        count = len(self.members)
        self.at = _Progress(best=[-1.0] * count, best_epochs=[0] * count, curves=[[] for _ in range(count)])
        skeleton = _Loss(self.models[0])
        self._losses = vmap(
            lambda parameters, inputs, targets, weights: functional_call(
                skeleton, parameters, (inputs, targets, weights)
            )
        )
        self._logits = vmap(
            lambda parameters, inputs: functional_call(
                skeleton.model, {name.removeprefix("model."): one for name, one in parameters.items()}, (inputs,)
            ),
            in_dims=(0, None),
        )

    @property
    def checkpoint(self) -> Path:
        """One for this stack."""
        return _checkpoint(self.performance, self.members[0][0].model)

    def train(self) -> None:
        """Train to the end, or on from a checkpoint, and finish every member."""
        self._resume()
        pictures, labels = self._on_device(self.study.splits.train)
        val_pictures, val_labels = self._on_device(self.study.splits.val)
        module: Any = TASK.module(self.models[0], self.study.splits, self.shared)
        training, stage = self.shared.training, f"{self.members[0][0].model}: {len(self.members)} networks together"
        batches = [EpochBatches(len(labels), training.batch_size, seed=seed) for seed in self.seeds]
        saved = started = time.monotonic()
        self.seconds_before = before = self.at.seconds
        per_epoch = self.steps_per_epoch
        while self.at.epoch < training.epochs:
            for one in batches:
                one.set_epoch(self.at.epoch)
            total = torch.zeros(len(self.members), device=self.device)
            orders = [[[index for _, index in batch] for batch in one] for one in batches]
            for step in range(per_epoch):
                number = self.at.epoch * per_epoch + step
                inputs, targets = self._batch(module, pictures, labels, [order[step] for order in orders], number)
                losses = self._losses(self.parameters, inputs, targets, self.weights)
                self.optimizer.zero_grad(set_to_none=True)
                losses.sum().backward()
                self.optimizer.step()
                total += losses.detach()
                self.performance.progress.update(stage, number + 1, training.epochs * per_epoch)
            self._close_epoch((total / per_epoch).tolist(), self._accuracies(val_pictures, val_labels), stage)
            self.at.seconds = before + time.monotonic() - started
            if time.monotonic() - saved > 60 * training.checkpoint_minutes:
                self._save()
                saved = time.monotonic()
        self._save()
        self._finish()

    def _on_device(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """All pictures, uint8 in the channels that the networks take, and labels."""
        channels = self.models[0].num_channels
        rows = [samples[index] for index in range(len(samples))]
        grey = channels == 1
        pictures = torch.stack([row["image"][:1] if grey else row["image"] for row in rows])
        return pictures.to(self.device), torch.tensor([row["label"] for row in rows], device=self.device)

    def _batch(
        self, module: Any, pictures: Tensor, labels: Tensor, orders: Sequence[Sequence[int]], step: int
    ) -> tuple[Tensor, Tensor]:
        """Inputs (N, B, C, H, W) and targets (N, B, K) of a step: members of one seed see the same."""
        inputs, targets = [], []
        with torch.no_grad():
            for seed, order in zip(self.seeds, orders, strict=True):
                torch.manual_seed(derive_seed(seed, "step", step, 0))
                chosen = torch.tensor(order, device=self.device)
                images = module.augmentation(pictures[chosen].float() / 255)
                images, target = module.mixing(images, labels[chosen])
                inputs.append(images)
                targets.append(target)
            return torch.stack(inputs)[self.seed_of], torch.stack(targets)[self.seed_of]

    @torch.no_grad()
    def _accuracies(self, pictures: Tensor, labels: Tensor) -> list[float]:
        """Validation accuracy of every member, in percent."""
        right = torch.zeros(len(self.members), device=self.device)
        for first in range(0, len(labels), VALIDATION_BATCH):
            part = slice(first, first + VALIDATION_BATCH)
            answers = self._logits(self.parameters, pictures[part].float() / 255).argmax(2)
            right += (answers == labels[part]).sum(1)
        return (100 * right / len(labels)).tolist()

    def _close_epoch(self, losses: list[float], accuracies: list[float], stage: str) -> None:
        self.at.epoch += 1
        if not all(loss == loss and abs(loss) != float("inf") for loss in losses):
            raise DivergenceError(
                f"a loss was no longer finite in epoch {self.at.epoch} of {stage}",
                "lower the training.learning_rate of this study",
            )
        better = [new > old for new, old in zip(accuracies, self.at.best, strict=True)]
        chosen = torch.tensor(better, device=self.device)
        for name, values in self.parameters.items():
            self.best[name] = torch.where(chosen.view(-1, *(1,) * (values.ndim - 1)), values.detach(), self.best[name])
        for member, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True)):
            row = {"epoch": float(self.at.epoch), "train_loss": loss, "val_accuracy": accuracy}
            self.at.curves[member].append(row)
            if better[member]:
                self.at.best[member], self.at.best_epochs[member] = accuracy, self.at.epoch

    def _save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "members": [_step(*member) for member in self.members],
            "parameters": {name: one.detach() for name, one in self.parameters.items()},
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "at": dict(vars(self.at)),
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def _resume(self) -> None:
        if not self.checkpoint.is_file():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["members"] != [_step(*member) for member in self.members]:
            return  # of another choice of arms
        with torch.no_grad():
            for name, one in self.parameters.items():
                one.copy_(state["parameters"][name])
        self.best = state["best"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.at = _Progress(**state["at"])

    def _finish(self) -> None:
        """Measure every member with its best weights, once, and record it."""
        performance, folder = self.performance, self.performance.folder
        assert folder is not None
        seconds = self.at.seconds / len(self.members)
        for member, (arm, seed) in enumerate(self.members):
            if folder.finished(_step(arm, seed)) is not None:
                continue
            model = self.models[member]
            model.load_state_dict({name.removeprefix("model."): one[member] for name, one in self.best.items()})
            model.eval()
            where = folder.subfolder("arms", arm.name, f"seed{seed}")
            runtime, stage = replace(performance.runtime, seed=seed), f"{arm.name}, seed {seed}"
            measure: Callable[..., Any] = TASK.measure
            parts = self.study.splits
            validation = measure(model, parts.val, runtime, performance.progress, f"{stage}: validation")
            test = measure(model, parts.test, runtime, performance.progress, f"{stage}: test")
            model.save(where)
            outcome = TrainingOutcome(
                curves=self.at.curves[member],
                seconds=seconds,
                best_checkpoint=where,
                best_epoch=self.at.best_epochs[member],
                steps=self.at.epoch * self.steps_per_epoch,
            )
            trained = TrainedModel(model, outcome, validation, test)
            configuration = arm.configuration(self.shared)
            trained = TASK.with_cases(trained, parts, configuration, runtime, where, performance.progress, stage)
            record = ArmRecord(
                arm=arm.name, seed=seed, seconds=round(seconds, 1), metrics=trained.test, curves=outcome.curves
            )
            folder.finish(_step(arm, seed), record.model_dump(mode="json"))
            # `Study.perform` takes finished arms for those of an earlier part of the run, and adds their time to this.
            performance.seconds_before -= record.seconds * (1 - self.seconds_before / max(self.at.seconds, 1e-9))
