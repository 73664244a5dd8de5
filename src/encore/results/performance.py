"""The protocol between a room's recipe and the verb `run`."""

from __future__ import annotations

import datetime
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import encore
from encore.base.cards import Card, Claim
from encore.base.configuration import Configuration, Settings
from encore.base.progress import ProgressReporter
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime, Scale
from encore.results.environment import machine_in_words, package_versions, peak_memory_bytes
from encore.results.record import ArmRecord, ClaimRecord, DataRecord, Picture, ResultRecord, TableRecord


class UsedData(Protocol):
    """What a record needs to know of a data set; `encore.data.contracts.DataSplits` is one."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def origin(self) -> str: ...
    @property
    def source(self) -> str: ...
    @property
    def embedded(self) -> bool: ...
    @property
    def skipped(self) -> tuple[str, ...]: ...
    def sizes(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Plan:
    """What a run would do, for `--dry-run`.

    Attributes:
        data: the data sets, in words.
        arms: the models that would be trained, in words.
        seeds: how often each.
        seconds: expected wall time on this machine.
        memory_bytes: expected peak memory.
        disk_bytes: expected size of the run's folder.
        notes: what else the user should know.
    """

    data: list[str]
    arms: list[str]
    seeds: list[int]
    seconds: float
    memory_bytes: int
    disk_bytes: int
    notes: list[str] = field(default_factory=list)


@dataclass
class Performance:
    """One performance of a paper's claims: what was asked, and where the recipe puts what it measured.

    Attributes:
        card: the paper.
        scale: smoke, laptop or paper.
        claims: the claims to perform.
        seeds: seed of each repetition.
        configuration: the recipe's, settings applied.
        runtime: device, precision, data roots.
        progress: told of all work.
        folder: the run's folder; absent in a dry run.
        seconds_before: what the finished steps that a resumed run took over say that they took; the record has this or
            what the folder says of earlier processes, whichever is more.
    """

    card: Card
    scale: Scale
    claims: tuple[Claim, ...]
    seeds: tuple[int, ...]
    configuration: Any
    runtime: Runtime
    progress: ProgressReporter
    folder: RunFolder | None = None
    seconds_before: float = 0.0
    records: dict[str, ClaimRecord] = field(default_factory=dict)
    data: list[DataRecord] = field(default_factory=list)
    arms: list[ArmRecord] = field(default_factory=list)
    tables: list[TableRecord] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The run's folder."""
        assert self.folder is not None, "a dry run has no folder"
        return self.folder.path

    def asks(self, *claim_ids: str) -> bool:
        """Whether any of these claims is to be performed."""
        return any(claim.id in claim_ids for claim in self.claims)

    def use_data(self, splits: UsedData) -> None:
        """Name a data set in the record."""
        self.data.append(
            DataRecord(
                name=splits.name,
                sizes=splits.sizes(),
                classes=len(splits.classes),
                origin=splits.origin,
                source=splits.source,
                embedded=splits.embedded,
                skipped=len(splits.skipped),
            )
        )

    def record(self, claim: ClaimRecord) -> None:
        """Keep a claim's record."""
        self.records[claim.id] = claim

    def picture(self, path: Path, caption: str) -> None:
        """Name a picture, which lies in the run's folder."""
        self.pictures.append(Picture(path=str(path.relative_to(self.path)), caption=caption))
        self.progress.picture(self.card.slug, path)

    def result(self) -> ResultRecord:
        """The record of all that was measured, claims in the card's order."""
        before = self.folder.seconds_before if self.folder is not None else 0.0
        return ResultRecord(
            paper=self.card.slug,
            title=self.card.title,
            scale=self.scale,
            created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            data=self.data,
            seeds=list(self.seeds),
            configuration=self.configuration.model_dump(mode="json"),
            versions=package_versions(),
            machine=machine_in_words(),
            seconds=round(max(self.seconds_before, before) + time.monotonic() - self._started, 1),
            peak_memory_bytes=peak_memory_bytes(),
            claims=[self.records[claim.id] for claim in self.claims if claim.id in self.records],
            tables=self.tables,
            arms=self.arms,
            pictures=self.pictures,
            encore=encore.__version__,
        )


class Recipe(ABC):
    """How a paper's claims are performed; each room's `recipe.py` holds one as `RECIPE`.

    Attributes:
        data_name: the named data set that `--data PATH` means when no name is given.
        default_seeds: repetitions at each scale.
    """

    data_name: str | None = None
    default_seeds: Mapping[Scale, int]

    @abstractmethod
    def configuration(self, scale: Scale, settings: Settings) -> Configuration:
        """The configuration at `scale` with the user's settings applied."""

    @abstractmethod
    def plan(self, performance: Performance) -> Plan:
        """What `perform` would do, without doing it."""

    @abstractmethod
    def perform(self, performance: Performance) -> None:
        """Measure every claim of `performance.claims` and record it.

        Finished parts are kept with `performance.folder.finish`, so that a resumed run skips them.
        """


def seeds_of(first: int, count: int) -> tuple[int, ...]:
    """`count` seeds from `first` on."""
    return tuple(range(first, first + count))


def selected_claims(card: Card, claim_ids: Sequence[str]) -> tuple[Claim, ...]:
    """The claims named, or all.

    Raises:
        UnknownNameError: the card has no such claim.
    """
    from encore.base.errors import UnknownNameError

    known = [claim.id for claim in card.claims]
    for claim_id in claim_ids:
        if claim_id not in known:
            raise UnknownNameError(f"claim of '{card.slug}'", claim_id, known)
    return tuple(claim for claim in card.claims if not claim_ids or claim.id in claim_ids)
