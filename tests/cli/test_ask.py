"""Questions on the command line and in Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import encore as library
from encore.base.configuration import Configuration, configure
from encore.base.errors import ConfigurationError, InputError, UnknownNameError
from encore.results.questions import Answer, Question, QuestionContext
from encore.verbs.ask import parameters_of, settings_from_words
from tests.cli.test_bad_input import refused


class Triangle(Configuration):
    """Two sides and an option."""

    a: float
    b: float
    unit: str = "cm"


def _hypotenuse(parameters: Triangle, context: QuestionContext) -> Answer:
    return Answer(f"{(parameters.a**2 + parameters.b**2) ** 0.5:g} {parameters.unit}")


QUESTION = Question("How long is the longest side?", Triangle, _hypotenuse)


def test_bare_words_fill_the_keys_in_order():
    assert settings_from_words(QUESTION, ["3", "4"]) == {"a": 3, "b": 4}
    assert settings_from_words(QUESTION, ["b=4", "3", "mm"]) == {"a": 3, "b": 4, "unit": "mm"}
    assert settings_from_words(QUESTION, ["3"], ["b=4"]) == {"a": 3, "b": 4}


def test_a_word_too_many_and_a_key_given_twice_are_refused():
    with pytest.raises(ConfigurationError, match="'x' is one word too many: the question takes: a, b, unit"):
        settings_from_words(QUESTION, ["3", "4", "cm", "x"])
    with pytest.raises(ConfigurationError, match="twice"):
        settings_from_words(QUESTION, ["a=3"], ["a=4"])


def test_a_key_without_a_default_has_to_be_given():
    with pytest.raises(ConfigurationError, match="'b' is missing: give b=VALUE"):
        configure(Triangle, {"a": 3})


def test_the_keys_of_a_question_say_which_are_required():
    assert [(one.name, one.required) for one in parameters_of(QUESTION)] == [("a", True), ("b", True), ("unit", False)]


def test_a_paper_lists_its_questions(encore):
    listed = json.loads(encore("ask", "pdlt", "--json").out)
    assert listed["paper"] == "pdlt"
    names = [one["name"] for one in listed["questions"]]
    assert {"universality-class", "critical-point"} <= set(names)
    assert all(one["text"].endswith("?") and one["parameters"] for one in listed["questions"])
    text = encore("ask", "pdlt").out
    assert all(f"encore ask pdlt {name}" in text for name in names)


def test_an_answer_is_one_json_object_and_a_folder_if_one_is_named(encore, tmp_path: Path):
    answer = json.loads(encore("ask", "pdlt", "critical-point", "relu", "--json").out)
    assert set(answer) == {"text", "values", "rows", "pictures"}
    out = tmp_path / "answer"
    encore("ask", "pdlt", "critical_point", "activation=relu", "--out", out)
    kept = json.loads((out / "answer.json").read_text())
    assert kept["question"] == "critical-point"
    assert kept["values"] == answer["values"]


def test_asking_in_python_is_the_same(encore):
    answer = json.loads(encore("ask", "pdlt", "critical-point", "relu", "--json").out)
    assert library.ask("pdlt", "critical-point", activation="relu").as_json() == answer


def test_what_cannot_be_asked_is_said_in_one_line(encore):
    refused(encore("ask", "segnet", "anything"), "'segnet' has no 'ask'")
    refused(encore("ask", "pdlt", "criticl-point", "relu"), "did you mean 'critical-point'")
    refused(encore("ask", "pdlt", "critical-point", "rleu"), "relu")
    refused(encore("ask", "pdlt", "critical-point", "relu", "colour=red"), "unknown key 'colour'")
    with pytest.raises(UnknownNameError):
        library.ask("pdlt", "why")
    with pytest.raises(InputError):
        library.ask("hornet", "why")
