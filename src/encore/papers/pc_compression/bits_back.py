"""BB-ANS (Townsend, Bird, Barber; arXiv 1901.04866): a variational autoencoder as a lossless codec, the neural peer.

A latent is *decoded* from bits that were written before, under the posterior q(z | x); then x is encoded under p(x | z)
and z under the prior. What z cost is got back, and a sample takes -ELBO bits. The network is the paper's for whole
MNIST: one hidden layer each way, and beta-binomial pixels.

Encoder and decoder compute the same floating-point numbers here only because they run the same program on one machine;
`coder.py` says what it takes to do without that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from encore.base.registry import register_model
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.coder import stream_coders
from encore.papers.pc_compression.form import OfForm, SampleForm

STEP = 1 / 128
"""The grid on which latents are coded, in deviations of the prior."""

REACH = 8
"""How many deviations the grid covers on each side."""

GROUP = 16
"""Samples that are coded side by side."""

SEED_WORDS = 2**14
"""Random words with which a stream begins, so that the first latents can be decoded; they are in no count, since a
stream of several thousand samples could begin with any other file."""


@register_model("bits_back_vae")
class BitsBackVAE(OfForm, EncoreModel):
    """A variational autoencoder of integer samples.

    ```text
    x (N, D) / (K - 1) → linear → ReLU → mean and log-variance (N, Z)
    z (N, Z) → linear → ReLU → α and β (N, D), softplus → BetaBinomial(K - 1, α, β)
    ```

    Args:
        sample_shape: of a sample, D values in all.
        num_values: K.
        lowest: the value that is category 0.
        hidden: units of the hidden layers.
        latents: Z.
    """

    def __init__(
        self,
        sample_shape: Sequence[int] = (28, 28),
        num_values: int = 256,
        lowest: int = 0,
        hidden: int = 200,
        latents: int = 50,
    ) -> None:
        super().__init__()
        self.form = SampleForm(tuple(sample_shape), num_values, lowest)
        D = self.form.num_variables
        self.latents = latents
        self.encoder = nn.Sequential(nn.Linear(D, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents))
        self.decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, 2 * D))

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Categories (N, D) → mean and deviation of q(z | x), (N, Z) each."""
        mean, log_variance = self.encoder(x.float() / max(self.form.num_values - 1, 1) - 0.5).chunk(2, dim=1)
        return mean, (0.5 * log_variance.clamp(-14, 4)).exp()

    def pixels(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (N, Z) → α and β of every variable, (N, D) each."""
        alpha, beta = F.softplus(self.decoder(z)).clamp(min=1e-3).chunk(2, dim=1)
        return alpha, beta

    def nats(self, x: Tensor, noise: Tensor) -> Tensor:
        """-ELBO of categories (N, D) with one draw of z, (N,)."""
        mean, deviation = self.posterior(x)
        z = mean + deviation * noise
        alpha, beta = self.pixels(z)
        divergence = 0.5 * (mean**2 + deviation**2 - 1) - deviation.log()
        return divergence.sum(1) - beta_binomial(x.float(), self.form.num_values - 1, alpha, beta).sum(1)

    def forward(self, x: Tensor) -> Tensor:
        """Categories (N, D) → -ELBO in nats, (N,), with a random z."""
        return self.nats(x, torch.randn(len(x), self.latents, device=x.device))

    def loss(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → mean bits per dimension."""
        return self(self._categories(samples)).mean() / (math.log(2) * self.form.num_variables)

    @torch.no_grad()
    def bits(self, samples: Tensor) -> Tensor:
        """(N, *sample_shape) integers → the bits that each ideally takes, (N,), with z drawn from a fixed seed."""
        noise = torch.randn(len(samples), self.latents, generator=torch.Generator().manual_seed(0))
        return self.nats(self._categories(samples), noise.to(samples.device)).double() / math.log(2)

    @torch.no_grad()
    def draw(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Random samples, (num_samples, *sample_shape) int64."""
        z = torch.randn(num_samples, self.latents, generator=generator)
        alpha, beta = (one.numpy() for one in self.pixels(z))
        rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
        x = rng.binomial(self.form.num_values - 1, rng.beta(alpha, beta))
        return torch.from_numpy(self.form.samples(x))

    def _categories(self, samples: Tensor) -> Tensor:
        return torch.from_numpy(self.form.variables(samples.cpu().numpy())).to(samples.device)


def beta_binomial(x: Tensor, n: int, alpha: Tensor, beta: Tensor) -> Tensor:
    """log p(x) of BetaBinomial(n, α, β), in nats; x of 0…n, all of one shape."""
    chosen = math.lgamma(n + 1) - torch.lgamma(x + 1) - torch.lgamma(n - x + 1)
    above = torch.lgamma(x + alpha) + torch.lgamma(n - x + beta) - torch.lgamma(n + alpha + beta)
    return chosen + above + torch.lgamma(alpha + beta) - torch.lgamma(alpha) - torch.lgamma(beta)


def _table(alpha: Tensor, beta: Tensor, n: int) -> NDArray[np.float32]:
    """The probabilities of 0…n, (variables, n + 1), by the ratios of neighbours."""
    k = torch.arange(n, dtype=torch.float64)
    alpha, beta = alpha.double().reshape(-1, 1), beta.double().reshape(-1, 1)
    steps = ((n - k) / (k + 1)).log() + (alpha + k).log() - (n - 1 - k + beta).log()
    logs = F.pad(steps.cumsum(1), (1, 0))
    return torch.softmax(logs, 1).float().numpy()


class BitsBackCoder:
    """Chains samples through one stack of bits.

    Args:
        model: trained.
    """

    def __init__(self, model: BitsBackVAE) -> None:
        self._stream: Any = stream_coders()
        self.model = model.cpu().eval()
        bound = round(REACH / STEP)
        self._gaussian = self._stream.model.QuantizedGaussian(-bound, bound)
        self._categorical = self._stream.model.Categorical(lazy=True)

    def _seeded(self) -> Any:
        # The last word of a stack is not zero.
        words = np.random.default_rng(0).integers(1, 2**32, SEED_WORDS, dtype=np.uint32)
        return self._stream.stack.AnsCoder(words)

    @torch.no_grad()
    def encode(self, samples: NDArray[Any]) -> tuple[NDArray[np.uint32], int]:
        """(N, *sample_shape) → the stack, and how many words it is larger than the random ones it began with."""
        x = self.model.form.variables(samples)
        coder = self._seeded()
        before = len(coder.get_compressed())
        for start in range(0, len(x), GROUP):
            part = torch.from_numpy(x[start : start + GROUP])
            mean, deviation = self._grid(*self.model.posterior(part))
            z = coder.decode(self._gaussian, mean, deviation)
            coder.encode_reverse(part.numpy().ravel(), self._categorical, self._pixels(z, len(part)))
            coder.encode_reverse(z, self._gaussian, *self._prior(z))
        words = coder.get_compressed()
        return words, len(words) - before

    @torch.no_grad()
    def decode(self, words: NDArray[np.uint32], num_samples: int) -> NDArray[np.int64]:
        """The inverse of `encode`, (num_samples, *sample_shape)."""
        coder = self._stream.stack.AnsCoder(words)
        x = np.empty((num_samples, self.model.form.num_variables), np.int32)
        for start in reversed(range(0, num_samples, GROUP)):
            count = min(GROUP, num_samples - start)
            nothing = np.zeros(count * self.model.latents, np.int32)
            z = coder.decode(self._gaussian, *self._prior(nothing))
            part = coder.decode(self._categorical, self._pixels(z, count)).reshape(count, -1)
            x[start : start + count] = part
            mean, deviation = self._grid(*self.model.posterior(torch.from_numpy(part)))
            coder.encode_reverse(z, self._gaussian, mean, deviation)
        return self.model.form.samples(x)

    def _grid(self, mean: Tensor, deviation: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        bound = REACH - 1
        return (
            (mean.clamp(-bound, bound).double() / STEP).flatten().numpy(),
            (deviation.double() / STEP).clamp(min=0.1).flatten().numpy(),
        )

    def _prior(self, z: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.zeros(z.shape), np.full(z.shape, 1 / STEP)

    def _pixels(self, z: NDArray[np.int32], count: int) -> NDArray[np.float32]:
        alpha, beta = self.model.pixels(torch.from_numpy(z * np.float32(STEP)).float().view(count, -1))
        return _table(alpha, beta, self.model.form.num_values - 1)
