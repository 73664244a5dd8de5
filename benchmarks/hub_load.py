"""The hub under load: mixed reads at a steady rate beside votes and comments, with 50,000 papers.

    python -m benchmarks.hub_load [--papers 50000] [--rate 200] [--seconds 30] [--database URL] [--processes 1]

Needs `hey` (Debian: `apt-get install hey`), which asks each address at its share of the rate and writes down every
answer's time; a thread of this script signs readers in and has them vote and comment at the same time. The load
generator, the database and the web process share this machine's cores. Papers are invented from a seed.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.harness import say
from encore.base.files import write_json
from encore.hub import accounts
from encore.hub.database import Database, open_database
from encore.hub.papers import Entry, put
from encore.hub.settings import HubSettings, read_settings
from encore.results.environment import machine_in_words

SHARES = {
    "/": 0.25,
    "/papers/1511.00561": 0.15,
    "/papers/{key}": 0.15,
    "/day/{day}": 0.15,
    "/search?q=encoder+{word}": 0.1,
    "/?page=7": 0.05,
    "/?task=task-3": 0.05,
    "/trending.atom": 0.05,
    "/api/v1/papers?page=3": 0.05,
}
"""Of the rate."""

WRITES_A_SECOND = 10


def invent(database: Database, count: int) -> float:
    """Put in papers over three years; returns the seconds."""
    rng = random.Random(0)
    beginnings, middles = ("en", "de", "trans", "auto", "re"), ("cod", "form", "lat", "spars")
    words = [a + b + c for a in beginnings for b in middles for c in ("er", "ing", "ed", "al", "ity")]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    first = datetime.date(2023, 11, 28)
    started = time.perf_counter()
    for start in range(0, count, 500):
        with database.writing() as transaction:
            for number in range(start, min(start + 500, count)):
                text = rng.choices(words, weights, k=150)
                put(
                    transaction,
                    Entry(
                        title=" ".join(rng.choices(words, k=8)).capitalize() + f" {number}",
                        source="json",
                        abstract=" ".join(text),
                        authors=[f"Author {rng.randrange(20_000)}" for _ in range(rng.randint(1, 8))],
                        arxiv=f"{first.year % 100}{number // 90000 + 1:02}.{number % 90000 + 10000:05}",
                        listed_on=first + datetime.timedelta(days=number * 1095 // count),
                        tasks=[f"task-{rng.randrange(12)}"],
                        outside_votes=int(rng.expovariate(0.1)),
                    ),
                )
    return time.perf_counter() - started


@contextmanager
def served(settings: HubSettings, processes: int) -> Iterator[str]:
    """`encore serve` without a worker; yields its address."""
    words = [
        sys.executable,
        "-m",
        "encore.cli",
        "serve",
        "--port",
        "0",
        "--no-worker",
        "--folder",
        str(settings.folder),
    ]
    words += ["--database", settings.database_url, "--processes", str(processes)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                httpx.get(found[0] + "/healthz").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.2)
        yield found[0]
    finally:
        process.terminate()
        process.wait(30)


class Writers(threading.Thread):
    """Readers who vote and comment until `stop` is set."""

    def __init__(self, url: str, database: Database, settings: HubSettings, keys: list[str]) -> None:
        super().__init__()
        self.url, self.keys, self.stop = url, keys, threading.Event()
        self.codes: Counter[int] = Counter()
        self.seconds: list[float] = []
        self.browsers = [self._signed_in(database, settings, number) for number in range(5)]

    def _signed_in(self, database: Database, settings: HubSettings, number: int) -> tuple[httpx.Client, str]:
        browser = httpx.Client(base_url=self.url)
        path = accounts.make_link(database, settings, f"reader{number}@example.org").removeprefix(settings.base_url)
        browser.post(path, data={"form_token": _token(browser.get(path).text)})
        return browser, _token(browser.get("/me").text)

    def run(self) -> None:
        number = 0
        while not self.stop.wait(1 / WRITES_A_SECOND):
            browser, token = self.browsers[number % len(self.browsers)]
            key = self.keys[number % len(self.keys)]
            form = {"form_token": token, "wanted": "1", "body": f"Comment {number}"}
            started = time.perf_counter()
            # comments are limited to ten a minute for each reader, so that most writes are votes
            what = "comments" if number % 10 == 0 else "vote"
            self.codes[browser.post(f"/papers/{key}/{what}", data=form).status_code] += 1
            self.seconds.append(time.perf_counter() - started)
            number += 1


def _token(page: str) -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', page)
    assert found
    return found[1]


def ask(url: str, rate: float, seconds: int) -> tuple[list[float], Counter[int]]:
    """Answers' milliseconds and codes, from `hey`."""
    callers = 4
    words = ["hey", "-z", f"{seconds}s", "-c", str(callers), "-q", f"{rate / callers:.3f}", "-o", "csv", url]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    return [1000 * float(row["response-time"]) for row in rows], Counter(int(row["status-code"]) for row in rows)


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=200, help="reads a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--database", help="an empty PostgreSQL database; default SQLite")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("hey") is None:
        parser.error("hey is not installed: apt-get install hey")
    folder = Path(tempfile.mkdtemp(prefix="hub-load-"))
    settings = read_settings(folder, database=options.database)
    database = open_database(settings.database_url)
    say(f"putting in {options.papers:,} papers")
    taken = invent(database, options.papers)
    say(f"  {taken:.1f} s, {options.papers / taken:.0f} papers a second")
    keys = [f"23{number // 90000 + 1:02}.{number % 90000 + 10000:05}" for number in range(0, options.papers, 997)]
    with served(settings, options.processes) as url:
        writers = Writers(url, database, settings, keys)
        addresses = {path: url + path.format(key=keys[3], day="2025-06-03", word="transcoder") for path in SHARES}
        for address in addresses.values():
            httpx.get(address, timeout=60).raise_for_status()
        writers.start()
        found: dict[str, tuple[list[float], Counter[int]]] = {}

        def one(path: str) -> None:
            found[path] = ask(addresses[path], options.rate * SHARES[path], options.seconds)

        threads = [threading.Thread(target=one, args=(path,)) for path in SHARES]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        writers.stop.set()
        writers.join()
    rows: list[dict[str, Any]] = []
    every: list[float] = []
    for path in SHARES:
        times, codes = found[path]
        every += times
        rows.append({"address": path, **figures(times), "codes": {str(code): number for code, number in codes.items()}})
        say(f"{path:28} " + "  ".join(f"{key} {value}" for key, value in rows[-1].items() if key != "address"))
    content = {
        "machine": machine_in_words(),
        "database": "postgresql" if options.database else "sqlite",
        "papers": options.papers,
        "processes": options.processes,
        "import_papers_per_second": round(options.papers / taken),
        "reads_per_second": round(len(every) / options.seconds, 1),
        "all": figures(every),
        "reads": rows,
        "writes": {
            **figures([1000 * one for one in writers.seconds]),
            "codes": {str(k): v for k, v in writers.codes.items()},
        },
    }
    say(f"all reads: {content['reads_per_second']} a second  {content['all']}; writes {content['writes']}")
    name = "hub_load" if not options.database else "hub_load_postgresql"
    write_json(Path(__file__).parent / "results" / f"{name}.json", content)
    shutil.rmtree(folder)


def figures(milliseconds: list[float]) -> dict[str, Any]:
    """Count and percentiles."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]) if milliseconds else (0, 0, 0)
    return {"count": len(milliseconds), "p50_ms": round(p50, 1), "p95_ms": round(p95, 1), "p99_ms": round(p99, 1)}


if __name__ == "__main__":
    main()
