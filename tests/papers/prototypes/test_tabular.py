"""The paper's idea on tables: the same loss, the same reasons, rows in the place of pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.nn.creation import create_model, load
from encore.nn.model import num_parameters
from encore.tasks.own_ways import GivesReasons, HasOwnLoss
from encore.tasks.tabular_classification import TASK, TabularFit

RUNTIME = Runtime(seed=0, device="cpu")


@pytest.fixture(scope="module")
def cancer(tmp_path_factory: pytest.TempPathFactory):
    """Splits of breast cancer, a network trained on it, and its folder."""
    configuration = configure(TabularFit, {"model": "prototypes_table", "training.epochs": 30})
    splits = TASK.open_data("breast_cancer", configuration, RUNTIME, SilentProgress())
    folder = tmp_path_factory.mktemp("cancer")
    outcome = TASK.train(
        splits, configuration, runtime=RUNTIME, folder=folder, progress=SilentProgress(), stage="training"
    )
    return splits, outcome, folder


def test_its_parts_have_as_many_parameters_as_their_widths_say():
    model = create_model("prototypes_table", num_features=30, num_classes=2, hidden=[32], code_size=8)
    encoder, decoder = 31 * 32 + 33 * 8, 9 * 32 + 33 * 30
    assert num_parameters(model) == encoder + decoder + 6 * 8 + 6 * 2
    assert isinstance(model, HasOwnLoss)
    assert isinstance(model, GivesReasons)


@torch.no_grad()
def test_the_loss_is_the_sum_of_four_terms_worked_out_slowly():
    torch.manual_seed(0)
    model = create_model("prototypes_table", num_features=5, num_classes=2, num_prototypes=4, per_class=False)
    inputs, labels = torch.randn(7, 5), torch.tensor([0, 1, 0, 1, 1, 0, 0])
    codes = model.encoder(inputs)
    distances = torch.stack([torch.stack([((code - one) ** 2).sum() for one in model.prototypes]) for code in codes])
    logits = distances @ model.head.weight.T
    due = {
        "class_error": -sum(logits[row].log_softmax(0)[label] for row, label in enumerate(labels)) / 7,
        "reconstruction": sum(((model.decoder(code) - row) ** 2).sum() for code, row in zip(codes, inputs, strict=True))
        / 7,
        "r1": distances.min(0).values.mean(),
        "r2": distances.min(1).values.mean(),
    }
    terms = model.own_loss(inputs, torch.nn.functional.one_hot(labels, 2).float())
    for name, value in due.items():
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-4), name
    due_loss = 20 * due["class_error"] + due["reconstruction"] + due["r1"] + due["r2"]
    assert float(terms["loss"]) == pytest.approx(float(due_loss), rel=1e-4)


def test_prototypes_learn_with_everything_else(cancer):
    splits, outcome, _ = cancer
    fresh = TASK.make_model(splits, configure(TabularFit, {"model": "prototypes_table"}), seed=0)
    for name, tensor in outcome.model.named_parameters():
        assert not tensor.equal(dict(fresh.named_parameters())[name]), name


def test_it_reads_breast_cancer_and_still_does_when_prototypes_become_training_rows(cancer):
    splits, outcome, folder = cancer
    assert outcome.test["accuracy"] >= 94
    model = load(folder)
    labels = torch.tensor(splits.train.labels)
    kept = model.replace_by_nearest(model.encode(model.preprocess(splits.train.features)), labels)
    assert labels[kept].equal(model.owners)
    replaced = TASK.measure(model, splits.test, RUNTIME, SilentProgress(), "test")["accuracy"]
    assert replaced is not None
    assert replaced >= 90


def test_a_decoded_prototype_is_a_row_in_the_range_of_the_table(cancer):
    splits, outcome, _ = cancer
    rows = outcome.model.in_units(outcome.model.decoded_prototypes())
    low, high = splits.train.features.min(0).values, splits.train.features.max(0).values
    inside = (rows > low - 0.1 * (high - low)) & (rows < high + 0.1 * (high - low))
    assert inside.float().mean() > 0.9


def test_numbers_that_cannot_be_are_refused():
    for arguments in (
        {"num_prototypes": 0},
        {"code_size": 0},
        {"hidden": [0]},
        {"num_prototypes": 2, "num_classes": 3},
    ):
        with pytest.raises(ConfigurationError):
            create_model("prototypes_table", **arguments)


def test_without_hidden_layers_codes_are_linear(tmp_path: Path):
    model = create_model("prototypes_table", num_features=6, num_classes=2, hidden=[])
    assert model.encode(torch.zeros(2, 6)).shape == (2, 8)
    assert model.decoded_prototypes().shape == (6, 6)
