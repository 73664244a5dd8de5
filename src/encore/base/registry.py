"""The registry: which papers there are, what their rooms can do, which models carry which name.

A room is a folder of `encore.papers` that holds a `card.toml`. Rooms are found by looking, never listed,
so that a new paper edits no existing file. Cards are read without importing the room; its Python modules
are imported only when one of them is asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from functools import cache
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from encore.base.cards import Card, Verb, read_card
from encore.base.errors import EncoreError, InputError, UnknownNameError

ModelFactory = Callable[..., Any]
_Factory = TypeVar("_Factory", bound=ModelFactory)

_factories: dict[str, ModelFactory] = {}


@cache
def cards() -> dict[str, Card]:
    """Every paper's card by slug, in alphabetical order."""
    rooms = Path(str(resources.files("encore.papers")))
    return {path.parent.name: read_card(path) for path in sorted(rooms.glob("*/card.toml"))}


def card(slug: str) -> Card:
    """The card of the paper `slug`.

    Raises:
        UnknownNameError: no paper has that slug; the nearest is suggested.
    """
    try:
        return cards()[slug]
    except KeyError:
        raise UnknownNameError("paper", slug, cards()) from None


def list_papers(*, task: str | None = None) -> list[Card]:
    """The cards of all papers, or of those with `task` among their tasks."""
    return [one for one in cards().values() if task is None or task in one.tasks]


def require_verb(paper: Card, verb: Verb) -> None:
    """Refuse a verb that a paper lacks.

    Raises:
        InputError: with the verbs that the paper has.
    """
    if verb in paper.verbs:
        return
    if not paper.verbs:
        performed = ", ".join(slug for slug, one in cards().items() if one.verbs)
        raise InputError(f"'{paper.slug}' is planned, not performed yet", f"papers that can be used: {performed}")
    raise InputError(f"'{paper.slug}' has no '{verb}'", f"it can: {', '.join(paper.verbs)}")


def room(slug: str, part: str) -> ModuleType:
    """Import one module of a paper's room (`model`, `variants`, `recipe`, `method`, `weights`).

    Raises:
        UnknownNameError: no paper has that slug.
        EncoreError: the room has no such module.
    """
    card(slug)
    name = f"encore.papers.{slug}.{part}"
    if importlib.util.find_spec(name) is None:
        raise EncoreError(f"the room of '{slug}' has no module '{part}'")
    return importlib.import_module(name)


def has_part(slug: str, part: str) -> bool:
    """Whether the room of `slug` holds the module `part`."""
    return importlib.util.find_spec(f"encore.papers.{card(slug).slug}.{part}") is not None


def register_model(name: str) -> Callable[[_Factory], _Factory]:
    """Make a class or function answer to `create_model(name, …)`.

    The room's card lists the same name under `models`, which is how the registry knows where to look
    without importing every room.
    """

    def keep(factory: _Factory) -> _Factory:
        if name in _factories and _factories[name] is not factory:
            raise EncoreError(f"two models are registered as '{name}'")
        _factories[name] = factory
        if isinstance(factory, type):
            factory.registered_name = name  # type: ignore[attr-defined]
        return factory

    return keep


def list_models(*, task: str | None = None, paper: str | None = None) -> list[str]:
    """Names that `create_model` takes, of all papers or of those with `task`, or of one `paper`."""
    papers = [card(paper)] if paper is not None else list_papers(task=task)
    return [name for one in papers if task is None or task in one.tasks for name in one.models]


def paper_of_model(name: str) -> Card:
    """The paper whose room registers the model `name`.

    Raises:
        UnknownNameError: no room does.
    """
    for one in cards().values():
        if name in one.models:
            return one
    raise UnknownNameError("model", name, list_models())


def model_factory(name: str) -> ModelFactory:
    """The class or function registered as `name`; imports its room on first use.

    Raises:
        UnknownNameError: no room registers that name.
        EncoreError: the card promises a model that the room does not register.
    """
    paper = paper_of_model(name)
    for part in ("model", "variants", "baselines"):
        if name not in _factories and has_part(paper.slug, part):
            room(paper.slug, part)
    if name not in _factories:
        raise EncoreError(f"the card of '{paper.slug}' lists the model '{name}', but its room registers none such")
    return _factories[name]
