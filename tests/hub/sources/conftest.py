"""A stand-in for the sources, and patience that tests have."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encore.hub.settings import HubSettings
from encore.hub.sources.client import Outside, Patience
from tests.hub.sources.stand_in import StandIn, stand_in


@pytest.fixture
def there() -> Iterator[StandIn]:
    """Both sources, without papers."""
    with stand_in() as sources:
        yield sources


@pytest.fixture
def patience() -> Patience:
    """Little."""
    return Patience(tries=3, first_wait=0.01, longest_wait=1.5, timeout=0.5)


@pytest.fixture
def outside(there: StandIn, patience: Patience, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    """A client of the stand-in."""
    settings = HubSettings(folder=tmp_path_factory.mktemp("hub"), secret="s" * 40, arxiv_seconds=0)
    with Outside(there.settings(settings), patience) as client:
        yield client
