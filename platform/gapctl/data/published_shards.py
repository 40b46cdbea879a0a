"""Bring a published set of image-text shards from a hub: CC12M, of 2,176 tars.

1. `plan_download` asks the hub which shards there are, of what size, digest and number of samples, and finds what the
   place has already.
2. `download_shards` brings what is left, by huggingface_hub's own resuming downloads, several at once. Each shard is
   checked by its sha256, counted and indexed, and taken to the place: a folder, or an object store by way of the cache.
3. It writes the manifest of all, so that the place is the `data.source` of a sweep.

A part of the manifest per finished shard lies in the folder of unfinished work, so stopped work goes on.
"""

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.data.hub import HubDataset
from gapctl.data.image_text.index import (
    join_manifests,
    locate_unfinished_work,
    make_manifest_part,
    open_part,
    split_by_shard,
)
from gapctl.data.image_text.manifest import (
    MAX_LOADED_SAMPLES,
    Manifest,
    parse_manifest,
    read_manifest,
    relocate_shards,
    serialise_manifest,
    write_manifest,
)
from gapctl.data.image_text.source import MANIFEST_NAME
from gapctl.data.image_text.storage import ShardInfo, find_shard
from gapctl.data.parallel_shards import OnProgress, ignore_progress, lock_unfinished_folder
from gapctl.errors import InputError, WorkError
from gapctl.io.atomic import write_file_atomically
from gapctl.io.files import Folder
from gapctl.text import format_first_names

COUNTS_FILE: Final = "_info.json"
"""What the hub's data set says about its splits: the files of each, and the samples of each file."""
DOWNLOADS_AT_ONCE: Final = 4
"""Shards under way at a time; so many may lie on this machine on their way to an object store."""


@dataclass(frozen=True)
class PublishedSet:
    """A set of shards at a hub, and the counts that were published for it."""

    title: str
    page: str
    split: str
    shards: int
    samples: int
    licence: str


CC12M: Final = PublishedSet(
    title="Conceptual 12M, its images' shorter side at most 512 pixels",
    page="https://huggingface.co/datasets/pixparse/cc12m-wds",
    split="train",
    shards=2_176,
    samples=10_968_539,
    licence="Google's, at https://github.com/google-research-datasets/conceptual-12m; the images are their owners'",
)
"""Counts: its `_info.json`; size of images: its card (https://huggingface.co/datasets/pixparse/cc12m-wds)."""


class PublishedShard(NamedTuple):
    """A shard of the hub: its name, its size, the sha256 of its bytes, and the number of its samples."""

    name: str
    bytes: int
    sha256: str
    samples: int


@dataclass(frozen=True)
class DownloadPlan:
    """What a download would do: all shards of the set, and the manifests of those that the place has already.

    `free` are the bytes of the disk that shards are written to, or pass through on their way to an object store.
    """

    hub: HubDataset
    out: Folder
    shards: Sequence[PublishedShard]
    there: dict[str, Manifest]
    free: int

    @property
    def bytes(self) -> int:
        """The bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def left(self) -> list[PublishedShard]:
        """The shards that are not there yet."""
        return [shard for shard in self.shards if shard.name not in self.there]

    @property
    def bytes_left(self) -> int:
        """The bytes that are still to come."""
        return sum(shard.bytes for shard in self.left)

    @property
    def disk_needed(self) -> int:
        """The bytes of this machine's disk that downloading the missing shards takes.

        For an object store, it is those of the shards that are downloaded at once.
        """
        if self.out.disk is not None:
            return self.bytes_left
        return sum(sorted(shard.bytes for shard in self.left)[-DOWNLOADS_AT_ONCE:])


class DownloadResult(NamedTuple):
    """The manifest of all shards, where it was written, the number of shards that came, and wrong counts of samples."""

    manifest: Manifest
    place: str
    fetched: int
    wrong: list[str]


def plan_download(published: PublishedSet, out: str, endpoint: str | None = None) -> DownloadPlan:
    """Ask the hub for the shards of a set, and the place for those that it has.

    Raise InputError if the hub refuses, if it has another number of shards or samples than was published, and for a
    place that cannot be opened; WorkError where the network fails.
    """
    target = Folder(out if "://" not in out else out.rstrip("/"), "--out")
    making = locate_unfinished_work(_join(target, MANIFEST_NAME))
    hub = HubDataset(published.page, making if target.disk is None else target.disk, endpoint, pinned=True)
    shards = _list_published_shards(hub, published)
    return DownloadPlan(hub, target, shards, _find_finished(target, making, shards), _measure_free_disk(target, making))


def _list_published_shards(hub: HubDataset, published: PublishedSet) -> list[PublishedShard]:
    files = hub.list_files()
    try:
        about = json.loads(hub.read(COUNTS_FILE))["splits"][published.split]
        counts = dict(zip(about["filenames"], map(int, about["shard_lengths"]), strict=True))
    except (ValueError, KeyError, TypeError) as error:
        what = f"does not count the shards of {published.split} ({type(error).__name__}: {error})"
        raise InputError(f"{hub.page}: its {COUNTS_FILE} {what}; expected {published.shards:,} of them") from error
    if missing := [name for name in counts if name not in files]:
        raise InputError(f"{hub.page}: lacks {format_first_names(missing, 3)}, which its {COUNTS_FILE} names")
    found = (len(counts), sum(counts.values()))
    if found != (published.shards, published.samples):
        raise InputError(
            f"{hub.page}: found {found[0]:,} shards of {found[1]:,} samples; expected {published.shards:,} of "
            f"{published.samples:,}, as published. It has changed: a later gapctl may know it"
        )
    return [PublishedShard(name, *files[name], samples) for name, samples in counts.items()]


def _find_finished(out: Folder, making: Path, shards: Sequence[PublishedShard]) -> dict[str, Manifest]:
    """Return the manifest of each shard that an earlier run finished, and that lies unchanged at its place."""
    known: dict[str, Manifest] = {}
    manifest = _join(out, MANIFEST_NAME)
    if out.exists(MANIFEST_NAME):
        with suppress(InputError):  # of another version: all is indexed again
            known = {part.shards[0].address: part for part in split_by_shard(read_manifest(manifest))}
    found = {}
    for shard in shards:
        address = _join(out, shard.name)
        part = known.get(address)
        with suppress(OSError, ValueError):
            part = open_part(_locate_part(making, shard))
        if part is not None and part.shards[0].bytes == shard.bytes:
            found[shard.name] = part
    with ThreadPoolExecutor(DOWNLOADS_AT_ONCE * 4) as pool:
        now = pool.map(lambda name: find_shard(_join(out, name)), found)
        return {
            name: part for (name, part), there in zip(found.items(), now, strict=True) if there == part.shards[0].stored
        }


def _measure_free_disk(out: Folder, making: Path) -> int:
    place = making if out.disk is None else out.disk
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free


def download_shards(plan: DownloadPlan, on_progress: OnProgress = ignore_progress) -> DownloadResult:
    """Bring the shards that are left, and write the manifest of all.

    `on_progress` gets the bytes that have come and all bytes. Raise InputError for a place that cannot be written or a
    disk with too little room, WorkError where the hub or the store fails: the same call then goes on.
    """
    out = plan.out
    if plan.disk_needed > plan.free:
        raise InputError(
            f"--out {out.address}: {plan.disk_needed / 1e9:,.1f} GB are needed on the disk, and "
            f"{plan.free / 1e9:,.1f} GB are free; expected more room, or an object store such as s3://BUCKET/cc12m"
        )
    target = _join(out, MANIFEST_NAME)
    making, parts = locate_unfinished_work(target), dict(plan.there)
    done = plan.bytes - plan.bytes_left
    on_progress(done, plan.bytes)
    with lock_unfinished_folder(making, out.address, "a folder that can be written to"):
        pool = ThreadPoolExecutor(DOWNLOADS_AT_ONCE)
        try:
            running = {pool.submit(_bring_shard, plan.hub, out, making, shard): shard for shard in plan.left}
            for future in as_completed(running):
                shard = running[future]
                parts[shard.name] = future.result()
                done += shard.bytes
                on_progress(done, plan.bytes)
        finally:
            pool.shutdown(cancel_futures=True)
        manifest = join_manifests([parts[shard.name] for shard in plan.shards])
        try:
            write_manifest(target, manifest)
        except OSError as error:
            raise WorkError(f"{target}: cannot be written ({error.strerror}); run the same command again") from error
    if sum(record.samples for record in manifest.shards) > MAX_LOADED_SAMPLES:
        manifest = read_manifest(target)  # what its rows were read from is gone
    wrong = [
        f"{record.address}: {record.samples:,} samples, {shard.samples:,} published"
        for shard, record in zip(plan.shards, manifest.shards, strict=True)
        if record.samples != shard.samples or record.damage is not None
    ]
    return DownloadResult(manifest, target, len(plan.left), wrong)


def _bring_shard(hub: HubDataset, out: Folder, making: Path, shard: PublishedShard) -> Manifest:
    """Download, check and index a shard, and take it to an object store if that is its place; return its manifest."""
    before = (making if out.disk is None else out.disk) / shard.name
    if before.is_file() and before.stat().st_size != shard.bytes:
        before.unlink()  # the client takes a file that was cut within a second of its coming for whole
    path = hub.fetch(shard.name, sha256=shard.sha256)
    here = find_shard(str(path.absolute()))
    assert here is not None  # it was hashed just now
    part = parse_manifest(make_manifest_part(here))
    if out.disk is None:
        part = relocate_shards(part, {here.address: _upload(path, out, shard)})
        path.unlink()
    place = _locate_part(making, shard)
    write_file_atomically(place, serialise_manifest(part), making)
    return open_part(place)


def _upload(path: Path, out: Folder, shard: PublishedShard) -> ShardInfo:
    address = _join(out, shard.name)
    try:
        with out.stage_file(shard.name) as temporary:
            temporary.symlink_to(path.absolute())
        there = find_shard(address)
    except OSError as error:
        raise WorkError(
            f"{address}: cannot be written ({error}). What has arrived is kept: run the same command again"
        ) from error
    if there is None or there.bytes != shard.bytes:
        raise WorkError(f"{address}: {'is gone' if there is None else 'is shorter'} after it was written; run it again")
    return there


def _locate_part(making: Path, shard: PublishedShard) -> Path:
    return making / f"{Path(shard.name).stem}-{shard.sha256[:16]}.parquet"


def _join(out: Folder, name: str) -> str:
    """Return the path or address of a file in the folder, as a manifest has it."""
    return out.path(name) if out.disk is None else str(out.disk / name)
