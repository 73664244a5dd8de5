"""Things that stand or move in a street: a mesh, its palette, where it is and where it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encore.data.streets import meshes
from encore.data.streets.classes import BICYCLIST, CAR, PEDESTRIAN, POLE, TREE
from encore.data.streets.dice import Colour, Dice
from encore.data.streets.faces import UNCLASSED, Faces, Mesh, columns_of
from encore.data.streets.light import Light
from encore.data.streets.road import Road

CAR_PAINTS: tuple[Colour, ...] = (
    (188, 190, 192),
    (226, 226, 222),
    (44, 46, 50),
    (104, 108, 114),
    (160, 36, 34),
    (48, 74, 128),
    (52, 92, 62),
    (148, 88, 68),
    (206, 192, 160),
    (98, 118, 84),
    (214, 168, 46),
    (122, 150, 172),
)
CLOTHES: tuple[Colour, ...] = (
    (46, 48, 56),
    (92, 94, 100),
    (150, 60, 52),
    (56, 78, 122),
    (196, 190, 176),
    (104, 84, 62),
    (70, 96, 66),
    (214, 150, 60),
    (168, 112, 140),
)
SKINS: tuple[Colour, ...] = ((226, 184, 156), (196, 146, 114), (138, 94, 68), (92, 62, 46))
LEAVES: tuple[Colour, ...] = (
    (84, 112, 58),
    (68, 92, 54),
    (112, 124, 66),
    (92, 104, 78),
    (136, 106, 58),
    (164, 124, 60),
    (140, 78, 50),
)
METALS: tuple[Colour, ...] = ((96, 98, 100), (142, 144, 146), (58, 66, 62), (64, 60, 58))


@dataclass(slots=True)
class Thing:
    """One object in the street.

    Attributes:
        mesh, palette: its shape, and a colour (RGB 0…255) for each of the mesh's parts.
        class_index: its class; a mesh with classes of its own overrides it.
        lateral, z: where it is at time 0: metres right of the road's centre line, metres along Z.
        scale: factors along the mesh's x, y and z; a negative x mirrors a flat mesh.
        facing: +1 looks away from the camera, -1 towards it.
        velocity: (lateral, along Z) in metres per second.
        stride: swings of the legs per second, 0 where nothing swings.
        track: 1… for countable objects, 0 for others.
    """

    mesh: Mesh
    palette: Sequence[Colour]
    class_index: int
    lateral: float
    z: float
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    facing: float = 1.0
    velocity: tuple[float, float] = (0.0, 0.0)
    stride: float = 0.0
    track: int = 0

    @property
    def moves(self) -> bool:
        """True where it is elsewhere at another time."""
        return self.velocity != (0.0, 0.0)

    def position(self, road: Road, seconds: float) -> tuple[float, float, float]:
        """World X and Z at a time, and the tangent of its heading; vehicles follow the road."""
        z = self.z + self.velocity[1] * seconds
        lateral = self.lateral + self.velocity[0] * seconds
        slope = road.slope(z) if self.class_index == CAR else 0.0
        return road.centre(z) + lateral, z, slope


def placed(things: Sequence[Thing], road: Road, light: Light, seconds: float) -> Faces:
    """The faces of `things` (one at least) at a time, with their shadows, each thing a group."""
    meshes_, counts, rows, anchors = [], [], [], []
    palettes: list[Colour] = []
    for thing in things:
        x, z, slope = thing.position(road, seconds)
        cosine = thing.facing / (1.0 + slope * slope) ** 0.5 if slope else thing.facing
        swing = 0.0
        if thing.stride:
            phase = (seconds * thing.stride + 0.37 * thing.track) % 1.0
            swing = 4.0 * abs(phase - 0.5) - 1.0
        meshes_.append(thing.mesh)
        counts.append(len(thing.palette))
        palettes += thing.palette
        rows.append((x, z, cosine, slope * cosine, *thing.scale, swing, thing.class_index, thing.track))
        anchors.append((x, z))
    table = columns_of(rows, 10)
    sizes = np.concatenate([mesh.sizes for mesh in meshes_])
    owners = np.repeat(np.arange(len(things)), [len(mesh.sizes) for mesh in meshes_])
    local = np.concatenate([mesh.vertices for mesh in meshes_], axis=1)
    swings = np.concatenate([mesh.swing for mesh in meshes_])
    of_vertex = np.repeat(table[:8], [len(mesh.swing) for mesh in meshes_], axis=1)
    x_, z_, cosines, sines, scale_x, scale_y, scale_z, swing_ = of_vertex
    across, along = local[0] * scale_x + swings * swing_, local[2] * scale_z
    vertices = np.empty_like(local)
    vertices[0] = across * cosines + along * sines + x_
    vertices[1] = local[1] * scale_y
    vertices[2] = along * cosines - across * sines + z_
    cast = np.concatenate([mesh.cast for mesh in meshes_])
    thrown = cast * vertices[1]
    sun_x, sun_y, sun_z = light.towards_sun
    vertices[0] -= thrown * (sun_x / sun_y)
    vertices[1] -= thrown
    vertices[2] -= thrown * (sun_z / sun_y)
    first_colour = np.cumsum([0, *counts[:-1]], dtype=np.int64)
    parts = np.concatenate([mesh.parts for mesh in meshes_]) + first_colour[owners]
    given = np.concatenate([mesh.classes for mesh in meshes_])
    classes = np.where(given == UNCLASSED, table[8].astype(np.uint8)[owners], given)
    patterns = np.zeros((4, len(owners)))
    patterns[3] = owners * 0.618 % 1.0
    return Faces(
        vertices=vertices,
        sizes=sizes,
        classes=classes,
        colours=columns_of(palettes, 3).take(parts, axis=1),
        kinds=np.concatenate([mesh.kinds for mesh in meshes_]),
        solid=np.concatenate([mesh.solid for mesh in meshes_]),
        patterns=patterns,
        groups=owners,
        tracks=table[9].astype(np.int64)[owners],
        anchors=columns_of(anchors, 2),
    )


def vehicle(dice: Dice, lateral: float, z: float, facing: float, speed: float, lamps: bool) -> Thing:
    """A car, now and then a van or a bus; `speed` in metres per second the way it faces."""
    draw = dice.between(0.0, 1.0)
    mesh = meshes.HATCHBACK
    if draw > 0.97 and speed:
        mesh = meshes.BUS
    elif draw > 0.86:
        mesh = meshes.VAN
    elif draw > 0.66:
        mesh = meshes.ESTATE
    elif draw > 0.36:
        mesh = meshes.SALOON
    lit = lamps and speed != 0.0
    glass = dice.shade((46, 56, 66), 0.3)
    palette: list[Colour] = [
        dice.shade(dice.pick(CAR_PAINTS), 0.14),
        glass,
        (28, 28, 30),
        (250, 48, 40) if lit else (150, 34, 32),
        (255, 248, 214) if lit else (206, 208, 206),
        dice.pick([(226, 224, 212), (228, 196, 70)]),
        (72, 73, 76),
    ]
    size_factor = dice.between(0.96, 1.06)
    scale = (size_factor, size_factor, size_factor)
    velocity = (0.0, speed * facing)
    return Thing(mesh, palette, CAR, lateral, z, scale, facing, velocity)


def pedestrian(
    dice: Dice, lateral: float, z: float, velocity: tuple[float, float] = (0.0, 0.0), wet: bool = False
) -> Thing:
    """A grown-up or a child; `velocity` as in `Thing`."""
    tall = dice.between(0.64, 0.78) if dice.chance(0.15) else dice.between(0.9, 1.08)
    mesh = dice.pick(meshes.PEDESTRIANS)
    if wet and dice.chance(0.45):
        mesh = meshes.PEDESTRIAN_WITH_UMBRELLA
    hair = dice.shade(dice.pick([(52, 40, 34), (116, 86, 52), (150, 148, 146), (186, 152, 96)]), 0.15)
    palette: list[Colour] = [
        dice.pick(SKINS),
        hair,
        dice.shade(dice.pick(CLOTHES), 0.2),
        dice.shade(dice.pick(CLOTHES[:6]), 0.25),
        (40, 38, 38),
        dice.shade(dice.pick(CLOTHES), 0.2),
    ]
    mirrored = -1.0 if dice.chance(0.5) else 1.0
    scale = (tall * mirrored * dice.between(0.92, 1.15), tall, 1.0)
    stride = 0.0 if velocity == (0.0, 0.0) else dice.between(1.0, 1.4)
    return Thing(mesh, palette, PEDESTRIAN, lateral, z, scale, 1.0, velocity, stride)


def cyclist(dice: Dice, lateral: float, z: float, velocity: tuple[float, float]) -> Thing:
    """Somebody on a bicycle, riding along the road or across it."""
    crossing = abs(velocity[0]) > abs(velocity[1])
    mesh = meshes.CYCLIST_FROM_THE_SIDE if crossing else meshes.CYCLIST_FROM_BEHIND
    helmet = dice.pick([(224, 222, 214), (40, 42, 48), (188, 48, 44), (58, 96, 150), (86, 62, 42)])
    palette: list[Colour] = [
        dice.pick(SKINS),
        helmet,
        dice.shade(dice.pick((*CLOTHES, (206, 216, 60))), 0.18),
        dice.shade(dice.pick(CLOTHES[:6]), 0.25),
        (34, 34, 36),
        dice.shade(dice.pick([(172, 44, 40), (60, 96, 140), (150, 152, 154), (84, 110, 70)]), 0.15),
    ]
    tall = dice.between(0.93, 1.06)
    scale = (-tall if velocity[0] < 0 else tall, tall, 1.0)
    return Thing(mesh, palette, BICYCLIST, lateral, z, scale, 1.0, velocity)


def tree(dice: Dice, lateral: float, z: float, height: float) -> Thing:
    """A broadleaved tree or a conifer of `height` metres."""
    leaf = dice.shade(dice.pick(LEAVES), 0.16)
    bark = dice.shade(dice.pick([(84, 68, 54), (108, 100, 92), (70, 58, 48)]), 0.12)
    tones: list[Colour] = [(leaf[0] * gain, leaf[1] * gain, leaf[2] * gain) for gain in (0.70, 0.90, 1.10)]
    mesh = meshes.CONIFER if dice.chance(0.14) else dice.pick(meshes.BROADLEAVES)
    width = height * dice.between(0.62, 0.95)
    mirrored = -1.0 if dice.chance(0.5) else 1.0
    return Thing(mesh, [bark, *tones], TREE, lateral, z, (width * mirrored, height, width))


def post(mesh: Mesh, palette: Sequence[Colour], lateral: float, z: float, mirrored: bool = False) -> Thing:
    """Street furniture on a post, or a litter bin; `mirrored` turns its arm to the left."""
    scale = (-1.0 if mirrored else 1.0, 1.0, 1.0)
    return Thing(mesh, palette, POLE, lateral, z, scale)
