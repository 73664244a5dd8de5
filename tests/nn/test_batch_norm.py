"""Population statistics against numpy, and folding against the network that is not folded."""

import numpy as np
import pytest
import torch
from torch import nn

from encore.base.errors import DataError
from encore.nn.batch_norm import folded, recompute_batch_norm_statistics
from encore.nn.creation import create_model
from encore.papers.segnet.model import SegNetBasic


def batches(number: int = 3, size: int = 4) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [2 * torch.randn(size, 2, 5, 3, generator=generator) + n for n in range(number)]


def statistics_of(norm: nn.BatchNorm2d) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in norm.named_buffers()}


def test_statistics_are_the_averages_of_every_batch():
    norm = nn.BatchNorm2d(2)
    recompute_batch_norm_statistics(nn.Sequential(norm), batches())
    by_batch = [batch.numpy().transpose(1, 0, 2, 3).reshape(2, -1) for batch in batches()]
    np.testing.assert_allclose(norm.running_mean, np.mean([b.mean(axis=1) for b in by_batch], axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var, np.mean([b.var(axis=1, ddof=1) for b in by_batch], axis=0), rtol=1e-5)
    assert norm.num_batches_tracked == 3


def test_a_second_layer_sees_what_the_first_makes_of_the_batch():
    first, second = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    nn.init.constant_(first.weight, 3.0)
    recompute_batch_norm_statistics(nn.Sequential(first, second), batches())
    np.testing.assert_allclose(second.running_mean, np.zeros(2), atol=1e-5)
    np.testing.assert_allclose(second.running_var, np.full(2, 9 * 60 / 59), rtol=1e-4)


def test_what_was_there_before_leaves_no_trace():
    fresh, used = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
    used(torch.full((2, 2, 2, 2), 1e6))
    for norm in (fresh, used):
        recompute_batch_norm_statistics(nn.Sequential(norm), batches())
    assert fresh.running_mean.equal(used.running_mean)
    assert fresh.running_var.equal(used.running_var)


def test_dropout_is_off():
    norm = nn.BatchNorm2d(2)
    model = nn.Sequential(nn.Dropout(0.9), norm).train()
    recompute_batch_norm_statistics(model, batches())
    due = nn.BatchNorm2d(2)
    recompute_batch_norm_statistics(nn.Sequential(due), batches())
    assert norm.running_var.equal(due.running_var)


def test_training_flags_and_momenta_are_left_as_they_were():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(2, momentum=0.3), nn.BatchNorm2d(2, momentum=None)).train()
    model[1].eval()
    recompute_batch_norm_statistics(model, batches())
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [model[1].momentum, model[2].momentum] == [0.3, None]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_forward_can_be_given_for_batches_of_another_form():
    norm = nn.BatchNorm2d(2)
    samples = [{"images": batch} for batch in batches()]
    recompute_batch_norm_statistics(norm, samples, forward=lambda sample: norm(sample["images"]))
    assert norm.num_batches_tracked == 3


def test_after_an_error_everything_is_as_before():
    norm = nn.BatchNorm2d(2, momentum=0.3)
    norm(batches()[0])
    before = statistics_of(norm)

    def breaking():
        yield batches()[1]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        recompute_batch_norm_statistics(nn.Sequential(norm).eval(), breaking())
    assert all(buffer.equal(before[name]) for name, buffer in norm.named_buffers())
    assert norm.momentum == 0.3
    assert not norm.training


def test_no_batches_are_refused_and_the_statistics_kept():
    norm = nn.BatchNorm2d(2)
    norm(batches()[0])
    before = statistics_of(norm)
    with pytest.raises(DataError, match="no batches"):
        recompute_batch_norm_statistics(nn.Sequential(norm), [])
    assert all(buffer.equal(before[name]) for name, buffer in norm.named_buffers())


def test_without_running_statistics_the_batches_are_not_read():
    def unreadable():
        raise AssertionError("read")
        yield

    recompute_batch_norm_statistics(nn.Sequential(nn.Conv2d(2, 2, 1)), unreadable())
    recompute_batch_norm_statistics(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False)), unreadable())


def with_random_statistics(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
    return model


@pytest.mark.parametrize("name", ["segnet_basic", "fcn_basic_no_addition"])
def test_the_folded_network_gives_the_same_logits(name):
    model = with_random_statistics(create_model(name, num_classes=5, width=16, kernel_size=3)).eval()
    x = 255 * torch.rand(2, 3, 33, 47)
    with torch.no_grad():
        due, logits = model(x), folded(model)(x)
    assert (logits - due).abs().max() <= 1e-5 * due.abs().max()


def test_folding_leaves_the_model_alone_and_no_batch_norm_in_the_copy():
    model = with_random_statistics(SegNetBasic(num_classes=5, width=8, kernel_size=3)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    copied = folded(model)
    assert not copied.training
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())
    assert model.training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_batch_norm_without_running_statistics_is_not_folded():
    model = nn.Module()
    model.conv, model.conv_bn = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)
    assert isinstance(folded(model).conv_bn, nn.BatchNorm2d)
