"""Section 4.1's experiment: all runs of it, over seeds, rates, starts and clipping, trained as one batched network.

Networks of one seed see the same pictures at each step, begin at the same draw of weights (scaled as their
initialisation says) and take the same draw of noise; what a network does depends on its seed and its own setting, never
on who else is trained beside it. Each is, to rounding, what `GradientNoise(SGD(...))` makes of a single network.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from encore.base.seeds import derive_seed
from encore.papers.gradient_noise.model import Initialisation, layer_sizes, weight_deviation
from encore.training.gradient_noise import noise_variance, standard_normal_


@dataclass(frozen=True)
class Setting:
    """How one network is trained; each is trained for every seed.

    Attributes:
        initialisation: how its weights begin.
        learning_rate: of plain gradient descent, constant.
        noise: η, the variance of the gradient noise at the first step; None without.
        clip: largest norm of the whole gradient; None without.
    """

    initialisation: Initialisation
    learning_rate: float
    noise: float | None = None
    clip: float | None = None


@dataclass(frozen=True)
class Shape:
    """What all networks of an ensemble share.

    Attributes:
        num_inputs, num_classes: of every network.
        depth: hidden layers.
        width: units of each.
        dropout: share of hidden units that are dropped in training.
    """

    num_inputs: int
    num_classes: int
    depth: int = 20
    width: int = 50
    dropout: float = 0.0


class Ensemble:
    """S seeds times A settings, one batched matrix product per layer.

    Tensors of parameters are (S, A, outputs, inputs) and (S, A, outputs). Settings with noise come first, so that noise
    is added to a slice.

    Args:
        shape: of every network.
        settings: A of them; those with noise first.
        seeds: S of them.
        gamma: γ of the noise.
        batch_size: B, pictures per step, drawn with replacement.
        device: where to compute.

    Attributes:
        step: steps taken.
        weights, biases: one tensor per layer.
    """

    def __init__(
        self,
        shape: Shape,
        settings: Sequence[Setting],
        seeds: Sequence[int],
        *,
        gamma: float = 0.55,
        batch_size: int = 64,
        device: torch.device | None = None,
    ) -> None:
        self.shape, self.settings, self.seeds = shape, tuple(settings), tuple(seeds)
        self.gamma, self.batch_size, self.device = gamma, batch_size, device or torch.device("cpu")
        self.num_noisy = sum(setting.noise is not None for setting in settings)
        if any(setting.noise is None for setting in settings[: self.num_noisy]):
            raise ValueError("settings with noise come first")
        self.step = 0
        sizes = layer_sizes(shape.num_inputs, shape.depth, shape.width, shape.num_classes)
        self.weights, self.biases = zip(*(self._layer(index, *size) for index, size in enumerate(sizes)), strict=True)
        self._rates = self._per_setting([setting.learning_rate for setting in settings])
        self._limits = self._per_setting([setting.clip or math.inf for setting in settings])
        noisy = settings[: self.num_noisy]
        self._etas = self._per_setting([setting.noise or 0.0 for setting in noisy])
        self._normal = torch.empty(len(seeds), self.num_parameters, device=self.device)

    def _layer(self, index: int, inputs: int, outputs: int) -> tuple[Tensor, Tensor]:
        """Weights (S, A, outputs, inputs), the same draw for all settings of a seed; biases (S, A, outputs) at zero."""
        draws = []
        for seed in self.seeds:
            generator = torch.Generator().manual_seed(derive_seed(seed, "initial weights", index))
            draws.append(torch.randn(outputs, inputs, generator=generator))
        deviations = [weight_deviation(setting.initialisation, inputs) for setting in self.settings]
        weights = torch.stack(draws).unsqueeze(1) * torch.tensor(deviations).view(1, -1, 1, 1)
        biases = torch.zeros(len(self.seeds), len(self.settings), outputs)
        return weights.to(self.device), biases.to(self.device)

    def _per_setting(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)

    @property
    def parameters(self) -> list[Tensor]:
        """Weights and biases, layer by layer: the order of a single network."""
        return [one for layer in zip(self.weights, self.biases, strict=True) for one in layer]

    @property
    def num_parameters(self) -> int:
        """Of one network."""
        return sum(math.prod(one.shape[2:]) for one in self.parameters)

    # computing

    @torch.no_grad()
    def logits(self, inputs: Tensor) -> Tensor:
        """Answers of all networks, with all units.

        Args:
            inputs: (S, B, n), a batch for every seed.

        Returns:
            (S, A, B, K).
        """
        return self._forward(inputs, None)[-1]

    def _forward(self, inputs: Tensor, dropped: Iterator[Tensor] | None) -> list[Tensor]:
        """What enters layers 1, 2, …, each (S, A, B, width), and the logits."""
        S, A, B = len(self.seeds), len(self.settings), inputs.shape[1]
        first = self.weights[0].view(S, -1, self.shape.num_inputs)  # one product for all settings of a seed
        outputs = (inputs @ first.mT).view(S, B, A, -1).transpose(1, 2) + self.biases[0].unsqueeze(2)
        entering = []
        for weights, biases in zip(self.weights[1:], self.biases[1:], strict=True):
            hidden = outputs.relu_()
            if dropped is not None:
                hidden = hidden * next(dropped)
            entering.append(hidden)
            outputs = torch.baddbmm(_joined(biases).unsqueeze(1), _joined(hidden), _joined(weights).mT)
            outputs = outputs.view(S, A, B, -1)
        return [*entering, outputs]

    def _dropped(self, batch: int) -> Iterator[Tensor]:
        """For each hidden layer what its units are multiplied with, (S, 1, B, width): the same for all settings."""
        keep = 1 - self.shape.dropout
        generators = [
            torch.Generator(self.device).manual_seed(derive_seed(seed, "dropout", self.step)) for seed in self.seeds
        ]
        for _ in range(self.shape.depth):
            draws = [
                torch.rand(1, batch, self.shape.width, generator=generator, device=self.device)
                for generator in generators
            ]
            yield (torch.stack(draws) < keep).float() / keep

    @torch.no_grad()
    def train_step(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """One step of gradient descent on a batch for every seed: gradient, clipping, noise, rate.

        A layer's gradient is the product δᵀh of what comes back to its outputs and what entered it. It is never written
        down: its length, for clipping, is that of the entrywise product of δδᵀ and hhᵀ, and the step adds δᵀh to the
        weights within the product.

        Args:
            inputs: (S, B, n).
            labels: (S, B) class indices.

        Returns:
            The loss of every network, (S, A), before the step.
        """
        *entering, logits = self._forward(inputs, self._dropped(inputs.shape[1]) if self.shape.dropout else None)
        logarithms = F.log_softmax(logits, -1)
        targets = labels[:, None, :, None].expand(*logits.shape[:3], 1)
        losses = -logarithms.gather(-1, targets).squeeze(-1).mean(2)
        delta = logarithms.exp_()
        delta.scatter_add_(-1, targets, delta.new_full((), -1.0).expand(targets.shape))
        deltas = [delta.div_(inputs.shape[1])]
        for weights, hidden in zip(reversed(self.weights[1:]), reversed(entering), strict=True):
            delta = torch.bmm(_joined(deltas[-1]), _joined(weights)).view(hidden.shape)
            delta = torch.ops.aten.threshold_backward(delta, hidden, 0)
            deltas.append(delta / (1 - self.shape.dropout) if self.shape.dropout else delta)
        deltas.reverse()
        self._descend([inputs.unsqueeze(1), *entering], deltas)
        self._add_noise()
        self.step += 1
        return losses

    def _descend(self, entering: Sequence[Tensor], deltas: Sequence[Tensor]) -> None:
        """Clip, and go down along the gradients δᵀh of the weights and Σδ of the biases."""
        rates = self._rates.expand(len(self.seeds), -1)
        if self._limits.isfinite().any():
            norms = torch.stack(
                [_squared_norms(hidden, delta) for hidden, delta in zip(entering, deltas, strict=True)]
            ).sum(0)
            norms = norms.clamp_min(0)  # where terms cancel, rounding may leave less than nothing
            rates = rates * (self._limits / (norms.sqrt() + 1e-6)).clamp(max=1.0)  # as clip_grad_norm_ does
        lengths = rates[:, :, None, None]
        for weights, biases, hidden, delta in zip(self.weights, self.biases, entering, deltas, strict=True):
            scaled = delta * lengths
            biases.sub_(scaled.sum(2))
            if hidden.shape[1] == 1:  # the same pictures for all settings of a seed
                columns = scaled.transpose(1, 2).flatten(2)  # (S, B, A · width)
                weights.view(len(self.seeds), -1, weights.shape[-1]).baddbmm_(columns.mT, hidden.squeeze(1), alpha=-1)
            else:
                _joined(weights).baddbmm_(_joined(scaled).mT, _joined(hidden), alpha=-1)

    def _add_noise(self) -> None:
        if self.num_noisy == 0:
            return
        for row, seed in zip(self._normal, self.seeds, strict=True):
            standard_normal_(row, seed, self.step)
        fade = math.sqrt(noise_variance(self.step, 1.0, self.gamma))
        lengths = self._rates[: self.num_noisy] * self._etas.sqrt() * fade
        parameters = self.parameters
        pieces = self._normal.split([math.prod(one.shape[2:]) for one in parameters], dim=1)
        for parameter, piece in zip(parameters, pieces, strict=True):
            noise = piece.view(len(self.seeds), 1, *parameter.shape[2:])
            beside = lengths.view(1, -1, *[1] * (parameter.ndim - 2))
            parameter[:, : self.num_noisy].addcmul_(noise, beside, value=-1.0)

    @torch.no_grad()
    def accuracies(self, inputs: Tensor, labels: Tensor, batch_size: int = 500) -> Tensor:
        """Share of right answers of every network, (S, A), in percent; one that has diverged has none.

        Args:
            inputs: (N, n).
            labels: (N,).
            batch_size: pictures at once.
        """
        right = torch.zeros(len(self.seeds), len(self.settings), device=self.device)
        for pictures, truth in zip(inputs.split(batch_size), labels.split(batch_size), strict=True):
            logits = self.logits(pictures.expand(len(self.seeds), -1, -1))
            right += ((logits.argmax(-1) == truth) & logits.isfinite().all(-1)).sum(-1)
        return 100 * right / len(inputs)

    # what is kept

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed training needs."""
        return {"step": self.step, "parameters": [one.clone() for one in self.parameters]}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.step = state["step"]
        for parameter, kept in zip(self.parameters, state["parameters"], strict=True):
            parameter.copy_(kept)


def _joined(tensor: Tensor) -> Tensor:
    """(S, A, …) → (S · A, …)."""
    return tensor.flatten(0, 1)


def _squared_norms(hidden: Tensor, delta: Tensor) -> Tensor:
    """Squared length of a layer's gradient, δᵀh and Σδ together, (S, A).

    Args:
        hidden: (S, A or 1, B, inputs).
        delta: (S, A, B, outputs).
    """
    return ((hidden @ hidden.mT + 1) * (delta @ delta.mT)).sum((2, 3))


def batch_indices(seed: int, step: int, num_samples: int, batch_size: int) -> Tensor:
    """The pictures (B,) that networks of a seed see at a step, drawn with replacement."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "pictures", step))
    return torch.randint(num_samples, (batch_size,), generator=generator)
