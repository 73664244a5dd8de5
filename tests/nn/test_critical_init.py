"""Networks of any kind begin critically, or are refused with a list and left as they were."""

import math
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from encore.nn.critical_init import InitialisationError, critical_init_, layer_rates, learning_rates
from encore.nn.criticality import CriticalityError, critical_point, g


def deep(activation: type[nn.Module], depth: int = 12, width: int = 300) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(64, width)]
    for _ in range(depth - 2):
        layers += [activation(), nn.Linear(width, width)]
    return nn.Sequential(*layers, activation(), nn.Linear(width, width))


def mean_squares(model: nn.Module, x: Tensor) -> list[float]:
    """Of the output of every linear layer."""
    found: list[float] = []
    hooks = [
        one.register_forward_hook(lambda _, __, out: found.append(float(out.square().mean())))
        for one in model.modules()
        if isinstance(one, nn.Linear)
    ]
    with torch.no_grad():
        model(x)
    for hook in hooks:
        hook.remove()
    return found


def unit_inputs(count: int = 16, width: int = 64) -> Tensor:
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(0))
    return x / x.square().mean(1, keepdim=True).sqrt()


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.GELU])
def test_measured_kernels_follow_the_recursion(activation: type[nn.Module]):
    model = deep(activation)
    report = critical_init_(model, generator=torch.Generator().manual_seed(1))
    measured = mean_squares(model, unit_inputs())
    expected = [report.layers[0].weight_variance + report.layers[0].bias_variance]
    for layer in report.layers[1:]:
        expected.append(layer.bias_variance + layer.weight_variance * g(activation(), expected[-1]))
    assert measured[0] == pytest.approx(expected[0], rel=0.15)
    assert measured[4] == pytest.approx(expected[4], rel=0.3)
    assert 0.3 < measured[-1] / expected[-1] < 3  # fluctuations grow with depth over width


def test_default_weights_die_where_critical_ones_live():
    model = deep(nn.ReLU)
    died = mean_squares(model, unit_inputs())[-1]
    critical_init_(model, generator=torch.Generator().manual_seed(1))
    assert mean_squares(model, unit_inputs())[-1] > 100 * died


def test_every_layer_gets_the_weights_of_what_feeds_it():
    model = nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(3, 64, 5),
            bend=nn.ReLU(),
            second=nn.Conv2d(64, 256, 3, groups=4),
            flat=nn.Flatten(),
            smooth=nn.Tanh(),
            third=nn.Linear(256, 400),
            last=nn.Linear(400, 10),
        )
    )
    report = critical_init_(model, generator=torch.Generator().manual_seed(0))
    assert [(one.name, one.fan_in, one.activation) for one in report.layers] == [
        ("first", 75, "input"),
        ("second", 144, "relu"),
        ("third", 256, "tanh"),
        ("last", 400, "linear"),
    ]
    assert [one.weight_variance for one in report.layers] == [2, 2, 1, 1]
    for one in report.layers:
        weight = model.get_submodule(one.name).weight
        assert float(weight.detach().std()) == pytest.approx(one.deviation, rel=0.06)
        assert float(model.get_submodule(one.name).bias.detach().abs().max()) == 0


def test_half_stable_networks_begin_at_their_fixed_point():
    model = deep(nn.SiLU, depth=4)
    report = critical_init_(model, input_second_moment=0.25)
    first = report.layers[0]
    assert 0.25 * first.weight_variance + first.bias_variance == pytest.approx(14.32017362)
    assert float(model[2].bias.detach().std()) == pytest.approx(math.sqrt(0.55514317), rel=0.15)


class Functional(nn.Module):
    """Activations that are calls, not modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 8, 3)
        self.hidden = nn.Linear(48, 30)
        self.out = nn.Linear(30, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.conv(x), 0.2).flatten(1)
        return self.out(self.hidden(x).tanh())


class Pooled(nn.Module):
    """Pooling, slices and activations as calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(1, 8, 3), nn.Linear(8 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.hardswish(self.conv(x)), 2)[:, :, :3, :3]
        x = F.dropout(x.flatten(1), 0.1, self.training)
        return self.out(F.elu(x, alpha=0.5)) / 2


def test_what_changes_kernels_unaccounted_for_is_noted():
    report = critical_init_(Pooled())
    assert report.layers[1].activation == "elu of hardswish"
    assert sum("not taken into account" in note for note in report.notes) == 2
    assert report.layers[1].weight_variance > 4  # the output is halved


def test_functional_activations_are_seen():
    report = critical_init_(Functional())
    assert [one.weight_variance for one in report.layers] == pytest.approx([2 / 1.04, 2 / 1.04, 1])


class Residual(nn.Module):
    """Blocks z' = γ z + ξ W σ(W σ(z)), all divided by a constant."""

    def __init__(self, gain: float = 1.0, branch: float = 1.0, divide: float = 1.0, after: bool = False) -> None:
        super().__init__()
        self.gain, self.branch, self.divide, self.after = gain, branch, divide, after
        self.stem = nn.Linear(64, 300)
        self.inner = nn.ModuleList(nn.Linear(300, 300) for _ in range(6))
        self.outer = nn.ModuleList(nn.Linear(300, 300) for _ in range(6))
        self.head = nn.Linear(300, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for inner, outer in zip(self.inner, self.outer, strict=True):
            if self.after:
                x = F.relu(x)
                x = x + outer(F.relu(inner(x)))
            else:
                x = (self.gain * x + self.branch * outer(F.relu(inner(F.relu(x))))) / self.divide
        return self.head(F.relu(x))


@pytest.mark.parametrize(
    ("gain", "branch", "divide", "expected"),
    [(0.8, 1.0, 1.0, 0.72), (0.6, 0.5, 1.0, 2 * 0.64 / 0.25), (1.0, 1.0, 2**0.5, 2.0)],
)
def test_skip_connections_are_recognised(gain: float, branch: float, divide: float, expected: float):
    model = Residual(gain, branch, divide)
    report = critical_init_(model, generator=torch.Generator().manual_seed(0))
    by_name = {one.name: one.weight_variance for one in report.layers}
    assert by_name["outer.3"] == pytest.approx(expected)
    assert by_name["inner.3"] == by_name["head"] == 2
    kernels = mean_squares(model, unit_inputs())
    assert kernels[-1] == pytest.approx(kernels[0], rel=1.0)  # neither grown nor died over six blocks


def test_identity_skips_are_refused_or_bounded():
    model = Residual()
    before = model.stem.weight.clone()
    with pytest.raises(CriticalityError, match="γ = 1, which cannot be critical"):
        critical_init_(model)
    assert torch.equal(model.stem.weight, before)
    report = critical_init_(model, identity_skips="shrink")
    assert {one.name: one.weight_variance for one in report.layers}["outer.0"] == pytest.approx(2 / 6)
    assert any("2.52" in note for note in report.notes)  # (1 + 1/6)^6


def test_hidden_gains_can_be_declared():
    report = critical_init_(Residual(), residual_gain=0.8)
    assert {one.name: one.weight_variance for one in report.layers}["outer.0"] == pytest.approx(0.72)
    with pytest.raises(InitialisationError, match="no skip connection"):
        critical_init_(deep(nn.ReLU, 3), residual_gain=0.8)


def test_skips_behind_an_activation_are_refused():
    with pytest.raises(InitialisationError, match=r"outer\.0.*behind an activation"):
        critical_init_(Residual(after=True))


class Projection(nn.Module):
    """Two layers added, as in the first block of a ResNet's stage."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.short, self.long = nn.Linear(64, 200), nn.Linear(200, 300), nn.Linear(200, 300)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.short(x) + self.long(F.relu(x))


def test_two_layers_that_are_added_share_the_kernel():
    report = critical_init_(Projection())
    assert {one.name: one.weight_variance for one in report.layers} == {"stem": 2, "short": 0.5, "long": 1}


# refusals


def shared() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


def repeated() -> nn.Module:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.Tanh(), layer)


class Attention(nn.Module):
    """Attention by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return (self.query(x) @ self.key(x).transpose(-2, -1)).softmax(-1) @ x


class Branching(nn.Module):
    """A forward pass that asks for values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(torch.relu(x)) if x.sum() > 0 else self.second(x)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.TransformerEncoderLayer(8, 2, 16), ["self_attn (MultiheadAttention)", "norm1 (LayerNorm)", "norm2"]),
        (nn.Sequential(nn.Embedding(5, 8), nn.LSTM(8, 8)), ["0 (Embedding)", "1 (LSTM)"]),
        (nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 4)), ["1 (BatchNorm1d)"]),
        (nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4, elementwise_affine=False)), ["1 (LayerNorm)"]),
        (nn.Sequential(nn.ConvTranspose2d(4, 4, 3)), ["0 (ConvTranspose2d)"]),
        (nn.Sequential(nn.LazyLinear(4)), ["lazy"]),
        (nn.Sequential(weight_norm(nn.Linear(4, 4))), ["parametrised"]),
        (nn.Sequential(nn.Linear(4, 4, device="meta")), ["meta device"]),
        (shared(), ["2 (Linear, shares weights with 0)"]),
        (repeated(), ["0 (Linear, used more than once"]),
        (Attention(), ["matmul", "softmax"]),
        (Branching(), ["cannot be followed"]),
        (nn.ReLU(), ["no linear or convolutional layer"]),
    ],
)
def test_what_the_theory_does_not_know_is_listed_and_nothing_changed(model: nn.Module, named: list[str]):
    before = {name: one.clone() for name, one in model.state_dict().items() if _has_numbers(one)}
    with pytest.raises(InitialisationError) as caught:
        critical_init_(model)
    for one in named:
        assert one in str(caught.value)
    assert "nothing has been changed" in str(caught.value)
    for name, one in before.items():
        assert torch.equal(model.state_dict()[name], one)


def _has_numbers(one: Tensor) -> bool:
    return not (nn.parameter.is_lazy(one) or one.is_meta)


def test_an_activation_without_a_critical_point_changes_nothing():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4))
    before = model[0].weight.clone()
    with pytest.raises(CriticalityError, match="sigmoid has no critical point"):
        critical_init_(model)
    assert torch.equal(model[0].weight, before)


def test_named_parts_are_left_as_they_are():
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2)
    )
    kept = model[5].weight.clone()
    report = critical_init_(model, skip=(nn.BatchNorm1d, "5"))
    assert [one.name for one in report.layers] == ["0", "3"]
    assert torch.equal(model[5].weight, kept)
    assert any("left as they are: 1, 5" in note for note in report.notes)


def test_a_chain_can_be_declared_where_the_forward_pass_cannot_be_followed():
    with pytest.raises(InitialisationError, match="give it"):
        critical_init_(Branching(), as_chain=True)
    report = critical_init_(Branching(), "relu", as_chain=True)
    assert [one.weight_variance for one in report.layers] == [2, 2]


def test_the_report_is_a_table():
    text = str(critical_init_(deep(nn.Tanh, 3)))
    assert text.splitlines()[0].split()[:3] == ["layer", "kind", "fan-in"]
    assert len(text.splitlines()) == 4


def test_convolutions_keep_their_kernels_where_there_is_no_edge():
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, padding_mode="circular")]
    for _ in range(7):
        layers += [nn.ReLU(), nn.Conv2d(64, 64, 3, padding=1, padding_mode="circular")]
    model = nn.Sequential(*layers)
    critical_init_(model, generator=torch.Generator().manual_seed(3))
    x = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert 0.4 < float(model(x).square().mean()) / 2 < 2.5  # K = C_W · 1 in the first layer


# learning rates


def test_tanh_gets_rates_that_fall_with_the_layer_for_biases_alone():
    model = deep(nn.Tanh, depth=4, width=50)
    groups = {group["name"]: group["lr"] for group in learning_rates(model, lr=0.3)}
    assert groups["0.weight"] == pytest.approx(0.3 / 64)
    assert groups["4.weight"] == pytest.approx(0.3 / 50)
    assert [groups[f"{place}.bias"] for place in (0, 2, 4, 6)] == pytest.approx([0.3, 0.15, 0.1, 0.075])


def test_relu_shares_its_rate_among_the_layers():
    groups = {group["name"]: group["lr"] for group in learning_rates(deep(nn.ReLU, 5, 50), lr=1.0)}
    assert groups["8.bias"] == pytest.approx(1 / 5)
    assert groups["8.weight"] == pytest.approx(1 / 250)


def test_weights_of_every_layer_count_like_its_biases():
    """Contributions λ_b and λ_W K to the tangent kernel keep their ratio from layer to layer (9.4)."""
    for name in ("tanh", "elu"):
        point = critical_point(name)
        ratios = []
        for layer in (10, 1000):
            bias, weight = layer_rates(point, layer, 1000)
            ratios.append(weight * layer ** -point.exponents["p_0"] / bias)
        assert ratios[0] == pytest.approx(ratios[1], rel=1e-3)


def test_groups_hold_every_parameter_once_and_any_optimiser_takes_them():
    model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2, bias=False))
    groups = learning_rates(model, lr=0.1, skip=(nn.BatchNorm1d,))
    held = [id(one) for group in groups for one in group["params"]]
    assert sorted(held) == sorted(id(one) for one in model.parameters())
    for kind in (torch.optim.SGD, torch.optim.Adam):
        optimizer = kind(groups)
        model(torch.randn(4, 8)).sum().backward()
        optimizer.step()


def test_rates_that_do_not_exist_are_refused():
    with pytest.raises(CriticalityError, match="half-stable"):
        learning_rates(deep(nn.GELU, 3), lr=0.1)
    with pytest.raises(InitialisationError, match="positive lr"):
        learning_rates(deep(nn.ReLU, 3), lr=0.0)


@pytest.mark.slow
def test_the_page_runs_as_written(capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("transformers")
    page = Path(__file__).parents[2] / "docs" / "critical-initialisation.md"
    names: dict[str, object] = {}
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    said = capsys.readouterr().out
    assert "8 skip connections taken into account" in said
    assert "layernorm_before (LayerNorm)" in said
