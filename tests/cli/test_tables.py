"""Embedded tables through the command line: listed, written, learnt from."""

from __future__ import annotations

import json
from pathlib import Path


def test_an_embedded_table_is_written_as_csv_and_fitted_as_the_set_is(encore, clean_directory: Path):
    sets = {one["name"]: one for one in json.loads(encore("data", "list", "--json").out)["sets"]}
    assert sets["iris"]["task"] == "tabular-classification"
    assert sets["iris"]["embedded"]
    answer = encore("data", "make", "iris", "--out", "iris", "--progress", "none")
    assert answer.code == 0, answer.err
    assert sorted(path.name for path in Path("iris").iterdir()) == ["test.csv", "train.csv", "val.csv"]
    again = encore("data", "make", "iris", "--out", "iris", "--progress", "none")
    assert again.code == 2
    assert "is not empty" in again.err
    words = ("--epochs", 2, "--device", "cpu", "--json", "--progress", "none")
    named = encore("fit", "tabular-classification", "iris", *words, "--out", "named")
    folder = encore("fit", "tabular-classification", "./iris", *words, "--out", "folder")
    assert json.loads(named.out)["metrics"] == json.loads(folder.out)["metrics"]
    metrics = json.loads(Path("named", "metrics.json").read_text())
    assert metrics["data"]["sizes"] == {"train": 101, "val": 11, "test": 38}
