"""Files of tables: separators, quotes, decimal commas, compression, parquet, arrays."""

from __future__ import annotations

import gzip
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encore.base.errors import DataError, InputError
from encore.data.tables import open_tables
from encore.data.tabular_files import SUFFIXES, as_numbers, read_table, text_of

from .conftest import refusal
from .flower_table import flowers, write


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "flowers.csv", flowers())


def test_separators_quotes_decimal_commas_names_of_rows_and_gzip_are_read(tmp_path: Path):
    plain = write(tmp_path / "a.csv", [["", "size", "kind"], ["first", "1.5", "x, y"], ["second", "2", "z"]])
    table = read_table(plain)
    assert table.row_names == ["first", "second"]
    assert list(table.columns["size"]) == [1.5, 2.0]
    assert table.columns["kind"] == ["x, y", "z"]
    tabbed = write(tmp_path / "a.tsv", [["size", "kind"], ["1.5", "x"]], "\t")
    assert list(read_table(tabbed).columns["size"]) == [1.5]
    european = write(tmp_path / "b.csv", [["size", "kind"], ["1,5", "x"], ["2", "y"]], ";")
    assert list(read_table(european).columns["size"]) == [1.5, 2.0]
    packed = tmp_path / "c.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_table(packed).columns.keys() == table.columns.keys()
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbfsize,kind\r\n1,x\r\n\r\n2,y\r\n")
    assert list(read_table(tmp_path / "d.csv").columns) == ["size", "kind"]


def test_the_separator_is_told_by_the_lines_and_not_by_commas_in_names(tmp_path: Path):
    path = tmp_path / "t.csv"
    for text, names in {
        "length, cm;width, cm;kind\n1,5;2,5;x\n2;3;y\n": ["length, cm", "width, cm", "kind"],
        '"a, b, c";kind\n1,5;x\n': ["a, b, c", "kind"],
        'size,"a; b; c; d"\n1,x\n': ["size", "a; b; c; d"],
        "a\tb, c, d\n1\tx\n": ["a", "b, c, d"],
        "kind\nx\n": ["kind"],
    }.items():
        path.write_text(text)
        assert list(read_table(path).columns) == names


def test_a_word_among_decimal_commas_is_named_in_training_and_prediction(tmp_path: Path):
    rows = [[f"{index},5", "ab"[index % 2]] for index in range(30)]
    path = write(tmp_path / "t.csv", [["size", "kind"], *rows], ";")
    columns = open_tables(str(path)).view.columns
    changed_rows = [*rows[:4], ["big", "a"], *rows[5:]]
    write(path, [["size", "kind"], *changed_rows], ";")
    for action in (lambda: open_tables(str(path)), lambda: columns.features_of(read_table(path))):
        assert re.search(r"line 6: column 'size' holds 'big'", refusal(action, DataError))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False)), min_size=1))
def test_numbers_survive_as_text(numbers):
    cells = as_numbers(None if one is None else repr(one) for one in numbers)
    assert isinstance(cells, np.ndarray)
    assert [None if np.isnan(cell) else cell for cell in cells] == numbers
    assert list(as_numbers(text_of(cells))) == pytest.approx(list(cells), nan_ok=True)


def test_arrays_name_columns_and_classes(tmp_path: Path):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 5)).astype(np.float32), np.arange(40, dtype=np.uint8) % 2
    np.savez(tmp_path / "a.npz", x=x, y=y, class_names=np.array(["ALL", "AML"]), feature_names=np.array(list("pqrsp")))
    splits = open_tables(str(tmp_path / "a.npz"))
    assert splits.classes == ("ALL", "AML")
    assert splits.view.columns.feature_names == ["p", "q", "r", "s", "p_2"]
    np.savez(tmp_path / "b.npz", x_train=x[:30], y_train=y[:30], x_test=x[30:], y_test=y[30:])
    splits = open_tables(str(tmp_path / "b.npz"))
    assert splits.sizes() == {"train": 27, "val": 3, "test": 10}
    np.savez(tmp_path / "c.npz", x=x, y=y, class_values=np.array([-1, 1]))
    assert open_tables(str(tmp_path / "c.npz")).classes == ("-1", "1")


def test_damaged_gzip_other_suffixes_and_absent_files_are_refused(tmp_path: Path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n1,x\n" * 50)[:20])
    assert "damaged" in refusal(lambda: open_tables(str(tmp_path / "t.csv.gz")), DataError)
    (tmp_path / "t.txt").write_text("a")
    assert "is no table" in refusal(lambda: open_tables(str(tmp_path / "t.txt")), DataError)
    assert "does not exist" in refusal(lambda: open_tables(str(tmp_path / "gone.csv")))
    assert "for classification" in refusal(lambda: open_tables("digits"), DataError)


def test_parquet_is_read_as_text_is_where_pyarrow_is_there(tmp_path: Path, table: Path):
    arrow = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    header, *rows = flowers()
    content = {name: [row[place] for row in rows] for place, name in enumerate(header)}
    pyarrow.parquet.write_table(arrow.table(content), tmp_path / "flowers.parquet")
    one, other = open_tables(str(table)), open_tables(str(tmp_path / "flowers.parquet"))
    assert one.train.features.equal(other.train.features)
    assert one.view.columns == other.view.columns
    content |= {"__index_level_0__": [f"row {index}" for index in range(len(rows))]}
    pyarrow.parquet.write_table(arrow.table(content), tmp_path / "flowers.parquet")
    with_index = read_table(tmp_path / "flowers.parquet")
    assert list(with_index.columns) == header
    assert with_index.row_names[:2] == ["row 0", "row 1"]
    (tmp_path / "flowers.parquet").write_bytes(b"PAR1 no")
    assert "damaged" in refusal(lambda: open_tables(str(tmp_path / "flowers.parquet")), DataError)


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_bytes(b"")
    assert "encore-papers[tables]" in refusal(lambda: read_table(tmp_path / "t.parquet"), InputError)
    assert ".parquet" in SUFFIXES
