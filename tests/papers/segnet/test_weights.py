"""Published weights: files in the authors' layout, computed by hand as Caffe would."""

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import encore
from encore.base.errors import CheckpointError
from encore.nn.creation import create_model, from_official
from encore.papers.segnet.model import DECODER, ENCODER
from encore.papers.segnet.weights import VGG16_BN_PLACES

from ...nn.caffe_files import write_caffemodel

Layers = dict[str, list[Tensor]]


def layer(generator: torch.Generator, out: int, into: int, side: int) -> list[Tensor]:
    scale = (2 / (into * side * side)) ** 0.5
    draw = [torch.randn(out, into, side, side, generator=generator) * scale, torch.randn(out, generator=generator)]
    return [draw[0], 0.1 * draw[1]]


def normalisation(generator: torch.Generator, channels: int) -> list[Tensor]:
    shape = (1, channels, 1, 1)
    return [0.5 + torch.rand(shape, generator=generator), torch.randn(shape, generator=generator)]


@pytest.fixture(scope="module")
def basic_layers() -> Layers:
    """SegNet-Basic with six channels, 5×5 kernels and three stages, folded as published."""
    generator = torch.Generator().manual_seed(0)
    layers: Layers = {"data": [], "norm": []}
    for stage, into in ((1, 3), (2, 6), (3, 6)):
        layers[f"conv{stage}"] = layer(generator, 6, into, 5)
        layers[f"conv{stage}_bn"] = normalisation(generator, 6)
    for stage in (3, 2, 1):
        layers[f"conv_decode{stage}"] = layer(generator, 6, 6, 5)
        layers[f"conv_decode{stage}_bn"] = normalisation(generator, 6)
    layers["conv_classifier"] = layer(generator, 11, 6, 1)
    return layers


def caffe_forward(layers: Layers, x: Tensor) -> Tensor:
    """The prototxt's layers one after the other, with PyTorch's own pooling and unpooling."""

    def unit(name: str, x: Tensor) -> Tensor:
        weight, bias = layers[name]
        scale, shift = layers[f"{name}_bn"]
        return scale * F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2) + shift

    x = F.local_response_norm(x, 5, 1e-4, 0.75)
    stages = sum(name.startswith("conv_decode") and not name.endswith("bn") for name in layers)
    kept = []
    for stage in range(1, stages + 1):
        x = F.relu(unit(f"conv{stage}", x))
        size = x.shape[-2:]
        x, indices = F.max_pool2d(x, 2, 2, ceil_mode=True, return_indices=True)
        kept.append((indices, size))
    for stage in range(stages, 0, -1):
        indices, size = kept.pop()
        x = unit(f"conv_decode{stage}", F.max_unpool2d(x, indices, 2, 2, output_size=size))
    return F.conv2d(x, *layers["conv_classifier"])


@pytest.mark.parametrize("old", [False, True])
def test_a_basic_caffemodel_answers_as_caffe_computes_it(tmp_path, basic_layers, old):
    path = write_caffemodel(tmp_path / "segnet_basic_camvid.caffemodel", basic_layers, old=old)
    model = from_official("segnet", path)
    assert model.registered_name == "segnet_basic"
    assert model.configuration["width"] == 6
    assert model.configuration["kernel_size"] == 5
    assert model.configuration["depth"] == 3
    x = 255 * torch.rand(2, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), caffe_forward(basic_layers, x), rtol=1e-4, atol=1e-3)
    assert model.preprocessing.channel_order == "BGR"
    assert model.classes is not None
    assert model.classes[0] == "sky"


def test_a_caffemodel_loads_and_predicts(tmp_path, basic_layers):
    path = write_caffemodel(tmp_path / "segnet_basic_camvid.caffemodel", basic_layers)
    from_official("segnet", path).save_pretrained(tmp_path / "run")
    Image.effect_noise((61, 45), 80).convert("RGB").save(tmp_path / "photo.png")
    rows = encore.predict(tmp_path / "run", tmp_path / "photo.png", out=tmp_path / "out")
    assert rows[0]["width"] == 61
    assert sum(rows[0]["classes"].values()) == pytest.approx(1, abs=1e-5)
    assert (tmp_path / "out" / "photo_overlay.png").is_file()


def test_the_bayesian_basic_net_is_known_by_its_classifier(tmp_path, basic_layers):
    layers = dict(basic_layers)
    layers["dense_softmax_inner_prod"] = layers.pop("conv_classifier")
    model = from_official("segnet", write_caffemodel(tmp_path / "net.caffemodel", layers), num_samples=3)
    assert model.registered_name == "bayesian_segnet_basic"
    x = 255 * torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(x), caffe_forward(basic_layers, x), rtol=1e-4, atol=1e-3)
        first, second = model.sample_logits(x, 2)
    assert not first.equal(second)


@pytest.mark.slow
def test_a_full_caffemodel_has_the_layers_of_both_full_nets(tmp_path):
    generator = torch.Generator().manual_seed(0)
    layers: Layers = {}
    into = 3
    for name, channels in (unit for stage in (*ENCODER, *DECODER) for unit in stage):
        layers[name] = layer(generator, channels, into, 3)
        layers[f"{name}_bn"] = normalisation(generator, channels)
        into = channels
    layers["conv1_1_D"] = layer(generator, 12, into, 3)
    path = write_caffemodel(tmp_path / "segnet_weights_driving_webdemo.caffemodel", layers)
    model = from_official("segnet", path)
    assert model.registered_name == "segnet"
    assert model.num_classes == 12
    assert model.classes == tuple(f"class_{index}" for index in range(12))
    bayesian = create_model("bayesian_segnet", num_classes=12, weights=path).eval()
    x = 255 * torch.rand(1, 3, 33, 40, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits = model(x)
        assert bayesian(x).equal(logits)
        scale, shift = layers["conv1_1_bn"]
        first = F.relu(scale * F.conv2d(x, *layers["conv1_1"], padding=1) + shift)
        torch.testing.assert_close(model.apply_unit("conv1_1", x), first, rtol=1e-4, atol=1e-3)
    assert logits.shape == (1, 12, 33, 40)


def test_weights_of_another_size_or_net_are_refused_in_one_line(tmp_path, basic_layers):
    path = write_caffemodel(tmp_path / "net.caffemodel", basic_layers)
    for name, arguments in (("segnet_basic", {}), ("segnet", {}), ("fcn_basic", {"width": 6})):
        with pytest.raises(CheckpointError) as error:
            create_model(name, weights=path, **arguments)
        assert "does not fit" in str(error.value)
        assert "\n" not in str(error.value)


def test_a_caffemodel_of_another_net_is_refused(tmp_path):
    path = write_caffemodel(tmp_path / "alexnet.caffemodel", {"conv1": [torch.zeros(96, 3, 11, 11)]})
    with pytest.raises(CheckpointError, match="not in the layout of the official 'segnet' code"):
        from_official("segnet", path)


def vgg16_bn() -> nn.Sequential:
    """`torchvision.models.vgg16_bn().features`, with weights of its own."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    into = 3
    for stage in ENCODER:
        for _, channels in stage:
            norm = nn.BatchNorm2d(channels)
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
            layers += [nn.Conv2d(into, channels, 3, padding=1), norm, nn.ReLU()]
            into = channels
        layers.append(nn.MaxPool2d(2, 2))
    return nn.Sequential(*layers).eval()


@pytest.mark.slow
def test_a_torchvision_encoder_gives_its_features_and_preprocessing(tmp_path):
    features = vgg16_bn()
    assert all(isinstance(features[place], nn.Conv2d) for place in VGG16_BN_PLACES)
    state = {f"features.{name}": tensor for name, tensor in features.state_dict().items()}
    state["classifier.0.weight"] = torch.zeros(4096, 8)
    torch.save(state, tmp_path / "vgg16_bn.pth")
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(one).view(1, 3, 1, 1) for one in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        due = features((images / 255 - mean) / std)
        for name in ("segnet", "fcn8s_learnt", "deconvnet"):
            backbone = create_model(name, weights=tmp_path / "vgg16_bn.pth", features_only=True).eval()
            answer = backbone(backbone.preprocessing(images))[-1]
            torch.testing.assert_close(answer, due, rtol=1e-4, atol=1e-4)
        model = create_model("segnet", num_classes=3, weights=tmp_path / "vgg16_bn.pth")
        assert model.eval()(model.preprocess(images)).shape == (1, 3, 64, 96)
    with pytest.raises(CheckpointError, match="a VGG16 has no decoder"):
        from_official("segnet", tmp_path / "vgg16_bn.pth")
    with pytest.raises(CheckpointError, match="does not fit SegNetBasic"):
        create_model("segnet_basic", weights=tmp_path / "vgg16_bn.pth")
