"""Models of rows: they know what is usual in a table, and logistic regression is the one without a hidden layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from encore.base import registry
from encore.base.errors import ConfigurationError, InputError
from encore.nn.creation import create_model, load
from encore.nn.model import num_parameters
from encore.nn.tables.row_model import RowModel


def test_every_promised_model_takes_rows_and_answers_with_scores():
    names = [
        name for name in registry.list_models(task="tabular-classification") if name in ("mlp", "logistic_regression")
    ]
    assert names == ["mlp", "logistic_regression"]
    for name in names:
        model = create_model(name, num_features=7, num_classes=3)
        assert isinstance(model, RowModel)
        assert model.task == "tabular-classification"
        assert model(model.preprocess(torch.randn(5, 7))).shape == (5, 3)


def test_logistic_regression_is_one_linear_layer():
    assert num_parameters(create_model("logistic_regression", num_features=30, num_classes=2)) == 31 * 2
    assert num_parameters(create_model("mlp", num_features=30, num_classes=2, hidden=[10])) == 31 * 10 + 11 * 2


def test_what_is_usual_is_learnt_undone_and_saved(tmp_path: Path):
    rows = 100 + 5 * torch.randn(50, 4)
    rows[:, 3] = 2
    model = create_model("mlp", num_features=4, num_classes=2)
    model.standardisation.learn(rows.mean(0), rows.std(0, correction=0))
    inputs = model.preprocess(rows)
    assert inputs.mean(0).abs().max() < 1e-4
    assert torch.allclose(inputs[:, :3].std(0, correction=0), torch.ones(3), atol=1e-4)
    assert (inputs[:, 3] == 0).all()
    assert torch.allclose(model.in_units(inputs), rows, atol=1e-3)
    model.details = {"table": {"target": "y", "columns": []}}
    model.save(tmp_path)
    again = load(tmp_path)
    assert again.preprocess(rows).equal(inputs)
    assert again.details == model.details
    assert "details" not in create_model("mlp").description()


def test_rows_of_another_width_and_layers_that_cannot_be_are_refused():
    model = create_model("mlp", num_features=4, num_classes=2)
    with pytest.raises(InputError, match=r"\(B, 4\) is due"):
        model.preprocess(torch.zeros(2, 5))
    for arguments in ({"hidden": [0]}, {"dropout": 1.0}, {"num_features": 0}):
        with pytest.raises(ConfigurationError):
            create_model("mlp", **arguments)
