"""A clip is a drive through a scene; its motion field says where everything goes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.data.streets import Clip, render_clip, render_scene
from encore.data.streets.classes import ROAD
from encore.data.streets.rasteriser import BONNET_DEPTH


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [render_clip(seed, num_frames=3) for seed in range(8)]


def test_frame_0_is_the_scene_of_the_same_seed(clips: list[Clip]):
    for clip in clips[:3]:
        scene = render_scene(clip.seed)
        assert np.array_equal(clip.images[0], scene.image)
        assert np.array_equal(clip.masks[0], scene.mask)


def test_shapes_and_types_are_as_promised(clips: list[Clip]):
    clip = clips[0]
    assert clip.images.shape == (3, 96, 128, 3)
    assert clip.motion.shape == (3, 96, 128, 2)
    assert clip.motion.dtype == np.float32
    assert len(clip.boxes) == len(clip.labels) == 3
    assert np.isfinite(clip.motion).all()


def test_what_a_pixel_shows_is_found_where_its_motion_leads(clips: list[Clip]):
    shares = []
    for clip in clips:
        rows, columns = np.mgrid[0:96, 0:128]
        to_row = np.rint(rows + clip.motion[0, ..., 1]).astype(int)
        to_column = np.rint(columns + clip.motion[0, ..., 0]).astype(int)
        inside = (to_row >= 0) & (to_row < 96) & (to_column >= 0) & (to_column < 128)
        found = clip.masks[1][to_row[inside], to_column[inside]]
        shares.append((found == clip.masks[0][inside]).mean())
    assert np.mean(shares) > 0.9


def test_a_car_that_stands_still_sees_the_houses_stand_still(clips: list[Clip]):
    still = [clip for clip in [*clips, *(render_clip(seed, num_frames=2) for seed in range(8, 40))] if clip.speed == 0]
    assert still
    for clip in still:
        assert np.abs(clip.motion[0][clip.masks[0] == 1]).max(initial=0) < 1e-2  # buildings


def test_tracks_keep_their_class(clips: list[Clip]):
    for clip in clips:
        classes: dict[int, int] = {}
        for frame in clip.objects:
            for track, label in zip(frame.tracks.tolist(), frame.labels.tolist(), strict=True):
                assert classes.setdefault(track, label) == label


@pytest.mark.parametrize(
    "arguments", [{"num_frames": 0}, {"frames_per_second": 0}, {"frames_per_second": float("inf")}, {"height": 8}]
)
def test_a_clip_that_cannot_be_is_refused(arguments: dict[str, Any]):
    with pytest.raises(DataError):
        render_clip(0, **arguments)


def test_the_own_car_does_not_move_in_its_picture(clips: list[Clip]):
    seen = 0
    for clip in clips:
        bonnet = np.isclose(clip.depth, BONNET_DEPTH, atol=1e-4) & (clip.masks == VOID)
        assert (clip.motion[bonnet] == 0).all()
        seen += int(bonnet.sum())
    assert seen > 0


def test_the_road_comes_nearer_by_as_much_as_the_car_drives(clips: list[Clip]):
    compared = 0
    for clip in clips:
        rows, columns = np.nonzero((clip.masks[0] == ROAD) & (clip.depth[0] < 20))
        to_row = np.rint(rows + clip.motion[0, rows, columns, 1]).astype(int)
        to_column = np.rint(columns + clip.motion[0, rows, columns, 0]).astype(int)
        inside = (to_row >= 0) & (to_row < 96) & (to_column >= 0) & (to_column < 128)
        rows, columns, to_row, to_column = rows[inside], columns[inside], to_row[inside], to_column[inside]
        stays = clip.masks[1, to_row, to_column] == ROAD
        nearer = (clip.depth[0, rows, columns] - clip.depth[1, to_row, to_column])[stays]
        # Rounding to whole pixels is worth some decimetres of ground.
        assert abs(np.median(nearer) - clip.speed / clip.frames_per_second) < 0.15
        compared += int(stays.sum())
    assert compared > 10000


def test_an_object_keeps_its_track_where_its_motion_leads(clips: list[Clip]):
    same = total = 0
    for clip in clips:
        rows, columns = np.nonzero(clip.instances[0])
        to_row = np.rint(rows + clip.motion[0, rows, columns, 1]).astype(int)
        to_column = np.rint(columns + clip.motion[0, rows, columns, 0]).astype(int)
        inside = (to_row >= 0) & (to_row < 96) & (to_column >= 0) & (to_column < 128)
        found = clip.instances[1, to_row[inside], to_column[inside]]
        same += int((found == clip.instances[0, rows[inside], columns[inside]]).sum())
        total += int(inside.sum())
    assert total > 0
    assert same / total > 0.85
