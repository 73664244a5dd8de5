"""`encore list`, `show`, `data`: what there is."""

import json
from pathlib import Path

from encore.data.segmentation_folder import open_folder


def test_list_names_every_paper_with_their_state_and_verbs(encore):
    answer = encore("list", "--json")
    papers = json.loads(answer.out)["papers"]
    assert answer.code == 0
    assert len(papers) >= 24
    assert all(set(one) == {"slug", "title", "year", "tasks", "state", "verbs"} for one in papers)
    segnet = next(one for one in papers if one["slug"] == "segnet")
    assert segnet["state"] == "performed"
    assert segnet["verbs"] == ["run", "fit", "predict", "evaluate", "export"]


def test_list_reads_as_a_table_and_takes_a_task(encore):
    answer = encore("list", "--task", "segmentation")
    assert "segnet" in answer.out
    assert "hnerv" not in answer.out


def test_show_tells_the_claims_and_the_paper_s_figures(encore, clean_directory: Path):
    answer = encore("show", "segnet")
    for word in ("1511.00561", "boundary_f1", "35.78 %", "bilinear 20.83", "CC BY-NC"):
        assert word in answer.out
    card = json.loads(encore("show", "segnet", "--json").out)
    assert card["claims"][0]["paper"]["source"] == "paper"
    assert "last_record" in card


def test_a_planned_paper_can_be_shown(encore, clean_directory: Path):
    answer = encore("show", "hnerv")
    assert answer.code == 0
    assert "planned" in answer.out


def test_version_and_help(encore):
    assert encore("--version").out.startswith("encore 0.")
    assert "Usage: encore" in encore("--help").out
    for verb in ("run", "fit", "predict", "evaluate", "compare", "ask", "list", "show", "data"):
        assert encore(verb, "--help").code == 0


def test_data_list_says_what_is_embedded_and_what_is_absent(encore, clean_directory: Path):
    sets = {one["name"]: one for one in json.loads(encore("data", "list", "--json").out)["sets"]}
    assert sets["streets"]["embedded"]
    assert sets["camvid"]["path"] is None
    assert "encore data get" in encore("data", "list").out


def test_data_make_leaves_a_folder_that_can_be_learnt_from(encore, tmp_path: Path):
    out = tmp_path / "made"
    answer = encore("data", "make", "streets", "--num-samples", 4, "--size", "24x32", "--out", out)
    assert answer.code == 0
    assert len(open_folder(out)["all"]) == 4
