"""Backbones of transformers: published sizes, heads equal to the library's own, weights from folders, saving."""

import json
import sys

import pytest
import torch

from encore.base import registry
from encore.base.errors import CheckpointError, ConfigurationError, InputError, UnknownNameError
from encore.nn.creation import create_model, load
from encore.nn.model import IMAGENET, num_parameters
from encore.nn.stochastic_depth import DropPath

PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet26": 15_995_176,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnextv2_tiny": 28_635_496,
    "convnextv2_base": 88_717_800,
    "swin_tiny": 28_288_354,
    "swin_small": 49_606_258,
    "swin_base": 87_768_224,
    "swin_large": 196_532_476,
}

SMALL = {
    "resnet": {"depths": [1, 2], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"},
    "convnext": {"depths": [1, 2], "dims": [8, 16]},
    "convnextv2": {"depths": [1, 2], "dims": [8, 16]},
    "swin": {"depths": [2, 2], "num_heads": [1, 2], "embed_dim": 8, "window_size": 4},
}
"""Arguments of ours."""

CONFIGS = {
    "resnet": {"depths": [1, 2], "hidden_sizes": [8, 16], "embedding_size": 8, "layer_type": "basic"},
    "convnext": {"depths": [1, 2], "hidden_sizes": [8, 16], "num_stages": 2},
    "convnextv2": {"depths": [1, 2], "hidden_sizes": [8, 16], "num_stages": 2},
    "swin": {"depths": [2, 2], "num_heads": [1, 2], "embed_dim": 8, "window_size": 4},
}
"""The same, as transformers calls them."""


def one_line(error: pytest.ExceptionInfo) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_without_transformers_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"pip install 'encore-papers\[text\]'") as caught:
        create_model("resnet18")
    one_line(caught)


def test_models_of_the_library_are_listed_and_belong_to_no_paper():
    assert "resnet50" in registry.list_models(task="classification")
    assert "resnet50" not in registry.list_models(task="segmentation")
    assert "resnet50" not in registry.list_models(paper="segnet")
    assert registry.paper_of_model("resnet50") is None
    registry.require_model_verb("resnet50", "predict")
    with pytest.raises(UnknownNameError, match="did you mean 'resnet50'"):
        registry.paper_of_model("resnet500")


def test_dropped_paths_keep_the_mean():
    torch.manual_seed(0)
    branch = DropPath(0.25).train()(torch.ones(4000, 2, 1))
    assert branch.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert branch.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(DropPath(0.25).eval()(torch.ones(4)), torch.ones(4))


transformers = pytest.importorskip("transformers")


def published(folder, family, num_labels=3, kind="ForImageClassification", **more):
    """A folder as the hub has it, with random weights and statistics; returns the model that was saved."""
    torch.manual_seed(1)
    config = transformers.AutoConfig.for_model(
        family, **CONFIGS[family], id2label={index: f"label {index}" for index in range(num_labels)}, **more
    )
    auto = transformers.AutoModelForImageClassification if kind == "ForImageClassification" else transformers.AutoModel
    model = auto.from_config(config)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 0.9)
    model.save_pretrained(folder)
    return model.eval()


def test_every_promised_model_is_registered():
    for name in registry.list_models(task="classification"):
        assert callable(registry.model_factory(name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_as_many_as_published(name):
    with torch.device("meta"):
        assert num_parameters(create_model(name)) == PUBLISHED[name]


@pytest.mark.parametrize("family", SMALL)
def test_maps_are_as_described_for_pictures_of_any_size(family):
    model = create_model(family, features_only=True, **SMALL[family]).eval()
    for height, width in [(64, 64), (40, 72), (37, 50)]:
        maps = model(torch.randn(2, 3, height, width))
        for one, info in zip(maps, model.feature_info, strict=True):
            assert one.shape[:2] == (2, info.num_channels)
            assert one.shape[2] in (height // info.reduction, -(-height // info.reduction))
            assert one.shape[3] in (width // info.reduction, -(-width // info.reduction))


@pytest.mark.parametrize("family", SMALL)
def test_the_encoder_alone_has_neither_norm_nor_head(family):
    whole = create_model(family, num_classes=5, **SMALL[family])
    alone = create_model(family, features_only=True, out_indices=(-1,), **SMALL[family])
    names = {name.removeprefix("model.") for name in alone.state_dict()}
    assert names == {name for name in whole.state_dict() if not name.startswith(("norm.", "head."))}
    assert len(alone(torch.randn(1, 3, 32, 32))) == 1


def test_resnet50_hands_out_the_maps_of_its_four_stages():
    with torch.device("meta"):
        model = create_model("resnet50", features_only=True)
        maps = model(torch.empty(1, 3, 224, 224))
    assert [tuple(one.shape) for one in maps] == [
        (1, 256, 56, 56),
        (1, 512, 28, 28),
        (1, 1024, 14, 14),
        (1, 2048, 7, 7),
    ]
    assert [info.reduction for info in model.feature_info] == [4, 8, 16, 32]


@pytest.mark.parametrize("family", SMALL)
def test_a_published_classifier_fills_encoder_head_and_classes(family, tmp_path):
    theirs = published(tmp_path, family)
    ours = create_model("transformers_backbone", source=str(tmp_path)).eval()
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(pictures), theirs(pictures).logits)
    assert ours.classes == ("label 0", "label 1", "label 2")
    assert ours.preprocessing == IMAGENET


@pytest.mark.parametrize("family", SMALL)
def test_the_own_number_of_classes_begins_a_fresh_head_on_the_pretrained_encoder(family, tmp_path):
    theirs = published(tmp_path, family)
    ours = create_model("transformers_backbone", source=str(tmp_path), num_classes=7).eval()
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours.pooled(pictures), theirs.base_model(pictures).pooler_output.flatten(1))
        assert ours(pictures).shape == (2, 7)
    assert ours.classes is None


@pytest.mark.parametrize("family", SMALL)
def test_an_encoder_without_head_fills_the_encoder(family, tmp_path):
    theirs = published(tmp_path, family, kind="Model")
    ours = create_model("transformers_backbone", source=str(tmp_path)).eval()
    assert (ours.num_classes, ours.classes) == (0, None)
    pictures = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        last = theirs(pictures)
        maps = ours.forward_features(pictures)
    if family == "swin":
        assert maps[-1].flatten(2).mT.shape == last.last_hidden_state.shape
    else:
        torch.testing.assert_close(maps[-1], last.last_hidden_state)


@pytest.mark.parametrize("family", SMALL)
def test_a_saved_model_needs_its_source_no_more(family, tmp_path, monkeypatch):
    published(tmp_path / "source", family)
    model = create_model("transformers_backbone", source=str(tmp_path / "source"), drop_path=0.2).eval()
    model.save_pretrained(tmp_path / "run")
    written = json.loads((tmp_path / "run" / "config.json").read_text())["encore"]["configuration"]
    assert "source" not in written
    assert written["config"]["model_type"] == family
    (tmp_path / "source").rename(tmp_path / "elsewhere")
    loaded = load(tmp_path / "run")
    pictures = torch.randn(1, 3, 32, 32)
    assert torch.equal(loaded(pictures), model(pictures))
    assert loaded.classes == model.classes
    assert loaded.configuration == model.configuration


@pytest.mark.parametrize("family", SMALL)
def test_a_named_model_is_saved_and_loaded(family, tmp_path):
    model = create_model(family, num_classes=4, in_channels=2, drop_path=0.1, **SMALL[family]).eval()
    model.save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert (loaded.registered_name, loaded.task) == (family, "classification")
    pictures = torch.randn(1, 2, 32, 32)
    assert torch.equal(loaded(pictures), model(pictures))


def test_preprocessing_is_that_of_the_folder(tmp_path):
    published(tmp_path, "resnet")
    content = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "rescale_factor": 1 / 255}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    read = create_model("transformers_backbone", source=str(tmp_path)).preprocessing
    assert (read.mean, read.std, read.scale, read.size) == ((0.5,) * 3, (0.25,) * 3, pytest.approx(1.0), None)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5]}')
    with pytest.raises(InputError, match="preprocessor_config") as caught:
        create_model("transformers_backbone", source=str(tmp_path))
    one_line(caught)


def test_an_architecture_without_weights_is_made_of_its_config():
    config = {"model_type": "dinov2", "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = create_model("transformers_backbone", config={**config, "patch_size": 8, "image_size": 32}, num_classes=3)
    assert [tuple(info) for info in model.feature_info] == [("stage1", 12, 8), ("stage2", 12, 8)]
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 3)


def test_a_backbone_without_a_known_head_is_filled_from_its_folder(tmp_path):
    config = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
    theirs = transformers.AutoModel.from_config(transformers.AutoConfig.for_model("dinov2", **config)).eval()
    theirs.save_pretrained(tmp_path)
    ours = create_model("transformers_backbone", source=str(tmp_path)).eval()
    pictures = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        patches = theirs(pictures).last_hidden_state[:, 1:].mT.reshape(2, 12, 4, 4)
        torch.testing.assert_close(ours.forward_features(pictures)[-1], patches)


@pytest.mark.parametrize("family", ["convnext", "swin"])
def test_feature_norms_normalise_every_map(family):
    arguments = {**SMALL[family], "features_only": True}
    pictures = torch.randn(1, 3, 64, 64)
    for one in create_model(family, feature_norms=True, **arguments)(pictures):
        torch.testing.assert_close(one.mean(1), torch.zeros_like(one.mean(1)), atol=1e-5, rtol=0)
    assert not any("norms" in name for name in create_model(family, **arguments).state_dict())


def test_swin_answers_a_picture_in_the_same_way_whatever_it_saw_before():
    model = create_model("swin", num_classes=3, **SMALL["swin"]).eval()
    pictures = torch.randn(1, 3, 96, 96)
    with torch.no_grad():
        before = model(pictures)
        model(torch.randn(1, 3, 16, 16))
        assert torch.equal(model(pictures), before)


def test_swins_tables_of_positions_do_not_decay():
    model = create_model("swin", **SMALL["swin"])
    assert model.no_weight_decay() == {name for name in model.state_dict() if "bias_table" in name}
    assert len(model.no_weight_decay()) == 4


def test_a_small_stem_keeps_the_size_of_small_pictures():
    model = create_model("resnet18", small_stem=True, features_only=True)
    maps = model(torch.randn(1, 3, 32, 32))
    assert [one.shape[-1] for one in maps] == [32, 16, 8, 4]
    assert [info.reduction for info in model.feature_info] == [1, 2, 4, 8]


@pytest.mark.parametrize("family", SMALL)
def test_dropped_paths_act_in_training_alone_and_rise_from_zero(family):
    torch.manual_seed(0)
    model = create_model(family, num_classes=3, drop_path=0.5, **SMALL[family])
    rates = [
        getattr(module, "probability", None) or getattr(module, "drop_prob", 0.0)
        for module in model.modules()
        if "DropPath" in type(module).__name__
    ]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.5)
    pictures = torch.randn(4, 3, 64, 64)
    assert torch.equal(model.eval()(pictures), model(pictures))
    assert set(model.state_dict()) == set(create_model(family, num_classes=3, **SMALL[family]).state_dict())


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("resnet", {"depths": [1, 1]}, "depths 2"),
        ("resnet", {"layer_type": "wide"}, "layer_type"),
        ("resnet", {"depths": [1], "hidden_sizes": [6]}, "multiples of 4"),
        ("resnet18", {"num_classes": -1}, "num_classes"),
        ("resnet18", {"in_channels": 0}, "in_channels"),
        ("resnet18", {"drop_path": 1.0}, "drop_path"),
        ("convnext", {"dims": [8, 16]}, "dims 2"),
        ("convnext", {"patch_size": 0}, "patch_size"),
        ("swin", {"depths": [1], "num_heads": [5]}, "num_heads"),
        ("transformers_backbone", {}, "give source"),
        ("transformers_backbone", {"config": {"depths": [1]}}, "model_type"),
        ("transformers_backbone", {"config": {"model_type": "resnet", "layer_type": "wide"}}, "layer_type"),
        ("transformers_backbone", {"config": {"model_type": "resnet"}, "feature_norms": True}, "feature_norms"),
        ("transformers_backbone", {"config": {"model_type": "convnext"}, "small_stem": True}, "small_stem"),
    ],
)
def test_impossible_arguments_are_refused_in_one_line(name, arguments, said):
    with pytest.raises(ConfigurationError, match=said) as caught:
        create_model(name, **arguments)
    one_line(caught)


def test_a_source_that_is_none_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_text("{")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "config.json").write_text('{"model_type": "bert"}')
    for source, said in [
        (tmp_path / "absent", "no folder"),
        (tmp_path / "empty", "no config.json"),
        (tmp_path / "damaged", "damaged"),
        (tmp_path / "text", "'bert', which is no backbone"),
        ("bad name of/model", "bad name of/model"),
    ]:
        with pytest.raises(InputError, match=said) as caught:
            create_model("transformers_backbone", source=str(source))
        one_line(caught)


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch):
    def refuse(*_, **__):
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refuse)
    with pytest.raises(InputError, match=r"someone/model .*couldn't connect.*check the name") as caught:
        create_model("transformers_backbone", source="someone/model")
    one_line(caught)


def test_weights_that_are_missing_damaged_or_of_another_shape_are_refused(tmp_path):
    published(tmp_path, "resnet")
    config, weights = tmp_path / "config.json", tmp_path / "model.safetensors"
    whole = config.read_text()

    def refused(said):
        with pytest.raises(CheckpointError, match=said) as caught:
            create_model("transformers_backbone", source=str(tmp_path))
        one_line(caught)

    config.write_text(json.dumps({**json.loads(whole), "hidden_sizes": [8, 32]}))
    refused("do not fit its config.json")
    config.write_text(json.dumps({**json.loads(whole), "depths": [2, 2]}))
    refused("of the encoder open")
    config.write_text(whole)
    weights.write_bytes(weights.read_bytes()[:-50])
    refused("cannot be loaded")
    weights.unlink()
    refused("cannot be loaded")


def test_other_channels_than_those_of_the_weights_are_refused(tmp_path):
    published(tmp_path, "resnet")
    with pytest.raises(ConfigurationError, match=r"in_channels is 4, but .* takes 3"):
        create_model("transformers_backbone", source=str(tmp_path), in_channels=4)


def test_loading_says_nothing(tmp_path, capfd, recwarn):
    published(tmp_path, "swin")
    capfd.readouterr()
    recwarn.clear()
    create_model("transformers_backbone", source=str(tmp_path), num_classes=2)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
