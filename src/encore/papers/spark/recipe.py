"""Performs SparK's claims: pre-training and fine-tuning with few labels, ablations, and what masking does to a net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from encore.base.cards import Claim
from encore.base.configuration import Settings, configure
from encore.base.errors import DataError
from encore.base.runtime import Scale
from encore.data.classification import open_classification
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path, open_set
from encore.data.sets.streets import open_streets
from encore.data.splits import Subset, shuffled, some
from encore.data.unlabelled import WithoutTruth
from encore.nn.creation import load
from encore.papers.spark.effects import EXACT, effect_pictures
from encore.papers.spark.fit import SparKFit
from encore.papers.spark.scales import DEFAULTS, SparKConfiguration
from encore.results.performance import Performance, Plan, Recipe
from encore.results.record import ArmRecord, comparative_record
from encore.tasks.classification import TASK as CLASSIFICATION
from encore.tasks.classification import ClassificationFit
from encore.tasks.masked_pretraining import TASK as PRETRAINING
from encore.tasks.segmentation import TASK as SEGMENTATION
from encore.tasks.segmentation import SegmentationFit
from encore.tasks.study import Arm, Study
from encore.tasks.study_recipe import Comparison, metric_values

FitConfiguration = SparKFit
"""What `encore fit spark` takes."""

SPARK, SCRATCH = "spark", "scratch"

PRETRAINED: dict[str, dict[str, Any]] = {
    SPARK: {},
    "zero_out": {"encoding": "zero_out"},
    "single_scale": {"hierarchy": False},
    "mask_30": {"mask_ratio": 0.3},
    "mask_90": {"mask_ratio": 0.9},
}
"""How each arm is pre-trained otherwise than SparK; names are those of the card's figures."""

COMPARISONS = {
    "finetuned_accuracy": Comparison(SPARK, (SCRATCH,)),
    "sparse_encoding": Comparison(SPARK, ("zero_out", SCRATCH)),
    "hierarchy": Comparison(SPARK, ("single_scale",)),
    "mask_ratio": Comparison(SPARK, ("mask_30", "mask_90")),
}
"""What the claims on classification set against each other."""

DENSE = "dense_transfer"
IMAGENET = "imagenet"


@dataclass(frozen=True)
class _Data:
    """The same pictures without and with their labels."""

    unlabelled: DataSplits
    labelled: DataSplits


class SparKRecipe(Recipe):
    """Pre-trains each arm for every seed, fine-tunes what came out and a net from scratch alike, measures both."""

    data_name = "mnist"
    default_seeds = {"smoke": 1, "laptop": 5, "paper": 3}  # noqa: RUF012

    def configuration(self, scale: Scale, settings: Settings) -> SparKConfiguration:
        """The configuration at `scale`."""
        return configure(SparKConfiguration, settings, DEFAULTS[scale])

    # what is asked for

    def _compared(self, performance: Performance) -> list[tuple[Claim, Comparison]]:
        return [(claim, COMPARISONS[claim.id]) for claim in performance.claims if claim.id in COMPARISONS]

    def _arms(self, performance: Performance) -> list[str]:
        """The arms that the claims compare, pre-trained ones in the order of `PRETRAINED`, then scratch."""
        wanted = {name for _, one in self._compared(performance) for name in (one.arm, *one.baselines)}
        return [name for name in (*PRETRAINED, SCRATCH) if name in wanted]

    def plan(self, performance: Performance) -> Plan:
        """Times one step of every training that is asked for."""
        plans = [study.plan(performance) for study in self._studies(performance)]
        return Plan(
            data=list(dict.fromkeys(one for plan in plans for one in plan.data)),
            arms=[one for plan in plans for one in plan.arms],
            seeds=list(performance.seeds),
            seconds=15 + sum(plan.seconds for plan in plans),
            memory_bytes=max((plan.memory_bytes for plan in plans), default=700 * 2**20),
            disk_bytes=2**20 + sum(plan.disk_bytes for plan in plans),
            notes=list(dict.fromkeys(one for plan in plans for one in plan.notes)),
        )

    def _studies(self, performance: Performance) -> list[Study]:
        studies = []
        if self._compared(performance):
            data = self._open_data(performance)
            studies.append(self._pretraining(performance, data))
            studies.append(self._finetuning(performance, data, dict.fromkeys(self._arms(performance))))
        if performance.asks(DENSE):
            streets = self._open_streets(performance)
            studies.append(self._dense_pretraining(performance, streets))
            studies.append(self._dense_finetuning(performance, streets, {SPARK: None, SCRATCH: None}))
        return studies

    def perform(self, performance: Performance) -> None:
        """Everything that is asked for, cheap parts first."""
        for claim in performance.claims:
            if claim.id in EXACT:
                performance.record(EXACT[claim.id](claim))
        if performance.asks(*EXACT):
            for path, caption in effect_pictures(performance.path):
                performance.picture(path, caption)
        self._perform_few_labels(performance)
        self._perform_dense(performance)

    # few labels

    def _open_data(self, performance: Performance) -> _Data:
        """ImageNet at the paper's scale; else MNIST where it is to be had, else scikit-learn's digits.

        Raises:
            DataError: the paper's scale without ImageNet.
        """
        configuration: SparKConfiguration = performance.configuration
        roots = performance.runtime.data
        if performance.scale == "paper":
            if find_set_path(IMAGENET, roots) is None:
                raise DataError(
                    "the paper's scale trains on ImageNet, which is not here",
                    "say where it lies: --data imagenet=PATH, a folder with train/ and val/",
                )
            name = IMAGENET
        else:
            wanted = performance.scale != "smoke" or self.data_name in roots
            name = self.data_name if wanted and find_set_path(self.data_name, roots) is not None else "digits"
        splits = open_classification(name, roots=roots)
        unlabelled = replace(
            splits,
            train=WithoutTruth(some(splits.train, configuration.unlabelled)),
            val=WithoutTruth(some(splits.val, configuration.validation)),
            test=WithoutTruth(some(splits.test, configuration.test)),
            classes=(),
        )
        labelled = replace(
            splits,
            val=some(splits.val, configuration.validation),
            test=some(splits.test, configuration.test),
        )
        return _Data(
            PRETRAINING.sized(unlabelled, configuration.pretraining),
            CLASSIFICATION.sized(labelled, configuration.finetuning),
        )

    def _pretraining(self, performance: Performance, data: _Data) -> Study:
        names = [name for name in self._arms(performance) if name != SCRATCH]
        arms = [Arm(f"pretraining_{name}", "spark", {}, PRETRAINED[name]) for name in names]
        return Study(PRETRAINING, arms, data.unlabelled, performance.configuration.pretraining)

    def _finetuning(self, performance: Performance, data: _Data, weights: Mapping[str, Path | None]) -> Study:
        shared: ClassificationFit = performance.configuration.finetuning
        arms = [
            Arm(name, shared.model, {}, {"weights": None if path is None else str(path)})
            for name, path in weights.items()
        ]
        return Study(CLASSIFICATION, arms, data.labelled, shared)

    def _perform_few_labels(self, performance: Performance) -> None:
        compared = self._compared(performance)
        if not compared:
            return
        data = self._open_data(performance)
        performance.use_data(replace(data.unlabelled, name=f"{data.unlabelled.name} without labels"))
        performance.use_data(data.labelled)
        pretraining = self._pretraining(performance, data)
        losses = pretraining.perform(performance)
        names = self._arms(performance)

        def weights(seed: int) -> dict[str, Path | None]:
            folders = {arm.name: pretraining.folder(performance, arm, seed) for arm in pretraining.arms}
            return {name: folders.get(f"pretraining_{name}") for name in names}

        records: dict[str, list[ArmRecord]] = {name: [] for name in names}
        for seed in performance.seeds:
            study = self._finetuning(performance, data, weights(seed))
            for name, rows in study.perform(replace(performance, seeds=(seed,))).items():
                records[name] += rows
        shown = {name: metric_values(rows, "masked_loss") for name, rows in losses.items()}
        for claim, one in compared:
            performance.record(
                comparative_record(
                    claim,
                    metric_values(records[one.arm], claim.metric),
                    {name: metric_values(records[name], claim.metric) for name in one.baselines},
                    undecided=self._stand_in(data.labelled),
                    note=self._note(performance, data, one, shown),
                )
            )
        self._show(performance, pretraining)

    def _note(
        self, performance: Performance, data: _Data, compared: Comparison, losses: Mapping[str, Sequence[float]]
    ) -> str:
        configuration: SparKConfiguration = performance.configuration
        pretrained = [name for name in (compared.arm, *compared.baselines) if name != SCRATCH]
        pretext = ", ".join(
            f"{name} {sum(values) / len(values):.3f}"
            for name in pretrained
            for values in [losses[f"pretraining_{name}"]]
        )
        return (
            f"{data.labelled.name}: pre-trained on {len(data.unlabelled.train)} pictures without labels for "
            f"{configuration.pretraining.training.epochs} epochs, fine-tuned with {len(data.labelled.train)} labels "
            f"for {configuration.finetuning.training.epochs}; {len(data.labelled.val)} labelled pictures picked the "
            f"epoch, {len(data.labelled.test)} were tested once. All arms share network, budget and seeds. Loss on "
            f"masked cells of test pictures, each under its own mask ratio: {pretext}; a lower one does not mean "
            f"better features"
        )

    def _stand_in(self, splits: DataSplits) -> str:
        return f"{splits.name} stands in for {self.data_name}, so there is no verdict" if splits.embedded else ""

    def _show(self, performance: Performance, pretraining: Study) -> None:
        """The encoder's run at the root, and what the arms paint."""
        seed = performance.seeds[0]
        models = {
            arm.name.removeprefix("pretraining_"): load(pretraining.folder(performance, arm, seed))
            for arm in pretraining.arms
        }
        first = next(iter(models.values()))
        first.save(performance.path)
        PRETRAINING.deliverable(first).save(performance.path / "encoder")
        shown = {name: model for name, model in models.items() if not name.startswith("mask_")}
        path = performance.path / "examples.png"
        PRETRAINING.picture(shown, pretraining.splits.test, path, performance.runtime)
        performance.picture(
            path,
            f"Test pictures of {pretraining.splits.name}, their visible part, and what the pre-trained arms paint "
            f"(seed {seed}).",
        )

    # segmentation

    def _open_streets(self, performance: Performance) -> DataSplits:
        """CamVid where it is to be had, else Streets; smoke takes Streets."""
        configuration: SparKConfiguration = performance.configuration
        size, roots = configuration.dense_finetuning.image_size, performance.runtime.data
        if performance.scale != "smoke" and find_set_path("camvid", roots) is not None:
            return open_set("camvid", image_size=size, seed=0, roots=roots)
        train, val, test = (32, 10, 10) if performance.scale == "smoke" else (367, 101, 233)
        return open_streets(image_size=size or (96, 128), train=train, val=val, test=test)

    def _dense_pretraining(self, performance: Performance, splits: DataSplits) -> Study:
        unlabelled = replace(
            splits,
            train=WithoutTruth(splits.train),
            val=WithoutTruth(splits.val),
            test=WithoutTruth(splits.test),
            classes=(),
        )
        configuration: SparKFit = performance.configuration.dense_pretraining
        arms = [Arm("pretraining_dense", "spark")]
        return Study(PRETRAINING, arms, PRETRAINING.sized(unlabelled, configuration), configuration)

    def _dense_finetuning(
        self, performance: Performance, splits: DataSplits, weights: Mapping[str, Path | None]
    ) -> Study:
        shared: SegmentationFit = performance.configuration.dense_finetuning
        few = replace(splits, train=Subset(splits.train, _spread(len(splits.train), performance.configuration)))
        arms = [
            Arm(f"dense_{name}", shared.model, {} if path is None else {"backbone_weights": str(path)})
            for name, path in weights.items()
        ]
        return Study(SEGMENTATION, arms, few, shared)

    def _perform_dense(self, performance: Performance) -> None:
        claim = next((claim for claim in performance.claims if claim.id == DENSE), None)
        if claim is None:
            return
        splits = self._open_streets(performance)
        pretraining = self._dense_pretraining(performance, splits)
        few = self._dense_finetuning(performance, splits, {SCRATCH: None}).splits
        performance.use_data(replace(pretraining.splits, name=f"{splits.name} without masks"))
        performance.use_data(few)
        pretraining.perform(performance)
        records: dict[str, list[ArmRecord]] = {SPARK: [], SCRATCH: []}
        for seed in performance.seeds:
            folder = pretraining.folder(performance, pretraining.arms[0], seed)
            study = self._dense_finetuning(performance, splits, {SPARK: folder, SCRATCH: None})
            rows = study.perform(replace(performance, seeds=(seed,)))
            for name, kept in records.items():
                kept += rows[f"dense_{name}"]
        configuration: SparKConfiguration = performance.configuration
        performance.record(
            comparative_record(
                claim,
                metric_values(records[SPARK], claim.metric),
                {SCRATCH: metric_values(records[SCRATCH], claim.metric)},
                undecided="Smoke scale only shows that it runs" if performance.scale == "smoke" else "",
                note=(
                    f"{splits.name}: pre-trained on {len(splits.train)} pictures for "
                    f"{configuration.dense_pretraining.training.epochs} epochs, then UPerNet on that encoder "
                    f"fine-tuned with {configuration.dense_labels} masks for "
                    f"{configuration.dense_finetuning.training.epochs}"
                ),
            )
        )


def _spread(total: int, configuration: SparKConfiguration) -> list[int]:
    """Indices of `dense_labels` samples, drawn once."""
    return sorted(shuffled(total, 0)[: configuration.dense_labels])


RECIPE = SparKRecipe()
