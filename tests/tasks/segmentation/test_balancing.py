"""Class frequencies and median frequency weights against loops over pixels."""

from __future__ import annotations

import logging
import statistics

import pytest
import torch
from torch import Tensor

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.tasks.segmentation.balancing import check_mask_range, class_frequencies, median_frequency_weights


def slow_frequencies(masks: list[Tensor], num_classes: int) -> list[float]:
    frequencies = []
    for index in range(num_classes):
        pixels = of_images = 0
        for mask in masks:
            values = mask.flatten().tolist()
            if index in values:
                pixels += values.count(index)
                of_images += len(values)
        frequencies.append(pixels / of_images if of_images else 0.0)
    return frequencies


def random_masks(seed: int, num_classes: int, void_share: float = 0.2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    masks = []
    for height, width in ((5, 7), (3, 4), (6, 2)):
        mask = torch.randint(num_classes, (height, width), generator=generator)
        mask[mask == int(torch.randint(num_classes, (1,), generator=generator))] = 0
        mask[torch.rand(height, width, generator=generator) < void_share] = VOID
        masks.append(mask.to(torch.uint8))
    return masks


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("num_classes", [4, 5])
def test_frequencies_and_weights_equal_a_loop_over_pixels(seed: int, num_classes: int):
    masks = random_masks(seed, num_classes)
    expected = slow_frequencies(masks, num_classes)
    assert class_frequencies(masks, num_classes).tolist() == pytest.approx(expected)
    middle = statistics.median(value for value in expected if value)
    weights = [middle / value if value else 0.0 for value in expected]
    assert median_frequency_weights(masks, num_classes).tolist() == pytest.approx(weights)
    roots = [weight**0.5 for weight in weights]
    assert median_frequency_weights(masks, num_classes, power=0.5).tolist() == pytest.approx(roots)


def test_only_images_in_which_a_class_occurs_count_for_it():
    masks = [torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 0, 0]])]
    assert class_frequencies(masks, 2).tolist() == [7 / 8, 1 / 4]


def test_void_pixels_are_no_class_but_belong_to_their_image():
    assert class_frequencies([torch.tensor([[0, 1, VOID, VOID]])], 2).tolist() == [1 / 4, 1 / 4]


def test_the_median_of_an_even_number_of_classes_lies_between_the_two_middle_ones():
    mask = torch.tensor([[0] * 8 + [1] * 4 + [2] * 2 + [3] * 2])
    frequencies = [8 / 16, 4 / 16, 2 / 16, 2 / 16]
    middle = (4 / 16 + 2 / 16) / 2
    assert median_frequency_weights([mask], 4).tolist() == pytest.approx([middle / value for value in frequencies])


def test_with_an_odd_number_of_classes_the_median_class_weighs_one():
    assert median_frequency_weights([torch.tensor([[0, 0, 0, 0, 0, 1, 1, 2]])], 3)[1] == 1


def test_a_class_that_never_occurs_weighs_nothing_is_named_and_does_not_move_the_median(
    caplog: pytest.LogCaptureFixture,
):
    mask = torch.tensor([[0, 0, 0, 0, 2, 2, 4, VOID]])
    with caplog.at_level(logging.WARNING):
        weights = median_frequency_weights([mask], 6)
    assert weights.tolist() == pytest.approx([0.5, 0, 1, 0, 2, 0])
    assert [record.getMessage() for record in caplog.records] == [
        "classes 1, 3, 5 never occur in the masks and get the weight 0"
    ]
    caplog.clear()
    median_frequency_weights([torch.tensor([[0, 1]])], 3)
    assert [record.getMessage() for record in caplog.records] == [
        "class 2 never occurs in the masks and gets the weight 0"
    ]


def test_nothing_is_logged_where_every_class_occurs(caplog: pytest.LogCaptureFixture):
    median_frequency_weights([torch.tensor([[0, 1, 2]])], 3)
    assert not caplog.records


def test_masks_are_read_once_and_may_come_from_a_generator():
    masks = random_masks(0, 4)
    assert torch.equal(median_frequency_weights(iter(masks), 4), median_frequency_weights(masks, 4))


def test_masks_of_void_alone_are_refused():
    with pytest.raises(DataError, match="no pixel of the masks belongs to a class"):
        median_frequency_weights([torch.full((2, 2), VOID)], 3)
    with pytest.raises(DataError, match="no pixel of the masks belongs to a class"):
        class_frequencies([], 3)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (torch.tensor([[0, 3]], dtype=torch.uint8), "holds the value 3, but 3 classes have the indices 0…2"),
        (torch.tensor([[0, -1, 7]]), "holds the values -1, 7, but"),
        (torch.arange(3, 12)[None], r"holds the values 3, 4, 5, 6, 7, …, but"),
        (torch.zeros(1, 2), r"is of type torch\.float32, a mask holds integers"),
    ],
)
def test_a_mask_out_of_range_is_named_with_its_values(mask: Tensor, said: str):
    with pytest.raises(DataError, match=f"mask 1 {said}"):
        median_frequency_weights([torch.tensor([[0, 1, 2]]), mask], 3)


def test_void_is_allowed_only_where_it_is_expected():
    mask = torch.tensor([[0, VOID]], dtype=torch.uint8)
    check_mask_range(mask, 1, "a mask")
    with pytest.raises(DataError, match="a prediction holds the value 255"):
        check_mask_range(mask, 1, "a prediction", void=None)
    check_mask_range(torch.tensor([[0, 11]]), 11, "a mask", void=11)
