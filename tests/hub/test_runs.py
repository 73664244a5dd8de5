"""Asking for runs: what is refused, limits that hold, the queue, and files that stay inside their folder."""

from __future__ import annotations

import datetime
import threading
from pathlib import Path

import pytest

from encore.base.errors import InputError, UnknownNameError
from encore.hub import runs
from encore.hub.database import Database, Run, User
from encore.hub.settings import HubSettings


@pytest.fixture
def reader(database: Database) -> int:
    """The id of somebody who has signed in."""
    with database.writing() as transaction:
        user = User(email="a@example.org", name="a")
        transaction.add(user)
        transaction.flush()
        return user.id


def test_a_run_that_is_asked_for_waits_and_says_so(database: Database, settings: HubSettings, reader: int) -> None:
    first = runs.ask(database, settings, reader, "segnet", "smoke")
    second = runs.ask(database, settings, reader, "hornet", "laptop")
    with database.reading() as transaction:
        assert [runs.position_in_queue(transaction, one) for one in (first, second)] == [0, 1]
        assert [event.body for event in runs.events_after(transaction, first.id, 0)] == [{"state": "queued"}]
        assert [one.id for one in runs.newest(transaction)] == [second.id, first.id]
        assert [one.id for one in runs.of_paper(transaction, "segnet")] == [first.id]
        assert runs.latest(transaction, "segnet") is None


def test_unknown_papers_and_scales_are_refused(database: Database, settings: HubSettings, reader: int) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'segnet'"):
        runs.ask(database, settings, reader, "segnett", "smoke")
    with pytest.raises(UnknownNameError, match="unknown scale 'paper'"):
        runs.ask(database, settings, reader, "segnet", "paper")


def test_a_paper_that_is_planned_is_refused(
    database: Database, settings: HubSettings, reader: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = runs.registry.card("segnet").model_copy(update={"verbs": ()})
    monkeypatch.setattr(runs.registry, "card", lambda slug: planned)
    with pytest.raises(InputError, match="planned, not performed"):
        runs.ask(database, settings, reader, "segnet", "smoke")


def test_a_reader_may_have_three_runs_waiting_even_when_asking_at_once(
    database: Database, settings: HubSettings, reader: int
) -> None:
    outcomes: list[bool] = []

    def ask() -> None:
        try:
            runs.ask(database, settings, reader, "segnet", "smoke")
            outcomes.append(True)
        except runs.RunLimitError:
            outcomes.append(False)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(outcomes) == [False] * 5 + [True] * 3


def test_runs_of_a_day_are_counted_whatever_became_of_them(
    database: Database, settings: HubSettings, reader: int
) -> None:
    settings = settings.model_copy(update={"runs_per_day": 2})
    for _ in range(2):
        runs.cancel(database, runs.ask(database, settings, reader, "segnet", "smoke").id)
    with pytest.raises(runs.RunLimitError, match="within 24 hours"):
        runs.ask(database, settings, reader, "segnet", "smoke")
    with database.writing() as transaction:
        for run in runs.newest(transaction):
            run.created -= datetime.timedelta(days=1)
    assert runs.ask(database, settings, reader, "segnet", "smoke").state == "queued"


def test_a_run_that_waits_is_cancelled_at_once_and_one_that_has_ended_stays_as_it_is(
    database: Database, settings: HubSettings, reader: int
) -> None:
    run = runs.ask(database, settings, reader, "segnet", "smoke")
    for _ in range(2):
        cancelled = runs.cancel(database, run.id)
        assert cancelled is not None
        assert cancelled.state == "cancelled"
    with database.reading() as transaction:
        events = runs.events_after(transaction, run.id, 0)
    assert [event.body["state"] for event in events] == ["queued", "cancelled"]
    assert runs.cancel(database, 12345) is None


def test_events_are_numbered_and_told_from_where_one_left(
    database: Database, settings: HubSettings, reader: int
) -> None:
    run = runs.ask(database, settings, reader, "segnet", "smoke")
    with database.writing() as transaction:
        assert runs.append_events(transaction, run.id, [("message", {"text": str(n)}) for n in range(5)]) == 6
    with database.reading() as transaction:
        assert [event.seq for event in runs.events_after(transaction, run.id, 2, limit=3)] == [3, 4, 5]


def test_the_latest_run_is_the_last_that_was_done(database: Database, settings: HubSettings, reader: int) -> None:
    moment = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    with database.writing() as transaction:
        for day, (state, scale) in enumerate([("done", "laptop"), ("done", "smoke"), ("failed", "laptop")]):
            finished = moment + datetime.timedelta(days=day)
            transaction.add(Run(slug="segnet", scale=scale, state=state, finished=finished, error=str(day)))
    with database.reading() as transaction:
        latest, of_laptop = runs.latest(transaction, "segnet"), runs.latest(transaction, "segnet", "laptop")
    assert latest is not None
    assert of_laptop is not None
    assert (latest.error, of_laptop.error) == ("1", "0")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
class TestFiles:
    def test_pictures_are_found_by_the_name_that_events_give_them(self, settings: HubSettings) -> None:
        output = runs.output_of(settings, 7)
        (output / "b").mkdir(parents=True)
        for path in (output / "a.png", output / "b" / "c_01.png"):
            path.write_bytes(b"png")
            name = runs.picture_name(output, path)
            assert name is not None
            assert runs.picture_path(settings, 7, name) == path
        assert runs.picture_path(settings, 7, "b/c_01.png") == output / "b" / "c_01.png"

    @pytest.mark.parametrize(
        "name",
        ["../secret.key", "..~..~secret.png", "/etc/passwd", "~.png", "a.jpg", "config.json", "", "b", "none.png",
         "a.png\0", "link.png", ".lock.png", "b~~a.png"],
    )  # fmt: skip
    def test_other_names_find_nothing(self, settings: HubSettings, name: str, tmp_path: Path) -> None:
        output = runs.output_of(settings, 7)
        output.mkdir(parents=True)
        for path in (output / "a.jpg", output / "config.json", output / ".lock.png", tmp_path / "secret.png"):
            path.write_bytes(b"here")
        (output / "link.png").symlink_to(tmp_path / "secret.png")
        assert runs.picture_path(settings, 7, name) is None

    def test_the_report_is_found_once_it_is_there(self, settings: HubSettings) -> None:
        assert runs.report_path(settings, 7) is None
        path = runs.output_of(settings, 7) / "report.html"
        path.parent.mkdir(parents=True)
        path.write_text("<html>")
        assert runs.report_path(settings, 7) == path


def test_results_and_reports_are_called_what_encore_calls_them() -> None:
    from encore.results import record, report

    assert (record.RESULT, report.REPORT) == (runs.RESULT, runs.REPORT)
