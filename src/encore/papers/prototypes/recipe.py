"""Performs the claims of Prototypes: accuracy beside a plain network, and what the interpretability terms are for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from encore.base.cards import Claim
from encore.base.configuration import configure
from encore.data.classification import open_classification
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path
from encore.nn.creation import load
from encore.papers.prototypes.fit import PrototypesFit
from encore.papers.prototypes.interpretability import case_measures, draw_prototypes
from encore.papers.prototypes.prototype_network import PrototypeNetwork
from encore.papers.prototypes.scales import DEFAULTS, PrototypesConfiguration
from encore.papers.prototypes.together import can_train_together, train_together
from encore.results.parts import Part, PartsRecipe
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord, ClaimRecord, absolute_record, comparative_record, table_record
from encore.tasks.classification import TASK
from encore.tasks.study import Arm, Study
from encore.tasks.study_recipe import metric_values
from encore.training.trainer import device_of

FitConfiguration = PrototypesFit
"""What `encore fit prototypes` takes."""

METHOD, TWIN, NO_TERMS = "prototypes", "plain_twin", "without_terms"

MNIST_ARMS = (
    Arm(METHOD, "prototypes"),
    Arm(TWIN, "prototypes_twin"),
    Arm(NO_TERMS, "prototypes", {"r1_weight": 0.0, "r2_weight": 0.0}),
    Arm("r1_only", "prototypes", {"r2_weight": 0.0}),
    Arm("r2_only", "prototypes", {"r1_weight": 0.0}),
)
"""The paper's network, its twin, and the ablations of the two interpretability terms."""

SAMPLES_TO_LEARN_FROM = 60_000
"""Pictures for training and validation in all of Fashion-MNIST."""

FASHION_ARMS = (Arm("fashion_prototypes", "prototypes"), Arm("fashion_plain_twin", "prototypes_twin"))

TABLE = "terms"
"""The card's table of the ablations."""

COMPARED = {
    "prototypes_are_cases": NO_TERMS,
    "nearest_example": NO_TERMS,
    "nearest_prototype": NO_TERMS,
    "label_agreement": NO_TERMS,
}
"""Claims on the terms, which a network without them answers."""


class _StudyPart(Part):
    """Trains arms on one named set, and measures them."""

    data_name: str
    arms: Sequence[Arm]

    @abstractmethod
    def fit(self, performance: Performance) -> PrototypesFit:
        """What the arms share."""

    def asked_arms(self, performance: Performance) -> list[Arm]:
        """The arms that the claims asked for need."""
        return list(self.arms)

    def open_data(self, performance: Performance) -> DataSplits:
        """The named set where it is to be had, else scikit-learn's digits; smoke takes the set only if it was named."""
        roots = performance.runtime.data
        wanted = performance.scale != "smoke" or self.data_name in roots
        there = wanted and find_set_path(self.data_name, roots) is not None
        splits = open_classification(self.data_name if there else "digits", roots=roots)
        return TASK.sized(splits, self.fit(performance))

    def study(self, performance: Performance, splits: DataSplits) -> Study:
        """The arms on the data."""
        return Study(TASK, self.asked_arms(performance), splits, self.fit(performance))

    def plan(self, performance: Performance) -> Plan:
        """One step of every arm, timed."""
        plan = self.study(performance, self.open_data(performance)).plan(performance)
        if _together(performance):
            plan.notes.append("arms and seeds are trained together, which takes a fraction of the time said")
        return plan

    def trained(self, study: Study, performance: Performance) -> dict[str, list[ArmRecord]]:
        """The study's records."""
        for arm in study.arms:  # an argument that one arm does not take is named before another is trained
            TASK.make_model(study.splits, arm.configuration(study.configuration), seed=0)
        if _together(performance):
            train_together(study, performance)
        return study.perform(performance)

    def undecided(self, splits: DataSplits) -> str:
        """Why there can be no verdict; empty where there can."""
        return f"{splits.name} stands in for {self.data_name}, so there is no verdict" if splits.embedded else ""

    def setting(self, performance: Performance, splits: DataSplits) -> str:
        """What a reader has to know."""
        fit = self.fit(performance)
        deformed = "elastic deformation" if fit.augmentation.elastic_strength else "no deformation"
        sizes = splits.sizes()
        return (
            f"{splits.name}: {sizes['train']} pictures, {fit.training.epochs} epochs in batches of "
            f"{fit.training.batch_size}, {deformed}; {sizes['val']} pictures picked the epoch, {sizes['test']} were "
            f"tested once; the paper trains for 1500 epochs with deformation"
        )

    def measured_cases(self, study: Study, performance: Performance) -> dict[str, list[dict[str, float]]]:
        """`case_measures` of every arm that has prototypes, by arm and in the order of the seeds."""
        assert performance.folder is not None
        measures: dict[str, list[dict[str, float]]] = {}
        for arm in study.arms:
            if arm.model != "prototypes":
                continue
            for seed in performance.seeds:
                step = f"arms/{arm.name}/seed{seed}/cases"
                done = performance.folder.finished(step)
                if done is None:
                    model = load(study.folder(performance, arm, seed))
                    assert isinstance(model, PrototypeNetwork)
                    runtime = replace(performance.runtime, seed=seed)
                    stage = f"{arm.name}, seed {seed}"
                    done = case_measures(model, study.splits, runtime, performance.progress, stage)
                    performance.folder.finish(step, done)
                measures.setdefault(arm.name, []).append(done)
        return measures

    def pictures(self, study: Study, performance: Performance, name: str) -> None:
        """The prototypes of every arm that has some, of the first seed."""
        seed = performance.seeds[0]
        loaded = {arm.name: load(study.folder(performance, arm, seed)) for arm in study.arms}
        shown = {name: model for name, model in loaded.items() if isinstance(model, PrototypeNetwork)}
        path = performance.path / f"{name}.png"
        draw_prototypes(shown, path)
        performance.picture(
            path,
            f"What the decoder makes of the prototypes on {study.splits.name}, each under the class that it speaks for "
            f"(seed {seed}).",
        )


def _together(performance: Performance) -> bool:
    """Whether arms are trained as one stack: as configured, else on a GPU where the settings allow it."""
    configuration: PrototypesConfiguration = performance.configuration
    if configuration.batched is not None:
        return configuration.batched
    runtime = performance.runtime
    known = all(can_train_together(one, runtime) for one in (configuration.mnist, configuration.fashion))
    return known and device_of(runtime).type == "cuda"


class MnistPart(_StudyPart):
    """Accuracy beside the twin, and the ablations of the two terms."""

    claims = ("mnist_accuracy", *COMPARED)
    data_name = "mnist"
    arms = MNIST_ARMS

    def fit(self, performance: Performance) -> PrototypesFit:
        """What the arms share."""
        configuration: PrototypesConfiguration = performance.configuration
        return configuration.mnist

    def asked_arms(self, performance: Performance) -> list[Arm]:
        """What the claims compare, and with `single_terms` all that the table has."""
        configuration: PrototypesConfiguration = performance.configuration
        if configuration.single_terms and _asks_for_table(performance):
            return list(self.arms)
        wanted = {METHOD, *(baseline for claim, baseline in COMPARED.items() if performance.asks(claim))}
        if performance.asks("mnist_accuracy"):
            wanted.add(TWIN)
        return [arm for arm in self.arms if arm.name in wanted]

    def perform(self, performance: Performance) -> None:
        """Train, measure, judge, draw."""
        splits = self.open_data(performance)
        performance.use_data(splits)
        study = self.study(performance, splits)
        records = self.trained(study, performance)
        measures = self.measured_cases(study, performance)
        undecided, setting = self.undecided(splits), self.setting(performance, splits)
        covered = ", ".join(f"{one['classes_covered']:.0f}" for one in measures[METHOD])
        note = f"{setting}. Of {len(splits.classes)} classes, so many own a prototype, seed by seed: {covered}"
        for claim in performance.claims:
            if claim.id == "mnist_accuracy":
                performance.record(self._accuracy(claim, records, undecided, note))
            elif claim.id in COMPARED:
                performance.record(_compared(claim, measures, undecided, note))
        if _asks_for_table(performance):
            self._table(performance, records, measures, undecided, setting)
        load(study.folder(performance, study.arms[0], performance.seeds[0])).save(performance.path)
        self.pictures(study, performance, "prototypes")

    def _accuracy(self, claim: Claim, records: Mapping[str, list[ArmRecord]], undecided: str, note: str) -> ClaimRecord:
        return comparative_record(
            claim,
            metric_values(records[METHOD], claim.metric),
            {TWIN: metric_values(records[TWIN], claim.metric)},
            undecided=undecided,
            note=note,
        )

    def _table(
        self,
        performance: Performance,
        records: Mapping[str, list[ArmRecord]],
        measures: Mapping[str, list[dict[str, float]]],
        undecided: str,
        setting: str,
    ) -> None:
        table = next(one for one in performance.card.tables if one.id == TABLE)
        rows: dict[str, dict[str, list[float]]] = {}
        for arm, rows_of_arm in records.items():
            rows[arm] = {"accuracy": metric_values(rows_of_arm, "accuracy")}
            for name in [column.metric for column in table.columns if column.metric != "accuracy"]:
                if arm in measures:
                    rows[arm][name] = [one[name] for one in measures[arm]]
        performance.tables.append(table_record(table, rows, undecided=bool(undecided), note=setting))


class FashionPart(_StudyPart):
    """The same network on articles of clothing."""

    claims = ("fashion_accuracy",)
    data_name = "fashion_mnist"
    arms = FASHION_ARMS

    def fit(self, performance: Performance) -> PrototypesFit:
        """What the arms share."""
        configuration: PrototypesConfiguration = performance.configuration
        return configuration.fashion

    def perform(self, performance: Performance) -> None:
        """Train, measure; the claim is a figure of the paper's own setting, elsewhere it has no verdict."""
        splits = self.open_data(performance)
        performance.use_data(splits)
        study = self.study(performance, splits)
        records = self.trained(study, performance)
        measures = self.measured_cases(study, performance)
        method, twin = (arm.name for arm in self.arms)
        claim = next(claim for claim in performance.claims if claim.id in self.claims)
        setting = self.setting(performance, splits)
        undecided = self.undecided(splits) or self.elsewhere(performance, splits)
        replaced = [one["accuracy_after_replacement"] for one in measures[method]]
        covered = ", ".join(f"{one['classes_covered']:.0f}" for one in measures[method])
        performance.record(
            absolute_record(
                claim,
                metric_values(records[method], claim.metric),
                {TWIN: metric_values(records[twin], claim.metric)},
                undecided=undecided,
                note=(
                    f"{setting}. With every prototype replaced by its nearest training example it is right on "
                    f"{sum(replaced) / len(replaced):.1f} %; classes that own a prototype, seed by seed: {covered}"
                ),
            )
        )
        self.pictures(study, performance, "prototypes_fashion")

    def elsewhere(self, performance: Performance, splits: DataSplits) -> str:
        """In what the setting is not the paper's own; empty where it is."""
        sizes = splits.sizes()
        whole = sizes["train"] + sizes["val"] == SAMPLES_TO_LEARN_FROM
        fit, papers = self.fit(performance), configure(PrototypesConfiguration, {}, DEFAULTS["paper"]).fashion
        return "" if whole and fit == papers else "The claim is a figure of the paper's own setting, which this is not"


def _asks_for_table(performance: Performance) -> bool:
    """Whether every claim on the terms is asked for; the table then has the arms that were trained."""
    return all(performance.asks(claim) for claim in COMPARED)


def _compared(claim: Claim, measures: Mapping[str, list[dict[str, float]]], undecided: str, note: str) -> ClaimRecord:
    baseline = COMPARED[claim.id]
    return comparative_record(
        claim,
        [one[claim.metric] for one in measures[METHOD]],
        {baseline: [one[claim.metric] for one in measures[baseline]]},
        undecided=undecided,
        note=note,
    )


class PrototypesRecipe(PartsRecipe):
    """Two studies."""

    data_name = "mnist"
    default_seeds: Mapping[Any, int] = {"smoke": 1, "laptop": 3, "paper": 3}
    parts = (MnistPart(), FashionPart())
    kind = PrototypesConfiguration
    defaults = DEFAULTS


RECIPE = PrototypesRecipe()
