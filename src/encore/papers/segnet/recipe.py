"""Performs SegNet's claims: the decoder study, the controlled benchmark, sizes and times, and Bayesian SegNet."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import Field

from encore.base.runtime import Scale
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path, open_set
from encore.data.sets.streets import open_streets
from encore.nn.creation import load
from encore.nn.timing import time_forward
from encore.papers.segnet.sizes import (
    BENCHMARK,
    DECODER_STUDY,
    EXACT,
    PAPER_SIZE,
    measured_sizes,
    measured_times,
    merged,
    timing_plan,
)
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord, comparative_record, table_record, unmeasured_record
from encore.tasks.segmentation import TASK, SegmentationFit
from encore.tasks.segmentation.uncertainty import calibration, uncertainty_sheet
from encore.tasks.sheets import save_picture
from encore.tasks.study import Arm, Study
from encore.tasks.study_recipe import Comparison, StudyRecipe, metric_values
from encore.training.trainer import device_of

METHOD = "segnet_basic"
UNBALANCED = "_unbalanced"
"""What the arms are called that learn without class balancing."""

_STUDY = [Arm(METHOD, METHOD)] + [
    Arm(row, model, arguments) for row, (model, arguments) in DECODER_STUDY.items() if row != METHOD
]
ARMS = (
    *_STUDY,
    *(replace(arm, name=arm.name + UNBALANCED, settings={"class_balancing": "none"}) for arm in _STUDY),
)
"""The paper's method first; names are those of the card's tables and figures."""

BENCHMARK_ARMS = tuple(
    Arm(row, model, {"dropout": 0.5}) for row, (model, _) in BENCHMARK.items() if row != "segnet_int64_indices"
)
"""Section 4 adds dropout of 0.5 "at the end of deeper convolutional layers" to every network."""

BAYESIAN = Arm("bayesian_segnet_basic", "bayesian_segnet_basic", {"num_samples": 20})

COMPARISONS = {
    "boundary_f1": Comparison(METHOD, ("bilinear", "fcn_no_addition")),
    "mean_iou": Comparison(METHOD, ("bilinear", "fcn_no_addition")),
    "encoder_addition": Comparison("encoder_addition", (METHOD,)),
    "decoder_channels": Comparison(METHOD, ("single_channel_decoder",)),
    "fcn_addition": Comparison("fcn_basic", ("fcn_no_addition",)),
    "dimension_reduction": Comparison("fcn_no_dim_reduction", ("fcn_basic",)),
    "class_balancing": Comparison(METHOD, (METHOD + UNBALANCED,)),
}
"""What the claims of the decoder study set against each other."""

BENCHMARK_CLAIMS = ("benchmark_mean_iou", "benchmark_boundary_f1")
CALIBRATION = "calibration"

STREETS_SAMPLES = {"smoke": (48, 8, 8), "laptop": (367, 101, 233), "paper": (367, 101, 233)}
"""Pictures for training, validation and test from Streets; as many as CamVid has, but for smoke."""


class SegNetConfiguration(SegmentationFit):
    """Keys of `encore run segnet`: those of the decoder study, and under `benchmark` those of the benchmark.

    Attributes:
        benchmark: of the networks on VGG16, which `--scale paper` trains (`benchmark.training.epochs=100`).
    """

    benchmark: SegmentationFit = Field(default_factory=SegmentationFit)


_SMALL: dict[str, Any] = {
    "model_arguments": {"width": 32, "kernel_size": 3},
    "image_size": [90, 120],
    "class_balancing": "sqrt_median_frequency",
    "training": {"epochs": 12, "batch_size": 8, "learning_rate": 4e-3, "schedule": "one_cycle"},
}
"""The Basic nets at 32 channels with 3×3 kernels, on pictures of a sixteenth of the paper's pixels."""

_SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "schedule": "constant",
    "weight_decay": 5e-4,
    "bias_learning_rate_factor": 2.0,
}
"""SGD with momentum 0.9 at a fixed rate, doubled bias rates as in the prototxts."""

DEFAULTS: dict[Scale, dict[str, Any]] = {
    "smoke": {
        **_SMALL,
        "model_arguments": {"width": 16, "kernel_size": 3},
        "image_size": [72, 96],
        "training": {**_SMALL["training"], "epochs": 2},
    },
    "laptop": _SMALL,
    # Section 4: no augmentation; pictures as large as the data at hand has them. The study: rate 0.1, batches of 12,
    # median-frequency balancing over the number of pixels; "until the loss converges" is read as 300 epochs, or 60
    # without a better global accuracy in validation. The benchmark: rate 0.001, batches of 5, no balancing; 540
    # epochs of 367 pictures are its 40,000 iterations.
    "paper": {
        "class_balancing": "median_frequency",
        "loss_normalisation": "pixels",
        "monitor": "global_accuracy",
        "augmentation": {"horizontal_flip": 0.0},
        "training": {**_SGD, "epochs": 300, "patience": 60, "batch_size": 12, "learning_rate": 0.1},
        "benchmark": {
            "model": "segnet",
            "class_balancing": "none",
            "loss_normalisation": "pixels",
            "monitor": "global_accuracy",
            "augmentation": {"horizontal_flip": 0.0},
            "training": {**_SGD, "epochs": 540, "patience": 100, "batch_size": 5, "learning_rate": 1e-3},
        },
    },
}


class SegNetRecipe(StudyRecipe):
    """Trains the decoders of Table 1; at paper scale also the networks of Table 3; measures sizes and times."""

    data_name = "camvid"
    default_seeds = {"smoke": 1, "laptop": 3, "paper": 3}  # noqa: RUF012
    task = TASK
    arms = ARMS
    fit = SegNetConfiguration
    defaults = DEFAULTS
    comparisons = COMPARISONS
    exact = EXACT

    def open_data(self, performance: Performance) -> DataSplits:
        """CamVid where it is to be had and wanted, else Streets; smoke takes CamVid only if `--data` names it."""
        size, roots = performance.configuration.image_size, performance.runtime.data
        wanted = performance.scale != "smoke" or self.data_name in roots
        if wanted and find_set_path(self.data_name, roots) is not None:
            return open_set(self.data_name, image_size=size, seed=0, roots=roots)
        return self.open_streets(performance)

    def open_benchmark_data(self, performance: Performance) -> DataSplits:
        """The same, at the benchmark's own size where it names one."""
        size = performance.configuration.benchmark.image_size
        if size is None:
            return self.open_data(performance)
        configuration = performance.configuration.model_copy(update={"image_size": size})
        return self.open_data(replace(performance, configuration=configuration))

    def open_streets(self, performance: Performance) -> DataSplits:
        """Streets at the configured size."""
        train, val, test = STREETS_SAMPLES[performance.scale]
        return open_streets(
            image_size=performance.configuration.image_size or PAPER_SIZE, train=train, val=val, test=test
        )

    def note(self, performance: Performance, splits: DataSplits) -> str:
        """The setting, in words."""
        configuration = performance.configuration
        width, kernel = (
            configuration.model_arguments.get(key, due) for key, due in (("width", 64), ("kernel_size", 7))
        )
        height, across = splits.train[0]["mask"].shape
        return (
            f"All arms share the encoder ({width} channels, {kernel}×{kernel} kernels), the data at {height}×{across} "
            f"pixels, at most {configuration.training.epochs} epochs, the optimiser and, where not said otherwise, "
            f"{in_words(configuration.class_balancing)}; the best validation epoch was tested once. EncoderAddition "
            f"adds the maps before pooling, which are those that Table 1's storage counts"
        )

    def is_pictured(self, arm: str) -> bool:
        """The rows of Table 1, once."""
        return not arm.endswith(UNBALANCED)

    def trained_arms(self, performance: Performance) -> list[Arm]:
        """The arms of the claims asked for; beyond smoke, of all claims, every row of Table 1 with both balancings."""
        if performance.scale == "smoke" or len(performance.claims) < len(performance.card.claims):
            return super().trained_arms(performance)
        return list(self.arms)

    def plan(self, performance: Performance) -> Plan:
        """That of the decoder study, then of the benchmark and of Bayesian SegNet where they are trained."""
        plans = [super().plan(performance)]
        if self._trains_benchmark(performance):
            plans.append(self._benchmark_study(performance, self.open_benchmark_data(performance)).plan(performance))
        if performance.asks(CALIBRATION):
            study = self._bayesian_study(performance, self.open_streets(performance))
            plans += [study.plan(performance), self._sampling_plan(performance, study)]
        if performance.scale != "smoke" and self._fills_tables(performance):
            plans.append(timing_plan(BENCHMARK, device_of(performance.runtime)))
        return Plan(
            data=list(dict.fromkeys(one for plan in plans for one in plan.data)),
            arms=[one for plan in plans for one in plan.arms],
            seeds=list(performance.seeds),
            seconds=sum(plan.seconds for plan in plans),
            memory_bytes=max(plan.memory_bytes for plan in plans),
            disk_bytes=sum(plan.disk_bytes for plan in plans),
            notes=list(dict.fromkeys(one for plan in plans for one in plan.notes)),
        )

    def perform(self, performance: Performance) -> None:
        """Everything that is asked for, cheap parts first."""
        self.perform_exact(performance)
        study = self.perform_study(performance)
        benchmark = self._perform_benchmark(performance)
        self._perform_calibration(performance)
        if self._fills_tables(performance):
            self._fill_tables(performance, study, benchmark)

    # the controlled benchmark

    def _trains_benchmark(self, performance: Performance) -> bool:
        return performance.scale == "paper" and performance.asks(*BENCHMARK_CLAIMS)

    def _benchmark_study(self, performance: Performance, splits: DataSplits) -> Study:
        return Study(self.task, BENCHMARK_ARMS, splits, performance.configuration.benchmark)

    def _perform_benchmark(self, performance: Performance) -> dict[str, list[ArmRecord]]:
        claims = [claim for claim in performance.claims if claim.id in BENCHMARK_CLAIMS]
        if not self._trains_benchmark(performance):
            for claim in claims:
                note = (
                    "Not trained at this scale: networks on VGG16 take hours on two cores. Their sizes and times are "
                    "measured; encore run segnet --scale paper trains them"
                )
                performance.record(unmeasured_record(claim, note))
            return {}
        splits = self.open_benchmark_data(performance)
        if not performance.data:
            performance.use_data(splits)
        records = self._benchmark_study(performance, splits).perform(performance)
        height, width = splits.train[0]["mask"].shape
        configuration = performance.configuration.benchmark
        training = configuration.training
        begun = f"weights begun with {configuration.weights}" if configuration.weights else "weights begun at random"
        for claim in claims:
            assert claim.paper is not None
            performance.record(
                comparative_record(
                    claim,
                    metric_values(records["segnet"], claim.metric),
                    {row: metric_values(records[row], claim.metric) for row in claim.paper.baselines},
                    undecided=self.stand_in(splits),
                    note=(
                        f"{splits.sizes()['train']} pictures of {height}×{width} where the paper has 3,433; "
                        f"at most {training.epochs} epochs in batches of {training.batch_size}; {begun}, where the "
                        f"paper's encoders begin with ImageNet's VGG16 (benchmark.weights=vgg16_bn.pth)"
                    ),
                )
            )
        return records

    # Bayesian SegNet

    def _bayesian_study(self, performance: Performance, splits: DataSplits) -> Study:
        return Study(self.task, (BAYESIAN,), splits, performance.configuration)

    def _perform_calibration(self, performance: Performance) -> None:
        claim = next((claim for claim in performance.claims if claim.id == CALIBRATION), None)
        if claim is None:
            return
        splits = self.open_streets(performance)
        if splits.name not in {used.name for used in performance.data}:
            performance.use_data(splits)
        study = self._bayesian_study(performance, splits)
        study.perform(performance)
        values = [self._calibration_of(study, seed, performance) for seed in performance.seeds]
        means = {name: sum(one[name] for one in values) / len(values) for name in values[0]}
        performance.record(
            comparative_record(
                claim,
                [one["calibration_error/sampled"] for one in values],
                {"single_pass": [one["calibration_error/single"] for one in values]},
                note=(
                    f"Bayesian SegNet-Basic on {splits.name}, {BAYESIAN.arguments['num_samples']} samples. Mean IoU "
                    f"{means['mean_iou/sampled']:.1f} sampled, {means['mean_iou/single']:.1f} in a single pass; of the "
                    f"half of the pixels with the least variance {means['accuracy_of_certain_half']:.1f} % are right, "
                    f"of all {means['global_accuracy/sampled']:.1f} %"
                ),
            )
        )
        model = load(study.folder(performance, BAYESIAN, performance.seeds[0])).to(device_of(performance.runtime))
        path = performance.path / "uncertainty.png"
        last = len(splits.test) - 1
        save_picture(uncertainty_sheet(model, splits.test, sorted({0, last // 3, 2 * last // 3, last})), path)
        performance.picture(
            path,
            f"Bayesian SegNet-Basic on held-out pictures of {splits.name}: where it is wrong (white) and where its "
            f"samples differ (bright).",
        )

    def _sampling_plan(self, performance: Performance, study: Study) -> Plan:
        """Of the samples drawn of every test picture, from one pass timed here."""
        model = study.task.make_model(study.splits, BAYESIAN.configuration(study.configuration), seed=0).eval()
        model.to(device_of(performance.runtime))
        image = model.preprocess(study.splits.test[0]["image"])
        passes = len(performance.seeds) * len(study.splits.test) * (BAYESIAN.arguments["num_samples"] + 1)
        seconds = passes * min(time_forward({"": model}, image)[""]) / 1000
        return Plan(data=[], arms=[], seeds=[], seconds=seconds, memory_bytes=0, disk_bytes=0)

    def _calibration_of(self, study: Study, seed: int, performance: Performance) -> dict[str, float]:
        assert performance.folder is not None
        step = f"calibration/seed{seed}"
        done = performance.folder.finished(step)
        if done is None:
            model = load(study.folder(performance, BAYESIAN, seed)).to(device_of(performance.runtime))
            stage = f"calibration, seed {seed}"
            done = dict(calibration(model, study.splits.test, performance.progress, stage))
            performance.folder.finish(step, done)
        return done

    # tables

    def _fills_tables(self, performance: Performance) -> bool:
        return len(performance.claims) == len(performance.card.claims)

    def _fill_tables(
        self,
        performance: Performance,
        study: dict[str, list[ArmRecord]],
        benchmark: dict[str, list[ArmRecord]],
    ) -> None:
        stands_in = performance.data[0].embedded
        tables = {table.id: table for table in performance.card.tables}
        small, large = measured_sizes(DECODER_STUDY), measured_sizes(BENCHMARK)
        if performance.scale != "smoke":
            device = device_of(performance.runtime)
            small = merged(small, measured_times(DECODER_STUDY, device, performance.progress, training=False))  # type: ignore[assignment]
            large = merged(large, measured_times(BENCHMARK, device, performance.progress, training=True))  # type: ignore[assignment]
        size = "×".join(str(side) for side in PAPER_SIZE)
        sizes_note = f"Parameters, bytes, memory and times at {size} with 11 classes and the paper's widths"
        balanced = {row: _accuracies(study[row]) for row in DECODER_STUDY if row in study}
        unbalanced = {row: _accuracies(study[row + UNBALANCED]) for row in DECODER_STUDY if row + UNBALANCED in study}
        balancing = in_words(performance.configuration.class_balancing)
        trained = f"accuracies from this run's arms, {balancing} where the paper has median-frequency balancing"
        unbalanced_note = "Accuracies from this run's arms without class balancing"
        benchmark_note = (
            "Accuracies from this run's arms" if benchmark else "Not trained at this scale; --scale paper does"
        )
        for table_id, measured, note in (
            ("decoder_study", merged(small, balanced), f"{sizes_note}; {trained}"),
            ("decoder_study_unbalanced", unbalanced, unbalanced_note),
            ("benchmark", {row: _accuracies(one) for row, one in benchmark.items()}, benchmark_note),
            ("cost", large, sizes_note),
        ):
            performance.tables.append(table_record(tables[table_id], measured, undecided=stands_in, note=note))


def in_words(class_balancing: str) -> str:
    """How the classes are weighed in the loss."""
    return {
        "none": "no class balancing",
        "median_frequency": "median-frequency balancing",
        "sqrt_median_frequency": "the square root of median-frequency balancing",
    }[class_balancing]


def _accuracies(records: list[ArmRecord]) -> dict[str, list[float]]:
    names = ("global_accuracy", "class_accuracy", "mean_iou", "boundary_f1")
    return {name: metric_values(records, name) for name in names}


RECIPE = SegNetRecipe()
