"""Cards: all 24 are there and valid, each figure has a place, and a broken card is refused by name."""

import re
from importlib import resources
from pathlib import Path

import pytest

from encore.base.cards import Card, read_card
from encore.base.errors import EncoreError
from encore.base.registry import has_part

ROOMS = Path(str(resources.files("encore.papers")))
PATHS = sorted(ROOMS.glob("*/card.toml"))

SLUGS = {
    "segnet",
    "hornet",
    "spark",
    "cae",
    "crate",
    "medusa",
    "timesnet",
    "relationnetpp",
    "medfe",
    "text2image_gans",
    "natra",
    "lrcn",
    "hnerv",
    "pc_compression",
    "codebook_features",
    "dkvb",
    "prototypes",
    "blackbox_rules",
    "slm_encdec",
    "arc_encoder",
    "audio_bow",
    "gradient_noise",
    "pdlt",
    "wide_cnn",
}
"""The papers of the design's table."""

CARD = """\
slug = "somewhere"
title = "A Paper"
arxiv = "2401.00001"
date = 2024-01-01
tasks = ["segmentation"]
summary = "A paper that serves to break its card in every way that a person could break one by hand."
weights = { public = false }

[[claims]]
id = "accuracy"
text = "The method is more accurate than the baseline."
metric = "accuracy"
unit = "%"
direction = "higher"
"""
"""A valid card, to be broken."""


@pytest.fixture(scope="module", params=PATHS, ids=lambda path: path.parent.name)
def card(request: pytest.FixtureRequest) -> Card:
    """Every card on disk, one after the other."""
    return read_card(request.param)


def write_card(folder: Path, text: str, *, room: str = "somewhere") -> Path:
    """Write `text` as the card of `room`."""
    path = folder / room / "card.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    return path


def test_all_papers_of_the_design_have_a_card():
    assert len(SLUGS) == 24
    assert {path.parent.name for path in PATHS} >= SLUGS


@pytest.mark.parametrize(
    "lines", ['kind = "exact"\nmargin = 1.0', "margin = -1.0", "margin = inf"], ids=["exact", "negative", "infinite"]
)
def test_a_margin_is_for_figures_that_may_lie_a_little_lower(tmp_path: Path, lines: str):
    assert read_card(write_card(tmp_path, CARD + "margin = 1.0\n")).claims[0].margin == 1
    with pytest.raises(EncoreError, match="margin"):
        read_card(write_card(tmp_path, f"{CARD}{lines}\n", room="elsewhere"))


@pytest.mark.parametrize("field", ["title", "arxiv", "date"])
def test_no_two_cards_share(field: str):
    values = [getattr(read_card(path), field) for path in PATHS]
    assert len(set(values)) == len(values)


def test_every_room_is_a_package_that_names_its_paper(card: Card):
    source = (ROOMS / card.slug / "__init__.py").read_text(encoding="utf-8")
    assert card.arxiv in source.splitlines()[0]


def test_planned_papers_promise_no_more_than_models_that_are_there(card: Card):
    if card.state == "planned":
        assert card.verbs == ()
        assert not card.models or has_part(card.slug, "model")


def test_tasks_are_words_that_a_command_line_takes(card: Card):
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", task) for task in card.tasks)
    assert len(set(card.tasks)) == len(card.tasks)


def test_the_arxiv_identifier_agrees_with_the_date(card: Card):
    assert card.arxiv.startswith(f"{card.date:%y%m}.")


def test_texts_are_one_tidy_line(card: Card):
    texts = [card.title, card.summary, card.weights.note, *(claim.text for claim in card.claims)]
    for text in texts:
        assert not re.search(r"\s{2}|[\n\t]", text)
        assert text == text.strip()


def test_a_summary_has_two_to_four_sentences(card: Card):
    assert 2 <= len(re.findall(r"[.!?](?=\s|$)", card.summary)) <= 4


def test_every_figure_says_where_it_stands(card: Card):
    for claim in card.claims:
        if claim.paper is not None:
            assert claim.paper.where.strip()


def test_baselines_carry_identifiers_and_the_paper_beats_them_in_comparisons(card: Card):
    for claim in card.claims:
        if claim.paper is None:
            continue
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in claim.paper.baselines)
        if claim.kind == "comparative":
            sign = 1 if claim.direction == "higher" else -1
            assert all(sign * (claim.paper.value - one) > -claim.margin for one in claim.paper.baselines.values())


def test_an_equality_is_claimed_only_of_what_chance_does_not_touch(card: Card):
    assert all(claim.kind == "exact" for claim in card.claims if claim.direction == "equal")


def test_an_absolute_claim_has_a_figure(card: Card):
    assert all(claim.paper is not None for claim in card.claims if claim.kind == "absolute")


def test_a_claim_is_found_by_its_id(card: Card):
    assert card.claim(card.claims[-1].id) is card.claims[-1]


def test_public_weights_say_where_they_lie(card: Card):
    assert card.weights.url is not None or not card.weights.public


def test_the_card_that_is_to_be_broken_is_valid(tmp_path: Path):
    assert read_card(write_card(tmp_path, CARD)).state == "planned"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CARD.replace("title =", 'colour = "red"\ntitle ='), "colour"),
        (CARD + CARD[CARD.index("[[claims]]") :], "claim ids repeat"),
        (CARD.replace('slug = "somewhere"', 'slug = "elsewhere"'), "elsewhere"),
        (CARD.replace("title = ", "title : "), "not a valid card"),
        (CARD.replace('direction = "higher"', 'direction = "sideways"'), "direction"),
        (CARD.replace("2401.00001", "hep-th/9901001"), "arxiv"),
        (CARD.replace("tasks =", 'num_authors = 2\nauthors = ["One"]\ntasks ='), "num_authors is 2"),
        (CARD[: CARD.index("[[claims]]")], "claims"),
    ],
    ids=[
        "unknown field",
        "claim id twice",
        "another room's slug",
        "no TOML",
        "no such direction",
        "no arXiv identifier",
        "authors miscounted",
        "no claims",
    ],
)
def test_a_broken_card_is_refused_with_its_file(tmp_path: Path, text: str, says: str):
    path = write_card(tmp_path, text)
    with pytest.raises(EncoreError, match=re.escape(says)) as refusal:
        read_card(path)
    assert str(path) in str(refusal.value)
