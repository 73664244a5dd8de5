"""SparK's recipe: what it compares and what hiding does to a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from encore.base import registry
from encore.base.errors import DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.papers.spark.effects import EXACT, active_shares, batch_statistics, effect_pictures
from encore.papers.spark.fit import SparKFit
from encore.papers.spark.recipe import COMPARISONS, DENSE, PRETRAINED, RECIPE, SCRATCH
from encore.results.performance import Performance
from encore.verbs.run import run

CARD = registry.card("spark")


def performance(scale: str) -> Performance:
    return Performance(
        card=CARD,
        scale=scale,
        claims=CARD.claims,
        seeds=(0,),
        configuration=RECIPE.configuration(scale, {}),
        runtime=Runtime(device="cpu"),
        progress=SilentProgress(),
    )


def test_every_claim_is_performed():
    assert COMPARISONS.keys() | EXACT.keys() | {DENSE} == {claim.id for claim in CARD.claims}


def test_comparisons_name_the_cards_baselines_and_arms_that_there_are():
    for claim_id, comparison in COMPARISONS.items():
        assert {comparison.arm, *comparison.baselines} <= {*PRETRAINED, SCRATCH}
        figure = CARD.claim(claim_id).paper
        if figure is not None:
            assert set(figure.baselines) == set(comparison.baselines)


def test_arms_differ_from_spark_in_one_setting_each():
    assert PRETRAINED["spark"] == {}
    for name, settings in PRETRAINED.items():
        assert len(settings) == (name != "spark")
        assert settings.keys() <= SparKFit.model_fields.keys()


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_has_a_valid_configuration(scale: str):
    configuration = RECIPE.configuration(scale, {})
    assert configuration.pretraining.backbone == configuration.finetuning.model
    same = configuration.pretraining.backbone_arguments, configuration.finetuning.model_arguments
    assert same[0] == same[1]


def test_the_papers_scale_asks_for_imagenet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENCORE_DATA", raising=False)
    with pytest.raises(DataError, match="imagenet"):
        RECIPE._open_data(performance("paper"))


def test_sparse_convolutions_keep_the_mask_and_ordinary_ones_lose_it():
    shares = active_shares()
    assert set(shares.sparse) == {37.5}
    assert shares.dense == sorted(shares.dense)
    assert shares.dense[-1] > 90


def test_statistics_of_the_first_layer_are_kept_by_visible_positions_and_shifted_by_holes():
    found = batch_statistics()
    assert found["sparse"].shift[0] < 0.5 * found["zero_out"].shift[0]
    assert found["sparse"].width[0] == pytest.approx(1, abs=0.1)
    assert found["zero_out"].width[0] < 0.8


@pytest.mark.parametrize("claim_id", list(EXACT))
def test_exact_claims_hold(claim_id: str):
    assert EXACT[claim_id](CARD.claim(claim_id)).holds


def test_effects_are_drawn(tmp_path: Path):
    ((path, caption),) = effect_pictures(tmp_path)
    assert Image.open(path).width > 600
    assert "mask" in caption


@pytest.mark.slow
def test_pre_training_and_fine_tuning_are_performed_seed_by_seed(tmp_path: Path):
    settings = {"unlabelled": 40, "validation": 20, "test": 30, "finetuning.train_samples": 20}
    outcome = run(
        "spark", claims=["hierarchy"], seeds=2, settings=settings, out=tmp_path / "run", runtime=Runtime(device="cpu")
    )
    (claim,) = outcome.record.claims
    assert [one.name for one in claim.baselines] == ["single_scale"]
    assert claim.measured.n == 2
    assert claim.holds is None  # the digits stand in
    arms = [(one.arm, one.seed) for one in outcome.record.arms]
    assert sorted(arms) == sorted(
        (name, seed)
        for name in ("pretraining_spark", "pretraining_single_scale", "spark", "single_scale")
        for seed in (0, 1)
    )
    assert (outcome.folder / "encoder" / "model.safetensors").is_file()
    assert (outcome.folder / "examples.png").is_file()
    again = run(
        "spark",
        claims=["hierarchy"],
        seeds=2,
        settings=settings,
        out=tmp_path / "run",
        resume=True,
        runtime=Runtime(device="cpu"),
    )
    assert again.record.claims == outcome.record.claims
