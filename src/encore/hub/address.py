"""Where readers reach a hub: said once to `encore serve`, and kept for commands that put links into mails."""

from __future__ import annotations

import os

from encore.hub.database import Database, SourceState
from encore.hub.settings import PREFIX, HubSettings

NAME = "base_url"


def keep_address(database: Database, settings: HubSettings) -> None:
    """Keep the address of a hub that begins to serve."""
    with database.writing() as transaction:
        state = transaction.get(SourceState, NAME)
        if state is None:
            transaction.add(SourceState(name=NAME, content={"address": settings.base_url}))
        else:
            state.content = {"address": settings.base_url}


def with_kept_address(database: Database, settings: HubSettings, *, given: str | None) -> HubSettings:
    """Settings with the address at which the hub was served last, unless an option or the environment names one."""
    if given is not None or os.environ.get(PREFIX + "BASE_URL"):
        return settings
    with database.reading() as transaction:
        state = transaction.get(SourceState, NAME)
    return settings if state is None else settings.model_copy(update={"base_url": state.content["address"]})
