"""The paper's second experiment: memory networks that answer bAbI's questions, with and without gradient noise."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from encore.base.configuration import Settings
from encore.base.runtime import Scale
from encore.data.babi import StoryTask, make_story_tasks, open_story_tasks
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path
from encore.data.sets.babi import Questions, hold_out_last_tenth
from encore.papers.gradient_noise.memory_network_measured import SHOWN_TASK, Measured, mean, measure
from encore.papers.gradient_noise.memory_network_pictures import attention_picture, error_picture
from encore.papers.gradient_noise.memory_network_problem import (
    PARTS,
    EncodedQuestions,
    Problem,
    make_problem,
)
from encore.papers.gradient_noise.memory_network_training import (
    MemoryNetworkSettings,
    NetworkArm,
    Networks,
    train_networks,
)
from encore.results.parts import Part
from encore.results.performance import Performance, Plan
from encore.results.record import comparative_record, table_record
from encore.training.trainer import device_of

DATA = "babi"
TABLE = "memory_networks"

STAGES = {"memory_network": "one_stage", "memory_network_two_stage": "two_stage"}
"""For each claim the kind of training that it is about."""

ARMS = (
    NetworkArm("one_stage_noise", noise=True, stages=1),
    NetworkArm("one_stage", noise=False, stages=1),
    NetworkArm("two_stage_noise", noise=True, stages=2),
    NetworkArm("two_stage", noise=False, stages=2),
)

DEFAULTS: dict[Scale, Settings] = {
    "smoke": {"tasks": [1, 2], "epochs": 20, "linear_epochs": 5, "questions": 200},
    "laptop": {},  # the paper's own setting
    "paper": {},
}


@dataclass(frozen=True)
class Stories:
    """The tasks, and whether they stand in for bAbI's."""

    tasks: list[StoryTask]
    embedded: bool

    def splits(self) -> DataSplits:
        """As a data set, for the record."""
        parts = [[], [], []]  # type: list[list[Any]]
        for task in self.tasks:
            for part, some in zip(parts, (*hold_out_last_tenth(task.train), task.test), strict=True):
                part += some
        answers = tuple(sorted({one.answer for part in parts for one in part}))
        train, val, test = (Questions(tuple(part), answers) for part in parts)
        numbers = ", ".join(str(task.number) for task in self.tasks)
        return DataSplits(
            name="stories" if self.embedded else DATA,
            train=train,
            val=val,
            test=test,
            classes=answers,
            origin="train and test given; val is the last tenth of each task's train",
            source=f"made in the manner of bAbI's tasks {numbers}, seed 0"
            if self.embedded
            else f"bAbI, tasks {numbers}, CC BY 3.0",
            embedded=self.embedded,
        )


class MemoryNetworkPart(Part):
    """Trains all networks of a task at once, task after task."""

    claims = tuple(STAGES)

    def plan(self, performance: Performance) -> Plan:
        """Times a few steps of every task."""
        settings: MemoryNetworkSettings = performance.configuration.memory_network
        arms, stories = arms_asked(performance), open_stories(performance)
        seconds, memory, names = 0.0, 0, []
        for problem in problems_of(stories.tasks, settings, device_of(performance.runtime)):
            seconds += 1.1 * settings.epochs * _epoch_seconds(problem, settings, performance.seeds, arms)
            batch = settings.batch_size * problem.num_memories * problem.bags.shape[1] * 4
            memory = max(memory, 4 * len(performance.seeds) * batch + problem.bags.nbytes)
            names.append(problem.name)
        return Plan(
            data=[f"{stories.splits().name}: {', '.join(names)}"],
            arms=[f"{arm.name}: end-to-end memory network" for arm in arms],
            seeds=list(performance.seeds),
            seconds=seconds,
            memory_bytes=memory + 700 * 2**20,
            disk_bytes=2**20 * len(names),
            notes=["memory networks: time from steps of every task, all seeds and arms at once, timed here"],
        )

    def perform(self, performance: Performance) -> None:
        """Train, measure and judge."""
        settings: MemoryNetworkSettings = performance.configuration.memory_network
        arms, stories = arms_asked(performance), open_stories(performance)
        splits = stories.splits()
        performance.use_data(splits)
        problems = problems_of(stories.tasks, settings, device_of(performance.runtime))
        outcomes = [_outcome(performance, problem, settings, arms) for problem in problems]
        measured = Measured(outcomes, tuple(arms), tuple(task.number for task in stories.tasks))
        performance.arms.extend(measured.arm_records(performance.seeds))
        self._judge(performance, measured, splits, settings)
        self._show(performance, measured, stories)

    def _judge(
        self, performance: Performance, measured: Measured, splits: DataSplits, settings: MemoryNetworkSettings
    ) -> None:
        stand_in = "Made stories stand in for bAbI, so there is no verdict" if splits.embedded else ""
        setting = (
            f"{len(measured.tasks)} task{'s' * (len(measured.tasks) > 1)}"
            f"{' learnt together' if settings.joint else ''}, {splits.sizes()['train']} training questions, "
            f"{settings.epochs} epochs; the error is the mean over tasks at the last epoch, on the tenth of the "
            "training questions that is held out"
        )
        for claim in performance.claims:
            if claim.id in STAGES:
                stage = STAGES[claim.id]
                names = (f"{stage}_noise", stage)
                test, fitted = (
                    " and ".join(f"{mean(measured.values(name, part)):.2f}" for name in names)
                    for part in ("test", "train")
                )
                best = " and ".join(f"{measured.best_of_seeds(name):.2f}" for name in names)
                note = (
                    f"{setting}. With and without noise: {test} % test error, {fitted} % training error; {best} % test "
                    "error if for each task the seed of lowest training error is taken, as in the original recipe"
                )
                performance.record(
                    comparative_record(
                        claim,
                        measured.values(names[0], "validation"),
                        {"no_noise": measured.values(names[1], "validation")},
                        undecided=stand_in,
                        note=note,
                    )
                )
        table = next((one for one in performance.card.tables if one.id == TABLE), None)
        if table is not None:
            rows = {
                arm.name: {f"{part}_error": measured.values(arm.name, part) for part in PARTS} for arm in measured.arms
            }
            performance.tables.append(table_record(table, rows, undecided=splits.embedded, note=f"{setting}."))

    def _show(self, performance: Performance, measured: Measured, stories: Stories) -> None:
        ways = {"noise": "_noise", "no noise": ""}
        stages = dict.fromkeys(arm.stages for arm in measured.arms)
        errors = {
            f"{word} stage{'s' * (stage == 2)}": {
                way: [measured.task_values(f"{word}_stage{ending}", "validation", task) for task in measured.tasks]
                for way, ending in ways.items()
            }
            for stage, word in ((1, "one"), (2, "two"))
            if stage in stages
        }
        path = performance.path / "memory_network_errors.png"
        titles = [f"{task.title} {task.number}" for task in stories.tasks]
        error_picture(errors, titles, path)
        name = stories.splits().name
        seeds = len(performance.seeds)
        performance.picture(
            path, f"Validation errors on {name}, task by task: the mean of {seeds} seeds and each of them."
        )
        shown = [one["attention"] for one in measured.outcomes if one["attention"]["statements"]]
        if shown:
            story = next((one for one in shown if one["task"] == SHOWN_TASK), shown[0])
            path = performance.path / "memory_network_attention.png"
            attention_picture(story, path)
            performance.picture(
                path,
                f"Where each hop of a memory network ({measured.arms[0].name}, seed {performance.seeds[0]}) looks, in "
                f"a test story of {name}; the statements from which the answer follows are bold.",
            )


def arms_asked(performance: Performance) -> list[NetworkArm]:
    """The arms that the claims asked for compare."""
    stages = {stage for claim, stage in STAGES.items() if performance.asks(claim)}
    return [arm for arm in ARMS if arm.name.removesuffix("_noise") in stages]


def open_stories(performance: Performance) -> Stories:
    """bAbI where it is to be had, else stories made in the manner of its tasks 1 and 2; smoke takes those unless it is
    named.

    Raises:
        DataError: bAbI is damaged, or has no such task.
    """
    settings: MemoryNetworkSettings = performance.configuration.memory_network
    roots, limit = performance.runtime.data, settings.questions
    path = find_set_path(DATA, roots) if performance.scale != "smoke" or DATA in roots else None
    numbers = sorted(set(settings.tasks))
    if path is None:
        made = [number for number in numbers if number in (1, 2)] or [1, 2]
        return Stories(make_story_tasks(made, questions=limit or 1000), embedded=True)
    tasks = open_story_tasks(path, numbers)
    return Stories([replace(one, train=one.train[:limit], test=one.test[:limit]) for one in tasks], embedded=False)


def problems_of(tasks: Sequence[StoryTask], settings: MemoryNetworkSettings, device: torch.device) -> list[Problem]:
    """One problem for each task, or one for all."""
    groups = [list(tasks)] if settings.joint else [[task] for task in tasks]
    return [
        make_problem(group, memory_size=settings.memory_size, empty_memories=settings.empty_memories, device=device)
        for group in groups
    ]


def _outcome(
    performance: Performance, problem: Problem, settings: MemoryNetworkSettings, arms: Sequence[NetworkArm]
) -> dict[str, Any]:
    """Train on one problem, or read what an earlier run found."""
    assert performance.folder is not None
    step = f"memory_network/{problem.name}"
    done: dict[str, Any] | None = performance.folder.finished(step)
    if done is not None:
        performance.seconds_before += done["seconds"]
        return done
    checkpoint = performance.folder.subfolder("memory_network") / f"{problem.name}.safetensors"

    def report(networks: Networks) -> None:
        last = [curve[-1] for rows in networks.curves for curve in rows]
        metrics = {name: mean([row[name] for row in last]) for name in ("train_loss", "validation_error")}
        stage = f"memory networks, {problem.name.replace('_', ' ')}"
        performance.progress.update(stage, networks.epoch, settings.epochs, metrics)

    networks = train_networks(problem, settings, performance.seeds, arms, checkpoint=checkpoint, after_epoch=report)
    outcome = measure(networks, problem, arms)
    outcome["seconds"] = round(networks.seconds, 2)
    performance.folder.finish(step, outcome)
    checkpoint.unlink(missing_ok=True)
    return outcome


def _epoch_seconds(
    problem: Problem, settings: MemoryNetworkSettings, seeds: Sequence[int], arms: Sequence[NetworkArm]
) -> float:
    """Seconds of an epoch, from a short one."""
    part = problem.parts["train"]
    size = min(settings.batch_size, len(part))
    few = EncodedQuestions(*(getattr(part, name)[: 4 * size] for name in EncodedQuestions.__dataclass_fields__))
    short = replace(problem, parts={**problem.parts, "train": few})
    times = []
    for _ in range(2):
        started = time.perf_counter()
        train_networks(short, settings.model_copy(update={"epochs": 1}), seeds, arms)
        times.append(time.perf_counter() - started)
    return min(times) * max(len(part) / len(few), 1.0)


PART: Part = MemoryNetworkPart()
