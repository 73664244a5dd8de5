"""The recipe performs every claim of the card, and counts what needs no learning."""

from pathlib import Path

import pytest

from encore.base import registry
from encore.base.runtime import Runtime
from encore.data.exact import open_exact
from encore.papers.pc_compression.passes import logarithmic_growth, model_size
from encore.papers.pc_compression.recipe import MNIST_CLAIMS, RECIPE
from encore.papers.pc_compression.scales import DEFAULTS

pytest.importorskip("constriction")
pytest.importorskip("imagecodecs")

CARD = registry.card("pc_compression")


def test_every_claim_is_performed():
    exact = {"model_size", "logarithmic_growth"}
    assert exact | {"fashion_rate", "hybrid_rate", "emnist_rate"} | set(MNIST_CLAIMS) == {
        claim.id for claim in CARD.claims
    }


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_has_a_valid_configuration(scale: str):
    configuration = RECIPE.configuration(scale, {})
    assert configuration.hclt.training.epochs == DEFAULTS[scale]["hclt"]["training"]["epochs"]
    assert configuration.vae.model == "bits_back_vae"


def test_exact_claims_hold():
    assert model_size(CARD.claim("model_size")).holds
    record = logarithmic_growth(CARD.claim("logarithmic_growth"), open_exact("digits"), "smoke")
    assert record.holds
    assert record.measured.mean < record.baselines[0].mean / 4


def test_all_is_performed_on_the_embedded_digits(tmp_path: Path):
    from encore.verbs.run import plan, run

    runtime = Runtime(device="cpu")
    settings = {"hclt.training.epochs": 1, "test_samples": 20, "neural_samples": 10}
    assert plan("pc_compression", settings=settings, runtime=runtime).seconds > 0
    outcome = run("pc_compression", settings=settings, out=tmp_path / "run", runtime=runtime)
    claims = {claim.id: claim for claim in outcome.record.claims}
    assert set(claims) == {claim.id for claim in CARD.claims}
    assert claims["lossless"].holds
    assert claims["lossless"].measured.mean == 0
    assert claims["theoretical_rate"].holds is None
    assert "stands in" in claims["file_rate"].note
    assert {row.name for row in outcome.record.tables[0].rows} >= {"hclt", "bb_ans", "png", "xz"}
    assert {picture.path for picture in outcome.record.pictures} == {"examples.png", "rate_speed.png"}
    assert not list((tmp_path / "run" / "coding").glob("*.npz"))


def test_a_claim_trains_no_more_than_it_compares(tmp_path: Path):
    from encore.verbs.run import run

    settings = {"hclt.training.epochs": 1, "test_samples": 20, "neural_samples": 10}
    for claim, arms in (
        ("coding_passes", {"mnist_hclt"}),
        ("coding_speed", {"mnist_hclt", "mnist_bb_ans"}),
        ("lossless", {"mnist_hclt", "fashion_mnist_hclt"}),
    ):
        outcome = run(
            "pc_compression", claims=[claim], settings=settings, out=tmp_path / claim, runtime=Runtime(device="cpu")
        )
        assert {arm.arm for arm in outcome.record.arms} == arms
        assert [one.id for one in outcome.record.claims] == [claim]
