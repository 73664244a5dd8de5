"""Integer discrete flow (Hoogeboom and others; arXiv 1905.07376), and circuits as the prior of its latents.

Values are multiples of 1/256. A step adds to a quarter of the channels what a network makes of the others, rounded;
nothing is lost, so an integer picture becomes integer latents and back. Half of the channels leave after each level,
and are predicted from those that stay.

```text
x (N, C, H, W) → squeeze (4C, H/2, W/2) → [shuffle channels, z_b ← z_b + round(net(z_a))] × steps → half leaves → …
```

The plain prior takes latents for independent logistics, of predicted mean and scale. In the paper's hybrid a hidden
Chow-Liu tree joins them: its inputs are those logistics, shifted and widened by state. The flow learns by gradients,
which for the inputs of a circuit are its expected counts; the tree's own probabilities learn by expectation
maximisation, from the same counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.form import OfForm, SampleForm
from encore.papers.pc_compression.model import HCLT, step_towards
from encore.papers.pc_compression.structure import LEVELS, chow_liu_tree, mutual_information

BINS = 256
"""Values lie 1/256 apart."""


class _Round(Function):
    """To the next multiple of 1/256; gradients pass as they come."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return (x * BINS).round_().div_(BINS)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def rounded(x: Tensor) -> Tensor:
    """x at the next multiple of 1/256, with gradients as if it were x."""
    out: Tensor = _Round.apply(x)
    return out


class DenseNet(nn.Module):
    """What predicts translations and priors: densely connected layers, each 1×1, ReLU, 3×3, ReLU; the last layer zero.

    Args:
        in_channels: of z_a.
        out_channels: of what is predicted.
        channels: that the dense layers add together.
        depth: dense layers.
    """

    def __init__(self, in_channels: int, out_channels: int, channels: int, depth: int) -> None:
        super().__init__()
        growths = [channels // depth + (place < channels % depth) for place in range(depth)]
        self.layers = nn.ModuleList()
        width = in_channels
        for growth in growths:
            self.layers.append(
                nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, growth, 3, padding=1), nn.ReLU())
            )
            width += growth
        self.last = nn.Conv2d(width, out_channels, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) → (N, out_channels, h, w)."""
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        out: Tensor = self.last(x)
        return out


class Step(nn.Module):
    """Channels in another order, then an additive coupling of a quarter of them.

    Args:
        num_channels: of the map.
        channels, depth: of the network.
        seed: of the order.
    """

    order: Tensor
    back: Tensor

    def __init__(self, num_channels: int, channels: int, depth: int, seed: int) -> None:
        super().__init__()
        order = torch.randperm(num_channels, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("order", order)
        self.register_buffer("back", order.argsort())
        self.moved = max(num_channels // 4, 1)
        self.net = DenseNet(num_channels - self.moved, self.moved, channels, depth)

    def forward(self, z: Tensor) -> Tensor:
        """(N, C, h, w) → (N, C, h, w)."""
        z = z[:, self.order]
        kept, moved = z[:, self.moved :], z[:, : self.moved]
        return torch.cat([moved + rounded(self.net(kept)), kept], 1)

    def inverse(self, z: Tensor) -> Tensor:
        """What `forward` took."""
        kept, moved = z[:, self.moved :], z[:, : self.moved]
        return torch.cat([moved - rounded(self.net(kept)), kept], 1)[:, self.back]


class FactorisedPrior(nn.Module):
    """Latents as independent logistics."""

    def log_prob(self, z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """log p of (N, C, h, w) latents, (N,), given means and scales of that shape."""
        return log_discretised_logistic(z, mean, log_scale).flatten(1).sum(1)

    def draw(self, mean: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        """Random latents of the shape of `mean`."""
        return _logistic(mean, log_scale, generator)


class CircuitPrior(nn.Module):
    """Latents joined by a hidden Chow-Liu tree whose inputs are discretised logistics.

    In state h the d-th latent has the mean μ_d + s_d·shift[d, h] and the scale s_d·exp(widen[d, h]), μ and s those that
    the flow predicts.

    Args:
        parents: of the tree over the C·h·w latents; -1 at its root.
        num_states: H.
        inertia: ι of the mini-batch EM with which the tree's probabilities learn, in training.
        pseudocount: α.
    """

    def __init__(
        self, parents: Sequence[int], num_states: int, inertia: float = 0.95, pseudocount: float = 0.1
    ) -> None:
        super().__init__()
        self.tree = HCLT(parents, 1, num_states)
        self.tree.randomise(torch.Generator().manual_seed(0))
        generator = torch.Generator().manual_seed(1)
        D = len(self.tree.tree)
        self.shift = nn.Parameter(0.5 * torch.randn(D, num_states, generator=generator))
        self.widen = nn.Parameter(0.2 * torch.randn(D, num_states, generator=generator))
        self.inertia, self.pseudocount = inertia, pseudocount

    def log_prob(self, z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """log p of (N, C, h, w) latents, (N,). In training the tree learns from them."""
        flat, mean, log_scale = (one.flatten(1).T.unsqueeze(2) for one in (z, mean, log_scale))
        logs = log_discretised_logistic(
            flat, mean + log_scale.exp() * self.shift.unsqueeze(1), log_scale + self.widen.unsqueeze(1)
        )
        total: Tensor = _Likelihood.apply(logs, self.tree, self if self.training else None)
        return total

    def learn(self, prior: Tensor, transitions: Tensor) -> None:
        """One step of EM from expected counts."""
        step_towards(self.tree.prior, prior, 0, self.pseudocount, self.inertia)
        step_towards(self.tree.transitions, transitions, 2, self.pseudocount, self.inertia)

    def draw(self, mean: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
        """Random latents of the shape of `mean`."""
        states = self.tree.sample_states(len(mean), generator)[self.tree.states_of]  # (D, N)
        places = torch.arange(len(states)).unsqueeze(1)
        shape = mean.shape
        mean, log_scale = mean.flatten(1), log_scale.flatten(1)
        shift, widen = self.shift[places, states].T, self.widen[places, states].T
        return _logistic(mean + log_scale.exp() * shift, log_scale + widen, generator).view(shape)


class _Likelihood(Function):
    """log p from the logarithms of what each variable says of its state, (D, N, H) → (N,).

    Its derivative by such a logarithm is the expected count of that state.
    """

    @staticmethod
    def forward(ctx: Any, logs: Tensor, tree: HCLT, learner: CircuitPrior | None) -> Tensor:
        largest = logs.amax(2, keepdim=True)
        evidence = tree.ascend((logs - largest).exp_()[tree.layout_index])
        posterior, transitions = tree.expected(evidence)
        ctx.save_for_backward(posterior)
        ctx.states_of = tree.states_of
        if learner is not None:
            learner.learn(posterior[0].sum(0), transitions)
        return evidence.log_likelihood.to(logs.dtype) + largest.sum((0, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (posterior,) = ctx.saved_tensors
        return posterior[ctx.states_of] * gradients[0].view(1, -1, 1), None, None


@register_model("integer_flow")
class IntegerFlow(OfForm, EncoreModel):
    """IDF; with `trees` the paper's hybrid, PC + IDF.

    Args:
        sample_shape: (H, W) of grey pictures or (H, W, 3); sides divisible by 2^levels.
        num_values: 256, bytes.
        lowest: 0.
        levels: how often the map is squeezed; half of the channels leave after each but the last.
        steps: couplings of a level; the paper's flow has 8.
        channels, depth: of the networks; 512 and 12 in the paper.
        trees: for each level the parents of the tree over its latents, or nothing for the plain prior.
        num_states: H of the trees.

    Raises:
        ValueError: the sides do not divide, values are no bytes, or there are not as many trees as levels.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (32, 32, 3),
        num_values: int = 256,
        lowest: int = 0,
        levels: int = 3,
        steps: int = 8,
        channels: int = 512,
        depth: int = 12,
        trees: Sequence[Sequence[int]] | None = None,
        num_states: int = 4,
    ) -> None:
        super().__init__()
        if num_values != BINS or lowest or len(sample_shape) not in (2, 3):
            raise ValueError(
                f"pictures of bytes are due, not values {lowest}…{lowest + num_values - 1} of {sample_shape}"
            )
        if any(side % 2**levels for side in sample_shape[:2]):
            raise ValueError(f"sides of {tuple(sample_shape[:2])} cannot be halved {levels} times")
        self.form = SampleForm(tuple(sample_shape), num_values)
        self.levels = levels
        num_channels = sample_shape[2] if len(sample_shape) == 3 else 1
        self.steps, self.priors, self.predictors = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.latent_channels: list[int] = []
        for level in range(levels):
            num_channels *= 4
            self.steps.append(
                nn.ModuleList(Step(num_channels, channels, depth, 100 * level + step) for step in range(steps))
            )
            if level + 1 < levels:
                leaving = num_channels // 2
                self.predictors.append(DenseNet(num_channels - leaving, 2 * leaving, channels, depth))
                num_channels -= leaving
                self.latent_channels.append(leaving)
        self.latent_channels.append(num_channels)
        self.last = nn.Parameter(torch.zeros(2, num_channels, 1, 1))
        if trees is not None and len(trees) != levels:
            raise ValueError(f"{len(trees)} trees came for {levels} levels")
        for level in range(levels):
            self.priors.append(FactorisedPrior() if trees is None else CircuitPrior(trees[level], num_states))

    def fitting_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A flow that was learnt with the plain prior fits one with trees, which begin afresh."""
        own = {name: one for name, one in self.state_dict().items() if name.startswith("priors.")}
        return {**own, **state} if not own.keys() & state.keys() else dict(state)

    # what every model of the task does

    def loss(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → mean bits per dimension."""
        return -self(self._values(samples)).mean() / (math.log(2) * self.form.num_variables)

    @torch.no_grad()
    def bits(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → the bits that each ideally takes, (N,)."""
        bits: Tensor = self(self._values(samples)).double() / -math.log(2)
        return bits

    @torch.no_grad()
    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random samples, (num_samples, *sample_shape) int64."""
        z: Tensor | None = None
        for level in reversed(range(self.levels)):
            mean, log_scale = self._prediction(level, z, num_samples)
            drawn = self._prior(level).draw(mean, log_scale, generator)
            z = self._up(level, drawn, z)
        assert z is not None
        pixels = (z * BINS).round().clamp(0, BINS - 1).long()
        return pixels[:, 0] if len(self.sample_shape) == 2 else pixels.permute(0, 2, 3, 1)

    # the flow

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) multiples of 1/256 → log p in nats, (N,)."""
        total = x.new_zeros(len(x))
        for level, (z, mean, log_scale) in enumerate(self.latents(x)):
            total = total + self._prior(level).log_prob(z, mean, log_scale)
        return total

    def latents(self, x: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The latents of every level, and the mean and log-scale predicted of them, (N, C_l, h_l, w_l) each."""
        found = []
        z = x
        for level in range(self.levels):
            z = F.pixel_unshuffle(z, 2)
            for step in self._steps(level):
                z = step(z)
            leaving, kept = (z, None) if level + 1 == self.levels else (self._split(level, z))
            mean, log_scale = self._prediction(level, kept, len(x))
            found.append((leaving, mean, log_scale))
            z = kept if kept is not None else z
        return found

    def restored(self, latents: Sequence[Tensor]) -> Tensor:
        """The picture with these latents, (N, C, H, W)."""
        z: Tensor | None = None
        for level in reversed(range(self.levels)):
            z = self._up(level, latents[level], z)
        assert z is not None
        return z

    def _split(self, level: int, z: Tensor) -> tuple[Tensor, Tensor]:
        leaving = self.latent_channels[level]
        return z[:, :leaving], z[:, leaving:]

    def _up(self, level: int, leaving: Tensor, kept: Tensor | None) -> Tensor:
        z = leaving if kept is None else torch.cat([leaving, kept], 1)
        for step in reversed(self._steps(level)):
            z = step.inverse(z)
        return F.pixel_shuffle(z, 2)

    def _prediction(self, level: int, kept: Tensor | None, num_samples: int) -> tuple[Tensor, Tensor]:
        """Mean and log-scale of a level's latents; scales begin at a tenth of the range."""
        if kept is None:
            side = [one // 2**self.levels for one in self.sample_shape[:2]]
            predicted = self.last.unsqueeze(0).expand(num_samples, -1, -1, *side).flatten(1, 2)
        else:
            predicted = self.predictors[level](kept)
        mean, log_scale = predicted.chunk(2, 1)
        return mean + 0.5 * (kept is None), (log_scale - 2.3).clamp(-9, 2)

    def _steps(self, level: int) -> list[Step]:
        steps: Any = self.steps[level]
        return list(steps)

    def _prior(self, level: int) -> FactorisedPrior | CircuitPrior:
        prior: Any = self.priors[level]
        return prior

    def _values(self, samples: Tensor) -> Tensor:
        pictures = samples.unsqueeze(3) if len(self.sample_shape) == 2 else samples
        return pictures.permute(0, 3, 1, 2).float() / BINS


def log_discretised_logistic(z: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log of the mass of a logistic in the bin of width 1/256 around z, in nats."""
    centred, scale = (z - mean).abs().neg(), log_scale.exp()
    above, below = (centred + 0.5 / BINS) / scale, (centred - 0.5 / BINS) / scale
    # σ(a) - σ(b) = σ(a) (1 - σ(b) / σ(a)), on the side where neither is near 1.
    near = F.logsigmoid(above)
    return near + torch.log1p(-(F.logsigmoid(below) - near).exp().clamp(max=1 - 1e-7))


def _logistic(mean: Tensor, log_scale: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(mean.shape, generator=generator).clamp(1e-6, 1 - 1e-6)
    return (torch.logit(uniform) * log_scale.exp() + mean).mul(BINS).round().div(BINS)


def residual_levels(model: IntegerFlow, samples: Tensor, num_levels: int = 16) -> list[np.ndarray[Any, Any]]:
    """What the flow leaves unexplained of its latents, in quantiles: (N, D_l) integers for each level.

    Args:
        model: a flow with the plain prior.
        samples: (N, *sample_shape) integers.
        num_levels: L, so that values are 0…L-1.
    """
    found: list[list[Tensor]] = [[] for _ in range(model.levels)]
    with torch.no_grad():
        for part in samples.split(100):
            for level, (z, mean, log_scale) in enumerate(model.latents(model._values(part))):
                share = torch.sigmoid((z - mean) / log_scale.exp()).flatten(1)
                found[level].append((share * num_levels).long().clamp(0, num_levels - 1))
    return [torch.cat(one).numpy() for one in found]


def trees_over_latents(model: IntegerFlow, samples: Tensor) -> list[list[int]]:
    """A Chow-Liu tree for each level over what the flow leaves unexplained; see `residual_levels`."""
    return [
        chow_liu_tree(mutual_information(one, LEVELS)).parents.tolist()
        for one in residual_levels(model, samples, LEVELS)
    ]
