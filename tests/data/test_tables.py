"""Tables: what is read off them, how they are cut, and what is said of those that cannot be used."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from encore.base.errors import ConfigurationError, DataError
from encore.data.contracts import TabularDataset
from encore.data.named import named_sets
from encore.data.tables import open_table_part, open_tables, takes_table
from encore.data.tabular_columns import Columns, learn_columns
from encore.data.tabular_export import write_tables
from encore.data.tabular_files import Table, read_table

from .conftest import refusal
from .flower_table import flowers, write


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "flowers.csv", flowers())


def changed(table: Path, row: int, column: int, cell: object) -> Path:
    rows = list(csv.reader(table.open()))
    rows[row][column] = str(cell)
    return write(table, rows)


def test_a_table_becomes_rows_of_numbers_and_levels_with_classes(table: Path):
    splits = open_tables(str(table))
    assert splits.sizes() == {"train": 24, "val": 3, "test": 3}
    assert splits.classes == ("a", "b")
    assert splits.origin == "seeded split 80/10/10, seed 0"
    columns: Columns = splits.view.columns
    assert columns.feature_names == ["length", "colour=blue", "colour=red"]
    assert columns.target == "species"
    assert isinstance(splits.train, TabularDataset)
    sample = splits.train[0]
    assert sample["features"].shape == (3,)
    assert sample["name"].startswith("flowers_")
    rows = {f"flowers_{number:05d}": row for number, row in enumerate(flowers()[1:], start=1)}
    for part in (splits.train, splits.val, splits.test):
        for index in range(len(part)):
            length, colour, _, species = rows[part[index]["name"]]
            features = part[index]["features"].tolist()
            assert features == pytest.approx([length, float(colour == "blue"), float(colour == "red")])
            assert part.classes[part[index]["label"]] == species
            assert columns.values_of(part[index]["features"]) == {"length": pytest.approx(length), "colour": colour}


def test_every_part_has_its_share_of_every_class_and_a_seed_cuts_alike(table: Path):
    one, again, other = (open_tables(str(table), seed=seed) for seed in (1, 1, 2))
    assert one.train.names == again.train.names
    assert one.train.names != other.train.names
    assert one.train.labels.count(0) == one.train.labels.count(1) == 12


def test_statistics_and_medians_are_of_the_training_part_alone(table: Path):
    changed(table, 5, 0, "NA")
    splits = open_tables(str(table), missing="median")
    train = splits.train.features[:, 0].double().numpy()
    assert splits.view.mean[0] == pytest.approx(train.mean())
    assert splits.view.std[0] == pytest.approx(train.std())
    assert list(splits.view.mean[1:]) == [0, 0]
    assert list(splits.view.std[1:]) == [1, 1]
    given = [row[0] for number, row in enumerate(flowers()[1:], 1) if f"flowers_{number:05d}" in splits.train.names]
    if "flowers_00005" in splits.train.names:
        given.remove(flowers()[5][0])
    assert splits.view.columns.columns[0].fill == pytest.approx(float(np.median(given)))
    assert all(part.features.isfinite().all() for part in (splits.train, splits.val, splits.test))


def test_a_missing_category_becomes_the_commonest(table: Path):
    changed(table, 3, 1, "")
    splits = open_tables(str(table), missing="median")
    fill = splits.view.columns.columns[1].fill
    colours = [row[1] for number, row in enumerate(flowers()[1:], 1) if f"flowers_{number:05d}" in splits.train.names]
    assert fill in ("red", "blue")
    assert abs(colours.count(fill) - max(map(colours.count, ("red", "blue")))) <= 1


def test_a_column_that_does_not_vary_is_left_out_and_named(table: Path):
    splits = open_tables(str(table))
    assert splits.view.columns.constant == ("always",)
    assert splits.skipped == ("column 'always': it does not vary in the training part",)


@pytest.mark.parametrize(
    ("header", "target"),
    [
        (["x", "Species", "y"], "Species"),
        (["x", "y", "label"], "label"),
        (["class", "x", "target"], "class"),
        (["x", "y", "kind"], "kind"),
    ],
)
def test_the_classes_are_in_the_column_with_a_usual_name_else_in_the_last(tmp_path: Path, header, target):
    rows = [[index % 2 if name == target else index + place for place, name in enumerate(header)] for index in range(9)]
    splits = open_tables(str(write(tmp_path / "t.csv", [header, *rows])))
    assert splits.view.columns.target == target
    assert splits.classes == ("0", "1")


def test_numbers_that_float32_would_make_equal_are_refused_and_not_called_constant(tmp_path: Path):
    rows = [["time", "size", "kind"], *([10**8 + index % 2, index, "ab"[index % 2]] for index in range(12))]
    path = str(write(tmp_path / "t.csv", rows))
    assert "does not tell apart: subtract one number" in refusal(lambda: open_tables(path), DataError)
    assert open_tables(path, ignore=["time"]).view.columns.feature_names == ["size"]


def test_a_column_without_any_cell_is_refused_or_left_out_whatever_it_is_called(tmp_path: Path):
    rows = [["size", "empty", "kind"], *([index, "", "ab"[index % 2]] for index in range(12))]
    path = str(write(tmp_path / "t.csv", rows))
    for categorical in ((), ("empty",)):
        refusal(lambda words=categorical: open_tables(path, categorical=words), DataError)
        columns = open_tables(path, categorical=categorical, missing="median").view.columns
        assert columns.constant == ("empty",)


def test_a_column_that_numbers_the_rows_is_found(tmp_path: Path):
    rows = [["id", "size", "kind"], *([index + 5, 2 * index, "ab"[index % 2]] for index in range(30))]
    splits = open_tables(str(write(tmp_path / "t.csv", rows)))
    features = np.concatenate([part.features.numpy() for part in (splits.train, splits.val, splits.test)])
    assert splits.view.columns.numbering(features) == ["id"]
    assert splits.view.columns.numbering(features[:25]) == []


def test_parts_of_a_folder_are_taken_as_they_are(tmp_path: Path):
    rows = flowers(20)
    for name, part in (("train", rows[:13]), ("val", [rows[0], *rows[13:17]]), ("test", [rows[0], *rows[17:]])):
        write(tmp_path / f"{name}.csv", part)
    splits = open_tables(str(tmp_path))
    assert splits.sizes() == {"train": 12, "val": 4, "test": 4}
    assert splits.origin == "given"
    part = open_table_part(str(tmp_path), splits.view.columns, splits.classes)
    assert part.features.equal(splits.test.features)
    assert part.labels == splits.test.labels


def test_embedded_tables_are_those_of_scikit_learn_and_no_seed_changes_their_test_part():
    for name, (features, counts) in {
        "iris": (4, {"train": 101, "val": 11, "test": 38}),
        "wine": (13, {"train": 120, "val": 13, "test": 45}),
        "breast_cancer": (30, {"train": 383, "val": 43, "test": 143}),
    }.items():
        splits = open_tables(name, seed=3)
        assert splits.sizes() == counts
        assert splits.embedded
        assert splits.view.columns.num_features == features
        part = open_table_part(name, splits.view.columns, splits.classes)
        assert part.features.equal(splits.test.features)
        assert named_sets()[name].open(None, image_size=None, seed=0).sizes() == counts


def test_an_embedded_table_is_written_and_read_back(tmp_path: Path):
    assert write_tables(named_sets()["wine"], tmp_path / "wine") == {"train": 120, "val": 13, "test": 45}
    read, own = open_tables(str(tmp_path / "wine")), open_tables("wine")
    assert read.train.features.equal(own.train.features)
    assert read.train.names == own.train.names
    assert read.test.labels == own.test.labels


def test_what_is_a_table_is_told_without_reading_it(tmp_path: Path, table: Path):
    assert takes_table("iris")
    assert not takes_table("digits")
    assert takes_table(str(table))
    assert takes_table(str(tmp_path))
    (tmp_path / "pictures").mkdir()
    assert not takes_table(str(tmp_path / "pictures"))
    assert not takes_table(str(tmp_path / "gone"))
    lists = tmp_path / "pictures beside a list"
    (lists / "train" / "cats").mkdir(parents=True)
    write(lists / "train.csv", flowers(4))
    assert not takes_table(str(lists))
    np.savez(tmp_path / "rows.npz", x=np.zeros((3, 2)), y=np.zeros(3, int))
    np.savez(tmp_path / "pictures.npz", images=np.zeros((3, 2, 2), np.uint8), labels=np.zeros(3, int))
    assert takes_table(str(tmp_path / "rows.npz"))
    assert not takes_table(str(tmp_path / "pictures.npz"))


def test_codes_are_categories_where_that_is_said(tmp_path: Path):
    rows = [["code", "size", "class"], *([index % 3 + 10, index, "ab"[index % 2]] for index in range(12))]
    splits = open_tables(str(write(tmp_path / "t.csv", rows)), categorical=["code"])
    assert splits.view.columns.feature_names == ["code=10", "code=11", "code=12", "size"]


BROKEN = {
    "a missing number": (
        lambda path: changed(path, 4, 0, "NaN"),
        r"line 5: column 'length' is missing.*=median",
    ),
    "a missing category": (
        lambda path: changed(path, 4, 1, ""),
        r"line 5: column 'colour' is missing.*=median",
    ),
    "a missing class": (lambda path: changed(path, 4, 3, ""), r"line 5: the class \('species'\) is missing"),
    "a class called none": (lambda path: changed(path, 4, 3, "none"), r"is missing \(.*none.*call the class otherwise"),
    "an infinite number": (lambda path: changed(path, 4, 0, "inf"), r"line 5: column 'length' holds inf"),
    "a number beyond float32": (lambda path: changed(path, 4, 0, "1e39"), r"line 5: column 'length' holds 1e\+39"),
    "a word among numbers": (lambda path: changed(path, 4, 0, "long"), r"line 5: .*'long' among numbers.*categorical="),
    "one name twice": (lambda path: changed(path, 0, 1, "length"), r"has the column 'length' twice"),
    "a column without a name": (lambda path: changed(path, 0, 1, ""), r"column 2 has no name"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_table_is_refused_with_the_place(table: Path, case: str):
    break_it, message = BROKEN[case]
    break_it(table)
    assert re.search(message, refusal(lambda: open_tables(str(table)), DataError))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"a,b\n", "has no rows"),
        (b"1,2\n3,4\n", "begins with numbers"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 cells where the first line has 2"),
        (b'a,b\n1,"2\n', "is no line of a table"),
        (b"a,b\n\xff\xfe,2\n", "is no UTF-8 text"),
        (b"a,b\n1,x\n2,x\n3,x\n", "one class only ('x')"),
        (b"species\nx\ny\nz\n", "no column beside the classes"),
        (b"a,b\n1,x\n1,y\n1,x\n1,y\n", "no column of the table varies"),
        (b"a,b\n1,x\n2,y\n", "cannot be cut into train, val and test"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    assert message in refusal(lambda: open_tables(str(path)), DataError)


def test_a_quantity_or_a_name_is_no_class_and_no_category(tmp_path: Path):
    rows = [["name", "size", "class"], *([f"n{index}", index * 1.5, "ab"[index % 2]] for index in range(40))]
    path = str(write(tmp_path / "t.csv", rows))
    assert "ignore=" in refusal(lambda: open_tables(path), DataError)
    assert "are no classes" in refusal(lambda: open_tables(path, target="size", ignore=["name"]), DataError)
    assert open_tables(path, ignore=["name"]).view.columns.feature_names == ["size"]


def test_settings_that_name_no_column_are_refused(table: Path):
    for words in ({"target": "kind"}, {"ignore": ["kind"]}, {"categorical": ["kind"]}, {"ignore": ["species"]}):
        refusal(lambda words=words: open_tables(str(table), **words), ConfigurationError)


def test_parts_that_disagree_are_refused(tmp_path: Path):
    rows = flowers(20)
    write(tmp_path / "train.csv", rows)
    write(tmp_path / "test.csv", [["length", "always", "species"], [1, 7, "a"]])
    assert "has no column 'colour'" in refusal(lambda: open_tables(str(tmp_path)), DataError)
    write(tmp_path / "test.csv", [rows[0], [1, "red", 7, "c"]])
    assert "has the class 'c'" in refusal(lambda: open_tables(str(tmp_path)), DataError)
    write(tmp_path / "other.csv", rows)
    assert "other.csv beside" in refusal(lambda: open_tables(str(tmp_path)), DataError)


def test_rows_that_come_later_have_to_fit_the_model(table: Path, tmp_path: Path):
    splits = open_tables(str(table))
    columns = Columns.model_validate(splits.view.columns.model_dump(mode="json"))
    assert columns == splits.view.columns

    def read(rows: list[list[object]]):
        return columns.features_of(read_table(write(tmp_path / "new.csv", rows)))

    assert read([["colour", "note", "length"], ["red", "!", 2]]).tolist() == [[2, 0, 1]]
    assert "lacks 1 of the model's 2 columns ('colour')" in refusal(lambda: read([["length"], [2]]), DataError)
    assert "'green', which the model has not met" in refusal(
        lambda: read([["length", "colour"], [1, "red"], [2, "green"]]), DataError
    )
    assert "'big' where a number is due" in refusal(lambda: read([["length", "colour"], ["big", "red"]]), DataError)
    rows = [["length", "colour", "species"], [1, "red", "c"]]
    strange = str(write(tmp_path / "strange.csv", rows))
    assert "the model learnt a, b" in refusal(lambda: open_table_part(strange, columns, splits.classes), DataError)


def test_a_wide_table_is_learnt_quickly():
    x = np.random.default_rng(0).normal(size=(60, 5000))
    table = Table({f"x{place}": column for place, column in enumerate(x.T)} | {"y": ["a", "b"] * 30}, "wide")
    columns = learn_columns([table], "y")
    assert columns.features_of(table).shape == (60, 5000)
