"""Progress goes to standard error: bars, JSON lines or nothing."""

import io
import json
from pathlib import Path

from encore.base.progress import BarProgress, JsonProgress, SilentProgress, make_progress


def test_json_lines_carry_stage_step_total_metrics_messages_and_pictures():
    stream = io.StringIO()
    progress = JsonProgress(stream, seconds_between=0)
    progress.update("training", 1, 2, {"loss": 0.5})
    progress.message("half done")
    progress.picture("training", Path("a.png"))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert events == [
        {"stage": "training", "step": 1, "total": 2, "metrics": {"loss": 0.5}},
        {"message": "half done"},
        {"stage": "training", "picture": "a.png"},
    ]


def test_json_lines_are_thinned_but_never_the_last_of_a_stage():
    stream = io.StringIO()
    progress = JsonProgress(stream, seconds_between=3600)
    for step in range(1, 101):
        progress.update("training", step, 100)
    assert [json.loads(line)["step"] for line in stream.getvalue().splitlines()] == [1, 100]


def test_bars_without_a_terminal_print_one_line_a_stage():
    stream = io.StringIO()
    progress = BarProgress(stream)
    for step in range(1, 6):
        progress.update("testing", step, 5, {"iou": 41.25})
    progress.close()
    assert stream.getvalue() == "testing: 5/5  iou 41.25\n"


def test_styles_by_name():
    assert isinstance(make_progress("bars"), BarProgress)
    assert isinstance(make_progress("json"), JsonProgress)
    assert isinstance(make_progress("none"), SilentProgress)
