"""The hub under load: mixed reads at a steady rate beside votes and comments, with 50,000 papers.

    python -m benchmarks.hub_load [--papers 50000] [--rate 200] [--seconds 30] [--database URL] [--processes 1]

Needs `wrk` (Debian: `apt-get install wrk`), which asks for pages of all kinds, most of them never asked before; a
thread of this script signs readers in and has them vote and comment at the same time. The load generator, the
database and the web processes share this machine's cores. Papers are invented from a seed.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
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
from encore.hub.search.vectors import build
from encore.hub.settings import HubSettings, read_settings
from encore.results.environment import machine_in_words

KINDS = {
    "trending": 25,
    "paper": 25,
    "similar": 5,
    "day": 15,
    "search": 10,
    "page": 5,
    "task": 5,
    "feed": 5,
    "api": 5,
}
"""Parts of a hundred reads."""

SCRIPT = """
local kinds, total = {{KINDS}}, 100
local paths, counts, wrong = {}, {}, 0
local words = {{WORDS}}
local threads = {}

local function pick()
  local at, kind = math.random(total), nil
  for name, share in pairs(kinds) do
    at = at - share
    if at <= 0 then kind = name break end
  end
  if kind == "trending" then return "/" end
  if kind == "paper" or kind == "similar" then
    local n = math.random(0, {{PAPERS}} - 1)
    local ending = kind == "similar" and "/similar" or ""
    return string.format("/papers/23%02d.%05d%s", math.floor(n / 90000) + 1, n % 90000 + 10000, ending)
  end
  if kind == "day" then return os.date("!/day/%Y-%m-%d", {{FIRST}} + 86400 * math.random(0, 1090)) end
  if kind == "search" then return "/search?q=" .. words[math.random(#words)] .. "+" .. words[math.random(#words)] end
  if kind == "page" then return "/?page=" .. math.random(2, 50) end
  if kind == "task" then return "/?task=task-" .. math.random(0, 11) end
  if kind == "feed" then return "/trending.atom" end
  return "/api/v1/papers?page=" .. math.random(1, 50)
end

function setup(thread) table.insert(threads, thread) end
function init(args) math.randomseed(20261127); wrong_codes = "" end
function request()
  local reader = string.format("10.%d.%d.%d", math.random(0, 255), math.random(0, 255), math.random(1, 254))
  return wrk.format("GET", pick(), {["x-forwarded-for"] = reader})
end
function delay() return {{DELAY}} end
function response(status) if status ~= 200 then wrong_codes = wrong_codes .. status .. " " end end

function done(summary, latency, requests)
  local codes = ""
  for _, thread in ipairs(threads) do codes = codes .. thread:get("wrong_codes") end
  io.write(string.format(
    '{"count": %d, "p50_ms": %.1f, "p95_ms": %.1f, "p99_ms": %.1f, "seconds": %.2f, "failed": %d, "not_200": "%s"}\\n',
    summary.requests, latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000,
    summary.duration / 1e6, summary.errors.connect + summary.errors.read + summary.errors.timeout, codes))
end
"""
"""Of wrk: every connection asks for another address each time, and waits between two."""

CONNECTIONS = 40

WRITES_A_SECOND = 10

FIRST_DAY = datetime.date(2023, 11, 28)


def vocabulary() -> list[str]:
    """20,000 words, the frequent ones first."""
    rng = random.Random(1)
    parts = ["en", "de", "trans", "auto", "re", "cod", "form", "lat", "spars", "er", "ing", "al", "ity", "mask", "net"]
    return list(dict.fromkeys("".join(rng.choices(parts, k=rng.randint(2, 5))) for _ in range(26_000)))[:20_000]


def invent(database: Database, count: int) -> float:
    """Put in papers over three years; returns the seconds."""
    rng = random.Random(0)
    words = vocabulary()
    weights = [1 / (rank + 10) for rank in range(len(words))]
    cumulative = list(itertools.accumulate(weights))
    started = time.perf_counter()
    for start in range(0, count, 500):
        with database.writing() as transaction:
            for number in range(start, min(start + 500, count)):
                put(
                    transaction,
                    Entry(
                        title=" ".join(rng.choices(words, cum_weights=cumulative, k=8)).capitalize() + f" {number}",
                        source="json",
                        abstract=" ".join(rng.choices(words, cum_weights=cumulative, k=150)),
                        authors=[f"Author {rng.randrange(20_000)}" for _ in range(rng.randint(1, 8))],
                        arxiv=f"23{number // 90000 + 1:02}.{number % 90000 + 10000:05}",
                        listed_on=FIRST_DAY + datetime.timedelta(days=number * 1095 // count),
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
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "ENCORE_HUB_TRUSTED_PROXIES": "127.0.0.1"},
    )
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


def read(url: str, rate: float, seconds: int, papers: int) -> dict[str, Any]:
    """What `wrk` finds."""
    # A connection waits between two reads; that it also waits for its answer is made up for.
    delay = 1000 * CONNECTIONS / rate - 20
    fields = {
        "KINDS": "{" + ", ".join(f"{name} = {share}" for name, share in KINDS.items()) + "}",
        "WORDS": "{" + ", ".join(f'"{word}"' for word in vocabulary()[20:2000:7]) + "}",
        "PAPERS": str(papers),
        "FIRST": str(int(datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.UTC).timestamp())),
        "DELAY": f"{delay:.0f}",
    }
    script = SCRIPT
    for name, value in fields.items():
        script = script.replace("{{" + name + "}}", value)
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        words = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", file.name, url]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"reads_per_second": round(found["count"] / found["seconds"], 1)}


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--papers", type=int, default=50_000)
    parser.add_argument("--rate", type=float, default=200, help="reads a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--database", help="an empty PostgreSQL database; default SQLite")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is not installed: apt-get install wrk")
    folder = Path(tempfile.mkdtemp(prefix="hub-load-"))
    settings = read_settings(folder, database=options.database)
    database = open_database(settings.database_url)
    say(f"putting in {options.papers:,} papers")
    taken = invent(database, options.papers)
    say(f"  {taken:.1f} s, {options.papers / taken:.0f} papers a second")
    say(f"vectors of {build(database, settings):,} papers")
    keys = [f"23{number // 90000 + 1:02}.{number % 90000 + 10000:05}" for number in range(0, options.papers, 997)]
    with served(settings, options.processes) as url:
        writers = Writers(url, database, settings, keys)
        read(url, options.rate / 4, 3, options.papers)  # nothing is cold afterwards
        writers.start()
        reads = read(url, options.rate, options.seconds, options.papers)
        writers.stop.set()
        writers.join()
    content = {
        "machine": machine_in_words(),
        "database": "postgresql" if options.database else "sqlite",
        "papers": options.papers,
        "processes": options.processes,
        "import_papers_per_second": round(options.papers / taken),
        "kinds": KINDS,
        "reads": reads,
        "writes": {
            **figures([1000 * one for one in writers.seconds]),
            "codes": {str(code): count for code, count in writers.codes.items()},
        },
    }
    say(f"reads {reads}")
    say(f"writes {content['writes']}")
    name = "hub_load" if not options.database else "hub_load_postgresql"
    write_json(Path(__file__).parent / "results" / f"{name}.json", content)
    shutil.rmtree(folder)


def figures(milliseconds: list[float]) -> dict[str, Any]:
    """Count and percentiles."""
    p50, p95, p99 = np.percentile(milliseconds, [50, 95, 99]) if milliseconds else (0, 0, 0)
    return {"count": len(milliseconds)} | {
        name: round(float(value), 1) for name, value in (("p50_ms", p50), ("p95_ms", p95), ("p99_ms", p99))
    }


if __name__ == "__main__":
    main()
