"""What Encore knows of the papers it performs: cards, published records, and verdicts in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from encore.base import registry
from encore.base.cards import Card
from encore.results.locations import published_records
from encore.results.record import RESULT, ClaimRecord, ResultRecord, read_record


@dataclass(frozen=True)
class Verdicts:
    """How many of a paper's claims hold, do not, and are open."""

    hold: int
    broken: int
    open: int

    @classmethod
    def of(cls, claims: list[ClaimRecord]) -> Verdicts:
        """Count them."""
        held = [claim.holds for claim in claims]
        return cls(held.count(True), held.count(False), held.count(None))

    @property
    def words(self) -> str:
        """`5 hold · 1 does not · 2 open`."""
        parts = [
            f"{self.hold} {'holds' if self.hold == 1 else 'hold'}" if self.hold else "",
            f"{self.broken} {'does' if self.broken == 1 else 'do'} not" if self.broken else "",
            f"{self.open} open" if self.open else "",
        ]
        return " · ".join(filter(None, parts))


class Catalogue:
    """Cards and published records, read once."""

    @cached_property
    def cards(self) -> dict[str, Card]:
        """All cards by slug."""
        return registry.cards()

    @cached_property
    def performed(self) -> tuple[str, ...]:
        """Slugs of the papers that Encore performs."""
        return tuple(slug for slug, card in self.cards.items() if card.state == "performed")

    @cached_property
    def records(self) -> dict[str, ResultRecord]:
        """The published record of each paper that has one."""
        folder = published_records()
        return {slug: read_record(folder / slug) for slug in self.performed if (folder / slug / RESULT).is_file()}

    @cached_property
    def verdicts(self) -> dict[str, Verdicts]:
        """Of the published records, by slug."""
        return {slug: Verdicts.of(record.claims) for slug, record in self.records.items()}
