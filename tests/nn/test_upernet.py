"""UPerNet: its decoder against a slow reference, any backbone, weights of the backbone, and the auxiliary loss."""

import json
from itertools import product

import pytest
import torch
import torch.nn.functional as F

from encore.base.errors import InputError
from encore.data.contracts import VOID
from encore.nn.batch_norm import folded
from encore.nn.creation import create_model, load
from encore.nn.export import export_model
from encore.nn.model import FeatureInfo, num_parameters
from encore.nn.upernet import NUM_SCALES, PyramidPooling, UPerHead, coarsest_scales, grid_means
from encore.papers.hornet.model import HorNet
from encore.tasks.segmentation import TASK
from encore.tasks.segmentation.losses import SegmentationLoss
from encore.tasks.segmentation.module import SegmentationModule
from encore.training.configuration import TrainingConfiguration

SMALL_HORNET = {"width": 16, "depths": [1, 1, 1, 1], "feature_norms": True}
SMALL = {"num_classes": 3, "backbone": "hornet", "backbone_arguments": SMALL_HORNET, "channels": 8}


def with_statistics(module: torch.nn.Module) -> torch.nn.Module:
    """Batch normalisation that does something in evaluation mode."""
    for one in module.modules():
        if isinstance(one, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(one.running_mean)
            torch.nn.init.uniform_(one.running_var, 0.5, 2)
    return module.eval()


@pytest.mark.parametrize(("size", "side"), list(product([(7, 7), (5, 9), (1, 2), (12, 6)], (1, 2, 3, 6))))
def test_means_over_grids_are_those_of_cells_that_a_mean_touches(size, side, monkeypatch):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    due = torch.empty(2, 3, side, side, dtype=torch.float64)
    for row, column in product(range(side), repeat=2):
        top, left = (place * length // side for place, length in zip((row, column), size, strict=True))
        bottom, right = (-(-(place + 1) * length // side) for place, length in zip((row, column), size, strict=True))
        due[:, :, row, column] = x[:, :, top:bottom, left:right].mean((-2, -1))
    torch.testing.assert_close(grid_means(x, side), due)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(grid_means(x, side), due)


def unit(module, x):
    """Convolution, normalisation by the stored statistics, ReLU."""
    norm = module.conv_bn
    x = F.conv2d(x, module.conv.weight, padding=module.conv.padding)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return ((x - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp(min=0)


def enlarged(x, size):
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def test_the_decoder_is_that_of_the_paper_step_by_step():
    torch.manual_seed(0)
    head = with_statistics(UPerHead((4, 6, 8), 5, 3)).double()
    maps = [torch.randn(1, 4, 12, 16), torch.randn(1, 6, 6, 8), torch.randn(1, 8, 3, 4)]
    maps = [one.double() for one in maps]
    with torch.no_grad():
        pyramid = [maps[2]]
        for side, projection in zip((1, 2, 3, 6), head.pooling.projections, strict=True):
            pyramid.append(enlarged(unit(projection, F.adaptive_avg_pool2d(maps[2], side)), (3, 4)))
        coarse = unit(head.pooling.bottleneck, torch.cat(pyramid, 1))
        middle = unit(head.laterals[1], maps[1]) + enlarged(coarse, (6, 8))
        fine = unit(head.laterals[0], maps[0]) + enlarged(middle, (12, 16))
        levels = [unit(head.outputs[0], fine), enlarged(unit(head.outputs[1], middle), (12, 16))]
        together = torch.cat([*levels, enlarged(coarse, (12, 16))], 1)
        due = head.classifier(unit(head.fusion, together))
        torch.testing.assert_close(head(maps), due)


def test_a_decoder_of_one_map_works():
    head = UPerHead((8,), 5, 3)
    assert head([torch.randn(2, 8, 6, 4)]).shape == (2, 3, 6, 4)


def test_pyramid_pooling_has_the_parameters_of_its_convolutions():
    pooling = PyramidPooling(512, 512)
    convolutions = 4 * 512 * 512 + (512 + 4 * 512) * 512 * 9
    assert num_parameters(pooling) == convolutions + 5 * 2 * 512


def test_the_coarsest_scales_are_decoded_and_of_each_its_last_map():
    infos = [FeatureInfo(str(place), 8, reduction) for place, reduction in enumerate((2, 4, 4, 8, 16, 32, 32))]
    assert coarsest_scales(infos) == [2, 3, 4, 6]
    assert coarsest_scales(infos[:1]) == [0]
    assert NUM_SCALES == 4


@pytest.mark.parametrize(
    ("backbone", "arguments"),
    [
        ("hornet", SMALL_HORNET),
        ("hornet", {"width": 16, "depths": [1], "orders": [2], "filters": [None]}),
        ("hornet_window_attention", {"width": 8, "depths": [1, 1]}),
        ("segnet_basic", {"width": 8, "kernel_size": 3}),
    ],
)
def test_any_backbone_is_decoded_and_saved(backbone, arguments, tmp_path):
    torch.manual_seed(0)
    model = create_model("upernet", num_classes=3, backbone=backbone, backbone_arguments=arguments, channels=8)
    model(torch.randn(2, 3, 48, 64))
    x = torch.randn(2, 3, 48, 64)
    model.eval()
    with torch.no_grad():
        logits = model(x)
    finest = model.backbone.feature_info[model.levels[0]].reduction
    assert logits.shape == (2, 3, 48 // finest, 64 // finest)
    model.save(tmp_path)
    same = load(tmp_path)
    with torch.no_grad():
        assert same(x).equal(logits)
    assert same.task == "segmentation"


def test_what_a_model_takes_is_what_its_backbone_takes():
    backbone = create_model("segnet_basic", features_only=True)
    model = create_model("upernet", num_classes=2, backbone="segnet_basic", channels=8)
    assert model.preprocessing == backbone.preprocessing


def test_a_model_without_maps_is_no_backbone():
    with pytest.raises(InputError, match="hands out no feature maps"):
        create_model("upernet", backbone="upernet", backbone_arguments={"channels": 8})


def test_a_backbone_starts_from_a_classifier_with_fresh_norms(tmp_path):
    torch.manual_seed(0)
    trained = create_model("hornet", num_classes=1000, width=16, depths=[1, 1, 1, 1], layer_scale=1.0)
    state = {name.replace(".mixer.", ".gnconv."): tensor for name, tensor in trained.state_dict().items()}
    torch.save({"model": state}, tmp_path / "official.pth")
    model = create_model("upernet", **SMALL, backbone_weights=tmp_path / "official.pth")
    filled = model.state_dict()
    for name, tensor in trained.state_dict().items():
        if not name.startswith(("norm.", "head.")):
            assert filled[f"backbone.model.{name}"].equal(tensor)
    assert filled["backbone.model.norm0.weight"].eq(1).all()


def test_a_backbone_of_an_official_segmenter_fills_the_backbone():
    trained = HorNet(num_classes=0, **SMALL_HORNET)
    torch.nn.init.normal_(trained.norm2.weight)
    state = {f"backbone.{name.replace('.mixer.', '.gnconv.')}": one for name, one in trained.state_dict().items()}
    model = create_model("upernet", **SMALL, backbone_weights=state)
    assert model.backbone.model.norm2.weight.equal(trained.norm2.weight)


def test_weights_of_the_backbone_are_needed_only_once(tmp_path):
    torch.manual_seed(0)
    classifier = create_model("hornet", num_classes=7, width=16, depths=[1, 1, 1, 1], layer_scale=0.5)
    classifier.save(tmp_path / "classifier")
    model = create_model(
        "upernet", num_classes=3, backbone="hornet", channels=8, backbone_weights=tmp_path / "classifier"
    )
    assert model.backbone.model.stages[0][0].gamma1.eq(0.5).all()
    assert "backbone_weights" not in model.configuration
    assert model.configuration["backbone_arguments"]["width"] == 16
    model.save(tmp_path / "segmenter")
    (tmp_path / "classifier" / "model.safetensors").unlink()
    assert "classifier" not in json.dumps(json.loads((tmp_path / "segmenter" / "config.json").read_text()))
    same = load(tmp_path / "segmenter")
    assert all(same.state_dict()[name].equal(tensor) for name, tensor in model.state_dict().items())


def test_both_heads_are_trained_and_the_auxiliary_loss_counts_by_its_weight():
    torch.manual_seed(0)
    model = create_model("upernet", **SMALL, auxiliary_weight=0.4, dropout=0.0)
    loss = SegmentationLoss(3)
    module = SegmentationModule(model, loss, TrainingConfiguration(), ("a", "b", "c"))
    images, masks = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8), torch.randint(0, 3, (2, 64, 64))
    masks[:, :9] = VOID
    total = module.training_step({"image": images, "mask": masks.to(torch.uint8)}, 0)
    maps = model.maps(model.preprocess(images))
    main, auxiliary = (enlarged(one, (64, 64)) for one in (model.decode_head(maps), model.auxiliary_head(maps[2])))
    torch.testing.assert_close(total, loss(main, masks) + 0.4 * loss(auxiliary, masks))
    total.backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


def test_without_a_weight_there_is_no_auxiliary_head():
    model = create_model("upernet", **SMALL, auxiliary_weight=0)
    assert model.auxiliary_head is None
    assert [weight for _, weight in model.supervised_logits(torch.randn(2, 3, 32, 32))] == [1.0]


def test_batch_normalisation_is_folded_into_the_decoder():
    torch.manual_seed(0)
    model = with_statistics(create_model("upernet", **SMALL))
    x = torch.randn(1, 3, 64, 64)
    lean = folded(model)
    assert not any(isinstance(one, torch.nn.BatchNorm2d) for one in lean.modules())
    with torch.no_grad():
        torch.testing.assert_close(lean(x), model(x), rtol=1e-4, atol=1e-5)


def test_a_segmenter_leaves_as_onnx_for_pictures_of_any_size(tmp_path):
    torch.manual_seed(0)
    arguments = {"width": 8, "depths": [1, 1], "orders": [1, 2], "filters": [None, None], "layer_scale": 1.0}
    model = with_statistics(create_model("upernet", **{**SMALL, "backbone_arguments": arguments}))
    model.classes, model.colours = ("a", "b", "c"), ((0, 0, 0), (1, 1, 1), (2, 2, 2))
    exported = export_model(model, TASK.deployed(model), tmp_path / "model.onnx", "onnx")
    assert exported.max_difference < 1e-4
