"""Coding is lossless, costs what the model says, and gives the same bits however it is computed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from encore.base.errors import InputError
from encore.papers.pc_compression.coder import TreeCoder
from encore.papers.pc_compression.model import HCLT
from tests.papers.pc_compression.test_model import TREES, small

pytest.importorskip("constriction")


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("sizes", [[5], [64, 64, 3], [1, 0, 2]])
def test_what_is_decoded_is_what_was_encoded(name, sizes):
    model = small(name).float()
    coder = TreeCoder(model)
    blocks = [model.sample(size, torch.Generator().manual_seed(size)).numpy() for size in sizes]
    streams = coder.encode(blocks)
    for one, other in zip(blocks, coder.decode(streams, sizes), strict=True):
        assert (one == other).all()
    for index, (block, stream) in enumerate(zip(blocks, streams, strict=True)):
        (alone,) = coder.decode([stream], [sizes[index]])
        assert (alone == block).all()


@pytest.mark.parametrize("name", TREES)
def test_bits_are_those_of_the_likelihood(name):
    model = small(name)
    samples = model.sample(5000, torch.Generator().manual_seed(0))
    (stream,) = TreeCoder(model).encode([samples.numpy()])
    ideal = -model(samples).sum().item() / np.log(2)
    assert 32 * len(stream) == pytest.approx(ideal, rel=2e-3, abs=64)


def test_bits_do_not_depend_on_what_is_coded_beside():
    model = wide()
    samples = model.sample(90, torch.Generator().manual_seed(1)).numpy()
    coder = TreeCoder(model)
    together = coder.encode([samples[:30], samples[30:61], samples[61:]])
    for stream, block in zip(together, (samples[:30], samples[30:61], samples[61:]), strict=True):
        assert (coder.encode([block])[0] == stream).all()
        # A sample's conditionals are its own; only the stream is shared.
        alone = [coder.encode([block[[row]]])[0] for row in range(3)]
        assert all(len(one) for one in alone)


MACHINES = {
    "as it is": {},
    "one thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    "two threads": {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
    "OpenBLAS for Nehalem": {"OPENBLAS_CORETYPE": "Nehalem"},
    "OpenBLAS for Haswell": {"OPENBLAS_CORETYPE": "Haswell"},
    "OpenBLAS for SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "no AVX in PyTorch": {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"},
    "no AVX-512 in NumPy": {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX"},
}

SCRIPT = """
import hashlib, sys, warnings
warnings.simplefilter("ignore")  # what cannot be switched off on this machine
from tests.papers.pc_compression.test_coder import streams_of_a_wide_model
print(hashlib.sha256(b"".join(one.tobytes() for one in streams_of_a_wide_model())).hexdigest())
"""


def wide() -> HCLT:
    """A tree of 60 variables, 40 values and 48 states whose probabilities are the same on every machine."""
    model = HCLT([-1, *((child - 1) // 2 for child in range(1, 60))], 40, 48)
    model.randomise(torch.Generator().manual_seed(2), 0.99)
    return model


def streams_of_a_wide_model() -> list[np.ndarray]:
    samples = np.random.default_rng(0).integers(0, 40, (200, 60))
    return TreeCoder(wide()).encode([samples[:64], samples[64:128], samples[128:]])


def test_bits_are_the_same_for_other_threads_and_instructions():
    answers = {}
    for name, switches in MACHINES.items():
        words = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(words, env={**os.environ, **switches}, capture_output=True, text=True, check=True)
        answers[name] = done.stdout.strip()
    assert len(set(answers.values())) == 1, answers
    assert len(answers["as it is"]) == 64


def test_sums_are_exact_at_the_largest_entries():
    model = wide()
    coder = TreeCoder(model)
    largest = 2.0**22 * max(one.sum(0).max() for one in coder._down.values())
    assert largest < 2**53
    assert 2.0**22 * coder._columns.sum(1).max() < 2**53


def test_too_many_states_to_be_exact_are_refused():
    with pytest.raises(InputError, match="too long to be exact"):
        TreeCoder.table_bits(2**20)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_content_survives(data):
    """Trees, numbers of values and states, and contents of all kinds, also far from what the model expects."""
    D = data.draw(st.integers(1, 12))
    parents = [-1, *(data.draw(st.integers(0, child - 1)) for child in range(1, D))]
    K, H = data.draw(st.integers(1, 300)), data.draw(st.integers(1, 9))
    model = HCLT(parents, K, H)
    model.randomise(torch.Generator().manual_seed(data.draw(st.integers(0, 99))), 0.999)
    kind = data.draw(st.sampled_from(["zeros", "last", "noise", "unlikely"]))
    N = data.draw(st.integers(0, 70))
    if kind == "noise":
        samples = np.random.default_rng(N).integers(0, K, (N, D))
    elif kind == "unlikely":
        samples = np.broadcast_to(model.emissions.mean(2).argmin(1).numpy(), (N, D))
    else:
        samples = np.full((N, D), 0 if kind == "zeros" else K - 1)
    coder = TreeCoder(model)
    (decoded,) = coder.decode(coder.encode([samples]), [N])
    assert (decoded == samples).all()


def test_ten_thousand_blocks_survive():
    """One value alone, the last, noise, what is least expected, and one odd pixel among likely ones."""
    rng = np.random.default_rng(0)
    for trial in range(500):
        D, K, H = (int(rng.integers(1, high)) for high in (14, 300, 9))
        model = HCLT([-1, *(int(rng.integers(0, child)) for child in range(1, D))], K, H)
        model.randomise(torch.Generator().manual_seed(trial), float(rng.choice([0.1, 0.9, 0.999])))
        least = model.emissions.mean(2).argmin(1).numpy()
        likely = model.sample(200, torch.Generator().manual_seed(trial)).numpy()
        blocks = []
        for number in range(20):
            N = int(rng.integers(0, 12))
            block = [
                np.zeros((N, D), int),
                np.full((N, D), K - 1),
                rng.integers(0, K, (N, D)),
                np.broadcast_to(least, (N, D)),
                likely[number * 10 : number * 10 + N],
            ][number % 5].copy()
            if number % 5 == 4 and len(block):
                block[0, 0] = least[0]
            blocks.append(block)
        coder = TreeCoder(model)
        decoded = coder.decode(coder.encode(blocks), [len(one) for one in blocks])
        assert all(np.array_equal(one, other) for one, other in zip(blocks, decoded, strict=True))
