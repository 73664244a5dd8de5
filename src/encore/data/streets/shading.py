"""The colours of a frame: surfaces, light, haze, the sky, wet roads and the camera's own faults."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from encore.data.streets.dice import Colour, hashed, value_noise
from encore.data.streets.faces import Kind
from encore.data.streets.ground import Floats, Ground, ground_colours, noise_at
from encore.data.streets.light import Light
from encore.data.streets.rasteriser import BONNET_FACE, CAST_LEVEL, FIRST_FACE, GROUND_FACE, SKY_FACE, Raster
from encore.data.streets.street import Street

Indices = NDArray[np.intp]

CLOUDS_SIDE = 512
CLOUDS: Floats = value_noise(CLOUDS_SIDE, (16, 32, 64, 128), (1.0, 0.6, 0.4, 0.2)).ravel()
"""A tile of soft noise -1…1 for clouds."""

_GRAIN = ((np.arange(256) >> 4) + (np.arange(256) & 15) - 15).astype(np.float32) / np.float32(6.5)
"""For each byte a sample of triangular noise with a standard deviation of 1."""
_AMPLITUDE = np.zeros(len(Kind), dtype=np.float32)
_AMPLITUDE[[Kind.PLAIN, Kind.FOLIAGE, Kind.FACADE, Kind.SLATS, Kind.SHINY, Kind.ROUGH]] = (
    0.07,
    0.42,
    0.10,
    0.12,
    0.05,
    0.14,
)
_FREQUENCY = np.full(len(Kind), 24.0, dtype=np.float32)
_FREQUENCY[[Kind.FOLIAGE, Kind.FACADE, Kind.ROUGH]] = 11.0, 17.0, 15.0


def _column(colour: Colour) -> Floats:
    """(3, 1) float32."""
    return np.array(colour, dtype=np.float32)[:, None]


def _put(image: Floats, pixels: Indices, colours: Floats) -> None:
    """Set `pixels` of an image (3, N); channel by channel, which is the fastest way."""
    for channel, values in zip(image, colours, strict=True):
        channel[pixels] = values


def _of_faces(raster: Raster, values: NDArray[Any]) -> NDArray[Any]:
    """`values` per face, (..., F), as values per number in the picture, (..., N); 0 for sky and ground."""
    spread = np.zeros((*values.shape[:-1], len(raster.table.classes)), dtype=values.dtype)
    spread[..., FIRST_FACE:] = values.take(raster.table.faces, axis=-1)
    return spread


def _lit(raster: Raster, light: Light, bonnet: Colour) -> Floats:
    """(3, N) float32: each face's colour in the scene's light."""
    normals = raster.table.normals
    sun_x, sun_y, sun_z = (np.float32(part) for part in light.towards_sun)
    facing = normals[0] * sun_x + normals[1] * sun_y + normals[2] * sun_z
    albedo = _of_faces(raster, raster.faces.colours).astype(np.float32)
    albedo[:, BONNET_FACE] = bonnet
    upward = np.float32(0.86) + np.float32(0.14) * normals[1]
    lit = albedo * (upward * _column(light.ambient) + np.maximum(facing, np.float32(0)) * _column(light.sun))
    glowing = _of_faces(raster, raster.faces.kinds) == Kind.GLOWING
    lit[:, glowing] = albedo[:, glowing] * np.float32(1.0 if light.lamps else 0.85)
    return lit


def _sky(raster: Raster, light: Light, pixels: Indices, seed: int) -> Floats:
    """(3, N) float32: the sky from horizon to zenith, with clouds that stand still in the world."""
    sine, cosine = (np.float32(value) for value in raster.camera.heading)
    x, up = raster.x.ravel()[pixels], np.maximum(-raster.y.ravel()[pixels], np.float32(0.0))
    horizon, zenith = _column(light.horizon), _column(light.zenith)
    rise = np.minimum(up * np.float32(1.9), np.float32(1.0))
    rise *= np.float32(2.0) - rise
    colours = horizon + rise * (zenith - horizon)
    if light.clouds > 0.05:
        flatness = np.float32(1) / (up + np.float32(0.16))
        across = (x * cosine + sine) * flatness * np.float32(90) + np.float32(4096 + seed % 509)
        away = (cosine - x * sine) * flatness * np.float32(70) + np.float32(4096 + seed % 499)
        column, row = (place.astype(np.int32) & (CLOUDS_SIDE - 1) for place in (across, away))
        wisps = CLOUDS.take(row * CLOUDS_SIDE + column, mode="clip")
        cover = (wisps + np.float32(light.clouds * 1.5 - 0.75)) * np.float32(1.6)
        cover = np.clip(cover, 0, 1) * np.minimum(up * np.float32(9), np.float32(1))
        bright = np.maximum(horizon * np.float32(1.06), (zenith + horizon) * np.float32(0.55))
        if light.condition == "overcast":
            bright = zenith * np.float32(0.86)
        colours += (cover * np.float32(0.8)) * (np.minimum(bright, np.float32(250)) - colours)
    return colours


def _facades(
    raster: Raster, light: Light, number: NDArray[np.int64], s: Floats, t: Floats, depth: Floats, colours: Floats
) -> Floats:
    """Windows, doors and shop fronts over the walls' colours (3, N); s along the wall, t above ground."""
    patterns = raster.faces.patterns.take(raster.table.faces, axis=1).astype(np.float32)
    storey, bay, share, variety = patterns.take(number - FIRST_FACE, axis=1)
    style = (variety * np.float32(1009)).astype(np.int32)
    columns, rows = s / bay, t / storey
    whole_column, whole_row = np.floor(columns), np.floor(rows)
    column, row = whole_column.astype(np.int32), whole_row.astype(np.int32)
    across = np.abs(columns - whole_column - np.float32(0.5)) * np.float32(2)
    upright = np.abs(rows - whole_row - np.float32(0.54)) * np.float32(2)
    street_level = row == 0
    shop = street_level & (style % 5 == 0)
    door = street_level & ~shop & ((column + style) % 3 == 0)
    wide = np.where(shop, np.float32(0.86), share)
    tall = np.where(shop, np.float32(0.66), np.where(door, np.float32(0.72), np.float32(0.56)))
    upright = np.where(door, np.abs(rows - np.float32(0.34)) * np.float32(2), upright)
    framed = (across < wide + np.float32(0.13)) & (upright < tall + np.float32(0.11))
    pane = framed & (across < wide) & (upright < tall)
    fascia = shop & (rows > np.float32(0.86))
    sharp = np.float32(1.5) - depth / (bay * share) * np.float32(1.6 / raster.camera.focal)
    np.clip(sharp, np.float32(0.15), np.float32(1), out=sharp)

    tone = np.where(style % 2 == 0, np.float32(0.28), np.float32(-0.24)) * (framed & ~pane)
    tone += (~street_level & (rows - whole_row < np.float32(0.05)) & (style % 3 == 0)) * np.float32(0.2)
    tone -= (((t * np.float32(6)).astype(np.int32) & 1) * (style % 7 < 4)) * np.float32(0.05)
    tone *= sharp
    tone += np.float32(1)
    colours *= tone

    filled = np.flatnonzero(pane | fascia)
    style, draw = style[filled], hashed(column[filled] + style[filled], row[filled] * 31 + style[filled])
    brightness = (draw & 255).astype(np.float32) * np.float32(1 / 255)
    glass = _column(light.horizon) * np.float32(0.36) + np.float32(16)
    inside = glass * (np.float32(0.55) + np.float32(0.55) * brightness)
    if light.lamps:
        inside[:, brightness < np.float32(0.38)] = _column((246, 200, 120))
    wood = np.flatnonzero(door[filled] | fascia[filled])
    hues = hashed(style[wood] + 7, style[wood])[None, :] >> np.array([[0], [8], [16]], dtype=np.uint32)
    inside[:, wood] = ((hues & 127).astype(np.float32) + np.float32(34)) * _column(light.ambient)
    for channel, value in zip(colours, inside, strict=True):
        channel[filled] += sharp[filled] * (value - channel[filled])
    return colours


def _slats(raster: Raster, number: NDArray[np.int64], s: Floats, t: Floats, depth: Floats) -> Floats:
    """Factors (N,) on the colours of fences: rails, uprights, and the dark between them."""
    patterns = raster.faces.patterns.take(raster.table.faces, axis=1).astype(np.float32)
    tall, gap, share, _ = patterns.take(number - FIRST_FACE, axis=1)
    place, height = s / gap, t / tall
    place -= np.floor(place)
    sharp = np.clip(np.float32(1.4) - depth / gap * np.float32(2 / raster.camera.focal), 0, 1)
    between = (place > share) & (height < np.float32(0.86)) & (np.abs(height - np.float32(0.3)) > 0.07)
    factors: Floats = np.float32(0.75) + sharp * (np.float32(0.25) - np.float32(0.5) * between)
    return factors


def _surfaces(raster: Raster, light: Light, pixels: Indices, depth: Floats, lit: Floats) -> Floats:
    """(3, N) float32: colours of the pixels that show a face."""
    table, faces = raster.table, raster.faces
    number = raster.numbers.ravel()[pixels]
    x, t, z = (part.ravel()[pixels] for part in raster.world)
    t_x, t_z, start = table.tangents
    s = t_x.take(number, mode="clip") * x
    s += t_z.take(number, mode="clip") * z
    s -= start.take(number, mode="clip")
    kinds = _of_faces(raster, faces.kinds)
    scale = _FREQUENCY[kinds].take(number, mode="clip")
    shift = (_of_faces(raster, faces.patterns[3]) * 200 + 2048).astype(np.float32).take(number, mode="clip")
    grain = noise_at(s * scale + shift, t * scale + shift)
    grain *= _AMPLITUDE[kinds].take(number, mode="clip")
    grain /= np.float32(1) + depth * np.float32(0.02)
    grain += np.float32(1)
    colours = lit.take(number, axis=1)
    colours *= grain
    kind = kinds.take(number, mode="clip")
    walls, bars = np.flatnonzero(kind == Kind.FACADE), np.flatnonzero(kind == Kind.SLATS)
    if len(walls):
        at = (number[walls], s[walls], t[walls], depth[walls])
        _put(colours, walls, _facades(raster, light, *at, colours.take(walls, axis=1)))
    if len(bars):
        factors = _slats(raster, number[bars], s[bars], t[bars], depth[bars])
        _put(colours, bars, colours.take(bars, axis=1) * factors)
    return colours


def _softened(image: Floats, fine: NDArray[np.uint16]) -> Floats:
    """`image` (3, H * W) with smoothed outlines.

    Where a quarter of a pixel shows another face than its middle, that quarter takes the colour of the
    neighbour it borders on.
    """
    height, width = fine.shape[0] // 2, fine.shape[1] // 2
    middle = fine[::2, ::2]
    differs = np.empty((3, height, width), dtype=np.bool_)
    np.not_equal(fine[::2, 1::2], middle, out=differs[0])
    np.not_equal(fine[1::2, ::2], middle, out=differs[1])
    np.not_equal(fine[1::2, 1::2], middle, out=differs[2])
    differs[:, :, -1] = False
    differs[:, -1, :] = False
    quarters = differs.reshape(3, -1)
    pixels = np.flatnonzero(quarters[0] | quarters[1] | quarters[2])
    mixed = image.take(pixels, axis=1)
    for quarter, step in zip(quarters, (1, width, width + 1), strict=True):
        mixed += image.take(pixels + step * quarter.take(pixels), axis=1)
    mixed *= np.float32(0.25)
    _put(image, pixels, mixed)
    return image


def shade(street: Street, raster: Raster, ground: Ground, frame: int) -> NDArray[np.uint8]:
    """The picture that the camera takes.

    Args:
        street: the scene.
        raster: the frame's faces and depths.
        ground: the ground at the pixels that show it, in row-major order.
        frame: number of the frame; it seeds the sensor noise.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    light, numbers = street.light, raster.numbers.ravel()
    image = np.empty((3, len(numbers)), dtype=np.float32)
    sky, soil = np.flatnonzero(numbers == SKY_FACE), np.flatnonzero(numbers == GROUND_FACE)
    solid = np.flatnonzero(numbers > GROUND_FACE)
    _put(image, sky, _sky(raster, light, sky, street.seed))
    depth = raster.depth.ravel()[solid]
    lit = _lit(raster, light, street.optics.bonnet_colour)
    _put(image, solid, _hazy(_surfaces(raster, light, solid, depth, lit), depth, light))
    earth = ground_colours(street.road, ground, raster.camera.focal, 0.25)
    earth *= _light_on_ground(light, raster.shade.ravel()[soil])
    _put(image, soil, _hazy(earth, ground.depth, light))
    if light.wet:
        _mirror(image, raster, soil)
    return _developed(_softened(image, raster.fine), street, raster, frame)


def _light_on_ground(light: Light, shade: NDArray[np.uint8]) -> Floats:
    """(3, N) float32: factors on the ground's colours, given the light that reaches it (0…255)."""
    level = np.arange(256, dtype=np.float32)
    sun = np.clip((level - np.float32(CAST_LEVEL)) / np.float32(255 - CAST_LEVEL), 0, 1)
    ambient = np.minimum(level / np.float32(CAST_LEVEL), 1).astype(np.float32)
    factors = sun * (_column(light.sun) * np.float32(light.towards_sun[1])) + ambient * _column(light.ambient)
    if light.wet:
        factors *= np.float32(0.72)
    return factors.astype(np.float32).take(shade, axis=1)


def _hazy(colours: Floats, depth: Floats, light: Light) -> Floats:
    """`colours` (3, N) seen through the air: 1 / (1 + d / v)^2 in place of an exponential, which machines
    round differently."""
    air = np.maximum(depth - np.float32(3), np.float32(0))
    air *= np.float32(1 / light.visibility)
    air += np.float32(1)
    through = np.float32(1) / (air * air)
    haze = _column(light.horizon)
    colours -= haze
    colours *= through
    colours += haze
    return colours


def _mirror(image: Floats, raster: Raster, soil: Indices) -> None:
    """Reflections on wet ground: the picture upside down about the horizon, stronger at a glance."""
    height, width = raster.numbers.shape
    rows, columns = soil // width, soil % width
    horizon = np.float32(raster.camera.centre[1])
    mirrored = np.clip((2 * horizon - rows.astype(np.float32)).astype(np.int32), 0, height - 1)
    strength = np.float32(0.62) / (np.float32(1) + raster.y.ravel()[soil] * np.float32(3.2))
    x, z = raster.world[0].ravel()[soil], raster.world[2].ravel()[soil]
    uneven = noise_at(x * np.float32(2) + np.float32(512), z * np.float32(2) + np.float32(512))
    strength *= np.float32(0.85) + np.float32(0.3) * uneven
    own = image.take(soil, axis=1)
    _put(image, soil, own + strength * (image.take(mirrored * width + columns, axis=1) - own))


def _developed(image: Floats, street: Street, raster: Raster, frame: int) -> NDArray[np.uint8]:
    """Exposure, vignette and sensor noise, then whole numbers."""
    height, width = raster.numbers.shape
    across = np.arange(width, dtype=np.float32) / np.float32(width) - np.float32(0.5)
    down = np.arange(height, dtype=np.float32) / np.float32(height) - np.float32(0.5)
    vignette = np.float32(1.03) - np.float32(0.26) * (across * across + (down * down)[:, None])
    image *= vignette.ravel()
    image *= _column(street.light.exposure)
    stream = np.random.PCG64((abs(street.seed) << 16) + frame)
    raw = stream.random_raw((image.size + 7) // 8).astype("<u8").view(np.uint8)[: image.size]
    image += _GRAIN.take(raw, mode="clip").reshape(image.shape) * np.float32(street.light.noise)
    np.clip(image, 0, 255, out=image)
    return np.ascontiguousarray(image.astype(np.uint8).T).reshape(height, width, 3)
