"""Texts as vectors, from a child process: the processes of the hub never load torch.

The child (`embedding_process`) starts at the first use and takes some seconds to load its model; whoever searches
meanwhile gets an answer by words alone. When it dies it is started again, later and later as it goes on dying.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from encore.base.errors import InputError
from encore.hub.settings import HubSettings

Matrix = npt.NDArray[np.float32]
Kind = Literal["query", "document"]

QUERY_SECONDS = 2.0
"""How long a search waits for its vector."""

STUCK_SECONDS = 60.0
"""After which a child that has not answered is ended."""

LONGEST_PAUSE = 300.0
"""Seconds between two starts of a child that dies at once."""

MOST_WAITING = 16
"""Queries that wait for the child; those that come then are answered by words alone."""

KEPT_QUERIES = 1024
BATCH = 32
MAX_LETTERS = 3000
"""Of a text; models read some hundred words."""

_log = logging.getLogger(__name__)
_told: set[str] = set()


class EmbeddingError(InputError):
    """The embedding model cannot be loaded, or its process ended."""


def model_of(settings: HubSettings) -> str | None:
    """The sentence-transformers model to use; None where none is set, or where the library is absent.

    The log says so once.
    """
    if settings.embedding_model is None:
        return None
    if importlib.util.find_spec("sentence_transformers") is None:
        _tell_once(
            "no search by meaning: sentence-transformers is not installed (pip install 'encore-papers[meaning]')"
        )
        return None
    return settings.embedding_model


def _tell_once(message: str) -> None:
    if message not in _told:
        _told.add(message)
        _log.warning(message)


class Embedder:
    """A sentence-transformers model in a child process; may be used by any number of threads.

    Args:
        model: name or path, see `model_of`.
        threads: of the child's arithmetic.
        command: starts the child; null: `embedding_process` with the model.
    """

    def __init__(self, model: str, threads: int = 1, command: Sequence[str] | None = None) -> None:
        self.model = model
        self._threads = threads
        self._command = command or [sys.executable, "-m", "encore.hub.search.embedding_process", model]
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closed = False
        self._failures = 0
        self._not_before = 0.0
        self._known: OrderedDict[str, Matrix] = OrderedDict()
        self._asked: dict[str, Future[Matrix]] = {}

    def start(self) -> None:
        """Begin to load the model, so that the first search finds it there; returns at once."""
        self._current()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded."""
        child = self._child
        return child is not None and child.ready.is_set() and not child.ended.is_set()

    def query(self, text: str) -> Matrix | None:
        """The vector (D,) of a search; None if it does not come within `QUERY_SECONDS`, or the model is not loaded yet.

        One that comes too late is kept for those who ask the same again.
        """
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
            asked = self._asked.get(text)
        child = self._current()
        if child is None or not child.ready.is_set():
            return None
        if asked is None:
            if child.num_waiting >= MOST_WAITING:
                return None
            asked = child.ask("query", [text])
            with self._lock:
                self._asked[text] = asked
            asked.add_done_callback(lambda future: self._keep(text, future))
        try:
            return asked.result(QUERY_SECONDS)[0]
        except TimeoutError:
            child.end_if_stuck(STUCK_SECONDS)
        except EmbeddingError as error:
            _log.warning("%s", error)
        return None

    def encode(self, texts: Sequence[str], kind: Kind = "document", seconds: float = 300.0) -> Matrix:
        """Vectors (N, D) of length 1; waits for the model.

        Args:
            texts: N of them.
            kind: for models that treat searches and papers differently.
            seconds: for loading the model, and for each `BATCH` of texts.

        Raises:
            EmbeddingError: the model cannot be loaded, its process ended, or it took too long.
        """
        child = self._current()
        if child is None:
            raise EmbeddingError(f"the embedding model {self.model} has just failed", "see the log for its reason")
        child.wait_until_ready(seconds)
        parts = []
        for start in range(0, len(texts), BATCH):
            future = child.ask(kind, [one[:MAX_LETTERS] for one in texts[start : start + BATCH]])
            try:
                parts.append(future.result(seconds))
            except TimeoutError:
                child.end()
                raise EmbeddingError(
                    f"the embedding model {self.model} took more than {seconds:g} s for {BATCH} texts",
                    "take a smaller model, or a faster machine",
                ) from None
            self._failures = 0
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def close(self) -> None:
        """End the child; there are no vectors afterwards."""
        with self._lock:
            self._closed = True
            child, self._child = self._child, None
        if child is not None:
            child.end()

    def _current(self) -> _Child | None:
        """The child that lives, started if it may be; None if it may not yet."""
        with self._lock:
            if self._child is not None and self._child.ended.is_set():
                self._failures += 1
                pause = min(2.0 ** (self._failures - 1), LONGEST_PAUSE)
                _log.warning("embedding process: %s; next start in %.0f s", self._child.reason, pause)
                self._not_before = time.monotonic() + pause
                self._child = None
            if self._child is None and not self._closed and time.monotonic() >= self._not_before:
                self._child = _Child(self.model, self._command, self._threads)
            return self._child

    def _keep(self, text: str, future: Future[Matrix]) -> None:
        with self._lock:
            self._asked.pop(text, None)
            if future.exception() is None:
                self._failures = 0
                self._known[text] = future.result()[0]
                while len(self._known) > KEPT_QUERIES:
                    self._known.popitem(last=False)


class _Child:
    """One process, and what it has been asked and has not answered yet."""

    def __init__(self, model: str, command: Sequence[str], threads: int) -> None:
        self.ready, self.ended = threading.Event(), threading.Event()
        self.reason = "it ended"
        self._model = model
        self._waiting: dict[int, tuple[float, Future[Matrix]]] = {}
        self._lock, self._writing = threading.Lock(), threading.Lock()
        self._count = 0
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=_environment(threads),
            start_new_session=True,  # Ctrl-C is for the hub, which then ends its child
            text=True,
            encoding="utf-8",
        )
        self._reader = threading.Thread(target=self._read, name="embedding answers", daemon=True)
        self._reader.start()

    @property
    def num_waiting(self) -> int:
        """Questions without an answer."""
        return len(self._waiting)

    def wait_until_ready(self, seconds: float) -> None:
        """Wait for the model; EmbeddingError if it does not come."""
        until = time.monotonic() + seconds
        while not self.ready.wait(0.05):
            if self.ended.is_set():
                raise self._error()
            if time.monotonic() > until:
                self.end()
                raise EmbeddingError(f"the embedding model {self._model} was not loaded in {seconds:g} s", "try again")

    def ask(self, kind: Kind, texts: list[str]) -> Future[Matrix]:
        """Send texts; the future holds their vectors, or an EmbeddingError."""
        future: Future[Matrix] = Future()
        with self._lock:
            self._count += 1
            number = self._count
            self._waiting[number] = (time.monotonic(), future)
        line = json.dumps({"id": number, "kind": kind, "texts": texts})
        try:
            with self._writing:
                assert self._process.stdin is not None
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()
        except (OSError, ValueError):  # it ended, or its pipe is closed
            self._settle(number, self._error())
        if self.ended.is_set():
            self._settle(number, self._error())
        return future

    def end_if_stuck(self, seconds: float) -> None:
        """End it if its oldest question is older than `seconds`."""
        with self._lock:
            oldest = min((asked for asked, _ in self._waiting.values()), default=None)
        if oldest is not None and time.monotonic() - oldest > seconds:
            self.reason = f"no answer in {seconds:g} s"
            self._process.kill()

    def end(self) -> None:
        """End it and wait until it is gone."""
        self._process.terminate()
        try:
            self._process.wait(3)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            if "ready" in answer:
                self.ready.set()
            elif "vectors" in answer:
                self._settle(answer["id"], _matrix(answer))
            elif "id" in answer:
                self._settle(answer["id"], EmbeddingError(f"embedding model: {answer['error']}", "see the log"))
            else:
                self.reason = answer["error"]
        self._process.wait()
        self.ended.set()
        for number in list(self._waiting):
            self._settle(number, self._error())
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                _log.debug("the embedding process ended before it had read all")

    def _settle(self, number: int, outcome: Matrix | EmbeddingError) -> None:
        with self._lock:
            future = self._waiting.pop(number, (0.0, None))[1]
        if future is None:
            return
        if isinstance(outcome, EmbeddingError):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _error(self) -> EmbeddingError:
        return EmbeddingError(
            f"the embedding model {self._model} is not there: {self.reason}",
            "check the model's name (ENCORE_HUB_EMBEDDING_MODEL) and that it can be loaded, or set none",
        )


def _matrix(answer: dict[str, Any]) -> Matrix:
    numbers = np.frombuffer(base64.b64decode(answer["vectors"]), dtype="<f4")
    return numbers.reshape(-1, answer["dimensions"]).astype(np.float32)


def _environment(threads: int) -> dict[str, str]:
    """Of the child: none of the hub's secrets, no bars on its terminal, as many threads as it may have."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("ENCORE_HUB_")}
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
    return own | quiet | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
