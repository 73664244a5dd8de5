"""Where and how a run computes, and where it finds named data: the common options of every verb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from encore.base.errors import ConfigurationError

Scale = Literal["smoke", "laptop", "paper"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Runtime:
    """The common options.

    Attributes:
        seed: of the first run; further runs take seed + 1, seed + 2, …
        device: `auto` takes a GPU if there is one.
        devices: how many; more than one trains with DDP.
        precision: Lightning's name (`32-true`, `bf16-mixed`, `16-mixed`).
        data: folders of named data sets (`--data camvid=PATH`), beside those below `$ENCORE_DATA`.
    """

    seed: int = 0
    device: Device = "auto"
    devices: int = 1
    precision: str = "32-true"
    data: Mapping[str, Path] = field(default_factory=dict)


def parse_data_options(words: Iterable[str], default_name: str | None) -> dict[str, Path]:
    """Read `--data [NAME=]PATH` words; a word without NAME is the data set that the recipe asks for.

    Raises:
        ConfigurationError: a path that does not exist, or no name where one is needed.
    """
    roots: dict[str, Path] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            if default_name is None:
                raise ConfigurationError(f"--data {word} names no data set", "write --data NAME=PATH")
            name, text = default_name, word
        path = Path(text).expanduser()
        if not path.exists():
            raise ConfigurationError(f"--data {word}: {path} does not exist", "check the path")
        roots[name] = path
    return roots
