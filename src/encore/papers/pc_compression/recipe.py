"""Performs the claims of compression with circuits: rates, files, speeds and costs, beside other codecs."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from encore.base.cards import Claim
from encore.base.configuration import Settings, configure
from encore.base.runtime import Scale
from encore.data.contracts import DataSplits
from encore.data.exact import ExactSamples, open_exact, values_of
from encore.data.named import find_set_path
from encore.nn.creation import load
from encore.papers.pc_compression.circuit import circuit_of
from encore.papers.pc_compression.coding import NEURAL, Figures, coded_by_circuits, coded_by_others
from encore.papers.pc_compression.method import ExpectationMaximisation, HCLTFit
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.passes import logarithmic_growth, model_size, passes_of
from encore.papers.pc_compression.photographs import (
    PHOTOGRAPHS,
    perform_photographs,
    photographs_plans,
    rates_of,
)
from encore.papers.pc_compression.pictures import rate_picture
from encore.papers.pc_compression.scales import DEFAULTS, CompressionConfiguration
from encore.results.performance import Performance, Plan, Recipe
from encore.results.record import ArmRecord, comparative_record, exact_record, table_record, unmeasured_record
from encore.tasks.lossless_compression import TASK
from encore.tasks.study import Arm, Study

FitConfiguration = HCLTFit
"""What `encore fit pc_compression` takes."""

HCLT_ARM = "hclt"

CIRCUITS = (
    Arm(HCLT_ARM, "hclt"),
    # One state is no state: pixels are independent, whatever the tree, and learnt by counting once.
    Arm(
        "independent",
        "hclt",
        settings={"num_states": 1, "structure_samples": 2, "training": ExpectationMaximisation(epochs=1)},
    ),
    Arm("chow_liu_tree", "chow_liu_tree"),
)

MNIST, FASHION = "mnist", "fashion_mnist"

FILE_CLAIMS = ("file_rate", "coding_speed", "coding_overhead")
MNIST_CLAIMS = ("theoretical_rate", *FILE_CLAIMS, "lossless", "coding_passes")
FILES = ("png", "webp", "jpeg2000", "jpegxl", "jpegxl_sheet", "xz", "zstd")


class CompressionRecipe(Recipe):
    """Learns circuits and an autoencoder on MNIST and Fashion-MNIST, codes the test pictures with all there is."""

    data_name = MNIST
    default_seeds = {"smoke": 1, "laptop": 3, "paper": 3}  # noqa: RUF012

    def configuration(self, scale: Scale, settings: Settings) -> CompressionConfiguration:
        """The configuration at `scale`."""
        return configure(CompressionConfiguration, settings, DEFAULTS[scale])

    # data

    def _sets(self, performance: Performance) -> list[str]:
        """The sets that the claims are about."""
        asked = {MNIST: performance.asks(*MNIST_CLAIMS), FASHION: performance.asks("fashion_rate", "lossless")}
        return [name for name, wanted in asked.items() if wanted]

    def _open(self, performance: Performance, name: str) -> DataSplits:
        """The set where it is to be had, else scikit-learn's digits; smoke takes those unless it is named."""
        roots = performance.runtime.data
        wanted = performance.scale != "smoke" or name in roots
        there = wanted and find_set_path(name, roots) is not None
        splits = open_exact(name if there else "digits", roots=roots)
        count = performance.configuration.test_samples
        if count is None or count >= len(splits.test):
            return splits
        return replace(splits, test=ExactSamples(values_of(splits.test)[:count], "test"))

    def _needed(self, performance: Performance, name: str) -> set[str]:
        """The arms that the claims about a set compare."""
        if performance.asks("theoretical_rate" if name == MNIST else "fashion_rate"):
            return {NEURAL, *(arm.name for arm in CIRCUITS)}
        return {HCLT_ARM, NEURAL} if name == MNIST and performance.asks("file_rate", "coding_speed") else {HCLT_ARM}

    def _studies(self, performance: Performance, name: str, splits: DataSplits) -> list[Study]:
        """That of the circuits, the first of which is the method's, and that of the autoencoder if it is needed."""
        configuration: CompressionConfiguration = performance.configuration
        needed = self._needed(performance, name)
        circuits = [replace(arm, name=f"{name}_{arm.name}") for arm in CIRCUITS if arm.name in needed]
        neural = [Arm(f"{name}_{NEURAL}", "bits_back_vae")] if NEURAL in needed else []
        studies = [Study(TASK, circuits, splits, configuration.hclt), Study(TASK, neural, splits, configuration.vae)]
        return [one for one in studies if one.arms]

    def plan(self, performance: Performance) -> Plan:
        """Times an EM step on a tree of the data's size, and a step of each network."""
        configuration: CompressionConfiguration = performance.configuration
        plans = []
        for name in self._sets(performance):
            splits = self._open(performance, name)
            plans.append(_circuit_plan(performance, f"{name}_{HCLT_ARM}", splits, configuration.hclt))
            plans += [one.plan(performance) for one in self._studies(performance, name, splits)[1:]]
        if performance.asks("hybrid_rate"):
            plans += photographs_plans(performance, self._open(performance, PHOTOGRAPHS), _circuit_plan)
        return Plan(
            data=list(dict.fromkeys(one for plan in plans for one in plan.data)),
            arms=[one for plan in plans for one in plan.arms],
            seeds=list(performance.seeds),
            seconds=20 + sum(plan.seconds for plan in plans),
            memory_bytes=max((plan.memory_bytes for plan in plans), default=700 * 2**20),
            disk_bytes=100 * 2**20 + sum(plan.disk_bytes for plan in plans),
            notes=["time from one EM step and one training step of each network, timed here"],
        )

    # performing

    def perform(self, performance: Performance) -> None:
        """Everything that is asked for, cheap parts first."""
        for claim in performance.claims:
            if claim.id == "model_size":
                performance.record(model_size(claim))
            elif claim.id == "logarithmic_growth":
                performance.record(logarithmic_growth(claim, self._open(performance, MNIST), performance.scale))
            elif claim.id == "emnist_rate":
                performance.record(unmeasured_record(claim, "EMNIST is no set that Encore knows yet"))
        changed: dict[str, float] = {}
        for name in self._sets(performance):
            changed[name] = self._perform_set(performance, name)
        if performance.asks("lossless"):
            performance.record(
                exact_record(
                    performance.card.claim("lossless"),
                    sum(changed.values()),
                    holds=not any(changed.values()),
                    note=f"All test pictures of {' and '.join(changed)}, through files, for every seed",
                )
            )
        if performance.asks("hybrid_rate"):
            perform_photographs(performance, self._open(performance, PHOTOGRAPHS))

    def _perform_set(self, performance: Performance, name: str) -> float:
        """Learn, code, and record the claims about one set; returns how many values coding changed."""
        splits = self._open(performance, name)
        performance.use_data(splits)
        studies = self._studies(performance, name, splits)
        arms: dict[str, list[ArmRecord]] = {}
        for study in studies:
            arms |= study.perform(performance)
        theory = {arm.removeprefix(f"{name}_"): rates_of(rows) for arm, rows in arms.items()}
        stand_in = f"{splits.name} stands in for {name}, so there is no verdict" if splits.embedded else ""
        note = self._note(performance, splits)
        baselines = {arm: values for arm, values in theory.items() if arm != HCLT_ARM}
        for claim in performance.claims:
            if claim.id == ("theoretical_rate" if name == MNIST else "fashion_rate"):
                performance.record(
                    comparative_record(claim, theory[HCLT_ARM], baselines, undecided=stand_in, note=note)
                )
        test = values_of(splits.test)
        files: list[Figures] = []
        if performance.asks("lossless", *(FILE_CLAIMS if name == MNIST else ())):
            files = coded_by_circuits(performance, studies[0], name, test)
        changed = sum(one["changed"] for one in files)
        if name != MNIST:
            return changed
        if files:
            compared = performance.asks("file_rate", "coding_speed")
            others = coded_by_others(performance, studies[1], test) if compared else {}
            self._record_files(performance, theory, {HCLT_ARM: files, **others}, stand_in, note)
        models: dict[str, Any] = {
            label: load(study.folder(performance, study.arms[0], performance.seeds[0]))
            for label, study in zip((HCLT_ARM, NEURAL), studies, strict=False)
        }
        if performance.asks("coding_passes"):
            claim = performance.card.claim("coding_passes")
            performance.record(passes_of(claim, circuit_of(models[HCLT_ARM])))
        models[HCLT_ARM].save(performance.path)
        path = performance.path / "examples.png"
        TASK.picture(models, splits.test, path, performance.runtime)
        performance.picture(path, f"Test pictures of {splits.name}, and what the learnt models draw.")
        return changed

    def _note(self, performance: Performance, splits: DataSplits) -> str:
        configuration: CompressionConfiguration = performance.configuration
        sizes = splits.sizes()
        return (
            f"{splits.name}: {sizes['train']} training and {sizes['test']} test pictures; "
            f"{configuration.hclt.num_states} states, {configuration.hclt.training.epochs} epochs of mini-batches and "
            f"{configuration.hclt.training.full_batch_steps} with all samples; the autoencoder trained for "
            f"{configuration.vae.training.epochs} epochs. The paper's schedule has 350 epochs"
        )

    # files

    def _record_files(
        self,
        performance: Performance,
        theory: Mapping[str, Sequence[float]],
        files: Mapping[str, list[Figures]],
        stand_in: str,
        note: str,
    ) -> None:
        seeds = len(performance.seeds)
        own, neural = files[HCLT_ARM], files.get(NEURAL, [])
        rates = {name: [one["file"] for one in rows] * (seeds // len(rows)) for name, rows in files.items()}
        megabytes = own[0]["model_megabytes"]
        by_id: dict[str, Claim] = {claim.id: claim for claim in performance.claims}
        if "file_rate" in by_id:
            best = min(rates[name][0] for name in FILES)
            saved = (best - sum(rates[HCLT_ARM]) / seeds) / 8  # bytes a value
            pays = f"{megabytes / saved:.0f} MB of pictures" if saved > 0 else "no number of pictures"
            others = {name: rates[name] for name in (NEURAL, *FILES)}
            performance.record(
                comparative_record(
                    by_id["file_rate"],
                    rates[HCLT_ARM],
                    others,
                    undecided=stand_in,
                    note=(
                        f"{note}. Whole files; the model, {megabytes:.1f} MB of float32, is not in them: against the "
                        f"best general codec it pays from {pays} on. The autoencoder coded "
                        f"{performance.configuration.neural_samples} pictures in one stream"
                    ),
                )
            )
        if "coding_speed" in by_id:
            performance.record(
                comparative_record(
                    by_id["coding_speed"],
                    [one["compress"] for one in own],
                    {NEURAL: [one["compress"] for one in neural]},
                    undecided=stand_in,
                    note=(
                        f"Decompressing {sum(one['decompress'] for one in own) / seeds:.2f} against "
                        f"{sum(one['decompress'] for one in neural) / seeds:.2f} MB/s. The circuit's blocks are coded "
                        "on all cores, the autoencoder's chain of bits on one. "
                        "The paper's factors of 5 to 40 are against deep flows and hierarchical autoencoders on a GPU; "
                        "this autoencoder has one hidden layer"
                    ),
                )
            )
        if "coding_overhead" in by_id:
            gaps = [100 * (one["file"] / ideal - 1) for one, ideal in zip(own, theory[HCLT_ARM], strict=True)]
            performance.record(
                exact_record(
                    by_id["coding_overhead"],
                    max(gaps),
                    holds=max(gaps) < 0.5,
                    note="The largest of the seeds; index, checksums and integer tables included",
                )
            )
        rows: dict[str, dict[str, list[float]]] = {
            name: {
                key: [one[key] for one in found]
                for key in ("file", "compress", "decompress", "model_megabytes")
                if key in found[0]
            }
            for name, found in files.items()
        }
        for name, values in theory.items():
            rows.setdefault(name, {})["theory"] = list(values)
        if len(performance.claims) == len(performance.card.claims):
            table = next(table for table in performance.card.tables if table.id == "codecs")
            performance.tables.append(table_record(table, rows, undecided=bool(stand_in)))
        if neural:
            path = performance.path / "rate_speed.png"
            rate_picture(files, path)
            performance.picture(path, "Rate over speed of decompression; arrows point to better.")


def _circuit_plan(performance: Performance, name: str, splits: DataSplits, configuration: HCLTFit) -> Plan:
    """What learning a circuit costs, from one EM step on a balanced tree over as many pixels."""
    values = values_of(splits.train)[: configuration.training.batch_size]
    D, H = math.prod(values.shape[1:]), configuration.num_states
    model = HCLT([-1, *((child - 1) // 2 for child in range(1, D))], 256, H, values.shape[1:])
    x = torch.from_numpy(model.form.variables(values))
    model.flows(x)
    started = time.perf_counter()
    model.flows(x)
    epoch = (time.perf_counter() - started) * len(splits.train) / len(x)
    structure = 1e-12 * (16 * D) ** 2 * configuration.structure_samples
    size = sum(one.nbytes for one in model.state_dict().values())
    return Plan(
        data=[f"{splits.name} ({', '.join(f'{part} {count}' for part, count in splits.sizes().items())})"],
        arms=[f"{name}: hclt, {model.num_free_parameters / 1e6:.3f} M parameters"],
        seeds=list(performance.seeds),
        seconds=1.2 * len(performance.seeds) * (structure + configuration.training.total * epoch),
        memory_bytes=700 * 2**20 + 20 * x.numel() * H,
        disk_bytes=len(performance.seeds) * size,
    )


RECIPE = CompressionRecipe()
