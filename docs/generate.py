"""Writes the pages that come from elsewhere: papers, commands, Python reference, the project's own documents.

Run by mkdocs (gen-files) whenever the site is built.
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
        "encore.nn.macs",
        "encore.nn.feature_pyramid",
        "encore.nn.upernet",
        "encore.nn.checkpoints",
        "encore.nn.caffe",
        "encore.nn.export",
        "encore.nn.backbones.transformers_backbone",
        "encore.nn.backbones.named",
        "encore.nn.layer_depths",
        "encore.nn.stochastic_depth",
        "encore.nn.channel_norm",
        "encore.nn.pointwise",
        "encore.nn.gaussian",
        "encore.nn.activations",
        "encore.nn.susceptibilities",
        "encore.nn.criticality",
        "encore.nn.critical_init",
        "encore.nn.critical_report",
        "encore.nn.layer_inventory",
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
    "Classification": (
        "encore.tasks.classification.task",
        "encore.tasks.classification.metrics",
        "encore.tasks.classification.mixing",
        "encore.tasks.classification.prediction",
        "encore.tasks.own_ways",
        "encore.data.classification_augmentation",
    ),
    "Masked pre-training": (
        "encore.tasks.masked_pretraining.task",
        "encore.tasks.masked_pretraining.model",
        "encore.tasks.masked_pretraining.probes",
    ),
    "Lossless compression": ("encore.tasks.lossless_compression.task",),
    "Data": (
        "encore.data.contracts",
        "encore.data.images",
        "encore.data.segmentation_folder",
        "encore.data.classification",
        "encore.data.classification_folder",
        "encore.data.classification_arrays",
        "encore.data.unlabelled",
        "encore.data.exact",
        "encore.data.augmentation",
        "encore.data.streets",
    ),
    "Training and records": (
        "encore.training.configuration",
        "encore.training.trainer",
        "encore.training.lamb",
        "encore.training.gradient_noise",
        "encore.tasks.study",
        "encore.tasks.study_recipe",
        "encore.results.parts",
        "encore.results.questions",
        "encore.results.record",
        "encore.results.verdict",
        "encore.base.cards",
        "encore.base.errors",
        "encore.base.runtime",
    ),
    "Hub": (
        "encore.hub.settings",
        "encore.hub.trending",
        "encore.hub.search.finding",
        "encore.hub.runs",
        "encore.hub.database.tables",
    ),
}
"""The modules of the reference, by page."""


BENCHMARKS = ROOT / "benchmarks" / "results"

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
        lines.append(modules_page(title.lower().replace(" ", "-"), title, modules))
    for room in sorted(path.parent for path in ROOMS.glob("*/model.py")):
        modules = [
            ".".join(("encore.papers", *path.relative_to(ROOMS).with_suffix("").parts))
            for path in sorted(room.rglob("*.py"), key=lambda path: (path.name not in READ_FIRST, path))
            if path.name != "__init__.py"
        ]
        title = f"Models of {registry.cards()[room.name].title.partition(':')[0]}"
        lines.append(modules_page(room.name, title, modules))
    return lines


def modules_page(name: str, title: str, modules: Sequence[str]) -> str:
    """The docstrings of `modules` as one page; returns its line of the navigation."""
    page = write(f"reference/{name}.md", f"# {title}\n\n" + "\n\n".join(f"::: {one}" for one in modules) + "\n")
    return f"* [{title}]({page})"


def speed() -> str:
    """What people wrote of speed, then every benchmark's figures and plots."""
    parts = [(ROOT / "docs" / "speed.md").read_text(encoding="utf-8").strip()]
    for path in sorted(BENCHMARKS.glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if path.stem.startswith("hub_"):
            continue
        title = registry.card(path.stem.removesuffix("_gpu")).title.partition(":")[0]
        parts.append(f"## {title}")
        measured_on = f"{found['created'][:10]}, {found['machine']}, {found['threads']} threads, torch "
        measured_on += str(found["versions"]["torch"])
        if "shape" not in found:
            parts += [f"{measured_on}.", *plain_tables(found)]
            continue
        parts.append(f"{measured_on}; input {'×'.join(str(side) for side in found['shape'])}.")
        if "trees" in found:
            parts.append(trees_table(found))
            continue
        if "form" in found["rows"][0]:
            parts += [forms_table(found), f"![Speed relative to the masked form](images/benchmarks/{path.stem}.png)"]
            continue
        for prefix, heading in (("", ""), ("study_", ""), ("training_", "A training step, forward and backward:")):
            if f"{prefix}rows" in found:
                reference = found[f"{prefix}reference"]
                parts += [heading] if heading else []
                parts.append(speed_table(found[f"{prefix}rows"], reference, found.get("peak_megabytes", {})))
                plot = found.get(f"{prefix}plot", reference)
                parts.append(f"![Speed relative to {reference}](images/benchmarks/{plot}.png)")
    parts += hub_tables()
    return write("speed.md", "\n\n".join(parts) + "\n")


HEADING = ("created", "machine", "device", "threads", "versions")
"""What every benchmark's file says of itself."""


def plain_tables(found: dict[str, Any]) -> list[str]:
    """Whatever a benchmark wrote, a table for each entry; of repeated timings the median."""
    parts, single = [], {}
    for name, value in found.items():
        if name in HEADING:
            continue
        rows = value if isinstance(value, list) else _rows_of(value) if isinstance(value, dict) else None
        if rows is None:
            single[name] = value
            continue
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines = ["| " + " | ".join(map(_words, columns)) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(_shown(row.get(key)) for key in columns) + " |" for row in rows]
        parts += [f"{_words(name.removesuffix('_rows')).capitalize()}:", "\n".join(lines)]
    said = "; ".join(f"{_words(name)} {_shown(value)}" for name, value in single.items())
    return [*([f"{said}."] if said else []), *parts]


def _rows_of(value: dict[str, Any]) -> list[dict[str, Any]]:
    """A mapping as rows of a table."""
    if all(isinstance(one, dict) for one in value.values()):
        return [{"": name, **one} for name, one in value.items()]
    return [value]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        value = statistics.median(value)
    return f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value)


def hub_tables() -> list[str]:
    """The hub under load, and its search."""
    loads, searches = (
        {
            "PostgreSQL" if "postgresql" in path.stem else "SQLite": json.loads(path.read_text(encoding="utf-8"))
            for path in sorted(BENCHMARKS.glob(f"hub_{kind}*.json"))
        }
        for kind in ("load", "search")
    )
    parts = ["## Daily Papers"]
    lines = [
        "| database | web processes | reads a second | reads, ms | votes and comments, ms |",
        "|---|---|---|---|---|",
    ]
    for database, one in loads.items():
        reads, writes = one["reads"], one["writes"]
        lines.append(
            f"| {database} | {one['processes']} | {reads['reads_per_second']} | {percentiles(reads)} | "
            f"{percentiles(writes)} |"
        )
    if loads:
        first = next(iter(loads.values()))
        papers = f"{first['papers']:,} papers on {first['machine']}"
        parts.append(
            f"Mixed reads at a steady rate, most of pages that nobody has asked for before, beside votes and comments; "
            f"{papers}, which the load generator and the database share. Percentiles 50, 95 and 99."
        )
        parts.append("\n".join(lines))
    if searches:
        questions = list(dict.fromkeys(name for one in searches.values() for name in one["questions"]))
        lines = [f"| search | {' | '.join(f'{one}, ms' for one in searches)} |", "|---" * (len(searches) + 1) + "|"]
        for name in questions:
            cells = [
                percentiles(one["questions"][name]) if name in one["questions"] else "–" for one in searches.values()
            ]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return parts


def percentiles(found: dict[str, Any]) -> str:
    """`5.4 / 68.5 / 179`: those that were kept."""
    return " / ".join(f"{found[name]:.3g}" for name in ("p50_ms", "p95_ms", "p99_ms") if name in found)


def speed_table(rows: list[dict[str, Any]], reference: str, peaks: dict[str, float]) -> str:
    """Images per second, and speed relative to the reference, by network and mode."""
    shown = [row for row in rows if row["channels_last"]]
    kinds = list(dict.fromkeys((row["compiled"], row["dtype"]) for row in shown))
    heads = [f"{'compiled' if compiled else 'eager'}, {dtype}" for compiled, dtype in kinds]
    heads += ["peak memory, MB"] if peaks else []
    lines = ["| network | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in dict.fromkeys(row["network"] for row in shown):
        cells = []
        for kind in kinds:
            row = next(one for one in shown if one["network"] == name and (one["compiled"], one["dtype"]) == kind)
            ratio = row["speed_relative_to_" + reference]
            cells.append(f"{row['images_per_second']:.3g} images/s ({ratio:.2f} ×)")
        marked = f"**{name}**" if name == reference else name
        cells += [f"{peaks[name]:.0f}"] if peaks else []
        lines.append(f"| {marked} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + f"\n\nChannels last; in parentheses the speed relative to {reference} in the same mode."


def forms_table(found: dict[str, Any]) -> str:
    """Milliseconds of every form of SparK's encoder and training step, and the peak of memory."""
    reference = found["reference"]
    forms = list(dict.fromkeys(row["form"] for row in found["rows"]))
    lines = ["| network, layout, what | " + " | ".join(forms) + " |", "|---" * (len(forms) + 1) + "|"]
    for key in dict.fromkeys((row["network"], row["channels_last"], row["what"]) for row in found["rows"]):
        cells = []
        for form in forms:
            rows = [
                row
                for row in found["rows"]
                if (row["network"], row["channels_last"], row["what"], row["form"]) == (*key, form)
            ]
            ratios = [f"{row['speed_relative_to_' + reference]:.2f} ×" for row in rows]
            cells.append(ratios[0] if ratios else "–")
        layout = "channels last" if key[1] else "contiguous"
        lines.append(f"| {key[0]}, {layout}, {key[2]} | " + " | ".join(cells) + " |")
    lines += ["", f"Speed of forward and backward relative to the {reference} form, {found['shape'][0]} pictures.", ""]
    lines += ["| peak memory, MB | " + " | ".join(forms) + " |", "|---" * (len(forms) + 1) + "|"]
    for pair in dict.fromkeys((row["network"], row["what"]) for row in found["peak_megabytes"]):
        peaks = {
            row["form"]: row["megabytes"] for row in found["peak_megabytes"] if (row["network"], row["what"]) == pair
        }
        cells = [f"{peaks[form]:.0f}" if form in peaks else "–" for form in forms]
        lines.append(f"| {pair[0]}, {pair[1]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def trees_table(found: dict[str, Any]) -> str:
    """Learning and coding with circuits of several sizes, and the share of the machine's limits that they reach."""
    measures = {
        "parameters": "parameters",
        "pass_seconds": "EM pass over 60,000 pictures, s",
        "bandwidth_share": "… share of memory bandwidth",
        "arithmetic_share": "… share of arithmetic",
        "compress_megabytes_per_second": "compress, MB/s",
        "decompress_megabytes_per_second": "decompress, MB/s",
        "parameter_bytes_per_symbol": "… parameter bytes a symbol",
        "coding_bandwidth_share": "… share of memory bandwidth",
        "coding_arithmetic_share": "… share of arithmetic",
    }
    trees = found["trees"]
    lines = ["| hidden states | " + " | ".join(str(tree["num_states"]) for tree in trees) + " |"]
    lines.append("|---" * (len(trees) + 1) + "|")
    for key, words in measures.items():
        unit = " %" if key.endswith("share") else ""
        values = [100 * tree[key] if unit else tree[key] for tree in trees]
        cells = [(f"{one:,.0f}" if one > 99 or unit else f"{one:.3g}") + unit for one in values]
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| side of the picture | walk, µs a pixel | paths, µs a pixel | a pass for each pixel, µs |",
        "|---|---|---|---|",
    ]
    for row in found["growth"]:
        cells = [f"{row[key]:.3g}" for key in ("walk_microseconds", "paths_microseconds", "passes_microseconds")]
        lines.append(f"| {row['side']} | " + " | ".join(cells) + " |")
    limits = found["limits"]
    lines += [
        "",
        f"Limits measured in the same run: {limits['gigabytes_per_second']} GB/s of memory, "
        f"{limits['gigaflops_float32']:.0f} and {limits['gigaflops_float64']:.0f} GFLOP/s in float32 and float64. "
        f"The tree was found in {found['structure_seconds']} s from 10,000 pictures.",
    ]
    return "\n".join(lines)


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
        "* [Many pictures, few labels](few-labels.md)",
        "* [On a network of your own](your-networks.md)",
        "* [Critical from the start](critical-initialisation.md)",
        "* [On your own data](your-data.md)",
        "* [Daily Papers](daily-papers.md)",
        f"* [How fast, how much memory]({speed()})",
    ],
    "Papers": papers(),
    "Reference": [f"* [Command line]({commands()})", f"* [Python]({functions()})", *blocks()],
    "Project": documents(),
}
write(
    "SUMMARY.md",
    "\n".join(f"* {title}\n" + "\n".join(f"    {line}" for line in lines) for title, lines in sections.items()) + "\n",
)
