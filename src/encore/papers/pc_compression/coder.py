"""Coding with a hidden Chow-Liu tree at the cost of about one pass over it, the same bits on every machine.

Variables are coded in pre-order, a subtree at a time. At a node the belief about its state, given everything coded so
far, is b = (m·T_v)·P, with m the parent's belief and P what was coded at and below the node; the next value has the
distribution b·B. Going down multiplies by T_v, coming back by its transpose: two products a tree edge give the exact
conditionals of all variables, where D passes would be needed by their definition, and each comes as the whole
distribution over the K values, so that the decoder need not search.

**Why encoder and decoder always agree.** A sum of floating-point numbers depends on its order, which differs from one
processor, thread count and batch to the next; one last bit of difference, and all that follows is decoded wrong. So
probabilities are integers here: tables of up to 24 bits, beliefs of 22. Every sum of products stays below 2⁵³, where
float64 holds each integer exactly and the order of a sum cannot matter. Between products vectors are scaled down by
powers of two and rounded down, element by element, never below 1. What is left to the entropy coder (`constriction`,
range coding) are distributions rounded once to float32, again element by element.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import InputError
from encore.papers.pc_compression.model import HCLT

Floats = NDArray[np.float64]
"""Integers, held exactly."""

Code = Callable[[int, NDArray[np.float32]], NDArray[np.int32]]
"""Takes a variable and the weights of its values, (N, K); says which came, (N,)."""

BELIEF_BITS = 22
"""Of a belief's largest entry."""

TABLE_BITS = 24
"""Of a probability of 1 in a table, with up to 2⁷ states."""

EXACT_BITS = 53
"""Integers up to 2⁵³ are exact in float64."""


@dataclass(frozen=True)
class Step:
    """One visit of the walk over the tree.

    Attributes:
        kind: `enter` an inner node, `leaf`: code a variable that depends on its parent's state, `leave` an inner node.
        variable: which.
    """

    kind: str
    variable: int


def walk(model: HCLT) -> list[Step]:
    """All visits in order; of a node's children those with the larger subtrees come first."""
    tree, steps = model.tree, list[Step]()
    inner = set(tree.inner.tolist())
    waiting = [Step("enter", tree.root)]
    while waiting:
        step = waiting.pop()
        steps.append(step)
        if step.kind == "enter":
            waiting.append(Step("leave", step.variable))
            children = sorted(tree.children[step.variable], key=lambda one: (-tree.sizes[one], one))
            waiting += [Step("enter" if child in inner else "leaf", child) for child in reversed(children)]
    return steps


def integers(probabilities: NDArray[Any], bits: int) -> Floats:
    """Probabilities as whole numbers of 2^-bits, at least 1."""
    return np.maximum(np.rint(np.ldexp(probabilities.astype(np.float64), bits)), 1.0)


def scaled(vectors: Floats) -> Floats:
    """(N, H) → as many bits as beliefs have in each row's largest entry, rounded down, at least 1; in place."""
    _, exponents = np.frexp(vectors.max(1, keepdims=True))
    np.ldexp(vectors, BELIEF_BITS - exponents, out=vectors)
    np.floor(vectors, out=vectors)
    return np.maximum(vectors, 1.0, out=vectors)


class Symbols(ABC):
    """Blocks of samples as range-coded streams, with whatever says how probable the next value is.

    A block's samples share one stream, which can be decoded without the others.

    Args:
        num_variables: D.
        num_values: K.
    """

    def __init__(self, num_variables: int, num_values: int) -> None:
        self.num_variables, self.num_values = num_variables, num_values

    @staticmethod
    def table_bits(num_terms: int) -> int:
        """Of tables, so that sums of `num_terms` products with beliefs are exact.

        Raises:
            InputError: too few would be left.
        """
        bits = min(TABLE_BITS, EXACT_BITS - BELIEF_BITS - (num_terms - 1).bit_length())
        if bits < 12:
            raise InputError(f"sums of {num_terms} terms are too long to be exact", "train a model with fewer states")
        return bits

    @abstractmethod
    def _perform(self, num_samples: int, code: Code) -> None:
        """Call `code` for every variable in a fixed order, with weights that depend on the values it gave alone."""

    def encode(self, blocks: Sequence[NDArray[Any]]) -> list[NDArray[np.uint32]]:
        """The stream of each block.

        Args:
            blocks: (n, D) integers 0…K-1 each, coded side by side: products of matrices serve all of them.

        Raises:
            ValueError: a value is none of the K.
        """
        coders = [stream_coders().queue.RangeEncoder() for _ in blocks]
        samples = np.concatenate(blocks).astype(np.int32)
        if samples.size and not 0 <= samples.min() <= samples.max() < self.num_values:
            raise ValueError(f"values from {samples.min()} to {samples.max()}; the model knows 0…{self.num_values - 1}")
        spans = _spans([len(block) for block in blocks])
        family = _family()

        def code(variable: int, weights: NDArray[np.float32]) -> NDArray[np.int32]:
            values = np.ascontiguousarray(samples[:, variable])
            for coder, span in zip(coders, spans, strict=True):
                coder.encode(values[span], family, weights[span])
            return values

        if len(samples) and self.num_values > 1:  # one value alone needs no bits
            self._perform(len(samples), code)
        return [coder.get_compressed() for coder in coders]

    def decode(self, streams: Sequence[NDArray[np.uint32]], sizes: Sequence[int]) -> list[NDArray[np.int32]]:
        """The blocks of these streams.

        Args:
            streams: what `encode` made.
            sizes: n of each block.
        """
        coders = [stream_coders().queue.RangeDecoder(stream) for stream in streams]
        total = sum(sizes)
        samples = np.zeros((total, self.num_variables), np.int32)
        spans = _spans(sizes)
        family = _family()

        def code(variable: int, weights: NDArray[np.float32]) -> NDArray[np.int32]:
            for coder, span in zip(coders, spans, strict=True):
                samples[span, variable] = coder.decode(family, weights[span])
            return samples[:, variable]

        if total and self.num_values > 1:
            self._perform(total, code)
        return [samples[span] for span in spans]


class TreeCoder(Symbols):
    """Codes with a hidden Chow-Liu tree; see above.

    Args:
        model: its tables are read once.

    Attributes:
        fingerprint: the same for two models exactly where they write the same bits for the same samples.

    Raises:
        InputError: the tree has so many states that sums would not be exact.
    """

    def __init__(self, model: HCLT) -> None:
        super().__init__(model.num_variables, model.num_values)
        bits = self.table_bits(model.num_states)
        self._steps = walk(model)
        place_of = {variable: place for place, variable in enumerate(model.tree.inner.tolist())}
        model = model.cpu()
        transitions = integers(model.transitions.numpy(), bits)
        self._down = {variable: transitions[place] for variable, place in place_of.items()}
        self._up = {variable: np.ascontiguousarray(one.T) for variable, one in self._down.items()}
        emissions = integers(model.emissions.numpy(), bits)
        self._rows = emissions
        self._columns = np.ascontiguousarray(emissions.transpose(0, 2, 1))
        self._prior = scaled(integers(model.prior.numpy()[None], bits))
        self.fingerprint = self._fingerprint(repr(model.form), transitions, emissions)

    def _fingerprint(self, form: str, *tables: Floats) -> str:
        """Of everything that decides the bits, and what they mean."""
        digest = hashlib.sha256((form + repr(self._steps)).encode())
        for one in (self._prior, *tables):
            digest.update(repr(one.shape).encode() + one.astype("<i8").tobytes())
        return digest.hexdigest()

    def _perform(self, num_samples: int, code: Code) -> None:
        # Of every node on the way down: the belief from above, and the product of what was coded at and below it.
        stack: list[list[Floats]] = []
        for step in self._steps:
            if step.kind == "leave":
                _, below = stack.pop()
                if stack:
                    stack[-1][1] = scaled(stack[-1][1] * scaled(below @ self._up[step.variable]))
                continue
            if step.kind == "enter":
                if stack:
                    above, below = stack[-1]
                    belief = scaled(scaled(above * below) @ self._down[step.variable])
                else:
                    belief = np.repeat(self._prior, num_samples, 0)
                stack.append([belief, np.ones_like(belief)])
            above, below = stack[-1]
            belief = scaled(above * below)
            values = code(step.variable, (belief @ self._columns[step.variable]).astype(np.float32))
            stack[-1][1] = scaled(below * self._rows[step.variable][values])


def _spans(sizes: Sequence[int]) -> list[slice]:
    ends = np.cumsum(sizes).tolist()
    return [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def stream_coders() -> Any:
    """constriction's stream coders.

    Raises:
        InputError: it is not installed.
    """
    try:
        import constriction
    except ImportError as error:
        raise InputError("compression needs the package constriction", 'pip install "encore-papers[codec]"') from error
    return constriction.stream


def _family() -> Any:
    """Categorical distributions whose weights come with each call; no weight becomes impossible."""
    return stream_coders().model.Categorical(lazy=True)
