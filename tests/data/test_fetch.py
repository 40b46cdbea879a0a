"""MNIST is fetched from a mirror that has it right, continued where it broke off, and never kept wrong or half."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from gapctl.cli.data import data_app
from gapctl.data import download
from gapctl.data.download import MIRRORS, MNIST_FILES, PublishedFile, fetch_files
from gapctl.errors import InputError, WorkError
from one_verb import run_verb

CONTENT = bytes(range(256)) * 900
FILE = PublishedFile("numbers.gz", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
ZIPPED = gzip.compress(CONTENT, 1)


class Mirror(ThreadingHTTPServer):
    """A web server on this machine; `break_off_at` is where it hangs up, `asked` what it was asked for."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.files, self.break_off_at, self.ranges = files, None, True
        self.asked: list[tuple[str, str | None]] = []

    files: dict[str, bytes]
    break_off_at: int | None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/mnist/"


class Answering(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name, wanted = self.path.removeprefix("/mnist/"), self.headers.get("Range")
        self.server.asked.append((name, wanted))
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        if begin >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        self.wfile.write(content[begin : self.server.break_off_at])

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    yield from served({FILE.name: ZIPPED})


@pytest.fixture
def other() -> Iterator[Mirror]:
    yield from served({})


def served(files: dict[str, bytes]) -> Iterator[Mirror]:
    server = Mirror(files)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(folder: Path, *mirrors: Mirror | str) -> list[tuple[str, str | None]]:
    addresses = [mirror if isinstance(mirror, str) else mirror.address for mirror in mirrors]
    return [(file.path.name, file.mirror) for file in fetch_files([FILE], addresses, folder, lambda *done: None)]


def test_a_file_is_downloaded_once(mirror: Mirror, tmp_path: Path) -> None:
    assert fetch(tmp_path / "new", mirror) == [(FILE.name, mirror.address)]
    assert gzip.decompress((tmp_path / "new" / FILE.name).read_bytes()) == CONTENT
    assert fetch(tmp_path / "new", mirror) == [(FILE.name, None)]
    assert len(mirror.asked) == 1
    assert [path.name for path in (tmp_path / "new").iterdir()] == [FILE.name]


def test_several_at_once_download_a_file_once(mirror: Mirror, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = [asked.result() for asked in [pool.submit(fetch, tmp_path, mirror) for _ in range(4)]]

    assert sorted(found, key=str) == [[(FILE.name, mirror.address)], *3 * [[(FILE.name, None)]]]
    assert len(mirror.asked) == 1
    assert [path.name for path in tmp_path.iterdir()] == [FILE.name]


@pytest.mark.parametrize("content", [ZIPPED, gzip.compress(CONTENT, 9), CONTENT], ids=["same", "zipped more", "plain"])
def test_a_file_that_is_there_counts_however_it_is_compressed(mirror: Mirror, tmp_path: Path, content: bytes) -> None:
    name = FILE.content_name if content is CONTENT else FILE.name
    (tmp_path / name).write_bytes(content)
    assert fetch(tmp_path, mirror) == [(name, None)]
    assert not mirror.asked


def test_progress_is_told_in_bytes(mirror: Mirror, tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch_files([FILE], [mirror.address], tmp_path, lambda *done: told.append(done))
    assert told[-1] == (FILE.name, len(ZIPPED), len(ZIPPED))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (gzip.compress(b"a page that asks you to log in"), "sent another file: the content's sha256 is"),
        (ZIPPED[:-100], "sent a damaged file"),
        (b"<html>", "sent another file"),
        (None, "answered 404 Not Found"),
    ],
    ids=["another file", "cut off", "a page", "no file"],
)
def test_a_mirror_that_has_it_wrong_is_passed_over(
    mirror: Mirror, other: Mirror, tmp_path: Path, sent: bytes | None, said: str
) -> None:
    other.files = {} if sent is None else {FILE.name: sent}
    with pytest.raises(WorkError, match=rf"{FILE.name}: no mirror has it:\n  {other.address}: {said}"):
        fetch(tmp_path, other)
    assert list(tmp_path.iterdir()) == []
    assert fetch(tmp_path, other, mirror) == [(FILE.name, mirror.address)]


def test_a_damaged_file_is_replaced(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(ZIPPED[:-1])
    assert fetch(tmp_path, mirror) == [(FILE.name, mirror.address)]


@pytest.mark.parametrize("ranges", [True, False], ids=["continues", "begins anew"])
def test_a_download_that_broke_off_is_continued(mirror: Mirror, tmp_path: Path, ranges: bool) -> None:
    mirror.break_off_at, mirror.ranges = 1000, ranges
    with pytest.raises(WorkError, match="broke off; what came is kept, and the same command continues it"):
        fetch(tmp_path, mirror)
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE.name}.part"]
    mirror.break_off_at = None
    assert fetch(tmp_path, mirror) == [(FILE.name, mirror.address)]
    assert [wanted for _, wanted in mirror.asked] == [None, "bytes=1000-"]


@pytest.mark.parametrize("begun", [gzip.compress(CONTENT, 9)[:500], ZIPPED + b"more"], ids=["other", "too long"])
def test_a_beginning_that_does_not_fit_is_thrown_away(mirror: Mirror, tmp_path: Path, begun: bytes) -> None:
    (tmp_path / f"{FILE.name}.part").write_bytes(begun)
    assert fetch(tmp_path, mirror) == [(FILE.name, mirror.address)]


def test_a_file_whose_last_bytes_had_come_needs_no_more(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / f"{FILE.name}.part").write_bytes(ZIPPED)
    assert fetch(tmp_path, mirror) == [(FILE.name, mirror.address)]
    assert mirror.asked == [(FILE.name, f"bytes={len(ZIPPED)}-")]


def test_a_mirror_that_sends_without_end_is_left(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_MAX_BYTES", 100)
    mirror.files = {FILE.name: b"x" * 300_000}
    with pytest.raises(WorkError, match="no mirror has it"):
        fetch(tmp_path, mirror)


@pytest.mark.parametrize("address", ["mnist", "ftp://there/", "http://", "file:///etc"])
def test_a_mirror_is_a_web_address(tmp_path: Path, address: str) -> None:
    with pytest.raises(InputError, match="expected an address that begins with http:// or https://"):
        fetch(tmp_path, address)


def test_a_folder_that_cannot_be_written_is_named(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"--out .*file.*cannot be written"):
        fetch(tmp_path / "file", mirror)


def test_without_a_network_one_reads_which_files_to_put_where(tmp_path: Path) -> None:
    # Nothing listens at the discard port: what a machine without a network answers.
    address = "http://127.0.0.1:9/"
    ran = run_verb(data_app, "fetch", "mnist", "--out", str(tmp_path / "there"), "--mirror", address)
    assert (ran.exit_code, ran.out) == (1, "")
    assert f"{address}: cannot be reached (" in ran.err
    assert f"into {tmp_path / 'there'}. To check one: gzip -dc FILE | sha256sum." in ran.err
    for file in MNIST_FILES:
        assert f"{file.name}  (unzipped {file.bytes:,} bytes, sha256 {file.sha256})" in ran.err


def test_only_mnist_and_evaluation_sets_can_be_fetched(tmp_path: Path) -> None:
    ran = run_verb(data_app, "fetch", "cifar", "--out", str(tmp_path))
    assert ran.exit_code == 2
    assert ran.err.startswith("gapctl: cifar: no such data set; did you mean cifar10? Expected one of mnist, ")


def test_there_are_several_mirrors_and_four_files() -> None:
    assert len(set(MIRRORS)) >= 2
    assert len({file.sha256 for file in MNIST_FILES}) == 4
    assert sum(file.bytes for file in MNIST_FILES) == 60_000 * 785 + 10_000 * 785 + 48
