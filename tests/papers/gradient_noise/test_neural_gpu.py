"""The Neural GPU: its unit against plain convolutions, its arithmetic against integers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.papers.gradient_noise.neural_ensembles import Draws, Member
from encore.papers.gradient_noise.neural_gpu import NeuralGPU, cgru, gate
from encore.papers.gradient_noise.neural_gpu_tasks import SIGN, GPUProblem, task_samples


def convolution(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """(m, w, n), (K, m, 3, 3), (K,) → (K, w, n), place by place."""
    _, w, n = image.shape
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1))
    result = torch.zeros(len(kernel), w, n)
    for y in range(w):
        for x in range(n):
            result[:, y, x] = (kernel * padded[:, y : y + 3, x : x + 3]).sum((1, 2, 3)) + bias
    return result


def test_the_unit_is_the_papers_gated_convolution():
    E, B, w, n, m = 2, 3, 4, 5, 6
    image = torch.randn(B, E, m, w, n)
    gates = torch.randn(E, 2 * m, m, 3, 3) * 0.2, torch.randn(E, 2 * m)
    new = torch.randn(E, m, m, 3, 3) * 0.2, torch.randn(E, m)
    found = cgru(image, gates, new, 1.2)
    for sample in range(B):
        for member in range(E):
            s = image[sample, member]
            u, r = gate(convolution(s, gates[0][member], gates[1][member]), 1.2).chunk(2)
            candidate = torch.tanh(convolution(r * s, new[0][member], new[1][member]))
            assert torch.allclose(found[sample, member], u * s + (1 - u) * candidate, atol=1e-5)


def test_gates_can_close_and_open():
    x = torch.tensor([-4.0, 0.0, 4.0])
    assert gate(x, 1.2).tolist() == [0.0, 0.5, 1.0]
    assert torch.equal(gate(x, 1.0), torch.sigmoid(x))


def test_the_network_of_the_paper_has_so_many_parameters():
    sets, layers, m = 6, 2, 24
    expected = sets * layers * (9 * m * 3 * m + 3 * m) + 4 * m + (m * m + m) + (m * 4 + 4)
    assert sum(one[0].numel() for one in NeuralGPU([0]).parameters()) == expected == 188_284


def test_padding_changes_no_answer():
    model = NeuralGPU([0, 1], maps=6, width=3)
    generator = torch.Generator().manual_seed(0)
    short, long = (task_samples("addition", generator, 4, digits) for digits in (2, 4))
    n = long["symbols"].shape[1]
    padded = torch.nn.functional.pad(short["symbols"], (0, n - short["symbols"].shape[1]))
    both = model.run(
        torch.cat([padded, long["symbols"]]).expand(2, 8, n),
        torch.cat([short["lengths"], long["lengths"]]).expand(2, 8),
    )
    alone = model.run(short["symbols"].expand(2, 4, 5), short["lengths"].expand(2, 4))
    assert torch.allclose(both[:, :4, :5], alone, atol=1e-5)


def as_integer(symbols: list[int]) -> int:
    """The number that digits (symbols 1 and 2, the lowest first) stand for."""
    return sum((symbol - 1) << place for place, symbol in enumerate(symbols) if symbol)


@pytest.mark.parametrize("digits", [1, 3, 20, 200])
def test_targets_are_sums_and_products(digits: int):
    for task in ("addition", "multiplication"):
        batch = task_samples(task, torch.Generator().manual_seed(digits), 10, digits)
        for symbols, target in zip(batch["symbols"].tolist(), batch["target"].tolist(), strict=True):
            assert symbols[digits] == SIGN
            a, b = as_integer(symbols[:digits]), as_integer(symbols[digits + 1 :])
            length = digits + 1 if task == "addition" else 2 * digits
            assert as_integer(target) == (a + b if task == "addition" else a * b)
            assert 0 not in target[:length]
            assert not any(target[length:])


def test_the_pull_grows_after_the_last_length_and_joins_the_sets():
    model = NeuralGPU([0, 1], maps=4, width=2, lengths=3, pull=1e-3, pull_growth=2.0)
    stages = torch.tensor([2, 13])
    assert model._pull(stages).tolist() == pytest.approx([1e-3, 2.048])
    assert float(model._pull(torch.tensor([10**6]))) == 10
    apart = model.distance()
    with torch.no_grad():
        model.tidy(stages)
    assert model.distance()[0] == apart[0] > 0
    assert float(model.distance()[1].detach()) == pytest.approx(0, abs=1e-6)


def test_the_loss_is_the_cross_entropy_of_the_symbols_inside():
    model = NeuralGPU([0], maps=4, width=2, pull=0.0)
    task = GPUProblem("addition", digits=2, long_digits=3, held_out=4)
    parts = [task.samples(torch.Generator().manual_seed(seed), 4, 0) for seed in (0, 1)]
    batch = {name: value[None] for name, value in task.together([parts[0]]).items() for value in [value[0]]}
    logits = model.run(batch["symbols"], batch["lengths"])
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 2), batch["target"].flatten())
    draws = Draws([Member(0)], 0, torch.device("cpu"))
    assert torch.allclose(model.loss(batch, torch.zeros(1, dtype=torch.int64), 0, draws)[0], expected)


def test_the_curriculum_lengthens_the_numbers():
    task = GPUProblem("multiplication", digits=5, long_digits=9, held_out=4)
    seen = {
        stage: {
            (task.samples(torch.Generator().manual_seed(seed), 2, stage)["symbols"].shape[1] - 1) // 2
            for seed in range(300)
        }
        for stage in (0, 2, 9)
    }
    assert seen == {0: {1}, 2: {1, 2, 3}, 9: {1, 2, 3, 4, 5}}
    assert task.held_out("test_long")["symbols"].shape == (4, 19)


def test_numbers_without_digits_are_refused():
    with pytest.raises(ConfigurationError, match="one digit at least"):
        GPUProblem("addition", digits=0, long_digits=3, held_out=4)
