"""Recipes of several experiments that share nothing but their paper: each part measures some of the claims."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from encore.base.configuration import Configuration, Settings, configure
from encore.base.runtime import Scale
from encore.results.performance import Performance, Plan, Recipe


class Part(ABC):
    """One experiment of a recipe.

    Attributes:
        claims: ids of the claims that it measures.
    """

    claims: tuple[str, ...]

    @abstractmethod
    def plan(self, performance: Performance) -> Plan:
        """What `perform` would do for the claims that are asked for, without doing it."""

    @abstractmethod
    def perform(self, performance: Performance) -> None:
        """Measure and record those of `claims` that are asked for.

        Finished steps are kept with `performance.folder.finish`, so that a resumed run skips them.
        """


class PartsRecipe(Recipe):
    """Performs those of its parts whose claims are asked for, one after the other.

    Attributes:
        parts: the experiments; every claim of the card belongs to one of them.
        kind: the configuration's class, with a section for each part that has something to set.
        defaults: its values at each scale.
    """

    parts: Sequence[Part]
    kind: type[Configuration]
    defaults: Mapping[Scale, Settings]

    def configuration(self, scale: Scale, settings: Settings) -> Configuration:
        """The defaults of `scale` with the user's settings applied."""
        return configure(self.kind, settings, self.defaults[scale])

    def plan(self, performance: Performance) -> Plan:
        """What all parts would do: times and disk added, memory of the largest."""
        plans = [part.plan(performance) for part in self._asked(performance)]
        return Plan(
            data=list(dict.fromkeys(name for plan in plans for name in plan.data)),
            arms=[arm for plan in plans for arm in plan.arms],
            seeds=list(performance.seeds),
            seconds=sum(plan.seconds for plan in plans),
            memory_bytes=max((plan.memory_bytes for plan in plans), default=0),
            disk_bytes=sum(plan.disk_bytes for plan in plans),
            notes=list(dict.fromkeys(note for plan in plans for note in plan.notes)),
        )

    def perform(self, performance: Performance) -> None:
        """Perform the parts."""
        for part in self._asked(performance):
            part.perform(performance)

    def _asked(self, performance: Performance) -> list[Part]:
        return [part for part in self.parts if performance.asks(*part.claims)]
