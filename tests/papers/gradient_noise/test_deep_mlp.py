"""The ensemble of deep networks: each member is a network of its own, whoever else is trained; kills change nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from encore.base.errors import ConfigurationError
from encore.base.progress import SilentProgress
from encore.nn.creation import create_model
from encore.nn.model import num_parameters
from encore.papers.gradient_noise.deep_mlp import Ensemble, Setting, Shape, batch_indices
from encore.papers.gradient_noise.deep_mlp_training import EnsembleTraining, FlatParts, FlatPictures, Outcome
from encore.papers.gradient_noise.model import DeepMLP, Initialisation, weight_deviation
from encore.training.gradient_noise import GradientNoise

SETTINGS = (
    Setting("he", 0.1, noise=0.01, clip=0.5),
    Setting("simple", 0.1, noise=0.3),
    Setting("he", 0.1, clip=0.3),
    Setting("random_walk", 0.05),
    Setting("zero", 0.1, clip=10.0),
)
SHAPE = Shape(num_inputs=20, num_classes=4, depth=3, width=7)
SEEDS = (3, 5)


def pictures(count: int = 40, seed: int = 0) -> FlatPictures:
    """Points on two sides of three planes."""
    inputs = torch.rand(count, 20, generator=torch.Generator().manual_seed(seed))
    labels = (inputs[:, 0] > 0.5).long() * 2 + (inputs[:, 1] > 0.5).long()
    return FlatPictures(inputs, labels)


def single(ensemble: Ensemble, seed: int, setting: int) -> nn.Sequential:
    """One member as a network of its own."""
    layers: list[nn.Module] = []
    for weights, biases in zip(ensemble.weights, ensemble.biases, strict=True):
        layer = nn.Linear(weights.shape[3], weights.shape[2])
        layer.weight.data.copy_(weights[seed, setting])
        layer.bias.data.copy_(biases[seed, setting])
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def batches(ensemble: Ensemble, data: FlatPictures) -> tuple[Tensor, Tensor]:
    chosen = torch.stack([batch_indices(seed, ensemble.step, len(data), 6) for seed in ensemble.seeds])
    return data.inputs[chosen], data.labels[chosen]


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_a_member_is_a_single_network_trained_with_the_wrapper(seed: int, setting: int):
    ensemble = Ensemble(SHAPE, SETTINGS, SEEDS, batch_size=6)
    net, one = single(ensemble, seed, setting), SETTINGS[setting]
    optimizer: torch.optim.Optimizer = torch.optim.SGD(net.parameters(), lr=one.learning_rate)
    if one.noise is not None:
        optimizer = GradientNoise(optimizer, one.noise, seed=SEEDS[seed])
    data = pictures()
    for _ in range(20):
        inputs, labels = batches(ensemble, data)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs[seed]), labels[seed])
        loss.backward()
        if one.clip is not None:
            nn.utils.clip_grad_norm_(net.parameters(), one.clip)
        optimizer.step()
        torch.testing.assert_close(ensemble.train_step(inputs, labels)[seed, setting], loss.detach())
    for mine, own in zip(net[::2], zip(ensemble.weights, ensemble.biases, strict=True), strict=True):
        assert isinstance(mine, nn.Linear)
        torch.testing.assert_close(own[0][seed, setting], mine.weight.detach(), atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(own[1][seed, setting], mine.bias.detach(), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize(("batch", "classes"), [(20, 5), (40, 10), (24, 4)])
def test_a_gradient_that_cancels_has_a_length(batch: int, classes: int):
    """From zero, a batch with as many pictures of each class asks for no step at all."""
    ensemble = Ensemble(replace(SHAPE, num_classes=classes), (Setting("zero", 0.1, clip=10.0),), (0,), batch_size=batch)
    labels = (torch.arange(batch) % classes)[None]
    for _ in range(30):
        ensemble.train_step(torch.rand(1, batch, 20), labels)
    torch.testing.assert_close(ensemble.biases[-1], torch.zeros(1, 1, classes), atol=1e-6, rtol=0)


def test_who_else_is_trained_changes_nothing():
    data = pictures()
    crowd = Ensemble(SHAPE, SETTINGS, SEEDS, batch_size=6)
    alone = Ensemble(SHAPE, SETTINGS[1:2], SEEDS[1:], batch_size=6)
    for _ in range(10):
        crowd.train_step(*batches(crowd, data))
        alone.train_step(*batches(alone, data))
    for many, one in zip(crowd.parameters, alone.parameters, strict=True):
        torch.testing.assert_close(many[1, 1], one[0, 0], atol=1e-6, rtol=1e-5)


def test_dropped_units_take_no_part_and_the_others_are_scaled():
    ensemble = Ensemble(replace(SHAPE, dropout=0.5), SETTINGS, SEEDS, batch_size=6)
    masks = list(ensemble._dropped(6))
    assert len(masks) == 3
    assert {float(value) for mask in masks for value in mask.unique()} == {0.0, 2.0}
    data = pictures()
    inputs, labels = batches(ensemble, data)
    net = single(ensemble, 1, 3)
    hidden = inputs[1]
    linear = [layer for layer in net if isinstance(layer, nn.Linear)]
    for layer, mask in zip(linear, masks, strict=False):
        hidden = layer(hidden).relu() * mask[1, 0]
    nn.functional.cross_entropy(linear[-1](hidden), labels[1]).backward()
    before = [one[1, 3].clone() for one in ensemble.parameters]
    ensemble.train_step(inputs, labels)
    for was, now, parameter in zip(before, ensemble.parameters, net.parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(was - now[1, 3], 0.05 * parameter.grad, atol=1e-6, rtol=1e-4)


def test_settings_of_a_seed_begin_at_the_same_draw():
    ensemble = Ensemble(SHAPE, SETTINGS, SEEDS)
    first = ensemble.weights[1]
    torch.testing.assert_close(first[:, 0] / math.sqrt(2 / 7), first[:, 1] / 0.1)
    assert not first[:, 4].any()
    assert not torch.equal(first[0, 0], first[1, 0])


def training(folder: Path, num_steps: int) -> EnsembleTraining:
    parts = FlatParts(pictures(), pictures(20, 1), pictures(30, 2), (4, 5), tuple("abcd"))
    ensemble = Ensemble(SHAPE, SETTINGS, SEEDS, batch_size=6)
    return EnsembleTraining(
        ensemble, parts, num_steps=num_steps, steps_between=4, checkpoint=folder / "last.ckpt", seconds_between=0.0
    )


def test_a_killed_training_reaches_what_an_uninterrupted_one_reaches(tmp_path: Path):
    class Killed(SilentProgress):
        def update(self, stage, step, total=None, metrics=None):
            if step == 20:
                raise RuntimeError("killed")

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = training(tmp_path / "whole", 30).run(SilentProgress(), "")
    with pytest.raises(RuntimeError, match="killed"):
        training(tmp_path / "killed", 30).run(Killed(), "")
    resumed = training(tmp_path / "killed", 30)
    outcome = resumed.run(SilentProgress(), "")
    assert (outcome.test, outcome.validation, outcome.best_step) == (whole.test, whole.validation, whole.best_step)
    assert [row["step"] for row in outcome.curves] == [0, 4, 8, 12, 16, 20, 24, 28, 30]


def test_validation_picks_the_step_and_the_test_part_is_measured_there(tmp_path: Path):
    run = training(tmp_path, 30)
    outcome = run.run(SilentProgress(), "")
    for seed in range(2):
        for setting in range(len(SETTINGS)):
            curve = {row["step"]: row["accuracy"][seed][setting] for row in outcome.curves}
            best = outcome.best_step[seed][setting]
            assert curve[best] == max(curve.values()) == outcome.validation[seed][setting]
            net = single(run.ensemble, seed, setting)
            right = (net(run.parts.test.inputs).argmax(1) == run.parts.test.labels).float().mean()
            assert outcome.test[seed][setting] == pytest.approx(100 * float(right))


def test_a_network_that_diverges_harms_no_other_and_what_it_had_is_kept(tmp_path: Path):
    settings = (Setting("he", 0.1, noise=0.01, clip=0.5), Setting("he", 1e9), Setting("he", 0.1, clip=0.3))
    parts = FlatParts(pictures(), pictures(20, 1), pictures(30, 2), (4, 5), tuple("abcd"))

    def outcome(chosen: tuple[Setting, ...]) -> Outcome:
        ensemble = Ensemble(SHAPE, chosen, SEEDS, batch_size=6)
        run = EnsembleTraining(ensemble, parts, num_steps=20, steps_between=5, checkpoint=tmp_path / "last.ckpt")
        return run.run(SilentProgress(), "")

    crowd, quiet = outcome(settings), outcome((settings[0], settings[2]))
    assert crowd.diverged == [[False, True, False]] * 2
    assert [[row[0], row[2]] for row in crowd.test] == quiet.test
    assert all(row[1] == 0 for row in crowd.best_step)


# the model


def test_the_network_has_the_papers_size():
    model = create_model("deep_mlp", num_classes=10)
    assert isinstance(model, DeepMLP)
    assert num_parameters(model) == 784 * 50 + 50 + 19 * (50 * 50 + 50) + 50 * 10 + 10
    assert model(torch.rand(2, 3, 28, 28)).shape == (2, 10)
    assert model(torch.rand(2, 3, 40, 31)).shape == (2, 10)


def test_initialisations_have_their_deviations():
    torch.manual_seed(0)
    for initialisation, deviation in (("simple", 0.1), ("he", 0.2), ("random_walk", 0.2 * math.exp(1.2 / 47.6))):
        model = create_model("deep_mlp", num_classes=10, initialisation=initialisation)
        drawn = torch.cat([layer.weight.detach().flatten() for layer in model.layers[1:-1]])
        assert drawn.std() == pytest.approx(deviation, rel=0.02)
        assert weight_deviation(initialisation, 50) == pytest.approx(deviation)
    zero = create_model("deep_mlp", num_classes=10, initialisation="zero")
    assert not any(parameter.any() for parameter in zero.parameters())


def growth_of_gradients(initialisation: Initialisation, num_layers: int = 50, width: int = 50) -> float:
    """The mean logarithm of how much longer a gradient is when it has come back through all layers."""
    generator = torch.Generator().manual_seed(0)
    grown = 0.0
    for _ in range(100):
        deviation = weight_deviation(initialisation, width)
        layers = deviation * torch.randn(num_layers, width, width, generator=generator)
        hidden, masks = torch.randn(width, generator=generator), []
        for weights in layers:
            hidden = (weights @ hidden).relu()
            masks.append(hidden > 0)
        sent = delta = torch.randn(width, generator=generator)
        for weights, mask in zip(layers.flip(0), reversed(masks), strict=True):
            delta = weights.T @ (delta * mask)
        grown += float((delta.norm() / sent.norm()).log()) / 100
    return grown


def test_random_walk_initialisation_keeps_the_length_of_gradients_where_others_shrink_it():
    assert abs(growth_of_gradients("random_walk")) < 0.5
    assert growth_of_gradients("he") < -0.8
    assert growth_of_gradients("simple") < -30


@pytest.mark.parametrize(
    "arguments", [{"initialisation": "large"}, {"depth": 0}, {"dropout": 1.0}, {"image_size": (0, 4)}]
)
def test_impossible_networks_are_refused(arguments: dict[str, object]):
    with pytest.raises(ConfigurationError, match="deep_mlp"):
        create_model("deep_mlp", num_classes=2, **arguments)
