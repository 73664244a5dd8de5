"""The web server of `encore serve`: uvicorn, with a worker beside it."""

from __future__ import annotations

import logging
import os
import socket
from contextlib import nullcontext
from typing import Any

import uvicorn

from encore.base.errors import InputError
from encore.cli.options import stdout
from encore.hub.settings import PREFIX, HubSettings
from encore.hub.work import WorkerProcess

BACKLOG = 2048


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        InputError: the address is taken, or none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.socket(family, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind((host, port))
        server.listen(BACKLOG)  # at once, so that whoever comes early waits instead of being refused
    except OSError as error:
        server.close()
        raise InputError(
            f"cannot listen on {host}:{port} ({(error.strerror or str(error)).lower()})", "take another --port"
        ) from error
    server.set_inheritable(True)
    return server


def address_of(host: str, port: int) -> str:
    """How a browser on this machine reaches what listens on `host`."""
    if host in {"0.0.0.0", "::", ""}:  # all addresses; readers elsewhere need --base-url
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(settings: HubSettings, server: socket.socket, *, processes: int, with_worker: bool) -> None:
    """Answer until interrupted. A worker that dies is started again; both end together."""
    from encore.hub.address import keep_address
    from encore.hub.database import open_database
    from encore.hub.web.app import create_app

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    options: dict[str, Any] = {
        "log_level": "warning",
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "timeout_graceful_shutdown": 5,
    }
    database = open_database(settings.database_url)
    keep_address(database, settings)
    app: Any = "encore.hub.web.app:application"
    if processes == 1:
        app = create_app(settings, database)  # which closes it
    else:
        database.close()
        os.environ.update(_as_environment(settings))
        options |= {"factory": True, "workers": processes}
    with WorkerProcess(settings) if with_worker else nullcontext():
        stdout().print(f"{settings.site_name}: {settings.base_url}", highlight=False, soft_wrap=True)
        if settings.mail_url.startswith("outbox:"):
            words = ["encore hub sign-in you@example.org", "--folder", str(settings.folder)]
            if settings.database is not None:
                words += ["--database", "…"]
            stdout().print(f"mails go to {settings.outbox}", highlight=False, soft_wrap=True)
            stdout().print(f"sign in on this machine with: {' '.join(words)}", highlight=False, soft_wrap=True)
        config = uvicorn.Config(app, **options)
        if processes == 1:
            uvicorn.Server(config).run(sockets=[server])
        else:
            from uvicorn.supervisors import Multiprocess

            Multiprocess(config, sockets=[server]).run()


def _as_environment(settings: HubSettings) -> dict[str, str]:
    """Settings for web processes that are started anew."""
    found = {}
    for name, value in settings.model_dump(mode="json").items():
        if value is not None:
            found[PREFIX + name.upper()] = ",".join(value) if isinstance(value, list) else str(value)
    return found
