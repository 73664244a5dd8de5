"""Which classes a source has: named by a list, or counted in its masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.data.images import MAX_CLASSES, unreadable

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class ClassNames:
    """The classes of a source.

    Attributes:
        names: of the classes proper, in index order.
        void: the values in the masks that are no class, besides 255.
    """

    names: tuple[str, ...]
    void: frozenset[int] = frozenset()


def class_lines(folder: Path, parts: Collection[str]) -> tuple[list[str], Path] | None:
    """The lines of `classes.txt` and where it is: in `folder` or, if that is one of `parts`, beside it.

    Raises:
        DataError: the file cannot be read, or is no text.
    """
    places = [place for place in (folder.absolute(), folder.resolve()) if place.name in parts]  # either may be a link
    for file in (place / CLASSES_FILE for place in [folder, *(place.parent for place in places)]):
        if file.is_file():
            try:
                return file.read_text(encoding="utf-8-sig").splitlines(), file
            except UnicodeDecodeError:
                raise DataError(f"{file} is no UTF-8 text", "save it as UTF-8, one class per line") from None
            except OSError as error:
                raise unreadable(file, error) from None
    return None


def parse_classes(lines: Iterable[str], where: str) -> ClassNames:
    """Read class names in index order; each `void` marks its index as no class.

    Raises:
        DataError: none, too many, one whose index would be 255, an empty one between others, or the same twice.
    """
    entries = [line.strip() for line in lines]
    while entries and not entries[-1]:
        entries.pop()
    if "" in entries:
        raise DataError(f"{where}: line {entries.index('') + 1} is empty", "name one class per line")
    void = frozenset(index for index, entry in enumerate(entries) if entry.lower() == "void")
    names = tuple(entry for index, entry in enumerate(entries) if index not in void)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} names '{twice}' twice", "give each class a name of its own")
    if not 1 <= len(names) <= MAX_CLASSES or set(range(MAX_CLASSES, len(entries))) - void:
        raise DataError(
            f"{where} names {len(names)} classes in {len(entries)} entries",
            f"name 1…{MAX_CLASSES}, one per line, for the values 0…{MAX_CLASSES - 1}",
        )
    return ClassNames(names, void)


def number_of_classes(values: NDArray[Any], where: str) -> int:
    """The largest class index among the distinct `values` of all masks, plus one.

    Raises:
        DataError: the values look like grey levels and not like class indices.
    """
    found = [int(value) for value in values if value != VOID]
    shown = ", ".join(str(value) for value in values[:6]) + (" …" if len(values) > 6 else "")
    if not found or (found == [0] and VOID in values):
        raise DataError(
            f"the masks of {where} hold only the values {shown}, and 255 is void",
            "write the classes as 0, 1, 2 …; a foreground drawn as 255 has to become 1",
        )
    largest = max(found)
    if min(found) < 0 or largest >= MAX_CLASSES or largest + 1 > 2 * len(found) + 8:
        raise DataError(
            f"the masks of {where} hold the values {shown}, which look like grey levels, not class indices",
            f"write the classes as 0, 1, 2 …, or name all of them, one a line, in {CLASSES_FILE}",
        )
    return largest + 1


def numbered_classes(num_classes: int) -> tuple[str, ...]:
    """`class_0`, `class_1` …"""
    return tuple(f"class_{index}" for index in range(num_classes))
