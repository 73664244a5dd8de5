"""`ask`: questions that a paper answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import PydanticUndefined

from encore.base import registry
from encore.base.configuration import Settings, configure, parse_settings
from encore.base.errors import ConfigurationError, UnknownNameError
from encore.base.files import write_json
from encore.base.progress import ProgressReporter, SilentProgress
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime
from encore.results.questions import Answer, Question, QuestionContext
from encore.verbs.run import runtime_request

ANSWER = "answer.json"


@dataclass(frozen=True)
class Parameter:
    """One key of a question.

    Attributes:
        name: the key.
        default: its JSON value; meaningless where it is required.
        required: whether the question cannot be asked without it.
        text: what it is.
    """

    name: str
    default: Any
    required: bool
    text: str


def questions(paper: str) -> dict[str, Question]:
    """What `paper` can be asked, by name.

    Raises:
        InputError: no such paper, or it answers no questions.
    """
    card = registry.card(paper)
    registry.require_verb(card, "ask")
    known: dict[str, Question] = registry.room(paper, "questions").QUESTIONS
    return known


def named_question(paper: str, name: str) -> Question:
    """One question of `paper`; hyphens and underscores in names are the same.

    Raises:
        UnknownNameError: there is none of that name, with the nearest.
    """
    known = questions(paper)
    if name.replace("_", "-") not in known:
        raise UnknownNameError(f"question of '{paper}'", name, known)
    return known[name.replace("_", "-")]


def parameters_of(question: Question) -> list[Parameter]:
    """The keys of a question, in the order in which bare words fill them."""
    rows = []
    for name, field in question.parameters.model_fields.items():
        default = field.get_default(call_default_factory=True)
        required = default is PydanticUndefined
        rows.append(Parameter(name, None if required else default, required, field.description or ""))
    return rows


def ask(
    paper: str,
    question: str,
    settings: Settings | None = None,
    *,
    out: Path | str | None = None,
    runtime: Runtime | None = None,
    progress: ProgressReporter | None = None,
    **more: Any,
) -> Answer:
    """Ask a paper one of its questions.

    Args:
        paper: its slug.
        question: the question's name; `questions(paper)` has all of them.
        settings: values of its keys.
        out: where pictures and `answer.json` go; without it nothing is written.
        runtime: seed, device.
        progress: told of long work.
        more: further values of keys, `activation="gelu"`.

    Raises:
        InputError: whatever the user can mend.

    Example:
        >>> ask("pdlt", "critical-point", activation="relu").values["C_W"]
        2.0
    """
    question = question.replace("_", "-")
    asked = named_question(paper, question)
    parameters = configure(asked.parameters, {**(settings or {}), **more})
    runtime, progress = runtime or Runtime(), progress or SilentProgress()
    if out is None:
        return asked.answer(parameters, QuestionContext(None, runtime.seed, runtime.device, progress))
    request = {
        "verb": "ask",
        "paper": paper,
        "question": question,
        "parameters": parameters.model_dump(mode="json"),
        "runtime": runtime_request(runtime),
    }
    with RunFolder(out, request) as folder:
        answer = asked.answer(parameters, QuestionContext(folder.path, runtime.seed, runtime.device, progress))
        write_json(folder.path / ANSWER, {"question": question, "asked": asked.text, **answer.as_json()})
        return answer


def settings_from_words(question: Question, words: Iterable[str], assignments: Iterable[str] = ()) -> dict[str, Any]:
    """The values of a question's keys from words of a command line.

    Args:
        question: whose keys they are.
        words: `key=value`, or a bare value for the next key that has none.
        assignments: further `key=value`, from `--set`.

    Raises:
        ConfigurationError: more bare words than keys, or a key that comes twice.
    """
    bare = [word for word in words if not _is_assignment(word)]
    given = parse_settings([*(word for word in words if _is_assignment(word)), *assignments])
    free = [name for name in question.parameters.model_fields if name not in given]
    if len(bare) > len(free):
        raise ConfigurationError(
            f"'{bare[len(free)]}' is one word too many",
            f"the question takes: {', '.join(question.parameters.model_fields)}",
        )
    named: Mapping[str, Any] = parse_settings(f"{key}={word}" for key, word in zip(free, bare, strict=False))
    return {**given, **named}


def _is_assignment(word: str) -> bool:
    key, equals, _ = word.partition("=")
    return bool(equals) and key.replace(".", "_").replace("-", "_").isidentifier()
