"""How often a hard machine is learnt, with gradient noise and without: the experiments on learnt programs.

Each trains the same machine from many starts. A training succeeds if the answers of its best validation step are right
on the test samples; what is compared is the share of successes, paired over seeds: arms share starts, data and dropout.
"""

from __future__ import annotations

import itertools
import math
import statistics
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from matplotlib.figure import Figure
from pydantic import Field, model_validator

from encore.base.configuration import Configuration, configure
from encore.base.errors import ConfigurationError
from encore.base.files import replacing
from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.neural_costs import cost_of_step
from encore.papers.gradient_noise.neural_ensembles import (
    Member,
    Outcome,
    Problem,
    Schedule,
    train_ensemble,
)
from encore.results.parts import Part
from encore.results.performance import Performance, Plan
from encore.results.plots import PALETTE
from encore.results.record import ArmRecord, comparative_record
from encore.training.gradient_noise import noise_variance
from encore.training.trainer import device_of

NOISE, NO_NOISE, DROPOUT = "noise", "no_noise", "dropout"
SHARED_BY_POINTS = ("runs", "together", "solved_below", "judged", "grid")
"""Settings that are one for all points of a grid."""


class SuccessSettings(Configuration):
    """What all three experiments set.

    Attributes:
        eta: η of the arm with noise.
        dropout: rate of the arms that drop.
        runs: trainings of each arm for every seed and every point of the grid.
        together: most trainings in one ensemble, arms included.
        solved_below: largest share of wrong test answers of a success.
        grid: values of further settings by dotted key (`training.learning_rate`); all combinations are trained.
            What all points share (`runs`, `together`, `solved_below`, `judged`) has no place in it.
        training: how one ensemble is trained.
    """

    eta: float = Field(default=1.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    runs: int = Field(default=4, ge=1)
    together: int = Field(default=64, ge=2)
    solved_below: float = Field(default=0.0, ge=0, lt=1)
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    training: Schedule = Schedule(steps=1000)

    def points(self) -> list[SuccessSettings]:
        """The settings of every point of the grid.

        Raises:
            UnknownNameError, ConfigurationError: a key or a value of the grid does not fit.
        """
        if not self.grid:
            return [self]
        for key, values in self.grid.items():
            if key.split(".")[0] in SHARED_BY_POINTS:
                raise ConfigurationError(f"'grid' cannot vary '{key}'", f"set {key} itself, once for all points")
            if not values:
                raise ConfigurationError(
                    f"'grid' has no values for '{key}'", "give a list of at least one, or leave it out"
                )
        combinations = itertools.product(*self.grid.values())
        own = self.model_dump(mode="json", exclude={"grid"})
        return [configure(type(self), dict(zip(self.grid, values, strict=True)), own) for values in combinations]

    @model_validator(mode="after")
    def _every_point_has_a_machine(self) -> Self:
        for point in self.points():
            point.problem()
        return self

    def problem(self) -> Problem:
        """The machine and its samples.

        Raises:
            ConfigurationError: there is no such machine.
        """
        raise NotImplementedError

    @property
    def instances(self) -> float:
        """How many different samples the judged part is drawn from."""
        return math.inf

    @property
    def judged_part(self) -> str:
        """The held-out part whose errors decide."""
        return "test"


@dataclass(frozen=True)
class Training:
    """One finished training.

    Attributes:
        point: of the grid.
        arm, seed: which; `seed` is the record's.
        errors: share of wrong answers by held-out part.
        curve: error on the first part at each evaluation.
        evaluated: the steps of these evaluations.
        solved: whether it counts as a success.
        seconds: its share of the ensemble's time.
    """

    point: int
    arm: str
    seed: int
    errors: Mapping[str, float]
    curve: Sequence[float]
    evaluated: Sequence[float]
    solved: bool
    seconds: float


class SuccessPart(Part):
    """An experiment on one machine; the claim and the section of the configuration have its name.

    Attributes:
        name: of the machine.
        machine: in words.
        baselines: arms beside the one with noise.
    """

    name: str
    machine: str
    baselines: tuple[str, ...] = (NO_NOISE,)

    @abstractmethod
    def members(self, settings: SuccessSettings, seed: int) -> dict[str, Member]:
        """The arms' trainings from one start."""

    def plan(self, performance: Performance) -> Plan:
        """A step of one ensemble is timed here."""
        settings = self._settings(performance)
        points = settings.points()
        arms = 1 + len(self.baselines)
        starts = settings.runs * len(performance.seeds)
        trainings = arms * starts * len(points)
        together = arms * min(starts, max(1, settings.together // arms))
        problem = points[-1].problem()
        seconds, held = cost_of_step(problem, points[-1].training, device_of(performance.runtime), together)
        size = sum(one.nbytes for one in problem.model([0]).parameters())
        return Plan(
            data=[f"{self.machine}: made as it is trained, {settings.training.batch_size} samples a step"],
            arms=[f"{self.name}: {arm}, {settings.runs} runs a seed" for arm in (NOISE, *self.baselines)],
            seeds=list(performance.seeds),
            seconds=seconds * trainings / together * settings.training.steps,
            memory_bytes=400 * 2**20 + held + 6 * together * size,
            disk_bytes=5 * together * size + trainings * 2000,
            notes=[f"{trainings} trainings of the {self.machine}, at most {together} at once, a step timed here"],
        )

    def perform(self, performance: Performance) -> None:
        """Train all, finished ensembles being kept, and judge the share of successes."""
        settings = self._settings(performance)
        trainings = self._trainings(performance)
        arms = (NOISE, *self.baselines)
        rates = {arm: [self.rate(trainings, arm, seed) for seed in performance.seeds] for arm in arms}
        for arm in arms:
            for seed in performance.seeds:
                performance.arms.append(self._arm_record(trainings, arm, seed, settings.judged_part))
        claim = performance.card.claim(self.name)
        others = {arm: rates[arm] for arm in self.baselines}
        note = f"{self._counted(trainings, arms, settings.judged_part)}. {self.setting(settings)}"
        performance.record(comparative_record(claim, rates[NOISE], others, note=note))
        path = performance.path / f"{self.name}.png"
        _picture(trainings, arms, path)
        performance.picture(path, f"{self.machine}: every training's validation error, and how many have none.")
        self.tabulate(performance, trainings)

    def tabulate(self, performance: Performance, trainings: Sequence[Training]) -> None:
        """Fill the paper's table of this experiment, where the card has one."""

    def setting(self, settings: SuccessSettings) -> str:
        """The setting in words."""
        training = settings.training
        first, last = (
            math.sqrt(noise_variance(step, settings.eta, training.decay)) for step in (0, training.steps - 1)
        )
        words = (
            f"at most {training.steps} steps of {training.batch_size} samples; η = {settings.eta}: the noise in every "
            f"entry of a gradient falls from {first:.2g} to {last:.2g}, after clipping at {training.clip:g}"
        )
        if settings.instances <= training.steps * training.batch_size:
            words += f"; only {settings.instances:,} different samples exist, so the judged ones need not be new"
        if settings.grid:
            varied = "; ".join(f"{key} {', '.join(map(str, values))}" for key, values in settings.grid.items())
            words += f". All combinations of {varied}"
        return words

    @staticmethod
    def rate(trainings: Sequence[Training], arm: str, seed: int) -> float:
        """Share of successes in % of an arm's trainings with one seed."""
        return 100 * statistics.fmean(one.solved for one in trainings if (one.arm, one.seed) == (arm, seed))

    def _settings(self, performance: Performance) -> SuccessSettings:
        settings: SuccessSettings = getattr(performance.configuration, self.name)
        return settings

    def _trainings(self, performance: Performance) -> list[Training]:
        settings = self._settings(performance)
        starts = [(seed, run) for seed in performance.seeds for run in range(settings.runs)]
        each = max(1, settings.together // (1 + len(self.baselines)))
        groups = [starts[first : first + each] for first in range(0, len(starts), each)]
        found = []
        for place, point in enumerate(settings.points()):
            for number, group in enumerate(groups):
                found += self._ensemble(performance, place, point, number, group)
        return found

    def _ensemble(
        self,
        performance: Performance,
        place: int,
        settings: SuccessSettings,
        number: int,
        starts: Sequence[tuple[int, int]],
    ) -> list[Training]:
        """Train all arms from some starts at one point of the grid, or read what they reached."""
        arms: list[tuple[str, int]] = []
        members: list[Member] = []
        for seed, run in starts:
            for arm, member in self.members(settings, derive_seed(seed, self.name, "run", run)).items():
                arms.append((arm, seed))
                members.append(member)
        step = f"ensembles/{self.name}-{place}-{number}"
        assert performance.folder is not None
        kept = performance.folder.finished(step)
        if kept is None:
            checkpoint = performance.path / "checkpoints" / f"{self.name}-{place}-{number}.ckpt"

            def report(step: int, error: float) -> None:
                performance.progress.update(
                    f"{self.name} {place}-{number}", step, settings.training.steps, {"val_error": error}
                )

            outcome = train_ensemble(
                settings.problem(),
                members,
                settings.training,
                device=device_of(performance.runtime),
                checkpoint=checkpoint,
                report=report,
            )
            kept = asdict(outcome)
            performance.folder.finish(step, kept)
            checkpoint.unlink(missing_ok=True)
        outcome = Outcome(**kept)
        return [
            Training(
                point=place,
                arm=arm,
                seed=seed,
                errors={part: values[index] for part, values in outcome.errors.items()},
                curve=[row["error"][index] for row in outcome.curves],
                evaluated=[row["step"][0] for row in outcome.curves],
                solved=outcome.errors[settings.judged_part][index] <= settings.solved_below,
                seconds=outcome.seconds / len(members),
            )
            for index, (arm, seed) in enumerate(arms)
        ]

    def _arm_record(self, trainings: Sequence[Training], arm: str, seed: int, judged: str) -> ArmRecord:
        own = [one for one in trainings if (one.arm, one.seed) == (arm, seed)]
        accuracies = [100 * (1 - one.errors[judged]) for one in own]
        return ArmRecord(
            arm=f"{self.name}_{arm}",
            seed=seed,
            seconds=round(sum(one.seconds for one in own), 1),
            metrics={
                "success_rate": self.rate(trainings, arm, seed),
                "mean_accuracy": statistics.fmean(accuracies),
                "best_accuracy": max(accuracies),
            },
        )

    def _counted(self, trainings: Sequence[Training], arms: Sequence[str], judged: str) -> str:
        sentences = []
        for arm in arms:
            own = [one for one in trainings if one.arm == arm]
            accuracy = 100 * (1 - statistics.fmean(one.errors[judged] for one in own))
            solved = sum(one.solved for one in own)
            sentences.append(f"{arm.replace('_', ' ')}: {solved} of {len(own)} solved, mean accuracy {accuracy:.1f} %")
        return "; ".join(sentences)


def _picture(trainings: Sequence[Training], arms: Sequence[str], path: Path) -> None:
    """Each training's validation error over its steps, and the share of trainings that have reached none."""
    picture = Figure(figsize=(8, 3), layout="constrained")
    left, right = picture.subplots(1, 2)
    for colour, arm in zip(PALETTE, arms, strict=False):
        own = [one for one in trainings if one.arm == arm]
        steps = max((one.evaluated for one in own), key=len)
        for one in own:
            errors = [100 * error for error in one.curve]
            left.plot(one.evaluated, errors, color=colour, alpha=0.4, linewidth=0.8)
        curves = [one.curve for one in own]
        reached = [100 * statistics.fmean(min(one[: end + 1]) == 0 for one in curves) for end in range(len(steps))]
        right.plot(steps, reached, color=colour, label=arm.replace("_", " "))
    left.set(title="validation error of each training (%)", xlabel="step", ylim=(0, None))
    right.set(title="trainings without validation errors (%)", xlabel="step", ylim=(-3, 103))
    right.legend(frameon=False)
    with replacing(path) as temporary:
        picture.savefig(temporary, dpi=110)
