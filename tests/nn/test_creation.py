"""Models by name: made, saved, loaded again, and refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import encore
from encore.base.errors import CheckpointError, ConfigurationError, InputError, RunFolderError, UnknownNameError
from encore.nn.model import FeatureExtractor, FeatureInfo, Preprocessing

TINY = {"num_classes": 3, "width": 8, "kernel_size": 3, "depth": 2}


@pytest.fixture
def model() -> nn.Module:
    made = encore.create_model("segnet_basic", **TINY)
    made.classes, made.colours = ("a", "b", "c"), ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    made.preprocessing = Preprocessing(channel_order="BGR", scale=255.0, size=(12, 16))
    return made.eval()


def test_what_is_saved_is_loaded_with_everything_that_belongs_to_it(model, tmp_path: Path):
    model.save_pretrained(tmp_path / "mine")
    same = encore.load(tmp_path / "mine")
    images = torch.randint(0, 256, (2, 3, 9, 11), dtype=torch.uint8)
    assert torch.equal(same(same.preprocess(images)), model(model.preprocess(images)))
    assert same.classes == model.classes
    assert same.colours == model.colours
    assert same.preprocessing == model.preprocessing
    assert same.task == "segmentation"
    assert not same.training
    assert same.configuration == model.configuration
    described = json.loads((tmp_path / "mine" / "config.json").read_text())["encore"]
    assert {"name", "task", "configuration", "preprocessing", "classes"} <= set(described)


def test_weights_may_be_a_run_a_file_or_a_state_dict(model, tmp_path: Path):
    model.save(tmp_path)
    for weights in (tmp_path, tmp_path / "model.safetensors", model.state_dict()):
        made = encore.create_model("segnet_basic", weights=weights, **TINY)
        assert torch.equal(made.conv1.weight, model.conv1.weight)


def test_an_unknown_model_or_argument_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'segnet_basic'"):
        encore.create_model("segnet_basics")
    with pytest.raises(UnknownNameError, match="did you mean 'num_classes'"):
        encore.create_model("segnet", num_clases=3)


@pytest.mark.parametrize("arguments", [{"kernel_size": 4}, {"num_classes": 0}, {"width": -1}])
def test_an_impossible_argument_is_one_line(arguments: dict[str, int]):
    with pytest.raises(ConfigurationError) as caught:
        encore.create_model("segnet_basic", **{**TINY, **arguments})
    assert "\n" not in str(caught.value)


def test_weights_of_another_net_are_refused(model):
    with pytest.raises(CheckpointError, match="does not fit"):
        encore.create_model("segnet_basic_bilinear", weights=model.state_dict(), **TINY)


def test_a_folder_that_is_no_run_is_refused(model, tmp_path: Path):
    with pytest.raises(RunFolderError, match="no such folder"):
        encore.load(tmp_path / "absent")
    with pytest.raises(RunFolderError, match=r"no config\.json"):
        encore.load(tmp_path)
    for text in ("{", "[]", '{"encore": 3}', '{"encore": {"name": "segnet"}}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(RunFolderError):
            encore.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="no trained model"):
        encore.load(tmp_path)


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    def unreachable(*_: object) -> str:
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InputError, match="no route to host"):
        encore.load("hf://someone/segnet")


def test_a_hub_model_is_loaded_from_where_it_was_downloaded(model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    model.save(tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(tmp_path / name))
    assert torch.equal(encore.load("hf://someone/segnet").conv1.weight, model.conv1.weight)


def test_a_paper_without_mapped_weights_says_so():
    with pytest.raises(InputError, match="no official weights are mapped"):
        encore.from_official("segnet", {"conv1.weight": torch.zeros(1)})
    with pytest.raises(UnknownNameError):
        encore.from_official("segnett", {})


class _Backbone(nn.Module):
    feature_info = (FeatureInfo("one", 3, 1), FeatureInfo("two", 3, 2))

    def forward_features(self, inputs: Tensor) -> list[Tensor]:
        return [inputs, inputs[..., ::2, ::2]]


def test_a_feature_extractor_hands_out_the_maps_that_are_asked_for():
    maps = FeatureExtractor(_Backbone(), [-1])(torch.zeros(1, 3, 4, 4))
    assert [tuple(one.shape) for one in maps] == [(1, 3, 2, 2)]
    with pytest.raises(InputError, match="hands out no feature maps"):
        FeatureExtractor(nn.Linear(2, 2))
    with pytest.raises(InputError, match="out_indices"):
        FeatureExtractor(_Backbone(), [2])


@pytest.mark.parametrize(("name", "arguments"), [("segnet", {}), ("segnet_basic", TINY)])
def test_segnet_s_encoder_is_a_backbone_whose_maps_are_as_described(name: str, arguments: dict[str, int]):
    encoder = encore.create_model(name, features_only=True, **arguments).eval()
    maps = encoder(torch.zeros(1, 3, 64, 96))
    for one, info in zip(maps, encoder.feature_info, strict=True):
        assert tuple(one.shape) == (1, info.num_channels, 64 // info.reduction, 96 // info.reduction)


def test_preprocessing_turns_rgb_bytes_into_what_the_net_takes():
    pixel = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    assert Preprocessing("BGR", scale=255.0)(pixel).flatten().tolist() == [30, 20, 10]
    normalised = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    assert torch.allclose(normalised(pixel), normalised(pixel.float() / 255))
    assert torch.allclose(normalised(pixel).flatten(), (torch.tensor([10, 20, 30]) / 255 - 0.5) / 0.25)
    assert Preprocessing(size=(4, 6))(torch.zeros(3, 9, 9, dtype=torch.uint8)).shape == (1, 3, 4, 6)
    with pytest.raises(InputError, match="where"):
        Preprocessing()(torch.zeros(1, 4, 2, 2))
