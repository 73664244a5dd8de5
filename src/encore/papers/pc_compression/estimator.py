"""The hidden Chow-Liu tree as a scikit-learn estimator."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from encore.papers.pc_compression.method import (
    ExpectationMaximisation,
    batches_of,
    flows_of_all,
    learn_structure,
    maximise,
)
from encore.papers.pc_compression.model import HCLT
from encore.papers.pc_compression.structure import Shape


class HiddenChowLiuTree(DensityMixin, BaseEstimator):
    """A density of vectors of categories, learnt by expectation maximisation.

    Args:
        num_states: H, hidden states of a node.
        num_values: K; None for as many as the training data need.
        shape: of the tree, `directed` or `balanced`.
        epochs: of mini-batches, with a step that shrinks.
        full_batch_steps: with all samples, at the end.
        batch_size: samples of a mini-batch.
        pseudocount: added to every distribution as a whole.
        structure_samples: rows from which the tree is found, spread over all.
        random_state: of the start and the order of samples.

    Attributes:
        model_: the `HCLT`, which also knows marginals, conditionals and the most probable completion.
        n_features_in_: D.

    Example:
        >>> x = np.random.default_rng(0).integers(0, 3, (200, 4))
        >>> HiddenChowLiuTree(num_states=2, epochs=2, random_state=0).fit(x).score_samples(x).shape
        (200,)
    """

    def __init__(
        self,
        num_states: int = 8,
        *,
        num_values: int | None = None,
        shape: Shape = "directed",
        epochs: int = 20,
        full_batch_steps: int = 1,
        batch_size: int = 512,
        pseudocount: float = 0.1,
        structure_samples: int = 10_000,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.num_states = num_states
        self.num_values = num_values
        self.shape = shape
        self.epochs = epochs
        self.full_batch_steps = full_batch_steps
        self.batch_size = batch_size
        self.pseudocount = pseudocount
        self.structure_samples = structure_samples
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the tree and learn its probabilities.

        Args:
            X: (N, D) whole numbers from 0.
            y: not looked at.

        Raises:
            ValueError: X has fractions, negative numbers, or values beyond `num_values`.
        """
        x = self._categories(X, reset=True)
        seed = self._start(x)
        schedule = ExpectationMaximisation(
            epochs=self.epochs,
            full_batch_steps=self.full_batch_steps,
            batch_size=self.batch_size,
            pseudocount=self.pseudocount,
        )
        for epoch in range(schedule.total):
            inertia = schedule.inertia_of(epoch)
            if inertia is None:
                maximise(self.model_, flows_of_all(self.model_, x, self.batch_size), self.pseudocount)
                continue
            for batch in batches_of(x, self.batch_size, seed, epoch):
                maximise(self.model_, self.model_.flows(batch), self.pseudocount, inertia)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """One step of a tenth towards what a batch says; the first batch decides the tree and the number of values.

        Args:
            X: (N, D) whole numbers from 0.
            y: not looked at.

        Raises:
            ValueError: as for `fit`; or a later batch has values that the first had not and `num_values` is None.
        """
        first = not hasattr(self, "model_")
        x = self._categories(X, reset=first)
        if first:
            self._start(x)
        maximise(self.model_, self.model_.flows(x), self.pseudocount, 0.0 if first else 0.9)
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """log p of each row, in nats, (N,).

        Raises:
            ValueError: as for `fit`, or a value that the training data had not.
        """
        check_is_fitted(self)
        x = self._categories(X, reset=False)
        scores: NDArray[np.float64] = torch.cat([self.model_(part) for part in x.split(1000)]).numpy()
        return scores

    def score(self, X: Any, y: Any = None) -> float:
        """The mean of `score_samples`."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> NDArray[np.int64]:
        """Draw rows, (n_samples, D)."""
        check_is_fitted(self)
        generator = torch.Generator().manual_seed(int(check_random_state(random_state).randint(2**31 - 1)))
        drawn: NDArray[np.int64] = self.model_.sample(n_samples, generator).numpy()
        return drawn

    def _start(self, x: torch.Tensor) -> int:
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        num_values = self.num_values or int(x.max()) + 1
        places = np.linspace(0, len(x) - 1, min(self.structure_samples, len(x))).astype(np.int64)
        parents = learn_structure(x[torch.from_numpy(places)], num_values, self.shape)
        self.model_ = HCLT(parents, num_values, self.num_states)
        self.model_.randomise(torch.Generator().manual_seed(seed))
        return seed

    def _categories(self, X: Any, *, reset: bool) -> torch.Tensor:
        array = validate_data(self, X, reset=reset, dtype="numeric", ensure_min_samples=1)
        whole = np.asarray(array).astype(np.int64)
        if (whole != array).any():
            raise ValueError("X has fractions, and the tree takes categories: whole numbers from 0")
        if whole.min() < 0:
            raise ValueError("Negative values in data passed to HiddenChowLiuTree: categories are numbered from 0")
        known = self.num_values if reset else self.model_.num_values
        if known is not None and whole.max() >= known:
            raise ValueError(f"X has the value {whole.max()}, and the tree knows 0…{known - 1}")
        return torch.from_numpy(whole)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        tags.input_tags.positive_only = True
        return tags
