"""Where tables lie: files, arrays, and folders with the parts of one table."""

from __future__ import annotations

from pathlib import Path

from encore.base.errors import DataError
from encore.data.splits import PARTS
from encore.data.tabular_arrays import holds_rows, read_array_tables
from encore.data.tabular_files import SUFFIXES, Table, read_table, stem_of, suffix_of

LAYOUT = f"give a table ({', '.join(SUFFIXES)}), or a folder with the tables train, val and test"


def tables_at(path: Path) -> dict[str, Table]:
    """The tables of a file or folder: its parts by name, or `{"all": …}`.

    Raises:
        DataError: there is none, one is damaged, or they are no parts of one table.
    """
    if path.is_dir():
        files = table_files(path)
        if not files:
            raise DataError(f"{path} holds no table", LAYOUT)
        if len(files) == 1 and stem_of(files[0]).lower() not in PARTS:
            return tables_at(files[0])
        tables: dict[str, Table] = {}
        for file in files:
            part = stem_of(file).lower()
            if part not in PARTS or part in tables:
                raise DataError(
                    f"{path} holds {file.name} beside {next(one for one in files if one != file).name}",
                    "call the tables train, val and test, one file each, or name a single file",
                )
            tables[part] = _whole(file)
        return tables
    if suffix_of(path) == ".npz":
        return read_array_tables(path)
    if suffix_of(path) is None:
        raise DataError(f"{path} is no table", LAYOUT)
    return {"all": read_table(path)}


def table_files(folder: Path) -> list[Path]:
    """The tables that lie in a folder, by name."""
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    return [path for path in found if suffix_of(path) is not None and (suffix_of(path) != ".npz" or holds_rows(path))]


def read_unlabelled(path: Path) -> Table:
    """The rows of one file of which classes are not known, or not looked at.

    Raises:
        DataError: it cannot be read, or is an `.npz` with parts.
    """
    if suffix_of(path) != ".npz":
        return read_table(path)
    tables = read_array_tables(path, with_classes=False)
    if "all" not in tables:
        raise DataError(f"{path} holds rows in parts", "save the rows to predict as x")
    return tables["all"]


def _whole(file: Path) -> Table:
    if suffix_of(file) != ".npz":
        return read_table(file)
    tables = read_array_tables(file)
    if "all" not in tables:
        raise DataError(f"{file} holds parts of its own", "name the file instead of its folder")
    return tables["all"]
