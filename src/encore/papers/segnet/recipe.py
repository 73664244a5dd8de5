"""Performs SegNet's claims: the decoder study of Table 1, and the sizes that need no training."""

from __future__ import annotations

from typing import Any

from encore.base.configuration import Settings, configure
from encore.data.contracts import DataSplits
from encore.data.named import find_set_path, open_segmentation
from encore.data.sets.streets import open_streets
from encore.nn.creation import create_model
from encore.papers.segnet.baselines import feature_map_bytes
from encore.papers.segnet.model import SegNet, stored_bytes
from encore.results.performance import Performance, Plan, Recipe
from encore.results.record import ArmRecord, comparative_record, exact_record
from encore.base.runtime import Scale
from encore.tasks.segmentation import TASK, SegmentationFit
from encore.tasks.study import Arm, Study

ARMS = (
    Arm("segnet_basic", "segnet_basic"),
    Arm("bilinear", "segnet_basic_bilinear"),
    Arm("fcn_no_addition", "fcn_basic_no_addition"),
)
"""The paper's method first. Names of the baselines are those of the card's figures."""

PAPER_SIZE = (360, 480)
"""Height and width of the pictures in the paper."""

TRAINED_CLAIMS = ("boundary_f1", "mean_iou")
