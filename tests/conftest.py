"""What all tests share: one thread, no runs left in the working directory."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ENCORE_CACHE", str(Path(tempfile.gettempdir()) / "encore-test-cache"))


@pytest.fixture
def clean_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, without data sets from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ENCORE_DATA", raising=False)
    return tmp_path
