"""Masked pre-training and fine-tuning through the command line, and what is wrong with their input."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import encore as library
from tests.conftest import Answer

BACKBONE = {"width": 8, "depths": [1, 1], "orders": [1, 2], "filters": [None, None], "layer_scale": 1.0}
SETTINGS = {
    "backbone": "hornet",
    "backbone_arguments": json.dumps(BACKBONE),
    "decoder_width": "16",
    "training.batch_size": "16",
}


def words_of(**changes: str) -> list[str]:
    """The settings, some changed, as words of the command line."""
    return [word for key, value in {**SETTINGS, **changes}.items() for word in ("--set", f"{key}={value}")]


TINY = (*words_of(), "--device", "cpu")
"""A convnet of total stride 8, and a decoder, that train in a second."""

Encore = Callable[..., Answer]


def save_pictures(folder: Path, count: int, *, seed: int = 0, side: int = 32, same: bool = False) -> Path:
    """Smooth random pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        pixels = np.full((4, 4, 3), 90, np.uint8) if same else generator.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN of `encore fit spark`; not to be written to."""
    from encore.cli import main

    root = tmp_path_factory.mktemp("pretrained")
    save_pictures(root / "photos" / "a", 20)
    save_pictures(root / "photos" / "b" / "c", 20, seed=1)
    (root / "photos" / "a" / "broken.png").write_bytes(b"no picture")
    words = ["fit", "spark", str(root / "photos"), *TINY, "--epochs", "2", "--out", str(root / "run")]
    assert main([*words, "--progress", "none"]) == 0
    return root / "run"


def test_pre_training_leaves_the_encoder_pictures_and_the_count_of_what_was_skipped(pretrained: Path):
    assert {path.name for path in (pretrained / "reconstructions").iterdir()} == {"epoch_0001.png", "epoch_0002.png"}
    content = json.loads((pretrained / "metrics.json").read_text())
    assert content["metrics"]["masked_loss"] > 0
    assert sum(content["data"]["sizes"].values()) == 40
    assert len(content["data"]["skipped"]) == 1
    assert "broken.png" in content["data"]["skipped"][0]
    encoder = library.load(pretrained / "encoder")
    assert encoder.registered_name == "hornet"
    assert encoder.preprocessing.size == (32, 32)


def started(photos: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    """`encore fit spark` in a process of its own, its progress readable."""
    command = [sys.executable, "-m", "encore", "fit", "spark", str(photos), *TINY, "--out", str(out), *words]
    return subprocess.Popen(
        [*command, "--progress", "json"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finished(photos: Path, out: Path, *words: str) -> int:
    """`started`, to its end: the exit code."""
    process = started(photos, out, *words)
    process.communicate()
    return process.returncode


def test_two_processes_pre_train_one_encoder(tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 40)
    process = started(photos, tmp_path / "run", "--epochs", "2", "--devices", "2")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [row["epoch"] for row in json.loads((tmp_path / "run" / "curves.json").read_text())] == [1, 2]
    assert {path.name for path in (tmp_path / "run" / "reconstructions").iterdir()} == {
        "epoch_0001.png",
        "epoch_0002.png",
    }
    assert library.load(tmp_path / "run" / "encoder").registered_name == "hornet"


def test_a_killed_pre_training_reaches_the_same_weights(tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 60)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ("--epochs", "8", "--resume")
    assert finished(photos, whole, *words) == 0
    process = started(photos, killed, *words)
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line).get("step", 0) >= 8:
            break
    process.kill()
    process.communicate()
    assert not (killed / "model.safetensors").exists()
    assert finished(photos, killed, *words) == 0
    one, other = library.load(whole).state_dict(), library.load(killed).state_dict()
    assert all(tensor.equal(other[name]) for name, tensor in one.items())
    assert (whole / "curves.json").read_bytes() == (killed / "curves.json").read_bytes()


def test_the_encoder_of_a_run_fills_the_plain_network(pretrained: Path):
    whole, encoder = library.load(pretrained), library.load(pretrained / "encoder")
    model = library.create_model("hornet", weights=pretrained, num_classes=5)
    backbone = library.create_model("hornet", weights=pretrained, features_only=True)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        for one, other, third, fourth in zip(
            whole.eval().forward_features(images),
            encoder.forward_features(images),
            model.eval().forward_features(images),
            backbone.eval()(images),
            strict=True,
        ):
            assert one.equal(other)
            assert one.equal(third)
            assert one.equal(fourth)
    assert model(images).shape == (2, 5)


def test_a_run_with_another_encoder_is_refused(pretrained: Path):
    with pytest.raises(library.InputError, match="make a hornet"):
        library.create_model("resnet18", weights=pretrained)


def test_few_labels_are_fine_tuned_from_the_run_and_predicted(encore: Encore, pretrained: Path, tmp_path: Path):
    for seed, name in enumerate(("cat", "dog")):
        save_pictures(tmp_path / "labelled" / name, 12, seed=seed)
    words = ["--set", "model=hornet", "--set", f"weights={pretrained}", "--set", "train_samples=8", "--device", "cpu"]
    words += ["--epochs", 1, "--out", tmp_path / "tuned", "--json"]
    answer = encore("fit", "classification", tmp_path / "labelled", *words)
    assert answer.code == 0, answer.err
    assert library.load(tmp_path / "tuned").preprocessing.size == (32, 32)
    answer = encore("predict", tmp_path / "tuned", tmp_path / "labelled" / "cat", "--out", tmp_path / "out", "--json")
    assert len(json.loads(answer.out)["predictions"]) == 12


def test_frozen_features_are_measured_on_labelled_pictures(encore: Encore, pretrained: Path, tmp_path: Path):
    for seed, name in enumerate(("cat", "dog")):
        save_pictures(tmp_path / name, 15, seed=seed)
    answer = encore("evaluate", pretrained, tmp_path, "--json", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert set(json.loads(answer.out)["metrics"]) == {"masked_loss", "knn_accuracy", "linear_probe_accuracy"}


def test_folders_that_are_no_classes_are_measured_without_labels(encore: Encore, pretrained: Path, tmp_path: Path):
    save_pictures(tmp_path / "DCIM", 12)
    answer = encore("evaluate", pretrained, tmp_path, "--json", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert set(json.loads(answer.out)["metrics"]) == {"masked_loss"}


def test_an_encoder_with_a_decoder_beside_it_hands_over_what_was_trained(encore: Encore, tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 20)
    words = ["--set", "backbone=segnet_basic", "--set", 'backbone_arguments={"width": 8, "kernel_size": 3}']
    words += ["--set", "decoder_width=16", "--epochs", 1, "--device", "cpu", "--out", tmp_path / "run"]
    answer = encore("fit", "spark", photos, *words, "--progress", "none")
    assert answer.code == 0, answer.err
    due = library.load(tmp_path / "run").encoder.state_dict()
    for classes in (5, 11):
        model = library.create_model("segnet_basic", weights=tmp_path / "run", num_classes=classes)
        own = model.state_dict()
        assert all(own[name].equal(tensor) for name, tensor in due.items())


def test_pictures_are_painted(encore: Encore, pretrained: Path, tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 2, side=50)
    answer = encore("predict", pretrained, photos, "--out", tmp_path / "out", "--json", "--device", "cpu")
    assert answer.code == 0, answer.err
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {"000.png", "001.png", "predictions.jsonl"}


def test_the_plain_encoder_leaves_encore(encore: Encore, pretrained: Path, tmp_path: Path):
    answer = encore("export", pretrained, "--format", "safetensors", "-o", tmp_path / "encoder.safetensors", "--json")
    assert answer.code == 0, answer.err
    model = library.create_model("hornet", **{**BACKBONE, "num_classes": 0}, weights=tmp_path / "encoder.safetensors")
    due = library.load(pretrained / "encoder").state_dict()
    assert all(tensor.equal(due[name]) for name, tensor in model.state_dict().items())
    answer = encore("export", pretrained, "--format", "onnx", "-o", tmp_path / "encoder.onnx", "--json")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"mask_ratio": "0"}, "mask_ratio"),
        ({"mask_ratio": "1"}, "mask_ratio"),
        ({"mask_ratio": "0.01", "image_size": "16"}, "cells visible"),
        ({"image_size": "4"}, "multiple"),
        ({"backbone": "nonesuch"}, "nonesuch"),
        ({"backbone": "upernet", "backbone_arguments": "{}"}, "no feature maps"),
        ({"backbone_arguments": json.dumps({**BACKBONE, "in_channels": 1})}, "pictures have 3"),
        ({"backbone_arguments": json.dumps({**BACKBONE, "breadth": 1})}, "breadth"),
        ({"decoder_width": "7"}, "width"),
        ({"crop_scale": "[1,0.5]"}, "crop_scale"),
    ],
)
def test_settings_that_cannot_work_are_answered_with_one_line(
    encore: Encore, tmp_path: Path, changes: dict[str, str], says: str
):
    photos = save_pictures(tmp_path / "photos", 20)
    words = [*words_of(**changes), "--device", "cpu", "--epochs", 1, "--progress", "none"]
    answer = encore("fit", "spark", photos, *words, "--out", tmp_path / "run")
    assert answer.code == 2, answer.err
    assert says in answer.err
    assert answer.err.strip().count("\n") == 0
    assert not (tmp_path / "run").exists()


def test_a_network_that_attends_is_refused(encore: Encore, tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 20)
    words = ["--set", "backbone=hornet_window_attention", "--set", "backbone_arguments.width=32", "--device", "cpu"]
    words += ["--set", "backbone_arguments.depths=[1,1]", "--set", "decoder_width=16", "--out", tmp_path / "run"]
    answer = encore("fit", "spark", photos, *words)
    assert answer.code == 2
    assert "attends" in answer.err


@pytest.mark.parametrize(
    ("count", "same", "says"), [(0, False, "no pictures"), (3, False, "too few"), (20, True, "all the same")]
)
def test_folders_that_teach_nothing_are_refused(encore: Encore, tmp_path: Path, count: int, same: bool, says: str):
    photos = save_pictures(tmp_path / "photos", count, same=same)
    answer = encore("fit", "spark", photos, *TINY, "--out", tmp_path / "run")
    assert answer.code == 2
    assert says in answer.err
    assert not (tmp_path / "run").exists()


def test_pictures_smaller_than_a_cell_are_enlarged(encore: Encore, tmp_path: Path):
    photos = save_pictures(tmp_path / "photos", 20, side=5)
    answer = encore("fit", "spark", photos, *TINY, "--epochs", 1, "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert library.load(tmp_path / "run").preprocessing.size == (32, 32)


def test_digits_are_written_as_folders_of_classes(encore: Encore, tmp_path: Path):
    answer = encore("data", "make", "digits", "--out", tmp_path / "digits", "--progress", "none")
    assert answer.code == 0, answer.err
    assert sum(1 for _ in (tmp_path / "digits").rglob("*.png")) == 1797
    assert {path.name for path in (tmp_path / "digits" / "val").iterdir()} == set("0123456789")
    again = encore("data", "make", "digits", "--out", tmp_path / "digits", "--progress", "none")
    assert again.code == 2
    assert "not empty" in again.err
    assert encore("data", "make", "mnist", "--out", tmp_path / "mnist").code == 2
