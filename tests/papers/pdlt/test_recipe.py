"""The recipe: every claim has its part, and ensembles are judged as the claims say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from encore.base import registry
from encore.base.errors import ConfigurationError
from encore.base.runtime import Runtime
from encore.papers.pdlt.depth_laws import expand_layers, law_of
from encore.papers.pdlt.ensemble_part import CRITICAL, ENSEMBLE_PART, critical_weights
from encore.papers.pdlt.fits import agreement, expand
from encore.papers.pdlt.pictures import PICTURES
from encore.papers.pdlt.recipe import RECIPE
from encore.papers.pdlt.statistics import Estimate
from encore.verbs.run import plan, run

CARD = registry.card("pdlt")
TINY = {
    "ensembles.widths": [8, 12, 16, 24],
    "ensembles.depth": 5,
    "ensembles.half_stable_depth": 3,
    "ensembles.weights": 2e5,
    "ensembles.networks": 60,
    "ensembles.kernel_widths": [9, 10, 12, 14],
    "ensembles.kernel_depth": 3,
    "ensembles.kernel_entries": 1e5,
    "ensembles.kernel_networks": 60,
    "ensembles.law_width": 8,
    "ensembles.law_networks": 50,
    "ensembles.residual_widths": [8, 12, 16, 24],
    "ensembles.residual_depth": 4,
}


def test_every_claim_belongs_to_one_part():
    claims = [claim for part in RECIPE.parts for claim in part.claims]
    assert sorted(claims) == sorted(claim.id for claim in CARD.claims)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_has_a_valid_configuration(scale: str):
    configuration = RECIPE.configuration(scale, {})
    assert len(configuration.ensembles.widths) >= 4
    if scale == "paper":
        assert max(configuration.ensembles.widths) == 1000
        assert configuration.ensembles.depth == 60


@pytest.mark.parametrize("claim_id", list(CRITICAL))
def test_half_stable_critical_points_have_the_books_digits(claim_id: str):
    assert critical_weights(CARD.claim(claim_id)).holds


def test_widths_have_to_grow():
    for wrong, said in (
        ([10, 20, 20, 30], "larger than the one before"),
        ([2, 3, 4, 50], "three widths of 9"),
        ([10, 20, 30, 10**6], "fit into memory"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            RECIPE.configuration("smoke", {"ensembles.widths": wrong})
    with pytest.raises(ConfigurationError, match="at most 1000 layers"):
        RECIPE.configuration("smoke", {"ensembles.depth": 10**5})


def test_an_expansion_finds_its_coefficients():
    layers = torch.arange(1.0, 4, dtype=torch.float64)
    measured = {
        width: Estimate(layers + 3 / width - 2 / width**2, torch.full((3,), 0.01, dtype=torch.float64))
        for width in (10, 20, 40, 80)
    }
    found = expand(measured, 2)
    for coefficient, due in zip(found.coefficients, (layers, 3.0, -2.0), strict=True):
        assert torch.allclose(coefficient.value, torch.as_tensor(due).double().expand(3), atol=1e-6)
    with pytest.raises(ValueError, match="cannot carry"):
        expand({10: measured[10]}, 1)


def test_widths_that_are_too_narrow_take_no_part():
    measured = {width: Estimate(torch.zeros(9).double(), torch.ones(9).double()) for width in (5, 10, 20, 40)}
    layers, (first, _) = expand_layers(measured, growth=2.0, depth=9, most=0.5)
    assert layers == [2, 3]
    assert first.error[1] > first.error[0]  # one width fewer
    with pytest.raises(ConfigurationError, match="too narrow"):
        expand_layers(measured, growth=50.0, depth=9)


def test_agreement_allows_what_the_largest_of_many_does_by_chance():
    normal = torch.randn(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theory = torch.full((200,), 4.0, dtype=torch.float64)
    true = Estimate(theory + normal, torch.ones(200, dtype=torch.float64)), theory
    assert agreement({"one": true}).holds
    far = Estimate(torch.tensor([8.0]).double(), torch.tensor([1.0]).double()), torch.tensor([2.0]).double()
    found = agreement({"one": true, "other": far})
    assert not found.holds
    assert (found.where, found.points) == ("other", 201)
    assert found.precision == "25 % of theory (one) to 50 % (other)"


def test_laws_are_told_apart():
    layers = torch.arange(1, 61, dtype=torch.float64)
    assert law_of(1 / (2 * layers))[0] == "power"
    assert law_of(torch.full((60,), 1.3, dtype=torch.float64))[0] == "power"
    assert law_of(0.75**layers)[0] == "exponential"
    assert law_of(1.25**layers)[0] == "exponential"


def test_a_plan_names_ensembles_and_trains_nothing():
    made = plan("pdlt", scale="paper", claims=["four_point_growth"])
    assert any("width 1000" in arm for arm in made.arms)
    assert made.seconds > 100


def test_ensembles_are_measured_drawn_and_resumed(tmp_path: Path):
    claims = [claim for claim in ENSEMBLE_PART.claims if claim not in CRITICAL]
    where = {"out": tmp_path / "run", "runtime": Runtime(device="cpu")}
    outcome = run("pdlt", claims=claims, settings=TINY, **where)
    by_id = {claim.id: claim for claim in outcome.record.claims}
    assert set(by_id) == set(claims)
    assert all(claim.measured is not None and claim.note for claim in by_id.values())
    assert by_id["critical_exponents"].holds is None  # five layers have no exponents
    assert by_id["relu_fluctuations"].baselines[0].name == "linear"
    assert "layers 2 of width 8" in by_id["relu_fluctuations"].note
    assert by_id["ensemble_kernel"].holds is not True  # 60 networks do not tell G1 from 0
    assert "is told from 0 by up to" in by_id["ensemble_kernel"].note
    for name in PICTURES:
        assert Image.open(outcome.folder / f"{name}.png").width > 500
    (outcome.folder / "result.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (outcome.folder / "ensembles").iterdir()}
    again = run("pdlt", claims=claims, settings=TINY, resume=True, **where)
    assert again.record.claims == outcome.record.claims
    assert kept == {path: path.stat().st_mtime_ns for path in (outcome.folder / "ensembles").iterdir()}
