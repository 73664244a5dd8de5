"""What feeds each layer is read off forward passes of the user's own, and what cannot be known is refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm

from encore.nn import criticality
from encore.nn.critical_init import InitialisationError, critical_init_, learning_rates
from encore.nn.critical_report import InitialisedLayer
from encore.nn.criticality import critical_point


class Net(nn.Module):
    """Four layers a, b, c, d of one width; the forward pass is the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(8, 8) for _ in range(4))


def given(model: nn.Module, **options: object) -> dict[str, InitialisedLayer]:
    """What each layer was given, by name."""
    return {one.name: one for one in critical_init_(model, **options).layers}  # type: ignore[arg-type]


# activations


class OwnSwish(nn.Module):
    """Written by hand, with a constant that its `repr` does not show."""

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self._beta = beta

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self._beta * x)


def test_modules_of_ones_own_are_activations():
    layers = given(nn.Sequential(nn.Linear(8, 8), OwnSwish(), nn.Linear(8, 8), OwnSwish(2.0), nn.Linear(8, 8)))
    assert layers["2"].weight_variance == pytest.approx(1.98800468, abs=1e-8)
    # σ(2z)/2 is a half-stable activation of the same weights, with a quarter of the biases
    assert layers["4"].weight_variance == pytest.approx(1.98800468, abs=1e-8)
    assert layers["4"].bias_variance == pytest.approx(0.55514317 / 4, abs=1e-8)


class ShapeOnly(nn.Module):
    """A module without parameters that is no activation."""

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], -1)


def test_modules_of_ones_own_that_reshape_are_followed():
    layers = given(nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), ShapeOnly(), nn.Linear(24, 5)))
    assert layers["3"].activation == "relu"


@pytest.mark.parametrize("inplace", [nn.SiLU(inplace=True), nn.Mish(inplace=True), nn.ELU(inplace=True)])
def test_activations_that_work_in_place_are_what_they_are_otherwise(inplace: nn.Module):
    found, expected = critical_point(inplace), critical_point(type(inplace)())
    assert found.weight_variance == pytest.approx(expected.weight_variance, rel=1e-12)
    assert found.bias_variance == pytest.approx(expected.bias_variance, rel=1e-12)


def test_each_activation_is_looked_into_once(monkeypatch: pytest.MonkeyPatch):
    count = 0
    search = criticality._positive_points

    def counted(*words: object) -> object:
        nonlocal count
        count += 1
        return search(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(criticality, "_positive_points", counted)
    critical_init_(nn.Sequential(*[one for _ in range(6) for one in (nn.Linear(4, 4), nn.CELU(0.7))]))
    assert count == 1


def test_probabilities_of_the_outputs_are_of_no_concern():
    class Classifier(Net):
        def forward(self, x: Tensor) -> Tensor:
            return F.log_softmax(self.b(F.relu(self.a(x))), dim=1)

    assert given(Classifier())["b"].weight_variance == 2
    assert given(nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4), nn.Softmax(1)))["2"].activation == "tanh"
    with pytest.raises(InitialisationError, match="Softmax"):
        critical_init_(nn.Sequential(nn.Linear(4, 4), nn.Softmax(1), nn.Linear(4, 4)))


def test_a_given_activation_must_be_met():
    model = nn.Sequential(nn.Linear(8, 8), OwnSwish(), nn.Linear(8, 8))
    with pytest.raises(InitialisationError, match="no activation can be seen"):
        critical_init_(model, "swish", skip=(OwnSwish,))
    assert given(nn.Linear(8, 8), activation="relu")[""].weight_variance == 2


def test_mixed_activations_are_noted():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8))
    assert any("gelu's K* = 3.56 everywhere" in note for note in critical_init_(model).notes)


# sums and constants


def test_half_stable_layers_that_are_added_share_their_biases_too():
    class Two(Net):
        def forward(self, x: Tensor) -> Tensor:
            z = F.gelu(self.a(x))
            return self.d(F.gelu((self.b(z) + self.c(z)) / 2))

    layers, point = given(Two()), critical_point("gelu")
    assert layers["b"].weight_variance == pytest.approx(2 * point.weight_variance)
    assert layers["b"].bias_variance == pytest.approx(2 * point.bias_variance)  # ½ as a summand, 4 for the division
    assert layers["d"].bias_variance == pytest.approx(point.bias_variance)


def test_inputs_that_the_network_scales_are_accounted_for():
    class Scaled(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.gelu(self.a(x / 2)))

    first, point = given(Scaled())["a"], critical_point("gelu")
    assert first.weight_variance / 4 + first.bias_variance == pytest.approx(point.kernel)


def nested(x: Tensor, net: Net) -> Tensor:
    z = net.a(x)
    h = net.b(F.relu(z))
    return net.d(F.relu(0.8 * z + (0.6 * h + net.c(F.relu(h)))))


def parallel(x: Tensor, net: Net) -> Tensor:
    z = net.a(x)
    return net.d(F.relu(0.8 * z + net.b(F.relu(z)) + net.c(F.relu(z))))


@pytest.mark.parametrize("forward", [nested, parallel])
def test_sums_of_skip_connections_are_refused(forward: object):
    class Sums(Net):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x, self)  # type: ignore[operator]

    with pytest.raises(InitialisationError, match="skip connection"):
        critical_init_(Sums())


def test_zero_padding_is_noted():
    assert "zero padding" in critical_init_(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1))).notes[0]
    assert not critical_init_(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"))).notes


def test_tracing_leaves_nothing_on_the_model():
    class Constant(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(F.relu(self.a(x) * torch.tensor(0.5)))

    model = Constant()
    with pytest.raises(InitialisationError, match="by itself"):
        critical_init_(model)
    assert not [name for name in vars(model) if "constant" in name]


# wrappers, and what is skipped


def small() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6), nn.Linear(6, 6))


def test_wrappers_are_looked_through():
    assert list(given(nn.DataParallel(small()))) == ["0", "2", "3"]


@pytest.mark.slow
def test_compiled_models_are_looked_through():
    assert list(given(torch.compile(small()))) == ["0", "2", "3"]  # type: ignore[arg-type]


def test_behind_a_skipped_layer_come_preactivations():
    layers = given(small(), skip=("2",))
    assert [layers[name].weight_variance for name in ("0", "3")] == [1, 1]
    model = nn.Sequential(nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6), nn.GELU(), nn.Linear(6, 6))
    assert given(model, skip="0", input_second_moment=9.0)["2"].weight_variance == pytest.approx(1.98305826)


def test_skip_takes_one_or_many_and_no_strangers():
    model = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6))
    for skip in ("1", nn.BatchNorm1d, ["1"], (nn.BatchNorm1d, nn.LayerNorm)):
        assert list(given(model, skip=skip)) == ["0", "3"]
    for skip in ("norm", ("1", "typo"), (3,)):
        with pytest.raises(InitialisationError, match="which the model does not hold"):
            critical_init_(model, skip=skip)  # type: ignore[arg-type]
        with pytest.raises(InitialisationError, match="which the model does not hold"):
            learning_rates(model, lr=0.1, skip=skip)  # type: ignore[arg-type]


def test_weights_that_are_tied_to_what_is_skipped_are_refused():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.hidden, self.out = nn.Embedding(8, 8), nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
            self.out.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.out(F.relu(self.hidden(self.table(x))))

    with pytest.raises(InitialisationError, match=r"out .*shares weights with table"):
        critical_init_(Tied(), skip=(nn.Embedding,))


def test_weights_that_are_computed_before_each_pass_are_refused():
    pruned = small()
    prune.l1_unstructured(pruned[2], "weight", 0.5)
    for model in (pruned, nn.Sequential(nn.Linear(4, 4), spectral_norm(nn.Linear(4, 4)))):
        with pytest.raises(InitialisationError, match="parametrised"):
            critical_init_(model)


def test_frozen_layers_are_drawn_with_a_note():
    model = small()
    model[2].requires_grad_(False)
    assert any("drawn anew although frozen: 2" in note for note in critical_init_(model).notes)


# chance


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_one_generator_gives_one_start_in_every_precision(kind: torch.dtype):
    reference, model = small(), small().to(kind)
    for one in (reference, model):
        critical_init_(one, generator=torch.Generator().manual_seed(5))
    for expected, found in zip(reference.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found.to(torch.float32), expected, rtol=1e-2, atol=1e-6)


def test_without_a_generator_torchs_own_decides():
    first, second = small(), small()
    for model in (first, second):
        torch.manual_seed(3)
        critical_init_(model)
    assert torch.equal(first[2].weight, second[2].weight)
    before = torch.get_rng_state()
    critical_init_(first, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_what_is_no_option_is_refused():
    for options, said in (({"generator": 3}, "generator"), ({"identity_skips": "keep"}, "refuse")):
        with pytest.raises(InitialisationError, match=said):
            critical_init_(small(), **options)  # type: ignore[arg-type]
    with pytest.raises(InitialisationError, match="no network"):
        critical_init_(3)  # type: ignore[arg-type]


# signals over an ensemble


class TanhResidual(nn.Module):
    """Ten blocks z' = (z + W tanh z)/√2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(64, 150)
        self.blocks = nn.ModuleList(nn.Linear(150, 150) for _ in range(10))

    def forward(self, x: Tensor) -> Tensor:
        z = self.stem(x)
        for block in self.blocks:
            z = (z + block(torch.tanh(z))) * math.sqrt(0.5)
        return z


def test_a_tanh_network_with_skips_has_the_kernel_of_the_recursion():
    x = torch.randn(8, 64, generator=torch.Generator().manual_seed(0))
    x = x / x.square().mean(1, keepdim=True).sqrt()
    kernel, found = 1.0, []
    for _ in range(10):
        kernel = kernel / 2 + criticality.g("tanh", kernel) / 2  # (B.11) at γ² = ½
    for seed in range(30):
        model = TanhResidual()
        critical_init_(model, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            found.append(float(model(x).square().mean()))
    assert sum(found) / len(found) == pytest.approx(kernel, rel=0.04)
