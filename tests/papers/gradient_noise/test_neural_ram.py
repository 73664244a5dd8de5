"""The Neural Random-Access Machine: fuzzy modules against integers, and programs wired by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from encore.base.errors import ConfigurationError
from encore.papers.gradient_noise.neural_ram import (
    INTEGER,
    MODULES,
    NeuralRAM,
    fuzzy_binary,
    fuzzy_read,
    fuzzy_write,
    integer_tables,
)
from encore.papers.gradient_noise.neural_ram_tasks import RAMProblem, access_samples, list_samples

NAMES = [name for name, _ in MODULES]


def one_hot(value: int, size: int) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor([value]), size).float().mT


@pytest.mark.parametrize("size", [3, 8])
@pytest.mark.parametrize("name", INTEGER)
def test_modules_of_certain_inputs_are_integer_functions(name: str, size: int):
    table = integer_tables(size)[name]
    for a in range(size):
        for b in range(size):
            result = fuzzy_binary(table, one_hot(a, size), one_hot(b, size))
            assert torch.equal(result, one_hot(INTEGER[name](a, b, size), size))


@pytest.mark.parametrize("name", INTEGER)
def test_modules_of_uncertain_inputs_are_expectations(name: str):
    a, b = torch.rand(2, 6, 3).softmax(1)
    expected = torch.zeros(6, 3)
    for one in range(6):
        for other in range(6):
            expected[INTEGER[name](one, other, 6)] += a[one] * b[other]
    assert torch.allclose(fuzzy_binary(integer_tables(6)[name], a, b), expected, atol=1e-6)


def test_reading_and_writing_mix_the_cells_by_the_pointer():
    memory, pointer, value = torch.rand(4, 4, 2).softmax(1), torch.rand(4, 2).softmax(0), torch.rand(4, 2).softmax(0)
    assert torch.allclose(fuzzy_read(memory, pointer), sum(pointer[cell] * memory[cell] for cell in range(4)))
    written = fuzzy_write(memory, pointer, value)
    for cell in range(4):
        assert torch.allclose(written[cell], (1 - pointer[cell]) * memory[cell] + pointer[cell] * value)


def test_everything_stays_a_distribution_and_the_machine_finishes_once():
    model = NeuralRAM([0, 1], size=7, registers=3, timesteps=4, hidden=12)
    batch = access_samples(torch.Generator().manual_seed(0), 5, 7, 4)
    memories, finishing, entropy = model.run(batch["memory"].expand(2, 5, 7))
    assert torch.allclose(memories.sum(2), torch.ones(4, 7, 2, 5), atol=1e-5)
    assert (memories >= 0).all()
    assert torch.allclose(finishing.sum(0), torch.ones(2, 5), atol=1e-6)
    assert (entropy > 0).all()


@pytest.mark.parametrize("controller", ["lstm", "feed_forward"])
def test_parameters_are_counted_by_what_every_input_may_choose(controller: str):
    R, H = 5, 11
    model = NeuralRAM([0], size=9, registers=R, hidden=H, controller=controller)
    outputs = sum(arity * (R + place) for place, (_, arity) in enumerate(MODULES)) + R * (R + 14) + 1
    control = 4 * H * (R + H + 1) if controller == "lstm" else H * (R + 1) + H * (H + 1)
    assert sum(one[0].numel() for one in model.parameters()) == control + outputs * (H + 1)


class WiredByHand(NeuralRAM):
    """Takes its wiring from a list: for each step the source of each input by its row."""

    program: tuple[dict[int, int], ...]

    def _control(self, zeros: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        step = int(state[0, 0, 0])
        outputs = torch.zeros(*state.shape[:2], self.output_bias.shape[1])
        for row, source in self.program[step].items():
            outputs[..., self.gather[row, source]] = 60.0
        outputs[..., -1] = -60.0
        return outputs, state + 1, cell


def row_of(module: str, which: int = 0) -> int:
    """The row of a module's input among all inputs."""
    return sum(arity for _, arity in MODULES[: NAMES.index(module)]) + which


def test_access_is_a_program_of_two_steps():
    R = 2
    read, inc, zero = (R + NAMES.index(name) for name in ("read", "inc", "zero"))
    registers = sum(arity for _, arity in MODULES)
    first = {row_of("read"): 0, row_of("inc"): read, row_of("write"): zero, row_of("write", 1): read, registers: inc}
    second = {row_of("read"): 0, row_of("write"): zero, row_of("write", 1): read}
    model = WiredByHand([0], size=8, registers=R, timesteps=2)
    model.program = (first, second)
    batch = access_samples(torch.Generator().manual_seed(1), 50, 8, 6)
    assert float(model.errors({name: value[None] for name, value in batch.items()})) == 0


def test_inc_and_dec_go_round():
    R = 1
    model = WiredByHand([0], size=4, registers=R, timesteps=1)
    registers = sum(arity for _, arity in MODULES)
    dec = R + NAMES.index("dec")
    model.program = ({row_of("dec"): 0, registers: dec, row_of("write"): 0, row_of("write", 1): dec},)
    memories, _, _ = model.run(torch.zeros(1, 1, 4, dtype=torch.int64))
    assert int(memories[-1, 0, :, 0, 0].argmax()) == 3


def test_access_asks_for_the_named_element():
    batch = access_samples(torch.Generator().manual_seed(2), 100, 10, 7)
    for memory, target in zip(batch["memory"].tolist(), batch["target"].tolist(), strict=True):
        assert target == [memory[1 + memory[0]], *memory[1:]]
        assert memory[8:] == [0, 0]


def test_list_asks_for_the_value_that_the_pointers_lead_to():
    batch = list_samples(torch.Generator().manual_seed(3), 200, 15, 5, 3)
    seen = set()
    for memory, target in zip(batch["memory"].tolist(), batch["target"].tolist(), strict=True):
        node, k = memory[0], memory[1]
        seen.add(k)
        for _ in range(k):
            node = memory[node]
        assert target == [*memory[:2], memory[node + 1], *memory[3:]]
    assert seen == {0, 1, 2, 3}


def test_instances_that_do_not_fit_are_refused():
    with pytest.raises(ConfigurationError, match=r"does not fit into 6 cells: take 1 … 4"):
        RAMProblem("access", size=6, length=5, hops=0, held_out=8, curriculum=True)
    with pytest.raises(ConfigurationError, match="hops"):
        RAMProblem("list_k", size=12, length=3, hops=3, held_out=8, curriculum=True)
