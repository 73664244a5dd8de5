"""A whole street: what stands where at every moment, and the camera that drives through it."""

from __future__ import annotations

from dataclasses import dataclass

from encore.data.contracts import VOID
from encore.data.streets import meshes
from encore.data.streets.camera import Camera
from encore.data.streets.classes import COUNTABLE
from encore.data.streets.dice import Colour, Dice
from encore.data.streets.faces import Faces, Point, Polygons, joined
from encore.data.streets.frontage import Frontage
from encore.data.streets.light import Light, draw_light
from encore.data.streets.road import Road, Side, draw_road
from encore.data.streets.things import (
    METALS,
    Thing,
    cyclist,
    pedestrian,
    placed,
    post,
    tree,
    vehicle,
)

VIEW = 75.0
"""Metres from the camera beyond which nothing of the street is drawn."""


@dataclass(frozen=True)
class Optics:
    """How the camera is mounted; sizes are shares of the picture's width or height.

    Attributes:
        height: above the ground, metres.
        lateral: from the centre line, metres to the right.
        yaw: tangent of the angle to the road's direction.
        roll: tangent of half the roll.
        focal: focal length as a share of the width.
        centre: principal point as shares of width and height.
        bonnet: share of the height that the own car's bonnet covers, 0 where it is out of sight.
        bonnet_colour: RGB 0…255.
    """

    height: float
    lateral: float
    yaw: float
    roll: float
    focal: float
    centre: tuple[float, float]
    bonnet: float
    bonnet_colour: Colour


@dataclass(frozen=True)
class Street:
    """Everything that a seed decides.

    Attributes:
        seed: the seed.
        road, light, optics: ground plan, weather, camera.
        speed: of the own car, metres per second.
        countable: the objects that have boxes; that of track k is at k - 1.
        moving: the objects that move.
        fixed: faces of everything that never moves, shadows included.
    """

    seed: int
    road: Road
    light: Light
    optics: Optics
    speed: float
    countable: tuple[Thing, ...]
    moving: tuple[Thing, ...]
    fixed: Faces

    def camera(self, seconds: float, height: int, width: int) -> Camera:
        """The camera at a time for pictures of `height` × `width` pixels."""
        optics, z = self.optics, self.speed * seconds
        return Camera(
            x=self.road.centre(z) + optics.lateral,
            z=z,
            height=optics.height,
            yaw=self.road.slope(z) + optics.yaw,
            roll=optics.roll,
            focal=optics.focal * width,
            centre=(optics.centre[0] * width, optics.centre[1] * height),
        )

    def faces(self, seconds: float) -> Faces:
        """Everything there is at a time."""
        if not self.moving:
            return self.fixed
        return joined([self.fixed, placed(self.moving, self.road, self.light, seconds)])


def _draw_optics(dice: Dice, road: Road) -> Optics:
    return Optics(
        height=dice.between(1.25, 1.75),
        lateral=road.keeps * road.lane * dice.between(0.35, 0.6),
        yaw=dice.between(-0.07, 0.07),
        roll=dice.between(-0.012, 0.012),
        focal=dice.between(0.74, 1.0),
        centre=(0.5 + dice.between(-0.02, 0.02), dice.between(0.41, 0.53)),
        bonnet=dice.between(0.03, 0.075) if dice.chance(0.5) else 0.0,
        bonnet_colour=dice.pick([(60, 62, 68), (150, 152, 156), (96, 40, 38), (48, 62, 92)]),
    )


def _traffic(dice: Dice, road: Road, light: Light, speed: float) -> list[Thing]:
    """What moves on the carriageway."""
    things: list[Thing] = []
    lane, ours = road.lane, road.keeps
    if speed and dice.chance(0.5):
        ahead = dice.between(9.0, 40.0)
        things.append(vehicle(dice, ours * lane * 0.5, ahead, 1.0, speed + dice.between(0, 1.5), light.lamps))
    z = dice.between(10.0, 50.0)
    for _ in range(dice.whole(0, 3)):
        things.append(vehicle(dice, -ours * lane * 0.52, z, -1.0, dice.between(5, 12), light.lamps))
        z += dice.between(9.0, 35.0)
    for way in (1.0, -1.0):
        if dice.chance(0.42):
            lateral = way * ours * (lane - 0.55)
            velocity = (0.0, way * dice.between(3.0, 6.0))
            things.append(cyclist(dice, lateral, dice.between(6.5, 26.0), velocity))
    return things


def _crossers(dice: Dice, road: Road, light: Light) -> list[Thing]:
    """People who cross the road in front of us; we wait for them."""
    z = road.zebra + 1.2 if road.zebra is not None else dice.between(9.0, 20.0)
    things: list[Thing] = []
    for _ in range(dice.whole(1, 3)):
        way, pace = dice.pick((-1.0, 1.0)), dice.between(0.9, 1.6)
        start = -way * dice.between(-1.5, road.lane + 0.5)
        z += dice.between(0.2, 1.0)
        if dice.chance(0.25):
            things.append(cyclist(dice, start, z, (way * pace * 2.2, 0.0)))
        else:
            things.append(pedestrian(dice, start, z, (way * pace, 0.0), light.wet))
    return things


def _kerbside(dice: Dice, road: Road, side: Side, light: Light, end: float) -> list[Thing]:
    """What stands or walks along one side from near to far."""
    things: list[Thing] = []
    metal = dice.shade(dice.pick(METALS), 0.15)
    kerb, sign = side.road_edge, side.sign
    lamp_gap, tree_gap = dice.between(18.0, 30.0), dice.between(8.0, 18.0)
    lined = dice.chance(0.3)
    busy = dice.pick((0.03, 0.06, 0.12))
    next_lamp, next_tree, parked_until = dice.between(4.0, 20.0), dice.between(5.0, 15.0), 3.0
    z = 3.0
    lit: Colour = (255, 232, 170) if light.lamps else (186, 186, 180)
    while z < end:
        z += 2.5
        if side.parked and z >= parked_until:
            parked_until = z + 5.6 + dice.between(0.0, 1.5)
            facing = dice.pick((1.0, sign * road.keeps))
            car = vehicle(dice, sign * (kerb - 1.02), z + 2.5, facing, 0.0, light.lamps)
            if dice.chance(side.parked) and not _in_junction(road, side, z, z + 5):
                things.append(car)
        if z >= next_lamp:
            things.append(post(meshes.LAMP, [metal, lit], sign * (kerb + 0.4), z, mirrored=sign > 0))
            next_lamp += lamp_gap
        if lined and z >= next_tree and side.pavement > 1.4:
            things.append(tree(dice, sign * (side.outer - 0.6), z, dice.between(4.5, 8.0)))
            next_tree += tree_gap
        draw = dice.between(0.0, 1.0)
        place = sign * (kerb + dice.between(0.5, max(side.pavement - 0.3, 0.6)))
        if draw < busy:
            speed = dice.pick((-1.0, 0.0, 1.0)) * dice.between(0.9, 1.5)
            things.append(pedestrian(dice, place, z, (0.0, speed), light.wet))
            if dice.chance(0.35):
                beside = place + dice.between(0.5, 0.7)
                things.append(pedestrian(dice, beside, z + 0.2, (0.0, speed), light.wet))
        elif draw < 0.17:
            things.append(_furniture(dice, metal, sign * (kerb + 0.45), z, light))
    return things


def _in_junction(road: Road, side: Side, start: float, end: float) -> bool:
    if road.junction is None or road.junction[2] != side.sign:
        return False
    return start < road.junction[1] + 1.0 and end > road.junction[0] - 1.0


def _furniture(dice: Dice, metal: Colour, lateral: float, z: float, light: Light) -> Thing:
    """A sign, a traffic light or a litter bin."""
    draw = dice.whole(0, 9)
    dark: Colour = (52, 50, 48)
    if draw < 2:
        lamps: list[Colour] = [dark, dark, dark]
        which = dice.whole(0, 2)
        lamps[which] = ((255, 60, 44), (255, 176, 40), (70, 220, 120))[which]
        return post(meshes.TRAFFIC_LIGHT, [metal, (38, 40, 40), *lamps], lateral, z)
    if draw < 4:
        green = dice.shade(dice.pick([(52, 78, 60), (60, 60, 64), (150, 52, 44)]), 0.15)
        return post(meshes.LITTER_BIN, [green, dark], lateral, z)
    rim, face = dice.pick(
        [
            ((196, 44, 40), (232, 230, 224)),
            ((44, 84, 160), (62, 104, 182)),
            ((232, 230, 224), (44, 84, 160)),
            ((196, 44, 40), (58, 88, 160)),
            ((60, 110, 74), (70, 124, 84)),
            ((120, 118, 114), (206, 196, 168)),
        ]
    )
    return post(dice.pick(meshes.SIGNS), [metal, dice.shade(rim, 0.1), dice.shade(face, 0.1)], lateral, z)


def _horizon(dice: Dice, polygons: Polygons) -> None:
    """Hills or roofs far away, too far to tell apart: void."""
    tone = dice.shade(dice.pick([(112, 122, 108), (132, 130, 128), (120, 116, 122)]), 0.12)
    roofs, height, x = dice.chance(0.5), dice.between(8.0, 30.0), -600.0
    outline: list[Point] = [(x, height, 700.0)]
    while x < 600.0:
        x += dice.between(25.0, 60.0)
        before, height = height, max(height + dice.between(-14.0, 14.0), 6.0)
        if roofs:
            outline.append((x, before, 700.0))
        outline.append((x, height, 700.0))
    polygons.begin(0.0, 700.0)
    polygons.add([(-600.0, -2.0, 700.0), (x, -2.0, 700.0), *reversed(outline)], VOID, tone)


def draw_street(seed: int, seconds: float) -> Street:
    """The street of a seed, long enough to drive through it for `seconds`.

    What there is at a place depends on the seed alone, not on `seconds`.
    """
    dice = Dice(seed)
    light, road = draw_light(dice), draw_road(dice)
    optics = _draw_optics(dice, road)
    crossed = dice.chance(0.22)
    speed = 0.0 if crossed or dice.chance(0.06) else dice.between(4.0, 12.0)
    moving = _crossers(dice, road, light) if crossed else _traffic(dice, road, light, speed)
    polygons = Polygons()
    _horizon(dice, polygons)
    along: list[Thing] = []
    end = VIEW + 5.0 + speed * seconds
    for stream, side in enumerate(road.sides()):
        Frontage(road, side, light, Dice(seed, 1 + stream), polygons, along).build(end)
        along += _kerbside(Dice(seed, 3 + stream), road, side, light, end)
    things = [*moving, *sorted(along, key=lambda thing: thing.z)]
    countable = tuple(thing for thing in things if thing.class_index in COUNTABLE)
    for track, thing in enumerate(countable, start=1):
        thing.track = track
    still = [thing for thing in things if not thing.moves]
    fixed = polygons.faces()
    if still:
        fixed = joined([fixed, placed(still, road, light, 0.0)])
    on_the_move = tuple(thing for thing in things if thing.moves)
    return Street(seed, road, light, optics, speed, countable, on_the_move, fixed)
