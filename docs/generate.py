"""Writes the pages that come from elsewhere: papers, commands, Python reference, the project's own documents.

Run by mkdocs (gen-files) whenever the site is built.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import mkdocs_gen_files

import encore
from encore.base import registry
from encore.results.locations import published_records
from encore.results.pages import paper_page, papers_index
from encore.results.record import RESULT, ResultRecord, read_record

ROOT = Path(__file__).parents[1]
ROOMS = ROOT / "src" / "encore" / "papers"
IMAGES = ROOT / "docs" / "images"

BLOCKS = {
    "Layers and tools": (
        "encore.nn.pooling",
        "encore.nn.batch_norm",
        "encore.nn.monte_carlo",
        "encore.nn.memory",
        "encore.nn.timing",
        "encore.nn.model",
        "encore.nn.checkpoints",
        "encore.nn.caffe",
        "encore.nn.export",
    ),
    "Segmentation": (
        "encore.tasks.segmentation.task",
        "encore.tasks.segmentation.losses",
        "encore.tasks.segmentation.balancing",
        "encore.tasks.segmentation.metrics",
        "encore.tasks.segmentation.boundary",
        "encore.tasks.segmentation.uncertainty",
        "encore.tasks.segmentation.prediction",
    ),
    "Data": (
        "encore.data.contracts",
        "encore.data.images",
        "encore.data.segmentation_folder",
        "encore.data.augmentation",
        "encore.data.streets",
    ),
    "Training and records": (
        "encore.training.configuration",
        "encore.training.trainer",
        "encore.tasks.study",
        "encore.tasks.study_recipe",
        "encore.results.record",
        "encore.results.verdict",
        "encore.base.cards",
        "encore.base.errors",
        "encore.base.runtime",
    ),
}
"""The modules of the reference, by page."""


READ_FIRST = ("model.py", "variants.py")
"""The modules that a room's page begins with."""


def write(page: str, text: str) -> str:
    """Write a page of the site; returns its name."""
    with mkdocs_gen_files.open(page, "w") as file:
        file.write(text)
    return page


def record_of(slug: str) -> ResultRecord | None:
    """The published measurement of a paper."""
    path = published_records() / slug / RESULT
    return read_record(path) if path.is_file() else None


def pictures_of(slug: str, record: ResultRecord | None) -> list[tuple[str, str]]:
    """Those of the record's pictures that are committed, with their captions."""
    shown = record.pictures if record is not None else []
    return [
        (f"../images/{slug}/{picture.path}", picture.caption)
        for picture in shown
        if (IMAGES / slug / picture.path).is_file()
    ]


def papers() -> list[str]:
    """A page per paper; returns lines of the navigation."""
    cards = list(registry.cards().values())
    write("papers/index.md", papers_index(cards))
    lines = ["* [All papers](papers/index.md)"]
    for card in cards:
        record, own = record_of(card.slug), ROOMS / card.slug / "page.md"
        text = own.read_text(encoding="utf-8") if own.is_file() else ""
        page = paper_page(card, record, text=text, pictures=pictures_of(card.slug, record))
        write(f"papers/{card.slug}.md", page)
        if card.state == "performed":
            lines.append(f"* [{card.title.partition(':')[0]}](papers/{card.slug}.md)")
    return lines


def commands() -> str:
    """The command line, as its own help describes it."""
    words = [sys.executable, "-m", "typer", "encore.cli.app", "utils", "docs", "--name", "encore"]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    text = text.replace("# `encore`", "# The command line", 1)
    return write("reference/commands.md", text)


def functions() -> str:
    """What `encore` offers in Python."""
    elsewhere = {module for modules in BLOCKS.values() for module in modules}
    entries = [f"::: {home}.{name}" for name, home in sorted(encore._HOME.items()) if home not in elsewhere]
    return write("reference/python.md", "# `import encore`\n\n" + "\n\n".join(entries) + "\n")


def blocks() -> list[str]:
    """The modules; returns lines of the navigation."""
    lines = []
    for title, modules in BLOCKS.items():
        page = write(
            f"reference/{title.lower().replace(' ', '-')}.md",
            f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n",
        )
        lines.append(f"* [{title}]({page})")
    for room in sorted(path.parent for path in ROOMS.glob("*/model.py")):
        modules = [
            ".".join(("encore.papers", *path.relative_to(ROOMS).with_suffix("").parts))
            for path in sorted(room.rglob("*.py"), key=lambda path: (path.name not in READ_FIRST, path))
            if path.name != "__init__.py"
        ]
        title = f"Models of {registry.cards()[room.name].title.partition(':')[0]}"
        page = write(
            f"reference/{room.name}.md",
            f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n",
        )
        lines.append(f"* [{title}]({page})")
    return lines


def documents() -> list[str]:
    """ARCHITECTURE and its neighbours, linked among each other; returns lines of the navigation."""
    lines = []
    for name in ("ARCHITECTURE", "CONTRIBUTING", "CHANGELOG"):
        text = (ROOT / f"{name}.md").read_text(encoding="utf-8")
        title = re.match(r"# (.+)", text)
        assert title is not None
        page = write(f"project/{name.lower()}.md", text)
        lines.append(f"* [{title.group(1)}]({page})")
    return lines


sections = {
    "Start": [
        "* [Encore](index.md)",
        "* [Quick start](quickstart.md)",
        "* [On your own data](your-data.md)",
        "* [How fast, how much memory](speed.md)",
    ],
    "Papers": papers(),
    "Reference": [f"* [Command line]({commands()})", f"* [Python]({functions()})", *blocks()],
    "Project": documents(),
}
write(
    "SUMMARY.md",
    "\n".join(f"* {title}\n" + "\n".join(f"    {line}" for line in lines) for title, lines in sections.items()) + "\n",
)
