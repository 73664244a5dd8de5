"""Fitting a density and coding with it through the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import encore as library
from encore.data.exact import read_picture

pytest.importorskip("constriction")

TINY = ("--set", "num_states=4", "--set", "training.batch_size=32", "--device", "cpu")


def save_pictures(folder: Path, count: int, shape: tuple[int, ...] = (6, 5)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng(index)
        smooth = rng.integers(0, 4, (2, *shape[1:])).repeat(shape[0] // 2, 0) * 60
        Image.fromarray((smooth + rng.integers(0, 3, shape)).astype(np.uint8)).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN of `encore fit pc_compression`; not to be written to."""
    from encore.cli import main

    root = tmp_path_factory.mktemp("fitted")
    save_pictures(root / "photos", 100)
    words = ["fit", "pc_compression", str(root / "photos"), *TINY, "--epochs", "4", "--out", str(root / "run")]
    assert main([*words, "--progress", "none"]) == 0
    return root / "run"


def test_fitting_leaves_a_model_its_curves_and_a_picture(fitted: Path):
    content = json.loads((fitted / "metrics.json").read_text())
    assert 0 < content["metrics"]["bits_per_dimension"] < 8
    rows = json.loads((fitted / "curves.json").read_text())
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5]
    assert rows[-1]["train_bits_per_dimension"] < rows[0]["train_bits_per_dimension"]
    model = library.load(fitted)
    assert model.registered_name == "hclt"
    assert model.sample_shape == (6, 5)
    assert Image.open(fitted / "examples.png").width > 200


def test_a_folder_goes_through_one_file(encore, fitted: Path, tmp_path: Path):
    photos = fitted.parent / "photos"
    answer = encore(
        "compress", photos, "-o", tmp_path / "x.pc", "--codec", "pc_compression", "--model", fitted, "--json"
    )
    assert answer.code == 0, answer.err
    report = json.loads(answer.out)
    assert report["samples"] == 100
    assert report["bytes"] == (tmp_path / "x.pc").stat().st_size
    assert report["bits_per_dimension"] == pytest.approx(8 * report["bytes"] / 3000)
    answer = encore("decompress", tmp_path / "x.pc", "-o", tmp_path / "out", "--model", fitted)
    assert answer.code == 0, answer.err
    names = sorted(one.name for one in photos.iterdir())
    assert names == sorted(one.name for one in (tmp_path / "out").iterdir())
    for name in names:
        assert np.array_equal(read_picture(photos / name), read_picture(tmp_path / "out" / name))


def test_evaluate_says_the_ideal_rate(encore, fitted: Path):
    answer = encore("evaluate", fitted, fitted.parent / "photos", "--json")
    due = json.loads((fitted / "metrics.json").read_text())["metrics"]
    assert json.loads(answer.out)["metrics"] == pytest.approx(due)


def test_a_killed_fit_reaches_the_same_model(tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 300)
    words = [sys.executable, "-m", "encore", "fit", "pc_compression", str(photos), *TINY, "--epochs", "12", "--resume"]
    words += ["--progress", "json", "--set", "training.checkpoint_minutes=0.00001"]
    subprocess.run([*words, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    killed = [*words, "--out", str(tmp_path / "killed")]
    process = subprocess.Popen(killed, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        event = json.loads(line)
        if event.get("stage") == "training pc_compression" and event["step"] >= 20:
            break
    process.kill()
    process.communicate()
    assert (tmp_path / "killed" / "checkpoints" / "last.pt").is_file()
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    subprocess.run(killed, check=True, capture_output=True)
    one, other = (library.load(tmp_path / name).state_dict() for name in ("whole", "killed"))
    assert all(tensor.equal(other[name]) for name, tensor in one.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("compress", "{photos}", "-o", "x.pc", "--codec", "pc_compression"), "needs a model on both sides"),
        (("compress", "{photos}", "-o", "x.pc", "--codec", "hornet", "--model", "{run}"), "has no 'compress'"),
        (
            ("compress", "{photos}", "-o", "{photos}", "--codec", "pc_compression", "--model", "{run}"),
            "is there already",
        ),
        (("compress", "nowhere", "-o", "x.pc", "--codec", "pc_compression", "--model", "{run}"), "does not exist"),
        (("decompress", "nowhere", "-o", "x", "--model", "{run}"), "does not exist"),
        (("decompress", "{run}/model.safetensors", "-o", "x", "--model", "{run}"), "was not made by encore compress"),
        (("predict", "{run}", "{photos}"), "has no 'predict'"),
        (("fit", "pc_compression", "{photos}", "--set", "num_values=100"), "values from 0 to"),
        (("fit", "pc_compression", "{photos}", "--set", "training.inertia=[0,1,2]"), "inertia"),
    ],
)
def test_what_cannot_work_is_answered_with_one_line(encore, fitted: Path, tmp_path: Path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    places = {"photos": str(fitted.parent / "photos"), "run": str(fitted)}
    answer = encore(*(word.format(**places) for word in words), "--progress", "none")
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "x.pc").exists()


def test_a_plain_tree_is_fitted_by_counting(encore, tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 40)
    words = ("fit", "pc_compression", photos, "--set", "model=chow_liu_tree", "--out", tmp_path / "run", "--json")
    answer = encore(*words, "--progress", "none")
    assert answer.code == 0, answer.err
    assert library.load(tmp_path / "run").registered_name == "chow_liu_tree"
    coding = ("--codec", "pc_compression", "--model", tmp_path / "run", "-o", tmp_path / "x.pc", "--progress", "none")
    refused = encore("compress", photos, *coding)
    assert refused.code == 2
    assert "cannot code with" in refused.err
