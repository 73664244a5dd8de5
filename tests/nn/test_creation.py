"""Making, saving and loading models by name, and using one as a backbone."""

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import encore
from encore.base.errors import (
    CheckpointError,
    ConfigurationError,
    InputError,
    RunFolderError,
    UnknownNameError,
)
from encore.nn.creation import create_model, from_official, load, load_weights
from encore.nn.model import EncoreModel, FeatureExtractor, FeatureInfo, Preprocessing, num_parameters

SMALL = {"num_classes": 3, "width": 8, "kernel_size": 3, "depth": 2}
CLASSES, COLOURS = ("road", "sky", "tree"), ((128, 64, 128), (70, 130, 180), (107, 142, 35))
OWN_PREPROCESSING = Preprocessing("RGB", scale=1.0, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), size=(16, 24))


@pytest.fixture
def trained() -> EncoreModel:
    torch.manual_seed(0)
    model = create_model("segnet_basic", **SMALL, local_response_norm=False)
    model(255 * torch.rand(2, 3, 16, 24))  # gives batch normalisation some statistics
    model.classes, model.colours, model.preprocessing = CLASSES, COLOURS, OWN_PREPROCESSING
    return model.eval()


@pytest.fixture
def run(trained, tmp_path) -> Path:
    trained.save_pretrained(tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def pictures() -> Tensor:
    return torch.randint(0, 256, (2, 3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def change_config(run: Path, **entries) -> None:
    config = json.loads((run / "config.json").read_text())
    config["encore"].update(entries)
    (run / "config.json").write_text(json.dumps(config))


# create_model


def test_a_model_is_made_with_its_name_task_and_configuration():
    model = create_model("segnet_basic", **SMALL)
    assert (model.registered_name, model.task) == ("segnet_basic", "segmentation")
    assert model.configuration == {**SMALL, "in_channels": 3, "local_response_norm": True, "dropout": 0.0}


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError) as caught:
        create_model("segnet_basik")
    assert "did you mean 'segnet_basic'?" in one_line(caught)


def test_an_unknown_argument_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownNameError) as caught:
        create_model("segnet_basic", num_clases=3)
    assert "did you mean 'num_classes'?" in one_line(caught)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("segnet_basic", "kernel_size", 4),
        ("segnet_basic", "kernel_size", -1),
        ("segnet_basic", "num_classes", 0),
        ("segnet_basic", "num_classes", "five"),
        ("segnet_basic", "width", -8),
        ("segnet_basic", "depth", 0),
        ("segnet_basic", "in_channels", None),
        ("segnet", "num_classes", -1),
        ("segnet_basic_encoder_addition", "added_map", "both"),
    ],
)
def test_an_impossible_value_is_refused_in_one_line(name, argument, value):
    with pytest.raises(ConfigurationError) as caught:
        create_model(name, **{argument: value})
    assert argument in one_line(caught)


# saving and loading


def test_a_saved_model_loads_with_all_that_it_knows(trained, run, pictures):
    loaded = load(run)
    assert type(loaded) is type(trained)
    assert not loaded.training
    assert (loaded.classes, loaded.colours, loaded.preprocessing) == (CLASSES, COLOURS, OWN_PREPROCESSING)
    assert (loaded.task, loaded.registered_name) == ("segmentation", "segnet_basic")
    assert loaded.configuration == trained.configuration
    with torch.no_grad():
        assert loaded(loaded.preprocess(pictures)).equal(trained(trained.preprocess(pictures)))


def test_the_public_load_and_from_pretrained_are_the_same(trained, run):
    for loaded in (encore.load(run), encore.load(str(run)), type(trained).from_pretrained(run)):
        assert all(tensor.equal(trained.state_dict()[name]) for name, tensor in loaded.state_dict().items())


def test_a_model_made_from_its_class_is_saved_like_one_made_by_name(trained, tmp_path):
    model = type(trained)(3, width=8, depth=1)
    model.save_pretrained(tmp_path / "direct")
    loaded = load(tmp_path / "direct")
    assert loaded.configuration["width"] == 8
    assert loaded.task == "segmentation"
    assert loaded.classes is None


def test_saving_again_replaces_what_was_there(trained, run):
    trained.classes = ("a", "b", "c")
    trained.save_pretrained(run)
    assert load(run).classes == ("a", "b", "c")


def test_loading_what_is_not_a_run_is_refused(tmp_path):
    for folder, what in [(tmp_path / "absent", "no such folder"), (tmp_path, "no config.json")]:
        with pytest.raises(RunFolderError, match=what) as caught:
            load(folder)
        one_line(caught)


def test_a_run_without_a_trained_model_is_refused(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="holds no trained model") as caught:
        load(run)
    one_line(caught)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"encore": 3}', '{"encore": {"name": "segnet"}}'])
def test_a_damaged_description_is_refused(text, run):
    (run / "config.json").write_text(text)
    with pytest.raises(RunFolderError) as caught:
        load(run)
    one_line(caught)


def test_a_description_that_is_no_text_is_refused(run):
    (run / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(RunFolderError, match="damaged"):
        load(run)


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("name", None),
        ("configuration", [3]),
        ("preprocessing", {"scale": "large"}),
        ("preprocessing", {"channel_order": "GBR"}),
        ("classes", 3),
        ("colours", [[1, 2]]),
    ],
)
def test_an_entry_of_the_wrong_kind_is_named(entry, value, run):
    change_config(run, **{entry: value})
    with pytest.raises(RunFolderError, match=entry) as caught:
        load(run)
    one_line(caught)


def test_weights_that_do_not_fit_the_description_are_refused(run):
    change_config(run, configuration={**SMALL, "num_classes": 4})
    with pytest.raises(CheckpointError, match="conv_classifier") as caught:
        load(run)
    one_line(caught)


@pytest.mark.parametrize("error", [OSError(), OSError("no route\nto host"), ConnectionError("offline")])
def test_a_hub_that_cannot_be_reached_is_said_in_one_line(error, monkeypatch):
    def unreachable(*arguments, **keywords):
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InputError, match="hf://someone/their-segnet cannot be had") as caught:
        encore.load("hf://someone/their-segnet")
    one_line(caught)


def test_a_model_of_the_hub_is_loaded_from_where_it_was_downloaded(run, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, filename: str(run / filename))
    assert encore.load("hf://someone/their-segnet").classes == CLASSES


# weights


def test_weights_come_from_a_state_dict_a_file_or_a_run(trained, run, tmp_path):
    save_file(load_file(run / "model.safetensors"), tmp_path / "a.safetensors")
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "a.pth")
    sources = [trained.state_dict(), {"model": trained.state_dict()}, tmp_path / "a.safetensors", tmp_path / "a.pth"]
    for weights in [*sources, str(tmp_path / "a.pth"), run]:
        model = create_model("segnet_basic", **SMALL, weights=weights)
        assert all(tensor.equal(trained.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_run_as_weights_brings_configuration_classes_and_preprocessing(trained, run):
    model = create_model("segnet_basic", weights=run)
    assert model.configuration == trained.configuration
    assert (model.classes, model.colours, model.preprocessing) == (CLASSES, COLOURS, OWN_PREPROCESSING)
    assert create_model("segnet_basic", weights=run, local_response_norm=True).local_response_norm


def test_a_run_with_other_classes_than_asked_for_is_refused(run):
    with pytest.raises(CheckpointError, match=r"conv_classifier\.weight is \(3, 8, 1, 1\) where \(7, 8, 1, 1\) is due"):
        create_model("segnet_basic", num_classes=7, weights=run)


def test_a_run_of_another_model_is_taken_as_weights_alone(run):
    model = create_model("segnet_basic_encoder_addition", **SMALL, weights=run)
    assert model.classes is None
    with pytest.raises(CheckpointError, match="does not fit SegNet"):
        create_model("segnet", weights=run)


def test_a_run_without_weights_is_refused(run):
    (run / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        create_model("segnet_basic", weights=run)
    one_line(caught)


def test_nothing_that_is_no_checkpoint_is_loaded(trained):
    for weights in ({}, {"epoch": 3}, "absent.pth"):
        with pytest.raises(CheckpointError):
            load_weights(trained, weights)


def test_a_room_without_official_weights_says_so():
    with pytest.raises(InputError, match="no official weights are mapped for 'pdlt'") as caught:
        from_official("pdlt", {"weight": torch.zeros(1)})
    one_line(caught)
    with pytest.raises(UnknownNameError):
        from_official("no_such_paper", {})


# backbones


class ToyBackbone(nn.Module):
    """Halves the picture twice."""

    feature_info = (FeatureInfo("half", 3, 2), FeatureInfo("quarter", 3, 4))

    def forward_features(self, inputs: Tensor) -> list[Tensor]:
        return [inputs[..., ::2, ::2], inputs[..., ::4, ::4]]


def test_any_model_with_feature_info_and_forward_features_is_a_backbone():
    extractor = FeatureExtractor(ToyBackbone())
    x = torch.randn(1, 3, 8, 12)
    assert [tuple(one.shape) for one in extractor(x)] == [(1, 3, 4, 6), (1, 3, 2, 3)]
    assert extractor.feature_info == list(ToyBackbone.feature_info)
    assert extractor.preprocessing == Preprocessing()


@pytest.mark.parametrize(("out_indices", "names"), [((1,), ["quarter"]), ((-1, 0), ["quarter", "half"]), ((), [])])
def test_out_indices_choose_the_maps(out_indices, names):
    extractor = FeatureExtractor(ToyBackbone(), out_indices)
    assert [info.name for info in extractor.feature_info] == names
    assert [8 // one.shape[2] for one in extractor(torch.zeros(1, 3, 8, 8))] == [
        info.reduction for info in extractor.feature_info
    ]


@pytest.mark.parametrize("out_indices", [(2,), (0, -3)])
def test_an_index_outside_is_refused_with_the_number_of_maps(out_indices):
    with pytest.raises(InputError, match="it has 2: 0…1") as caught:
        FeatureExtractor(ToyBackbone(), out_indices)
    one_line(caught)


def test_a_model_without_feature_maps_is_refused():
    with pytest.raises(InputError, match="Linear hands out no feature maps") as caught:
        FeatureExtractor(nn.Linear(2, 2))
    one_line(caught)


def test_out_indices_need_features_only():
    with pytest.raises(ConfigurationError, match="features_only"):
        create_model("segnet_basic", **SMALL, out_indices=(0,))


def test_features_only_gives_the_trained_encoder_alone(trained, run):
    extractor = create_model("segnet_basic", weights=run, features_only=True, out_indices=(1,)).eval()
    assert extractor.feature_info == [FeatureInfo("pool2", 8, 4)]
    assert extractor.preprocessing == OWN_PREPROCESSING
    x = torch.rand(1, 3, 9, 13)
    with torch.no_grad():
        (deepest,) = extractor(x)
        assert deepest.equal(trained.encode(x)[0])
    extractor.train()(torch.rand(2, 3, 9, 13))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in extractor.parameters()), "a parameter is not used"
    assert num_parameters(extractor) < num_parameters(trained)


# preprocessing


def test_raw_bgr_is_the_reversed_channels_as_they_come(pictures):
    inputs = Preprocessing("BGR", scale=255.0)(pictures)
    assert inputs.dtype == torch.float32
    torch.testing.assert_close(inputs, pictures.flip(1).float())


def test_mean_and_std_are_in_the_networks_channel_order_and_scale(pictures):
    mean, std = (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    inputs = Preprocessing("BGR", mean=mean, std=std)(pictures)
    for channel in range(3):
        due = (pictures[:, 2 - channel] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(inputs[:, channel], due)


def test_bytes_and_fractions_are_the_same_pictures(pictures):
    for preprocessing in (Preprocessing(), Preprocessing("BGR", scale=255.0), OWN_PREPROCESSING):
        due = preprocessing(pictures)
        torch.testing.assert_close(preprocessing(pictures / 255), due)
        torch.testing.assert_close(preprocessing(pictures.double() / 255), due)
        torch.testing.assert_close(preprocessing(pictures.long()), due)


def test_a_size_resizes_and_one_picture_becomes_a_batch(pictures):
    assert OWN_PREPROCESSING(pictures).shape == (2, 3, 16, 24)
    assert Preprocessing()(pictures[0]).shape == (1, 3, 20, 30)
    grey = torch.full((1, 3, 7, 5), 100, dtype=torch.uint8)
    torch.testing.assert_close(Preprocessing(scale=255.0, size=(3, 9))(grey), torch.full((1, 3, 3, 9), 100.0))


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4), (1, 4, 4, 4), (1, 1, 3, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match=r"\(B, 3, H, W\)") as caught:
        Preprocessing()(torch.zeros(shape))
    one_line(caught)
