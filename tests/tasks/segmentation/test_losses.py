"""The loss against a loop over pixels, against PyTorch's and against Caffe's formula."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from encore.base.errors import ConfigurationError, InputError
from encore.data.contracts import VOID
from encore.tasks.segmentation.losses import Normalisation, SegmentationLoss

NUM_CLASSES = 4
WEIGHTS = torch.tensor([0.5, 1.0, 3.0, 0.0])


def batch(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Logits (2, 4, 3, 5) and masks (2, 3, 5), a quarter of them void."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, NUM_CLASSES, 3, 5, generator=generator, dtype=torch.float64)
    masks = torch.randint(NUM_CLASSES, (2, 3, 5), generator=generator)
    masks[torch.rand(masks.shape, generator=generator) < 0.25] = VOID
    return logits.to(dtype), masks.to(torch.uint8)


def slow_loss(logits: Tensor, masks: Tensor, weights: list[float], normalisation: str, smoothing: float) -> float:
    total = sum_of_weights = 0.0
    num_pixels = 0
    for image in range(masks.shape[0]):
        for row in range(masks.shape[1]):
            for column in range(masks.shape[2]):
                label = int(masks[image, row, column])
                if label == VOID:
                    continue
                scores = logits[image, :, row, column].tolist()
                normaliser = math.log(sum(math.exp(score) for score in scores))
                entropies = [normaliser - score for score in scores]
                spread = sum(weight * entropy for weight, entropy in zip(weights, entropies, strict=True))
                total += (1 - smoothing) * weights[label] * entropies[label] + smoothing / len(scores) * spread
                sum_of_weights += weights[label]
                num_pixels += 1
    return total / (sum_of_weights if normalisation == "weights" else num_pixels)


@pytest.mark.parametrize("normalisation", ["weights", "pixels"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_equals_a_loop_over_pixels(normalisation: Normalisation, smoothing: float, weighted: bool):
    logits, masks = batch(dtype=torch.float64)
    weights = WEIGHTS if weighted else None
    loss = SegmentationLoss(NUM_CLASSES, weights, normalisation, label_smoothing=smoothing)
    expected = slow_loss(logits, masks, WEIGHTS.tolist() if weighted else [1.0] * 4, normalisation, smoothing)
    assert loss(logits, masks).item() == pytest.approx(expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_divided_by_weights_it_is_the_cross_entropy_of_pytorch_with_its_gradient(
    smoothing: float, weights: Tensor | None
):
    logits, masks = batch(1)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = SegmentationLoss(NUM_CLASSES, weights, label_smoothing=smoothing)(ours, masks)
    reference = nn.CrossEntropyLoss(weights, ignore_index=VOID, label_smoothing=smoothing)(theirs, masks.long())
    torch.testing.assert_close(loss, reference)
    loss.backward()
    reference.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_divided_by_pixels_it_is_the_formula_of_caffe():
    logits, masks = batch(2)
    terms = nn.functional.cross_entropy(logits, masks.long(), WEIGHTS, ignore_index=VOID, reduction="none")
    expected = terms.sum() / (masks != VOID).sum()
    torch.testing.assert_close(SegmentationLoss(NUM_CLASSES, WEIGHTS, "pixels")(logits, masks), expected)


def test_without_weights_both_normalisations_agree():
    logits, masks = batch(3)
    torch.testing.assert_close(
        SegmentationLoss(NUM_CLASSES)(logits, masks), SegmentationLoss(NUM_CLASSES, None, "pixels")(logits, masks)
    )


def test_weights_times_a_constant_matter_to_pixels_alone():
    logits, masks = batch(4)
    for normalisation, factor in (("weights", 1.0), ("pixels", 5.0)):
        once, often = (SegmentationLoss(4, scale * WEIGHTS, normalisation)(logits, masks) for scale in (1, 5))
        torch.testing.assert_close(often, factor * once)


@pytest.mark.parametrize("normalisation", ["weights", "pixels"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_batch_of_void_has_the_loss_zero_and_a_gradient_of_zeros(
    normalisation: Normalisation, weights: Tensor | None
):
    logits = batch()[0].requires_grad_()
    loss = SegmentationLoss(NUM_CLASSES, weights, normalisation)(logits, torch.full((2, 3, 5), VOID))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("normalisation", ["weights", "pixels"])
def test_a_batch_of_classes_that_weigh_nothing_has_the_loss_zero(normalisation: Normalisation):
    loss = SegmentationLoss(NUM_CLASSES, WEIGHTS, normalisation)
    assert loss(batch()[0], torch.full((2, 3, 5), 3)).item() == 0


def test_void_pixels_have_no_gradient():
    logits, masks = batch(5)
    logits.requires_grad_()
    SegmentationLoss(NUM_CLASSES, WEIGHTS, label_smoothing=0.1)(logits, masks).backward()
    assert logits.grad is not None
    void = (masks == VOID).unsqueeze(1).expand_as(logits)
    assert not logits.grad[void].any()
    assert logits.grad[~void].any()


def test_logits_of_half_precision_are_computed_in_float32():
    logits, masks = batch(6)
    half = logits.to(torch.bfloat16).requires_grad_()
    loss = SegmentationLoss(NUM_CLASSES, WEIGHTS)
    value = loss(half, masks)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(half.detach().float(), masks))
    value.backward()
    assert half.grad is not None
    assert half.grad.dtype == torch.bfloat16


def test_masks_of_any_integer_type_give_one_loss():
    logits, masks = batch(7)
    values = {SegmentationLoss(NUM_CLASSES)(logits, masks.to(kind)).item() for kind in (torch.uint8, torch.int32)}
    assert len(values) == 1


def test_the_weights_are_no_part_of_a_checkpoint_and_move_with_the_module():
    loss = SegmentationLoss(NUM_CLASSES, WEIGHTS)
    assert not loss.state_dict()
    assert loss.to("meta").class_weights.is_meta
    weights = WEIGHTS.clone()
    loss = SegmentationLoss(NUM_CLASSES, weights)
    weights.zero_()
    assert torch.equal(loss.class_weights, WEIGHTS)


@pytest.mark.parametrize(
    ("logits", "masks"),
    [((2, 3, 4, 4), (2, 4, 4)), ((2, 4, 4, 4), (2, 4, 5)), ((4, 4, 4), (4, 3)), ((1, 4, 4, 4), (2, 4, 4))],
)
def test_shapes_that_do_not_fit_are_named_with_the_one_due(logits: tuple[int, ...], masks: tuple[int, ...]):
    with pytest.raises(InputError, match=r"logits of shape .* came for masks of shape .*: give logits of shape"):
        SegmentationLoss(NUM_CLASSES)(torch.zeros(logits), torch.zeros(masks, dtype=torch.long))


@pytest.mark.parametrize(
    "weights",
    [torch.ones(3), torch.ones(4, 1), torch.tensor([1, 1, 1, -1.0]), torch.tensor([1, 1, 1, math.nan])],
)
def test_weights_that_are_no_weights_are_refused(weights: Tensor):
    with pytest.raises(ConfigurationError, match="class weights"):
        SegmentationLoss(NUM_CLASSES, weights)
