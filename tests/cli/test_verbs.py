"""`encore run`, `fit`, `predict`, `evaluate`, `compare`: from data to measurements, as a user calls them."""

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

import encore as library
from encore.base.cards import Claim
from encore.results.record import ClaimRecord, json_schema

from .conftest import TINY

QUICK = (*TINY, "--set", "image_size=24x32", "--set", "training.epochs=1", "--progress", "none")


@pytest.fixture(autouse=True)
def own_directory(clean_directory: Path) -> None:
    """Runs go below a folder of the test's own."""


def test_run_json_is_one_object_that_follows_the_schema_and_equals_result_json(encore, tmp_path: Path):
    answer = encore("run", "segnet", "--json", "--seeds", 2, "--out", tmp_path / "run", *QUICK)
    assert answer.code == 0, answer.err
    record = json.loads(answer.out)
    jsonschema.validate(record, json_schema())
    assert record == json.loads((tmp_path / "run" / "result.json").read_text())
    claims = {claim["id"]: claim for claim in record["claims"]}
    assert {"boundary_f1", "mean_iou", "decoder_storage", "model_size", "calibration"} <= set(claims)
    assert claims["benchmark_mean_iou"]["measured"] is None
    assert "not trained at this scale" in claims["benchmark_mean_iou"]["note"].lower()
    assert [table["table"]["where"] for table in record["tables"]] == ["Table 1", "Table 1", "Table 3", "Table 6"]
    assert claims["boundary_f1"]["holds"] is None
    assert "stands in for camvid" in claims["boundary_f1"]["note"]
    assert claims["boundary_f1"]["measured"]["n"] == 2
    assert [one["name"] for one in claims["mean_iou"]["baselines"]] == ["bilinear", "fcn_no_addition"]
    assert claims["decoder_storage"]["measured"]["mean"] == 1
    assert claims["decoder_storage"]["holds"] is True
    assert claims["model_size"]["measured"]["mean"] == pytest.approx(117.73, abs=0.01)
    report = (tmp_path / "run" / "report.html").read_text()
    assert "data:image/png;base64," in report
    assert "<script" not in report
    model = library.load(tmp_path / "run" / "arms" / "segnet_basic" / "seed1")
    assert model(model.preprocess(torch.zeros(1, 3, 10, 10, dtype=torch.uint8))).shape[1] == 11
    again = encore("run", "segnet", "--json", "--seeds", 2, "--out", tmp_path / "run", "--resume", *QUICK)
    assert json.loads(again.out) == record


def test_export_writes_a_file_that_says_what_goes_in(encore, tmp_path: Path, trained: Path):
    answer = encore("export", trained, "--format", "onnx", "-o", tmp_path / "model.onnx", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert said["inputs"][0]["shape"] == ["batch", 3, "height", "width"]
    assert said["max_difference"] < 1e-4
    assert Path(said["file"]).stat().st_size > 1000
    answer = encore("export", trained, "--format", "safetensors", "-o", tmp_path / "model.safetensors")
    assert "model.safetensors" in answer.out
    answer = encore("export", trained, "--format", "onnx", "-o", tmp_path / "model.pth")
    assert answer.code == 2
    assert "does not end in .onnx" in answer.err
    assert not (tmp_path / "model.pth").exists()


def test_a_finished_run_is_a_run_for_predict_and_evaluate(encore, tmp_path: Path, streets_folder: Path):
    assert encore("run", "segnet", "--claim", "mean_iou", "--out", tmp_path / "run", *QUICK).code == 0
    answer = encore("evaluate", tmp_path / "run", streets_folder, "--json", "--progress", "none")
    assert answer.code == 0, answer.err
    assert "mean_iou" in json.loads(answer.out)["metrics"]


def test_run_prints_claim_figures_baseline_and_verdict_and_where_the_report_is(encore, tmp_path: Path):
    answer = encore("run", "segnet", "--claim", "decoder_storage", "--out", tmp_path / "run", "--progress", "none")
    for word in ("claim", "paper says", "baseline here", "measured here", "verdict", "holds", "report.html"):
        assert word in answer.out


def test_strict_leaves_with_3_where_a_claim_does_not_hold(encore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from encore.papers.segnet import recipe, sizes

    def broken(claim: Claim) -> ClaimRecord:
        return sizes.model_size(claim).model_copy(update={"holds": False})

    monkeypatch.setattr(recipe.RECIPE, "exact", {"model_size": broken}, raising=False)
    words = ("run", "segnet", "--claim", "model_size", "--progress", "none")
    assert encore(*words, "--out", tmp_path / "a").code == 0
    assert encore(*words, "--strict", "--out", tmp_path / "b").code == 3


def test_a_dry_run_says_what_it_would_do_and_writes_nothing(encore, clean_directory: Path):
    answer = encore("run", "segnet", "--scale", "smoke", "--dry-run", "--json", *QUICK)
    plan = json.loads(answer.out)
    assert answer.code == 0
    assert plan["seeds"] == [0]
    assert len(plan["arms"]) == 9
    assert plan["seconds"] > 0
    assert plan["memory_bytes"] > 0
    assert plan["disk_bytes"] > 0
    assert "streets" in plan["data"][0]
    assert not (clean_directory / "runs").exists()
    assert "time    about" in encore("run", "segnet", "--dry-run", *QUICK).out


def test_fit_leaves_a_run_with_config_weights_metrics_and_a_picture(trained: Path):
    assert {"config.json", "model.safetensors", "metrics.json", "curves.json", "examples.png"} <= {
        entry.name for entry in trained.iterdir()
    }
    description = json.loads((trained / "config.json").read_text())["encore"]
    assert description["name"] == "segnet_basic"
    assert description["task"] == "segmentation"
    assert description["classes"][0] == "sky"
    assert description["preprocessing"]["channel_order"] == "BGR"
    assert description["preprocessing"]["size"] == [24, 32]


def test_fit_takes_a_paper_and_prints_json(encore, streets_folder: Path, tmp_path: Path):
    answer = encore("fit", "segnet", streets_folder, "--epochs", 1, "--json", "--out", tmp_path / "run",
                    "--set", "model=segnet_basic", *TINY, "--progress", "none")  # fmt: skip
    assert answer.code == 0, answer.err
    content = json.loads(answer.out)
    assert content["run"] == str(tmp_path / "run")
    assert 0 <= content["metrics"]["global_accuracy"] <= 100


def test_predict_writes_masks_overlays_and_rows_at_the_picture_s_own_size(encore, trained: Path, tmp_path: Path):
    picture = tmp_path / "photo.jpg"
    Image.new("RGB", (50, 37), (90, 120, 160)).save(picture)
    answer = encore("predict", trained, picture, "--out", tmp_path / "out", "--json", "--progress", "none")
    assert answer.code == 0, answer.err
    (row,) = json.loads(answer.out)["predictions"]
    assert (row["height"], row["width"]) == (37, 50)
    mask = np.asarray(Image.open(tmp_path / "out" / row["mask"]))
    assert mask.shape == (37, 50)
    assert mask.max() < 11
    assert (tmp_path / "out" / row["overlay"]).is_file()
    (line,) = (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()
    assert json.loads(line)["input"] == str(picture)


def test_evaluate_prints_metrics_and_equals_python(encore, trained: Path, streets_folder: Path):
    answer = encore("evaluate", trained, streets_folder, "--json", "--device", "cpu", "--progress", "none")
    metrics = json.loads(answer.out)["metrics"]
    assert metrics == library.evaluate(trained, streets_folder, runtime=library.Runtime(device="cpu"))
    assert {"global_accuracy", "class_accuracy", "mean_iou", "boundary_f1", "iou/car"} <= set(metrics)
    assert "mean_iou" in encore("evaluate", trained, streets_folder, "--progress", "none").out


def test_compare_puts_runs_side_by_side_with_intervals(encore, trained: Path, tmp_path: Path):
    words = ("run", "segnet", "--claim", "decoder_storage", "--progress", "none")
    for name in ("a", "b"):
        encore(*words, "--out", tmp_path / name)
    table = json.loads(encore("compare", tmp_path / "a", tmp_path / "b", "--json").out)
    assert table["measurements"][0]["name"] == "decoder_storage"
    assert [cell["mean"] for cell in table["measurements"][0]["values"]] == [1, 1]
    mixed = encore("compare", tmp_path / "a", trained)
    assert mixed.code == 0
    assert "decoder_storage: verdict" in mixed.out


def test_progress_json_is_lines_on_standard_error_and_standard_output_stays_clean(
    encore, streets_folder: Path, tmp_path: Path
):
    answer = encore("fit", "segmentation", streets_folder, "--epochs", 1, "--json", "--progress", "json",
                    "--out", tmp_path / "run", *TINY)  # fmt: skip
    json.loads(answer.out)
    events = [json.loads(line) for line in answer.err.splitlines()]
    assert any("metrics" in event and event["stage"].startswith("training") for event in events)
    assert any("picture" in event for event in events)
