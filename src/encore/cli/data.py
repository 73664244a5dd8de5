"""`encore data`: what data there is, where it is found, how it is had."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from encore.base.errors import ConfigurationError, InputError, UnknownNameError
from encore.base.runtime import parse_data_options
from encore.cli.options import (
    Data,
    Json,
    Out,
    ProgressName,
    ProgressOption,
    Seed,
    print_json,
    reporting,
    stdout,
)

app = typer.Typer(help="What data there is; get it; render the embedded set.", rich_markup_mode=None)


@app.command("list")
def list_command(data: Data = None, json: Json = False) -> None:
    """List the named data sets and where each is found."""
    from encore.data.named import find_set_path, named_sets

    roots = parse_data_options(data or (), None)
    rows = []
    for one in named_sets().values():
        found = None if one.embedded else find_set_path(one.name, roots)
        rows.append(
            {
                "name": one.name,
                "title": one.title,
                "task": one.task,
                "licence": one.licence,
                "embedded": one.embedded,
                "path": str(found) if found else None,
                "url": one.url,
            }
        )
    if json:
        print_json({"sets": rows})
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("set", "task", "licence", "where"):
        table.add_column(heading)
    for row in rows:
        where = "embedded" if row["embedded"] else row["path"] or "absent; encore data get"
        table.add_row(f"{row['name']}\n{row['title']}", str(row["task"]), str(row["licence"]), str(where))
    stdout().print(table)


@app.command("get")
def get_command(
    name: Annotated[str, typer.Argument(help="A named data set.")],
    out: Out = None,
    url: Annotated[str | None, typer.Option("--url", help="Another place to download from.")] = None,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Download a named data set from its public source; continues what was interrupted."""
    from encore.data.downloads import get_set
    from encore.data.named import named_sets

    known = named_sets()
    if name not in known:
        raise UnknownNameError("data set", name, known)
    if known[name].embedded:
        raise InputError(f"'{name}' is embedded, there is nothing to download", f"use it, or encore data make {name}")
    destination = out or Path("data") / name
    with reporting(progress) as reporter:
        path = get_set(name, destination, url=url, progress=reporter)
    stdout().print(f"{path}\nuse it with --data {name}={path}", soft_wrap=True, highlight=False)


@app.command("make")
def make_command(
    name: Annotated[str, typer.Argument(help="An embedded data set.")] = "streets",
    out: Out = None,
    num_samples: Annotated[int, typer.Option("--num-samples", min=1, help="Pictures of streets to render.")] = 200,
    size: Annotated[str, typer.Option("--size", help="Height x width, of streets.")] = "96x128",
    seed: Seed = 0,
    progress: ProgressOption = ProgressName.bars,
) -> None:
    """Write an embedded data set into a folder: images/ and masks/, a folder per class, or tables as .csv."""
    from encore.data.named import named_sets

    embedded = [one for one in named_sets() if named_sets()[one].embedded]
    if name not in embedded:
        raise UnknownNameError("embedded data set", name, embedded)
    destination = out or Path("data") / name
    if named_sets()[name].task == "tabular-classification":
        from encore.data.tabular_export import write_tables

        sizes = write_tables(named_sets()[name], destination, seed=seed)
        counts = ", ".join(f"{part} {size}" for part, size in sizes.items())
        stdout().print(f"{counts}: {destination}", soft_wrap=True, highlight=False)
        return
    if name != "streets":
        from encore.data.class_export import write_class_folders

        with reporting(progress) as reporter:
            sizes = write_class_folders(named_sets()[name], destination, seed=seed, progress=reporter)
        counts = ", ".join(f"{part} {size}" for part, size in sizes.items())
        stdout().print(f"{counts}: {destination}", soft_wrap=True, highlight=False)
        return
    try:
        height, width = (int(part) for part in size.split("x"))
    except ValueError as error:
        raise ConfigurationError(f"--size {size} is no size", "write height x width, for example 96x128") from error
    from encore.data.streets.export import write_folder

    with reporting(progress) as reporter:
        write_folder(destination, num_samples, height=height, width=width, seed=seed, progress=reporter)
    stdout().print(f"{num_samples} scenes: {destination}", soft_wrap=True, highlight=False)
