"""Population statistics after training, and folding: against plain averages and the unfolded net."""

import numpy as np
import pytest
import torch
from torch import nn

from encore.base.errors import DataError
from encore.nn.batch_norm import folded, recompute_batch_norm_statistics
from encore.nn.creation import create_model


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.ReLU(), nn.Conv2d(3, 2, 1))


def test_statistics_are_the_averages_of_each_batch_s_mean_and_unbiased_variance():
    model, batches = net(), [torch.randn(4, 2, 3, 5) * n for n in (1, 2, 3)]
    with torch.no_grad():
        maps = [model[0](batch).numpy() for batch in batches]
    recompute_batch_norm_statistics(model, batches)
    means = np.mean([one.mean((0, 2, 3)) for one in maps], axis=0)
    variances = np.mean([one.var((0, 2, 3), ddof=1) for one in maps], axis=0)
    np.testing.assert_allclose(model[1].running_mean, means, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var, variances, rtol=1e-4)


def test_layers_behind_see_what_is_normalised_by_the_batch_and_no_dropout():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.9), nn.BatchNorm1d(2))
    recompute_batch_norm_statistics(model, [torch.randn(50, 2) * 7 + 3])
    assert torch.allclose(model[2].running_mean, torch.zeros(2), atol=1e-5)
    assert torch.allclose(model[2].running_var, torch.ones(2), atol=0.05)


def test_training_flags_and_momenta_are_left_as_they_were():
    model = net().train()
    model[2].eval()
    recompute_batch_norm_statistics(model, [torch.randn(4, 2, 3, 3)])
    assert model.training
    assert not model[2].training
    assert model[1].momentum == 0.1


def test_an_error_leaves_the_statistics_as_they_were():
    model = net()
    model[1].running_mean.fill_(5)
    with pytest.raises(RuntimeError):
        recompute_batch_norm_statistics(model, [torch.randn(4, 2, 3, 3), torch.randn(4, 9, 3, 3)])
    assert (model[1].running_mean == 5).all()
    with pytest.raises(DataError, match="no batches"):
        recompute_batch_norm_statistics(model, [])
    assert (model[1].running_mean == 5).all()


def test_a_net_without_batch_norm_does_not_read_the_batches():
    recompute_batch_norm_statistics(nn.Linear(2, 2), (pytest.fail("read") for _ in range(1)))


@pytest.mark.parametrize("name", ["segnet_basic", "fcn_basic_no_addition"])
def test_a_folded_net_equals_the_unfolded_one(name: str):
    model = create_model(name, num_classes=4, width=8, kernel_size=3).eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.uniform_(norm.weight, 0.5, 2)
    x = 255 * torch.rand(2, 3, 21, 18)
    whole = folded(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in whole.modules())
    expected = model(x).detach()
    assert torch.allclose(whole(x), expected, atol=1e-5 * expected.abs().max().item())
