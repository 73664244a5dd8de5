"""Tables as people have them, read cell by cell: `.csv` and `.tsv`, also with `.gz`, and `.parquet`."""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.base.errors import DataError, InputError
from encore.data.images import unreadable

SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".npz")
"""Of the files that hold a table."""

MISSING = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "null", "none", "?"})
"""What people write into cells of which they know nothing; capitals make no difference."""

MISSING_IN_WORDS = "empty, or NA, NaN, null, none, ?"
"""The same, for errors."""

_INDEX = re.compile(r"__index_level_\d+__")
"""What pandas calls an index without a name in `.parquet`."""

_LOOKED_AT = 20
"""Lines that tell the separator."""

Cells = NDArray[np.float64] | list[str | None]
"""A column: numbers, NaN where the cell is missing, or text, None where it is."""


@dataclass(frozen=True)
class Table:
    """A table in memory.

    Attributes:
        columns: the cells by name, in order; all of one length.
        where: what errors call the table.
        lines: the line of the file on which each row ends, where it is a text file.
        row_names: of the rows, where the table names them.
    """

    columns: Mapping[str, Cells]
    where: str
    lines: Sequence[int] = field(default=(), repr=False)
    row_names: Sequence[str] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def place(self, row: int) -> str:
        """Where a row stands, for errors and for its name."""
        return f"{self.where}, line {self.lines[row]}" if self.lines else f"{self.where}, row {row + 1}"

    def rows(self, indices: Sequence[int]) -> Table:
        """Some of the rows, in this order."""
        return Table(
            {
                name: cells[list(indices)] if isinstance(cells, np.ndarray) else [cells[index] for index in indices]
                for name, cells in self.columns.items()
            },
            self.where,
            [self.lines[index] for index in indices] if self.lines else (),
            [self.row_names[index] for index in indices] if self.row_names else (),
        )


def suffix_of(path: Path) -> str | None:
    """The suffix, if `path` is called like a table."""
    name = path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), None)


def stem_of(path: Path) -> str:
    """The name without the suffix of a table."""
    return path.name[: len(path.name) - len(suffix_of(path) or "")]


def read_table(path: Path) -> Table:
    """Read one text or parquet file; columns of which every cell is a number become numbers.

    Text files have the names of the columns in their first line. The separator is the first among tab, `;` and `,`
    that cuts the first lines into equally many cells; with `;`, numbers may have a decimal comma. A first column
    without a name, or the index that pandas writes into `.parquet`, holds names of rows.

    Raises:
        DataError: missing, damaged, empty, ragged, without names, or with one name twice.
        InputError: `.parquet` needs pyarrow, which is not installed.
    """
    suffix = suffix_of(path)
    if suffix is None or suffix == ".npz":
        raise DataError(f"{path} is no table", f"give a file of the kinds {', '.join(SUFFIXES)}")
    return _read_parquet(path) if suffix == ".parquet" else _read_text(path)


def _read_text(path: Path) -> Table:
    try:
        with path.open("rb") as file:
            raw = gzip.decompress(file.read()) if path.name.lower().endswith(".gz") else file.read()
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text (byte {error.start})", "save the table as UTF-8") from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged ({error})", "compress the table again with gzip") from None
    except OSError as error:
        raise unreadable(path, error) from None
    separator = "\t" if ".tsv" in path.name.lower() else _separator(text)
    header, rows, lines = None, [], []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for cells in reader:
            if not cells:
                continue
            cells = [cell.strip() for cell in cells]
            if header is None:
                header = cells
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{path}, line {reader.line_num} has {len(cells)} cells where the first line has {len(header)}",
                    "give every row a cell for every column, and put cells that hold the separator in quotes",
                )
            rows.append(cells)
            lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num} is no line of a table ({error})", "write it again") from None
    if header is None:
        raise DataError(f"{path} is empty", "give a first line with the names of the columns, and a line per row")
    if header and all(_number(cell, separator) is not None for cell in header):
        raise DataError(
            f"{path} begins with numbers ({', '.join(header[:4])} …)",
            "write the names of the columns in the first line",
        )
    if not rows:
        raise DataError(f"{path} has no rows below its first line", "write one line for each row")
    columns = [list(cells) for cells in zip(*rows, strict=True)]
    row_names: list[str] = []
    if header[0] == "" and len(header) > 1:
        row_names, header, columns = columns[0], header[1:], columns[1:]
    _check_names(header, path)
    read = {name: as_numbers(column, separator) for name, column in zip(header, columns, strict=True)}
    return Table(read, str(path), lines, row_names)


def _separator(text: str) -> str:
    """The character between cells; a comma may also be part of a name, as in `length, cm;width, cm`."""
    most, chosen, lines = 1, ",", io.StringIO(text, newline="")
    for separator in "\t;,":
        lines.seek(0)
        try:
            widths = [len(cells) for cells in islice(csv.reader(lines, delimiter=separator), _LOOKED_AT) if cells]
        except csv.Error:
            continue
        if len(set(widths)) == 1 and widths[0] > 1:
            return separator
        if widths and widths[0] > most:
            most, chosen = widths[0], separator
    return chosen


def _check_names(names: Sequence[str], path: Path) -> None:
    if "" in names:
        raise DataError(f"{path}: column {list(names).index('') + 1} has no name", "name every column")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} has the column '{twice[0]}' twice", "give each column a name of its own")


def as_numbers(cells: Iterable[str | None], separator: str = ",") -> Cells:
    """Cells of text as numbers where all that are not missing are some, else as text; None or NaN is missing.

    Among texts, a number with a decimal comma is written with a point, as everywhere else.

    Args:
        cells: of one column.
        separator: of the file; with `;` a decimal comma counts.
    """
    known = [None if cell is None or cell.lower() in MISSING else cell for cell in cells]
    numbers = [None if cell is None else _number(cell, separator) for cell in known]
    if any(number is None and cell is not None for number, cell in zip(numbers, known, strict=True)):
        return [
            cell if cell is None or number is None else cell.replace(",", ".")
            for number, cell in zip(numbers, known, strict=True)
        ]
    return np.array([math.nan if number is None else number for number in numbers], dtype=np.float64)


def _number(cell: str, separator: str = ",") -> float | None:
    if "_" in cell:
        return None
    try:
        return float(cell.replace(",", ".") if separator == ";" and cell.count(",") == 1 else cell)
    except ValueError:
        return None


def is_number(cell: str) -> bool:
    """Whether a cell of text is a number."""
    return _number(cell) is not None


def numbers_first(text: str) -> tuple[bool, float, str]:
    """A key that sorts texts which are numbers by their size, before all others."""
    number = _number(text)
    return number is None, 0.0 if number is None else number, text


def text_of(cells: Cells) -> list[str | None]:
    """A column as text: whole numbers without a point, None where a cell is missing."""
    if isinstance(cells, list):
        return cells
    return [
        None if math.isnan(cell) else str(int(cell)) if cell.is_integer() else repr(cell) for cell in cells.tolist()
    ]


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise InputError("reading .parquet needs pyarrow", "install it: pip install 'encore-papers[tables]'") from None
    if not path.exists():
        raise DataError(f"{path} does not exist", "check the path")
    try:
        content = parquet.read_table(path)
        names = list(content.column_names)
        values = [column.to_pylist() for column in content.columns]
        indices = [cells for name, cells in zip(names, values, strict=True) if _INDEX.fullmatch(name)]
        values = [cells for name, cells in zip(names, values, strict=True) if not _INDEX.fullmatch(name)]
        names = [name for name in names if not _INDEX.fullmatch(name)]
    except (arrow.ArrowException, OSError, ValueError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"{path} is damaged ({reason})", "write it again") from None
    _check_names(names, path)
    if not names or not values[0]:
        raise DataError(f"{path} has no rows", "write it again with rows")
    columns = {name: _from_python(name, cells, path) for name, cells in zip(names, values, strict=True)}
    return Table(columns, str(path), row_names=[str(name) for name in indices[0]] if indices else ())


def _from_python(name: str, cells: Sequence[Any], path: Path) -> Cells:
    """A column of Python values as numbers or text."""
    wrong = next((cell for cell in cells if isinstance(cell, list | dict | bytes)), None)
    if wrong is not None:
        raise DataError(
            f"{path}: column '{name}' holds a {type(wrong).__name__} in a cell",
            "save the table without it, or with numbers or text",
        )
    if all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in cells):
        return np.array([math.nan if cell is None else float(cell) for cell in cells], dtype=np.float64)
    return as_numbers(None if cell is None else str(cell).strip() for cell in cells)
