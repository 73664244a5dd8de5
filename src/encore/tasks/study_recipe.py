"""Recipes whose claims rest on one study: arms that differ in their model, trained alike, and counts beside them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
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


class StudyRecipe(Recipe):
    """Trains every arm for every seed on the same data with the same budget, then judges each claim by its metric.

    A run's folder holds, beside `arms/<arm>/seed<k>/`, the method's model of the first seed at its root.

    Attributes:
        task: what the arms learn.
        arms: the competitors; the first is the paper's method, the others carry the names of the card's baselines.
        fit: the configuration's class, which all arms share.
        defaults: its values at each scale.
        exact: functions that measure the claims which need no training, by claim id.
    """

    task: Task
    arms: Sequence[Arm]
    fit: type[Configuration]
    defaults: Mapping[Scale, Settings]
    exact: Mapping[str, Callable[[Claim], ClaimRecord]] = {}

    @abstractmethod
    def open_data(self, performance: Performance) -> DataSplits:
        """The data of all arms; what stands in for absent data is marked as embedded."""

    def note(self, performance: Performance) -> str:
        """What a reader has to know of the setting of a trained claim."""
        return ""

    def configuration(self, scale: Scale, settings: Settings) -> Any:
        """The configuration that all arms share; `model` is set by each arm."""
        return configure(self.fit, settings, {"model": self.arms[0].model, **self.defaults[scale]})

    def plan(self, performance: Performance) -> Plan:
        """Times one step of every arm, if a claim asks for training."""
        if self._trained_claims(performance):
            return self._study(performance).plan(performance)
        return Plan(data=[], arms=[], seeds=[], seconds=5, memory_bytes=700 * 2**20, disk_bytes=2**20)

    def perform(self, performance: Performance) -> None:
        """Train the arms if a claim asks for it, then measure and judge every claim."""
        trained = self._trained_claims(performance)
        if trained:
            study = self._study(performance)
            performance.use_data(study.splits)
            records = study.perform(performance)
            self._show(study, performance)
            for claim in trained:
                performance.record(self._judged(claim, records, study.splits, performance))
        for claim in performance.claims:
            if claim.id in self.exact:
                performance.record(self.exact[claim.id](claim))

    def _trained_claims(self, performance: Performance) -> list[Claim]:
        return [claim for claim in performance.claims if claim.id not in self.exact]

    def _study(self, performance: Performance) -> Study:
        return Study(self.task, self.arms, self.open_data(performance), performance.configuration)

    def _show(self, study: Study, performance: Performance) -> None:
        """A picture of all arms, and the method's model at the root."""
        seed = performance.seeds[0]
        load(study.folder(performance, self.arms[0], seed)).save(performance.path)
        path = performance.path / "examples.png"
        self.task.picture(study.models(performance, seed), study.splits.test, path, performance.runtime)
        performance.picture(path, f"Test samples of {study.splits.name}, their truth, and every arm (seed {seed}).")

    def _judged(
        self, claim: Claim, records: Mapping[str, list[ArmRecord]], splits: DataSplits, performance: Performance
    ) -> ClaimRecord:
        values = {name: [_metric(one, claim.metric) for one in arm] for name, arm in records.items()}
        method = values.pop(self.arms[0].name)
        wanted = self.data_name
        stands_in = splits.embedded and wanted not in (None, splits.name)
        return comparative_record(
            claim,
            method,
            values,
            undecided=f"{splits.name.capitalize()} stands in for {wanted}, so there is no verdict" if stands_in else "",
            note=". ".join(part for part in (self.note(performance), self._best_epochs(records, performance)) if part),
        )

    def _best_epochs(self, records: Mapping[str, list[ArmRecord]], performance: Performance) -> str:
        """How far into its budget the method got better: at the last epochs it had not levelled off."""
        configuration = performance.configuration
        monitored = f"val_{self.task.monitor(configuration)}"
        curves = [one.curves for one in records[self.arms[0].name]]
        best = [max(rows, key=lambda row: row.get(monitored, float("-inf")))["epoch"] for rows in curves if rows]
        epochs = ", ".join(f"{epoch:.0f}" for epoch in best)
        return (
            f"Best validation epochs of {self.arms[0].name}: {epochs} of {configuration.training.epochs}"
            if best
            else ""
        )


def _metric(record: ArmRecord, name: str) -> float:
    """A metric that could not be had (nothing was predicted right) counts as 0."""
    value = record.metrics[name]
    return 0.0 if value is None else value
