"""The 11 classes of CamVid (Brostow et al. 2009, in the grouping of SegNet), their order and colours."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign_symbol",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
"""Class names in index order. As in CamVid, `tree` takes in hedges and grass, `sign_symbol` traffic lights,
`car` vans and buses."""

SKY, BUILDING, POLE, ROAD, PAVEMENT, TREE, SIGN_SYMBOL, FENCE, CAR, PEDESTRIAN, BICYCLIST = range(11)

COUNTABLE: tuple[int, ...] = (CAR, PEDESTRIAN, BICYCLIST)
"""The classes whose objects have boxes and are counted in captions."""

COLOURS: tuple[tuple[int, int, int], ...] = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
"""RGB 0…255 in which CamVid shows each class; void is black."""
