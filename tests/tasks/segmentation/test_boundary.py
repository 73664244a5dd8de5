"""Boundary F1 against distance transforms and exhaustive matching."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch import Tensor

from encore.base.errors import DataError, InputError
from encore.data.contracts import VOID
from encore.data.streets import Streets
from encore.tasks.segmentation.boundary import (
    PAPER_TOLERANCE,
    BoundaryMatching,
    CountedClasses,
    boundary_f1,
    boundary_f1_per_class,
    boundary_map,
)

Pixel = tuple[int, int]


def slow_boundaries(labels: list[list[int]], void: int = VOID) -> dict[int, set[Pixel]]:
    """The boundary pixels of each class, found by looking at four neighbours."""
    height, width = len(labels), len(labels[0])
    found: dict[int, set[Pixel]] = {}
    for row, column in itertools.product(range(height), range(width)):
        label = labels[row][column]
        for other_row, other_column in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if not (0 <= other_row < height and 0 <= other_column < width):
                continue
            other = labels[other_row][other_column]
            if label not in (void, other) and other != void:
                found.setdefault(label, set()).add((row, column))
    return found


def share_within(pixels: set[Pixel], others: set[Pixel], shape: tuple[int, int], reach: float) -> float:
    """The share of `pixels` within `reach` of `others`, from a distance transform."""
    if not pixels or not others:
        return 0.0
    elsewhere = np.ones(shape, dtype=bool)
    elsewhere[tuple(zip(*others, strict=True))] = False
    distances = distance_transform_edt(elsewhere)
    return sum(distances[pixel] <= reach + 1e-9 for pixel in pixels) / len(pixels)


def share_paired(pixels: set[Pixel], others: set[Pixel], reach: float) -> tuple[float, float]:
    """The shares of both sides in a largest matching, found with augmenting paths."""
    partner: dict[Pixel, Pixel] = {}

    def pair(pixel: Pixel, seen: set[Pixel]) -> bool:
        for other in others:
            if other in seen or math.dist(pixel, other) > reach + 1e-9:
                continue
            seen.add(other)
            if other not in partner or pair(partner[other], seen):
                partner[other] = pixel
                return True
        return False

    matched = sum(pair(pixel, set()) for pixel in pixels)
    return matched / max(len(pixels), 1), matched / max(len(others), 1)


def slow_scores(
    prediction: Tensor,
    target: Tensor,
    num_classes: int,
    tolerance: float = PAPER_TOLERANCE,
    classes: str = "target",
    matching: str = "distance",
) -> list[float]:
    """F1 of each class in one (H, W) image; NaN where it is not counted."""
    height, width = target.shape
    reach = tolerance * math.hypot(height, width)
    guess_labels = prediction.where(target != VOID, VOID).tolist()
    guesses, truths = slow_boundaries(guess_labels), slow_boundaries(target.tolist())
    scores = []
    for index in range(num_classes):
        guess, truth = guesses.get(index, set()), truths.get(index, set())
        present = bool((target == index).any())
        if classes == "either":
            present |= any(index in row for row in guess_labels)
        if not present or not (guess or truth):
            scores.append(math.nan)
            continue
        if matching == "distance":
            precision = share_within(guess, truth, (height, width), reach)
            recall = share_within(truth, guess, (height, width), reach)
        else:
            precision, recall = share_paired(guess, truth, reach)
        total = precision + recall
        scores.append(200 * precision * recall / total if total else 0.0)
    return scores


def blobs(seed: int, height: int, width: int, num_classes: int, void: bool = True) -> tuple[Tensor, Tensor]:
    """A mask of smooth blobs, and a prediction of slightly other ones."""
    generator = np.random.default_rng(seed)
    fields = np.stack([gaussian_filter(generator.normal(size=(height, width)), 3) for _ in range(num_classes)])
    target = fields.argmax(0)
    other = np.stack([gaussian_filter(generator.normal(size=(height, width)), 3) for _ in range(num_classes)])
    prediction = (fields + 0.4 * other).argmax(0)
    if void:
        target[gaussian_filter(generator.normal(size=(height, width)), 3) > 0.12] = VOID
    return torch.from_numpy(prediction).to(torch.uint8), torch.from_numpy(target).to(torch.uint8)


def assert_scores_equal(ours: Tensor, expected: list[float]) -> None:
    assert ours.dtype == torch.float64
    np.testing.assert_allclose(ours.numpy(), np.asarray(expected), atol=1e-9)


def labels_of(side: int = 5) -> st.SearchStrategy[list[list[int]]]:
    pixel = st.sampled_from([0, 1, 2, VOID])
    return st.integers(1, side).flatmap(
        lambda width: st.lists(st.lists(pixel, min_size=width, max_size=width), min_size=1, max_size=side)
    )


@settings(deadline=None, max_examples=60)
@given(labels_of())
def test_the_boundary_map_equals_a_loop_over_neighbours(labels: list[list[int]]):
    found = slow_boundaries(labels)
    expected = [
        [label if (row, column) in found.get(label, set()) else VOID for column, label in enumerate(line)]
        for row, line in enumerate(labels)
    ]
    assert boundary_map(torch.tensor([labels]))[0].tolist() == expected


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("classes", ["target", "either"])
def test_scores_by_distance_equal_those_of_distance_transforms(seed: int, classes: CountedClasses):
    height, width = ((40, 56), (96, 128), (150, 210))[seed % 3]
    prediction, target = blobs(seed, height, width, num_classes=5, void=seed % 2 == 0)
    assert (target == VOID).any() == (seed % 2 == 0)
    scores = boundary_f1_per_class(prediction, target, 5, classes=classes)
    assert_scores_equal(scores, slow_scores(prediction, target, 5, classes=classes))


def test_scores_of_streets_equal_those_of_distance_transforms():
    streets = Streets(3, height=72, width=96, seed=11)
    num_classes = len(streets.classes)
    targets = torch.stack([streets[index]["mask"] for index in range(3)])
    predictions = targets.roll((1, 2), dims=(1, 2))
    predictions[predictions == VOID] = 0
    scores = boundary_f1_per_class(predictions, targets, num_classes)
    for index in range(3):
        assert_scores_equal(scores[index], slow_scores(predictions[index], targets[index], num_classes))
    assert_scores_equal(boundary_f1(predictions, targets, num_classes), scores.nanmean(1).tolist())


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.2, 0.5]), st.sampled_from(["target", "either"]))
def test_one_to_one_scores_equal_augmenting_paths(seed: int, tolerance: float, classes: CountedClasses):
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (6, 7), generator=generator)
    prediction = torch.where(torch.rand(6, 7, generator=generator) < 0.7, target, 1)
    target[torch.rand(6, 7, generator=generator) < 0.1] = VOID
    scores = boundary_f1_per_class(prediction, target, 3, tolerance, classes, "one_to_one")
    assert_scores_equal(scores, slow_scores(prediction, target, 3, tolerance, classes, "one_to_one"))


def test_one_to_one_pairs_the_most_pixels_of_all_matchings():
    guess, truth, reach = {(0, 0), (0, 1), (2, 2)}, {(0, 1), (1, 1), (0, 2)}, 1.5
    best = max(
        sum(math.dist(one, other) <= reach for one, other in zip(sorted(guess), order, strict=True))
        for order in itertools.permutations(truth)
    )
    assert share_paired(guess, truth, reach) == (best / 3, best / 3)


def test_a_pixel_serves_two_by_distance_and_one_where_pairs_are_formed():
    target = torch.zeros(9, 9, dtype=torch.long)
    target[4, 4] = 1
    prediction = torch.zeros(9, 9, dtype=torch.long)
    prediction[4, 4:6] = 1
    by_distance = boundary_f1_per_class(prediction, target, 2, tolerance=0.1)
    in_pairs = boundary_f1_per_class(prediction, target, 2, tolerance=0.1, matching="one_to_one")
    assert by_distance[1] == 100
    assert in_pairs[1] == pytest.approx(200 * 0.5 * 1 / 1.5)


@pytest.mark.parametrize("matching", ["distance", "one_to_one"])
def test_a_perfect_prediction_scores_a_hundred_even_without_tolerance(matching: BoundaryMatching):
    _, target = blobs(0, 40, 56, 4)
    scores = boundary_f1_per_class(target, target, 4, tolerance=0.0, matching=matching)
    np.testing.assert_allclose(scores[~scores.isnan()].numpy(), 100)
    assert not scores.isnan().all()


@pytest.mark.parametrize("matching", ["distance", "one_to_one"])
def test_prediction_and_truth_may_be_exchanged_where_the_classes_of_either_count(matching: BoundaryMatching):
    prediction, target = blobs(1, 30, 40, 4, void=False)
    there = boundary_f1_per_class(prediction, target, 4, classes="either", matching=matching)
    back = boundary_f1_per_class(target, prediction, 4, classes="either", matching=matching)
    assert_scores_equal(there, back.tolist())


@pytest.mark.parametrize("matching", ["distance", "one_to_one"])
def test_mirrored_images_score_alike(matching: BoundaryMatching):
    prediction, target = blobs(2, 30, 40, 4)
    scores = boundary_f1_per_class(prediction, target, 4, matching=matching)
    for dims in ((0,), (1,), (0, 1)):
        mirrored = boundary_f1_per_class(prediction.flip(dims), target.flip(dims), 4, matching=matching)
        assert_scores_equal(mirrored, scores.tolist())
    turned = boundary_f1_per_class(prediction.T.contiguous(), target.T.contiguous(), 4, matching=matching)
    assert_scores_equal(turned, scores.tolist())


def test_more_tolerance_never_lowers_a_score():
    prediction, target = blobs(3, 40, 56, 4)
    scores = [boundary_f1(prediction, target, 4, tolerance=share).item() for share in (0.0, 0.01, 0.02, 0.05, 0.2)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_an_invented_class_is_blamed_only_where_the_classes_of_either_count():
    target = torch.tensor([[0, 0, 1, 1]] * 4)
    prediction = target.clone()
    prediction[0, 0] = 2
    of_target = boundary_f1_per_class(prediction, target, 4, classes="target")
    of_either = boundary_f1_per_class(prediction, target, 4, classes="either")
    assert of_target[:2].tolist() == of_either[:2].tolist()
    assert of_target[2].isnan()
    assert of_either[2] == 0
    assert of_target[3].isnan()
    assert of_either[3].isnan()


def test_a_class_that_was_not_found_scores_nothing():
    target = torch.tensor([[0, 0, 1, 1]] * 4)
    scores = boundary_f1_per_class(torch.zeros_like(target), target, 2)
    assert scores.tolist() == [0, 0]


def test_the_border_of_void_is_neither_to_be_found_nor_blamed():
    target = torch.tensor([[0, 0, VOID, VOID, 1, 1]] * 4)
    scores = boundary_f1_per_class(torch.tensor([[0, 0, 0, 1, 1, 1]] * 4), target, 2)
    assert scores.isnan().all()
    target = torch.tensor([[0, 0, 1, 1, VOID, VOID]] * 4)
    right_elsewhere = torch.tensor([[0, 0, 1, 1, 0, 2]] * 4)
    assert boundary_f1_per_class(right_elsewhere, target, 3)[:2].tolist() == [100, 100]
    any_value = torch.tensor([[0, 0, 1, 1, -7, 300]] * 4)
    assert boundary_f1_per_class(any_value, target, 3)[:2].tolist() == [100, 100]


def test_the_void_value_is_free_to_choose():
    target = torch.tensor([[0, 0, 11, 1, 1]] * 4)
    assert boundary_f1(target, target, 2, ignore_index=11).isnan()


def test_the_mean_is_over_the_classes_of_an_image():
    prediction, target = blobs(4, 40, 56, 6)
    per_class = boundary_f1_per_class(prediction, target, 6)
    assert boundary_f1(prediction, target, 6).item() == pytest.approx(per_class.nanmean().item())
    assert boundary_f1(torch.zeros(2, 4, 4).long(), torch.zeros(2, 4, 4).long(), 6).isnan().tolist() == [True, True]


def test_a_batch_scores_like_its_images_alone():
    pairs = [blobs(seed, 30, 40, 4) for seed in range(3)]
    prediction, target = (torch.stack(side) for side in zip(*pairs, strict=True))
    for matching in ("distance", "one_to_one"):
        together = boundary_f1_per_class(prediction, target, 4, matching=matching)
        for index, pair in enumerate(pairs):
            assert_scores_equal(together[index], boundary_f1_per_class(*pair, 4, matching=matching).tolist())


def test_shapes_and_values_that_do_not_fit_are_refused():
    mask = torch.zeros(4, 4, dtype=torch.long)
    with pytest.raises(InputError, match="a prediction of shape"):
        boundary_f1(mask, mask[None], 2)
    with pytest.raises(InputError, match="a prediction of shape"):
        boundary_f1(mask[0], mask[0], 2)
    with pytest.raises(DataError, match="a mask holds the value 2"):
        boundary_f1(mask, mask + 2, 2)
    with pytest.raises(DataError, match="a prediction holds the value 2"):
        boundary_f1(mask + 2, mask, 2)
