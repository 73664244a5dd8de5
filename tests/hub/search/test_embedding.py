"""The embedding process: what it gives, and what happens when it is slow, wrong or dead."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from encore.hub.search import embedding
from encore.hub.search.embedding import Embedder, EmbeddingError, model_of
from encore.hub.settings import HubSettings
from tests.hub.search.conftest import MINILM

STAND_IN = """
    import base64, json, os, struct, sys, time
    if sys.argv[1] == "broken":
        print(json.dumps({"error": "there is no such model"}), flush=True)
        sys.exit(1)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        text = asked["texts"][0]
        if text == "die":
            os._exit(3)
        if text.startswith("wait "):
            time.sleep(float(text.split()[1]))
        if text == "wrong":
            print(json.dumps({"id": asked["id"], "error": "this text is wrong"}), flush=True)
            continue
        numbers = [number for one in asked["texts"] for number in (len(one), 1.0 if asked["kind"] == "query" else 0.0)]
        content = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
        print(json.dumps({"id": asked["id"], "vectors": content, "dimensions": 2}), flush=True)
"""


def eventually(true: Callable[[], object], seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[Callable[..., Embedder]]:
    """Makes embedders whose child speaks as the real one does, and is slow, wrong or dead when it is told to."""
    program = tmp_path / "stand_in.py"
    program.write_text(textwrap.dedent(STAND_IN))
    made: list[Embedder] = []

    def make(model: str = "fine") -> Embedder:
        made.append(Embedder(model, command=[sys.executable, str(program), model]))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def ready(stand_in: Callable[..., Embedder]) -> Embedder:
    embedder = stand_in()
    embedder.start()
    eventually(lambda: embedder.ready)
    return embedder


def test_the_first_search_starts_the_process_and_does_not_wait_for_it(stand_in: Callable[..., Embedder]) -> None:
    embedder = stand_in()
    started = time.monotonic()
    assert embedder.query("four") is None
    assert time.monotonic() - started < 1
    eventually(lambda: embedder.query("four") is not None)


def test_searches_and_papers_are_told_apart(ready: Embedder) -> None:
    asked = ready.query("four")
    assert asked is not None
    assert asked.tolist() == [4, 1]
    assert ready.encode(["one", "seventy"] * 40).tolist() == [[3, 0], [7, 0]] * 40
    assert ready.encode([]).shape == (0, 0)


def test_many_threads_get_each_their_own_answer(ready: Embedder) -> None:
    answers: dict[int, float] = {}

    def ask(length: int) -> None:
        vector = ready.query("x" * length)
        answers[length] = -1 if vector is None else float(vector[0])

    for lengths in (range(1, 13), range(13, 25)):
        threads = [threading.Thread(target=ask, args=(length,)) for length in lengths]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert answers == {length: length for length in range(1, 25)}


def test_a_late_answer_is_kept_for_the_next_who_asks(ready: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "QUERY_SECONDS", 0.05)
    assert ready.query("wait 0.3") is None
    eventually(lambda: ready.query("wait 0.3") is not None)


def test_what_was_asked_before_needs_no_process(ready: Embedder) -> None:
    before = ready.query("four")
    ready.close()
    again = ready.query("four")
    assert before is not None
    assert again is not None
    assert before.tolist() == again.tolist()
    assert ready.query("another") is None


def test_where_too_many_wait_the_next_does_not(ready: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "QUERY_SECONDS", 0.01)
    monkeypatch.setattr(embedding, "MOST_WAITING", 2)
    assert [ready.query(text) for text in ("wait 0.4", "a", "b")] == [None, None, None]
    time.sleep(0.5)
    monkeypatch.setattr(embedding, "QUERY_SECONDS", 2.0)
    assert ready.query("a") is not None
    assert "b" not in ready._known


def test_a_process_that_dies_is_started_again(ready: Embedder) -> None:
    assert ready.query("die") is None
    eventually(lambda: ready.query("alive") is not None)


def test_a_process_that_goes_on_dying_is_started_later_and_later(stand_in: Callable[..., Embedder]) -> None:
    embedder = stand_in("broken")
    starts: list[object] = []
    until = time.monotonic() + 1.6
    while time.monotonic() < until:
        embedder.query("x")
        if embedder._child is not None and embedder._child not in starts:
            starts.append(embedder._child)
        time.sleep(0.01)
    assert len(starts) == 2


def test_a_stuck_process_is_ended(ready: Embedder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "QUERY_SECONDS", 0.05)
    monkeypatch.setattr(embedding, "STUCK_SECONDS", 0.0)
    assert ready.query("wait 60") is None
    eventually(lambda: ready.query("alive") is not None)


def test_a_model_that_cannot_be_loaded_is_named(stand_in: Callable[..., Embedder]) -> None:
    with pytest.raises(EmbeddingError, match="broken is not there: there is no such model"):
        stand_in("broken").encode(["text"])


def test_texts_that_take_too_long_are_an_error_and_not_for_ever(ready: Embedder) -> None:
    with pytest.raises(EmbeddingError, match=r"more than 0\.1 s"):
        ready.encode(["wait 60"], seconds=0.1)


def test_a_text_that_the_model_refuses_does_not_end_it(ready: Embedder) -> None:
    assert ready.query("wrong") is None
    assert ready.query("right") is not None


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(textwrap.dedent(STAND_IN))
    parent = (
        "import sys, time\n"
        "from encore.hub.search.embedding import Embedder\n"
        f"embedder = Embedder('fine', command=[sys.executable, {str(child)!r}, 'fine'])\n"
        "embedder.encode(['x'])\n"
        "print(embedder._child._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    eventually(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text())


def test_without_the_library_there_is_no_meaning_and_the_log_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = HubSettings(folder=tmp_path, secret="s" * 40, embedding_model=MINILM)
    assert model_of(settings) == MINILM
    assert model_of(settings.model_copy(update={"embedding_model": None})) is None
    monkeypatch.setattr(embedding.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(embedding, "_told", set())
    assert [model_of(settings), model_of(settings)] == [None, None]
    assert [one.message for one in caplog.records if "sentence-transformers" in one.message] == [caplog.messages[0]]


def test_a_model_of_that_library_gives_near_texts_near_vectors(minilm: Embedder) -> None:
    cat, kitten, tax = minilm.encode(["A cat sleeps.", "A kitten is sleeping.", "Income tax returns are due."])
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-3)
    assert cat @ kitten > 0.5 > cat @ tax
    assert minilm.query("cat") is not None


def test_the_process_of_the_hub_loads_no_torch() -> None:
    code = (
        "import sys\n"
        "import encore.hub.search.finding, encore.hub.search.recommendation, encore.hub.search.embedding_process\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'sentence_transformers', 'transformers')))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
