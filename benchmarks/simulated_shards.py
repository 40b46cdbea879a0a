"""Image-text shards of CC12M's size that take no disk: an S3 server in a process of its own that computes their bytes.

    python benchmarks/simulated_shards.py     # prints the server's address, and serves until it is killed

1. `SimulatedShards` is the geometry: every sample takes `SAMPLE_BYTES`, so that any range of any shard is arithmetic.
2. `write_simulated_manifest` writes what `gapctl data index` would find there, without reading a byte.
3. `serve_shards` starts the server, which s3fs finds through the environment as it would find any other.

A sample has a JPEG of 256 pixels and about 20 kB, one of eight pictures with its number behind it, a caption of 6 to 16
words, and a JSON as img2dataset's. Marks and fingerprints of the manifest are made up, so `gapctl data verify` finds
only shards as they were that `gapctl data index` has read itself.

Index letters: N samples, D digits of a key.
"""

import hashlib
import io
import json
import sys
import tarfile
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s3_server import serve_store

BUCKET: Final = "cc12m"
BLOCK: Final = 512
DIGITS: Final = 10
KINDS: Final = 64
"""Different captions; sample n has that of number n % KINDS, with its own number before it."""
PICTURES: Final = 8
IMAGE_BYTES: Final = 20 * 1024
WORDS: Final = "a man woman child dog cat red blue old wooden bicycle boat street beach window sky holds near in on of"
SAMPLE_BYTES: Final = 3 * BLOCK + IMAGE_BYTES + 2 * BLOCK
END_BYTES: Final = 2 * BLOCK
SENT_BYTES: Final = 4 << 20
"""Bytes that are made and sent at once."""
REPEATED_EVERY: Final = 100
"""Of so many samples in the manifest, one has the mark of the image before it, as in web data."""


class Kind(NamedTuple):
    """A sample whose number is all zeros: its bytes, the places of the number, and its row of the manifest.

    `checksum` and `sum` are the places and values of its three headers' checksums. The image's number is at its end.
    """

    content: NDArray[np.uint8]
    number_places: list[int]
    checksum_places: list[int]
    checksums: list[int]
    width: int
    height: int
    words: int
    characters: int
    caption_bytes: int
    json_bytes: int


@dataclass(frozen=True)
class SimulatedShards:
    """`shards` tar files of `per_shard` samples in the folder `name`, numbered from `first` on through all of them."""

    name: str
    shards: int
    per_shard: int
    first: int = 0

    @property
    def size(self) -> int:
        """The size of each shard."""
        return self.per_shard * SAMPLE_BYTES + END_BYTES

    def list_addresses(self) -> list[str]:
        """Return the shards' addresses in their order."""
        return [f"s3://{BUCKET}/{self.name}/{number:05d}.tar" for number in range(self.shards)]

    def read(self, shard: int, start: int, stop: int) -> bytes:
        """Return these bytes of a shard."""
        first, last = start // SAMPLE_BYTES, min(self.per_shard, -(-stop // SAMPLE_BYTES))
        number_N = self.first + shard * self.per_shard + np.arange(first, max(first, last))
        made = make_samples(number_N).tobytes() + bytes(END_BYTES)
        return made[start - first * SAMPLE_BYTES : stop - first * SAMPLE_BYTES]


@lru_cache(maxsize=1)
def make_kinds() -> list[Kind]:
    """Return the templates of samples: always the same ones."""
    draws = np.random.Generator(np.random.Philox(12))
    pictures = [_draw_picture(draws) for _ in range(PICTURES)]
    return [_make_kind(pictures[number % PICTURES], draws) for number in range(KINDS)]


def _draw_picture(draws: np.random.Generator) -> tuple[bytes, int, int]:
    """Return a JPEG that looks like a blurred photograph, with its width and height."""
    width, height = sorted((256, int(draws.integers(256, 400))), reverse=bool(draws.integers(2)))
    small = Image.fromarray(draws.integers(0, 256, (16, 16, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    small.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=80)
    assert len(buffer.getvalue()) <= IMAGE_BYTES - DIGITS
    return buffer.getvalue().ljust(IMAGE_BYTES - DIGITS, b"\xff"), width, height


def _make_kind(picture: tuple[bytes, int, int], draws: np.random.Generator) -> Kind:
    image, width, height = picture
    words = [str(word) for word in draws.choice(WORDS.split(), int(draws.integers(5, 16)))]
    zeros = b"0" * DIGITS
    text = zeros + b" " + " ".join(words).encode()
    about = {"key": zeros.decode(), "status": "success", "width": width, "height": height, "url": "https://example.org"}
    contents = {"jpg": image + zeros, "txt": text, "json": json.dumps(about).encode()}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for ending, content in contents.items():
            info = tarfile.TarInfo(f"{zeros.decode()}.{ending}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    whole = tar.getvalue()[:SAMPLE_BYTES]
    headers = [0, BLOCK + IMAGE_BYTES, 3 * BLOCK + IMAGE_BYTES]
    numbers = [*headers, BLOCK + IMAGE_BYTES - DIGITS, 2 * BLOCK + IMAGE_BYTES, whole.index(zeros, headers[2] + BLOCK)]
    return Kind(
        np.frombuffer(whole, dtype=np.uint8),
        numbers,
        [header + 148 for header in headers],
        [int(whole[header + 148 : header + 154], 8) for header in headers],
        width,
        height,
        len(words) + 1,
        len(text),
        len(text),
        len(contents["json"]),
    )


def make_samples(number_N: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the bytes of samples, N x SAMPLE_BYTES."""
    kinds = make_kinds()
    digit_ND = number_N[:, None] // 10 ** np.arange(DIGITS - 1, -1, -1) % 10
    made = np.empty((len(number_N), SAMPLE_BYTES), dtype=np.uint8)
    for kind in range(min(KINDS, len(number_N))):
        mine = slice(kind, None, KINDS)  # neighbours differ in kind, so each stands every KINDS places
        about, digits = kinds[int(number_N[kind]) % KINDS], digit_ND[mine]
        made[mine] = about.content
        for place in about.number_places:
            made[mine, place : place + DIGITS] += digits.astype(np.uint8)
        added = digits.sum(axis=1)
        for place, checksum in zip(about.checksum_places, about.checksums, strict=True):
            octal = (checksum + added)[:, None] // 8 ** np.arange(5, -1, -1) % 8
            made[mine, place : place + 6] = octal.astype(np.uint8) + ord("0")
    return made


def write_simulated_manifest(place: Path, stored: SimulatedShards) -> None:
    """Write the manifest of these shards, a part at a time."""
    import polars as pl

    from gapctl.data.image_text.manifest import METADATA_KEY, READING_VERSION, SCHEMA

    kinds = make_kinds()
    fields = ("width", "height", "words", "characters", "caption_bytes", "json_bytes")
    by_kind = {name: np.array([getattr(kind, name) for kind in kinds]) for name in fields}
    addresses = stored.list_addresses()

    def make_part(first: int, last: int) -> pl.DataFrame:
        place_N = np.tile(np.arange(stored.per_shard), last - first)
        number_N = stored.first + np.arange(first * stored.per_shard, last * stored.per_shard)
        offset_N, kind_N = place_N * SAMPLE_BYTES, number_N % KINDS
        image_N = number_N - (number_N % REPEATED_EVERY == 1)
        columns = {
            "shard": pl.Series(np.repeat(np.arange(first, last), stored.per_shard)).replace_strict(
                {number: addresses[number] for number in range(first, last)}, return_dtype=pl.String
            ),
            "key": pl.Series(number_N).cast(pl.String).str.zfill(DIGITS),
            "offset": offset_N,
            "bytes": np.full(len(number_N), SAMPLE_BYTES),
            "image_offset": offset_N + BLOCK,
            "image_bytes": np.full(len(number_N), IMAGE_BYTES),
            "form": pl.repeat("jpeg", len(number_N), eager=True),
            "caption_offset": offset_N + 2 * BLOCK + IMAGE_BYTES,
            "captions": np.ones(len(number_N), dtype=np.int32),
            "json_offset": offset_N + 4 * BLOCK + IMAGE_BYTES,
            "image_mark": mix_bits(image_N),
            "caption_mark": mix_bits(number_N + (1 << 40)),
            "problem": pl.repeat(None, len(number_N), dtype=pl.String, eager=True),
            **{name: values[kind_N] for name, values in by_kind.items()},
        }
        return pl.DataFrame({name: columns[name] for name in SCHEMA}, schema_overrides=SCHEMA)

    records: list[dict[str, object]] = [
        {
            "address": address,
            "bytes": stored.size,
            "modified": make_tag(stored.name, number),
            "fingerprint": hashlib.sha256(address.encode()).hexdigest(),
            "samples": stored.per_shard,
            "usable": stored.per_shard,
            "damage": None,
            "ignored": {},
        }
        for number, address in enumerate(addresses)
    ]
    about = {"version": 1, "reading": READING_VERSION, "captions": None, "shards": records}
    step = max(1, 500_000 // stored.per_shard)
    parts = [
        pl.defer(partial(make_part, first, min(stored.shards, first + step)), schema=SCHEMA)
        for first in range(0, stored.shards, step)
    ]
    pl.concat(parts).sink_parquet(
        place, metadata={METADATA_KEY: json.dumps(about)}, statistics=False, row_group_size=1 << 18
    )


def mix_bits(number_N: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return 64 bits for each number that look drawn (splitmix64)."""
    mixed_N = number_N.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed_N = (mixed_N ^ (mixed_N >> np.uint64(shift))) * np.uint64(factor)
    return mixed_N ^ (mixed_N >> np.uint64(31))


def make_tag(name: str, shard: int) -> str:
    """Return the tag that the store gives a shard."""
    return hashlib.md5(f"{name}/{shard}".encode(), usedforsecurity=False).hexdigest()


def serve_shards(*stored: SimulatedShards) -> AbstractContextManager[str]:
    """Serve these shards from a process of its own."""
    folders = [f"{each.name},{each.shards},{each.per_shard},{each.first}" for each in stored]
    return serve_store(sys.executable, __file__, *folders)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folders: dict[str, SimulatedShards]

    def log_message(self, *_: object) -> None:
        """Nothing."""

    def do_HEAD(self) -> None:
        """Say how large a shard is."""
        self._answer_shard(head=True)

    def do_GET(self) -> None:
        """Send a list, a shard, or a part of it."""
        parts = urlsplit(self.path)
        if parts.path.strip("/") == BUCKET:
            self._list(parse_qs(parts.query).get("prefix", [""])[0])
        else:
            self._answer_shard(head=False)

    def _list(self, prefix: str) -> None:
        entries = [
            f"<Contents><Key>{name}/{number:05d}.tar</Key><LastModified>2026-11-30T00:00:00.000Z</LastModified>"
            f'<ETag>"{make_tag(name, number)}"</ETag><Size>{each.size}</Size></Contents>'
            for name, each in self.folders.items()
            for number in range(each.shards)
            if f"{name}/{number:05d}.tar".startswith(prefix)
        ]
        text = (
            f'<?xml version="1.0"?><ListBucketResult><Name>{BUCKET}</Name><Prefix>{prefix}</Prefix>'
            f"<KeyCount>{len(entries)}</KeyCount><IsTruncated>false</IsTruncated>{''.join(entries)}</ListBucketResult>"
        )
        self._send(200, text.encode(), {"Content-Type": "application/xml"})

    def _answer_shard(self, *, head: bool) -> None:
        bucket, _, key = unquote(urlsplit(self.path).path).strip("/").partition("/")
        name, _, file = key.rpartition("/")
        shard = file.removesuffix(".tar")
        stored = self.folders.get(name) if bucket == BUCKET else None
        if stored is None or not shard.isdigit() or int(shard) >= stored.shards:
            self._send(404, b"", {})
            return
        start, stop, status = 0, stored.size, 200
        headers = {"ETag": f'"{make_tag(name, int(shard))}"', "Last-Modified": "Mon, 30 Nov 2026 00:00:00 GMT"}
        if asked := self.headers.get("Range"):
            begin, _, end = asked.removeprefix("bytes=").partition("-")
            start, stop, status = int(begin), min(stop, int(end) + 1 if end else stop), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{stored.size}"
        self._send(status, b"", headers, stop - start)
        for first in range(start, stop, SENT_BYTES) if not head else ():
            self.wfile.write(stored.read(int(shard), first, min(stop, first + SENT_BYTES)))

    def _send(self, status: int, content: bytes, headers: dict[str, str], size: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content) if size is None else size)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing of a client that has gone."""


def main() -> None:
    """Serves until it is killed."""
    folders = {}
    for argument in sys.argv[1:]:
        name, *numbers = argument.split(",")
        folders[name] = SimulatedShards(name, *map(int, numbers))
    _Handler.folders = folders
    server = _Server(("127.0.0.1", 0), _Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
