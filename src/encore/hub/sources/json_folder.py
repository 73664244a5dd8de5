"""A folder of JSON: each file an object, or a list of objects, with the fields of `Entry`."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from encore.base.errors import DataError
from encore.hub.entries import Entry, address_of, arxiv_identifier, cleaned, doi_of
from encore.hub.sources.reading import Reading, text_of


class _Paper(BaseModel):
    model_config = ConfigDict(extra="forbid")

    title: str = Field(min_length=1)
    abstract: str = ""
    authors: list[str] = []
    num_authors: int | None = Field(default=None, ge=1, le=100_000)
    arxiv: str | None = None
    doi: str | None = None
    url: str | None = None
    code_url: str | None = None
    organisation: str | None = None
    listed_on: datetime.date | None = None
    published: datetime.date | None = None
    updated: datetime.date | None = None
    version: int | None = Field(default=None, ge=1, le=999)
    tasks: list[str] = []
    outside_votes: int = Field(default=0, ge=0, le=1_000_000)

    @field_validator("arxiv")
    @classmethod
    def _is_an_identifier(cls, value: str | None) -> str | None:
        found = arxiv_identifier(value) if value else None
        if value and found is None:
            raise ValueError("is no arXiv identifier")
        return found[0] if found else None

    @field_validator("doi")
    @classmethod
    def _is_a_doi(cls, value: str | None) -> str | None:
        if value and doi_of(value) is None:
            raise ValueError("is no DOI")
        return doi_of(value)

    @field_validator("url", "code_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value and address_of(value) is None:
            raise ValueError("is no address of the web")
        return address_of(value)


def read(path: Path) -> Reading:
    """The papers of all `*.json` in a folder, in the order of their names, or those of one file.

    Raises:
        DataError: there is no such folder or file, or no JSON in it.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        if not files:
            raise DataError(f"there is no *.json in {path}", "name the folder that holds them")
    elif path.is_file():
        files = [path]
    else:
        raise DataError(f"there is no {path}", "name a folder of JSON files")
    reading = Reading([], [])
    for file in files:
        _read(file, reading)
    return reading


def _read(file: Path, reading: Reading) -> None:
    try:
        content = json.loads(text_of(file))
    except (ValueError, RecursionError) as error:
        reading.refused.append(f"{file.name}: it is no JSON ({error})")
        return
    except DataError as error:
        reading.refused.append(str(error))
        return
    items = content if isinstance(content, list) else [content]
    for number, item in enumerate(items, 1):
        try:
            reading.entries.append(_entry(item))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "it"
            message = first["msg"].removeprefix("Value error, ")
            reading.refused.append(f"{file.name}, paper {number}{_name(item)}: {where}: {message}")


def _entry(item: Any) -> Entry:
    paper = _Paper.model_validate(item)
    return Entry(source="json", **paper.model_dump())


def _name(item: Any) -> str:
    title = cleaned(str(item["title"]))[:80] if isinstance(item, dict) and item.get("title") else ""
    return f" ({title})" if title else ""
