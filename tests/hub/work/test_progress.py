"""Reading what a run says: nothing lost or doubled, repetition thinned, anything that is no JSON kept as words."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import encore
from encore.hub.work import progress
from encore.hub.work.progress import Position, ProgressLog, error_line


class Written:
    """A log that a test writes line by line, and the events read so far."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "run"
        self.output.mkdir()
        self.path = folder / "progress.jsonl"
        self.path.touch()
        self.log = ProgressLog(folder, self.output)
        self.position = Position()
        self.events: list[tuple[str, dict]] = []

    def say(self, *events: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in events)

    def read(self, *, ended: bool = False) -> list[tuple[str, dict]]:
        self.position, events = self.log.read(self.position, len(self.events), ended=ended)
        self.events += events
        return events

    def finish(self) -> None:
        before = None
        while before != self.position:
            before = self.position
            self.read(ended=True)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """See `Written`."""
    return Written(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    moment = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: moment[0])
    return moment


def _step(step: int, stage: str = "training", total: int | None = 100) -> dict[str, object]:
    return {"stage": stage, "step": step, "total": total, "metrics": {}}


def test_each_kind_of_line_becomes_its_event(written: Written) -> None:
    (written.output / "b").mkdir()
    written.say(
        {"stage": "training", "step": 3, "total": 3, "metrics": {"loss": 0.5, "bad": float("nan"), "text": "x"}},
        {"message": f"run folder: {written.output}"},
        {"stage": "training", "picture": f"{written.output}/b/one.png"},
        "UserWarning: \x1b[33mslow\x1b[0m",
        "  1%|#|\r 50%|##|\r100%|###|",
        {"unknown": 1},
        "[1, 2]",
        "",
    )
    assert written.read() == [
        ("progress", {"stage": "training", "step": 3, "total": 3, "metrics": {"loss": 0.5, "bad": None}}),
        ("message", {"text": "run folder: run"}),
        ("picture", {"stage": "training", "name": "b~one.png"}),
        ("message", {"text": "UserWarning: slow"}),
        ("message", {"text": "100%|###|"}),
        ("message", {"text": '{"unknown": 1}'}),
        ("message", {"text": "[1, 2]"}),
    ]


def test_folders_of_this_machine_are_not_told(written: Written, tmp_path: Path) -> None:
    package, packages = Path(encore.__file__).parent, sysconfig.get_paths()["purelib"]
    written.say(
        f'  File "{package}/models/cka.py", line 7, in forward',
        f'  File "{packages}/torch/nn/modules.py", line 9',
        {"message": f"reading {Path.home()}/.cache/encore/voc ({Path.home()})"},
        f"wrote {tmp_path}/progress.jsonl beside {written.output}/result.json",
        f"{Path.home()}less and x{written.output} are others",
    )
    texts = [body["text"] for _, body in written.read()]
    assert texts == [
        'File "encore/models/cka.py", line 7, in forward',
        'File "site-packages/torch/nn/modules.py", line 9',
        "reading ~/.cache/encore/voc (~)",
        "wrote ./progress.jsonl beside run/result.json",
        f"{Path.home()}less and x{written.output} are others",
    ]


@pytest.mark.parametrize("path", ["/etc/passwd", "../outside.png", "one.jpg", "a b.png", "/nowhere/one.png"])
def test_a_picture_outside_the_folder_of_the_run_is_refused(written: Written, path: str) -> None:
    written.say({"stage": "training", "picture": path})
    assert written.read() == []


def test_progress_is_thinned_to_two_a_second_and_the_last_of_a_stage_is_kept(
    written: Written, clock: list[float]
) -> None:
    for step in range(1, 101):
        clock[0] += 0.05
        written.say(_step(step))
        written.read()
    steps = [body["step"] for _, body in written.events]
    assert 9 <= len(steps) <= 13
    assert steps[-1] == 100
    assert steps == sorted(set(steps))


def test_what_was_held_back_comes_later_or_when_the_run_has_ended(written: Written, clock: list[float]) -> None:
    written.say(_step(1, total=None), _step(2, total=None))
    assert [body["step"] for _, body in written.read()] == [2]
    written.say(_step(3, total=None))
    assert written.read() == []
    clock[0] += 1
    assert [body["step"] for _, body in written.read()] == [3]
    written.say(_step(4, total=None))
    written.finish()
    assert written.events[-1][1]["step"] == 4


def test_another_reader_goes_on_where_one_left_with_what_was_held_back(written: Written, clock: list[float]) -> None:
    written.say(_step(1), _step(1, "evaluation"))
    written.read()
    written.say(_step(2), {"message": "one"})
    written.read()
    content = json.loads(json.dumps({"offset": written.position.offset, "pending": written.position.pending}))
    written.log = ProgressLog(written.path.parent, written.output)
    written.position = Position(content["offset"], content["pending"])
    written.say({"message": "two"})
    written.finish()
    assert [body["text"] for kind, body in written.events if kind == "message"] == ["one", "two"]
    assert [body["step"] for kind, body in written.events if kind == "progress"] == [1, 1, 2]


def test_half_a_line_waits_for_its_end(written: Written) -> None:
    with written.path.open("a") as file:
        file.write('{"message": "ha')
        file.flush()
        assert written.read() == []
        file.write('lf"}\n')
    assert written.read() == [("message", {"text": "half"})]


def test_the_last_line_of_a_run_needs_no_end(written: Written) -> None:
    written.path.write_text('{"message": "one"}\nkilled in the mid')
    written.finish()
    assert [body["text"] for _, body in written.events] == ["one", "killed in the mid"]


def test_a_line_without_end_is_cut(written: Written) -> None:
    written.path.write_bytes(b"x" * (progress.CHUNK + 10))
    written.finish()
    assert written.position.offset == progress.CHUNK + 10
    assert all(len(body["text"]) <= 2000 for _, body in written.events)


def test_a_talkative_run_leaves_no_more_events_than_are_allowed(written: Written) -> None:
    written.say(*({"message": str(number)} for number in range(6000)), _step(100))
    written.finish()
    assert len(written.events) == progress.LIMITS["message"]


def test_the_longer_a_run_the_rarer_its_progress(written: Written, clock: list[float]) -> None:
    written.say(*({"message": str(number)} for number in range(1000)), _step(1))
    written.read()
    clock[0] += 1.5
    written.say(_step(2))
    assert written.read() == []
    clock[0] += 1.0
    assert [body["step"] for _, body in written.read()] == [2]


TEXT = st.text(max_size=80).map(lambda text: text.encode("utf-8", "replace"))


@given(lines=st.lists(st.one_of(st.binary(max_size=80), TEXT)))
def test_whatever_is_written_is_read_to_its_end_and_fits_into_a_database(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    written = Written(tmp_path_factory.mktemp("log"))
    written.path.write_bytes(b"\n".join(lines))
    written.finish()
    assert written.position.offset == written.path.stat().st_size
    json.dumps(written.events, ensure_ascii=False, allow_nan=False).encode()


def test_the_reason_is_the_last_line_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    assert error_line(path) is None
    path.write_text('a warning\nencore: no room: free some\n{"message": "x"}\n\n')
    assert error_line(path) == "no room: free some"
