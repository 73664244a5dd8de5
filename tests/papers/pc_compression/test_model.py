"""Hidden Chow-Liu trees against sums over everything that can be."""

import itertools

import numpy as np
import pytest
import torch

from encore.papers.pc_compression.model import HCLT

TREES = {
    "one": [-1],
    "pair": [-1, 0],
    "chain": [1, 2, -1, 2, 3],
    "star": [2, 2, -1, 2, 2],
    "mixed": [1, -1, 1, 2, 2],
}


def small(name: str, num_values: int = 3, num_states: int = 2) -> HCLT:
    model = HCLT(TREES[name], num_values, num_states)
    model.randomise(torch.Generator().manual_seed(3), 0.9)
    return model.double()


def joint(model: HCLT) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All (values, states) and their probabilities, by the definition, one term at a time."""
    tree, H, K = model.tree, model.num_states, model.num_values
    inner = tree.inner.tolist()
    rows, hidden, probabilities = [], [], []
    for values in itertools.product(range(K), repeat=len(tree)):
        for states in itertools.product(range(H), repeat=len(inner)):
            state = dict(zip(inner, states, strict=True))
            p = model.prior[state[tree.root]].item()
            for place, node in enumerate(inner):
                if node != tree.root:
                    p *= model.transitions[place, state[int(tree.parents[node])], state[node]].item()
            for variable, value in enumerate(values):
                owner = variable if variable in state else int(tree.parents[variable])
                p *= model.emissions[variable, value, state[owner]].item()
            rows.append(values)
            hidden.append(states)
            probabilities.append(p)
    return np.array(rows), np.array(hidden), np.array(probabilities)


def everything(model: HCLT) -> torch.Tensor:
    return torch.tensor(list(itertools.product(range(model.num_values), repeat=model.num_variables)))


@pytest.mark.parametrize("name", TREES)
def test_likelihood_is_the_sum_over_all_states(name):
    model = small(name)
    rows, _, p = joint(model)
    assert p.sum() == pytest.approx(1)
    x = everything(model)
    due = [p[(rows == one.numpy()).all(1)].sum() for one in x]
    torch.testing.assert_close(model(x).exp(), torch.tensor(due))


@pytest.mark.parametrize("name", TREES)
def test_marginals_sum_what_is_not_observed(name):
    model = small(name)
    rows, _, p = joint(model)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (20, model.num_variables), generator=generator)
    observed = torch.rand(x.shape, generator=generator) < 0.5
    hidden = x.masked_fill(~observed, 999)
    due = [p[((rows == one.numpy()) | ~seen.numpy()).all(1)].sum() for one, seen in zip(x, observed, strict=True)]
    torch.testing.assert_close(model.log_likelihood(hidden, observed).exp(), torch.tensor(due))


@pytest.mark.parametrize("name", TREES)
def test_conditionals_are_ratios_of_marginals(name):
    model = small(name)
    rows, _, p = joint(model)
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(0, 3, (12, model.num_variables), generator=generator)
    observed = torch.rand(x.shape, generator=generator) < 0.5
    answer = model.conditionals(x, observed)
    for one, seen, table in zip(x.numpy(), observed.numpy(), answer, strict=True):
        matching = ((rows == one) | ~seen).all(1)
        for variable in range(model.num_variables):
            due = [p[matching & (rows[:, variable] == k)].sum() / p[matching].sum() for k in range(3)]
            torch.testing.assert_close(table[variable], torch.tensor(due), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", TREES)
def test_flows_are_expected_counts(name):
    model = small(name)
    rows, hidden, p = joint(model)
    x = torch.randint(0, 3, (9, model.num_variables), generator=torch.Generator().manual_seed(2))
    flows = model.flows(x)
    assert flows.log_likelihood == pytest.approx(float(model(x).sum()))
    tree = model.tree
    inner = tree.inner.tolist()
    prior = np.zeros(2)
    transitions, emissions = np.zeros(model.transitions.shape), np.zeros(model.emissions.shape)
    for one in x.numpy():
        matching = (rows == one).all(1)
        weights = p * matching / p[matching].sum()
        for states, weight in zip(hidden[matching], weights[matching], strict=True):
            state = dict(zip(inner, states.tolist(), strict=True))
            prior[state[tree.root]] += weight
            for place, node in enumerate(inner):
                if node != tree.root:
                    transitions[place, state[int(tree.parents[node])], state[node]] += weight
            for variable, value in enumerate(one):
                owner = variable if variable in state else int(tree.parents[variable])
                emissions[variable, value, state[owner]] += weight
    np.testing.assert_allclose(flows.prior, prior, rtol=1e-6)
    np.testing.assert_allclose(flows.transitions, transitions, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(flows.emissions, emissions, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", TREES)
def test_the_most_probable_completion_is_the_largest_term(name):
    model = small(name)
    rows, _, p = joint(model)
    generator = torch.Generator().manual_seed(4)
    x = torch.randint(0, 3, (15, model.num_variables), generator=generator)
    observed = torch.rand(x.shape, generator=generator) < 0.4
    values, logs = model.most_probable(x, observed)
    for one, seen, found, log in zip(x.numpy(), observed.numpy(), values.numpy(), logs, strict=True):
        matching = ((rows == one) | ~seen).all(1)
        best = np.where(matching, p, -1).argmax()
        assert log.exp().item() == pytest.approx(p[best])
        assert (found == rows[best]).all()


@pytest.mark.parametrize("name", TREES)
def test_samples_have_the_frequencies_of_the_distribution(name):
    model = small(name)
    rows, _, p = joint(model)
    drawn = model.sample(40_000, torch.Generator().manual_seed(5))
    for values in itertools.islice(itertools.product(range(3), repeat=model.num_variables), 0, 243, 7):
        due = p[(rows == values).all(1)].sum()
        seen = (drawn == torch.tensor(values)).all(1).double().mean().item()
        assert abs(seen - due) < 5 * (due / 40_000) ** 0.5 + 1e-4


def test_samples_given_evidence_have_the_conditional_frequencies():
    model = small("mixed")
    x = torch.tensor([[2, 0, 1, 0, 2]]).expand(40_000, -1)
    observed = torch.tensor([True, False, False, True, False])
    drawn = model.sample(40_000, torch.Generator().manual_seed(6), x, observed)
    assert (drawn[:, observed] == x[:, observed]).all()
    due = model.conditionals(x[:1], observed)[0]
    for variable in (1, 2, 4):
        for value in range(3):
            seen = (drawn[:, variable] == value).double().mean().item()
            assert seen == pytest.approx(due[variable, value].item(), abs=0.015)


def test_the_papers_size():
    # 589 variables with children and 195 without, as the official notebook's tree of MNIST has them.
    parents = [-1, *range(588), *([588] * 195)]
    assert HCLT(parents, 256, 32).num_free_parameters == 6_980_767


def test_what_the_tree_does_not_know_is_refused():
    model = small("chain")
    with pytest.raises(ValueError, match="takes \\(N, 5\\)"):
        model(torch.zeros(2, 4, dtype=torch.long))
    with pytest.raises(ValueError, match="knows 0…2"):
        model(torch.full((2, 5), 3))
    with pytest.raises(ValueError, match="one root"):
        HCLT([0, 1], 2, 2)
    with pytest.raises(ValueError, match="make a tree"):
        HCLT([-1, 2, 1], 2, 2)


def test_the_unlikely_is_as_unlikely_in_single_precision():
    for parents in ([-1, 0, 0, 0, 0, 0], [1, -1, 1, 2, 2, 2, 2, 2, 2]):
        model = HCLT(parents, 3, 4)
        model.randomise(torch.Generator().manual_seed(0))
        model.emissions[:, 1] *= 1e-8
        x = torch.ones(2, len(parents), dtype=torch.long)
        single = model(x)
        torch.testing.assert_close(single, model.double()(x), rtol=1e-5, atol=1e-4)
