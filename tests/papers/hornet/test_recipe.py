"""HorNet's recipe: what it compares, what it counts, and what fit takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from encore.base import registry
from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, DataError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.classification import open_classification
from encore.nn.creation import create_model
from encore.nn.macs import macs
from encore.nn.model import num_parameters
from encore.papers.hornet.pictures import accuracy_per_mac_picture, probe_picture
from encore.papers.hornet.recipe import ARMS, COMPARISONS, DEFAULTS, PAPER_ARMS, PROBE_ARMS, RECIPE, HorNetFit
from encore.papers.hornet.sizes import EXACT, measured_sizes
from encore.results.performance import Performance

CARD = registry.card("hornet")


def performance(scale: str, **changes: object) -> Performance:
    return Performance(
        card=CARD,
        scale=scale,
        claims=CARD.claims,
        seeds=(0,),
        configuration=RECIPE.configuration(scale, changes),
        runtime=Runtime(device="cpu"),
        progress=SilentProgress(),
    )


def test_every_claim_is_performed():
    probes = {"interaction_probe", "interaction_probe_long"}
    assert COMPARISONS.keys() | EXACT.keys() | probes == {claim.id for claim in CARD.claims}


def test_comparisons_name_the_cards_baselines_and_arms_that_there_are():
    names = {arm.name for arm in ARMS}
    assert names == {arm.name for arm in PAPER_ARMS}
    for claim_id, comparison in COMPARISONS.items():
        assert {comparison.arm, *comparison.baselines} <= names
        figure = CARD.claim(claim_id).paper
        if figure is not None:
            assert set(figure.baselines) == set(comparison.baselines)


def test_arms_cost_about_the_same():
    """The methods' multiply-accumulates, and those of the controls, lie within a tenth of each other."""
    costs = {arm.name: macs(create_model(arm.model, num_classes=10, **arm.arguments), (1, 3, 32, 32)) for arm in ARMS}
    for name in ("depthwise_matched", "window_attention", "convnext"):
        assert 0.9 < costs[name] / costs["hornet_7x7"] < 1.1


def test_the_matched_control_has_no_fewer_parameters():
    counts = {arm.name: num_parameters(create_model(arm.model, num_classes=2, **arm.arguments)) for arm in PROBE_ARMS}
    assert counts["depthwise_matched"] >= counts["order_4"] > counts["order_2"] > counts["gated"]


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_has_a_valid_configuration(scale: str):
    configuration = RECIPE.configuration(scale, {})
    assert configuration.model == ARMS[0].model
    assert len(configuration.probe_steps) == 2
    assert DEFAULTS[scale]["training"]["epochs"] == configuration.training.epochs


def test_global_filters_are_clipped_harder_at_the_papers_scale():
    study = RECIPE.study(performance("paper"), open_classification("digits"))
    clips = {arm.name: arm.configuration(study.configuration).training.gradient_clip for arm in study.arms}
    assert clips.pop("hornet_gf") == 1
    assert set(clips.values()) == {5}


def test_the_papers_scale_asks_for_imagenet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ENCORE_DATA", raising=False)
    with pytest.raises(DataError, match="imagenet"):
        RECIPE.open_data(performance("paper"))


def test_both_budgets_of_the_probe_are_shown_whichever_is_asked_for(tmp_path: Path):
    from encore.verbs.run import run

    outcome = run(
        "hornet",
        claims=["interaction_probe"],
        settings={"probe_steps": [1, 2]},
        out=tmp_path / "run",
        runtime=Runtime(device="cpu"),
    )
    (claim,) = outcome.record.claims
    assert claim.holds is None  # smoke
    assert {arm.arm for arm in outcome.record.arms} == {
        f"{arm.name}_at_{steps}" for arm in PROBE_ARMS for steps in (1, 2)
    }
    assert "1 / 2 steps" in claim.note


def test_sizes_are_those_of_the_card_to_its_last_digit():
    table = next(table for table in CARD.tables if table.id == "sizes")
    names = ["hornet_tiny_7x7", "hornet_tiny_gf", "hornet_small_7x7", "hornet_base_gf"]
    measured = measured_sizes(names)
    for name in names:
        figures = table.rows[name]
        assert round(measured[name]["parameters"][0]) == figures["parameters"]
        assert measured[name]["gmacs"][0] == pytest.approx(figures["gmacs"], abs=0.06)


def test_the_pyramid_with_gates_is_smaller():
    record = EXACT["fusion_size"](CARD.claim("fusion_size"))
    assert record.holds
    assert record.measured.mean < record.baselines[0].mean


def test_fit_names_the_network_by_size_and_form():
    assert configure(HorNetFit, {}).model == "hornet_tiny_7x7"
    assert configure(HorNetFit, {"size": "base", "form": "gf_img384"}).model == "hornet_base_gf_img384"
    assert configure(HorNetFit, {"model": "hornet_gated"}).model == "hornet_gated"
    with pytest.raises(ConfigurationError, match="hornet_tiny_gf_img384"):
        configure(HorNetFit, {"form": "gf_img384"})


def test_training_pictures_are_the_same_share_of_every_class():
    configuration = RECIPE.configuration("smoke", {"train_samples": 50})
    splits = RECIPE.task.sized(open_classification("digits"), configuration)
    labels = [splits.train[index]["label"] for index in range(len(splits.train))]
    assert torch.bincount(torch.tensor(labels), minlength=10).tolist() == [5] * 10


def test_plots_are_drawn(tmp_path: Path):
    probe_picture({400: {"a": [90, 91], "b": [50, 51]}, 1200: {"a": [97, 98], "b": [90, 92]}}, tmp_path / "probe.png")
    accuracy_per_mac_picture({"a": [50, 52], "b": [49, 53]}, {"a": 10**7, "b": 2 * 10**7}, tmp_path / "macs.png")
    for name in ("probe.png", "macs.png"):
        assert Image.open(tmp_path / name).width > 300
