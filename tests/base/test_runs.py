"""A run's folder: refused when occupied, continued when asked, never shared, never half-written."""

import json
import os
from pathlib import Path

import pytest

from encore.base.errors import RunFolderError
from encore.base.files import replacing, write_json
from encore.base.runs import RunFolder

REQUEST = {"verb": "run", "paper": "segnet", "seeds": [0, 1]}


def test_a_fresh_folder_records_what_was_asked(tmp_path: Path):
    with RunFolder(tmp_path / "a" / "b", REQUEST) as folder:
        assert json.loads((folder.path / "request.json").read_text()) == REQUEST
        assert not folder.resumed


def test_a_non_empty_folder_is_refused_without_resume(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="is not empty"):
        RunFolder(tmp_path, REQUEST)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.txt"]


def test_resume_takes_up_finished_steps(tmp_path: Path):
    with RunFolder(tmp_path, REQUEST) as folder:
        folder.finish("arms/one/seed0/arm", {"iou": 3.5})
    with RunFolder(tmp_path, REQUEST, resume=True) as folder:
        assert folder.resumed
        assert folder.finished("arms/one/seed0/arm") == {"iou": 3.5}
        assert folder.finished("arms/one/seed1/arm") is None


def test_resume_with_another_request_names_what_changed(tmp_path: Path):
    RunFolder(tmp_path, REQUEST).release()
    with pytest.raises(RunFolderError, match="other values of: seeds"):
        RunFolder(tmp_path, {**REQUEST, "seeds": [0]}, resume=True)


def test_resume_of_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(RunFolderError, match="it is no run"):
        RunFolder(tmp_path, REQUEST, resume=True)


def test_resume_of_an_absent_folder_starts_it(tmp_path: Path):
    with RunFolder(tmp_path / "new", REQUEST, resume=True) as folder:
        assert not folder.resumed


def test_a_request_that_is_refused_before_it_did_anything_leaves_no_folder(tmp_path: Path):
    with pytest.raises(ValueError), RunFolder(tmp_path / "run", REQUEST) as folder:  # noqa: PT012
        folder.subfolder("arms", "one")
        raise ValueError
    assert not (tmp_path / "run").exists()


def test_what_was_done_before_an_error_is_kept(tmp_path: Path):
    with pytest.raises(ValueError), RunFolder(tmp_path / "run", REQUEST) as folder:  # noqa: PT012
        folder.finish("one", 1)
        raise ValueError
    assert {entry.name for entry in (tmp_path / "run").iterdir()} == {"one.json", "elapsed.json", "request.json"}


def test_two_processes_cannot_share_a_folder(tmp_path: Path):
    with RunFolder(tmp_path, REQUEST), pytest.raises(RunFolderError, match="in use"):
        RunFolder(tmp_path, REQUEST, resume=True)


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="is a file"):
        RunFolder(tmp_path / "file", REQUEST)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_named(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunFolderError, match="cannot write"):
        RunFolder(tmp_path / "run", REQUEST)


def test_a_place_below_a_file_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match="cannot write"):
        RunFolder(tmp_path / "file" / "run", REQUEST)


def test_an_error_while_writing_leaves_the_earlier_file_and_no_rest(tmp_path: Path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError), replacing(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ValueError
    assert json.loads(path.read_text()) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_a_resumed_run_knows_how_long_it_was_worked_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = iter([100.0, 160.0, 500.0, 530.0, 900.0])
    monkeypatch.setattr("encore.base.runs.time.monotonic", lambda: next(clock))
    with RunFolder(tmp_path / "run", {}) as folder:
        folder.finish("first", {})
    with RunFolder(tmp_path / "run", {}, resume=True) as folder:
        assert folder.seconds_before == 60.0
        folder.finish("second", {})
    with RunFolder(tmp_path / "run", {}, resume=True) as folder:
        assert folder.seconds_before == 90.0
