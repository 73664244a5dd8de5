"""Other codecs keep every value; the plain tree is what its counts say."""

import itertools

import numpy as np
import pytest
import torch

from encore.papers.pc_compression.baselines import ChowLiuTree, measure_codecs, sheet_of

pytest.importorskip("imagecodecs")


@pytest.mark.parametrize("rest", [(), (3,)])
def test_all_codecs_are_measured_without_loss(rest):
    rng = np.random.default_rng(0)
    pictures = (rng.integers(0, 8, (10, 12, 9, *rest)) * 30).astype(np.uint8)
    rates = measure_codecs(pictures)
    assert set(rates) == {"png", "webp", "jpeg2000", "jpegxl", "jpegxl_sheet", "xz", "zstd"}
    for name, rate in rates.items():
        assert rate.num_values == pictures.size
        assert rate.bits_per_dimension > 3 * 0.9, name
    assert rates["jpegxl_sheet"].num_bytes < rates["jpegxl"].num_bytes


def test_a_sheet_holds_all_pictures():
    pictures = np.arange(5 * 2 * 3).reshape(5, 2, 3).astype(np.uint8)
    sheet = sheet_of(pictures)
    assert sheet.shape == (4, 9)
    assert (sheet[2:, 3:6] == pictures[4]).all()


def test_the_plain_tree_is_counting():
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.integers(0, 3, (50, 3)))
    x[:, 2] = (x[:, 0] + x[:, 2] // 2) % 3
    model = ChowLiuTree([-1, 0, 0], 3)
    model.count(x)
    everything = torch.tensor(list(itertools.product(range(3), repeat=3)))
    p = model(everything).exp()
    assert p.sum().item() == pytest.approx(1)
    for one, found in zip(everything[::5], p[::5], strict=True):
        due = 1.0
        for variable, parent in ((0, None), (1, 0), (2, 0)):
            above = torch.ones(50, dtype=torch.bool) if parent is None else x[:, parent] == one[parent]
            due *= (((x[:, variable] == one[variable]) & above).sum().item() + 0.1 / 3) / (above.sum().item() + 0.1)
        assert found.item() == pytest.approx(due)
    drawn = model.draw(2000, torch.Generator().manual_seed(0))
    frequency = (drawn == everything[4]).all(1).double().mean().item()
    assert frequency == pytest.approx(p[4].item(), abs=0.03)
