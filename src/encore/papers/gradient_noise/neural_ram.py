"""Neural Random-Access Machine (arXiv 1511.06392): a controller that wires modules over a fuzzy memory.

    registers (R distributions over 0 … M-1) → P(register = 0) → controller (LSTM or layers) → wiring
        → 14 modules, one after the other, each fed by registers and earlier modules
        → new registers, new memory (M cells, M values), willingness to finish

All values are distributions over the integers 0 … M-1, so that reading, adding and comparing are sums of products.
Samples are the last dimension, N = E · B: the machine works on all of them alike, only the controller tells members
apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from encore.papers.gradient_noise.neural_ensembles import Batch, Draws, EnsembleModel, linear

MODULES: tuple[tuple[str, int], ...] = (
    ("read", 1),
    ("zero", 0),
    ("one", 0),
    ("two", 0),
    ("inc", 1),
    ("add", 2),
    ("sub", 2),
    ("dec", 1),
    ("less_than", 2),
    ("less_or_equal", 2),
    ("equality", 2),
    ("min", 2),
    ("max", 2),
    ("write", 2),
)
"""The paper's modules in its order, with the number of their inputs."""

INTEGER: dict[str, Callable[[int, int, int], int]] = {
    "add": lambda a, b, m: (a + b) % m,
    "sub": lambda a, b, m: (a - b) % m,
    "less_than": lambda a, b, m: int(a < b),
    "less_or_equal": lambda a, b, m: int(a <= b),
    "equality": lambda a, b, m: int(a == b),
    "min": lambda a, b, m: min(a, b),
    "max": lambda a, b, m: max(a, b),
}
"""What the modules of two inputs do to integers modulo m."""

SMALLEST = 1e-6
"""Added to a probability before its logarithm is taken."""


def integer_tables(size: int) -> dict[str, Tensor]:
    """For each module of two inputs the one-hot result of every pair: (M·M, M) float32."""
    tables = {}
    for name, function in INTEGER.items():
        results = [function(a, b, size) for a in range(size) for b in range(size)]
        tables[name] = nn.functional.one_hot(torch.tensor(results), size).float()
    return tables


def fuzzy_binary(table: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """P(result = c) = Σ P(a) P(b) over the pairs whose result is c: (M·M, M), (M, N), (M, N) → (M, N)."""
    joint = (a.unsqueeze(1) * b.unsqueeze(0)).flatten(0, 1)
    return table.mT @ joint


def fuzzy_read(memory: Tensor, pointer: Tensor) -> Tensor:
    """The value at a fuzzy address: cells and their values (M, M, N), (M, N) → (M, N)."""
    return (pointer.unsqueeze(1) * memory).sum(0)


def fuzzy_write(memory: Tensor, pointer: Tensor, value: Tensor) -> Tensor:
    """Memory (M, M, N) in which each cell holds `value` with the probability that the pointer names it."""
    share = pointer.unsqueeze(1)
    return (1 - share) * memory + share * value.unsqueeze(0)


class NeuralRAM(EnsembleModel):
    """The machine, one for each seed.

    Args:
        seeds: of the members.
        size: M, cells of the memory and integers of a register.
        registers: R.
        timesteps: T, most steps of the controller.
        hidden: width of the controller.
        controller: `lstm`, or `feed_forward` with two hidden layers of ReLU.
        entropy: weight of the wiring's entropy, which the loss rewards at first.
        entropy_decay: factor on it after every step.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        size: int = 16,
        registers: int = 4,
        timesteps: int = 4,
        hidden: int = 64,
        controller: Literal["lstm", "feed_forward"] = "lstm",
        entropy: float = 0.1,
        entropy_decay: float = 0.999,
    ) -> None:
        super().__init__(seeds)
        self.size, self.registers, self.timesteps, self.hidden = size, registers, timesteps, hidden
        self.controller, self.entropy, self.entropy_decay = controller, entropy, entropy_decay
        width = registers + len(MODULES)
        choices = [registers + place for place, (_, arity) in enumerate(MODULES) for _ in range(arity)]
        choices += [width] * registers
        outputs = sum(choices) + 1
        bound = 1 / math.sqrt(hidden)
        if controller == "lstm":
            self.input_weight = self.uniform("input_weight", registers, 4 * hidden, bound=bound)
            self.state_weight = self.uniform("state_weight", hidden, 4 * hidden, bound=bound)
            self.state_bias = self.uniform("state_bias", 4 * hidden, bound=bound)
        else:
            self.input_weight = self.uniform("input_weight", registers, hidden, bound=1 / math.sqrt(registers))
            self.input_bias = self.uniform("input_bias", hidden, bound=1 / math.sqrt(registers))
            self.state_weight = self.uniform("state_weight", hidden, hidden, bound=bound)
            self.state_bias = self.uniform("state_bias", hidden, bound=bound)
        self.output_weight = self.uniform("output_weight", hidden, outputs, bound=bound)
        self.output_bias = self.uniform("output_bias", outputs, bound=bound)
        # Logits are packed; the last place, -inf, fills what an input may not choose.
        gather = torch.full((len(choices), width), outputs - 1)
        start = 0
        for row, count in enumerate(choices):
            gather[row, :count] = torch.arange(start, start + count)
            start += count
        self.register_buffer("gather", gather, persistent=False)
        self.register_buffer("tables", torch.stack(list(integer_tables(size).values())), persistent=False)
        self.register_buffer("numbers", torch.eye(size)[:3].unsqueeze(-1), persistent=False)
        self.gather: Tensor
        self.tables: Tensor
        self.numbers: Tensor

    def run(self, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Let the machine work.

        Args:
            memory: (E, B, M) int64, the cells' values.

        Returns:
            Memories after each step, cells and their values (T, M, M, E, B); the probability to finish after each
            (T, E, B); and the mean entropy of the wiring (E,) in nats.
        """
        E, B, M = memory.shape
        cells = nn.functional.one_hot(memory, self.size).float().permute(2, 3, 0, 1).reshape(M, M, E * B)
        values = self.numbers[0].expand(self.registers, M, E * B)
        state = torch.zeros(E, B, self.hidden, device=memory.device)
        cell = torch.zeros_like(state)
        memories, finishing, entropies = [], [], []
        running = torch.ones(E, B, device=memory.device)
        for timestep in range(self.timesteps):
            outputs, state, cell = self._control(values[:, 0].view(-1, E, B).permute(1, 2, 0), state, cell)
            wiring = self._wiring(outputs)
            values, cells = self._execute(values, cells, wiring)
            last = timestep == self.timesteps - 1
            willing = torch.ones_like(running) if last else torch.sigmoid(outputs[..., -1])
            memories.append(cells.view(M, M, E, B))
            finishing.append(running * willing)
            running = running * (1 - willing)
            entropies.append(-(wiring * (wiring + SMALLEST).log()).sum(1).mean(0).view(E, B).mean(1))
        return torch.stack(memories), torch.stack(finishing), torch.stack(entropies).mean(0)

    def loss(self, batch: Batch, stages: Tensor, step: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Expected cost over the step of finishing, less the decaying reward of entropy."""
        memories, finishing, entropy = self.run(batch["memory"])
        target = batch["target"].permute(2, 0, 1)[None, :, None]
        right = memories.gather(2, target.expand(len(memories), *target.shape[1:])).squeeze(2)
        cost = -((right + SMALLEST).log() * batch["asked"].permute(2, 0, 1)).sum(1)
        expected = (finishing * cost).sum(0).mean(-1)
        return expected - self.entropy * self.entropy_decay**step * entropy, expected

    def errors(self, batch: Batch) -> Tensor:
        """Shares of samples with a wrong cell at the likeliest step of finishing."""
        memories, finishing, _ = self.run(batch["memory"])
        answers = memories.argmax(2)
        step = finishing.argmax(0).expand(1, *answers.shape[1:])
        wrong = answers.gather(0, step).squeeze(0).permute(1, 2, 0) != batch["target"]
        return (wrong & batch["asked"].bool()).any(-1).float().mean(-1)

    def _control(self, zeros: Tensor, state: Tensor, cell: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.controller == "lstm":
            gates = linear(zeros, self.input_weight) + linear(state, self.state_weight, self.state_bias)
            i, f, g, o = gates.chunk(4, dim=-1)
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            state = torch.sigmoid(o) * torch.tanh(cell)
        else:
            first = linear(zeros, self.input_weight, self.input_bias).relu()
            state = linear(first, self.state_weight, self.state_bias).relu()
        return linear(state, self.output_weight, self.output_bias), state, cell

    def _wiring(self, outputs: Tensor) -> Tensor:
        """Choices of every input, then of every register: (inputs + R, R + 14, N), each sums to one."""
        packed = outputs[..., :-1].permute(2, 0, 1).flatten(1)
        closed = torch.full_like(packed[:1], -math.inf)
        logits = torch.cat([packed, closed]).index_select(0, self.gather.flatten())
        return logits.view(*self.gather.shape, -1).softmax(1)

    def _execute(self, values: Tensor, cells: Tensor, wiring: Tensor) -> tuple[Tensor, Tensor]:
        """All modules in turn: new registers (R, M, N) and memory (M, M, N)."""
        names = list(INTEGER)
        sources, row = values, 0
        for name, arity in MODULES:
            inputs = _mixed(wiring[row : row + arity], sources).unbind() if arity else ()
            row += arity
            if name == "read":
                result = fuzzy_read(cells, inputs[0])
            elif name in ("zero", "one", "two"):
                result = self.numbers[("zero", "one", "two").index(name)].expand_as(sources[0])
            elif name in ("inc", "dec"):
                result = inputs[0].roll(1 if name == "inc" else -1, 0)
            elif name == "write":
                cells = fuzzy_write(cells, *inputs)
                result = self.numbers[0].expand_as(sources[0])
            else:
                result = fuzzy_binary(self.tables[names.index(name)], *inputs)
            sources = torch.cat([sources, result.unsqueeze(0)])
        return _mixed(wiring[row:], sources), cells


def _mixed(choices: Tensor, sources: Tensor) -> Tensor:
    """Sources (K, M, N) mixed by choices (I, K or more, N): (I, M, N)."""
    return (choices[:, : len(sources)].unsqueeze(2) * sources.unsqueeze(0)).sum(1)
