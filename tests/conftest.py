"""What all tests share: one thread, no runs left in the working directory, the command line as a user calls it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ENCORE_CACHE", str(Path(tempfile.gettempdir()) / "encore-test-cache"))


@pytest.fixture
def clean_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without data sets from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENCORE_DATA", raising=False)
    return tmp_path


class Answer(NamedTuple):
    """What a command left on both streams, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture
def encore(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Call `encore …` in this process."""

    from encore.cli import main

    def call(*words: object) -> Answer:
        capsys.readouterr()
        code = main([str(word) for word in words])
        streams = capsys.readouterr()
        return Answer(code, streams.out, streams.err)

    return call
