"""Exported programs against the model, in the runtimes they are for, at sizes they were not traced at."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from encore.base.errors import EncoreError, InputError, RunFolderError
from encore.nn.creation import create_model
from encore.nn.export import SUFFIXES, Deployment, Port, export_model
from encore.nn.model import EncoreModel
from encore.papers.segnet.variants import BayesianSegNetBasic
from encore.tasks.segmentation import TASK
from encore.tasks.segmentation.pictures import class_colours

from ..full_disk import disk_full_after

NAMES = (
    "segnet_basic",
    "segnet_basic_encoder_addition",
    "segnet_basic_single_channel_decoder",
    "fcn_basic",
)


def trained(name: str, size: tuple[int, int] | None = None) -> EncoreModel:
    """A small model with classes and statistics of its own."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=4, width=8, kernel_size=3)
    for _ in range(5):
        model(255 * torch.rand(4, 3, 40, 48))
    model.classes, model.colours = ("sky", "road", "häuser", "tree"), class_colours(4)
    model.preprocessing = replace(model.preprocessing, size=size)
    return model.eval()


def eager(model: EncoreModel, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        logits = model(model.preprocess(images))
        return nn.functional.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def pictures(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", NAMES)
def test_onnx_equals_eager_at_any_size(tmp_path, name):
    model = trained(name)
    exported = export_model(model, TASK.deployed(model), tmp_path / "model.onnx", "onnx")
    assert exported.max_difference < 1e-4
    onnx.checker.check_model(tmp_path / "model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 3, 37, 61), (2, 3, 50, 33), (1, 3, 1, 1)):
        images = pictures(*shape)
        (logits,) = session.run(["logits"], {"image": images.numpy()})
        due = eager(model, images)
        assert logits.shape == due.shape
        np.testing.assert_allclose(logits, due, atol=1e-4 * float(due.abs().max()))


def test_torch_export_equals_eager_at_any_size(tmp_path):
    model = trained("segnet_basic")
    export_model(model, TASK.deployed(model), tmp_path / "model.pt2", "torch-export")
    program = torch.export.load(tmp_path / "model.pt2").module()
    for shape in ((1, 3, 37, 61), (3, 3, 32, 50)):
        images = pictures(*shape)
        due = eager(model, images)
        torch.testing.assert_close(program(images), due, rtol=0, atol=1e-4 * float(due.abs().max()))


def test_a_model_trained_at_another_size_sees_pictures_at_its_own(tmp_path):
    model = trained("fcn_basic", size=(40, 48))
    export_model(model, TASK.deployed(model), tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for shape in ((1, 3, 100, 130), (1, 3, 21, 30)):
        images = pictures(*shape)
        (logits,) = session.run(None, {"image": images.numpy()})
        due = eager(model, images)
        np.testing.assert_allclose(logits, due, atol=1e-4 * float(due.abs().max()))


def test_onnx_says_what_it_is_and_leaves_its_lengths_open(tmp_path):
    model = trained("bayesian_segnet_basic")
    exported = export_model(model, TASK.deployed(model), tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["classes"]) == ["sky", "road", "häuser", "tree"]
    assert json.loads(said["colours"]) == [list(colour) for colour in class_colours(4)]
    assert json.loads(said["encore"])["name"] == "bayesian_segnet_basic"
    assert said["note"] == exported.note == "a single pass without dropout"
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]
    assert session.get_outputs()[0].shape == ["batch", 4, "height", "width"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_safetensors_hold_weights_and_description(tmp_path):
    model = trained("segnet_basic")
    export_model(model, None, tmp_path / "model.safetensors", "safetensors")
    again = create_model("segnet_basic", num_classes=4, width=8, kernel_size=3, weights=tmp_path / "model.safetensors")
    assert all(tensor.equal(again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys()
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["encore"])["task"] == "segmentation"


def test_an_export_leaves_the_model_as_it_was(tmp_path):
    model = trained("segnet_basic")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_model(model, TASK.deployed(model), tmp_path / "model.pt2", "torch-export")
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


class Liar(nn.Module):
    """Answers otherwise once it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1 if torch.compiler.is_exporting() else x


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path):
    sizes = ({"length": 8}, {"length": 5})
    port = Port("x", "float32", ("length",))
    deployment = Deployment(Liar(), (port,), (replace(port, name="y"),), sizes)
    with pytest.raises(EncoreError, match="differs from the model"):
        export_model(trained("segnet_basic"), deployment, tmp_path / "model.pt2", "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "format", "error", "message"),
    [
        ("model.pth", "onnx", InputError, r"does not end in \.onnx"),
        ("model.onnx", "tflite", InputError, "unknown format 'tflite'"),
        ("", "onnx", RunFolderError, "is a folder"),
    ],
)
def test_destinations_that_belie_the_format_are_refused(tmp_path, file, format, error, message):
    with pytest.raises(error, match=message) as caught:
        export_model(trained("segnet_basic"), None, tmp_path / file, format)
    assert "\n" not in str(caught.value)


def test_a_missing_extra_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("encore.nn.export.importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'encore-papers\[export\]'"):
        export_model(trained("segnet_basic"), None, tmp_path / "model.onnx", "onnx")


def test_the_deterministic_pass_is_what_a_bayesian_net_exports():
    model = trained("bayesian_segnet_basic")
    assert isinstance(model, BayesianSegNetBasic)
    images = pictures(1, 3, 20, 24)
    due = eager(model, images)
    torch.testing.assert_close(TASK.deployed(model).module(images), due, rtol=1e-4, atol=1e-4 * float(due.abs().max()))


@pytest.mark.parametrize("format", ["onnx", "torch-export", "safetensors"])
def test_a_full_disk_is_named_and_nothing_is_left(tmp_path, format):
    model = trained("segnet_basic")
    file = tmp_path / f"model{SUFFIXES[format]}"
    with disk_full_after(1000), pytest.raises(RunFolderError, match="cannot write"):
        export_model(model, TASK.deployed(model), file, format)
    assert list(tmp_path.iterdir()) == []
