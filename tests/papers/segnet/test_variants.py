"""Bayesian SegNet: where dropout acts, and what its samples say together."""

import pytest
import torch

from encore.nn.creation import create_model
from encore.nn.monte_carlo import StochasticModel, posterior
from encore.papers.segnet.model import SegNet
from encore.papers.segnet.variants import BayesianSegNet, BayesianSegNetBasic

SMALL = {"num_classes": 4, "width": 8, "kernel_size": 3}


@pytest.fixture
def model() -> BayesianSegNetBasic:
    torch.manual_seed(0)
    return create_model("bayesian_segnet_basic", **SMALL, num_samples=6).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return 255 * torch.rand(2, 3, 21, 30, generator=torch.Generator().manual_seed(1))


def test_dropout_is_placed_as_in_the_prototxts():
    with torch.device("meta"):
        full, basic = BayesianSegNet(), BayesianSegNetBasic()
    assert full.dropout_places == ("pool3", "pool4", "pool5", "decoder3", "decoder4", "decoder5")
    assert basic.dropout_places == ("pool3", "pool4", "decoder3", "decoder4")
    assert full.dropout.p == basic.dropout.p == 0.5
    assert isinstance(basic, StochasticModel)
    assert not isinstance(SegNet.__new__(SegNet), StochasticModel)


@pytest.mark.parametrize("name", ["bayesian_segnet", "bayesian_segnet_basic"])
def test_every_place_is_passed_once(name, monkeypatch):
    with torch.device("meta"):
        model = create_model(name)
    passed: list[str] = []
    drop = type(model).drop

    def noted(self, place, x):
        if place in self.dropout_places:
            passed.append(place)
        return drop(self, place, x)

    monkeypatch.setattr(type(model), "drop", noted)
    model(torch.empty(1, 3, 64, 64, device="meta"))
    assert sorted(passed) == sorted(model.dropout_places)


def test_weights_are_those_of_segnet_basic(model, x):
    plain = create_model("segnet_basic", **SMALL).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert model(x).equal(plain(x))


def test_samples_are_whole_passes_with_dropout_on(model, x):
    """What is shared between samples lies before the first dropout, so that a pass in training says the same."""
    with torch.no_grad():
        torch.manual_seed(5)
        (sample,) = model.sample_logits(x, 1)
        torch.manual_seed(5)
        model.dropout.train()
        due = model(x)
    torch.testing.assert_close(sample, due)
    assert model.sample_logits(x, 1) is not None


def test_sampling_leaves_the_model_in_evaluation(model, x):
    with torch.no_grad():
        list(model.sample_logits(x, 2))
        assert not model.dropout.training
        assert model(x).equal(model(x))


def test_the_posterior_is_mean_and_variance_of_the_softmax(model, x):
    answer = posterior(model, x, seed=3)
    with torch.no_grad():
        torch.manual_seed(3)
        samples = torch.stack([one.softmax(1) for one in model.sample_logits(x, 6)])
    torch.testing.assert_close(answer.mean, samples.mean(0))
    torch.testing.assert_close(answer.variance, samples.var(0, unbiased=False), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(answer.mean.sum(1), torch.ones(2, 21, 30))
    assert answer.uncertainty.shape == (2, 21, 30)


def test_a_posterior_can_be_had_again_and_leaves_the_generator_alone(model, x):
    torch.manual_seed(11)
    due = torch.rand(3)
    torch.manual_seed(11)
    first = posterior(model, x, seed=3)
    assert torch.rand(3).equal(due)
    assert posterior(model, x, seed=3).mean.equal(first.mean)
    assert not posterior(model, x, seed=4).mean.equal(first.mean)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="num_samples"):
        BayesianSegNetBasic(num_samples=0)
    with pytest.raises(ValueError, match="dropout"):
        BayesianSegNetBasic(dropout=1.0)
