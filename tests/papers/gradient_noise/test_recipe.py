"""The recipe performs every claim of the card at every scale; the room fits, predicts, evaluates and exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encore.base import registry
from encore.base.runtime import Runtime
from encore.papers.gradient_noise.deep_mlp_part import ASKED, VARIANCE, variance_of_noise
from encore.papers.gradient_noise.deep_mlp_settings import DEFAULTS, ROWS
from encore.papers.gradient_noise.recipe import RECIPE

CARD = registry.card("gradient_noise")


def test_the_room_hands_on_the_tool():
    from encore.papers import gradient_noise
    from encore.training.gradient_noise import GradientNoise

    assert gradient_noise.GradientNoise is GradientNoise
    with pytest.raises(AttributeError, match="no attribute 'GradientNoises'"):
        _ = gradient_noise.GradientNoises


def test_every_claim_belongs_to_one_part():
    claims = [claim for part in RECIPE.parts for claim in part.claims]
    assert sorted(claims) == sorted(claim.id for claim in CARD.claims)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_has_a_valid_configuration(scale):
    configuration = RECIPE.configuration(scale, {})
    assert configuration.mlp.steps == DEFAULTS[scale]["steps"]
    assert configuration.mlp.depth == 20


def test_the_cards_table_has_the_rows_that_are_trained():
    table = next(table for table in CARD.tables if table.id == "table_1")
    assert set(table.rows) == {*ROWS, "simple_dropout", "five_layers"}


def test_the_noise_has_the_variance_of_the_formula():
    record = variance_of_noise(CARD.claim(VARIANCE))
    assert record.holds
    assert record.measured is not None
    assert record.measured.mean < 0.01


def test_the_deep_networks_are_performed_on_the_embedded_digits_and_leave_a_model(tmp_path: Path):
    from encore.nn.creation import load
    from encore.verbs.run import plan, run

    runtime = Runtime(device="cpu")
    settings = {"mlp.steps": 40, "mlp.steps_between": 20}
    claims = [*ASKED, VARIANCE]
    assert plan("gradient_noise", claims=claims, settings=settings, runtime=runtime).seconds > 0
    outcome = run("gradient_noise", claims=claims, seeds=3, settings=settings, out=tmp_path / "run", runtime=runtime)
    records = {claim.id: claim for claim in outcome.record.claims}
    assert set(records) == set(claims)
    assert records["poor_initialisation"].holds is None
    assert "stands in for mnist" in records["poor_initialisation"].note
    assert {one.name for one in records["poor_initialisation"].baselines} == {"no_noise", "dropout"}
    for claim, clipped in (("poor_initialisation", True), ("zero_initialisation", False)):
        assert "where one that has diverged counts 0 (0 with noise, 0 without)" in records[claim].note
        assert ("where gradients are clipped: 100 " in records[claim].note) is clipped
    (table,) = outcome.record.tables
    assert {row.name for row in table.rows} == {*ROWS, "simple_dropout", "five_layers"}
    assert len(outcome.record.arms) == 3 * (2 * len(ROWS) + 1 + 2)
    assert load(tmp_path / "run").classes == tuple("0123456789")
    assert not list((tmp_path / "run").rglob("last.ckpt"))
    (tmp_path / "run" / "result.json").unlink()
    again = run(
        "gradient_noise",
        claims=claims,
        seeds=3,
        settings=settings,
        out=tmp_path / "run",
        runtime=runtime,
        resume=True,
    )
    assert again.record.claims == outcome.record.claims
    assert again.record.tables == outcome.record.tables


def test_a_claim_trains_no_more_than_it_compares(tmp_path: Path):
    from encore.verbs.run import run

    outcome = run(
        "gradient_noise",
        claims=["zero_initialisation"],
        settings={"mlp.steps": 4},
        out=tmp_path / "run",
        runtime=Runtime(device="cpu"),
    )
    assert {arm.arm for arm in outcome.record.arms} == {"zero_clip_10, noise", "zero_clip_10, no noise"}


def test_fit_predict_evaluate_and_export(tmp_path: Path, encore):
    run, quick = tmp_path / "run", ["--device", "cpu", "--progress", "none"]
    fitted = encore(
        "fit", "gradient_noise", "digits", "--epochs", 1, "--out", run, "--set", "gradient_noise=0.3", *quick
    )
    assert fitted.code == 0, fitted.err
    request = json.loads((run / "request.json").read_text())
    assert request["configuration"]["training"]["gradient_noise"] == 0.3
    assert request["configuration"]["model"] == "deep_mlp"
    evaluated = encore("evaluate", run, "digits", "--json", *quick)
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["metrics"]["accuracy"] > 0
    exported = encore("export", run, "--format", "onnx", "-o", tmp_path / "net.onnx")
    assert exported.code == 0, exported.err


def test_any_task_takes_gradient_noise_and_refuses_an_impossible_one(encore):
    for value, says in (("0", "greater than 0"), ("-1", "greater than 0"), ("often", "number")):
        answer = encore("fit", "segmentation", "streets", "--set", f"gradient_noise={value}", "--progress", "none")
        assert answer.code == 2
        assert says in answer.err
        assert len(answer.err.strip().splitlines()) == 1
