"""What memory networks reached, and where they look for an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from encore.papers.gradient_noise.memory_network import respond
from encore.papers.gradient_noise.memory_network_problem import PARTS, Problem, memories_without_gaps
from encore.papers.gradient_noise.memory_network_training import NetworkArm, Networks, errors_by_part
from encore.results.record import ArmRecord

SHOWN_TASK = 2
"""Whose attention is pictured: two statements together support an answer."""

_CURVE_POINTS = 20


def measure(networks: Networks, problem: Problem, arms: Sequence[NetworkArm]) -> dict[str, Any]:
    """Errors by arm, part and task; curves; one story with its attention."""
    errors = errors_by_part(networks, problem)
    thinned = max(networks.epoch // _CURVE_POINTS, 1)
    return {
        "errors": {
            arm.name: {
                part: {str(task): values[:, place].tolist() for task, values in tasks.items()}
                for part, tasks in errors.items()
            }
            for place, arm in enumerate(arms)
        },
        "curves": {
            arm.name: [
                [
                    {"epoch": row["epoch"], "train_loss": row["train_loss"], "val_error": row["validation_error"]}
                    for row in curve[thinned - 1 :: thinned]
                ]
                for curve in networks.curves[place]
            ]
            for place, arm in enumerate(arms)
        },
        "attention": _attention(networks, problem),
    }


@torch.no_grad()
def _attention(networks: Networks, problem: Problem) -> dict[str, Any]:
    """Where the first network looks in the first test story of a size that can be shown."""
    part = problem.parts["test"]
    fit = [
        at
        for at, one in enumerate(problem.texts)
        if 5 <= len(one.story) <= min(12, problem.num_memories) and (one.task == SHOWN_TASK or len(problem.tasks) == 1)
    ]
    at = fit[0] if fit else 0
    one = problem.texts[at]
    chosen = slice(at, at + 1)
    answers = respond(
        networks.words[:, :1, :1],
        networks.times[:, :1, :1],
        problem.bags[memories_without_gaps(part.stories[chosen], problem.num_memories)[None]],
        problem.bags[part.questions[None, chosen]],
        networks.linear[:1, :1],
    )
    length = min(len(one.story), problem.num_memories)
    newest_first = answers.attention[:, 0, 0, 0, :length]
    return {
        "task": one.task,
        "statements": [" ".join(sentence) for sentence in one.story[len(one.story) - length :]],
        "supporting": [place - len(one.story) + length for place in one.supporting],
        "question": " ".join(one.question),
        "answer": one.answer,
        "said": problem.words[int(answers.logits.argmax())],
        "attention": newest_first.flip(-1).tolist(),
    }


@dataclass(frozen=True)
class Measured:
    """What all tasks left.

    Attributes:
        outcomes: of each problem, as `measure` makes them.
        arms: that were trained.
        tasks: their numbers.
    """

    outcomes: Sequence[Mapping[str, Any]]
    arms: tuple[NetworkArm, ...]
    tasks: tuple[int, ...]

    def task_values(self, arm: str, part: str, task: int) -> list[float]:
        """Errors of a task, one per seed, in per cent."""
        found: list[float] = next(
            one["errors"][arm][part][str(task)] for one in self.outcomes if str(task) in one["errors"][arm][part]
        )
        return found

    def values(self, arm: str, part: str) -> list[float]:
        """Mean errors over tasks, one per seed, in per cent."""
        rows = [self.task_values(arm, part, task) for task in self.tasks]
        return [mean(seed) for seed in zip(*rows, strict=True)]

    def best_of_seeds(self, arm: str) -> float:
        """Mean test error over tasks, of the seed that has the lowest training error on each."""
        chosen = []
        for task in self.tasks:
            fitted, test = (self.task_values(arm, part, task) for part in ("train", "test"))
            chosen.append(test[fitted.index(min(fitted))])
        return mean(chosen)

    def arm_records(self, seeds: Sequence[int]) -> list[ArmRecord]:
        """One for each arm and seed; networks that are trained at once share the time."""
        seconds = sum(one["seconds"] for one in self.outcomes) / (len(seeds) * len(self.arms))
        records = []
        for arm in self.arms:
            for place, seed in enumerate(seeds):
                metrics: dict[str, float | None] = {
                    f"{part}_error": self.values(arm.name, part)[place] for part in PARTS
                }
                for task in self.tasks:
                    for part in ("validation", "test"):
                        error = self.task_values(arm.name, part, task)[place]
                        metrics[f"task_{task:02d}_{part}_error"] = error
                curves = [one["curves"][arm.name][place] for one in self.outcomes]
                records.append(
                    ArmRecord(
                        arm=f"memory_network_{arm.name}",
                        seed=seed,
                        seconds=round(seconds, 1),
                        metrics=metrics,
                        curves=[
                            {key: mean([row[key] for row in rows]) for key in ("epoch", "train_loss", "val_error")}
                            for rows in zip(*curves, strict=True)
                        ],
                    )
                )
        return records


def mean(values: Sequence[float]) -> float:
    """Of at least one."""
    return sum(values) / len(values)
