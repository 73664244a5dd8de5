"""Errors as values of the product.

Everything that a user can mend is an `InputError`: one line that says what is wrong and where, and one
that says how to mend it. The command line prints both on a single line and leaves with `exit_code`.
Whatever else escapes is a fault in Encore.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EncoreError(Exception):
    """A fault in Encore itself. Exit code 1."""

    exit_code = 1


class InputError(EncoreError):
    """Something the user can mend: wrong use, bad input, missing data. Exit code 2.

    Args:
        problem: what is wrong and where (the file, the key, the shape that came and the one due).
        remedy: what to do about it.
    """

    exit_code = 2

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = " ".join(problem.split()).rstrip(".")
        self.remedy = " ".join(remedy.split()).rstrip(".")
        super().__init__(f"{self.problem}: {self.remedy}")


class UnknownNameError(InputError):
    """A name that nothing answers to; the remedy suggests the nearest known one.

    Args:
        kind: what was asked for ("paper", "model", "key").
        name: the name that came.
        known: the names there are.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        nearest = difflib.get_close_matches(name.lower(), self.known, n=1, cutoff=0.5)
        choices = ", ".join(self.known) or "none"
        remedy = f"did you mean '{nearest[0]}'? known: {choices}" if nearest else f"known: {choices}"
        super().__init__(f"unknown {kind} '{name}'", remedy)


class ConfigurationError(InputError):
    """A value given with `--set` or in Python does not fit the configuration."""


class DataError(InputError):
    """Data that cannot be used: corrupt, mismatched, empty, out of range."""


class CheckpointError(InputError):
    """A checkpoint that is not one, is for another model, or would need unpickling."""


class RunFolderError(InputError):
    """A run's folder that cannot be written, is not empty, or is none."""


class DivergenceError(InputError):
    """The loss became NaN or infinite; the last good checkpoint is kept."""
