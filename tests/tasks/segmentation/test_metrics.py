"""Metrics of segmentation against loops over pixels."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from encore.base.errors import DataError, InputError
from encore.data.contracts import VOID
from encore.tasks.segmentation.boundary import BoundaryF1, boundary_f1
from encore.tasks.segmentation.metrics import SegmentationMetrics

NAMES = ("road", "car", "tree", "sign")


def slow_metrics(prediction: Tensor, masks: Tensor, names: tuple[str, ...]) -> dict[str, float | None]:
    pairs = list(zip(masks.flatten().tolist(), prediction.flatten().tolist(), strict=True))
    pairs = [(truth, guess) for truth, guess in pairs if truth != VOID]
    accuracy: dict[str, float | None] = {}
    iou: dict[str, float | None] = {}
    for index, name in enumerate(names):
        both = sum(truth == index and guess == index for truth, guess in pairs)
        of_truth = sum(truth == index for truth, _ in pairs)
        either = sum(truth == index or guess == index for truth, guess in pairs)
        accuracy[name] = 100 * both / of_truth if of_truth else None
        iou[name] = 100 * both / either if either else None
    right = sum(truth == guess for truth, guess in pairs)
    values: dict[str, float | None] = {
        "global_accuracy": 100 * right / len(pairs) if pairs else None,
        "class_accuracy": mean_of(accuracy),
        "mean_iou": mean_of(iou),
    }
    values |= {f"iou/{name}": value for name, value in iou.items()}
    return values | {f"accuracy/{name}": value for name, value in accuracy.items()}


def mean_of(values: dict[str, float | None]) -> float | None:
    known = [value for value in values.values() if value is not None]
    return statistics.fmean(known) if known else None


def measured(*batches: tuple[Tensor, Tensor], names: tuple[str, ...] = NAMES) -> dict[str, float | None]:
    metrics = SegmentationMetrics(names)
    for prediction, masks in batches:
        metrics.update(prediction, masks)
    return metrics.compute()


def random_batch(seed: int, num_images: int = 3, num_classes: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.randint(num_classes, (num_images, 6, 8), generator=generator)
    prediction = torch.where(torch.rand(masks.shape, generator=generator) < 0.6, masks, 0)
    masks[torch.rand(masks.shape, generator=generator) < 0.15] = VOID
    return prediction.to(torch.uint8), masks.to(torch.uint8)


pixels = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, 3, VOID]), st.integers(min_value=0, max_value=3)), min_size=1, max_size=24
)


@settings(deadline=None, max_examples=60)
@given(pixels)
def test_every_figure_equals_a_loop_over_pixels(pairs: list[tuple[int, int]]):
    masks = torch.tensor([[[truth for truth, _ in pairs]]], dtype=torch.uint8)
    prediction = torch.tensor([[[guess for _, guess in pairs]]], dtype=torch.uint8)
    metrics = SegmentationMetrics(NAMES, boundary_tolerance=None)
    metrics.update(prediction, masks)
    assert metrics.compute() == pytest.approx(slow_metrics(prediction, masks, NAMES))


def test_the_union_over_batches_equals_one_batch():
    first, second = random_batch(0), random_batch(1, num_images=2)
    together = torch.cat([first[0], second[0]]), torch.cat([first[1], second[1]])
    assert measured(first, second) == pytest.approx(measured(together))


def test_images_of_several_sizes_may_be_added():
    small = torch.zeros(1, 2, 2, dtype=torch.uint8)
    values = measured(random_batch(0), (small, small))
    assert values["global_accuracy"] is not None


def test_two_objects_merged_equal_one():
    batches = [random_batch(seed) for seed in range(4)]
    left, right = SegmentationMetrics(NAMES), SegmentationMetrics(NAMES)
    for metrics, part in ((left, batches[:1]), (right, batches[1:])):
        for batch in part:
            metrics.update(*batch)
    left.merge_state(right)
    assert left.compute() == pytest.approx(measured(*batches))


def test_boundary_f1_is_that_of_the_metric_of_its_own():
    batches = [random_batch(seed) for seed in range(3)]
    alone = BoundaryF1(num_classes=4)
    for batch in batches:
        alone.update(*batch)
    assert measured(*batches)["boundary_f1"] == pytest.approx(alone.compute().item())
    scores = torch.cat([boundary_f1(prediction, masks, 4) for prediction, masks in batches])
    assert alone.compute().item() == pytest.approx(scores.nanmean().item())


def test_merged_boundary_metrics_equal_one():
    batches = [random_batch(seed) for seed in range(3)]
    left, right, whole = (BoundaryF1(num_classes=4) for _ in range(3))
    left.update(*batches[0])
    right.update(*batches[1])
    right.update(*batches[2])
    for batch in batches:
        whole.update(*batch)
    left.merge_state(right)
    assert left.compute().item() == pytest.approx(whole.compute().item())


def test_logits_are_measured_as_their_largest_class():
    prediction, masks = random_batch(2)
    logits = torch.nn.functional.one_hot(prediction.long(), 4).permute(0, 3, 1, 2).float()
    assert measured((logits, masks)) == measured((prediction, masks))


def test_what_is_predicted_in_void_does_not_matter():
    prediction, masks = random_batch(3)
    elsewhere = prediction.where(masks != VOID, VOID)
    assert measured((elsewhere, masks)) == measured((prediction, masks))


def test_what_was_not_measured_is_none():
    mask = torch.tensor([[[0, 0, 1, VOID]]])
    values = measured((torch.tensor([[[0, 2, 1, 3]]]), mask))
    assert values["iou/tree"] == 0
    assert values["accuracy/tree"] is None
    assert values["iou/sign"] is None
    assert values["accuracy/sign"] is None
    assert values["class_accuracy"] == pytest.approx(75)
    assert values["mean_iou"] == pytest.approx((50 + 100 + 0) / 3)


def test_void_alone_measures_nothing():
    void = torch.full((2, 3, 3), VOID)
    assert set(measured((torch.zeros_like(void), void)).values()) == {None}


def test_an_image_of_one_class_has_no_boundary_to_measure():
    mask = torch.zeros(1, 4, 4, dtype=torch.uint8)
    values = measured((mask, mask))
    assert values["boundary_f1"] is None
    assert values["mean_iou"] == 100


def test_reset_forgets_everything():
    metrics = SegmentationMetrics(NAMES)
    metrics.update(*random_batch(0))
    metrics.reset()
    metrics.update(*random_batch(1))
    assert metrics.compute() == measured(random_batch(1))


def test_the_boundary_is_left_out_on_request():
    metrics = SegmentationMetrics(NAMES, boundary_tolerance=None)
    metrics.update(*random_batch(0))
    assert "boundary_f1" not in metrics.compute()


def test_forty_classes_in_bytes_do_not_overflow():
    names = tuple(f"class_{index}" for index in range(40))
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(40, (1, 20, 20), generator=generator)
    prediction = torch.where(torch.rand(masks.shape, generator=generator) < 0.5, masks, 39)
    expected = slow_metrics(prediction, masks, names)
    values = measured((prediction.to(torch.uint8), masks.to(torch.uint8)), names=names)
    assert {name: values[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    "prediction",
    [torch.zeros(1, 4, 5), torch.zeros(1, 4, 4, 5), torch.zeros(1, 3, 4, 4), torch.zeros(2, 4, 4), torch.zeros(4, 4)],
)
def test_shapes_that_do_not_fit_are_refused(prediction: Tensor):
    with pytest.raises(InputError, match="came for masks of shape"):
        SegmentationMetrics(NAMES).update(prediction.long(), torch.zeros(1, 4, 4, dtype=torch.long))


def test_values_out_of_range_are_named():
    mask = torch.zeros(1, 2, 2, dtype=torch.long)
    with pytest.raises(DataError, match="a mask holds the value 4"):
        SegmentationMetrics(NAMES).update(mask, mask + 4)
    with pytest.raises(DataError, match="a prediction holds the value 9"):
        SegmentationMetrics(NAMES).update(mask + 9, mask)
