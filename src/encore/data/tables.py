"""The one door through which all tables with classes come in."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from encore.base.errors import ConfigurationError, DataError
from encore.data.contracts import DataSplits, TabularSample
from encore.data.named import (
    NamedSet,
    Roots,
    absent,
    check_task,
    existing,
    expanded,
    find_set_path,
    held_out,
    named_set,
    named_sets,
)
from encore.data.resizing import Size
from encore.data.splits import Subset, complete_parts, cut_whole
from encore.data.tabular_arrays import holds_rows
from encore.data.tabular_columns import Columns, Missing, TableView, learn_columns
from encore.data.tabular_files import MISSING_IN_WORDS, Table, numbers_first, stem_of, suffix_of, text_of
from encore.data.tabular_sources import LAYOUT, table_files, tables_at

TASK = "tabular-classification"

USUAL_TARGETS = ("label", "class", "target", "species")
"""What a column of classes is called where nobody says which it is; else it is the last one."""

MAX_CLASSES = 1000


class TableRows:
    """Rows of a table with their classes; a map-style `TabularDataset`.

    Args:
        features: (N, D) float32.
        labels: N class indices.
        classes: their names.
        names: of the rows.
    """

    def __init__(
        self, features: NDArray[np.float32], labels: Sequence[int], classes: tuple[str, ...], names: Sequence[str]
    ) -> None:
        self.features = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        self.labels = tuple(int(label) for label in labels)
        self.classes, self.names = classes, list(names)

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, index: int) -> TabularSample:
        """Features (D,) float32, label, name."""
        return {"features": self.features[index], "label": self.labels[index], "name": self.names[index]}


class TableSet(NamedSet):
    """A named set that is a table; `tables` hands out its parts."""

    task = TASK
    holds = "tables"

    @abstractmethod
    def tables(self, path: Path | None) -> dict[str, Table]:
        """The parts by name (`train`, `test`), or `{"all": …}`.

        Args:
            path: where it lies; None for an embedded set.
        """

    @property
    @abstractmethod
    def target(self) -> str:
        """The column of the classes."""

    def open(self, path: Path | None, *, image_size: Size | None, seed: int) -> DataSplits:
        """The parts; what is not given is cut."""
        splits = assembled(self.tables(path), self.name, seed, target=self.target, embedded=self.embedded)
        return replace(splits, source=f"{self.title}; {self.licence}")


def open_tables(
    source: str,
    *,
    target: str | None = None,
    ignore: Collection[str] = (),
    categorical: Collection[str] = (),
    missing: Missing = "refuse",
    seed: int = 0,
    roots: Roots | None = None,
) -> DataSplits:
    """Open whatever a person calls their table, cut into train, val and test.

    Kinds and levels of columns are read off all parts; medians, means and deviations off the training part alone.

    Args:
        source: the name of a set; a `.csv`, `.tsv` (also `.gz`), `.parquet` or `.npz`; or a folder with files of these
            kinds called train, val, test, or with a single one.
        target: the column of the classes; by default the one called label, class, target or species, else the last.
        ignore: columns that are left out.
        categorical: columns of numbers that are categories.
        missing: what happens to cells that are missing.
        seed: of cuts that the source does not make itself; each part gets its share of every class.
        roots: folders of named sets.

    Returns:
        Parts of `TableRows`; `view` is the `TableView` that a model needs.

    Raises:
        DataError: nothing is there, or it cannot be used; the message says what and where.
        ConfigurationError: a column that the settings name is not there.
    """
    if source in named_sets():
        known, path = _named(source, roots or {})
        splits = assembled(
            known.tables(path),
            known.name,
            0,
            target=target or known.target,
            ignore=ignore,
            categorical=categorical,
            missing=missing,
            embedded=known.embedded,
        )
        return replace(splits, source=f"{known.title}; {known.licence}")
    path = existing(source, LAYOUT)
    return assembled(
        tables_at(path), str(path), seed, target=target, ignore=ignore, categorical=categorical, missing=missing
    )


def open_table_part(
    source: str,
    columns: Columns,
    classes: tuple[str, ...],
    *,
    roots: Roots | None = None,
    cut_seed: int | None = None,
) -> TableRows:
    """Open what a model is measured on: the test part of a source that has one, else all of it, in the model's columns.

    Args:
        source, roots: as for `open_tables`.
        columns: the model's.
        classes: the model's, whose indices the labels get.
        cut_seed: see `encore.data.named.held_out`.

    Raises:
        DataError: as for `open_tables`; a class that the model has not learnt; a source with train alone.
    """
    if source in named_sets():
        known, where = _named(source, roots or {})
        tables, cut_seed, source = known.tables(where), 0, known.name
    else:
        tables = tables_at(existing(source, LAYOUT))
    parts = {}
    for part, table in tables.items():
        if columns.target not in table.columns:
            raise DataError(f"{table.where} has no column '{columns.target}' with the classes", "add it")
        labels = labels_in(table, columns.target)
        unknown = sorted(set(labels) - set(classes))
        if unknown:
            strange, learnt = ", ".join(unknown[:5]), ", ".join(classes[:10])
            raise DataError(
                f"{table.where} has the classes {strange}, but the model learnt {learnt}",
                "evaluate on rows of the model's classes",
            )
        numbers = {name: index for index, name in enumerate(classes)}
        parts[part] = TableRows(
            columns.features_of(table), [numbers[label] for label in labels], classes, names_in_table(table)
        )
    return _rows_of(held_out(parts, expanded(source), cut_seed))


def assembled(
    tables: Mapping[str, Table],
    name: str,
    seed: int,
    *,
    target: str | None = None,
    ignore: Collection[str] = (),
    categorical: Collection[str] = (),
    missing: Missing = "refuse",
    embedded: bool = False,
) -> DataSplits:
    """The splits of a source that has these parts; those that are missing are cut.

    Raises:
        DataError, ConfigurationError: see `open_tables`.
    """
    ordered = dict(sorted(tables.items(), key=lambda entry: entry[0] != "train"))
    first = next(iter(ordered.values()))
    target = target_of(first, target)
    if target in ignore:
        raise ConfigurationError(f"'{target}' holds the classes and is to be left out", "name another target")
    columns = learn_columns(list(ordered.values()), target, ignore=ignore, categorical=categorical)
    labels = {part: labels_in(table, target) for part, table in ordered.items()}
    classes = _classes(labels, ordered, target)
    numbers = {one: index for index, one in enumerate(classes)}
    parts = {
        part: TableRows(
            columns.features_of(table, gaps=missing == "median"),
            [numbers[label] for label in labels[part]],
            classes,
            names_in_table(table),
        )
        for part, table in ordered.items()
    }
    cut = cut_whole(parts["all"], seed, name) if "all" in parts else complete_parts(parts, seed, name)
    train, val, test = (_rows_of(part) for part in (cut.train, cut.val, cut.test))
    if missing == "median":
        columns = columns.filled(train.features.numpy())
    closed = [columns.without_gaps(part.features.numpy()) for part in (train, val, test)]
    columns, kept = columns.without_constant(closed[0])
    for part, features in zip((train, val, test), closed, strict=True):
        part.features = torch.from_numpy(np.ascontiguousarray(features[:, kept]))
    numeric = sum(column.kind == "numeric" for column in columns.columns)
    return DataSplits(
        name=name,
        train=train,
        val=val,
        test=test,
        classes=classes,
        origin=cut.origin,
        source=f"a table of {numeric} numeric and {len(columns.columns) - numeric} categorical columns, "
        f"classes in '{target}'" + (", gaps filled with medians" if missing == "median" else ""),
        embedded=embedded,
        skipped=tuple(f"column '{one}': it does not vary in the training part" for one in columns.constant),
        view=TableView(columns, *columns.statistics(train.features.numpy())),
    )


def takes_table(source: str) -> bool:
    """Whether `source` is called or built like a table: a named one, a file, or a folder of such files alone.

    A folder that has folders in it is none: lists often lie beside folders of pictures.
    """
    if source in named_sets():
        return named_set(source).task == TASK
    path = expanded(source)
    if path.is_dir():
        folders = any(one.is_dir() and not one.name.startswith(".") for one in path.iterdir())
        return not folders and bool(table_files(path))
    suffix = suffix_of(path)
    return holds_rows(path) if suffix == ".npz" else suffix is not None


def labels_in(table: Table, target: str) -> list[str]:
    """The class of every row, as text.

    Raises:
        DataError: one is missing.
    """
    labels = text_of(table.columns[target])
    if None in labels:
        raise DataError(
            f"{table.place(labels.index(None))}: the class ('{target}') is missing ({MISSING_IN_WORDS})",
            "fill it in, call the class otherwise, or leave the row out",
        )
    return [label for label in labels if label is not None]


def target_of(table: Table, target: str | None) -> str:
    """The column of the classes: the one that is named, else one with a usual name, else the last.

    Raises:
        ConfigurationError: the one that is named is not there.
    """
    if target is not None:
        if target not in table.columns:
            shown = ", ".join(list(table.columns)[:12])
            raise ConfigurationError(f"target: {table.where} has no column '{target}'", f"it has {shown}")
        return target
    lowered = {name.lower(): name for name in reversed(list(table.columns))}
    return next((lowered[name] for name in USUAL_TARGETS if name in lowered), list(table.columns)[-1])


def names_in_table(table: Table) -> list[str]:
    """A name for every row: its own, else file and number."""
    if table.row_names:
        return list(table.row_names)
    stem = stem_of(Path(table.where)) if suffix_of(Path(table.where)) else table.where
    return [f"{stem}_{row + 1:05d}" for row in range(len(table))]


def _classes(labels: Mapping[str, list[str]], tables: Mapping[str, Table], target: str) -> tuple[str, ...]:
    found = sorted({label for part in labels.values() for label in part}, key=numbers_first)
    total = sum(len(part) for part in labels.values())
    where = next(iter(tables.values())).where
    if len(found) < 2:
        raise DataError(
            f"{where}: the column '{target}' holds one class only ('{found[0]}')",
            "give rows of two classes or more, or name another column: target=NAME",
        )
    if len(found) > MAX_CLASSES or (total >= 20 and len(found) > total / 2):
        raise DataError(
            f"{where}: the column '{target}' holds {len(found)} different values in {total} rows, which are no classes",
            "name the column of the classes: target=NAME",
        )
    if "train" in labels:
        for part, those in labels.items():
            strange = sorted(set(those) - set(labels["train"]))
            if strange:
                raise DataError(
                    f"{tables[part].where} has the class '{strange[0]}', of which {where} has no row",
                    "give training rows of every class",
                )
    return tuple(found)


def _named(source: str, roots: Roots) -> tuple[TableSet, Path | None]:
    check_task(source, TASK)
    known = named_set(source)
    assert isinstance(known, TableSet)
    path = None if known.embedded else find_set_path(source, roots)
    if path is None and not known.embedded:
        raise absent(source)
    return known, path


def _rows_of(part: object) -> TableRows:
    """The rows of a part, cut or whole, in one tensor."""
    if isinstance(part, TableRows):
        return part
    assert isinstance(part, Subset)
    whole = _rows_of(part.dataset)
    names = [whole.names[index] for index in part.indices]
    return TableRows(
        whole.features[part.indices].numpy(), [whole.labels[index] for index in part.indices], whole.classes, names
    )
