"""A hub as a user starts it, and Chromium that looks at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright


@dataclass
class Served:
    """A hub that answers.

    Attributes:
        url: where.
        folder: of its data.
        process: `encore serve`.
        seconds: from its start to its first page.
    """

    url: str
    folder: Path
    process: subprocess.Popen[str]
    seconds: float

    def mails(self, recipient: str) -> list[str]:
        """The mails that an address got, as they lie in the outbox."""
        new = (self.folder / "outbox" / "new").glob("*")
        texts = [path.read_text(encoding="utf-8") for path in sorted(new, key=lambda path: path.stat().st_mtime_ns)]
        return [text for text in texts if re.search(rf"^To: .*{re.escape(recipient)}", text, re.MULTILINE)]


@contextmanager
def serving(folder: Path, **environment: str) -> Iterator[Served]:
    """`encore serve` on a free port, ended afterwards."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "encore.cli", "serve", "--port", "0", "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=open(folder / "serve.log", "w"),  # noqa: SIM115 -- open as long as the process
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **environment},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"{line}{(folder / 'serve.log').read_text()}"
        while httpx.get(found[0], timeout=20).status_code != 200:
            time.sleep(0.05)
        yield Served(found[0], folder, process, time.monotonic() - started)
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A fresh hub with its worker."""
    with serving(tmp_path_factory.mktemp("hub")) as served:
        yield served


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium. Skips, loudly, where it is not installed (`apt-get install chromium`)."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed, so no page is clicked through here: apt-get install chromium")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()
