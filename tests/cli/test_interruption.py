"""A run that is killed continues to the same weights; one that is interrupted says how to continue."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from .conftest import TINY


def started(streets_folder: Path, out: Path) -> subprocess.Popen[str]:
    words = ["fit", "segmentation", str(streets_folder), "--epochs", "8", "--set", "training.batch_size=4"]
    words += ["--out", str(out), "--resume", "--progress", "json", "--set", "augmentation.rotation=5", *TINY]
    return subprocess.Popen(
        [sys.executable, "-m", "encore", *words], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def wait_for_step(process: subprocess.Popen[str], least: int) -> None:
    """Read progress until the training has taken `least` steps."""
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)
        if event.get("stage", "").startswith("training") and event.get("step", 0) >= least:
            return
    pytest.fail("the training ended before it could be stopped")


def test_a_run_killed_with_sigkill_reaches_the_same_weights(streets_folder: Path, tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert started(streets_folder, whole).wait() == 0
    process = started(streets_folder, killed)
    wait_for_step(process, 8)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "model.safetensors").exists()
    assert started(streets_folder, killed).wait() == 0
    one, other = load_file(whole / "model.safetensors"), load_file(killed / "model.safetensors")
    assert one.keys() == other.keys()
    assert all(tensor.equal(other[name]) for name, tensor in one.items())
    metrics = [json.loads((run / "metrics.json").read_text())["metrics"] for run in (whole, killed)]
    assert metrics[0] == metrics[1]


def test_ctrl_c_leaves_with_130_and_one_line(streets_folder: Path, tmp_path: Path):
    process = started(streets_folder, tmp_path / "run")
    wait_for_step(process, 6)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    last = err.strip().splitlines()[-1]
    assert process.returncode == 130
    assert last.startswith("encore: interrupted")
    assert "--resume" in last
    assert "Traceback" not in err
