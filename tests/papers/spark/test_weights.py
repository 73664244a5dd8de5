"""Official checkpoints, made here: with decoder, and encoders alone in torchvision's and ConvNeXt's layout."""

import re

import pytest
import torch

from encore.base.errors import CheckpointError
from encore.nn.creation import create_model, from_official

pytest.importorskip("transformers")

RESNET = {"depths": [1, 2], "hidden_sizes": [32, 64], "embedding_size": 16}
BASIC = {**RESNET, "layer_type": "basic"}
SMALL_STEM = {**RESNET, "small_stem": True}
CONVNEXT = {"depths": [1, 2], "dims": [16, 32]}
ENCODERS = {
    "bottlenecks": ("resnet", RESNET),
    "basic blocks": ("resnet", BASIC),
    "small stem": ("resnet", SMALL_STEM),
    "convnext": ("convnext", CONVNEXT),
    "convnext without scale": ("convnext", {**CONVNEXT, "layer_scale": None}),
}


def torchvision_name(name):
    kinds = {"convolution": "conv", "normalization": "bn"}
    if found := re.fullmatch(r"encoder\.embedder\.embedder\.(\w+)\.(\w+)", name):
        return f"{kinds[found[1]]}1.{found[2]}"
    if found := re.fullmatch(r"encoder\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d)\.(\w+)\.(\w+)", name):
        stage, block, place, kind, rest = found.groups()
        return f"layer{int(stage) + 1}.{block}.{kinds[kind]}{int(place) + 1}.{rest}"
    found = re.fullmatch(r"encoder\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.(\w+)\.(\w+)", name)
    return (
        f"layer{int(found[1]) + 1}.{found[2]}.downsample.{list(kinds).index(found[3])}.{found[4]}"
        if found
        else name.replace("head.", "fc.")
    )


def convnext_name(name):
    for pattern, theirs in (
        (r"encoder\.embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
        (r"encoder\.embeddings\.layernorm\.", "downsample_layers.0.1."),
        (r"encoder\.encoder\.stages\.(\d+)\.downsampling_layer\.", r"downsample_layers.\1."),
        (r"encoder\.encoder\.stages\.(\d+)\.layers\.", r"stages.\1."),
        (r"\.layernorm\.", ".norm."),
        (r"layer_scale_parameter", "gamma"),
    ):
        name = re.sub(pattern, theirs, name)
    return name


def official(model, backbone):
    renamed = torchvision_name if backbone == "resnet" else convnext_name
    return {renamed(name): one for name, one in model.state_dict().items()}


def with_decoder(model, backbone):
    state = {f"sparse_encoder.sp_cnn.{name}": one for name, one in official(model.encoder, backbone).items()}
    for name, one in model.state_dict().items():
        if found := re.fullmatch(r"densify\.(\d)\.(norm|proj|mask_token)(.*)", name):
            kind = {"norm": "densify_norms", "proj": "densify_projs", "mask_token": "mask_tokens"}[found[2]]
            state[f"{kind}.{found[1]}{found[3]}"] = one
        elif name.startswith("decoder."):
            theirs = name.replace("decoder.blocks.", "dense_decoder.dec.").replace("decoder.proj", "dense_decoder.proj")
            state[theirs.replace("upsample", "up_sample")] = one
    return {**state, "imn_m": torch.empty(1, 3, 1, 1), "imn_s": torch.empty(1, 3, 1, 1), "norm_black": torch.zeros(3)}


def randomised(model):
    torch.manual_seed(0)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 0.5)
    return model.eval()


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders_alone_open_as_the_plain_backbone(name, tmp_path):
    backbone, arguments = ENCODERS[name]
    model = randomised(create_model(backbone, num_classes=0, **arguments))
    torch.save({"module": official(model, backbone), "is_pretrain": True}, tmp_path / "encoder.pth")
    same = from_official("spark", tmp_path / "encoder.pth")
    assert same.registered_name == backbone
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for one, due in zip(same.forward_features(x), model.forward_features(x), strict=True):
            assert one.equal(due)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("classifies", [True, False])
def test_published_networks_open_by_the_backbones_name_with_other_classes(name, classifies, tmp_path):
    backbone, arguments = ENCODERS[name]
    trained = randomised(create_model(backbone, num_classes=7 if classifies else 0, **arguments))
    torch.save(official(trained, backbone), tmp_path / "published.pth")
    model = create_model(
        backbone, weights=tmp_path / "published.pth", fresh=("norm", "head"), num_classes=3, **arguments
    )
    due, own = trained.state_dict(), model.state_dict()
    assert all(own[one].equal(due[one]) for one in due if one.startswith("encoder."))
    assert model.head.weight.shape[0] == 3


@pytest.mark.parametrize("name", ["bottlenecks", "convnext"])
def test_fine_tuned_encoders_keep_their_classes(name):
    backbone, arguments = ENCODERS[name]
    model = randomised(create_model(backbone, num_classes=7, **arguments))
    same = from_official("spark", official(model, backbone))
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert same(x).equal(model(x))


@pytest.mark.parametrize("name", ["bottlenecks", "convnext"])
@pytest.mark.parametrize("hierarchy", [True, False])
def test_files_with_decoder_open_whole(name, hierarchy, tmp_path):
    backbone, arguments = ENCODERS[name]
    model = randomised(
        create_model(
            "spark",
            backbone=backbone,
            backbone_arguments=arguments,
            image_size=32,
            width=32 if name == "convnext" else 64,
            hierarchy=hierarchy,
        )
    )
    content = {"module": with_decoder(model, backbone), "config": {"mask_ratio": 0.6}}
    torch.save(content, tmp_path / "withdecoder_spark_style.pth")
    same = from_official("spark", tmp_path / "withdecoder_spark_style.pth", image_size=32)
    assert same.configuration["hierarchy"] == (2 if hierarchy else 1)
    images, active = torch.randn(2, 3, 32, 32), model.draw_mask(2)
    with torch.no_grad():
        assert same(images, active).equal(model(images, active))
    torch.testing.assert_close(same.state_dict(), model.state_dict())


def test_other_tensors_are_not_recognised():
    with pytest.raises(CheckpointError, match="not in the layout"):
        from_official("spark", {"features.0.weight": torch.zeros(1)})
