"""The hub's search over many papers: milliseconds of each kind of question, and what vectors cost to make and to hold.

    python -m benchmarks.hub_search [--papers 50000] [--questions 200] [--model NAME] [--database URL]

Papers are invented: words of a made-up language, drawn as often as words of English are (Zipf's law, 1.1), 150 to an
abstract. Vectors of words alone are the real ones; those of the embedding model are random for the papers (making
50,000 would take a quarter of an hour; a sample is timed) and real for the questions. Without `--database` an SQLite
file in a temporary folder is used; a database that is named must be empty.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sqlalchemy import insert, select, text

from benchmarks.harness import say, write_results
from encore.hub.database import Database, Paper, PaperTask, SourceState, Vector, open_database
from encore.hub.papers import Filters
from encore.hub.search import vectors
from encore.hub.search.embedding import Embedder
from encore.hub.search.finding import Finder
from encore.hub.search.vectors import build, digest_of, read_vectors, text_of
from encore.hub.settings import HubSettings

DIMENSIONS = 384
SYLLABLES = [a + b for a in "bdfgklmnprstv" for b in ("a", "e", "i", "o", "u", "an", "or")]
TASKS = ["segmentation", "translation", "detection", "compression", "forecasting"]


class Language:
    """A made-up one, of 40,000 words; nobody asks for its hundred commonest, as nobody does for `the` and `of`."""

    def __init__(self, chance: np.random.Generator, size: int = 40_000, *, of_questions: bool = False) -> None:
        lengths = chance.integers(2, 5, size)
        self.words = np.array(["".join(chance.choice(SYLLABLES, length)) for length in lengths])
        often = 1 / np.arange(1, size + 1) ** 1.1
        often[: 100 * of_questions] = 0
        self._until = np.cumsum(often / often.sum())
        self._chance = chance

    def text(self, length: int) -> str:
        """Words as they come."""
        places = np.searchsorted(self._until, self._chance.random(length))
        return " ".join(self.words[np.minimum(places, len(self.words) - 1)])


def invented(count: int) -> Iterator[dict[str, Any]]:
    """Rows of papers."""
    chance = np.random.default_rng(0)
    language = Language(chance)
    for number in range(1, count + 1):
        day = datetime.date(2026, 11, 1) - datetime.timedelta(days=int(chance.integers(0, 2000)))
        yield {
            "id": number, "key": f"p{number}", "title": language.text(9).capitalize(), "abstract": language.text(150),
            "authors": [language.text(2).title() for _ in range(4)], "tasks": [TASKS[number % len(TASKS)]],
            "listed_on": day, "year": day.year, "source": "json", "trend": float(chance.random()),
        }  # fmt: skip


def fill(database: Database, count: int) -> None:
    """Put invented papers into an empty database."""
    rows = list(invented(count))
    for start in range(0, count, 5000):
        some = rows[start : start + 5000]
        with database.writing() as transaction:
            transaction.execute(insert(Paper), some)
            transaction.execute(insert(PaperTask), [{"task": one["tasks"][0], "paper_id": one["id"]} for one in some])
    if not database.is_sqlite:
        with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
            connection.execute(text("ANALYZE"))


def give_random_vectors(database: Database, model: str) -> None:
    """As an embedding model would have made them."""
    chance = np.random.default_rng(1)
    with database.reading() as transaction:
        papers = transaction.execute(select(Paper.id, Paper.title, Paper.abstract, Paper.tasks)).all()
    matrix = chance.normal(size=(len(papers), DIMENSIONS)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    texts = [(one.id, text_of(one.title, one.abstract, one.tasks)) for one in papers]
    rows = [
        {"paper_id": paper_id, "model": model, "digest": digest_of(content), "content": vector.tobytes()}
        for (paper_id, content), vector in zip(texts, matrix.astype("<f2"), strict=True)
    ]
    with database.writing() as transaction:
        transaction.execute(text("DELETE FROM vectors"))
        transaction.execute(insert(Vector), rows)
        transaction.get_one(SourceState, vectors.STATE).content = {"version": 1000, "model": model}


def milliseconds(ask: Callable[[Any], object], questions: list[Any]) -> dict[str, float]:
    """Half of the questions, and 95 of 100, are answered within these."""
    for one in questions[:3]:
        ask(one)
    times = []
    for one in questions:
        started = time.perf_counter()
        ask(one)
        times.append(1000 * (time.perf_counter() - started))
    return {
        "p50_ms": round(statistics.median(times), 2),
        "p95_ms": round(statistics.quantiles(times, n=20)[18], 2),
    }


def building(database: Database, settings: HubSettings) -> dict[str, float]:
    """Vectors of the words alone, all of them; then those of ten new papers."""
    started = time.perf_counter()
    build(database, settings)
    all_seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    with database.writing() as transaction:
        transaction.execute(text("UPDATE papers SET abstract = 'of new words' WHERE id <= 10"))
    started = time.perf_counter()
    build(database, settings)
    return {
        "lsa_seconds": round(all_seconds, 1),
        "lsa_ten_more_seconds": round(time.perf_counter() - started, 1),
        "process_peak_megabytes": round(peak),
    }


def asking(finder: Finder, num_papers: int, count: int) -> dict[str, Any]:
    """Each kind of question."""
    chance = np.random.default_rng(2)
    language = Language(np.random.default_rng(0), of_questions=True)
    written = [language.text(int(chance.integers(1, 4))) for _ in range(count)]
    ids = chance.integers(1, num_papers, count).tolist()
    filters = Filters(task=TASKS[0], year=2025)
    embedder = finder.embedder
    figures: dict[str, Any] = {}
    figures["similar"] = milliseconds(lambda one: finder.similar(one), ids)
    figures["similar, asked before"] = milliseconds(lambda one: finder.similar(one), ids)
    finder.embedder = None
    figures["words"] = milliseconds(lambda one: finder.find(one), written)
    figures["words, filtered"] = milliseconds(lambda one: finder.find(one, filters), written)
    figures["words, none has all"] = milliseconds(lambda one: finder.find(one + " zyzzyva of"), written)
    figures["no words: what trends"] = milliseconds(lambda one: finder.find("", offset=one % 300), ids)
    finder.embedder = embedder
    if embedder is not None:
        embedder.encode(["warm"])
        asked = [f"{one} {language.text(2)}" for one in written]
        figures["words and meaning"] = milliseconds(lambda one: finder.find(one), asked)
        figures["words and meaning, asked before"] = milliseconds(lambda one: finder.find(one), asked)
        figures["words and meaning, filtered"] = milliseconds(lambda one: finder.find(one, filters), asked)
        meant = [f"the {one}" for one in written]
        figures["vector of a question"] = milliseconds(lambda one: embedder.query(one), meant)
    for name, figure in figures.items():
        say(f"  {name:34} {figure['p50_ms']:8.1f} ms, 95 % within {figure['p95_ms']:8.1f} ms")
    return figures


def measured(database: Database, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in one database."""
    settings = HubSettings(folder=folder, secret="s" * 40)
    started = time.perf_counter()
    fill(database, options.papers)
    say(f"{options.papers} papers after {time.perf_counter() - started:.0f} s")
    content: dict[str, Any] = building(database, settings)
    if options.model:
        with closing(Embedder(options.model, threads=1)) as embedder:
            embedder.encode(["warm"])
            with database.reading() as transaction:
                sample = list(transaction.scalars(select(Paper.abstract).limit(128)))
            started = time.perf_counter()
            embedder.encode(sample)
            content["embedded_papers_per_second"] = round(len(sample) / (time.perf_counter() - started), 1)
        give_random_vectors(database, options.model)
    started = time.perf_counter()
    held = read_vectors(database)
    content["index_seconds"] = round(time.perf_counter() - started, 2)
    content["index_megabytes"] = round(held.matrix.nbytes / 1e6)
    del held
    say(str(content))
    with closing(Finder(database, settings.model_copy(update={"embedding_model": options.model}))) as finder:
        finder.index.refresh()
        return content | {"questions": asking(finder, options.papers, options.questions)}


def main() -> None:
    """See this module's head."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--papers", type=int, default=50_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--model", help="a sentence-transformers model; without it by words alone")
    parser.add_argument("--database", help="an empty one; without it an SQLite file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = HubSettings(folder=Path(folder), secret="s" * 40, database=options.database).database_url
        with closing(open_database(url)) as database:
            content = measured(database, Path(folder), options)
            name = "hub_search" if database.is_sqlite else "hub_search_postgresql"
    path = write_results(name, {"papers": options.papers, **content}, torch.device("cpu"))
    say(f"written: {path}")


if __name__ == "__main__":
    main()
