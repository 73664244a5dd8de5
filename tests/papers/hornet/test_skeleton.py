"""What HorNet's skeleton can be told: stem, initialisation, single stages; and filters resized into a named model."""

import numpy as np
import pytest
import torch

from encore.base.errors import CheckpointError, ConfigurationError
from encore.nn.creation import create_model, from_official
from encore.papers.hornet.model import HorNet

from .test_model import SMALL, official

ONE_STAGE = {"depths": (3,), "orders": (4,), "filters": (None,)}


@pytest.mark.parametrize(
    ("stem", "side", "padding"), [((3, 1), 16, 1), ((4, 2), 8, 1), ((4, 4), 4, 0), ((7, 4), 4, 2), ((7, 2), 8, 3)]
)
def test_a_stem_of_stride_s_leaves_one_cell_for_s_pixels(stem, side, padding):
    model = HorNet(2, width=8, **ONE_STAGE, stem=stem)
    assert model.downsample_layers[0][0].padding == (padding, padding)
    (only,) = model.forward_features(torch.randn(2, 3, 16, 16))
    assert only.shape == (2, 8, side, side)
    assert [info.reduction for info in model.feature_info] == [stem[1]]


def test_one_stage_classifies_pictures_of_one_channel():
    model = HorNet(2, in_channels=1, width=32, **ONE_STAGE, stem=(3, 1), initialisation="xavier", layer_scale=1.0)
    logits = model(torch.randn(3, 1, 8, 16))
    assert logits.shape == (3, 2)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize(("stem", "side"), [((4, 4), 32), ((3, 1), 8), ((7, 2), 15)])
def test_pictures_below_the_smallest_side_are_padded(stem, side):
    model = HorNet(**SMALL, stem=stem).eval()
    assert model.smallest_side == side
    with torch.no_grad():
        assert model.forward_features(torch.randn(1, 3, side, side))[-1].shape[-2:] == (1, 1)
        assert model(torch.randn(2, 3, 1, 5)).isfinite().all()


def test_weights_begin_as_they_are_told():
    torch.manual_seed(0)
    normal, xavier = (HorNet(10, **SMALL_ARGUMENTS, initialisation=kind) for kind in ("truncated_normal", "xavier"))
    name = "stages.3.0.pwconv1.weight"
    assert normal.state_dict()[name].std() == pytest.approx(0.02, rel=0.05)
    fan_out, fan_in = xavier.state_dict()[name].shape
    bound = np.sqrt(6 / (fan_in + fan_out))
    assert bound * 0.99 < xavier.state_dict()[name].abs().max() <= bound
    for model in (normal, xavier):
        state = model.state_dict()
        assert all(not tensor.any() for key, tensor in state.items() if key.endswith(".bias"))
        assert state["stages.2.0.mixer.dwconv.complex_weight"].std() == pytest.approx(0.02, rel=0.1)


SMALL_ARGUMENTS = {key: value for key, value in SMALL.items() if key != "num_classes"} | {
    "filters": (None, None, (14, 8), (7, 4))
}


@pytest.mark.parametrize("wrong", [{"stem": (2, 4)}, {"initialisation": "zeros"}, {"depths": ()}])
def test_a_skeleton_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigurationError, match="cannot be made"):
        create_model("hornet", **{"num_classes": 2, **wrong})


def slowly_resized(weight: np.ndarray, height: int, width: int) -> np.ndarray:
    """(D, h, w, 2) → (D, height, width, 2): one interpolation per cell, corners on corners."""
    _, h, w, _ = weight.shape
    resized = np.zeros((weight.shape[0], height, width, 2))
    for i in range(height):
        for j in range(width):
            y = i * (h - 1) / (height - 1)
            x = j * (w - 1) / (width - 1)
            for row in range(h):
                for column in range(w):
                    share = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                    resized[:, i, j] += share * weight[:, row, column]
    return resized


def test_filters_of_another_size_are_resized_into_the_model_that_is_named(tmp_path):
    torch.manual_seed(0)
    arguments = {"width": 16, "depths": (1, 1, 1, 1), "num_classes": 3}
    trained = HorNet(**arguments, filters=(None, None, (5, 4), (3, 2)))
    torch.save({"model": official(trained)}, tmp_path / "hornet.pth")
    for weights in (tmp_path / "hornet.pth", trained.state_dict()):
        model = create_model("hornet", weights=weights, **arguments, filters=(None, None, (7, 6), (2, 3)))
        for stage, size in ((2, (7, 6)), (3, (2, 3))):
            name = f"stages.{stage}.0.mixer.dwconv.complex_weight"
            due = slowly_resized(trained.state_dict()[name].double().numpy(), *size)
            torch.testing.assert_close(model.state_dict()[name].double(), torch.from_numpy(due), rtol=0, atol=1e-7)
        assert model.head.weight.equal(trained.head.weight)
    larger = from_official("hornet", tmp_path / "hornet.pth", filters=(None, None, (7, 6), (2, 3)))
    assert larger.state_dict()[name].equal(model.state_dict()[name])


def test_filters_are_resized_only_where_there_are_filters():
    model = HorNet(**SMALL, filters=(None, None, (5, 4), (3, 2)))
    with pytest.raises(CheckpointError, match="does not fit"):
        create_model("hornet", **SMALL, weights=model.state_dict())


def test_layer_wise_rates_have_the_authors_fourteen_groups():
    with torch.device("meta"):
        depths = create_model("hornet_tiny_7x7").parameter_depths()
    assert set(depths.values()) == set(range(14))
    due = {
        "downsample_layers.0.0.weight": 0,
        "stages.0.1.norm1.weight": 1,
        "stages.1.2.norm1.weight": 2,
        "stages.2.0.norm1.weight": 3,
        "stages.2.1.norm1.weight": 3,
        "stages.2.17.norm1.weight": 11,
        "stages.3.0.norm1.weight": 12,
        "head.weight": 13,
    }
    assert {name: depths[name] for name in due} == due
    assert (
        create_model("hornet", width=8, depths=[1], orders=[1], filters=[None]).parameter_depths()["head.weight"] == 2
    )
