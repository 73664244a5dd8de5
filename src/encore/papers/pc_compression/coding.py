"""The recipe's coding: the test pictures through files and streams, timed, compared, and kept for a resumed run."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from encore.data.exact import Integers
from encore.nn.creation import load
from encore.nn.model import EncoreModel
from encore.papers.pc_compression.baselines import Rate, measure_codecs
from encore.papers.pc_compression.bits_back import BitsBackCoder
from encore.papers.pc_compression.codec import compress, decompress
from encore.papers.pc_compression.model import HCLT
from encore.results.performance import Performance
from encore.tasks.study import Study

NEURAL = "bb_ans"

Figures = dict[str, float]
"""`file`: bits per dimension; `compress`, `decompress`: MB/s; `changed`: values; `model_megabytes`."""


def coded_by_circuits(performance: Performance, study: Study, name: str, test: Integers) -> list[Figures]:
    """The test pictures compressed and decompressed by each seed's circuit, the first arm of the study."""

    def code(seed: int) -> Figures:
        model: Any = load(study.folder(performance, study.arms[0], seed))
        return _by_circuit(performance, model, test)

    return [_once(performance, f"coding/{name}/seed{seed}", partial(code, seed)) for seed in performance.seeds]


def coded_by_others(performance: Performance, study: Study, test: Integers) -> dict[str, list[Figures]]:
    """Some test pictures by each seed's autoencoder, and all by codecs that learn nothing, once."""
    count = min(performance.configuration.neural_samples, len(test))
    part = test[np.linspace(0, len(test) - 1, count).astype(np.int64)]

    def code(seed: int) -> Figures:
        model: Any = load(study.folder(performance, study.arms[0], seed))
        return _by_autoencoder(performance, model, part)

    def code_without_learning() -> dict[str, Figures]:
        performance.progress.message("coding with codecs that learn nothing")
        return {name: _figures(rate) for name, rate in measure_codecs(test.astype(np.uint8)).items()}

    neural = [_once(performance, f"coding/{NEURAL}/seed{seed}", partial(code, seed)) for seed in performance.seeds]
    others = _once(performance, "coding/others", code_without_learning)
    return {NEURAL: neural, **{name: [figures] for name, figures in others.items()}}


def _once(performance: Performance, step: str, work: Callable[[], Any]) -> Any:
    """What `work` makes, or what it made in a part of the run that was killed afterwards."""
    assert performance.folder is not None
    done = performance.folder.finished(step)
    if done is None:
        done = work()
        performance.folder.finish(step, done)
    return done


def _by_circuit(performance: Performance, model: HCLT, test: Integers) -> Figures:
    folder = performance.path / "coding"
    folder.mkdir(exist_ok=True)
    source, coded, back = folder / "test.npz", folder / "test.pc", folder / "back.npz"
    back.unlink(missing_ok=True)
    np.savez(source, x=test)
    there = compress(source, coded, model, performance.progress)
    again = decompress(coded, back, model, performance.progress)
    with np.load(back) as arrays:
        changed = int((arrays["x"] != test).sum()) + int(arrays["x"].dtype != test.dtype)
    for path in (source, coded, back):
        path.unlink()
    return {
        "file": there.bits_per_dimension,
        "compress": there.megabytes_per_second,
        "decompress": again.megabytes_per_second,
        "changed": float(changed),
        "model_megabytes": _megabytes(model),
    }


def _by_autoencoder(performance: Performance, model: Any, part: Integers) -> Figures:
    performance.progress.message(f"coding {len(part)} pictures with the autoencoder")
    coder = BitsBackCoder(model)
    started = time.perf_counter()
    words, grown = coder.encode(part)
    between = time.perf_counter()
    changed = int((coder.decode(words, len(part)) != part).sum())
    end = time.perf_counter()
    size = part.size / 1e6
    return {
        "file": 32 * grown / part.size,
        "compress": size / (between - started),
        "decompress": size / (end - between),
        "changed": float(changed),
        "model_megabytes": _megabytes(model),
    }


def _figures(rate: Rate) -> Figures:
    size = rate.num_values / 1e6
    return {
        "file": rate.bits_per_dimension,
        "compress": size / max(rate.encode_seconds, 1e-9),
        "decompress": size / max(rate.decode_seconds, 1e-9),
    }


def _megabytes(model: EncoreModel) -> float:
    return sum(one.nbytes for one in model.state_dict().values()) / 1e6
