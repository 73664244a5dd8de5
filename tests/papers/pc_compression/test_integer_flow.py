"""The flow loses nothing; circuits as its prior are sums over their states, with the gradients of those sums."""

import itertools

import numpy as np
import pytest
import torch

from encore.nn.creation import create_model
from encore.papers.pc_compression.integer_flow import (
    CircuitPrior,
    IntegerFlow,
    log_discretised_logistic,
    residual_levels,
)
from encore.papers.pc_compression.structure import chow_liu_tree, mutual_information

SMALL = {"levels": 2, "steps": 2, "channels": 8, "depth": 2}


def scrambled(model: IntegerFlow) -> IntegerFlow:
    torch.manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("shape", [(8, 12), (8, 8, 3)])
def test_pictures_come_back_from_their_latents(shape):
    model = scrambled(IntegerFlow(shape, **SMALL))
    samples = torch.randint(0, 256, (5, *shape), generator=torch.Generator().manual_seed(1))
    x = model._values(samples)
    with torch.no_grad():
        latents = [one for one, _, _ in model.latents(x)]
        assert sum(one[0].numel() for one in latents) == samples[0].numel()
        for one in latents:
            assert (one * 256 == (one * 256).round()).all()
        assert model.restored(latents).equal(x)


def test_the_logistic_is_a_distribution_over_the_bins():
    grid = torch.arange(-4000, 4000).double() / 256
    for mean, log_scale in ((0.3, -2.0), (0.5, -6.0), (-1.2, 0.1)):
        logs = log_discretised_logistic(grid, torch.tensor(mean).double(), torch.tensor(log_scale).double())
        assert logs.exp().sum().item() == pytest.approx(1, abs=1e-5)
    far = log_discretised_logistic(torch.tensor([9.0]), torch.tensor([0.0]), torch.tensor([-5.0]))
    assert torch.isfinite(far).all()


def brute(prior: CircuitPrior, logs: torch.Tensor) -> torch.Tensor:
    """Σ over all states of the tree, one term at a time, in autograd."""
    tree = prior.tree
    inner = tree.tree.inner.tolist()
    owners = tree.states_of.tolist()
    terms = []
    for states in itertools.product(range(tree.num_states), repeat=len(inner)):
        term = tree.prior[states[0]].log().expand(logs.shape[1])
        for place, node in enumerate(inner):
            if place:
                above = inner.index(int(tree.tree.parents[node]))
                term = term + tree.transitions[place, states[above], states[place]].log()
        terms.append(term + sum(logs[d, :, states[owner]] for d, owner in enumerate(owners)))
    return torch.logsumexp(torch.stack(terms), 0)


def test_a_circuit_of_logistics_is_a_sum_over_states_with_its_gradients():
    prior = CircuitPrior([2, 2, -1, 2, 3, 3], 2).double().eval()
    generator = torch.Generator().manual_seed(0)
    z = torch.randint(0, 256, (7, 6, 1, 1), generator=generator).double() / 256
    mean = torch.rand(7, 6, 1, 1, generator=generator).double().requires_grad_()
    log_scale = (-2 * torch.rand(7, 6, 1, 1, generator=generator).double()).requires_grad_()
    inputs = [mean, log_scale, prior.shift, prior.widen]
    found = prior.log_prob(z, mean, log_scale)
    flat, m, s = (one.flatten(1).T.unsqueeze(2) for one in (z, mean, log_scale))
    logs = log_discretised_logistic(flat, m + s.exp() * prior.shift.unsqueeze(1), s + prior.widen.unsqueeze(1))
    due = brute(prior, logs)
    torch.testing.assert_close(found, due, rtol=1e-6, atol=1e-6)
    weights = torch.randn(7, generator=generator).double()
    for one, other in zip(
        torch.autograd.grad((found * weights).sum(), inputs, retain_graph=True),
        torch.autograd.grad((due * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Pictures of a few broad strokes: neighbours are alike, and so are channels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (count, 2, 2, 1))
    fine = np.kron(coarse, np.ones((1, 4, 4, 3))) + rng.integers(0, 20, (count, 8, 8, 3))
    return torch.from_numpy(fine.astype(np.int64))


def test_trees_over_latents_learn_more_than_the_plain_prior_does():
    torch.manual_seed(0)
    plain = IntegerFlow((8, 8, 3), **SMALL)
    optimizer = torch.optim.Adam(plain.parameters(), 3e-3)
    train, test = smooth(400, 0), smooth(100, 1)
    for _ in range(3):
        for part in train.split(50):
            optimizer.zero_grad()
            plain.loss(part).backward()
            optimizer.step()
    levels = residual_levels(plain, train)
    trees = [chow_liu_tree(mutual_information(one, 16)).parents.tolist() for one in levels]
    joined = IntegerFlow((8, 8, 3), **SMALL, trees=trees, num_states=3)
    joined.load_state_dict(plain.state_dict(), strict=False)
    models = {"plain": plain, "joined": joined}
    for model in models.values():
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        for _ in range(4):
            for part in train.split(50):
                optimizer.zero_grad()
                model.loss(part).backward()
                optimizer.step()
    rates = {name: model.eval().bits(test).mean().item() / 192 for name, model in models.items()}
    assert rates["joined"] < rates["plain"]
    drawn = joined.draw(3, torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 8, 8, 3)
    assert 0 <= drawn.min() <= drawn.max() <= 255


def test_the_papers_flow_can_be_built():
    with torch.device("meta"):
        model = create_model("integer_flow")
    assert [list(one.shape[1:]) for one, _, _ in model.latents(torch.empty(2, 3, 32, 32, device="meta"))] == [
        [6, 16, 16],
        [12, 8, 8],
        [48, 4, 4],
    ]


def test_what_cannot_be_made_is_refused():
    with pytest.raises(ValueError, match="cannot be halved"):
        IntegerFlow((8, 6), **SMALL)
    with pytest.raises(ValueError, match="bytes"):
        IntegerFlow((8, 8), 100, **SMALL)
    with pytest.raises(ValueError, match="trees"):
        IntegerFlow((8, 8), **SMALL, trees=[[-1]])
