"""A scene is a function of its seed; everything that is known of it fits together."""

from __future__ import annotations

import re
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from encore.base.errors import DataError
from encore.data.contracts import VOID
from encore.data.streets import CLASSES, COUNTABLE, Scene, Streets, render_scene, streets_splits
from encore.data.streets.classes import SKY
from encore.data.streets.scene import SMALLEST_SHARE

NUM_SCENES = 40


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed) for seed in range(NUM_SCENES)]


def equal(one: Scene, other: Scene) -> bool:
    return (
        np.array_equal(one.image, other.image)
        and np.array_equal(one.mask, other.mask)
        and np.array_equal(one.depth, other.depth)
        and np.array_equal(one.boxes, other.boxes)
        and one.caption == other.caption
    )


def test_the_same_seed_gives_the_same_scene_in_any_order_and_process(scenes: list[Scene]):
    with ProcessPoolExecutor(1) as pool:
        elsewhere = list(pool.map(render_scene, [7, 3]))
    assert equal(elsewhere[0], scenes[7])
    assert equal(elsewhere[1], scenes[3])
    assert equal(render_scene(3), scenes[3])


def test_different_seeds_give_different_scenes(scenes: list[Scene]):
    assert len({scene.image.tobytes() for scene in scenes}) == NUM_SCENES


def test_shapes_types_and_ranges_are_as_promised(scenes: list[Scene]):
    for scene in scenes:
        assert scene.image.shape == (96, 128, 3)
        assert scene.image.dtype == np.uint8
        assert scene.mask.shape == scene.depth.shape == scene.instances.shape == (96, 128)
        assert scene.mask.dtype == np.uint8
        assert ((scene.mask < len(CLASSES)) | (scene.mask == VOID)).all()
        assert scene.depth.dtype == np.float32
        assert (scene.depth > 0).all()


def test_every_class_occurs_and_so_does_every_light(scenes: list[Scene]):
    assert set(range(len(CLASSES))) <= set(np.unique(np.stack([scene.mask for scene in scenes])).tolist())
    assert {scene.condition for scene in scenes} == {"day", "overcast", "dusk", "fog"}


def test_depth_is_infinite_exactly_in_the_sky(scenes: list[Scene]):
    for scene in scenes:
        assert np.array_equal(np.isinf(scene.depth), scene.mask == SKY)


def test_boxes_fit_tightly_around_their_instances_and_have_their_class(scenes: list[Scene]):
    count = 0
    for scene in scenes:
        tracks = scene.objects.tracks
        assert sorted(set(np.unique(scene.instances)) - {0}) == sorted(tracks.tolist())
        for box, label, track in zip(scene.boxes, scene.labels, tracks, strict=True):
            rows, columns = np.nonzero(scene.instances == track)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert (scene.mask[rows, columns] == label).all()
            assert label in COUNTABLE
            count += 1
    assert count > NUM_SCENES


def test_captions_count_what_the_boxes_show(scenes: list[Scene]):
    numbers = {"a": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
    nouns = {"car": "car", "pedestrian": "pedestrian", "bicyclist": "cyclist"}
    for scene in scenes:
        for name, noun in nouns.items():
            said = re.search(rf"(\w+) {noun}s?\b", scene.caption.lower())
            counted = int((scene.labels == CLASSES.index(name)).sum())
            assert (said is not None) == (counted > 0), scene.caption
            if said is not None and said[1] in numbers:
                assert numbers[said[1]] == counted, scene.caption


def test_a_scene_looks_alike_at_another_resolution():
    small, large = render_scene(5, 48, 64), render_scene(5, 96, 128)
    assert (small.mask == large.mask[::2, ::2]).mean() > 0.9


@pytest.mark.parametrize(("height", "width"), [(15, 64), (64, 15), (0, 0), (-3, 64)])
def test_pictures_that_are_too_small_are_refused(height: int, width: int):
    with pytest.raises(DataError, match="at least 16"):
        render_scene(0, height, width)


def test_a_classifier_that_sees_the_colour_of_a_pixel_alone_scores_poorly(scenes: list[Scene]):
    def pixels(some: list[Scene]) -> tuple[np.ndarray, np.ndarray]:
        colours = np.concatenate([scene.image[::3, ::3].reshape(-1, 3) for scene in some])
        classes = np.concatenate([scene.mask[::3, ::3].ravel() for scene in some])
        return colours[classes != VOID], classes[classes != VOID]

    train, test = pixels(scenes[:28]), pixels(scenes[28:])
    predicted = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(*train).predict(test[0])
    ious = []
    for label in range(len(CLASSES)):
        either = (predicted == label) | (test[1] == label)
        ious.append(((predicted == label) & (test[1] == label)).sum() / max(either.sum(), 1))
    assert np.mean(ious) < 0.25


def test_the_data_set_yields_samples_of_the_contract():
    streets = Streets(5, height=24, width=32, seed=3)
    sample = streets[2]
    assert tuple(sample["image"].shape) == (3, 24, 32)
    assert tuple(sample["mask"].shape) == (24, 32)
    assert sample["name"] == "streets_3_00002"
    assert streets[-1]["name"] == "streets_3_00004"
    with pytest.raises(IndexError):
        streets[5]
    with pytest.raises(DataError, match="is empty"):
        Streets(0)


def test_parts_and_seeds_share_no_picture():
    names = []
    for seed in (0, 1):
        splits = streets_splits(height=16, width=16, train=3, val=3, test=3, seed=seed)
        names += [
            part[i]["image"].numpy().tobytes() for part in (splits.train, splits.val, splits.test) for i in range(3)
        ]
    assert len(set(names)) == len(names)


def test_objects_of_a_few_pixels_are_void(scenes: list[Scene], monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as patch:
        patch.setattr("encore.data.streets.scene.SMALLEST_SHARE", 0.0)
        complete = [render_scene(seed) for seed in range(NUM_SCENES)]
    dropped = 0
    for scene, whole in zip(scenes, complete, strict=True):
        assert np.isin(scene.mask, COUNTABLE).sum() == (scene.instances > 0).sum()
        for track, count in zip(*np.unique(whole.instances[whole.instances > 0], return_counts=True), strict=True):
            small = count < SMALLEST_SHARE * scene.mask.size
            assert (track in scene.objects.tracks) == (not small)
            if small:
                assert (scene.mask[whole.instances == track] == VOID).all()
                dropped += 1
    assert dropped > 0


def test_numbers_of_numpy_are_as_good_as_those_of_python():
    streets = Streets(3, height=16, width=16, seed=2**40)
    assert np.array_equal(streets[np.int64(1)]["image"], streets[1]["image"])
    assert equal(render_scene(np.int64(3), 16, 16), render_scene(3, 16, 16))
