"""Downloads continue where they stopped; archives are unpacked whole or not at all."""

from __future__ import annotations

import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from encore.base.errors import DataError, InputError, RunFolderError
from encore.base.progress import SilentProgress
from encore.data.downloads import download_file, extract, get_set
from encore.data.named import open_segmentation

from .conftest import encoded, random_image, random_mask, refusal

CONTENT = bytes(range(256)) * 2000


class _Handler(http.server.BaseHTTPRequestHandler):
    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        content = self.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.end_headers()
            return
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        self.wfile.write(content[start:])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    _Handler.files, _Handler.asked = {"/file": CONTENT}, []
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_file_comes_whole(server: str, tmp_path: Path):
    download_file(f"{server}/file", tmp_path / "a" / "file", SilentProgress())
    assert (tmp_path / "a" / "file").read_bytes() == CONTENT
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize("there", [1000, len(CONTENT)])
def test_what_has_come_already_is_not_asked_for_again(server: str, tmp_path: Path, there: int):
    (tmp_path / "file.part").write_bytes(CONTENT[:there])
    download_file(f"{server}/file", tmp_path / "file", SilentProgress())
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert _Handler.asked == [f"bytes={there}-"]


def test_the_rest_of_another_file_is_started_anew(server: str, tmp_path: Path):
    (tmp_path / "file.part").write_bytes(CONTENT + b"more")
    download_file(f"{server}/file", tmp_path / "file", SilentProgress())
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_refusals_and_dead_servers_are_named(server: str, tmp_path: Path):
    assert "404" in refusal(lambda: download_file(f"{server}/no", tmp_path / "file", SilentProgress()))
    dead = "http://127.0.0.1:9/file"
    assert dead in refusal(lambda: download_file(dead, tmp_path / "file", SilentProgress()))
    assert not (tmp_path / "file").exists()


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_the_wanted_folder_is_unpacked_from_any_depth(tmp_path: Path):
    made = archive(tmp_path / "a.zip", {"repo-main/CamVid/train/a.png": b"1", "repo-main/README": b"2"})
    extract(made, tmp_path / "out", inside="CamVid/")
    assert [file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.*")] == [
        "train/a.png"
    ]


def test_what_would_lie_outside_a_damaged_archive_and_a_missing_folder_are_refused(tmp_path: Path):
    evil = archive(tmp_path / "a.zip", {"CamVid/../../evil": b"1"})
    assert "outside" in refusal(lambda: extract(evil, tmp_path / "out", inside="CamVid/"), DataError)
    assert "holds no Other/" in refusal(lambda: extract(evil, tmp_path / "out", inside="Other/"), DataError)
    (tmp_path / "b.zip").write_bytes(b"PK no zip")
    assert "no whole zip" in refusal(lambda: extract(tmp_path / "b.zip", tmp_path / "out"), DataError)
    assert {entry.name for entry in tmp_path.iterdir()} == {"a.zip", "b.zip"}


def test_a_named_set_is_downloaded_into_a_folder_that_can_be_learnt_from(server: str, tmp_path: Path):
    from PIL import Image

    members = {}
    for part in ("train", "val", "test"):
        for index in range(2):
            name = f"0001TP_00{index}.png"
            members[f"S-master/CamVid/{part}/{name}"] = encoded(Image.fromarray(random_image(index)))
            members[f"S-master/CamVid/{part}annot/{name}"] = encoded(Image.fromarray(random_mask(index)))
    _Handler.files["/archive.zip"] = archive(tmp_path / "made.zip", members).read_bytes()
    out = get_set("camvid", tmp_path / "data" / "camvid", url=f"{server}/archive.zip", progress=SilentProgress())
    assert open_segmentation("camvid", roots={"camvid": out}).sizes() == {"train": 2, "val": 2, "test": 2}
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["camvid"]
    with pytest.raises(RunFolderError, match="not empty"):
        get_set("camvid", out, url=f"{server}/archive.zip", progress=SilentProgress())
    with pytest.raises(InputError, match="nothing to download"):
        get_set("streets", tmp_path / "streets", progress=SilentProgress())
