"""Where and how a run computes, and where it finds named data: the common options of every verb."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from encore.base.errors import ConfigurationError, UnknownNameError

Scale = Literal["smoke", "laptop", "paper"]
Device = Literal["auto", "cpu", "cuda"]
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed", "64-true", "bf16-true", "16-true")
"""Lightning's names of the number formats to compute in."""


@dataclass(frozen=True)
class Runtime:
    """The common options.

    Attributes:
        seed: of the first run; further runs take seed + 1, seed + 2, …
        device: `auto` takes a GPU if there is one.
        devices: how many; more than one trains with DDP.
        precision: one of `PRECISIONS`.
        data: folders of named data sets (`--data camvid=PATH`), beside those below `$ENCORE_DATA`.

    Raises:
        UnknownNameError: `precision` is none of `PRECISIONS`.
    """

    seed: int = 0
    device: Device = "auto"
    devices: int = 1
    precision: str = "32-true"
    data: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownNameError("precision", self.precision, PRECISIONS)


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
