"""Performs HorNet's claims: mixers in one skeleton on CIFAR-10, the probe on pairs of digits, sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, model_validator

from encore.base.cards import Claim
from encore.base.errors import DataError
from encore.base.runtime import Scale
from encore.data.classification import open_classification
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path
from encore.data.sets.digit_pairs import open_digit_pairs
from encore.data.splits import some
from encore.nn.creation import create_model
from encore.nn.macs import macs
from encore.papers.hornet.pictures import accuracy_per_mac_picture, probe_picture
from encore.papers.hornet.sizes import EXACT, measured_sizes
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord, comparative_record, table_record
from encore.tasks.classification import TASK, ClassificationFit
from encore.tasks.study import Arm, Study
from encore.tasks.study_recipe import Comparison, StudyRecipe, metric_values

IMAGENET = "imagenet"
METHOD = "hornet_7x7"
GF = "hornet_gf"

_SKELETON: dict[str, Any] = {
    "width": 32,
    "depths": [1, 2, 1],
    "stem": [4, 2],
    "layer_scale": 1.0,
    "initialisation": "xavier",
}
"""A pyramid for pictures of 32×32: maps of 16, 8 and 4 pixels a side."""

_ORDERS = {"orders": [2, 3, 4], "filters": [None, None, None]}

ARMS = (
    Arm(METHOD, "hornet", {**_SKELETON, **_ORDERS}),
    Arm(GF, "hornet", {**_SKELETON, **_ORDERS, "filters": [None, [8, 5], [4, 3]]}),
    Arm("gated", "hornet_gated", _SKELETON),
    Arm("depthwise_matched", "hornet_depthwise_matched", _SKELETON),
    Arm("window_attention", "hornet_window_attention", {**_SKELETON, "window": 8}),
    # ConvNeXt's mixer, with about as many multiply-accumulates as HorNet's skeleton by two more blocks.
    Arm("convnext", "hornet_depthwise", {**_SKELETON, "depths": [1, 4, 1]}),
)
"""On CIFAR-10; names are those of the card's figures."""

PAPER_ARMS = (
    Arm(METHOD, "hornet_tiny_7x7", {"drop_path": 0.2}),
    Arm(GF, "hornet_tiny_gf", {"drop_path": 0.2}),
    Arm("gated", "hornet_gated", {"drop_path": 0.2}),
    Arm("depthwise_matched", "hornet_depthwise_matched", {"drop_path": 0.2}),
    Arm("window_attention", "swin_tiny", {"drop_path": 0.2}),
    Arm("convnext", "convnext_tiny", {"drop_path": 0.1}),
)
"""On ImageNet, at the paper's sizes."""

GF_GRADIENT_CLIP = 1.0
"""On ImageNet the authors clip global filters' gradients harder than the 5 of the rest."""

COMPARISONS = {
    "imagenet_accuracy": Comparison(METHOD, ("window_attention", "convnext")),
    "interaction_order": Comparison(METHOD, ("gated", "depthwise_matched", "window_attention")),
    "global_filter": Comparison(GF, (METHOD,)),
}
"""What the claims on photographs set against each other."""

_PROBE: dict[str, Any] = {
    "width": 32,
    "depths": [3],
    "stem": [3, 1],
    "layer_scale": 1.0,
    "initialisation": "xavier",
}

PROBE_ARMS = (
    Arm("order_4", "hornet", {**_PROBE, "orders": [4], "filters": [None]}),
    Arm("order_2", "hornet", {**_PROBE, "orders": [2], "filters": [None]}),
    Arm("gated", "hornet_gated", _PROBE),
    Arm("depthwise_matched", "hornet_depthwise_matched", _PROBE),
    Arm("window_attention", "hornet_window_attention", {**_PROBE, "window": 16}),
)
"""On pairs of digits; the window covers the whole picture."""

PROBE_CLAIMS = {"interaction_probe": 0, "interaction_probe_long": 1}
"""Which of the two budgets a claim is about."""


class HorNetFit(ClassificationFit):
    """Keys of `encore fit hornet`.

    Attributes:
        size: `tiny`, `small`, `base` or `large`.
        form: `7x7` convolutions, or global filters: `gf`, and `gf_img384`, which takes pictures at 384×384 where
            `image_size` does not say otherwise.
        model: another registered model instead.
    """

    size: Literal["tiny", "small", "base", "large"] = "tiny"
    form: Literal["7x7", "gf", "gf_img384"] = "7x7"
    model: str = ""

    @model_validator(mode="before")
    @classmethod
    def _named_by_size_and_form(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and not values.get("model"):
            size, form = values.get("size", "tiny"), values.get("form", "7x7")
            if form == "gf_img384" and size in ("tiny", "small"):
                raise ValueError(f"there is no hornet_{size}_{form}; form gf_img384 is of the base and large sizes")
            size_of_pictures = {"image_size": [384, 384]} if form == "gf_img384" else {}
            return {**size_of_pictures, **values, "model": f"hornet_{size}_{form}"}
        return values


FitConfiguration = HorNetFit
"""What `encore fit hornet` takes."""


class HorNetConfiguration(ClassificationFit):
    """Keys of `encore run hornet`: those of the photographs, and under `probe` those of the pairs of digits.

    Attributes:
        test_samples: how many of the test pictures are measured; null for all.
        probe: the training on pairs of digits; its epochs are set by `probe_steps`.
        probe_steps: the two budgets, which are always shown together.
    """

    test_samples: int | None = Field(default=None, ge=10)
    probe: ClassificationFit = Field(default_factory=ClassificationFit)
    probe_steps: tuple[int, int] = (400, 1200)


_PLAIN: dict[str, Any] = {"crop": "none", "horizontal_flip": 0.0}

_SMALL: dict[str, Any] = {
    "train_samples": 8_000,
    "test_samples": 5_000,
    "label_smoothing": 0.1,
    "augmentation": {"crop": "padded", "crop_padding": 4, "horizontal_flip": 0.5},
    "training": {
        "epochs": 4,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "weight_decay": 0.05,
        "schedule": "one_cycle",
        "gradient_clip": 5.0,
        "recompute_batch_norm": False,
    },
    "probe": {
        "label_smoothing": 0.0,
        "augmentation": _PLAIN,
        "training": {
            "epochs": 1,
            "batch_size": 64,
            "learning_rate": 3e-3,
            "schedule": "one_cycle",
            "gradient_clip": 5.0,
            "recompute_batch_norm": False,
        },
    },
}

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        **_SMALL,
        "train_samples": 256,
        "test_samples": 100,
        "augmentation": _PLAIN,
        "training": {**_SMALL["training"], "epochs": 1},
        "probe_steps": [2, 4],
    },
    "laptop": _SMALL,
    # Section 2.5 of the official TRAINING.md; 4,096 pictures a step over all devices.
    "paper": {
        **_SMALL,
        "train_samples": None,
        "test_samples": None,
        "image_size": [224, 224],
        "interpolation": "bicubic",
        "label_smoothing": 0.1,
        "mixup": 0.8,
        "cutmix": 1.0,
        "augmentation": {
            "crop": "resized",
            "crop_scale": [0.08, 1.0],
            "horizontal_flip": 0.5,
            "rand_augment": 2,
            "rand_augment_magnitude": 9,
            "random_erasing": 0.25,
            "random_erasing_fill": "noise",
        },
        "training": {
            "epochs": 300,
            "batch_size": 4096,
            "optimizer": "adamw",
            "learning_rate": 4e-3,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "warmup_epochs": 20,
            "ema_decay": 0.9999,
            "gradient_clip": 5.0,
            "recompute_batch_norm": False,
            "num_workers": 8,
        },
    },
}


class HorNetRecipe(StudyRecipe):
    """Trains the mixers on photographs and on pairs of digits; counts parameters and multiply-accumulates."""

    data_name = "cifar10"
    default_seeds = {"smoke": 1, "laptop": 3, "paper": 3}  # noqa: RUF012
    task = TASK
    arms = ARMS
    fit = HorNetConfiguration
    defaults = DEFAULTS
    comparisons = COMPARISONS
    exact = EXACT

    def open_data(self, performance: Performance) -> DataSplits:
        """ImageNet at the paper's scale; else CIFAR-10 where it is to be had, else scikit-learn's digits.

        Raises:
            DataError: the paper's scale without ImageNet.
        """
        configuration, roots = performance.configuration, performance.runtime.data
        if performance.scale == "paper":
            if find_set_path(IMAGENET, roots) is None:
                raise DataError(
                    "the paper's scale trains on ImageNet, which is not here",
                    "say where it lies: --data imagenet=PATH, a folder with train/ and val/",
                )
            return self.task.sized(open_classification(IMAGENET, roots=roots), configuration)
        wanted = performance.scale != "smoke" or self.data_name in roots
        there = wanted and find_set_path(self.data_name, roots) is not None
        splits = open_classification(self.data_name if there else "digits", roots=roots)
        few = replace(splits, test=some(splits.test, configuration.test_samples))
        return self.task.sized(few, configuration)

    def study(self, performance: Performance, splits: DataSplits) -> Study:
        """The arms that are to be trained; at the paper's scale those of the paper's sizes."""
        study = super().study(performance, splits)
        if performance.scale != "paper":
            return study
        names = {arm.name for arm in study.arms}
        gentle = study.configuration.training.model_copy(update={"gradient_clip": GF_GRADIENT_CLIP})
        return replace(
            study,
            arms=[
                replace(arm, settings={"training": gentle}) if arm.name == GF else arm
                for arm in PAPER_ARMS
                if arm.name in names
            ],
        )

    def note(self, performance: Performance, splits: DataSplits) -> str:
        """The setting, in words."""
        training = performance.configuration.training
        sizes = splits.sizes()
        height, width = splits.val[0]["image"].shape[1:]
        return (
            f"{splits.name}, {sizes['train']} training pictures of {height}×{width}, {training.epochs} epochs in "
            f"batches of {training.batch_size}; all arms share skeleton, data, budget, optimiser and seeds; "
            f"{self._costs(performance, splits)}; the best validation epoch was tested once"
        )

    def undecided(self, claim: Claim, splits: DataSplits, performance: Performance) -> str:
        """A claim about ImageNet and networks of full size is decided there alone."""
        if claim.id == "imagenet_accuracy" and performance.scale != "paper":
            return f"The claim is about ImageNet and full size; this is {splits.name} with small networks"
        return super().undecided(claim, splits, performance)

    def plan(self, performance: Performance) -> Plan:
        """That of the photographs and of both budgets of the probe."""
        plans = [super().plan(performance)] if self.trained_claims(performance) else []
        if performance.asks(*PROBE_CLAIMS):
            plans += [self._probe_study(performance, steps).plan(performance) for steps in self._steps(performance)]
        return Plan(
            data=list(dict.fromkeys(one for plan in plans for one in plan.data)),
            arms=list(dict.fromkeys(one for plan in plans for one in plan.arms)),
            seeds=list(performance.seeds),
            seconds=5 + sum(plan.seconds for plan in plans),
            memory_bytes=max((plan.memory_bytes for plan in plans), default=700 * 2**20),
            disk_bytes=2**20 + sum(plan.disk_bytes for plan in plans),
            notes=list(dict.fromkeys(one for plan in plans for one in plan.notes)),
        )

    def perform(self, performance: Performance) -> None:
        """Everything that is asked for, cheap parts first."""
        self.perform_exact(performance)
        if len(performance.claims) == len(performance.card.claims):
            table = next(table for table in performance.card.tables if table.id == "sizes")
            performance.tables.append(table_record(table, measured_sizes(table.rows)))
        self._perform_probe(performance)
        self.perform_study(performance)

    def perform_study(self, performance: Performance) -> dict[str, list[ArmRecord]]:
        """As `StudyRecipe.perform_study`; also draws accuracy over multiply-accumulates."""
        records = super().perform_study(performance)
        if len(records) > 2:
            splits = self.open_data(performance)
            costs = {arm.name: self._macs(arm, performance, splits) for arm in self.arms if arm.name in records}
            path = performance.path / "accuracy_per_mac.png"
            accuracy_per_mac_picture(
                {name: metric_values(rows, "accuracy") for name, rows in records.items()}, costs, path
            )
            performance.picture(path, "Test accuracy over multiply-accumulates of the arms; bars are seeds.")
        return records

    # the probe on pairs of digits

    def _steps(self, performance: Performance) -> tuple[int, int]:
        steps: tuple[int, int] = performance.configuration.probe_steps
        return steps

    def _probe_study(self, performance: Performance, steps: int) -> Study:
        configuration = performance.configuration.probe
        few = performance.scale == "smoke"
        splits = open_digit_pairs(
            train=steps * configuration.training.batch_size, val=200 if few else 1000, test=400 if few else 2000
        )
        arms = [replace(arm, name=f"{arm.name}_at_{steps}") for arm in PROBE_ARMS]
        return Study(self.task, arms, self.task.sized(splits, configuration), configuration)

    def _perform_probe(self, performance: Performance) -> None:
        """Both budgets, whichever is asked for: neither is shown without the other."""
        if not performance.asks(*PROBE_CLAIMS):
            return
        budgets = self._steps(performance)
        measured: dict[int, dict[str, list[ArmRecord]]] = {}
        for steps in budgets:
            study = self._probe_study(performance, steps)
            if steps == budgets[-1]:
                performance.use_data(study.splits)
            records = study.perform(performance)
            measured[steps] = {arm.name: records[f"{arm.name}_at_{steps}"] for arm in PROBE_ARMS}
        accuracies = {
            steps: {name: metric_values(rows, "accuracy") for name, rows in records.items()}
            for steps, records in measured.items()
        }
        means = "; ".join(
            f"{name} " + " / ".join(f"{sum(accuracies[steps][name]) / len(performance.seeds):.1f}" for steps in budgets)
            for name in accuracies[budgets[0]]
        )
        for claim in performance.claims:
            if claim.id not in PROBE_CLAIMS:
                continue
            here = accuracies[budgets[PROBE_CLAIMS[claim.id]]]
            performance.record(
                comparative_record(
                    claim,
                    here["order_4"],
                    {name: here[name] for name in ("gated", "depthwise_matched", "window_attention")},
                    undecided="" if performance.scale != "smoke" else "Smoke scale only shows that it runs",
                    note=(
                        f"Accuracy after {budgets[0]} / {budgets[1]} steps: {means} (chance is 50). Each budget has "
                        f"its own one-cycle schedule, and every pair is new. A probe of the mechanism that was "
                        f"chosen to favour products, not evidence for the gain on ImageNet"
                    ),
                )
            )
        path = performance.path / "probe.png"
        probe_picture(accuracies, path)
        performance.picture(path, "Accuracy on held-out pairs of digits after both budgets; dots are seeds.")

    # costs

    def _macs(self, arm: Arm, performance: Performance, splits: DataSplits) -> int:
        size = splits.val[0]["image"].shape[1:]
        chosen = {one.name: one for one in PAPER_ARMS}[arm.name] if performance.scale == "paper" else arm
        return macs(create_model(chosen.model, num_classes=10, **chosen.arguments), (1, 3, *size))

    def _costs(self, performance: Performance, splits: DataSplits) -> str:
        names = {arm.name for arm in self.trained_arms(performance)}
        costs = ", ".join(
            f"{arm.name} {self._macs(arm, performance, splits) / 1e6:.1f}" for arm in self.arms if arm.name in names
        )
        return f"10⁶ multiply-accumulates a picture: {costs}"


RECIPE = HorNetRecipe()
