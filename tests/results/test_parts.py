"""Recipes of several experiments."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from encore.base.configuration import Configuration
from encore.base.progress import SilentProgress
from encore.base.registry import card
from encore.base.runtime import Runtime
from encore.results.parts import Part, PartsRecipe
from encore.results.performance import Performance, Plan
from encore.results.record import unmeasured_record


class Sections(Configuration):
    """Nothing but a number."""

    steps: int = 1


class Counting(Part):
    """Records its claims and plans as many seconds as there are steps."""

    def __init__(self, *claims: str, seconds: float) -> None:
        self.claims, self.seconds, self.performed = claims, seconds, 0

    def plan(self, performance: Performance) -> Plan:
        return Plan(["digits"], [self.claims[0]], [], self.seconds * performance.configuration.steps, 7, 5)

    def perform(self, performance: Performance) -> None:
        self.performed += 1
        for claim in performance.claims:
            if claim.id in self.claims:
                performance.record(unmeasured_record(claim, "not measured"))


class TwoParts(PartsRecipe):
    """The claims of SegNet, by halves."""

    default_seeds: ClassVar = {"smoke": 1, "laptop": 1, "paper": 1}
    kind = Sections
    defaults: ClassVar = {"smoke": {}, "laptop": {"steps": 3}, "paper": {}}

    def __init__(self) -> None:
        ids = [claim.id for claim in card("segnet").claims]
        self.parts = Counting(*ids[:2], seconds=10), Counting(*ids[2:], seconds=1)


def _performance(recipe: TwoParts) -> Performance:
    paper = card("segnet")
    configuration = recipe.configuration("laptop", {})
    return Performance(paper, "laptop", paper.claims, (0,), configuration, Runtime(), SilentProgress())


def test_all_parts_are_planned_and_performed_in_order():
    recipe = TwoParts()
    performance = _performance(recipe)
    plan = recipe.plan(performance)
    assert (plan.seconds, plan.memory_bytes, plan.disk_bytes, plan.data) == (33, 7, 10, ["digits"])
    recipe.perform(performance)
    assert list(performance.records) == [claim.id for claim in performance.claims]


def test_a_part_none_of_whose_claims_is_asked_for_rests():
    recipe = TwoParts()
    performance = _performance(recipe)
    recipe.perform(replace(performance, claims=performance.claims[-1:]))
    assert [part.performed for part in recipe.parts] == [0, 1]
