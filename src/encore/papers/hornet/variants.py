"""The segmentation networks that the paper builds on its backbones."""

from __future__ import annotations

from encore.base.registry import register_model
from encore.nn.upernet import UPerNet
from encore.papers.hornet.horfpn import UPerNetHorFPN

register_model("upernet")(UPerNet)
register_model("upernet_horfpn")(UPerNetHorFPN)
