"""What lines a street: houses, hedges and fences, one side at a time from near to far."""

from __future__ import annotations

from encore.data.streets.classes import BUILDING, FENCE, TREE
from encore.data.streets.dice import Colour, Dice
from encore.data.streets.faces import SHADOW, Kind, Point, Polygons
from encore.data.streets.light import Light
from encore.data.streets.road import Road, Side
from encore.data.streets.things import LEAVES, Thing, tree

WALLS: tuple[Colour, ...] = (
    (158, 92, 72),
    (176, 120, 92),
    (206, 190, 160),
    (222, 214, 198),
    (150, 148, 144),
    (118, 114, 110),
    (186, 176, 156),
    (136, 104, 82),
    (196, 160, 118),
    (150, 164, 172),
    (124, 62, 54),
    (206, 176, 170),
)
ROOFS: tuple[Colour, ...] = ((92, 84, 82), (118, 78, 64), (74, 78, 86), (132, 104, 86))
FENCES: tuple[Colour, ...] = ((112, 84, 58), (58, 60, 60), (168, 158, 142), (72, 86, 72), (138, 138, 136))


class Frontage:
    """Builds one side of a street.

    Args:
        road, side, light: the street and the side to build.
        dice: the side's own stream of choices.
        polygons: takes the walls, roofs, hedges, fences and their shadows.
        trees: takes the trees of the gardens.
    """

    def __init__(
        self, road: Road, side: Side, light: Light, dice: Dice, polygons: Polygons, trees: list[Thing]
    ) -> None:
        self.road, self.side, self.light, self.dice = road, side, light, dice
        self.polygons, self.trees = polygons, trees
        self.wall = dice.pick(WALLS)
        self.boundary = dice.pick(("fence", "fence", "hedge", "none"))
        self.rail = dice.chance(0.22)
        self.fence_colour = dice.shade(dice.pick(FENCES), 0.12)
        self.hedge_colour = dice.shade(dice.pick(LEAVES[:5]), 0.14)

    def build(self, end: float) -> None:
        """Fill the side from behind the camera to Z = `end`, metres."""
        z, dice = -14.0, self.dice
        while z < end:
            built = {"terrace": 0.94, "houses": 0.8, "park": 0.12}[self.side.character]
            length = dice.between(6.5, 14.0)
            if self._at_junction(z, z + length):
                z += 1.0
                continue
            if dice.chance(built):
                self._building(z, z + length)
            else:
                self._garden(z, z + length)
            if self.side.setback > 2.0 and self.boundary != "none":
                self._boundary(self.side.outer + 0.1, z, z + length, self.boundary)
            if self.rail:
                self._boundary(self.side.road_edge + 0.25, z, z + length, "rail")
            z += length
            if self.side.character == "houses":
                gap = dice.between(1.5, 6.0)
                self._garden(z, z + gap)
                z += gap
            elif dice.chance(0.12):
                z += dice.between(1.5, 4.0)

    def _at_junction(self, start: float, end: float) -> bool:
        junction = self.road.junction
        if junction is None or junction[2] != self.side.sign:
            return False
        return start < junction[1] + 2.0 and end > junction[0] - 2.0

    def _at(self, outward: float, z: float, y: float = 0.0) -> Point:
        """World point `outward` metres from the centre line on this side."""
        return self.road.centre(z) + self.side.sign * outward, y, z

    def _building(self, start: float, end: float) -> None:
        dice, polygons = self.dice, self.polygons
        front = self.side.outer + self.side.setback + dice.between(0.0, 0.6)
        storeys = dice.whole(2, 4) if self.side.character == "terrace" else dice.whole(1, 2)
        storey = dice.between(2.8, 3.5)
        height = storeys * storey + dice.between(0.2, 0.8)
        colour = dice.shade(self.wall if dice.chance(0.45) else dice.pick(WALLS), 0.14)
        variety = dice.between(0.0, 1.0)
        pattern = (storey, dice.between(1.9, 3.6), dice.between(0.36, 0.62), variety)
        pitched = dice.chance(0.6)
        near, far, out = self.road.centre(start), self.road.centre(end), self.side.sign
        near_front, far_front = near + out * front, far + out * front
        near_ridge, far_ridge = near_front + out * 4, far_front + out * 4
        polygons.begin(far, end)
        if pitched:
            roof, rise, eaves = dice.shade(dice.pick(ROOFS), 0.15), height + dice.between(2.0, 3.5), height - 0.1
            slope = [(near_front - out * 0.3, eaves, start), (far_front - out * 0.3, eaves, end)]
            slope += [(far_ridge, rise, end), (near_ridge, rise, start)]
            polygons.add(slope, BUILDING, roof, Kind.ROUGH, (1, 1, 0, variety))
            if dice.chance(0.6):
                z = dice.between(start + 1, end - 1)
                x = self.road.centre(z) + out * (front + 3.5)
                stack = [(x, rise - 1.0, z), (x + 1.2, rise - 1.0, z), (x + 1.2, rise + 1.1, z), (x, rise + 1.1, z)]
                polygons.add(stack, BUILDING, colour, Kind.ROUGH)
        back = near_front + out * 9.0
        gable = [(near_front, 0.0, start), (back, 0.0, start), (back, height, start)]
        if pitched:
            gable.append((near_ridge, rise, start))
        gable.append((near_front, height, start))
        polygons.add(gable, BUILDING, colour, Kind.FACADE, (storey, 4.2, 0.22, variety))
        wall = [(near_front, 0.0, start), (far_front, 0.0, end), (far_front, height, end), (near_front, height, start)]
        polygons.add(wall, BUILDING, colour, Kind.FACADE, pattern)
        self._wall_shadow(front, start, end, height)

    def _wall_shadow(self, front: float, start: float, end: float, height: float) -> None:
        sun_x, sun_y, sun_z = self.light.towards_sun
        if not self.light.casts_shadows or sun_x * self.side.sign <= 0:
            return
        reach = min(height / sun_y, 26.0)
        drift_x, drift_z = -sun_x * reach, -sun_z * reach
        near, far = self._at(front, start), self._at(front, end)
        self.polygons.begin(near[0], near[2])
        away = [(far[0] + drift_x, 0.0, far[2] + drift_z), (near[0] + drift_x, 0.0, near[2] + drift_z)]
        self.polygons.add([near, far, *away], SHADOW, (0.0, 0.0, 0.0))

    def _garden(self, start: float, end: float) -> None:
        """Trees behind the pavement, in a park several deep."""
        dice = self.dice
        rows = 3 if self.side.character == "park" else 1
        for row in range(rows):
            for _ in range(dice.whole(1, 2) if rows > 1 else dice.whole(0, 1)):
                outward = self.side.outer + 2.2 + 5.0 * row + dice.between(0.0, 4.0)
                height = dice.between(3.5, 8.0) + 1.6 * row
                lateral = self.side.sign * outward
                self.trees.append(tree(dice, lateral, dice.between(start, end), height))

    def _boundary(self, outward: float, start: float, end: float, what: str) -> None:
        """A fence, a hedge or a rail in pieces that follow the bend."""
        pieces = 2 if abs(self.road.curvature) > 0.0008 else 1
        if what == "rail":  # short pieces: people pass behind it, cars before it
            pieces = max(round((end - start) / 2.5), 1)
        step = (end - start) / pieces
        tall = {"fence": 1.35, "hedge": 1.25, "rail": 1.0}[what]
        for piece in range(pieces):
            near, far = start + piece * step, start + (piece + 1) * step
            self.polygons.begin(self.road.centre(far), far - 0.01)  # after the house behind it
            face = [self._at(outward, near), self._at(outward, far)]
            face += [self._at(outward, far, tall), self._at(outward, near, tall)]
            if what == "hedge":
                top = [self._at(outward, near, tall), self._at(outward, far, tall)]
                top += [self._at(outward + 0.9, far, tall), self._at(outward + 0.9, near, tall)]
                end_face = [self._at(outward, near), self._at(outward + 0.9, near)]
                end_face += [self._at(outward + 0.9, near, tall), self._at(outward, near, tall)]
                dark, light = self.hedge_colour, [channel * 1.15 for channel in self.hedge_colour]
                self.polygons.add(top, TREE, (light[0], light[1], light[2]), Kind.FOLIAGE)
                self.polygons.add(end_face, TREE, dark, Kind.FOLIAGE)
                self.polygons.add(face, TREE, dark, Kind.FOLIAGE)
            else:
                gap = 0.45 if what == "rail" else 0.22
                self.polygons.add(face, FENCE, self.fence_colour, Kind.SLATS, (tall, gap, 0.4, 0.0))
