"""Recipes whose claims rest on one study: arms that differ in their model, trained alike, and counts beside them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from encore.base.cards import Claim
from encore.base.configuration import Configuration, Settings, configure
from encore.base.runtime import Scale
from encore.data.contracts import DataSplits
from encore.nn.creation import load
from encore.results.performance import Performance, Plan, Recipe
from encore.results.record import ArmRecord, ClaimRecord, comparative_record
from encore.tasks.base import Task
from encore.tasks.study import Arm, Study


@dataclass(frozen=True)
class Comparison:
    """Which arms a claim sets against each other.

    Attributes:
        arm: the one of which the claim says something.
        baselines: those that it is compared with.
    """

    arm: str
    baselines: tuple[str, ...]


class StudyRecipe(Recipe):
    """Trains every arm for every seed on the same data with the same budget, then judges each claim by its metric.

    A run's folder holds, beside `arms/<arm>/seed<k>/`, the method's model of the first seed at its root.

    Attributes:
        task: what the arms learn.
        arms: the competitors; the first is the paper's method, the others carry the names of the card's baselines.
        fit: the configuration's class, which all arms share.
        defaults: its values at each scale.
        comparisons: by claim id, where a claim is not about the first arm against all others. If there are any,
            a claim without one is not this study's.
        exact: functions that measure the claims which need no training, by claim id.
    """

    task: Task
    arms: Sequence[Arm]
    fit: type[Configuration]
    defaults: Mapping[Scale, Settings]
    comparisons: Mapping[str, Comparison] = {}
    exact: Mapping[str, Callable[[Claim], ClaimRecord]] = {}

    @abstractmethod
    def open_data(self, performance: Performance) -> DataSplits:
        """The data of all arms; what stands in for absent data is marked as embedded."""

    def note(self, performance: Performance, splits: DataSplits) -> str:
        """What a reader has to know of the setting of a trained claim."""
        return ""

    def configuration(self, scale: Scale, settings: Settings) -> Any:
        """The configuration that all arms share; `model` is set by each arm."""
        return configure(self.fit, settings, {"model": self.arms[0].model, **self.defaults[scale]})

    def plan(self, performance: Performance) -> Plan:
        """Times one step of every arm, if a claim asks for training."""
        if self.trained_claims(performance):
            return self.study(performance, self.open_data(performance)).plan(performance)
        return Plan(data=[], arms=[], seeds=[], seconds=5, memory_bytes=700 * 2**20, disk_bytes=2**20)

    def perform(self, performance: Performance) -> None:
        """Train the arms if a claim asks for it, then measure and judge every claim."""
        self.perform_study(performance)
        self.perform_exact(performance)

    def perform_study(self, performance: Performance) -> dict[str, list[ArmRecord]]:
        """Train the arms that the claims ask for, and judge these claims; nothing, if none does."""
        trained = self.trained_claims(performance)
        if not trained:
            return {}
        splits = self.open_data(performance)
        study = self.study(performance, splits)
        performance.use_data(splits)
        records = study.perform(performance)
        self._show(study, performance)
        for claim in trained:
            performance.record(self._judged(claim, records, splits, performance))
        return records

    def perform_exact(self, performance: Performance) -> None:
        """Measure the claims that need no training."""
        for claim in performance.claims:
            if claim.id in self.exact:
                performance.record(self.exact[claim.id](claim))

    def trained_claims(self, performance: Performance) -> list[Claim]:
        """The claims of this study that are asked for."""
        known = self.comparisons or {claim.id for claim in performance.card.claims} - self.exact.keys()
        return [claim for claim in performance.claims if claim.id in known]

    def comparison(self, claim: Claim) -> Comparison:
        """What `claim` compares: by default the first arm with all others."""
        default = Comparison(self.arms[0].name, tuple(arm.name for arm in self.arms[1:]))
        return self.comparisons.get(claim.id, default)

    def trained_arms(self, performance: Performance) -> list[Arm]:
        """The arms that the claims asked for compare, in the recipe's order; the first one always."""
        compared = [self.comparison(claim) for claim in self.trained_claims(performance)]
        wanted = {self.arms[0].name, *(name for one in compared for name in (one.arm, *one.baselines))}
        return [arm for arm in self.arms if arm.name in wanted]

    def study(self, performance: Performance, splits: DataSplits) -> Study:
        """The arms that are to be trained, on the data."""
        return Study(self.task, self.trained_arms(performance), splits, performance.configuration)

    def is_pictured(self, arm: str) -> bool:
        """Whether the picture of samples shows what `arm` makes of them."""
        return True

    def _show(self, study: Study, performance: Performance) -> None:
        """A picture of all arms, and the method's model at the root."""
        seed = performance.seeds[0]
        load(study.folder(performance, study.arms[0], seed)).save(performance.path)
        path = performance.path / "examples.png"
        pictured = replace(study, arms=[arm for arm in study.arms if self.is_pictured(arm.name)])
        self.task.picture(pictured.models(performance, seed), study.splits.test, path, performance.runtime)
        caption = f"Test samples of {study.splits.name}, their truth, and what the arms make of them (seed {seed})."
        performance.picture(path, caption)

    def _judged(
        self, claim: Claim, records: Mapping[str, list[ArmRecord]], splits: DataSplits, performance: Performance
    ) -> ClaimRecord:
        compared = self.comparison(claim)
        notes = self.note(performance, splits), self._best_epochs(compared.arm, records, performance)
        return comparative_record(
            claim,
            metric_values(records[compared.arm], claim.metric),
            {name: metric_values(records[name], claim.metric) for name in compared.baselines},
            undecided=self.undecided(claim, splits, performance),
            note=". ".join(part for part in notes if part),
        )

    def undecided(self, claim: Claim, splits: DataSplits, performance: Performance) -> str:
        """Why there can be no verdict on `claim`; empty where there can."""
        return self.stand_in(splits)

    def stand_in(self, splits: DataSplits) -> str:
        """Why there can be no verdict: the embedded data stand in for the paper's; empty if they do not."""
        if not splits.embedded or self.data_name in (None, splits.name):
            return ""
        return f"{splits.name.capitalize()} stands in for {self.data_name}, so there is no verdict"

    def _best_epochs(self, arm: str, records: Mapping[str, list[ArmRecord]], performance: Performance) -> str:
        """How far into its budget an arm got better: at the last epochs it had not levelled off."""
        configuration = performance.configuration
        monitored = f"val_{self.task.monitor(configuration)}"
        curves = [one.curves for one in records[arm]]
        sign = 1 if self.task.better == "max" else -1
        best = [
            max(rows, key=lambda row: sign * row.get(monitored, -sign * math.inf))["epoch"] for rows in curves if rows
        ]
        epochs = ", ".join(f"{epoch:.0f}" for epoch in best)
        return f"Best validation epochs of {arm}: {epochs} of {configuration.training.epochs}" if best else ""


def metric_values(records: Sequence[ArmRecord], metric: str) -> list[float]:
    """One metric of an arm for each seed; where it could not be had (nothing was predicted right) it counts as 0."""
    return [value if (value := record.metrics[metric]) is not None else 0.0 for record in records]
