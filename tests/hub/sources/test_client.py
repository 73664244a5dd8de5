"""The way out: nobody but the sources is asked, and they are asked politely."""

from __future__ import annotations

import datetime

import pytest

from encore.hub.settings import HubSettings
from encore.hub.sources.client import Outside, Patience, SourceError, UnreadableError
from tests.hub.sources.stand_in import StandIn, StandInPaper

DAY = {"date": "2026-11-20"}


def text(content: bytes) -> str:
    return content.decode()


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:1/api/query",
        "http://127.0.0.1:1/api/query",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "http://127.0.0.1@evil.example/api/query",
        "http://[::1]/",
        "//evil.example/",
        "/etc/passwd",
    ],
)
def test_a_host_that_is_not_a_source_is_never_asked(outside: Outside, there: StandIn, url: str) -> None:
    with pytest.raises(SourceError, match="is not a source"):
        outside.get(url, {}, text)
    assert there.requests == []


def test_a_redirect_to_another_host_is_not_followed(outside: Outside, there: StandIn) -> None:
    there.fail("elsewhere")
    with pytest.raises(SourceError, match="localhost is not a source"):
        outside.get(f"{there.url}/api/daily_papers", DAY, text)


def test_another_port_of_a_source_is_not_asked(outside: Outside) -> None:
    encrypted = Outside(HubSettings(folder=outside.settings.folder, secret="s" * 40))
    with pytest.raises(SourceError, match=r"http://export\.arxiv\.org is not a source"):
        encrypted.get("http://export.arxiv.org:8080/api/query", {}, text)
    encrypted.close()


@pytest.mark.parametrize("fault", ["unavailable", "broken", "too_many", "hang_up", "slow"])
def test_what_passes_is_tried_again(outside: Outside, there: StandIn, fault: str) -> None:
    there.fail(fault, 2, seconds=0.7 if fault == "slow" else 0)  # type: ignore[arg-type]
    assert outside.get(f"{there.url}/api/daily_papers", DAY, text) == "[]"
    assert len(there.requests) == 3


@pytest.mark.parametrize(
    ("fault", "said"),
    [("broken", "answers 500"), ("hang_up", "cannot be reached"), ("unavailable", "answers 503")],
)
def test_what_does_not_pass_is_one_line(outside: Outside, there: StandIn, fault: str, said: str) -> None:
    there.fail(fault, 9)  # type: ignore[arg-type]
    with pytest.raises(SourceError, match=said) as caught:
        outside.get(f"{there.url}/api/daily_papers", DAY, text)
    assert "\n" not in str(caught.value)
    assert len(there.requests) == 3


def test_a_source_that_asks_to_wait_is_waited_for(outside: Outside, there: StandIn) -> None:
    there.fail("unavailable", seconds=1)
    outside.get(f"{there.url}/api/daily_papers", DAY, text)
    assert there.times[1] - there.times[0] >= 1


def test_a_source_that_asks_to_wait_too_long_is_left(outside: Outside, there: StandIn) -> None:
    there.fail("too_many", seconds=600)
    with pytest.raises(SourceError, match=r"answers 429: try again in (600|599|598) seconds"):
        outside.get(f"{there.url}/api/daily_papers", DAY, text)
    assert len(there.requests) == 1


def test_what_is_not_found_is_not_asked_for_again(outside: Outside, there: StandIn) -> None:
    with pytest.raises(SourceError, match="answers 404") as caught:
        outside.get(f"{there.url}/elsewhere", {}, text)
    assert caught.value.status == 404
    assert len(there.requests) == 1


def test_an_answer_without_an_end_is_refused(outside: Outside, there: StandIn) -> None:
    there.fail("large")
    with pytest.raises(SourceError, match="more than 10 MB"):
        outside.get(f"{there.url}/api/daily_papers", DAY, text)


def test_what_cannot_be_read_is_asked_for_again(outside: Outside, there: StandIn) -> None:
    answers = iter(["no", "no", "yes"])

    def read(_: bytes) -> str:
        answer = next(answers)
        if answer == "no":
            raise UnreadableError("says no")
        return answer

    assert outside.get(f"{there.url}/api/daily_papers", DAY, read) == "yes"


def test_a_server_that_is_not_there_is_named(tmp_path: object) -> None:
    settings = HubSettings(folder=tmp_path, secret="s" * 40, huggingface_url="http://127.0.0.1:9")  # type: ignore[arg-type]
    with (
        Outside(settings, Patience(tries=1)) as outside,
        pytest.raises(SourceError, match=r"127\.0\.0\.1: cannot be reached"),
    ):
        outside.get("http://127.0.0.1:9/api/daily_papers", DAY, text)


def test_requests_to_arxiv_keep_their_distance(there: StandIn, outside: Outside) -> None:
    there.papers = [StandInPaper("2611.00001")]
    slow = outside.settings.model_copy(update={"arxiv_seconds": 0.2})
    for _ in range(3):
        with Outside(slow) as another:
            another.get(there.arxiv_url, {"id_list": "2611.00001"}, text)
    gaps = [after - before for before, after in zip(there.times, there.times[1:], strict=False)]
    assert min(gaps) >= 0.19


def test_requests_name_encore(outside: Outside, there: StandIn) -> None:
    outside.get(f"{there.url}/api/daily_papers", DAY, text)
    assert there.agents[0].startswith("Encore/")


def test_a_date_is_a_time_to_wait_too(outside: Outside, there: StandIn) -> None:
    there.fail("too_many", seconds=-5)
    before = datetime.datetime.now(datetime.UTC)
    outside.get(f"{there.url}/api/daily_papers", DAY, text)
    assert datetime.datetime.now(datetime.UTC) - before < datetime.timedelta(seconds=1)
