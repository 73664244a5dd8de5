"""The registry: which papers there are, what their rooms can do, which models carry which name.

A room is a folder of `encore.papers` that holds a `card.toml`. Rooms are found by looking, never listed,
so that a new paper edits no existing file. Cards are read without importing the room; its Python modules
are imported only when one of them is asked for. Models that belong to no paper are named by a `models.toml` in
a folder of `encore.nn`, and found in the same way.
"""

from __future__ import annotations

import importlib
import importlib.util
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
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

_MODEL_PARTS = ("model", "variants", "baselines")
"""The modules of a room that register models."""


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

    The room's card, or the `models.toml` beside a library's modules, lists the same name under `models`, which is
    how the registry knows where to look without importing every room.
    """

    def keep(factory: _Factory) -> _Factory:
        if name in _factories and _factories[name] is not factory:
            raise EncoreError(f"two models are registered as '{name}'")
        _factories[name] = factory
        if isinstance(factory, type):
            factory.registered_name = name  # type: ignore[attr-defined]
        return factory

    return keep


@dataclass(frozen=True)
class Owner:
    """What a model belongs to: a paper, or the library itself.

    Attributes:
        models: all names that it registers.
        tasks: the kinds of work, the first being the one that its models are made for.
        modules: full names of the Python modules that register the models.
        weights: full name of the module that maps published checkpoints onto the models, which may not be there.
        paper: the paper's card; None for models of the library.
    """

    models: tuple[str, ...]
    tasks: tuple[str, ...]
    modules: tuple[str, ...]
    weights: str
    paper: Card | None = None

    @property
    def where(self) -> str:
        """The file that promises the models."""
        return f"the card of '{self.paper.slug}'" if self.paper is not None else f"models.toml of {self.modules[0]}"


@cache
def owners() -> tuple[Owner, ...]:
    """Whoever has models: every paper, in alphabetical order, then the library's folders."""
    papers = [
        Owner(
            models=one.models,
            tasks=one.tasks,
            modules=tuple(f"encore.papers.{one.slug}.{part}" for part in _MODEL_PARTS),
            weights=f"encore.papers.{one.slug}.weights",
            paper=one,
        )
        for one in cards().values()
    ]
    library = []
    for path in sorted(Path(str(resources.files("encore.nn"))).glob("*/models.toml")):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        home = f"encore.nn.{path.parent.name}"
        modules = tuple(f"{home}.{module}" for module in content["modules"])
        library.append(
            Owner(tuple(content["models"]), tuple(content["tasks"]), modules, f"{home}.{content['weights']}")
        )
    return (*papers, *library)


def owner_of_model(name: str) -> Owner:
    """What the model `name` belongs to.

    Raises:
        UnknownNameError: nothing registers that name.
    """
    for one in owners():
        if name in one.models:
            return one
    raise UnknownNameError("model", name, list_models())


def weights_mapping(name: str) -> ModuleType | None:
    """The module that maps published checkpoints onto the model `name`, where its owner has one.

    Raises:
        UnknownNameError: nothing registers that name.
    """
    module = owner_of_model(name).weights
    return importlib.import_module(module) if importlib.util.find_spec(module) is not None else None


def list_models(*, task: str | None = None, paper: str | None = None) -> list[str]:
    """Names that `create_model` takes, of all papers and the library, or of those with `task`, or of one `paper`."""
    slug = card(paper).slug if paper is not None else None
    return [
        name
        for one in owners()
        if (task is None or task in one.tasks) and (slug is None or (one.paper is not None and one.paper.slug == slug))
        for name in one.models
    ]


def paper_of_model(name: str) -> Card | None:
    """The paper whose room registers the model `name`; None for a model of the library.

    Raises:
        UnknownNameError: nothing registers that name.
    """
    return owner_of_model(name).paper


def require_model_verb(name: str, verb: Verb) -> None:
    """Refuse a verb that the paper of the model `name` lacks; models of the library have all of their task.

    Raises:
        InputError: with the verbs that the paper has.
        UnknownNameError: nothing registers that name.
    """
    paper = paper_of_model(name)
    if paper is not None:
        require_verb(paper, verb)


def model_factory(name: str) -> ModelFactory:
    """The class or function registered as `name`; imports the modules of its owner on first use.

    Raises:
        UnknownNameError: nothing registers that name.
        EncoreError: a model is promised that no module registers.
    """
    owner = owner_of_model(name)
    for module in owner.modules:
        if name not in _factories and importlib.util.find_spec(module) is not None:
            importlib.import_module(module)
    if name not in _factories:
        raise EncoreError(f"{owner.where} lists the model '{name}', but no module registers it")
    return _factories[name]
