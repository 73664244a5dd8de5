"""The estimator follows scikit-learn's conventions, and learns what it is shown."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import check_estimator

from encore.papers.pc_compression.estimator import HiddenChowLiuTree


def data(count: int = 400, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, (count, 1))
    return (kind + rng.integers(0, 2, (count, 6))) % 4


def test_scikit_learns_own_checks():
    check_estimator(HiddenChowLiuTree(num_states=2, epochs=2), on_skip=None)


def test_it_learns_and_is_reproducible():
    train, test = data(), data(200, 1)
    one, other = (HiddenChowLiuTree(3, epochs=30, random_state=0).fit(train) for _ in range(2))
    independent = HiddenChowLiuTree(1, epochs=5, random_state=0).fit(train)
    assert one.score(test) > independent.score(test) + 1
    assert one.score(test) == other.score(test)
    assert np.allclose(pickle.loads(pickle.dumps(one)).score_samples(test), one.score_samples(test))
    drawn = one.sample(500, random_state=0)
    assert drawn.shape == (500, 6)
    assert one.score(drawn) > one.score(np.random.default_rng(0).integers(0, 4, (500, 6)))


def test_batches_one_after_the_other_learn_too():
    model = HiddenChowLiuTree(3, num_values=4, random_state=0)
    scores = []
    for seed in range(60):
        model.partial_fit(data(128, seed))
        scores.append(model.score(data(200, 1000)))
    assert scores[-1] > scores[0] + 0.3


def test_it_is_searched_over():
    search = GridSearchCV(HiddenChowLiuTree(epochs=5, num_values=4, random_state=0), {"num_states": [1, 3]}, cv=3)
    assert search.fit(data()).best_params_ == {"num_states": 3}
    assert clone(search.best_estimator_).num_states == 3


def test_what_is_no_category_is_refused():
    model = HiddenChowLiuTree(2, epochs=1).fit(data())
    with pytest.raises(ValueError, match="fractions"):
        model.score(data() + 0.5)
    with pytest.raises(ValueError, match="Negative"):
        model.score(data() - 1)
    with pytest.raises(ValueError, match="knows 0…3"):
        model.score(data() + 1)
