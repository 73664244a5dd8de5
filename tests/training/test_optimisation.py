"""Optimisers and schedules: LAMB beside a slow reference, groups of parameters, warm-up and cosine."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError
from encore.training.configuration import TrainingConfiguration
from encore.training.lamb import Lamb
from encore.training.optimisation import make_optimizer, make_schedule, parameter_groups, rate_factor

SHAPES = ((3, 2), (4,), (2, 1, 2))


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    values[1].zero_()  # a layer that begins at zero has no length to adapt to
    return [nn.Parameter(value) for value in values]


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    return [10 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]


def slow_lamb(steps, rates, decays, beta1, beta2, eps, always_adapt, bias_correction):
    """One scalar at a time."""
    weights = [one.detach().flatten().tolist() for one in parameters()]
    first = [[0.0] * len(one) for one in weights]
    second = [[0.0] * len(one) for one in weights]
    for step in range(1, steps + 1):
        grads = [one.flatten().tolist() for one in gradients(step)]
        for index, weight in enumerate(weights):
            update = []
            for place, value in enumerate(grads[index]):
                first[index][place] = beta1 * first[index][place] + (1 - beta1) * value
                second[index][place] = beta2 * second[index][place] + (1 - beta2) * value**2
                m, v = first[index][place], second[index][place]
                if bias_correction:
                    m, v = m / (1 - beta1**step), v / (1 - beta2**step)
                update.append(m / (math.sqrt(v) + eps) + decays[index] * weight[place])
            length, step_length = math.hypot(*weight), math.hypot(*update)
            adapt = (decays[index] > 0 or always_adapt) and length > 0 and step_length > 0
            ratio = length / step_length if adapt else 1.0
            for place, value in enumerate(update):
                weight[place] -= rates[index] * ratio * value
    return weights


@pytest.mark.parametrize(("always_adapt", "bias_correction"), list(itertools.product([False, True], repeat=2)))
def test_lamb_is_the_slow_reference(always_adapt, bias_correction):
    rates, decays = (0.1, 0.05, 0.02), (0.3, 0.0, 0.0)
    own = parameters()
    optimizer = Lamb(
        [
            {"params": [one], "lr": rate, "weight_decay": decay}
            for one, rate, decay in zip(own, rates, decays, strict=True)
        ],
        betas=(0.9, 0.95),
        eps=1e-3,
        always_adapt=always_adapt,
        bias_correction=bias_correction,
    )
    for step in range(1, 6):
        for parameter, gradient in zip(own, gradients(step), strict=True):
            parameter.grad = gradient
        optimizer.step()
    expected = slow_lamb(5, rates, decays, 0.9, 0.95, 1e-3, always_adapt, bias_correction)
    for parameter, values in zip(own, expected, strict=True):
        torch.testing.assert_close(parameter.flatten(), torch.tensor(values, dtype=torch.float64))


def test_lamb_leaves_gradients_and_parameters_without_one_as_they_are():
    own = parameters()
    before = own[2].detach().clone()
    own[0].grad, own[1].grad = gradients(0)[:2]
    Lamb(own).step()
    assert torch.equal(own[0].grad, gradients(0)[0])
    assert torch.equal(own[2], before)


def test_lamb_refuses_impossible_arguments():
    for wrong in ({"lr": -1.0}, {"betas": (1.0, 0.9)}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Lamb(parameters(), **wrong)


def test_lamb_is_chosen_by_name_with_its_own_keys():
    chosen = TrainingConfiguration(optimizer="lamb", beta2=0.95, lamb_always_adapt=True, lamb_bias_correction=False)
    group = make_optimizer(nn.Linear(2, 2), chosen).param_groups[0]
    assert (group["betas"], group["always_adapt"], group["bias_correction"]) == ((0.9, 0.95), True, False)


class Stages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 1, 1)
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)), nn.Conv2d(1, 1, 1)])
        self.head = nn.Conv2d(1, 1, 1)
        self.token = nn.Parameter(torch.zeros(1, 1, 1, 1))

    def no_weight_decay(self) -> set[str]:
        return {"token"}


def rates_by_name(model: nn.Module, configuration: TrainingConfiguration) -> dict[str, tuple[float, float]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in parameter_groups(model, configuration)
        for parameter in group["params"]
    }


def test_biases_scales_and_what_the_model_names_do_not_decay():
    found = rates_by_name(Stages(), TrainingConfiguration(weight_decay=0.1))
    assert {name for name, (_, decay) in found.items() if decay} == {
        "stem.weight",
        "stages.0.0.weight",
        "stages.1.weight",
        "head.weight",
    }


def test_rates_fall_from_the_output_to_the_input():
    chosen = TrainingConfiguration(learning_rate=1.0, layer_decay=0.5, bias_learning_rate_factor=2.0)
    found = {name: rate for name, (rate, _) in rates_by_name(Stages(), chosen).items()}
    assert found.keys() == {name for name, _ in Stages().named_parameters()}
    assert found["head.weight"] == pytest.approx(1.0)
    assert found["stages.1.weight"] == pytest.approx(0.5)
    assert found["stages.0.1.weight"] == pytest.approx(0.25)
    assert found["stages.0.0.weight"] == pytest.approx(0.125)
    assert found["stages.0.0.bias"] == pytest.approx(0.25)
    assert found["stem.weight"] == pytest.approx(0.0625)


def test_the_rate_rises_linearly_and_falls_as_half_a_cosine():
    chosen = TrainingConfiguration(
        epochs=10,
        warmup_epochs=2,
        schedule="cosine",
        initial_learning_rate_factor=0.1,
        final_learning_rate_factor=0.2,
    )
    factors = [rate_factor(step, chosen, 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[10] == pytest.approx(0.55)
    assert factors[20] == max(factors) == 1.0
    assert factors[60] == pytest.approx(0.6)
    assert factors[100] == min(factors[20:]) == pytest.approx(0.2)


def test_a_warm_up_to_a_constant_rate_moves_every_group():
    chosen = TrainingConfiguration(epochs=4, warmup_epochs=0.5, schedule="constant", layer_decay=0.5)
    optimizer = make_optimizer(Stages(), chosen)
    peaks = [group["lr"] for group in optimizer.param_groups]
    schedule = make_schedule(optimizer, chosen, 40)
    assert schedule is not None
    seen = []
    for _ in range(8):
        seen.append([group["lr"] / peak for group, peak in zip(optimizer.param_groups, peaks, strict=True)])
        optimizer.step()
        schedule.step()
    for row, due in zip(seen, [0.01, 0.208, 0.406, 0.604, 0.802, 1, 1, 1], strict=True):
        assert row == pytest.approx([due] * len(peaks))


def test_the_defaults_keep_the_plain_schedules():
    optimizer = make_optimizer(nn.Linear(1, 1), TrainingConfiguration())
    kinds = {
        "constant": type(None),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR,
        "one_cycle": torch.optim.lr_scheduler.OneCycleLR,
    }
    for schedule, kind in kinds.items():
        assert type(make_schedule(optimizer, TrainingConfiguration(schedule=schedule), 10)) is kind


@pytest.mark.parametrize(
    "settings",
    [
        {"warmup_epochs": 1},
        {"warmup_epochs": 20, "schedule": "cosine"},
        {"final_learning_rate_factor": 0.1, "schedule": "constant"},
        {"ema_decay": 1.0},
        {"layer_decay": 0.0},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings))) as caught:
        configure(TrainingConfiguration, settings)
    assert "\n" not in str(caught.value)
