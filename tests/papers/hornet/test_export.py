"""HorNet outside of Encore: ONNX of convolutions and of global filters, at sizes it was not traced at."""

import onnxruntime
import pytest
import torch
from torch import nn

from encore.base.errors import InputError
from encore.nn.creation import create_model
from encore.nn.export import Deployment, Port, export_model
from encore.papers.hornet.gnconv import GlobalLocalFilter, filtered_by_matrices, resized_filter
from encore.papers.hornet.model import HorNet, Pyramid

NET = {"num_classes": 3, "width": 8, "depths": (1, 1), "orders": (2, 2), "layer_scale": 1.0}


class Open(nn.Module):
    """A model with the smallest side that it takes; global filters are made large, so that they can be seen."""

    def __init__(self, model: nn.Module, smallest_side: int) -> None:
        super().__init__()
        self.model, self.smallest_side = model.eval(), smallest_side
        for one in model.modules():
            if isinstance(one, GlobalLocalFilter):
                nn.init.normal_(one.complex_weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)


def deployment(model: Pyramid) -> Deployment:
    return Deployment(
        Open(model, model.smallest_side),
        inputs=(Port("x", "float32", ("batch", 3, "height", "width")),),
        outputs=(Port("logits", "float32", ("batch", 3)),),
        sizes=(
            {"batch": 2, "height": 40, "width": 32},
            {"batch": 1, "height": 56, "width": 47},
            {"batch": 3, "height": 8, "width": 33},
            {"batch": 1, "height": 48, "width": 64},
        ),
    )


def test_onnx_of_kernels_and_global_filters_equals_the_model_at_any_size(tmp_path):
    torch.manual_seed(0)
    model = HorNet(**NET, filters=(None, (6, 4)))
    exported = export_model(model, deployment(model), tmp_path / "model.onnx", "onnx")
    assert exported.max_difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, "height", "width"]


def test_windowed_attention_says_that_it_stays(tmp_path):
    model = create_model("hornet_window_attention", num_classes=3, width=8, depths=(1,))
    with pytest.raises(InputError, match="open picture sizes"):
        export_model(model, deployment(model), tmp_path / "model.onnx", "onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (7, 8), (30, 1), (1, 9), (16, 15)])
def test_products_with_matrices_are_the_fourier_transform(size):
    torch.manual_seed(0)
    x = torch.randn(2, 3, *size)
    real, imaginary = torch.randn(2, 3, size[0], size[1] // 2 + 1)
    due = torch.fft.irfft2(torch.fft.rfft2(x, norm="ortho") * torch.complex(real, imaginary), s=size, norm="ortho")
    torch.testing.assert_close(filtered_by_matrices(x, real, imaginary), due, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(14, 8), (1, 1), (20, 11), (5, 3), (7, 1)])
def test_filters_are_resized_alike_while_exporting(size, monkeypatch):
    torch.manual_seed(0)
    weight = torch.randn(3, 14, 8, 2)
    due = resized_filter(weight, *size)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    torch.testing.assert_close(resized_filter(weight, *size), due, rtol=1e-4, atol=1e-5)


def test_published_names_say_what_they_take():
    with torch.device("meta"):
        assert create_model("hornet_tiny_gf").smallest_side == 32
