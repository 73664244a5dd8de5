"""The wheel and the sdist install and work outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_wheel_holds_cards_templates_and_records(distributions: Path):
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert sum(name.endswith("/card.toml") for name in names) >= 24
    assert "encore/py.typed" in names
    assert "encore/results/templates/report.html.j2" in names
    for record in (ROOT / "results" / "laptop").glob("*/result.json"):
        assert f"encore/results/laptop/{record.parent.name}/result.json" in names


def test_the_sdist_leaves_out_what_may_not_be_released(distributions: Path):
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        names = file.getnames()
    assert any(name.endswith("/CONTRIBUTING.md") for name in names)
    assert not any("/tests/golden/" in name for name in names)


def test_the_installed_wheel_works_outside_the_checkout(distributions: Path, tmp_path: Path):
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=True, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    # Dependencies come from this environment; its editable install of Encore is not on the path, for it is a .pth.
    here = next(path for path in sys.path if path.endswith("site-packages"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PYTHONPATH"] = os.pathsep.join([str(site), here])
    work = tmp_path / "elsewhere"
    work.mkdir()

    def call(*words: str) -> str:
        done = subprocess.run([str(python), *words], cwd=work, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(site) in call("-c", "import encore; print(encore.__file__)")
    assert "segnet" in call("-m", "encore", "list")
    assert "35.78" in call("-m", "encore", "show", "segnet")
    call("-m", "encore", "run", "segnet", "--claim", "decoder_storage", "--out", "run", "--progress", "none")
    assert (work / "run" / "report.html").is_file()
    code = "import encore.data.streets as s; print(s.render_scene(1).image.shape)"
    assert "(96, 128, 3)" in call("-c", code)
