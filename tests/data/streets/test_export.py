"""Streets as files: read back, they are what was rendered; nothing is half-written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encore.base.errors import RunFolderError
from encore.base.progress import SilentProgress
from encore.data.segmentation_folder import open_folder
from encore.data.streets import CLASSES, Streets
from encore.data.streets.export import centimetres, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "streets"
    write_folder(path, 4, height=48, width=64, seed=2, progress=SilentProgress())
    return path


def test_pictures_and_masks_are_those_of_the_data_set(folder: Path):
    written, streets = open_folder(folder)["all"], Streets(4, height=48, width=64, seed=2)
    assert written.classes == CLASSES
    for index in range(4):
        for key in ("image", "mask"):
            assert torch.equal(written[index][key], streets[index][key])


def test_depth_is_in_centimetres_with_0_in_the_sky(folder: Path):
    scene = Streets(4, height=48, width=64, seed=2).scene(1)
    stored = np.asarray(Image.open(folder / "depth" / "streets_2_00001.png"))
    assert (stored[np.isinf(scene.depth)] == 0).all()
    near = scene.depth < 600
    assert np.abs(stored[near] / 100 - scene.depth[near]).max() <= 0.0051


def test_boxes_and_captions_are_those_of_the_scenes(folder: Path):
    boxes = json.loads((folder / "boxes.json").read_text())
    captions = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    for index in range(4):
        scene = Streets(4, height=48, width=64, seed=2).scene(index)
        assert captions[index]["caption"] == scene.caption
        written = [one["bbox"] for one in boxes["annotations"] if one["image_id"] == index + 1]
        assert written == [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in scene.boxes.tolist()]


def test_an_occupied_folder_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="is not empty"):
        write_folder(tmp_path, 1, height=16, width=16, seed=0, progress=SilentProgress())
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_an_interrupted_export_leaves_nothing(tmp_path: Path):
    class Interrupted(SilentProgress):
        def update(self, *_: object) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(tmp_path / "out", 3, height=16, width=16, seed=0, progress=Interrupted())
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_even_where_one_stands_in_it(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_folder(Path(), 4, height=48, width=64, seed=2, progress=SilentProgress())
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file()):
        assert file.read_bytes() == (folder / file).read_bytes()
    assert {entry.name for entry in Path().iterdir()} == {entry.name for entry in folder.iterdir()}


def test_a_file_in_place_of_the_folder_or_above_it_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("keep")
    for path, match in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "out", "cannot write")):
        with pytest.raises(RunFolderError, match=match):
            write_folder(path, 1, height=16, width=16, seed=0, progress=SilentProgress())
    assert (tmp_path / "file").read_text() == "keep"


def test_every_scene_is_reported(tmp_path: Path):
    told = []

    class Listening(SilentProgress):
        def update(self, stage: str, step: int, total: int | None = None, *_: object) -> None:
            told.append((stage, step, total))

    write_folder(tmp_path / "out", 3, height=16, width=16, seed=0, progress=Listening())
    assert told == [("rendering", step, 3) for step in (1, 2, 3)]


def test_depth_that_16_bits_do_not_hold_is_the_largest_value():
    depth = np.array([[0.4, 655.34, 655.4, 2000.0, np.inf]], dtype=np.float32)
    assert centimetres(depth).tolist() == [[40, 65534, 65535, 65535, 0]]
