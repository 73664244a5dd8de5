"""`encore serve` and `encore hub …`: Daily Papers."""

from __future__ import annotations

import datetime
import importlib.util
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from encore.base.errors import InputError
from encore.cli.options import Json, ProgressName, ProgressOption, print_json, reporting, stdout

if TYPE_CHECKING:
    from encore.hub.settings import HubSettings

app = typer.Typer(name="hub", help="Daily Papers: imports, mail, workers, backups.", no_args_is_help=True)

Folder = Annotated[Path | None, typer.Option("--folder", help="Holds database, key, outbox and runs.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="sqlite:///PATH or postgresql://USER:PASSWORD@HOST/NAME."),
]
BaseUrl = Annotated[str | None, typer.Option("--base-url", metavar="URL", help="How readers reach the hub.")]
MailUrl = Annotated[
    str | None, typer.Option("--mail", metavar="URL", help="smtp://…, smtps://…, smtp+starttls://… or outbox:")
]
Model = Annotated[
    str | None, typer.Option("--embedding-model", help="A sentence-transformers model, for search by meaning.")
]


def require_hub() -> None:
    """Refuse where Encore was installed without its hub.

    Raises:
        InputError: with the way to get it.
    """
    for module in ("fastapi", "sqlalchemy", "alembic", "uvicorn", "apscheduler"):
        if importlib.util.find_spec(module) is None:
            raise InputError(f"the hub needs {module}", "install it with: pip install 'encore-papers[hub]'")


def settings_of(folder: Path | None, **given: Any) -> HubSettings:
    """The hub's settings from options and environment.

    Raises:
        InputError: Encore was installed without its hub, or a setting does not fit.
    """
    require_hub()
    from encore.hub.settings import read_settings

    return read_settings(folder, **given)


def serve_command(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    database: DatabaseUrl = None,
    folder: Folder = None,
    base_url: BaseUrl = None,
    mail: MailUrl = None,
    embedding_model: Model = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="Web processes.")] = 1,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Keep a worker beside the web processes.")
    ] = True,
) -> None:
    """Show Daily Papers in the browser."""
    require_hub()
    from encore.cli.serving import address_of, listening, serve
    from encore.hub.settings import PREFIX

    with closing(listening(host, port)) as socket:
        if base_url is None and not os.environ.get(PREFIX + "BASE_URL"):
            base_url = address_of(host, socket.getsockname()[1])
        settings = settings_of(
            folder, database=database, base_url=base_url, mail_url=mail, embedding_model=embedding_model
        )
        serve(settings, socket, processes=processes, with_worker=worker)


@app.command("import")
def import_command(
    source: Annotated[
        str, typer.Argument(help="arxiv, huggingface, cards, or a file or folder (BibTeX, RIS, CSV, JSON).")
    ],
    argument: Annotated[
        str | None, typer.Argument(help="arxiv: categories, as cs.CV,cs.LG. huggingface: a day, as 2026-11-27.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many papers.")] = None,
    database: DatabaseUrl = None,
    folder: Folder = None,
    json: Json = False,
    progress: ProgressOption = ProgressName.bars,
) -> int:
    """Bring papers in; doing so twice changes nothing."""
    settings = settings_of(folder, database=database)
    from encore.hub.database import open_database
    from encore.hub.sources.importing import import_papers

    kind, given = (source, argument) if source in {"arxiv", "huggingface", "cards"} else ("auto", source)
    with closing(open_database(settings.database_url)) as opened, reporting(progress) as reporter:
        report = import_papers(opened, settings, kind, given, progress=reporter, limit=limit)
    nothing = report.seen == 0 and bool(report.refused)
    if json:
        print_json(
            {
                "source": report.source,
                "seen": report.seen,
                "new": report.new,
                "changed": report.changed,
                "refused": list(report.refused),
            }
        )
        return 2 if nothing else 0
    console = stdout()
    for one in report.refused:
        console.print(f"refused: {one}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"{report.source}: {report.seen} seen, {report.new} new, {report.changed} changed, "
        f"{len(report.refused)} refused",
        highlight=False,
    )
    return 2 if nothing else 0


@app.command("digest")
def digest_command(
    day: Annotated[str | None, typer.Option("--day", help="As 2026-11-27; default today.")] = None,
    send: Annotated[bool, typer.Option("--send/--queue", help="Send now, or leave that to a worker.")] = True,
    database: DatabaseUrl = None,
    folder: Folder = None,
    base_url: BaseUrl = None,
    mail: MailUrl = None,
    json: Json = False,
) -> None:
    """Queue the digests that are due, and send what waits."""
    try:
        today = datetime.date.fromisoformat(day) if day else datetime.datetime.now(datetime.UTC).date()
    except ValueError:
        raise InputError(f"'{day}' is no day", "write it as 2026-11-27") from None
    settings = settings_of(folder, database=database, base_url=base_url, mail_url=mail)
    from encore.hub.address import with_kept_address
    from encore.hub.database import open_database
    from encore.hub.digest import queue_digests
    from encore.hub.mail.sending import send_waiting
    from encore.hub.search.finding import Finder
    from encore.hub.work.presence import present

    with closing(open_database(settings.database_url)) as opened, closing(Finder(opened, settings)) as finder:
        settings = with_kept_address(opened, settings, given=base_url)
        queued = queue_digests(opened, settings, today, find=finder.among_days)
        sent = None
        if send:
            with present(opened) as name:
                sent = send_waiting(opened, settings, name, limit=100_000)
    answer = {"queued": queued.__dict__, "sent": sent.__dict__ if sent is not None else None}
    if json:
        print_json(answer)
    else:
        for name, counts in answer.items():
            if counts is not None:
                words = ", ".join(f"{key} {value}" for key, value in counts.items() if value != "")
                stdout().print(f"{name}: {words}", highlight=False)


@app.command("worker")
def worker_command(
    database: DatabaseUrl = None,
    folder: Folder = None,
    base_url: BaseUrl = None,
    mail: MailUrl = None,
    embedding_model: Model = None,
) -> int:
    """Perform runs, fetch what is submitted, send mail; as many as you like, on one database."""
    settings = settings_of(folder, database=database, base_url=base_url, mail_url=mail, embedding_model=embedding_model)
    from encore.hub.address import with_kept_address
    from encore.hub.database import open_database
    from encore.hub.work import run_worker

    with closing(open_database(settings.database_url)) as opened:
        settings = with_kept_address(opened, settings, given=base_url)
    return run_worker(settings)


@app.command("backup")
def backup_command(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to be written.")],
    database: DatabaseUrl = None,
    folder: Folder = None,
) -> None:
    """Copy the database while it is in use."""
    settings = settings_of(folder, database=database)
    from encore.hub.backup import back_up
    from encore.hub.database import open_database

    with closing(open_database(settings.database_url)) as opened:
        size = back_up(opened, out)
    stdout().print(f"{out}: {size:,} bytes", highlight=False, soft_wrap=True)


@app.command("sign-in")
def sign_in_command(
    email: Annotated[str, typer.Argument(help="Who signs in.")],
    database: DatabaseUrl = None,
    folder: Folder = None,
    base_url: BaseUrl = None,
) -> None:
    """Print a link that signs in, for where no mail is sent."""
    settings = settings_of(folder, database=database, base_url=base_url)
    from encore.hub.accounts import make_link
    from encore.hub.address import with_kept_address
    from encore.hub.database import open_database
    from encore.hub.subscriptions import checked_address

    with closing(open_database(settings.database_url)) as opened:
        settings = with_kept_address(opened, settings, given=base_url)
        link = make_link(opened, settings, checked_address(email))
    typer.echo(link)


@app.command("mails")
def mails_command(
    sent: Annotated[list[int] | None, typer.Option("--sent", help="This uncertain mail did arrive.")] = None,
    again: Annotated[list[int] | None, typer.Option("--again", help="This one did not: send it again.")] = None,
    database: DatabaseUrl = None,
    folder: Folder = None,
    json: Json = False,
) -> None:
    """List mails of which a kill left uncertain whether they were sent, and settle them."""
    settings = settings_of(folder, database=database)
    from encore.hub.database import open_database
    from encore.hub.mail import sending

    with closing(open_database(settings.database_url)) as opened:
        for numbers, arrived in ((sent, True), (again, False)):
            for number in numbers or ():
                sending.settle(opened, number, arrived)
        left = sending.uncertain(opened)
    rows = [
        {"id": one.id, "kind": one.kind, "recipient": one.recipient, "subject": one.subject, "error": one.error}
        for one in left
    ]
    if json:
        print_json({"uncertain": rows})
        return
    for row in rows:
        stdout().print(
            f"{row['id']}  {row['kind']}  {row['recipient']}  {row['subject']}", highlight=False, markup=False
        )
    stdout().print(f"{len(rows)} uncertain", highlight=False)


@app.command("moderate")
def moderate_command(
    delete_comment: Annotated[
        list[int] | None, typer.Option("--delete-comment", help="Its number; repeatable.")
    ] = None,
    ban: Annotated[list[str] | None, typer.Option("--ban", help="A reader's mail address; repeatable.")] = None,
    unban: Annotated[list[str] | None, typer.Option("--unban", help="A reader's mail address; repeatable.")] = None,
    cancel_run: Annotated[list[int] | None, typer.Option("--cancel-run", help="Its number; repeatable.")] = None,
    database: DatabaseUrl = None,
    folder: Folder = None,
) -> None:
    """Take comments out, ban readers, end runs."""
    settings = settings_of(folder, database=database)
    from encore.hub.database import open_database
    from encore.hub.moderation import moderate

    with closing(open_database(settings.database_url)) as opened:
        done = moderate(
            opened,
            comments=delete_comment or (),
            ban=ban or (),
            unban=unban or (),
            runs=cancel_run or (),
        )
    for line in done or ["nothing asked"]:
        stdout().print(line, highlight=False, markup=False)


@app.command("status")
def status_command(database: DatabaseUrl = None, folder: Folder = None, json: Json = False) -> None:
    """Say what is there, what waits, and who works."""
    settings = settings_of(folder, database=database)
    from encore.hub.database import open_database
    from encore.hub.moderation import status

    with closing(open_database(settings.database_url)) as opened:
        found = status(opened)
    if json:
        print_json(found)
        return
    for name, value in found.items():
        text = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
        stdout().print(f"{name}: {text or 'none'}", highlight=False, markup=False)
