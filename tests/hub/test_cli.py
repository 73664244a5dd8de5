"""`encore serve` and `encore hub …`, as whoever runs a hub calls them."""

from __future__ import annotations

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
from encore.hub import comments, subscriptions
from encore.hub.database import Mail, Paper, User, open_database
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
    with database.reading() as transaction:
        day = transaction.query(Paper).filter(Paper.title.startswith("Entropy")).one().listed_on
    with database.writing() as transaction:
        transaction.execute(update(Paper).values(listed_on=day))
    following = day.fromordinal(day.toordinal() + 1)
    for _ in range(2):
        assert encore("hub", "digest", "--day", following, "--folder", folder) == 0
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
