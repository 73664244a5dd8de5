"""Accuracies against scikit-learn, and targets of mixed pictures against their definition."""

from __future__ import annotations

import pytest
import torch
from sklearn import metrics as reference

from encore.base.errors import DataError, InputError
from encore.tasks.classification.metrics import ClassificationMetrics
from encore.tasks.classification.mixing import Mixing

CLASSES = tuple("abcdefgh")


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 8, generator=generator)
    labels = torch.randint(0, 7, (200,), generator=generator)  # class h never occurs
    return logits, labels


def measured(logits: torch.Tensor, labels: torch.Tensor) -> dict[str, float | None]:
    metrics = ClassificationMetrics(CLASSES)
    for part in range(0, len(labels), 64):
        metrics.update(logits[part : part + 64], labels[part : part + 64])
    return metrics.compute()


def test_accuracies_are_those_of_scikit_learn(batch):
    logits, labels = batch
    values = measured(logits, labels)
    predicted = logits.argmax(1)
    assert values["accuracy"] == pytest.approx(100 * reference.accuracy_score(labels, predicted))
    top5 = reference.top_k_accuracy_score(labels, logits, k=5, labels=range(8))
    assert values["top5_accuracy"] == pytest.approx(100 * top5)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        balanced = reference.balanced_accuracy_score(labels, predicted)
    assert values["class_accuracy"] == pytest.approx(100 * balanced)
    assert values["log_loss"] == pytest.approx(
        reference.log_loss(labels, logits.double().softmax(1).numpy(), labels=range(8)), rel=1e-5
    )
    precision = reference.precision_score(labels, predicted, average=None, labels=range(7))
    assert [values[f"precision/{name}"] for name in CLASSES[:7]] == pytest.approx([100 * one for one in precision])


def test_a_class_that_does_not_occur_has_no_accuracy(batch):
    values = measured(*batch)
    assert values["accuracy/h"] is None
    assert values["precision/h"] == 0


def test_two_classes_have_no_top_five():
    metrics = ClassificationMetrics(["cat", "dog"])
    metrics.update(torch.eye(2), torch.tensor([0, 1]))
    assert "top5_accuracy" not in metrics.compute()


def test_nothing_measured_is_null():
    metrics = ClassificationMetrics(CLASSES)
    metrics.update(torch.zeros(0, 8), torch.zeros(0, dtype=torch.int64))
    assert metrics.compute()["accuracy"] is None


def test_labels_out_of_range_and_other_shapes_are_refused():
    metrics = ClassificationMetrics(CLASSES)
    with pytest.raises(DataError, match="a label is 8"):
        metrics.update(torch.zeros(2, 8), torch.tensor([0, 8]))
    with pytest.raises(InputError, match=r"\(2, 7\)"):
        metrics.update(torch.zeros(2, 7), torch.tensor([0, 1]))


def test_smoothed_targets_sum_to_one():
    targets = Mixing(4, label_smoothing=0.2).targets(torch.tensor([2, 0]))
    assert targets.tolist() == [pytest.approx([0.05, 0.05, 0.85, 0.05]), pytest.approx([0.85, 0.05, 0.05, 0.05])]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_targets_are_mixed_by_the_share_of_the_other_picture(kind: str):
    torch.manual_seed(0)
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 16, 16).clone()  # the value of a pixel names its picture
    mixed, targets = Mixing(6, **{kind: 1.0})(images, torch.arange(6))
    means = mixed.mean((1, 2, 3))
    assert means.tolist() == pytest.approx((targets * torch.arange(6)).sum(1).tolist(), abs=1e-4)
    assert targets.sum(1).tolist() == pytest.approx([1.0] * 6)
    assert not mixed.equal(images)
    if kind == "cutmix":
        assert set(mixed.unique().tolist()) <= set(range(6))


def test_shares_of_mixup_follow_the_beta_distribution():
    torch.manual_seed(0)
    labels = torch.arange(2).repeat(400)
    _, targets = Mixing(2, mixup=0.2)(torch.zeros(800, 3, 1, 1), labels)
    spread = targets[:, 0][(targets[:, 0] > 0) & (targets[:, 0] < 1)]
    extreme = ((spread < 0.1) | (spread > 0.9)).float().mean()
    assert extreme > 0.5  # Beta(0.2, 0.2) has most of its mass near 0 and 1; a uniform share would give 0.2


def test_nothing_is_mixed_at_probability_zero():
    images = torch.rand(4, 3, 8, 8)
    mixed, targets = Mixing(4, mixup=1.0, cutmix=1.0, probability=0.0)(images, torch.arange(4))
    assert mixed is images
    assert targets.equal(torch.eye(4))
