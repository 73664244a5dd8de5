"""Batched ensembles learn as single networks do; arms begin as they should; the part judges and resumes."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from encore.base.cards import read_card
from encore.base.configuration import configure
from encore.base.progress import SilentProgress
from encore.base.runs import RunFolder
from encore.base.runtime import Runtime
from encore.nn.critical_init import critical_init_, learning_rates
from encore.papers.pdlt import training_runs
from encore.papers.pdlt.training_arms import CRITICAL, DEFAULT, KAIMING, LESS, MORE, XAVIER, deep_arms
from encore.papers.pdlt.training_networks import Ensemble, LayerRate, LayerStart, NetworkPlan, batches
from encore.papers.pdlt.training_part import TRAINING_PART, _edges_in_words
from encore.papers.pdlt.training_runs import TrainedNetwork, best_rate, rate_of_lowest_loss
from encore.papers.pdlt.training_settings import DEFAULTS, TrainingSettings
from encore.papers.pdlt.training_transfer import BOOK, spreads, transfer_plans
from encore.results.performance import Performance

WIDTHS = (6, 9, 9, 3)


def plans() -> list[NetworkPlan]:
    starts = tuple(LayerStart(1.5, 0.1) for _ in WIDTHS[1:])
    uniform = tuple(LayerStart(1 / 3, 0.02, uniform=True) for _ in WIDTHS[1:])
    rates = tuple(LayerRate(1 / layer, 2.0) for layer in (1, 2, 3))
    return [
        NetworkPlan("one", 0, 0.1, starts),
        NetworkPlan("two", 1, 0.03, uniform),
        NetworkPlan("three", 1, 0.5, starts, rates),
    ]


def sequential(ensemble: Ensemble, place: int) -> nn.Sequential:
    """One network of the ensemble, as a model of its own."""
    layers: list[nn.Module] = []
    for weight, bias in zip(ensemble.weights, ensemble.biases, strict=True):
        layer = nn.Linear(*weight.shape[1:])
        with torch.no_grad():
            layer.weight.copy_(weight[place].T)
            layer.bias.copy_(bias[place, 0])
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def test_an_ensemble_learns_as_its_networks_do_alone():
    made = plans()
    ensemble = Ensemble(WIDTHS, torch.tanh, made)
    alone = [sequential(ensemble, place) for place in range(3)]
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 3
    optimizers = []
    for plan, model in zip(made, alone, strict=True):
        groups: list[dict[str, Any]] = []
        for layer, linear in enumerate(one for one in model if isinstance(one, nn.Linear)):
            rate = plan.rates[layer] if plan.rates else None
            weight = plan.learning_rate * (rate.weight / linear.in_features if rate else 1)
            groups += [
                {"params": [linear.weight], "lr": weight},
                {"params": [linear.bias], "lr": plan.learning_rate * (rate.bias if rate else 1)},
            ]
        optimizers.append(torch.optim.SGD(groups, lr=1.0))
    for indices in batches([plan.seed for plan in made], 40, 8, 5):
        losses = ensemble.step(x[indices], labels[indices])
        for place, (model, optimizer) in enumerate(zip(alone, optimizers, strict=True)):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x[indices[place]]), labels[indices[place]])
            loss.backward()
            optimizer.step()
            assert float(losses[place]) == pytest.approx(float(loss.detach()), rel=1e-5)
    for place, model in enumerate(alone):
        torch.testing.assert_close(ensemble.forward(x)[place], model(x), rtol=1e-4, atol=1e-5)
        right = float((model(x).argmax(1) == labels).float().mean())
        assert float(ensemble.accuracies(x, labels)[place]) == pytest.approx(100 * right)


def test_networks_of_one_seed_see_the_same_numbers():
    first, second = (Ensemble(WIDTHS, torch.tanh, plans()[start:]) for start in (0, 2))
    torch.testing.assert_close(first.weights[1][2], second.weights[1][0])
    drawn = next(iter(batches([5, 7, 5], 100, 10, 1)))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_network_that_diverges_takes_no_other_with_it():
    starts = tuple(LayerStart(2.0) for _ in WIDTHS[1:])
    ensemble = Ensemble(WIDTHS, F.relu, [NetworkPlan("calm", 0, 0.01, starts), NetworkPlan("wild", 0, 1e9, starts)])
    x, labels = torch.randn(30, 6), torch.arange(30) % 3
    for _ in range(6):
        losses = ensemble.step(x.expand(2, -1, -1), labels.expand(2, -1))
    assert torch.isfinite(losses[0])
    assert not torch.isfinite(losses[1])
    assert float(ensemble.accuracies(x, labels)[1]) == 0


# arms


def variances(activation: str) -> dict[str, tuple[float, float]]:
    """C_W and C_b of a hidden layer, by arm."""
    arms = deep_arms(activation, (784, 100, 100, 10))
    return {arm.name: (arm.starts[1].weight_variance, arm.starts[1].bias_variance) for arm in arms}


def test_arms_have_the_variances_of_their_names():
    assert variances("tanh") == {
        CRITICAL: (1, 0),
        DEFAULT: (pytest.approx(1 / 3), pytest.approx(1 / 300)),
        XAVIER: (1, 0),
        KAIMING: (2, 0),
        MORE: (1.25, 0),
        LESS: (0.75, 0),
    }
    assert variances("relu")[CRITICAL] == variances("relu")[KAIMING] == (2, 0)
    assert variances("gelu")[CRITICAL] == pytest.approx((1.98305826, 0.17292239))


@pytest.mark.parametrize(
    ("name", "initialise"),
    [(XAVIER, nn.init.xavier_normal_), (KAIMING, nn.init.kaiming_normal_), (DEFAULT, None)],
)
def test_usual_arms_are_those_of_torch(name: str, initialise: Any):
    widths = (80, 200, 200, 50)
    (arm,) = (arm for arm in deep_arms("tanh", widths) if arm.name == name)
    ensemble = Ensemble(widths, torch.tanh, [NetworkPlan(name, 0, 0.1, arm.starts)])
    for weight, bias, (fan_in, fan_out) in zip(ensemble.weights, ensemble.biases, pairwise(widths), strict=True):
        layer = nn.Linear(fan_in, fan_out)
        if initialise is not None:
            initialise(layer.weight)
            nn.init.zeros_(layer.bias)
        assert float(weight.detach().std()) == pytest.approx(float(layer.weight.detach().std()), rel=0.05)
        if initialise is None:
            assert float(weight.detach().abs().max()) <= fan_in**-0.5
            assert float(bias.detach().std()) == pytest.approx(float(layer.bias.detach().std()), rel=0.3)


@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
def test_the_critical_arm_is_what_critical_init_does(activation: str):
    widths = (64, 50, 50, 10)
    module = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}[activation]
    layers = [part for fan_in, fan_out in pairwise(widths) for part in (nn.Linear(fan_in, fan_out), module())]
    report = critical_init_(nn.Sequential(*layers[:-1]))
    (arm,) = (arm for arm in deep_arms(activation, widths) if arm.name == CRITICAL)
    for one, start in zip(report.layers, arm.starts, strict=True):
        assert (one.weight_variance, one.bias_variance) == pytest.approx((start.weight_variance, start.bias_variance))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_books_rates_are_those_of_the_tool(activation: str):
    widths = (64, 50, 50, 10)
    module = {"tanh": nn.Tanh, "relu": nn.ReLU}[activation]
    layers = [part for fan_in, fan_out in pairwise(widths) for part in (nn.Linear(fan_in, fan_out), module())]
    groups = [group["lr"] for group in learning_rates(nn.Sequential(*layers[:-1]), lr=0.4)]
    plan = next(one for one in transfer_plans(activation, widths, [0], [0.4]) if one.name == BOOK)
    assert plan.rates is not None
    pairs = zip(plan.rates, widths[:-1], strict=True)
    steps = [0.4 * step for rate, fan_in in pairs for step in (rate.weight / fan_in, rate.bias)]
    assert groups == pytest.approx(steps)


# choosing rates


def network(rate: float, val: float, loss: float, seed: int = 0) -> TrainedNetwork:
    return TrainedNetwork("arm", seed, rate, val, 0.0, loss)


def test_rates_are_chosen_by_means_over_seeds():
    found = [network(0.1, 50, 2.0), network(0.1, 90, 0.5, 1), network(0.3, 75, 1.0), network(0.3, 75, float("inf"), 1)]
    assert best_rate(found, "arm") == 0.3
    assert rate_of_lowest_loss(found, "arm") == 0.1


def test_spread_is_the_largest_best_rate_over_the_smallest():
    curves = {
        ("tanh", BOOK, (64, 5)): {0: {0.1: 1.0, 0.2: 0.5, 0.4: 0.9}},
        ("tanh", BOOK, (64, 20)): {0: {0.1: 0.4, 0.2: 0.5, 0.4: 0.9}},
    }
    assert spreads(curves, "tanh", BOOK) == [2.0]


def test_rates_at_the_end_of_the_grid_are_named():
    settings = TrainingSettings()
    results = {
        "tanh": {CRITICAL: [network(3.0, 50, 1.0)], DEFAULT: [network(1.0, 50, 1.0)], LESS: [network(3e-9, 9, 2)]}
    }
    assert _edges_in_words(results, settings) == ". A better rate may lie beyond the grid for tanh critical"
    assert _edges_in_words(results, settings, (DEFAULT,)) == ""
    assert "weight_variance_minus_25" in _edges_in_words(results, settings, (LESS,))


# the part


def performance(folder: RunFolder | None, seeds: Sequence[int], claims: Sequence[str]) -> Performance:
    card = read_card(Path(training_runs.__file__).with_name("card.toml"))
    small = {"depth": 6, "width": 12, "search_steps": 3, "steps": 6, "transfer_steps": 6, "training_samples": 300}
    return Performance(
        card=card,
        scale="smoke",
        claims=tuple(claim for claim in card.claims if claim.id in claims),
        seeds=tuple(seeds),
        configuration=SimpleNamespace(training=configure(TrainingSettings, small, DEFAULTS["smoke"])),
        runtime=Runtime(device="cpu"),
        progress=SilentProgress(),
        folder=folder,
    )


def test_the_part_records_every_claim_and_skips_what_is_done(clean_directory: Path, monkeypatch: pytest.MonkeyPatch):
    with RunFolder(clean_directory / "run", {}) as folder:
        first = performance(folder, (0, 1), TRAINING_PART.claims)
        TRAINING_PART.perform(first)
        assert set(first.records) == set(TRAINING_PART.claims)
        for record in first.records.values():
            assert record.measured is not None
            assert record.measured.n == 2
            assert record.holds is None  # digits stand in for MNIST
        assert {picture.path for picture in first.pictures} == {"deep_training.png", "learning_rate_transfer.png"}
        assert [one.name for one in first.records["deep_relu"].baselines] == [DEFAULT, XAVIER]
        assert [one.name for one in first.records["deep_tanh"].baselines] == [DEFAULT, KAIMING]

        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("trained again")

        monkeypatch.setattr(training_runs, "_trained_ensemble", never)
        again = performance(folder, (0, 1), TRAINING_PART.claims)
        TRAINING_PART.perform(again)
    for claim, record in first.records.items():
        assert again.records[claim].measured == record.measured


def test_a_training_that_was_killed_goes_on_to_the_same_weights(clean_directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(training_runs, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    claims = ["deep_tanh"]
    with RunFolder(clean_directory / "whole", {}) as folder:
        whole = performance(folder, (0,), claims)
        TRAINING_PART.perform(whole)
    step, count = Ensemble.step, 0

    def killed(self: Ensemble, *words: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            raise KeyboardInterrupt
        return step(self, *words)

    with RunFolder(clean_directory / "cut", {}) as folder:
        monkeypatch.setattr(Ensemble, "step", killed)
        with pytest.raises(KeyboardInterrupt):
            TRAINING_PART.perform(performance(folder, (0,), claims))
        assert list((clean_directory / "cut" / "training").glob("*.safetensors"))
        resumed = performance(folder, (0,), claims)
        TRAINING_PART.perform(resumed)
    assert resumed.records["deep_tanh"].measured == whole.records["deep_tanh"].measured
    assert not list((clean_directory / "cut" / "training").glob("*.safetensors"))


def test_a_plan_names_arms_and_time(clean_directory: Path):
    plan = TRAINING_PART.plan(performance(None, (0, 1, 2), ["deep_gelu", "learning_rate_transfer"]))
    assert plan.arms[0] == "6 layers of 12, gelu: critical, pytorch_default, xavier, kaiming"
    assert plan.seconds > 5
    assert plan.data == ["digits (train 1212, val 135, test 450)"]
