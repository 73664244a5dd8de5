"""Paper 25, as CONTRIBUTING.md describes it, works without editing any existing file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import encore

CONTRIBUTING = Path(__file__).parents[2] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the throw-away room in it."""
    root = tmp_path_factory.mktemp("house")
    package = shutil.copytree(
        Path(encore.__file__).parent, root / "encore", ignore=shutil.ignore_patterns("__pycache__")
    )
    room = package / "papers" / "neighbours"
    room.mkdir()
    files = re.findall(r"^```\w+ file=(\S+)\n(.*?)^```$", CONTRIBUTING.read_text(encoding="utf-8"), re.M | re.S)
    assert [name for name, _ in files] == ["__init__.py", "card.toml", "model.py", "recipe.py"]
    for name, text in files:
        (room / name).write_text(text, encoding="utf-8")
    return root


def call(house: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(house)}
    done = subprocess.run(
        [sys.executable, "-m", "encore", *words], cwd=house, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_new_paper_is_listed_as_performed(house: Path):
    papers = {one["slug"]: one for one in json.loads(call(house, "list", "--json"))["papers"]}
    assert papers["neighbours"]["state"] == "performed"
    assert papers["segnet"]["state"] == "performed"


def test_its_claims_are_performed_beside_the_baseline(house: Path):
    record = json.loads(call(house, "run", "neighbours", "--json", "--progress", "none", "--device", "cpu"))
    (claim,) = record["claims"]
    assert claim["id"] == "mean_iou"
    assert claim["baselines"][0]["name"] == "colour_only"
    assert claim["measured"]["mean"] >= 0


def test_its_model_learns_from_a_folder_and_predicts(house: Path):
    call(
        house, "data", "make", "streets", "--num-samples", "6", "--size", "24x32", "--out", "data", "--progress", "none"
    )
    call(house, "fit", "neighbours", "data", "--epochs", "1", "--out", "run", "--progress", "none", "--device", "cpu")
    assert json.loads((house / "run" / "config.json").read_text())["encore"]["name"] == "neighbours"
    call(house, "predict", "run", "data/images", "--out", "predicted", "--progress", "none")
    assert len(list((house / "predicted").glob("*_overlay.png"))) == 6
