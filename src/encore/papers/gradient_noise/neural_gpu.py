"""Neural GPU (arXiv 1511.08228): a convolutional gated recurrent unit that computes for as many steps as the input is
long.

    symbols (n) → embedding → first row of the mental image (w × n × m), the other rows 0
        → n steps, each of two CGRUs, step t with parameter set t mod 6
        → first row → logits (n)

Details that the paper leaves open follow the authors' first public code: tanh and a linear map behind the embedding,
gate biases of 1, the cutoff 1.2 σ(x) - 0.1, dropout of 8 rate / n on every image, n the input's own
length, and the pull that draws the six parameter sets together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from encore.papers.gradient_noise.neural_ensembles import Batch, Draws, EnsembleModel, linear

PADDING = 0
"""The symbol of places that hold nothing."""

LARGEST_PULL = 10.0
"""Where the pull stops growing; from 1 on the sets are one anyway."""


def gate(x: Tensor, cutoff: float) -> Tensor:
    """Sigmoid stretched to (-d, 1 + d), d = (cutoff - 1) / 2, and cut to [0, 1], so that gates can close."""
    y = torch.sigmoid(x)
    return y if cutoff <= 1 else (cutoff * y - (cutoff - 1) / 2).clamp(0, 1)


def member_convolution(image: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """A 3 × 3 convolution of each member's own: (B, E, m, w, n), (E, K, m, 3, 3), (E, K) → (B, E, K, w, n)."""
    B, E, _, w, n = image.shape
    flat = nn.functional.conv2d(image.flatten(1, 2), kernel.flatten(0, 1), bias.flatten(), padding=1, groups=E)
    return flat.view(B, E, -1, w, n)


def cgru(image: Tensor, gates: tuple[Tensor, Tensor], candidate: tuple[Tensor, Tensor], cutoff: float) -> Tensor:
    """One convolutional gated recurrent unit.

        CGRU(s) = u ⊙ s + (1 - u) ⊙ tanh(U * (r ⊙ s) + B),   u, r = gate(U' * s + B'), gate(U'' * s + B'')

    Args:
        image: s, (B, E, m, w, n).
        gates: kernels (E, 2·m, m, 3, 3) and biases (E, 2·m) of u and r.
        candidate: kernel (E, m, m, 3, 3) and bias (E, m).
        cutoff: of the gates.
    """
    u, r = gate(member_convolution(image, *gates), cutoff).chunk(2, 2)
    return u * image + (1 - u) * torch.tanh(member_convolution(r * image, *candidate))


class NeuralGPU(EnsembleModel):
    """The network, one for each seed.

    Args:
        seeds: of the members.
        symbols: of the alphabet, padding included.
        maps: m.
        width: w, rows of the mental image.
        layers: CGRUs of a step.
        sets: parameter sets that take turns (parameter sharing relaxation).
        cutoff: of the gates; 1 is a plain sigmoid.
        pull: first weight of the squared distance between the sets.
        pull_growth: factor on it for every stage after the longest length has been reached.
        lengths: stages of the curriculum; later ones are of the same length.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        symbols: int = 4,
        maps: int = 24,
        width: int = 4,
        layers: int = 2,
        sets: int = 6,
        cutoff: float = 1.2,
        pull: float = 5e-4,
        pull_growth: float = 1.2,
        lengths: int = 1,
    ) -> None:
        super().__init__(seeds)
        self.maps, self.width, self.layers, self.sets = maps, width, layers, sets
        self.cutoff, self.pull, self.pull_growth, self.lengths = cutoff, pull, pull_growth, lengths
        wide, narrow = math.sqrt(3 / (9 * maps)), math.sqrt(3 / maps)  # variance 1 / fan-in
        self.embedding = self.uniform("embedding", symbols, maps, bound=1.7)
        self.input_weight = self.uniform("input_weight", maps, maps, bound=narrow)
        self.input_bias = self.constant(0.0, maps)
        self.output_weight = self.uniform("output_weight", maps, symbols, bound=narrow)
        self.output_bias = self.constant(0.0, symbols)
        self.gate_weight = self.uniform("gate_weight", sets, layers, 2 * maps, maps, 3, 3, bound=wide)
        self.gate_bias = self.constant(1.0, sets, layers, 2 * maps)
        self.new_weight = self.uniform("new_weight", sets, layers, maps, maps, 3, 3, bound=wide)
        self.new_bias = self.constant(0.0, sets, layers, maps)

    @property
    def relaxed(self) -> list[nn.Parameter]:
        """Parameters that come in sets: (E, sets, …)."""
        return [self.gate_weight, self.gate_bias, self.new_weight, self.new_bias]

    def run(self, symbols: Tensor, lengths: Tensor, draws: Draws | None = None) -> Tensor:
        """Logits of the output after as many steps as each input is long.

        Args:
            symbols: (E, B, n) int64, padded to the longest.
            lengths: (E, B) int64.
            draws: dropout masks, in training.

        Returns:
            (E, B, n, symbols).
        """
        E, B, n = symbols.shape
        inside = (torch.arange(n, device=symbols.device) < lengths[..., None]).float()
        mask = inside.transpose(0, 1)[:, :, None, None]
        member = torch.arange(E, device=symbols.device)[:, None, None]
        embedded = torch.tanh(self.embedding[member, symbols]) * (symbols != PADDING).unsqueeze(-1)
        first = linear(embedded.reshape(E, B * n, -1), self.input_weight, self.input_bias).view(E, B, n, 1, -1)
        image = nn.functional.pad(first.permute(1, 0, 4, 3, 2), (0, 0, 0, self.width - 1)) * mask
        image = self._dropped(image, lengths, draws)
        output = torch.zeros_like(image[:, :, :, 0])
        for step in range(int(lengths.max())):
            place = step % self.sets
            for layer in range(self.layers):
                gates = self.gate_weight[:, place, layer], self.gate_bias[:, place, layer]
                new = self.new_weight[:, place, layer], self.new_bias[:, place, layer]
                image = cgru(image, gates, new, self.cutoff) * mask
            done = (lengths.transpose(0, 1) == step + 1).float()[..., None, None]
            output = output + image[:, :, :, 0] * done
            image = self._dropped(image, lengths, draws)
        flat = output.permute(1, 0, 3, 2).reshape(E, B * n, -1)
        return linear(flat, self.output_weight, self.output_bias).view(E, B, n, -1)

    def loss(self, batch: Batch, stages: Tensor, step: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Cross-entropy of every symbol, and the pull between the sets."""
        logits = self.run(batch["symbols"], batch["lengths"], draws)
        right = logits.log_softmax(-1).gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)
        mask = self._inside(batch)
        entropy = -(right * mask).sum((1, 2)) / mask.sum((1, 2))
        return entropy + self._pull(stages) * self.distance(), entropy

    def distance(self) -> Tensor:
        """Squared distance (E,) of the sets from their mean."""
        return torch.stack([(one - one.mean(1, keepdim=True)).pow(2).flatten(1).sum(1) for one in self.relaxed]).sum(0)

    def errors(self, batch: Batch) -> Tensor:
        """Shares of wrong symbols; a symbol is judged wherever the input has one."""
        answer = self.run(batch["symbols"], batch["lengths"]).argmax(-1)
        mask = self._inside(batch)
        return ((answer != batch["target"]) * mask).sum((1, 2)) / mask.sum((1, 2))

    def tidy(self, stages: Tensor) -> None:
        """Replace the sets of a member by their mean once its pull exceeds 1."""
        together = (self._pull(stages) > 1).nonzero().flatten()
        for one in self.relaxed if len(together) else ():
            one[together] = one[together].mean(1, keepdim=True)

    def _pull(self, stages: Tensor) -> Tensor:
        beyond = (stages - (self.lengths - 1)).clamp_min(0).float()
        return (self.pull * self.pull_growth**beyond).clamp_max(LARGEST_PULL)

    @staticmethod
    def _inside(batch: Batch) -> Tensor:
        places = torch.arange(batch["target"].shape[-1], device=batch["target"].device)
        return (places < batch["lengths"][..., None]).float()

    @staticmethod
    def _dropped(image: Tensor, lengths: Tensor, draws: Draws | None) -> Tensor:
        """The image (B, E, m, w, n) with dropout of 8 rate / length, each sample by its own length (E, B)."""
        B, _, m, w, n = image.shape
        kept = draws.keep(n, B, m, w, scale=8 / lengths[:, None, :, None, None]) if draws else None
        return image if kept is None else image * kept.permute(2, 0, 3, 4, 1)
