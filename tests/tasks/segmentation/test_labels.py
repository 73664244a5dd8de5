"""Labels of large pictures: in bands as at once."""

import pytest
import torch
import torch.nn.functional as F

from encore.tasks.segmentation import module
from encore.tasks.segmentation.module import labels_at


@pytest.mark.parametrize("size", [(50, 61), (7, 200), (1, 1), (13, 9)])
def test_bands_give_the_classes_of_the_whole_map(monkeypatch: pytest.MonkeyPatch, size):
    scores = torch.randn(2, 5, 13, 9, generator=torch.Generator().manual_seed(0))
    due = F.interpolate(scores, size, mode="bilinear", align_corners=False).argmax(1)
    assert labels_at(scores, size).equal(due)
    monkeypatch.setattr(module, "BAND_BYTES", 2 * 5 * size[1] * 4 * 3)
    labels = labels_at(scores, size)
    assert labels.shape == due.shape
    assert (labels == due).float().mean() > 0.999  # ties up to rounding may fall either way
