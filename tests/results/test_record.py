"""Records follow their schema, survive writing, and show themselves as table and page."""

import json
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from PIL import Image
from rich.console import Console

from encore.base.cards import Claim, PaperFigure
from encore.base.errors import InputError, RunFolderError
from encore.results.pages import claims_markdown
from encore.results.record import (
    ArmRecord,
    DataRecord,
    Picture,
    ResultRecord,
    absolute_record,
    comparative_record,
    exact_record,
    json_schema,
    last_record,
    read_record,
)
from encore.results.report import write_report
from encore.results.table import figure, print_claims
from encore.results.tables import BEGIN, END, with_claims

CLAIM = Claim(
    id="boundary_f1",
    text="Boundaries are sharper <than> before.",
    metric="boundary_f1",
    unit="%",
    direction="higher",
    paper=PaperFigure(value=35.78, baselines={"bilinear": 20.83}, source="paper", where="Table 1"),
)
COUNT = Claim(id="size", text="The model takes 117 MB.", kind="exact", metric="megabytes", unit="MB", direction="equal")


@pytest.fixture
def record(tmp_path: Path) -> ResultRecord:
    Image.new("RGB", (8, 6), "red").save(tmp_path / "picture.png")
    curves = [{"epoch": 1.0, "train_loss": 2.0, "val_mean_iou": 10.0}, {"epoch": 2.0, "train_loss": 1.0}]
    return ResultRecord(
        paper="segnet",
        title="SegNet",
        scale="laptop",
        created="2026-01-02T03:04:05+00:00",
        data=[
            DataRecord(name="camvid", sizes={"train": 3}, classes=11, origin="given", source="made up", embedded=False)
        ],
        seeds=[0, 1, 2],
        configuration={"epochs": 12},
        versions={"python": "3.11"},
        machine="a laptop",
        seconds=61.5,
        peak_memory_bytes=2**30,
        claims=[
            comparative_record(CLAIM, [34.0, 35.0, 36.0], {"bilinear": [24.0, 25.5, 25.9]}),
            exact_record(COUNT, 117.7, holds=True, baselines={"deconvnet": 877.0}, note="counted"),
        ],
        arms=[ArmRecord(arm="segnet", seed=0, seconds=3.0, metrics={"mean_iou": 3.0, "iou/x": None}, curves=curves)],
        pictures=[Picture(path="picture.png", caption="a <picture>")],
        encore="0.1.0",
    )


def test_a_record_follows_its_published_schema_and_survives_writing(record: ResultRecord, tmp_path: Path):
    path = record.write(tmp_path)
    jsonschema.validate(json.loads(path.read_text()), json_schema())
    assert read_record(tmp_path) == record


def test_claims_carry_the_keys_of_the_contract(record: ResultRecord):
    claim = json.loads(record.to_json())["claims"][0]
    assert {"id", "text", "metric", "unit", "direction", "paper", "baselines", "measured", "holds", "note"} <= set(
        claim
    )
    assert {"name", "mean", "std", "n"} <= set(claim["baselines"][0])
    assert {"mean", "std", "n"} <= set(claim["measured"])
    assert claim["holds"] is True


def test_stand_in_data_leaves_a_claim_open_and_says_why():
    claim = comparative_record(CLAIM, [9.0, 9.1, 9.2], {"b": [1.0, 1.2, 1.1]}, undecided="Streets stands in for CamVid")
    assert claim.holds is None
    assert claim.note.startswith("Streets stands in")


def test_a_claim_with_a_margin_is_judged_by_it_and_older_records_have_none(record: ResultRecord, tmp_path: Path):
    claim = CLAIM.model_copy(update={"margin": 1.0})
    assert comparative_record(claim, [23.5, 25.0, 25.6], {"bilinear": [24.0, 25.5, 25.9]}).holds is True
    assert comparative_record(CLAIM, [23.5, 25.0, 25.6], {"bilinear": [24.0, 25.5, 25.9]}).holds is not True
    old = json.loads(record.to_json())
    for one in old["claims"]:
        assert one.pop("margin") == 0
    jsonschema.validate(old, json_schema())
    (tmp_path / "result.json").write_text(json.dumps(old))
    assert read_record(tmp_path) == record


def test_an_absolute_claim_is_judged_by_the_papers_figure_in_the_papers_setting_alone():
    claim = CLAIM.model_copy(update={"kind": "absolute", "margin": 1.0})
    for measured, due in [([36.0, 36.1, 36.2], True), ([35.0, 35.1, 35.2], True), ([30.0, 30.1, 30.2], False)]:
        reached = absolute_record(claim, measured, {"bilinear": [90.0, 90.1, 90.2]})
        assert reached.holds is due
        assert [one.name for one in reached.baselines] == ["bilinear"]
        elsewhere = absolute_record(claim, measured, {}, undecided="a smaller set", note="short")
        assert elsewhere.holds is None
        assert elsewhere.note == "a smaller set. short"


def test_a_folder_without_record_and_a_damaged_record_are_named(tmp_path: Path):
    with pytest.raises(RunFolderError, match="does not exist"):
        read_record(tmp_path)
    (tmp_path / "result.json").write_text('{"paper": "segnet"')
    with pytest.raises(RunFolderError, match="is no record"):
        read_record(tmp_path)


def test_the_newest_record_of_a_paper_is_found(record: ResultRecord, tmp_path: Path):
    from encore.base import registry

    for name, created in (("old", "2026-01-01T00:00:00+00:00"), ("new", "2026-05-01T00:00:00+00:00")):
        (tmp_path / name).mkdir()
        record.model_copy(update={"created": created}).write(tmp_path / name)
    found = last_record(registry.card("segnet"), tmp_path, tmp_path / "absent")
    assert found is not None
    assert found.created.startswith("2026-05")


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for key, value in attrs if key in {"src", "href"} and tag != "use"]


def test_the_report_is_one_page_without_script_or_outside_reference(record: ResultRecord, tmp_path: Path):
    page = _Page()
    text = write_report(record, tmp_path).read_text()
    page.feed(text)
    assert "script" not in page.tags
    assert page.tags.count("svg") == 2
    assert [source for source in page.sources if source.startswith(("http", "/"))] == []
    assert any(source.startswith("data:image/png;base64,") for source in page.sources)
    assert "Boundaries are sharper &lt;than&gt; before." in text
    assert "a &lt;picture&gt;" in text


def test_the_table_names_claims_figures_and_verdicts(record: ResultRecord):
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_claims(record, console)
    text = console.export_text()
    for word in ("boundary_f1", "35.78 %", "bilinear 25.1", "35 ± 1 % (n 3)", "holds"):
        assert word in text


def test_figures_read_as_people_write_them():
    assert figure(1048576, "bytes") == "1,048,576 bytes"
    assert figure(34.300001, "%") == "34.3 %"
    assert figure(0.01234, "") == "0.0123"


def test_the_markdown_table_replaces_what_stood_between_the_markers(record: ResultRecord):
    text = f"before\n{BEGIN}\nearlier\n{END}\nafter\n"
    made = with_claims(text, claims_markdown(record.claims))
    assert "earlier" not in made
    assert "**holds**" in made
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    with pytest.raises(InputError, match="no place"):
        with_claims("nothing", "")
