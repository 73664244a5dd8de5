"""A training that two processes share leaves one run and prints one answer."""

import json
import subprocess
import sys
from pathlib import Path

from .conftest import TINY


def test_two_processes_train_one_model(streets_folder: Path, tmp_path: Path):
    words = ["fit", "segmentation", str(streets_folder), "--epochs", "2", "--devices", "2", "--json"]
    words += ["--set", "training.batch_size=4", "--out", str(tmp_path / "run"), "--progress", "json", *TINY]
    done = subprocess.run([sys.executable, "-m", "encore", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"]["global_accuracy"] > 0
    curves = json.loads((tmp_path / "run" / "curves.json").read_text())
    assert [row["epoch"] for row in curves] == [1, 2]
    assert (tmp_path / "run" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / ".lock").exists()


def test_two_processes_perform_a_study(tmp_path: Path):
    words = ["run", "segnet", "--claim", "mean_iou", "--devices", "2", "--json", "--progress", "none", *TINY]
    words += ["--set", "image_size=24x32", "--set", "training.epochs=1", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, "-m", "encore", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert {arm["arm"] for arm in json.loads(done.stdout)["arms"]} == {"segnet_basic", "bilinear", "fcn_no_addition"}
