"""The neural peer: its probabilities, and its bits."""

import numpy as np
import pytest
import torch
from scipy.stats import betabinom

from encore.papers.pc_compression.bits_back import BitsBackCoder, BitsBackVAE, _table, beta_binomial

pytest.importorskip("constriction")


def test_beta_binomials_are_scipys():
    alpha, beta = torch.tensor([0.3, 2.0, 40.0]), torch.tensor([0.7, 5.0, 0.5])
    for n in (1, 15, 255):
        k = np.arange(n + 1)
        due = np.stack([betabinom.pmf(k, n, one, other) for one, other in zip(alpha, beta, strict=True)])
        np.testing.assert_allclose(_table(alpha, beta, n), due, rtol=2e-3, atol=1e-7)
        logs = beta_binomial(torch.arange(n + 1.0), n, alpha[:, None], beta[:, None])
        np.testing.assert_allclose(logs.exp(), due, rtol=2e-3, atol=1e-6)


@pytest.fixture(scope="module")
def trained() -> tuple[BitsBackVAE, torch.Tensor]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, (600, 1, 1))
    samples = torch.from_numpy(np.where(kind, np.arange(12).reshape(3, 4), 12 - np.arange(12).reshape(3, 4)))
    samples = (samples + torch.from_numpy(rng.integers(0, 3, (600, 3, 4)))).clamp(0, 15)
    model = BitsBackVAE((3, 4), 16, hidden=32, latents=2)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        model.loss(samples).backward()
        optimizer.step()
    return model.eval(), samples


def test_what_is_decoded_is_what_was_encoded_at_the_bits_of_the_bound(trained):
    model, samples = trained
    coder = BitsBackCoder(model)
    words, grown = coder.encode(samples.numpy())
    assert (coder.decode(words, len(samples)) == samples.numpy()).all()
    ideal = model.bits(samples).sum().item()
    assert 32 * grown == pytest.approx(ideal, rel=0.03)
    assert ideal / samples.numel() < 2.8  # of 4


def test_samples_resemble_the_data(trained):
    model, samples = trained
    drawn = model.draw(500, torch.Generator().manual_seed(0)).float()
    assert drawn.shape == (500, 3, 4)
    assert (drawn.mean(0) - samples.float().mean(0)).abs().max() < 1.5
