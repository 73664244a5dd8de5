"""Which layer a parameter belongs to: stem, blocks in order, the rest."""

import pytest
import torch
from torch import nn

from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.nn.layer_depths import parameter_depths, stage_depths


class Pyramid(nn.Module):
    """Two stages as HorNet registers them: everything between the stages comes first."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample_layers = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])
        self.stages = nn.ModuleList([nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), nn.Sequential(nn.Linear(1, 1))])
        self.head = nn.Linear(1, 1)


def layers(depths: dict[str, int]) -> dict[str, int]:
    return {name.removesuffix(".weight"): depth for name, depth in depths.items() if name.endswith(".weight")}


def test_the_stem_the_blocks_in_order_and_the_rest():
    assert layers(parameter_depths(Pyramid())) == {
        "downsample_layers.0": 0,
        "stages.0.0": 1,
        "stages.0.1": 2,
        "downsample_layers.1": 3,
        "stages.1.0": 3,
        "head": 4,
    }


def test_a_model_may_put_blocks_together():
    depths = layers(stage_depths(Pyramid(), [[1, 1], [12]]))
    assert depths["stages.0.1"] == 1
    assert depths["downsample_layers.1"] == depths["stages.1.0"] == 12
    assert depths["head"] == 13
    with pytest.raises(ValueError, match=r"of \[1\] blocks"):
        stage_depths(Pyramid(), [[1]])


def test_what_stands_on_an_encoder_is_one_layer_more():
    class Labeller(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Linear(1, 1)
            self.encoder = Told()

    class Told(Pyramid):
        def parameter_depths(self) -> dict[str, int]:
            return {name: 5 for name, _ in self.named_parameters()}

    depths = layers(parameter_depths(Labeller()))
    assert depths.pop("decoder") == 6
    assert set(depths.values()) == {5}


def test_a_model_without_stages_is_refused():
    with pytest.raises(InputError, match="parameter_depths") as caught:
        parameter_depths(nn.Linear(1, 1))
    assert "\n" not in str(caught.value)


@pytest.fixture
def backbone():
    pytest.importorskip("transformers")

    def make(name, **arguments):
        with torch.device("meta"):
            return create_model(name, **arguments)

    return make


def test_blocks_of_a_residual_network_come_in_order(backbone):
    depths = parameter_depths(backbone("resnet18"))
    assert depths["encoder.embedder.embedder.convolution.weight"] == 0
    assert depths["encoder.encoder.stages.0.layers.0.layer.0.convolution.weight"] == 1
    assert depths["encoder.encoder.stages.1.layers.0.shortcut.convolution.weight"] == 3
    assert depths["encoder.encoder.stages.3.layers.1.layer.1.normalization.bias"] == 8
    assert depths["head.weight"] == 9


def test_a_convnext_has_the_authors_groups(backbone):
    model = backbone("convnext_small")
    depths = parameter_depths(model)
    assert depths["encoder.embeddings.layernorm.weight"] == 0
    for stage, depth in enumerate([1, 2, 3, 12]):
        assert depths[f"encoder.encoder.stages.{stage}.layers.0.dwconv.weight"] == depth
    for stage, depth in [(1, 2), (2, 3), (3, 12)]:
        assert depths[f"encoder.encoder.stages.{stage}.downsampling_layer.1.weight"] == depth
    assert depths["encoder.encoder.stages.2.layers.26.pwconv1.weight"] == 11
    assert depths["norm.weight"] == depths["head.weight"] == 13
    assert depths.keys() == {name for name, _ in model.named_parameters()}


def test_a_swins_merging_belongs_to_the_block_before_it(backbone):
    depths = parameter_depths(backbone("swin_tiny", features_only=True))
    assert depths["model.encoder.swin.embeddings.norm.weight"] == 0
    assert depths["model.encoder.swin.encoder.layers.0.blocks.1.mlp.fc1.weight"] == 2
    assert depths["model.encoder.swin.encoder.layers.0.downsample.reduction.weight"] == 2
    assert depths["model.encoder.swin.encoder.layers.3.blocks.1.mlp.fc1.weight"] == 12
