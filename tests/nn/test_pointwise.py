"""Linear layers of positions, computed as 1×1 convolutions."""

import pytest
import torch
import torch.nn.functional as F

from encore.nn.pointwise import RowLinear, linear_of_rows


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 7, 6), (1, 1, 1, 6), (3, 4, 1, 6)])
def test_equals_the_linear_layer(shape, bias):
    torch.manual_seed(0)
    layer = RowLinear(6, 9, bias=bias)
    rows = torch.randn(shape, requires_grad=True)
    out = layer(rows)
    due = F.linear(rows, layer.weight, layer.bias)
    torch.testing.assert_close(out, due)
    assert out.is_contiguous() or min(shape[1:3]) == 1
    given = torch.randn_like(due)
    for one, other in zip(
        torch.autograd.grad(out, [rows, *layer.parameters()], given),
        torch.autograd.grad(due, [rows, *layer.parameters()], given),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_goes_down_to_bfloat16_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert linear_of_rows(torch.randn(1, 2, 2, 4), torch.randn(3, 4), None).dtype == torch.bfloat16
