"""Weather and time of day: where light comes from, what colour it has, how far one sees."""

from __future__ import annotations

from dataclasses import dataclass

from encore.data.streets.dice import Colour, Dice

CONDITIONS: tuple[str, ...] = ("day", "overcast", "dusk", "fog")


@dataclass(frozen=True)
class Light:
    """The light of one scene.

    Attributes:
        condition: one of `CONDITIONS`.
        wet: true where the road mirrors the sky.
        zenith, horizon: colours of the sky, RGB 0…255.
        clouds: share of the sky under cloud, 0…1.
        ambient, sun: factors per channel on a surface's colour, from all sides and from the sun.
        towards_sun: unit vector in world coordinates.
        visibility: metres at which the haze takes three quarters of the contrast.
        exposure: factors per channel: the camera's exposure and white balance.
        lamps: true where windows and street lamps are lit.
        noise: strength of the sensor noise, about one standard deviation in grey levels.
    """

    condition: str
    wet: bool
    zenith: Colour
    horizon: Colour
    clouds: float
    ambient: Colour
    sun: Colour
    towards_sun: tuple[float, float, float]
    visibility: float
    exposure: Colour
    lamps: bool
    noise: float

    @property
    def casts_shadows(self) -> bool:
        """True where the sun is strong enough."""
        return self.sun[1] > 0.15


def _scaled(colour: Colour, gain: float) -> Colour:
    return colour[0] * gain, colour[1] * gain, colour[2] * gain


def draw_light(dice: Dice) -> Light:
    """One of the four conditions, with everything about it varied."""
    condition = CONDITIONS[(0, 0, 0, 0, 1, 1, 1, 2, 2, 3)[dice.whole(0, 9)]]
    sunward = [dice.between(-1.0, 1.0), dice.between(0.5, 1.3), dice.between(-0.9, 0.5)]
    none: Colour = (0.0, 0.0, 0.0)
    if condition == "day":
        zenith, horizon = dice.shade((92, 146, 208), 0.14), dice.shade((196, 216, 232), 0.06)
        ambient, sun, visibility = (0.56, 0.60, 0.68), (0.56, 0.52, 0.44), dice.between(350, 900)
        clouds = dice.between(0.0, 0.75)
    elif condition == "overcast":
        zenith, horizon = dice.shade((160, 167, 177), 0.15), dice.shade((208, 210, 212), 0.07)
        ambient, sun, visibility = (0.84, 0.85, 0.88), (0.10, 0.10, 0.10), dice.between(180, 500)
        clouds = dice.between(0.4, 1.0)
    elif condition == "dusk":
        zenith = dice.shade(dice.pick([(84, 92, 146), (120, 104, 150), (64, 80, 128)]), 0.12)
        horizon = dice.shade(dice.pick([(246, 172, 118), (240, 150, 128), (236, 190, 140)]), 0.08)
        ambient, sun, visibility = (0.50, 0.46, 0.56), (0.40, 0.24, 0.12), dice.between(160, 450)
        clouds = dice.between(0.1, 0.8)
        sunward[1] = dice.between(0.22, 0.4)
    else:
        zenith = horizon = dice.shade((196, 199, 202), 0.10)
        ambient, sun, visibility = (0.82, 0.84, 0.86), none, dice.between(35, 90)
        clouds = 0.0
    length = sum(part * part for part in sunward) ** 0.5
    gain = dice.between(0.80, 1.16)
    red, blue = dice.between(-0.07, 0.07), dice.between(-0.07, 0.07)
    return Light(
        condition=condition,
        wet=dice.chance(0.12 if condition == "day" else 0.4),
        zenith=zenith,
        horizon=horizon,
        clouds=clouds,
        ambient=_scaled(ambient, dice.between(0.9, 1.1)),
        sun=_scaled(sun, dice.between(0.75, 1.2)),
        towards_sun=(sunward[0] / length, sunward[1] / length, sunward[2] / length),
        visibility=visibility,
        exposure=(gain * (1 + red), gain, gain * (1 + blue)),
        lamps=condition == "dusk" or (condition == "fog" and dice.chance(0.5)),
        noise=dice.between(1.5, 5.5),
    )
