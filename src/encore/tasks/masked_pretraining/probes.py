"""What frozen features are worth: nearest neighbours and a linear classifier on top of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from encore.base.progress import ProgressReporter
from encore.data.contracts import DataSplits

NEIGHBOURS = 20


@torch.no_grad()
def features_of(
    model: Any, batches: DataLoader[Any], progress: ProgressReporter, stage: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pooled features (N, D) and labels (N,) of labelled pictures."""
    features: list[Tensor] = []
    labels: list[int] = []
    for step, batch in enumerate(batches, start=1):
        features.append(model.pooled(model.preprocess(batch["image"])).float().cpu())
        labels += batch["label"].tolist()
        progress.update(stage, step, len(batches))
    return torch.cat(features).numpy(), np.asarray(labels)


def probe_accuracies(
    model: Any, parts: DataSplits, loader: Any, progress: ProgressReporter, stage: str
) -> dict[str, float | None]:
    """Accuracies in percent on the test part, of classifiers that saw the features of the training part.

    - `knn_accuracy`: the majority of the 20 nearest by cosine (of all, where there are fewer).
    - `linear_probe_accuracy`: logistic regression on standardised features, its regularisation picked on the
      validation part.

    Both are scikit-learn's.

    Args:
        model: with `pooled`.
        parts: labelled pictures.
        loader: makes batches of a part.
        progress, stage: told of the work.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model.eval()
    train, val, test = (
        features_of(model, loader(part, 64), progress, f"{stage}: features of {name}")
        for name, part in (("train", parts.train), ("val", parts.val), ("test", parts.test))
    )
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(train[0])), metric="cosine").fit(*train)
    best = max(
        (
            make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)).fit(*train)
            for strength in (1e-3, 1e-2, 1e-1, 1.0)
        ),
        key=lambda probe: probe.score(*val),
    )
    return {
        "knn_accuracy": 100 * float(neighbours.score(*test)),
        "linear_probe_accuracy": 100 * float(best.score(*test)),
    }
