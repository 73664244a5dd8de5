"""The task from a table to a tested model that says why, and through the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression

from encore.base.configuration import configure
from encore.base.errors import ConfigurationError, RunFolderError
from encore.base.progress import SilentProgress
from encore.base.runtime import Runtime
from encore.data.contracts import DataSplits
from encore.data.tabular_files import read_table
from encore.nn.creation import create_model, load
from encore.nn.export import export_model
from encore.tasks.base import TrainedModel, details_of, get_task, list_tasks
from encore.tasks.tabular_classification import TASK, TabularFit, columns_of

RUNTIME = Runtime(seed=1, device="cpu")
QUICK = {"training.epochs": 12, "training.learning_rate": 2e-2}


def trained(splits: DataSplits, folder: Path, **changes: object) -> TrainedModel:
    configuration = configure(TabularFit, {**QUICK, **changes})
    return TASK.train(
        splits, configuration, runtime=RUNTIME, folder=folder, progress=SilentProgress(), stage="training"
    )


def opened(source: str, **changes: object) -> DataSplits:
    return TASK.open_data(source, configure(TabularFit, {**QUICK, **changes}), RUNTIME, SilentProgress())


@pytest.fixture(scope="module")
def wine(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataSplits, TrainedModel, Path]:
    folder = tmp_path_factory.mktemp("wine")
    splits = opened("wine")
    return splits, trained(splits, folder), folder


def mixed_table(path: Path, count: int = 60) -> Path:
    """Two classes that a number and a colour tell apart, with an id and a column of codes."""
    random = np.random.default_rng(0)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["id", "length", "colour", "species"])
        for index in range(count):
            kind = index % 2
            colour = ["red", "pink"][random.integers(2)] if kind else ["blue", "green"][random.integers(2)]
            table.writerow([f"row{index}", round(2 * kind + 0.7 * float(random.normal()), 3), colour, "ab"[kind]])
    return path


def test_the_task_is_found_by_looking():
    assert "tabular-classification" in list_tasks()
    assert get_task("tabular-classification") is TASK


def test_a_network_does_as_well_as_logistic_regression_of_scikit_learn(wine):
    splits, outcome, _ = wine

    def standard(part) -> np.ndarray:
        return (part.features.numpy() - splits.view.mean) / splits.view.std

    reference = LogisticRegression(max_iter=2000).fit(standard(splits.train), splits.train.labels)
    due = 100 * reference.score(standard(splits.test), splits.test.labels)
    assert outcome.test["accuracy"] >= due - 4


def test_what_is_loaded_again_measures_what_was_measured(wine):
    splits, outcome, folder = wine
    again = TASK.measure(load(folder), splits.test, RUNTIME, SilentProgress(), "test")
    assert again == outcome.test
    assert np.sum(details_of(again)["confusion"]) == 45
    assert columns_of(load(folder)) == splits.view.columns


def test_the_same_seed_trains_the_same_weights(wine, tmp_path: Path):
    splits, outcome, _ = wine
    again = trained(splits, tmp_path).model.state_dict()
    assert all(tensor.equal(again[name]) for name, tensor in outcome.model.state_dict().items())


def test_the_model_sees_the_training_part_standardised(wine):
    splits, outcome, _ = wine
    inputs = outcome.model.preprocess(splits.train.features)
    assert inputs.mean(0).abs().max() < 1e-4
    assert (inputs.std(0, correction=0) - 1).abs().max() < 1e-3


def test_fewer_training_rows_keep_every_class():
    splits = opened("iris", train_samples=9)
    assert sorted(splits.train.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert splits.sizes()["test"] == 38


def test_prototypes_explain_themselves_in_the_words_of_the_table(tmp_path: Path):
    table = mixed_table(tmp_path / "flowers.csv")
    splits = opened(str(table), ignore="id")
    outcome = trained(splits, tmp_path / "run", model="prototypes_table", ignore="id", **{"training.epochs": 25})
    written = json.loads((tmp_path / "run" / "prototypes.json").read_text())["prototypes"]
    assert len(written) == 6
    assert {entry["supports"] for entry in written} == {"a", "b"}
    assert all(entry["row"].keys() == {"length", "colour"} for entry in written)
    by_name = dict(zip(splits.train.names, splits.train.labels, strict=True))
    for entry in written:
        assert splits.train.classes[by_name[entry["nearest"]["name"]]] == entry["nearest"]["class"]
    (tmp_path / "out").mkdir()
    rows = TASK.predict(outcome.model, [table], tmp_path / "out", RUNTIME, SilentProgress())
    assert len(rows) == 60
    assert rows == [json.loads(line) for line in (tmp_path / "out" / "predictions.jsonl").read_text().splitlines()]
    first = rows[0]
    features = torch.from_numpy(columns_of(outcome.model).features_of(read_table(table)))
    logits = outcome.model(outcome.model.preprocess(features[:1]))[0].detach()
    contributions = [reason["contributions"] for reason in first["reasons"]]
    for place, name in enumerate("ab"):
        assert sum(one[name] for one in contributions) == pytest.approx(float(logits[place]), abs=1e-4)
    distances = [reason["distance"] for reason in first["reasons"]]
    assert distances == sorted(distances)
    reason = first["reasons"][0]
    assert set(reason["matching"]) <= {"length", "colour"}
    assert reason["row"]["colour"] in {"red", "pink", "blue", "green"}
    assert Image.open(tmp_path / "out" / first["picture"]).width > 300
    assert rows[-1]["picture"] is None


def test_prototypes_can_become_training_rows_and_mixed_ones_be_dropped(tmp_path: Path):
    table = mixed_table(tmp_path / "flowers.csv")
    splits = opened(str(table), ignore="id")
    words = {"model": "prototypes_table", "replace_cases": True, "least_purity": 0.6, "training.epochs": 15}
    model = trained(splits, tmp_path / "run", **words).model
    codes = model.encode(model.preprocess(splits.train.features))
    assert model.nearest(codes)[1].max() < 1e-4
    written = json.loads((tmp_path / "run" / "prototypes.json").read_text())["prototypes"]
    assert all(entry["replaced_by_nearest"] and entry["nearest"]["distance"] < 1e-4 for entry in written)
    assert len(written) == model.num_prototypes <= 6
    again = load(tmp_path / "run")
    assert again.num_prototypes == model.num_prototypes
    configuration = configure(TabularFit, {"replace_cases": True})
    with pytest.raises(ConfigurationError, match="learns no cases"):
        TASK.make_model(splits, configuration, 0)


def test_the_purest_prototype_of_every_class_stays(tmp_path: Path):
    words = {"model": "prototypes_table", "least_purity": 1.0, "training.epochs": 1}
    model = trained(opened("iris"), tmp_path / "run", **words).model
    assert sorted(set(model.owners.tolist())) == [0, 1, 2]
    assert load(tmp_path / "run").num_prototypes == model.num_prototypes


def test_sizes_that_contradict_the_table_and_classes_without_rows_are_refused(wine):
    for key, due in (("num_features", 13), ("num_classes", 3)):
        changes = {f"model_arguments.{key}": due + 1}
        with pytest.raises(ConfigurationError, match=f"{key} is {due + 1}, but wine has {due}"):
            TASK.make_model(wine[0], configure(TabularFit, {**QUICK, **changes}), 0)
        TASK.make_model(wine[0], configure(TabularFit, {**QUICK, f"model_arguments.{key}": due}), 0)
    with pytest.raises(ConfigurationError, match="none is of the class"):
        opened("iris", train_samples=2)


def test_columns_may_be_called_like_numbers(encore, clean_directory: Path):
    Path("t.csv").write_text("size,2020,2021\n" + "".join(f"{i},{i % 7},{'ab'[i % 2]}\n" for i in range(30)))
    words = ("--set", "target=2021", "--epochs", 1, "--device", "cpu", "--out", "run")
    answer = encore("fit", "tabular-classification", "t.csv", "--set", "ignore=2020", *words)
    assert answer.code == 0, answer.err
    assert "column 'size' seems to number the rows" in answer.err
    described = json.loads(Path("run", "config.json").read_text())["encore"]["details"]["table"]
    assert [one["name"] for one in described["columns"]] == ["size"]
    assert configure(TabularFit, {"ignore": [2020, "b"]}).ignore == ("2020", "b")
    assert configure(TabularFit, {"ignore": "[id, first name]"}).ignore == ("id", "first name")


def test_training_goes_on_from_weights_of_a_table_with_the_same_columns_only(wine, tmp_path: Path):
    splits, outcome, folder = wine
    configuration = configure(TabularFit, {**QUICK, "weights": str(folder)})
    model = TASK.make_model(splits, configuration, 0)
    assert model.head.weight.equal(outcome.model.head.weight)
    assert model.standardisation.mean.equal(outcome.model.standardisation.mean)
    columns = splits.view.columns
    renamed = columns.model_copy(
        update={"columns": (columns.columns[0].model_copy(update={"name": "x"}), *columns.columns[1:])}
    )
    with pytest.raises(ConfigurationError, match="other columns"):
        TASK.make_model(replace(splits, view=replace(splits.view, columns=renamed)), configuration, 0)


def test_a_model_of_pictures_is_refused_before_it_is_trained(wine):
    with pytest.raises(ConfigurationError, match="does not take rows of a table"):
        TASK.make_model(wine[0], configure(TabularFit, {"model": "hornet_tiny_7x7"}), 0)


def test_a_model_without_columns_says_so():
    with pytest.raises(RunFolderError, match="which columns"):
        columns_of(create_model("mlp"))
    damaged = create_model("mlp")
    damaged.details = {"table": {"columns": 3}}
    with pytest.raises(RunFolderError, match="damaged"):
        columns_of(damaged)


@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_exported_models_take_rows_in_the_units_of_the_table(wine, format: str, tmp_path: Path):
    splits, _, folder = wine
    model = load(folder)
    deployment = TASK.deployed(model)
    features = splits.test.features[:3]
    assert torch.allclose(deployment.module(features), model(model.preprocess(features)), atol=1e-5)
    suffix = {"onnx": ".onnx", "torch-export": ".pt2"}[format]
    exported = export_model(model, deployment, tmp_path / f"model{suffix}", format)
    assert exported.inputs[0].shape == ("batch", 13)
    assert exported.max_difference < 1e-4


def test_fit_predict_and_evaluate_through_the_command_line(encore, clean_directory: Path):
    table = mixed_table(Path("flowers.csv"))
    words = ["--set", "ignore=id", "--set", "missing=median", "--epochs", 3, "--device", "cpu", "--json"]
    answer = encore("fit", "tabular-classification", table, *words, "--out", "run")
    assert answer.code == 0, answer.err
    metrics = json.loads(answer.out)["metrics"]
    assert {"confusion.png", "examples.png", "metrics.json", "config.json"} <= {
        one.name for one in Path("run").iterdir()
    }
    assert json.loads(encore("evaluate", "run", table, "--json").out)["metrics"] == pytest.approx(metrics)
    Path("new.csv").write_text("id,colour,length\nx,red,\ny,blue,0.1\n")
    rows = json.loads(encore("predict", "run", "new.csv", "--out", "out", "--json").out)["predictions"]
    assert [row["row"] for row in rows] == [1, 2]
    assert rows[0]["class"] == rows[0]["top"][0]["class"]
    assert Path("out", rows[0]["picture"]).is_file()
    assert "reasons" not in rows[0]


def test_a_paper_of_pictures_and_tables_is_fitted_for_what_comes(encore, clean_directory: Path):
    table = mixed_table(Path("flowers.csv"))
    answer = encore("fit", "prototypes", table, "--set", "ignore=id", "--epochs", 2, "--out", "run", "--json")
    assert answer.code == 0, answer.err
    described = json.loads(Path("run", "config.json").read_text())["encore"]
    assert described["name"] == "prototypes_table"
    assert described["task"] == "tabular-classification"
    assert [one["name"] for one in described["details"]["table"]["columns"]] == ["length", "colour"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit", "tabular-classification", "gone.csv"), "gone.csv does not exist"),
        (("fit", "tabular-classification", "iriss"), "did you mean 'iris'"),
        (("fit", "tabular-classification", "digits"), "the data set 'digits' is for classification"),
        (("fit", "lossless-compression", "iris"), "'iris' holds tables, not pictures"),
        (("fit", "tabular-classification", "t.csv", "--set", "target=kind"), "has no column 'kind'"),
        (("fit", "tabular-classification", "t.csv", "--set", "model=hornet_tiny_7x7"), "does not take rows"),
        (("fit", "tabular-classification", "t.csv", "--set", "missing=mean"), "'missing' cannot be 'mean'"),
        (("fit", "prototypes", "holes.csv"), "missing=median"),
        (("fit", "prototypes", "ragged.csv"), "line 3 has 1 cells"),
        (("fit", "prototypes", "single.csv"), "one class only"),
    ],
)
def test_what_cannot_be_used_is_answered_in_one_line(encore, clean_directory: Path, words, message: str):
    Path("t.csv").write_text("a,species\n" + "".join(f"{index},{'ab'[index % 2]}\n" for index in range(12)))
    Path("holes.csv").write_text("a,species\n" + "".join(f"{index or ''},{'ab'[index % 2]}\n" for index in range(12)))
    Path("ragged.csv").write_text("a,species\n1,x\n2\n")
    Path("single.csv").write_text("a,species\n1,x\n2,x\n3,x\n")
    answer = encore(*words, "--progress", "none")
    assert answer.code == 2
    assert message in answer.err
    assert answer.err.strip().count("\n") == 0
    assert not list(Path().glob("runs/*"))


def test_a_table_that_lacks_a_column_or_holds_a_strange_level_is_not_predicted(encore, wine, clean_directory: Path):
    Path("new.csv").write_text("alcohol\n13\n")
    answer = encore("predict", wine[2], "new.csv", "--out", "out", "--progress", "none")
    assert answer.code == 2
    assert "lacks 12 of the model's 13 columns" in answer.err
    assert not Path("out").exists()
