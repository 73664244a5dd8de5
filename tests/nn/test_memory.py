"""Memory counted on the meta device against counts by hand, and against what is really allocated."""

import pytest
import torch
from torch import nn

from encore.base.errors import DataError
from encore.nn.memory import check_memory, inference_memory, on_meta_device, training_bytes


class Chain(nn.Module):
    """Three maps of the input's size, of which two live at once."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = x * self.scale
        return x


class Skip(Chain):
    """The first map is kept to the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = x * self.scale
        return super().forward(first) + first


def test_maps_count_for_as_long_as_they_live():
    bytes_of_a_map = 4 * 1000
    # the caller's own input lives as long as the call
    assert inference_memory(Chain(), (10, 100)).activations == 3 * bytes_of_a_map
    assert inference_memory(Skip(), (10, 100)).activations == 4 * bytes_of_a_map
    assert inference_memory(Chain(), (10, 100)).weights == 4
    assert inference_memory(Chain(), (10, 100)).total == 3 * bytes_of_a_map + 4


def test_views_and_work_in_place_count_once():
    model = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(6, 1))
    assert inference_memory(model, (5, 2, 3)).activations == 4 * (30 + 5)


def test_the_model_is_left_as_it_was():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inference_memory(model, (1, 1, 8, 8))
    assert model.training
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.device.type == "meta" for parameter in on_meta_device(model).parameters())


def test_training_holds_what_backward_needs():
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(4)))
    weights = 4 * 64 * 64 * 4
    a_map = 4 * 1024 * 64
    held = training_bytes(model, (1024, 64))
    assert held >= weights + 5 * a_map  # input, the three maps between, output
    assert held <= 2 * weights + 7 * a_map  # and gradients: of the weights, and of a map on either side of a layer


def test_half_precision_takes_half():
    model = Chain()
    single = inference_memory(model, (10, 100)).activations
    assert inference_memory(model.to(torch.bfloat16), (10, 100)).activations == single // 2


def test_what_does_not_fit_is_refused_with_its_size():
    check_memory(Chain(), (10, 100), "a picture")
    with pytest.raises(DataError, match=r"a vast picture would need 12000\.0 GB"):
        check_memory(Chain(), (10**6, 10**6), "a vast picture")
