"""The shapes of vehicles, people, trees and street furniture, each made once.

Every mesh names the entries of the palette it is coloured with, in order.
"""

from __future__ import annotations

from encore.data.contracts import VOID
from encore.data.streets.classes import POLE, SIGN_SYMBOL
from encore.data.streets.dice import Dice
from encore.data.streets.faces import BENEATH, Kind, Mesh, MeshMaker, Point

OCTAGON: tuple[tuple[float, float], ...] = (
    (-0.3827, -0.9239),
    (0.3827, -0.9239),
    (0.9239, -0.3827),
    (0.9239, 0.3827),
    (0.3827, 0.9239),
    (-0.3827, 0.9239),
    (-0.9239, 0.3827),
    (-0.9239, -0.3827),
)
"""Corners on the unit circle; the first edge is horizontal."""

PAINT, GLASS, TYRE, REAR_LIGHT, HEADLIGHT, PLATE, TRIM = range(7)
SKIN, HAIR, TOP, TROUSERS, SHOES, EXTRA = range(6)
TRUNK, LEAF_DARK, LEAF, LEAF_LIGHT = range(4)


def _disc(x: float, y: float, radius_x: float, radius_y: float) -> list[tuple[float, float]]:
    return [(x + radius_x * c, y + radius_y * s) for c, s in OCTAGON]


def _quad(left: float, right: float, bottom: float, top: float) -> list[tuple[float, float]]:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def _shrunk(points: list[Point], share: float) -> list[Point]:
    """`points` moved towards their middle; `share` of the size remains."""
    middle = [sum(point[axis] for point in points) / len(points) for axis in range(3)]
    return [
        (
            middle[0] + (x - middle[0]) * share,
            middle[1] + (y - middle[1]) * share,
            middle[2] + (z - middle[2]) * share,
        )
        for x, y, z in points
    ]


def _throw_shadow(maker: MeshMaker, width: float, length: float, height: float) -> None:
    """Shadows of a thing of this size: two upright quads and its top, thrown by the sun, and what is
    right beneath it."""
    x, z = 0.45 * width, 0.45 * length
    maker.shadow([(-x, 0.0, 0.0), (x, 0.0, 0.0), (x, height, 0.0), (-x, height, 0.0)])
    if length > 1.0:
        maker.shadow([(0.0, 0.0, -z), (0.0, 0.0, z), (0.0, height, z), (0.0, height, -z)])
        maker.shadow([(-x, height, -z), (x, height, -z), (x, height, z), (-x, height, z)])
    x, z = 0.55 * width, 0.52 * length
    maker.shadow([(-x, 0.0, -z), (x, 0.0, -z), (x, 0.0, z), (-x, 0.0, z)], BENEATH)


def _vehicle(
    length: float,
    width: float,
    height: float,
    waist: float,
    cabin: tuple[float, float, float, float],
    inset: float,
    glazed: float = 0.86,
) -> Mesh:
    """A body up to the `waist` and a cabin on it, which runs from cabin[0] to cabin[3] along z at the
    bottom and from cabin[1] to cabin[2] at the roof. Palette: PAINT … TRIM."""
    maker = MeshMaker()
    half, rear, front, sill = width / 2, -length / 2, length / 2, 0.24
    wheels = (rear + length * 0.19, front - length * 0.19)
    _throw_shadow(maker, width, length, height)

    for x in (-half * 0.8, half * 0.8):
        for z, way in ((rear + 0.25, -1.0), (front - 0.25, 1.0)):
            tyre = [(x - 0.11, 0.0, z), (x + 0.11, 0.0, z), (x + 0.11, 0.45, z), (x - 0.11, 0.45, z)]
            maker.solid(tyre, TYRE, (0, 0, way))
    for z, way in ((rear + 0.3, -1.0), (front - 0.3, 1.0)):
        belly = [(-half * 0.8, 0.12, z), (half * 0.8, 0.12, z), (half * 0.8, 0.4, z), (-half * 0.8, 0.4, z)]
        maker.solid(belly, TYRE, (0, 0, way))
    for side in (-1.0, 1.0):
        x = side * half
        flank = [(x, sill, rear), (x, sill, front), (x, waist * 0.8, front), (x, waist, front - 0.3)]
        maker.solid([*flank, (x, waist, rear)], PAINT, (side, 0, 0), Kind.SHINY)
        for z in wheels:
            wheel = [(x * 1.01, 0.33 + 0.33 * s, z + 0.33 * c) for c, s in OCTAGON]
            maker.solid(wheel, TYRE, (side, 0, 0))
            maker.solid(_shrunk(wheel, 0.55), TRIM, (side, 0, 0))
    bonnet = [
        (-half, waist, front - 0.3),
        (half, waist, front - 0.3),
        (half, waist, rear),
        (-half, waist, rear),
    ]
    maker.solid(bonnet, PAINT, (0, 1, 0), Kind.SHINY)
    nose = [(-half, waist * 0.8, front), (half, waist * 0.8, front)]
    nose += [(half, waist, front - 0.3), (-half, waist, front - 0.3)]
    maker.solid(nose, PAINT, (0, 0.5, 1), Kind.SHINY)
    for z, way, lamp in ((rear, -1.0, REAR_LIGHT), (front, 1.0, HEADLIGHT)):
        top = waist if way < 0 else waist * 0.8
        end = [(-half, sill, z), (half, sill, z), (half, top, z), (-half, top, z)]
        maker.solid(end, PAINT, (0, 0, way), Kind.SHINY)
        bumper = [(-half, sill, z), (half, sill, z), (half, sill + 0.2, z), (-half, sill + 0.2, z)]
        maker.solid(bumper, TRIM, (0, 0, way))
        for x in (-half * 0.78, half * 0.78):
            light = [(x - 0.17, top - 0.27, z), (x + 0.17, top - 0.27, z)]
            maker.solid(
                [*light, (x + 0.17, top - 0.06, z), (x - 0.17, top - 0.06, z)],
                lamp,
                (0, 0, way),
                Kind.GLOWING,
            )
        low = sill + 0.22
        plate = [(-0.26, low, z), (0.26, low, z), (0.26, low + 0.13, z), (-0.26, low + 0.13, z)]
        maker.solid(plate, PLATE, (0, 0, way))

    low_rear, top_rear, top_front, low_front = cabin
    narrow = half - inset
    roof: list[Point] = [(-narrow, height, top_rear), (narrow, height, top_rear)]
    roof += [(narrow, height, top_front), (-narrow, height, top_front)]
    panes: list[tuple[list[Point], Point]] = []
    for low_z, top_z, way in ((low_rear, top_rear, -1.0), (low_front, top_front, 1.0)):
        pane: list[Point] = [(-half * 0.97, waist, low_z), (half * 0.97, waist, low_z)]
        panes.append(([*pane, (narrow, height, top_z), (-narrow, height, top_z)], (0.0, 0.2, way)))
    for side in (-1.0, 1.0):
        pane = [(side * half * 0.97, waist, low_rear), (side * half * 0.97, waist, low_front)]
        panes.append(([*pane, (side * narrow, height, top_front), (side * narrow, height, top_rear)], (side, 0.2, 0.0)))
    for pane, outside in panes:
        maker.solid(pane, PAINT, outside, Kind.SHINY)
        maker.solid(_shrunk(pane, glazed), GLASS, outside, Kind.SHINY)
    maker.solid(roof, PAINT, (0, 1, 0), Kind.SHINY)
    return maker.mesh()


HATCHBACK = _vehicle(3.9, 1.74, 1.48, 0.88, (-1.9, -1.45, 0.25, 1.0), 0.17)
SALOON = _vehicle(4.6, 1.80, 1.42, 0.86, (-1.6, -0.9, 0.25, 1.05), 0.19)
ESTATE = _vehicle(4.7, 1.84, 1.68, 0.98, (-2.3, -2.05, 0.45, 1.2), 0.15)
VAN = _vehicle(5.2, 1.95, 2.30, 1.15, (-2.59, -2.5, 1.0, 1.7), 0.10, glazed=0.66)
BUS = _vehicle(9.5, 2.45, 3.10, 1.20, (-4.74, -4.7, 4.6, 4.74), 0.06, glazed=0.84)


def _pedestrian(extra: str = "") -> Mesh:
    """A person 1.75 m tall seen from the front. Palette: SKIN … EXTRA."""
    maker = MeshMaker()
    _throw_shadow(maker, 0.5, 0.4, 1.7)
    for side, swing in ((-1.0, 0.28), (1.0, -0.28)):
        x = side * 0.1
        leg = [(x - 0.075, 0.04), (x + 0.075, 0.04), (x + 0.1, 0.9), (x - 0.1, 0.9)]
        maker.flat(leg, TROUSERS, swings=[swing, swing, 0.0, 0.0])
        maker.flat(_quad(x - 0.09, x + 0.11, 0.0, 0.09), SHOES, swings=[swing] * 4)
        if extra == "skirt" and side > 0:
            maker.flat([(-0.27, 0.5), (0.27, 0.5), (0.16, 0.95), (-0.16, 0.95)], EXTRA)
        arm = [(side * 0.25 - 0.05, 0.78), (side * 0.25 + 0.05, 0.78)]
        arm += [(side * 0.24 + 0.06, 1.4), (side * 0.24 - 0.06, 1.4)]
        maker.flat(arm, TOP, swings=[-swing * 0.6, -swing * 0.6, 0.0, 0.0])
    torso = [(-0.18, 0.82), (0.18, 0.82), (0.24, 1.36), (0.15, 1.46), (-0.15, 1.46), (-0.24, 1.36)]
    maker.flat(torso, TOP)
    if extra == "bag":
        maker.flat(_quad(0.16, 0.42, 0.62, 0.98), EXTRA)
    maker.flat(_quad(-0.05, 0.05, 1.42, 1.52), SKIN)
    maker.flat(_disc(0.0, 1.62, 0.11, 0.14), SKIN)
    maker.flat([(-0.12, 1.64), (0.12, 1.64), (0.09, 1.76), (0.0, 1.79), (-0.09, 1.76)], HAIR)
    if extra == "umbrella":
        maker.flat(_quad(0.17, 0.20, 1.0, 2.0), SHOES)
        dome = [(-0.45, 1.88), (0.75, 1.88), (0.62, 2.06), (0.36, 2.2), (-0.06, 2.2), (-0.32, 2.06)]
        maker.flat(dome, EXTRA)
    return maker.mesh()


PEDESTRIANS: tuple[Mesh, ...] = (_pedestrian(), _pedestrian("bag"), _pedestrian("skirt"))
PEDESTRIAN_WITH_UMBRELLA = _pedestrian("umbrella")


def _cyclist_from_behind() -> Mesh:
    """A cyclist 1.8 m tall along the line of sight. Palette: SKIN, helmet, TOP, TROUSERS, tyres, frame."""
    maker = MeshMaker()
    _throw_shadow(maker, 0.5, 0.6, 1.7)
    maker.flat(_disc(0.0, 0.35, 0.045, 0.35), SHOES)
    maker.flat(_quad(-0.3, 0.3, 0.98, 1.03), SHOES)
    for side, knee in ((-1.0, 0.0), (1.0, 0.16)):
        x = side * 0.12
        leg = [(x - 0.06, 0.2 + knee), (x + 0.06, 0.2 + knee), (x + 0.08, 0.98), (x - 0.08, 0.98)]
        maker.flat(leg, TROUSERS)
        maker.flat(_quad(x - 0.06, x + 0.07, 0.13 + knee, 0.22 + knee), SHOES)
        arm = [(side * 0.3 - 0.05, 1.0), (side * 0.3 + 0.05, 1.0)]
        maker.flat([*arm, (side * 0.21 + 0.06, 1.42), (side * 0.21 - 0.06, 1.42)], TOP)
    maker.flat([(-0.17, 0.9), (0.17, 0.9), (0.23, 1.38), (0.13, 1.5), (-0.13, 1.5), (-0.23, 1.38)], TOP)
    maker.flat(_quad(-0.05, 0.05, 0.72, 0.8), EXTRA, Kind.GLOWING)
    maker.flat(_disc(0.0, 1.64, 0.1, 0.13), SKIN)
    maker.flat([(-0.13, 1.65), (0.13, 1.65), (0.1, 1.79), (0.0, 1.83), (-0.1, 1.79)], HAIR)
    return maker.mesh()


def _cyclist_from_the_side() -> Mesh:
    """A cyclist riding towards +x. Palette as from behind."""
    maker = MeshMaker()
    _throw_shadow(maker, 1.4, 0.3, 1.2)
    for x in (-0.53, 0.53):
        maker.flat(_disc(x, 0.34, 0.34, 0.34), SHOES)
        maker.flat(_disc(x, 0.34, 0.26, 0.26), EXTRA)
        maker.flat(_disc(x, 0.34, 0.21, 0.21), SHOES)
        maker.flat(_disc(x, 0.34, 0.05, 0.05), EXTRA)
    for start, end in (
        ((-0.53, 0.34), (-0.15, 0.85)),
        ((-0.1, 0.34), (0.42, 0.8)),
        ((-0.15, 0.8), (0.42, 0.8)),
    ):
        bar = [(start[0], start[1] - 0.03), (end[0], end[1] - 0.03)]
        maker.flat([*bar, (end[0], end[1] + 0.04), (start[0], start[1] + 0.04)], EXTRA)
    maker.flat([(0.38, 0.75), (0.45, 0.75), (0.42, 1.05), (0.35, 1.05)], SHOES)
    maker.flat([(-0.05, 0.2), (0.08, 0.2), (0.22, 0.7), (-0.2, 0.95), (-0.28, 0.85), (0.06, 0.6)], TROUSERS)
    maker.flat(_quad(-0.08, 0.16, 0.13, 0.22), SHOES)
    maker.flat([(-0.28, 0.88), (-0.02, 0.86), (0.22, 1.36), (0.06, 1.5), (-0.08, 1.42)], TOP)
    maker.flat([(0.36, 1.0), (0.44, 1.06), (0.2, 1.4), (0.08, 1.34)], TOP)
    maker.flat(_disc(0.2, 1.6, 0.11, 0.13), SKIN)
    maker.flat([(0.06, 1.62), (0.34, 1.62), (0.29, 1.75), (0.18, 1.79), (0.08, 1.73)], HAIR)
    return maker.mesh()


CYCLIST_FROM_BEHIND, CYCLIST_FROM_THE_SIDE = _cyclist_from_behind(), _cyclist_from_the_side()


def _leafy(dice: Dice, x: float, y: float, radius_x: float, radius_y: float) -> list[tuple[float, float]]:
    """A round crown with a ragged outline."""
    corners = []
    for (c, s), (c_next, s_next) in zip(OCTAGON, OCTAGON[1:] + OCTAGON[:1], strict=True):
        for share in (0.0, 0.5):
            ragged = dice.between(0.84, 1.10)
            corners.append((c + (c_next - c) * share, s + (s_next - s) * share, ragged))
    return [(x + radius_x * c * r, y + radius_y * s * r) for c, s, r in corners]


def _broadleaf(stream: int) -> Mesh:
    """A tree 1 high and about 1 wide, to be scaled. Palette: TRUNK … LEAF_LIGHT."""
    dice, maker = Dice(1511, stream), MeshMaker()
    maker.shadow([(0.46 * c, 0.6, 0.4 * s) for c, s in OCTAGON])
    maker.flat([(-0.035, 0.0), (0.035, 0.0), (0.02, 0.5), (-0.02, 0.5)], TRUNK, Kind.ROUGH)
    lean = dice.between(-0.08, 0.08)
    maker.flat(_leafy(dice, lean, 0.60, 0.50, 0.34), LEAF_DARK, Kind.FOLIAGE)
    maker.flat(_leafy(dice, lean - 0.17, 0.58, 0.27, 0.22), LEAF, Kind.FOLIAGE)
    maker.flat(_leafy(dice, lean + 0.19, 0.62, 0.26, 0.22), LEAF, Kind.FOLIAGE)
    maker.flat(_leafy(dice, lean + dice.between(-0.1, 0.1), 0.77, 0.30, 0.21), LEAF_LIGHT, Kind.FOLIAGE)
    return maker.mesh()


def _conifer() -> Mesh:
    """As `_broadleaf`, in four tiers."""
    maker = MeshMaker()
    maker.shadow([(0.36 * c, 0.4, 0.36 * s) for c, s in OCTAGON])
    maker.flat(_quad(-0.04, 0.04, 0.0, 0.2), TRUNK, Kind.ROUGH)
    for tier, part in enumerate((LEAF_DARK, LEAF_DARK, LEAF, LEAF_LIGHT)):
        low, half = 0.12 + 0.2 * tier, 0.42 - 0.09 * tier
        maker.flat([(-half, low), (half, low), (0.03, low + 0.32), (-0.03, low + 0.32)], part, Kind.FOLIAGE)
    return maker.mesh()


BROADLEAVES: tuple[Mesh, ...] = tuple(_broadleaf(stream) for stream in range(4))
CONIFER = _conifer()


def _lamp() -> Mesh:
    """A street lamp 6 m high whose arm points to +x. Palette: metal, lamp."""
    maker = MeshMaker()
    maker.shadow([(-0.07, 0.0, 0.0), (0.07, 0.0, 0.0), (0.07, 6.0, 0.0), (-0.07, 6.0, 0.0)])
    maker.flat([(-0.09, 0.0), (0.09, 0.0), (0.06, 6.0), (-0.06, 6.0)], 0, class_index=POLE)
    maker.flat([(0.0, 5.9), (1.3, 6.1), (1.3, 6.2), (0.0, 6.0)], 0, class_index=POLE)
    maker.flat([(1.0, 6.02), (1.6, 6.08), (1.6, 6.22), (1.0, 6.2)], 1, Kind.GLOWING, class_index=POLE)
    return maker.mesh()


def _sign(outline: list[tuple[float, float]], inner: float, height: float) -> Mesh:
    """A traffic sign on a post. Palette: metal, rim, face."""
    maker = MeshMaker()
    _throw_shadow(maker, 0.2, 0.2, height)
    maker.flat(_quad(-0.05, 0.05, 0.0, height), 0, class_index=POLE)
    maker.flat([(x, y + height) for x, y in outline], 1, class_index=SIGN_SYMBOL)
    middle = sum(y for _, y in outline) / len(outline)
    smaller = [(x * inner, (y - middle) * inner + middle + height) for x, y in outline]
    maker.flat(smaller, 2, class_index=SIGN_SYMBOL)
    return maker.mesh()


def _traffic_light() -> Mesh:
    """Palette: metal, housing, red, amber, green (those not lit are given as dark)."""
    maker = MeshMaker()
    _throw_shadow(maker, 0.3, 0.2, 3.3)
    maker.flat(_quad(-0.06, 0.06, 0.0, 3.2), 0, class_index=POLE)
    maker.flat(_quad(-0.24, 0.24, 2.2, 3.4), 1, class_index=SIGN_SYMBOL)
    for part, y in ((2, 3.15), (3, 2.8), (4, 2.45)):
        maker.flat(_disc(0.0, y, 0.14, 0.14), part, Kind.GLOWING, class_index=SIGN_SYMBOL)
    return maker.mesh()


def _litter_bin() -> Mesh:
    """In none of the classes, so void. Palette: body, lid."""
    maker = MeshMaker()
    _throw_shadow(maker, 0.6, 0.5, 1.0)
    maker.flat([(-0.24, 0.0), (0.24, 0.0), (0.29, 0.95), (-0.29, 0.95)], 0, class_index=VOID)
    maker.flat(_quad(-0.32, 0.32, 0.95, 1.07), 1, class_index=VOID)
    return maker.mesh()


LAMP, TRAFFIC_LIGHT, LITTER_BIN = _lamp(), _traffic_light(), _litter_bin()
SIGNS: tuple[Mesh, ...] = (
    _sign([(0.42 * c, 0.42 * s) for c, s in OCTAGON], 0.7, 2.3),
    _sign([(-0.5, -0.35), (0.5, -0.35), (0.0, 0.52)], 0.6, 2.3),
    _sign(_quad(-0.45, 0.45, -0.3, 0.3), 0.86, 2.3),
    _sign(_quad(-0.95, 0.95, -0.55, 0.55), 0.93, 2.0),
)
