"""`encore serve` and `encore hub …`, as whoever runs a hub calls them."""

from __future__ import annotations

import datetime
import json
import mailbox
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import update

from encore.cli import main
from encore.cli.serving import address_of
from encore.hub import comments, subscriptions
from encore.hub.address import keep_address
from encore.hub.database import Mail, Paper, User, open_database
from encore.hub.database.tables import now
from encore.hub.settings import read_settings

LIBRARY = """
@article{a, title={Entropy coders that learn}, author={Müller, Anna and Doe, Jane}, year={2026}, month={11}}
@article{b, title={No year at all}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a hub."""
    return tmp_path / "hub"


def encore(*words: object) -> int:
    """One command's exit code."""
    return main([str(word) for word in words])


def test_an_import_says_what_it_did_and_changes_nothing_twice(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = tmp_path / "library.bib"
    library.write_text(LIBRARY, encoding="utf-8")
    answers = []
    for _ in range(2):
        assert encore("hub", "import", library, "--folder", folder, "--json", "--progress", "none") == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert [(one["new"], one["changed"], len(one["refused"])) for one in answers] == [(1, 0, 1), (0, 0, 1)]
    assert "b" in answers[0]["refused"][0]


def test_a_digest_arrives_in_a_mailbox(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    library = tmp_path / "library.bib"
    library.write_text(LIBRARY, encoding="utf-8")
    settings = read_settings(folder)
    database = open_database(settings.database_url)
    subscriptions.ask(database, settings, "anna@example.org")
    with database.writing() as transaction:
        mail = transaction.query(Mail).one()
        transaction.execute(update(Mail).values(state="sent"))
    token = re.search(r"/confirm/(\S+)", mail.text)
    assert token
    assert subscriptions.confirm(database, settings, token[1])
    assert encore("hub", "import", library, "--folder", folder, "--progress", "none") == 0
    today = now().date()
    with database.writing() as transaction:
        transaction.execute(update(Paper).values(listed_on=today - datetime.timedelta(days=1)))
    for _ in range(2):
        assert encore("hub", "digest", "--day", today, "--folder", folder) == 0
    [found] = mailbox.Maildir(folder / "outbox", create=False)
    assert found["To"] == "anna@example.org"
    assert found["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Entropy coders that learn" in found.as_string()
    database.close()


def test_a_link_signs_in_where_no_mail_is_sent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encore("hub", "sign-in", "anna@example.org", "--folder", folder, "--base-url", "http://here:1") == 0
    assert re.fullmatch(r"http://here:1/sign-in/\S+\n", capsys.readouterr().out)


def test_a_backup_is_a_database(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encore("hub", "import", "cards", "--folder", folder, "--progress", "none") == 0
    assert encore("hub", "backup", tmp_path / "copy.db", "--folder", folder) == 0
    copy = open_database(f"sqlite:///{tmp_path / 'copy.db'}")
    with copy.reading() as transaction:
        assert transaction.query(Paper).count() == 24
    copy.close()
    capsys.readouterr()
    assert encore("hub", "status", "--folder", folder, "--json") == 0
    assert json.loads(capsys.readouterr().out)["papers"] == 24


def test_comments_and_readers_are_moderated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encore("hub", "import", "cards", "--folder", folder, "--progress", "none") == 0
    database = open_database(read_settings(folder).database_url)
    with database.writing() as transaction:
        transaction.add(User(email="eve@example.org", name="eve"))
    comments.add(database, 1, 1, "Buy this")
    assert encore("hub", "moderate", "--delete-comment", 1, "--ban", "eve@example.org", "--folder", folder) == 0
    assert "comment 1 is deleted" in capsys.readouterr().out
    with database.reading() as transaction:
        assert transaction.query(User).one().banned
    database.close()
    assert encore("hub", "moderate", "--delete-comment", 9, "--folder", folder) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("import", "nowhere.bib"), "nowhere.bib"),
        (("import", "arxiv", "not a category!"), "categor"),
        (("digest", "--day", "tomorrow"), "no day"),
        (("sign-in", "nobody"), "nobody"),
        (("status", "--database", "mysql://x/y"), "sqlite:///"),
        (("worker", "--mail", "http://mail"), "mail"),
        (("mails", "--sent", "7"), "7"),
    ],
)
def test_what_can_be_mended_is_said_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert encore("hub", *words, "--folder", folder) == 2
    error = capsys.readouterr().err
    assert error.startswith("encore: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_port_that_is_taken_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert encore("serve", "--port", taken.getsockname()[1], "--folder", folder) == 2
    assert "take another --port" in capsys.readouterr().err


def test_without_the_extra_the_hub_says_how_to_get_it(folder: Path) -> None:
    code = (
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'fastapi' else found(name, *rest)\n"
        "from encore.cli import main\n"
        f"raise SystemExit(main(['serve', '--port', '0', '--folder', {str(folder)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "pip install 'encore-papers[hub]'" in done.stderr


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "http://127.0.0.1:1"),
        ("::1", "http://[::1]:1"),
        ("0.0.0.0", "http://localhost:1"),
        ("::", "http://localhost:1"),
    ],
)
def test_the_address_is_one_that_a_browser_takes(folder: Path, host: str, address: str) -> None:
    assert address_of(host, 1) == address
    assert read_settings(folder, base_url=address).base_url == address


def test_the_environment_says_how_readers_come(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    monkeypatch.setattr("encore.cli.serving.serve", lambda settings, *_, **__: served.append(settings))
    monkeypatch.setenv("ENCORE_HUB_BASE_URL", "https://papers.example.org")
    assert encore("serve", "--port", 0, "--folder", folder) == 0
    assert encore("serve", "--port", 0, "--folder", folder, "--base-url", "http://other") == 0
    assert [one.base_url for one in served] == ["https://papers.example.org", "http://other"]
    assert served[0].https


def test_commands_know_where_the_hub_was_served(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = read_settings(folder, base_url="https://papers.example.org")
    database = open_database(settings.database_url)
    keep_address(database, settings)
    database.close()
    assert encore("hub", "sign-in", "anna@example.org", "--folder", folder) == 0
    assert capsys.readouterr().out.startswith("https://papers.example.org/sign-in/")


def test_an_import_of_nothing_readable_fails(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.bib").write_text("@article{b, title={No year at all}}", encoding="utf-8")
    assert encore("hub", "import", tmp_path / "broken.bib", "--folder", folder, "--progress", "none") == 2


def test_moderation_is_all_or_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert encore("hub", "import", "cards", "--folder", folder, "--progress", "none") == 0
    database = open_database(read_settings(folder).database_url)
    with database.writing() as transaction:
        transaction.add(User(email="eve@example.org", name="eve"))
    comments.add(database, 1, 1, "Buy this")
    assert encore("hub", "moderate", "--delete-comment", 1, "--delete-comment", 77, "--folder", folder) == 2
    with database.reading() as transaction:
        assert transaction.query(Paper).filter(Paper.comments == 1).count() == 1
    database.close()
