"""The claim on photographs: a flow, circuits over its latents, and a circuit on the pixels themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from encore.data.contracts import DataSplits
from encore.data.exact import ExactSamples, values_of
from encore.nn.creation import load
from encore.papers.pc_compression.baselines import measure_codecs
from encore.papers.pc_compression.integer_flow import trees_over_latents
from encore.papers.pc_compression.method import HCLTFit
from encore.papers.pc_compression.scales import CompressionConfiguration
from encore.results.performance import Performance, Plan
from encore.results.record import ArmRecord, comparative_record
from encore.tasks.lossless_compression import TASK
from encore.tasks.study import Arm, Study

PHOTOGRAPHS = "cifar10"
HYBRID, FLOW, PIXELS = "pc_idf", "idf", "hclt"


def photographs_plans(
    performance: Performance,
    splits: DataSplits,
    circuit_plan: Callable[[Performance, str, DataSplits, HCLTFit], Plan],
) -> list[Plan]:
    """What the circuit on the pixels, the flow, and both priors cost."""
    configuration: CompressionConfiguration = performance.configuration
    pixel_data = TASK.shortened(splits, configuration.photographs)
    plans = [circuit_plan(performance, "photographs_hclt", pixel_data, configuration.photographs)]
    for name, one in (("flow_alone", configuration.flow), (FLOW, configuration.joint), (HYBRID, configuration.joint)):
        study = Study(TASK, [Arm(name, "integer_flow")], TASK.shortened(splits, one), one)
        plans.append(study.plan(performance))
    return plans


def perform_photographs(performance: Performance, splits: DataSplits) -> None:
    """Train a flow, then go on from where it ended with both priors, with the same budget; record the claim."""
    configuration: CompressionConfiguration = performance.configuration
    count = configuration.photograph_test or len(splits.test)
    splits = replace(splits, test=ExactSamples(values_of(splits.test)[:count], "test"))
    flow_data, joint_data, pixel_data = (
        TASK.shortened(splits, one) for one in (configuration.flow, configuration.joint, configuration.photographs)
    )
    performance.use_data(joint_data)
    pixels = Study(TASK, [Arm("photographs_hclt", "hclt")], pixel_data, configuration.photographs)
    flow = Study(TASK, [Arm("flow_alone", "integer_flow")], flow_data, configuration.flow)
    rates: dict[str, list[float]] = {HYBRID: [], FLOW: []}
    rates[PIXELS] = rates_of(pixels.perform(performance)["photographs_hclt"])
    flow.perform(performance)
    for seed in performance.seeds:
        study = _both_priors(performance, flow.folder(performance, flow.arms[0], seed), joint_data)
        for name, rows in study.perform(replace(performance, seeds=(seed,))).items():
            rates[name] += rates_of(rows)
    claim = next(claim for claim in performance.claims if claim.id == "hybrid_rate")
    stand_in = f"{splits.name} stands in for {PHOTOGRAPHS}, so there is no verdict" if splits.embedded else ""
    performance.record(
        comparative_record(
            claim,
            rates[HYBRID],
            {name: rates[name] for name in (FLOW, PIXELS)},
            undecided=stand_in,
            note=_note(configuration, joint_data),
        )
    )


def _both_priors(performance: Performance, start: Path, splits: DataSplits) -> Study:
    """Both priors from the flow in `start`; trees are found over what it leaves unexplained."""
    configuration: CompressionConfiguration = performance.configuration
    model: Any = load(start)
    samples = torch.from_numpy(values_of(splits.train)[: configuration.tree_samples].astype(np.int64))
    trees = trees_over_latents(model, samples)
    weights = {"weights": str(start)}
    arms = [
        Arm(FLOW, "integer_flow", {}, weights),
        Arm(HYBRID, "integer_flow", {"trees": trees, "num_states": configuration.flow_states}, weights),
    ]
    return Study(TASK, arms, splits, configuration.joint)


def _note(configuration: CompressionConfiguration, splits: DataSplits) -> str:
    sizes, flow, circuit = splits.sizes(), configuration.flow, configuration.photographs
    files = measure_codecs(values_of(splits.test).astype(np.uint8))
    rates = ", ".join(f"{name} {rate.bits_per_dimension:.2f}" for name, rate in files.items())
    return (
        f"{splits.name}: {sizes['train']} training and {sizes['test']} test pictures. A flow of "
        f"{flow.model_arguments['channels']} channels, {flow.training.epochs} epochs, then "
        f"{configuration.joint.training.epochs} with each prior; trees of {configuration.flow_states} states over the "
        f"latents of every level. hclt: {circuit.num_states} states on the pixels, {circuit.training.epochs} epochs. "
        f"Files of other codecs, bits/dim: {rates}"
    )


def rates_of(rows: Sequence[ArmRecord]) -> list[float]:
    """Bits per dimension on the test part, one per seed."""
    return [float(row.metrics["bits_per_dimension"] or 0) for row in rows]
