"""Rooms are found by looking; names that nothing answers to get the nearest that something does."""

import subprocess
import sys
import time

import pytest

from encore.base import registry
from encore.base.errors import InputError, UnknownNameError


def test_all_rooms_with_a_card_are_papers():
    assert "segnet" in registry.cards()
    assert registry.card("segnet").arxiv == "1511.00561"


def test_an_unknown_paper_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'segnet'"):
        registry.card("segnett")


def test_papers_are_listed_by_task():
    slugs = [card.slug for card in registry.list_papers(task="segmentation")]
    assert "segnet" in slugs
    assert "hnerv" not in slugs


def test_a_planned_paper_refuses_every_verb_and_names_those_that_can():
    planned = next(card for card in registry.list_papers() if card.state == "planned")
    with pytest.raises(InputError, match=r"planned, not performed yet.*segnet"):
        registry.require_verb(planned, "run")


def test_a_verb_that_a_paper_lacks_names_those_it_has():
    with pytest.raises(InputError, match=r"'segnet' has no 'ask'.*run"):
        registry.require_verb(registry.card("segnet"), "ask")


@pytest.mark.parametrize("card", registry.list_papers(), ids=lambda card: card.slug)
def test_every_model_and_recipe_that_a_card_promises_is_there(card):
    for name in card.models:
        assert callable(registry.model_factory(name))
        assert registry.paper_of_model(name) == card
    if "run" in card.verbs:
        recipe = registry.room(card.slug, "recipe").RECIPE
        assert set(recipe.default_seeds) == {"smoke", "laptop", "paper"}


def test_listing_papers_is_quick_and_loads_no_torch():
    code = (
        "import sys, encore.cli; code = encore.cli.main(['list', '--json']);"
        "assert code == 0; assert 'torch' not in sys.modules; assert 'lightning' not in sys.modules"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert time.perf_counter() - started < 30  # a bound for hung imports, not a timing
