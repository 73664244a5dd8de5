"""A paper's table beside what was measured: order against the reference row, verdicts, Markdown and pages."""

import pytest

from encore.base import registry
from encore.base.cards import PaperTable
from encore.results.comparison import compared_rows, comparison_markdown, headings
from encore.results.pages import paper_page, papers_index
from encore.results.record import TableRecord, table_record, unmeasured_record

TABLE = PaperTable.model_validate(
    {
        "id": "study",
        "title": "Decoders",
        "reference": "ours",
        "source": "paper",
        "where": "Table 1",
        "columns": [
            {"metric": "parameters", "label": "parameters", "unit": "M", "exact": True, "judged": True},
            {"metric": "mean_iou", "label": "mIoU", "unit": "%", "judged": True},
            {"metric": "global_accuracy", "label": "G", "unit": "%"},
        ],
        "rows": {
            "ours": {"parameters": 1.425, "mean_iou": 47.7, "global_accuracy": 82.7},
            "small": {"parameters": 0.625, "mean_iou": 43.3},
            "equal": {"parameters": 1.425, "mean_iou": 48.5},
            "absent": {"parameters": 1.0},
            "new": {},
        },
    }
)
MEASURED = {
    "ours": {"parameters": [1.4], "mean_iou": [30.0, 31.0, 32.0], "global_accuracy": [70.0, 71.0, 72.0]},
    "small": {"parameters": [0.6], "mean_iou": [25.0, 26.5, 26.9]},
    "equal": {"parameters": [1.4], "mean_iou": [28.0, 31.5, 32.0]},
    "new": {"parameters": [2.0], "mean_iou": [50.0, 51.0, 52.0]},
}


@pytest.fixture
def record() -> TableRecord:
    return table_record(TABLE, MEASURED, note="small nets")


def test_verdicts_say_on_which_side_of_the_reference_a_row_lies(record: TableRecord):
    verdicts = {row.name: row.verdicts for row in record.rows}
    assert verdicts == {
        "ours": {},
        "small": {"parameters": True, "mean_iou": True},
        "equal": {"mean_iou": None},  # the paper has equal parameters; the interval crosses zero
        "new": {},
    }


def test_stand_in_data_leave_trained_columns_open_and_counts_decided():
    record = table_record(TABLE, MEASURED, undecided=True)
    small = next(row for row in record.rows if row.name == "small")
    assert small.verdicts == {"parameters": True, "mean_iou": None}


def test_all_rows_of_the_paper_are_shown(record: TableRecord):
    rows = {row.name: row for row in compared_rows(record)}
    assert list(rows) == ["ours", "small", "equal", "absent", "new"]
    assert headings(record) == ["parameters, M", "mIoU, %", "G, %"]
    assert rows["small"].cells[1].text == "26.13 ± 1 (43.3) ✓"
    assert rows["small"].judgement == "holds"
    assert rows["equal"].judgement == "open"
    assert rows["absent"].cells[0].text == "– (1)"
    assert rows["absent"].judgement is None
    assert rows["ours"].is_reference


def test_a_row_on_the_other_side_does_not_hold():
    measured = {**MEASURED, "small": {"parameters": [2.0], "mean_iou": [40.0, 41.5, 42.0]}}
    rows = {row.name: row for row in compared_rows(table_record(TABLE, measured))}
    assert rows["small"].judgement == "does not hold"
    assert rows["small"].cells[0].text == "2 (0.625) ✗"


def test_markdown_has_a_line_per_row(record: TableRecord):
    lines = comparison_markdown(record).splitlines()
    assert len(lines) == 2 + 5
    assert lines[2].startswith("| **ours** |")
    assert lines[2].endswith("| reference |")
    assert all(line.count("|") == 6 for line in lines)


def test_a_table_whose_rows_have_other_columns_is_refused():
    content = TABLE.model_dump()
    with pytest.raises(ValueError, match="figures of no column"):
        PaperTable.model_validate({**content, "rows": {"ours": {"speed": 3.0}}})
    with pytest.raises(ValueError, match="no row theirs"):
        PaperTable.model_validate({**content, "reference": "theirs"})


def test_an_unmeasured_claim_is_open_with_its_reason():
    claim = registry.card("segnet").claim("benchmark_mean_iou")
    record = unmeasured_record(claim, "needs a GPU")
    assert record.measured is None
    assert record.holds is None
    assert record.note == "needs a GPU"


def test_a_planned_paper_has_a_page_of_what_it_claims():
    card = registry.card("hnerv")
    page = paper_page(card, None)
    assert card.title in page
    assert "planned" in page
    assert all(claim.text.replace("|", "\\|") in page for claim in card.claims)


def test_the_index_names_all_papers_the_performed_first():
    cards = list(registry.cards().values())
    lines = papers_index(cards).splitlines()[4:]
    assert len(lines) == len(cards)
    performed = [line.endswith("| performed |") for line in lines]
    assert sum(performed) == sum(card.state == "performed" for card in cards)
    assert performed == sorted(performed, reverse=True)
