"""Data at an address are read as data on a disk are, and a missing package or network is one message."""

import functools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from command_line import gapctl
from gapctl.data.image_text import pack
from gapctl.data.image_text.index import iterate_shard_samples
from gapctl.data.image_text.manifest import read_manifest
from gapctl.data.image_text.pack import find_or_pack_shards, find_packed_classes, pack_place_into_shards
from gapctl.errors import InputError
from gapctl.io.hub import convert_hub_page_address
from layout_places import (
    LAYOUTS,
    SAME,
    contents,
    write_classification,
    write_images,
    write_img2dataset,
    write_unsorted,
)
from pair_shards import pair
from unhelpful_servers import unused_address

pytestmark = pytest.mark.usefixtures("cache")

FAR = [name for name in LAYOUTS if name != "open_clip's csv"]
"""open_clip's csv names files of one machine."""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing on the test's standard error."""


class _ServerOfIPv6(ThreadingHTTPServer):
    address_family = socket.AF_INET6


@contextmanager
def serving(folder: Path, host: str = "127.0.0.1") -> Iterator[str]:
    """A web server of this folder on a loopback address."""
    kind, name = (_ServerOfIPv6, f"[{host}]") if ":" in host else (ThreadingHTTPServer, host)
    server = kind((host, 0), functools.partial(_Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://{name}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def in_memory(folder: Path) -> Iterator[str]:
    """A copy of this folder in fsspec's memory."""
    memory = fsspec.filesystem("memory")
    memory.put(f"{folder}/", f"/{folder.name}/", recursive=True)
    try:
        yield f"memory://{folder.name}"
    finally:
        memory.rm(f"/{folder.name}", recursive=True)


@pytest.mark.parametrize("layout", FAR)
@pytest.mark.parametrize("store", [serving, in_memory])
def test_every_layout_is_read_from_an_address(layout: str, store: object, tmp_path: Path) -> None:
    local = LAYOUTS[layout](tmp_path)

    with store(tmp_path) as address:  # type: ignore[operator]
        slash = "/" if local.is_dir() and store is serving else ""
        assert contents(f"{address}/{local.relative_to(tmp_path)}{slash}") == SAME


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, cache: Path) -> None:
    write_img2dataset(tmp_path)
    with serving(tmp_path) as address:
        place = f"{address}/shards/{{00000..00000}}.tar"
        first = find_or_pack_shards([place], local=True)
        copy = Path(first[0].shards[0]) / "00000.tar"
        written = copy.stat().st_mtime_ns

        assert find_or_pack_shards([place], local=True) == first
        assert copy.stat().st_mtime_ns == written
        assert find_or_pack_shards([place], local=False)[0].shards == (place,)


def test_class_labels_and_unsorted_tars_are_read_from_an_address(tmp_path: Path) -> None:
    write_classification(tmp_path)
    write_unsorted(tmp_path)
    with in_memory(tmp_path) as address:
        packed = find_or_pack_shards([f"{address}/classes"], local=True)
        assert contents(f"{address}/unsorted.tar") == SAME

    classes = find_packed_classes(packed[0].shards)
    assert classes is not None
    assert (list(classes.names), len(classes.templates)) == (["cat", "dog", "dog"], 2)


def test_links_of_the_web_that_are_dead_are_counted_and_the_others_packed(tmp_path: Path) -> None:
    write_images(tmp_path / "web")
    with serving(tmp_path / "web") as address:
        rows = [f"{address}/00000{number}.jpg,words {number}" for number in (3, 9, 1)]
        (tmp_path / "links.csv").write_text("\n".join(["url,caption", *rows, f"{rows[0]} again"]), encoding="utf-8")
        packed = pack_place_into_shards(str(tmp_path / "links.csv"), tmp_path / "out")

    assert (packed.samples, packed.unreachable, packed.captions) == (3, 1, 4)
    samples = list(iterate_shard_samples(tmp_path / "out" / "00000.tar"))
    assert [sample.key for sample in samples] == ["00000000", "00000001", "00000002"]
    assert [sample.image for sample in samples] == [pair(3)["jpg"], None, pair(1)["jpg"]]
    assert samples[0].caption == "words 3\nwords 3 again"
    assert samples[0].about == {"url": f"{address}/000003.jpg"}
    assert read_manifest(tmp_path / "out" / "manifest.parquet").samples["problem"].to_list() == [None, "no image", None]


def test_a_last_shard_of_few_dead_links_is_packed_after_one_that_was_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "SAMPLES_PER_SHARD", 2)
    write_images(tmp_path / "web")
    with serving(tmp_path / "web") as address:
        rows = [f"{address}/00000{number}.jpg,words" for number in (3, 1, 9)]
        (tmp_path / "links.csv").write_text("\n".join(["url,caption", *rows]), encoding="utf-8")
        packed = pack_place_into_shards(str(tmp_path / "links.csv"), tmp_path / "out")

        assert (packed.shards, packed.samples, packed.unreachable) == (2, 3, 1)
        monkeypatch.setattr(pack, "FEW_LINKS", 0)
        with pytest.raises(InputError, match="None of 1 images could be fetched"):
            pack_place_into_shards(str(tmp_path / "links.csv"), tmp_path / "other")


def test_schemes_may_be_in_capitals_and_hosts_numbers(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    with serving(tmp_path / "images") as named, serving(tmp_path / "images", "::1") as numbered:
        places = (f"{'HTTP' + named.removeprefix('http')}/000000.jpg", f"{numbered}/000001.jpg")
        (tmp_path / "links.csv").write_text("url,caption\n" + "".join(f"{each},words\n" for each in places))

        found = contents(str(tmp_path / "links.csv"))

    assert [image for image, _ in found] == [pair(0)["jpg"], pair(1)["jpg"]]


@pytest.mark.parametrize("link", ["http://[::1/a.jpg", "http://[zz]/a.jpg", "https://::1/a.jpg", "http:///a.jpg"])
def test_an_address_that_is_none_is_an_image_that_cannot_be_fetched(link: str, tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    with serving(tmp_path / "images") as named:
        (tmp_path / "links.csv").write_text(f"url,caption\n{link},words\n{named}/000001.jpg,words\n")
        packed = find_or_pack_shards([str(tmp_path / "links.csv")], local=True)[0].packed

    assert packed is not None
    assert (packed.samples, packed.unreachable, packed.usable) == (2, 1, 1)


def test_an_image_that_a_table_at_an_address_lacks_is_named_with_its_row(tmp_path: Path) -> None:
    write_images(tmp_path / "web")
    (tmp_path / "web" / "a.csv").write_text("path,text\n000000.jpg,words\nno.jpg,words\n", encoding="utf-8")
    with serving(tmp_path / "web") as address:
        ran = gapctl("data", "pack", f"{address}/a.csv", "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (2, "")
    assert "a.csv: row 2 (line 3): its image cannot be read (" in ran.err
    assert not (tmp_path / "out").exists()


def test_without_a_network_nothing_is_packed_and_the_first_row_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gapctl.data.image_text.tables.IMAGE_SECONDS", 0.3)
    address = unused_address()
    rows = [f"{address}/{number}.jpg,words" for number in range(3)]
    (tmp_path / "links.csv").write_text("\n".join(["url,caption", *rows]), encoding="utf-8")

    ran = gapctl("data", "pack", str(tmp_path / "links.csv"), "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (2, "")
    assert "links.csv: row 1 (line 2): " in ran.err
    assert "None of 3 images could be fetched: expected a network that reaches them" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("memory://nowhere/a.csv", "memory://nowhere/a.csv: no such file or folder; expected tar shards"),
        ("memory://nowhere", "nothing is there"),
        ("{address}/pairs.csv", "pairs.csv: cannot be read (Cannot connect to host"),
        ("{address}/pairs.csv", "check the address, your rights and the network, or bring a copy here"),
        ("foo://a/b.csv", "Protocol not known: foo; s3:// needs the package s3fs, gs:// needs the package gcsfs"),
    ],
)
def test_an_address_that_gives_nothing_is_one_message(place: str, message: str, tmp_path: Path) -> None:
    ran = gapctl("data", "pack", place.format(address=unused_address()), "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (2, "")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_a_store_that_cannot_be_asked_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreached(files: object, path: str) -> bool:
        raise PermissionError("no such key")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.isdir", unreached)
    ran = gapctl("data", "pack", "memory://photos", "--out", str(tmp_path / "out"))

    assert (ran.exit_code, ran.out) == (2, "")
    assert "memory://photos: cannot be read (no such key); check the address, your rights and the network" in ran.err


def test_a_missing_package_is_named_with_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(address: str, **options: object) -> None:
        raise ImportError("Install huggingface_hub to access HfFileSystem")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    ran = gapctl("data", "pack", "https://huggingface.co/datasets/a/b", "--out", str(tmp_path / "out"))

    assert ran.exit_code == 2
    assert "datasets/a/b: Install huggingface_hub to access HfFileSystem; hf:// needs the package" in ran.err


@pytest.mark.parametrize(
    ("page", "address"),
    [
        ("https://huggingface.co/datasets/a/b", "hf://datasets/a/b"),
        ("https://huggingface.co/datasets/a/b/tree/main", "hf://datasets/a/b@main"),
        ("https://huggingface.co/datasets/a/b/tree/v1/test", "hf://datasets/a/b@v1/test"),
        (
            "https://huggingface.co/datasets/a/b/resolve/main/0.tar",
            "https://huggingface.co/datasets/a/b/resolve/main/0.tar",
        ),
        ("photos", "photos"),
    ],
)
def test_pages_of_the_hub_are_its_file_system(page: str, address: str) -> None:
    assert convert_hub_page_address(page) == address


def test_an_image_that_is_far_longer_than_an_image_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gapctl.data.image_text.locations import resolve_location

    (tmp_path / "a.jpg").write_bytes(bytes(3000))
    with serving(tmp_path) as address, pytest.raises(OSError, match="longer than 2,000 bytes"):
        resolve_location(f"{address}/a.jpg").read(limit=2000)
    assert resolve_location(str(tmp_path / "a.jpg")).read(limit=3000) == bytes(3000)
