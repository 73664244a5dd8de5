"""`--set key=value`: typed, checked, with the list of keys where one is unknown."""

import pytest
from pydantic import Field

from encore.base.configuration import Configuration, configure, keys_of, parse_settings
from encore.base.errors import ConfigurationError, UnknownNameError


class Inner(Configuration):
    rate: float = Field(default=0.1, gt=0)


class Outer(Configuration):
    epochs: int = Field(default=3, ge=1)
    name: str = "segnet"
    inner: Inner = Inner()
    arguments: dict[str, int] = Field(default_factory=dict)


def test_values_are_json_where_they_can_be_and_text_otherwise():
    assert parse_settings(["a=1", "b=0.5", "c=true", "d=[1, 2]", "e=segnet", "f="]) == {
        "a": 1,
        "b": 0.5,
        "c": True,
        "d": [1, 2],
        "e": "segnet",
        "f": "",
    }


@pytest.mark.parametrize("word", ["epochs", "=3", ""])
def test_a_word_without_key_or_value_is_refused(word: str):
    with pytest.raises(ConfigurationError, match="is not key=value"):
        parse_settings([word])


def test_a_key_given_twice_is_refused():
    with pytest.raises(ConfigurationError, match="twice"):
        parse_settings(["a=1", "a=2"])


def test_dotted_keys_reach_into_sections_and_leave_the_rest():
    made = configure(Outer, {"inner.rate": 0.3, "arguments.width": 8}, {"epochs": 7})
    assert made == Outer(epochs=7, inner=Inner(rate=0.3), arguments={"width": 8})


def test_a_section_keeps_what_its_default_sets():
    class Section(Configuration):
        rate: float = 0.1
        length: int = 3

    class Whole(Configuration):
        section: Section = Section(length=9)

    made = configure(Whole, {"section.rate": 0.3})
    assert made.section == Section(rate=0.3, length=9)
    assert configure(Whole, {"section.length": 1}).section == Section(length=1)


def test_an_unknown_key_names_the_nearest_and_all_keys():
    with pytest.raises(UnknownNameError) as caught:
        configure(Outer, {"epoch": 3})
    assert "did you mean 'epochs'" in str(caught.value)
    assert "inner.rate" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_value_that_does_not_fit_names_the_key_the_value_and_what_is_due():
    with pytest.raises(ConfigurationError) as caught:
        configure(Outer, {"inner.rate": -1})
    assert "'inner.rate' cannot be -1" in str(caught.value)
    assert "greater than 0" in str(caught.value)


def test_keys_of_lists_sections_dotted_and_open_sections_with_a_star():
    assert keys_of(Outer) == ["epochs", "name", "inner.rate", "arguments.*"]


class Sections(Configuration):
    inner: Inner = Inner()
    outer: Outer = Outer()
    rates: int = 3


def test_a_key_may_be_written_without_its_section_where_one_alone_has_it():
    assert configure(Outer, {"rate": 0.3}) == Outer(inner=Inner(rate=0.3))
    assert configure(Sections, {"epochs": 5, "rates": 1}) == Sections(outer=Outer(epochs=5), rates=1)


def test_a_key_that_several_sections_have_lists_them():
    with pytest.raises(ConfigurationError, match=r"write one of: inner\.rate, outer\.inner\.rate"):
        configure(Sections, {"rate": 0.3})


def test_a_key_given_with_and_without_its_section_is_refused():
    with pytest.raises(ConfigurationError, match=r"'rate' and 'inner\.rate' are the same key"):
        configure(Outer, {"rate": 0.3, "inner.rate": 0.2})


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "inf"])
def test_a_number_is_finite(value: str):
    with pytest.raises(ConfigurationError, match=r"'inner\.rate' cannot be .*finite number"):
        configure(Outer, parse_settings([f"rate={value}"]))
