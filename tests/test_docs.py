"""The quick start runs as written; the site builds with every link whole."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from encore.cli import main

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "docs" / "quickstart.md"


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Language and content of every code block."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.slow
def test_the_quick_start_runs_as_written(clean_directory: Path, capsys: pytest.CaptureFixture[str]):
    names: dict[str, object] = {}
    for language, text in blocks(QUICKSTART):
        if language == "python":
            exec(compile(text, str(QUICKSTART), "exec"), names)
            continue
        for line in text.splitlines():
            word, *words = shlex.split(line)
            assert word == "encore"
            if words[0] == "run":  # performed by tests/cli/test_verbs.py; here it is only planned
                words = [*words, "--dry-run"]
            assert main([*words]) == 0, f"{line}\n{capsys.readouterr().err}"
    assert names["mask"].shape == names["picture"].shape[:2]
    with Image.open(next(iter(sorted(Path("predicted").glob("*_overlay.png"))))) as overlay:
        assert overlay.width >= 96


@pytest.mark.slow
def test_many_pictures_and_few_labels_run_as_written(clean_directory: Path, capsys: pytest.CaptureFixture[str]):
    for language, text in blocks(ROOT / "docs" / "few-labels.md"):
        for line in text.splitlines() if language == "bash" else ():
            assert main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
    assert len(list(Path("pretrained/reconstructions").iterdir())) == 3
    assert Path("tuned/confusion.png").is_file()
    assert Path("answers/predictions.jsonl").read_text().count("\n") == len(list(Path("handwritten/test/3").iterdir()))


@pytest.mark.slow
def test_the_tools_work_on_networks_of_others(capsys: pytest.CaptureFixture[str]):
    names: dict[str, Any] = {}
    page = ROOT / "docs" / "your-networks.md"
    for _, text in blocks(page):
        exec(compile(text, str(page), "exec"), names)
    assert names["critical"] > names["by_default"] + 0.4
    assert names["noisy"] > names["quiet"] + 0.4
    assert names["accuracy"] > 0.9
    assert capsys.readouterr().out.count("case ") == 3


@pytest.mark.slow
def test_the_site_builds_with_strict_links(tmp_path: Path):
    if shutil.which("mkdocs", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("mkdocs is not installed: pip install 'encore-papers[docs]'")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    page = (tmp_path / "site" / "papers" / "segnet" / "index.html").read_text(encoding="utf-8")
    assert "boundary_f1" in page
    assert "Table 6" in page
