"""The network of Prototypes: the paper's sizes, the loss term by term, and what may stand in its parts' places."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from encore.base.errors import CheckpointError, ConfigurationError, DataError, InputError, UnknownNameError
from encore.nn.creation import create_model, from_official, load
from encore.nn.model import num_parameters
from encore.papers.prototypes import weights
from encore.papers.prototypes.autoencoder import SameConvolution, SameTransposedConvolution, same_padding
from encore.papers.prototypes.prototype_network import PrototypeNetwork, interpretability_terms, squared_distances

GOLDEN = Path(__file__).resolve().parents[4] / "shared" / "golden"
needs_golden = pytest.mark.skipif(not GOLDEN.is_dir(), reason="the golden vectors are not here")
TERMS = {
    "loss": "total_error",
    "class_error": "class_error",
    "reconstruction": "ae_error",
    "r1": "error_1",
    "r2": "error_2",
}


def pictures(count: int = 6, side: int = 28, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def one_hot(labels: Tensor, num_classes: int = 10) -> Tensor:
    return F.one_hot(labels, num_classes).double()


class Given(PrototypeNetwork):
    """Codes and reconstructions as they are handed in."""

    def __init__(self, codes: Tensor, decoded: Tensor, prototypes: Tensor, head: Tensor) -> None:
        super().__init__(torch.nn.Identity(), torch.nn.Identity(), codes.shape[1], len(prototypes), head.shape[1])
        self.codes, self.decoded = codes, decoded
        self.prototypes = torch.nn.Parameter(prototypes.clone())
        self.head.weight = torch.nn.Parameter(head.T.clone())

    def encode(self, inputs: Tensor) -> Tensor:
        return self.codes

    def decode(self, codes: Tensor) -> Tensor:
        return self.decoded


# the paper's network


def test_the_network_of_mnist_has_the_papers_parts():
    model = create_model("prototypes")
    parts = {name: num_parameters(part) for name, part in model.named_children()}
    assert parts == {"encoder": 21_706, "decoder": 21_697, "head": 150}
    assert num_parameters(model) == 44_153
    assert model.encode(pictures()).shape == (6, 40)
    assert model.decode(torch.rand(6, 40)).shape == (6, 1, 28, 28)
    assert model(pictures()).shape == (6, 10)


def test_it_begins_as_the_official_code_does():
    torch.manual_seed(0)
    model = create_model("prototypes")
    for values in (model.prototypes, model.head.weight):
        assert 0 <= values.min() < 0.1
        assert 0.9 < values.max() < 1
    assert model.encoder[1].weight.detach().std() == pytest.approx(0.01, rel=0.05)
    assert not any(layer.bias.any() for layer in (*model.encoder, *model.decoder))


def test_prototypes_are_learnt():
    model = create_model("prototypes")
    model.own_loss(pictures(), torch.eye(10)[:6])["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.prototypes.grad.abs().sum() > 0


@pytest.mark.parametrize(("length", "due"), [(28, (0, 1)), (14, (0, 1)), (7, (1, 1)), (4, (0, 1)), (1, (1, 1))])
def test_padding_is_tensorflows(length: int, due: tuple[int, int]):
    assert same_padding(length) == due


@pytest.mark.parametrize(("height", "width"), [(28, 28), (7, 8), (5, 1)])
def test_the_transposed_convolution_is_the_transpose_of_the_convolution(height: int, width: int):
    torch.manual_seed(0)
    down, up = SameConvolution(2, 3), SameTransposedConvolution(3, 2, (height, width))
    up.weight.data.copy_(down.weight.data)
    x = torch.randn(1, 2, height, width)
    y = torch.randn_like(down(x))
    assert torch.isclose((down(x) * y).sum(), (x * up(y)).sum(), atol=1e-5)


@needs_golden
def test_the_loss_and_its_gradients_are_those_of_the_slow_reference():
    golden = load_file(GOLDEN / "prototypes_losses.safetensors")
    codes, decoded = (golden[name].clone().requires_grad_() for name in ("features", "decoded"))
    head = golden["state.last_layer_w"]
    model = Given(codes, decoded, golden["state.prototype_feature_vectors"], head)
    terms = model.own_loss(golden["input_flat"], one_hot(golden["labels"], 4))
    for ours, theirs in TERMS.items():
        assert torch.allclose(terms[ours], golden[theirs][0], rtol=1e-9)
    terms["loss"].backward()
    found = {
        "features": codes.grad,
        "decoded": decoded.grad,
        "prototypes": model.prototypes.grad,
        "last_layer_w": model.head.weight.grad.T,
    }
    for name, gradient in found.items():
        assert torch.allclose(gradient, golden[f"grad.{name}"], rtol=1e-9, atol=1e-9), name
    assert torch.allclose(model.distances(codes), golden["squared_distances"], rtol=1e-9)


def official_state() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    golden = load_file(GOLDEN / "prototypes_network.safetensors")
    return golden, {name.removeprefix("state."): one for name, one in golden.items() if name.startswith("state.")}


@needs_golden
def test_the_official_network_answers_as_its_reference():
    golden, state = official_state()
    model = from_official("prototypes", state).double()
    model.load_state_dict(weights.convert(state))  # in float64
    x = golden["input"].permute(0, 3, 1, 2)
    codes = model.encode(x)
    last = codes.unflatten(1, (10, 2, 2)).permute(0, 2, 3, 1)
    assert torch.allclose(last, golden["encoder_layer.4"], atol=1e-9)
    assert torch.allclose(last.flatten(1), golden["features"], atol=1e-9)
    assert torch.allclose(model.decode(codes).permute(0, 2, 3, 1).flatten(1), golden["decoded"], atol=1e-9)
    assert torch.allclose(model(x), golden["logits"], rtol=1e-9, atol=1e-9)
    terms = model.own_loss(x, one_hot(golden["labels"]))
    for ours, theirs in TERMS.items():
        assert torch.allclose(terms[ours], golden[theirs][0], rtol=1e-9)


@needs_golden
def test_official_variables_are_recognised_and_tell_the_configuration():
    _, state = official_state()
    assert weights.recognises(state)
    assert not weights.recognises(create_model("prototypes").state_dict())
    name, configuration = weights.configuration(state)
    assert name == "prototypes"
    assert configuration == {
        "num_classes": 10,
        "num_prototypes": 15,
        "num_channels": 1,
        "widths": [32, 32, 32, 10],
        "image_size": [28, 28],
    }
    with pytest.raises(CheckpointError, match="no square map"):
        weights.convert({**state, weights.PROTOTYPES: state[weights.PROTOTYPES][:, :30]})


# distances and terms


def test_distances_are_squared_and_never_negative():
    generator = torch.Generator().manual_seed(0)
    ours = 1000 + torch.randn(50, 40, generator=generator)
    assert (squared_distances(ours, ours) >= 0).all()
    small = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    other = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    slow = np.array([[((a - b) ** 2).sum() for b in other.numpy()] for a in small.numpy()])
    assert np.allclose(squared_distances(small, other).numpy(), slow)


def test_distances_keep_single_precision_under_autocast():
    codes = 10 + torch.rand(8, 40)
    exact = squared_distances(codes, codes[:3])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(squared_distances(codes, codes[:3]), exact)


def test_scores_keep_single_precision_in_half_precision_networks_and_under_autocast():
    torch.manual_seed(0)
    model = create_model("prototypes")
    distances = 1000 + torch.rand(8, 15)
    exact = model.scores(distances)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.scores(distances), exact)
        assert model(pictures()).dtype == torch.float32
    half = create_model("prototypes").bfloat16().eval()
    x = pictures().bfloat16()
    assert half(x).dtype == torch.float32
    assert len(half.reasons(x)) == 6


def test_prototypes_of_other_classes_come_to_belong_to_the_new_ones(tmp_path: Path):
    create_model("prototypes", per_class=True).save(tmp_path)
    model = create_model("prototypes", weights=tmp_path, num_classes=3, fresh=("head",))
    assert model.owners.tolist() == [0, 1, 2] * 5
    assert model.class_of_prototypes().tolist() == model.owners.tolist()
    same = create_model("prototypes", weights=tmp_path)
    assert same.owners.tolist() == [*range(10), *range(5)]


def test_terms_of_owned_prototypes_look_at_their_own_class():
    distances = torch.tensor([[1.0, 9.0, 5.0], [2.0, 3.0, 0.5], [4.0, 7.0, 6.0]])
    targets = torch.eye(4)[[0, 1, 3]]
    owners = torch.tensor([0, 1, 2])  # class 2 has no sample, class 3 no prototype
    terms = interpretability_terms(distances, targets, owners)
    assert terms["r1"] == (1.0 + 3.0) / 2
    assert terms["r2"] == (1.0 + 3.0) / 2
    free = interpretability_terms(distances, targets)
    assert free["r1"] == (1.0 + 3.0 + 0.5) / 3
    assert free["r2"] == (1.0 + 0.5 + 4.0) / 3


def test_mixed_targets_are_learnt_from():
    torch.manual_seed(0)
    model = create_model("prototypes", per_class=True)
    mixed = torch.full((6, 10), 0.1)
    assert all(term.isfinite() for term in model.own_loss(pictures(), mixed).values())


# reasons and cases


def test_contributions_of_all_prototypes_add_up_to_the_logits():
    torch.manual_seed(0)
    model = create_model("prototypes").eval()
    torch.nn.init.normal_(model.head.weight)
    model.classes = tuple("abcdefghij")
    x = pictures(3)
    logits = model(x).detach()
    for row, reasons in enumerate(model.reasons(x)):
        assert [one.distance for one in reasons] == sorted(one.distance for one in reasons)
        assert sorted(one.case for one in reasons) == list(range(15))
        for number, name in enumerate(model.classes):
            total = sum(one.contributions[name] for one in reasons)
            assert total == pytest.approx(float(logits[row, number]), rel=1e-4, abs=1e-5)
        best = sum(one.contribution for one in reasons)
        assert best == pytest.approx(float(logits[row].max()), rel=1e-4, abs=1e-5)
        assert reasons[0].shown.shape == (1, 28, 28)
        weight = model.head.weight[:, reasons[0].case]
        assert reasons[0].supports == model.classes[int(weight.argmin())]


def test_replaced_prototypes_are_the_nearest_codes():
    torch.manual_seed(0)
    model = create_model("prototypes", num_prototypes=4)
    codes = torch.rand(30, 40)
    slow = [min(range(30), key=lambda one: float((codes[one] - p).square().sum())) for p in model.prototypes.detach()]
    assert model.replace_by_nearest(codes).tolist() == slow
    assert torch.equal(model.prototypes.data, codes[slow])


def test_prototypes_of_a_class_are_replaced_by_samples_of_it():
    torch.manual_seed(0)
    model = create_model("prototypes", num_classes=3, num_prototypes=6, per_class=True)
    assert model.owners.tolist() == [0, 1, 2, 0, 1, 2]
    assert model.class_of_prototypes().tolist() == [0, 1, 2, 0, 1, 2]
    labels = torch.arange(30) % 3
    found = model.replace_by_nearest(torch.rand(30, 40), labels)
    assert torch.equal(labels[found], model.owners)
    with pytest.raises(DataError, match="no sample"):
        model.nearest(torch.rand(4, 40), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("per_class", [False, True])
def test_a_pruned_network_keeps_the_rest_and_can_be_saved(tmp_path: Path, per_class: bool):
    torch.manual_seed(0)
    model = create_model("prototypes", num_classes=3, num_prototypes=6, per_class=per_class).eval()
    kept = [4, 5, 0]
    prototypes, head = model.prototypes.data[kept], model.head.weight.data[:, kept]
    model.prune(kept)
    assert torch.equal(model.prototypes.data, prototypes)
    assert torch.equal(model.head.weight.data, head)
    model.save(tmp_path)
    again = load(tmp_path)
    assert again.num_prototypes == 3
    assert torch.equal(again(pictures()), model(pictures()))
    with pytest.raises(ConfigurationError, match="were to be kept"):
        model.prune([7])


def test_a_class_keeps_one_of_its_own_prototypes():
    model = create_model("prototypes", num_classes=3, num_prototypes=6, per_class=True)
    with pytest.raises(ConfigurationError, match="a class has none"):
        model.prune([0, 1, 3])


# other pictures, other encoders


def test_a_grey_network_takes_the_mean_of_the_channels():
    model = create_model("prototypes").eval()
    x = pictures(channels=3)
    assert torch.equal(model(x), model(x.mean(1, keepdim=True)))
    colours = create_model("prototypes", num_channels=3).eval()
    assert colours.decode(colours.encode(x)).shape == x.shape


@pytest.mark.parametrize(("height", "width"), [(64, 64), (33, 20), (8, 8)])
def test_pictures_may_have_any_size(height: int, width: int):
    model = create_model("prototypes", image_size=[height, width], num_channels=3)
    x = torch.rand(2, 3, height, width)
    assert model.decode(model.encode(x)).shape == x.shape
    assert model.own_loss(x, torch.eye(10)[:2])["loss"].isfinite()


TINY = {"depths": [1, 1], "hidden_sizes": [8, 8], "embedding_size": 8, "layer_type": "basic"}


@pytest.mark.parametrize("name", ["prototypes", "prototypes_twin"])
def test_a_trained_encoder_is_not_asked_for_again(tmp_path: Path, name: str):
    trained = create_model("resnet", **TINY)
    trained.preprocessing = replace(trained.preprocessing, mean=(0.1, 0.2, 0.3), scale=2.0)
    trained.save(tmp_path / "encoder")
    asked = {"image_size": [32, 32], "num_channels": 3, "encoder": "resnet"}
    model = create_model(name, **asked, encoder_arguments={"weights": str(tmp_path / "encoder")}).eval()
    assert torch.equal(next(model.encoder.backbone.parameters()), next(trained.parameters()))
    model.save(tmp_path / "whole")
    shutil.rmtree(tmp_path / "encoder")
    again = load(tmp_path / "whole")
    assert torch.equal(again(pictures(side=32, channels=3)), model(pictures(side=32, channels=3)))


@pytest.mark.parametrize("decoder", ["upsampled", "transposed"])
def test_a_registered_network_may_encode(decoder: str):
    model = create_model(
        "prototypes", image_size=[32, 32], num_channels=3, encoder="resnet", encoder_arguments=TINY, decoder=decoder
    ).eval()
    x = torch.rand(2, 3, 32, 32)
    assert model.decode(model.encode(x)).shape == x.shape
    model.own_loss(x, torch.eye(10)[:2])["loss"].backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


def test_the_twin_has_a_layer_in_the_place_of_the_prototypes():
    twin = create_model("prototypes_twin")
    assert num_parameters(twin) == 21_706 + 40 * 15 + 15 + 15 * 10 + 10
    assert twin(pictures()).shape == (6, 10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_prototypes": 0}, "num_prototypes is 0"),
        ({"num_prototypes": 5, "per_class": True}, "at least 10"),
        ({"num_prototypes": 1.5}, "num_prototypes is 1.5"),
        ({"r1_weight": -1.0}, "negative weight"),
        ({"r2_weight": float("nan")}, "not finite"),
        ({"widths": [8, 2.5]}, "widths is"),
        ({"encoder": 3}, "encoder is 3"),
        ({"num_channels": 2}, "num_channels is 2"),
        ({"image_size": [0, 28]}, "image_size is"),
        ({"widths": []}, "widths is"),
        ({"decoder": "bilinear"}, "decoder is 'bilinear'"),
        ({"encoder_arguments": {"depth": 3}}, "without an encoder"),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(arguments: dict[str, object], words: str):
    with pytest.raises(ConfigurationError, match=words) as caught:
        create_model("prototypes", **arguments)
    assert "\n" not in str(caught.value)


def test_an_unknown_encoder_is_named_with_its_neighbours():
    with pytest.raises(UnknownNameError, match="resnet18"):
        create_model("prototypes", encoder="resnet81")


def test_pictures_of_another_size_are_refused():
    with pytest.raises(InputError, match="28 × 28 are due"):
        create_model("prototypes")(pictures(side=32))
