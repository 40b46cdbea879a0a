"""Pack a recognised layout into tar shards, from which all of gapctl reads.

1. `find_or_pack_shards` turns places of any layout into places of shards; it packs into the cache what is no shards
   yet.
2. `pack_shards` writes one layout into a folder: shards in the img2dataset layout, their manifest, and `packed.json`.
3. `find_packed_classes` returns the class prompts of a folder of shards with class labels.

A sample is key.jpg (or .png, .webp), key.txt (a caption per line) and key.json. The shards depend on the records alone,
to the last byte, so equal images and captions in equal order give equal numbers in whatever layout they come.
"""

import hashlib
import io
import json
import posixpath
import shutil
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.data.image_text.class_prompts import LINE_ENDS, CaptionLineMode
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.layouts import recognise_layout
from gapctl.data.image_text.locations import Location, resolve_location
from gapctl.data.image_text.manifest import (
    Manifest,
    has_caption_counts,
    read_manifest,
    read_manifest_shards,
    relocate_shards,
    tally_manifest,
    write_manifest,
)
from gapctl.data.image_text.records import (
    LAYOUT_VERSION,
    NO_OPTIONS,
    PICTURE_ENDINGS,
    ClassFiles,
    Layout,
    LayoutOptions,
    Record,
)
from gapctl.data.image_text.source import MANIFEST_NAME
from gapctl.data.image_text.storage import RETRY_SECONDS, ShardInfo, find_shard, list_shards, list_tar_files
from gapctl.data.image_text.tar import parse_image_header
from gapctl.data.image_text.tar_layouts import CLASS_KIND, CLASS_NAMES, CLASS_TEMPLATES, find_class_files
from gapctl.data.parallel_shards import OnProgress, Workers, ignore_progress
from gapctl.errors import InputError, WorkError
from gapctl.folders import expand_home, find_cache_root
from gapctl.io.atomic import stage_file_replacement, write_file_atomically
from gapctl.io.files import Folder
from gapctl.io.hub import convert_hub_page_address
from gapctl.io.locks import lock_file
from gapctl.io.retry import WEB_SCHEMES, is_hidden_or_system_file, retry

SAMPLES_PER_SHARD: Final = 10_000
PACKED_FILE: Final = "packed.json"
LOCK_FILE: Final = "lock"
FORM_ENDINGS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}
FEW_LINKS: Final = 100
"""So many links of a shard may all be dead; where more are, the network is down."""
IMAGES_AHEAD: Final = 64
"""Images of a network that are asked for at once."""
DISK_REMEDY: Final = "Make room, or set GAPCTL_CACHE to another folder; finished shards are kept"


@dataclass(frozen=True)
class PackResult:
    """What a folder of packed shards holds, as its `packed.json` records it.

    `unreachable` images are links of the web that gave nothing; their samples have captions and no image.
    """

    place: str
    layout: str
    fingerprint: str
    shards: int
    samples: int
    usable: int
    captions: int
    unreachable: int
    version: int = LAYOUT_VERSION


class ResolvedPlace(NamedTuple):
    """A place as given, the places of its shards, and what was packed there, if it had to be."""

    place: str
    shards: tuple[str, ...]
    packed: PackResult | None


def find_or_pack_shards(
    places: Sequence[str], *, local: bool, on_progress: OnProgress = ignore_progress
) -> list[ResolvedPlace]:
    """Return the places of shards for places of any layout, packing into the cache what is no shards yet.

    Shards at an address are copied into the cache if they must be `local`, and else stay there. `on_progress` gets the
    finished images, or the copied shards, and all (0 if that is unknown). Raise InputError for places of no known
    layout.
    """
    return [_resolve_place(place, local, on_progress) for place in places]


def _resolve_place(place: str, local: bool, on_progress: OnProgress) -> ResolvedPlace:
    layout = recognise_layout(convert_hub_page_address(place))
    if isinstance(layout, str) and local and "://" in layout:
        layout = recognise_layout(str(fetch_shards(layout, on_progress)))
    if isinstance(layout, str):
        if layout.endswith(".parquet"):
            manifest = layout if "://" in layout else expand_home(layout)
            return ResolvedPlace(place, tuple(shard.address for shard in read_manifest_shards(manifest)), None)
        return ResolvedPlace(place, _list_web_folder(layout), None)
    folder = find_cache_root() / "packed" / layout.fingerprint
    return ResolvedPlace(place, (str(folder),), pack_shards(layout, folder, on_progress))


def _list_web_folder(place: str) -> tuple[str, ...]:
    """Return the tars on the page of a web server's folder; any other place is returned as it is."""
    location = resolve_location(place)
    if location.scheme not in WEB_SCHEMES or not location.is_folder():
        return (place,)
    return tuple(location.join(name).address for name in location.list_names()[0] if name.endswith(".tar")) or (place,)


def pack_place_into_shards(
    place: str, out: Path | str, options: LayoutOptions = NO_OPTIONS, on_progress: OnProgress = ignore_progress
) -> PackResult:
    """Pack a place into a new folder, at a path or an address.

    For an address the shards are packed into the cache first. Raise InputError for shards that need no packing, and as
    `pack_shards` does.
    """
    address = convert_hub_page_address(place)
    layout = recognise_layout(address, options)
    if isinstance(layout, str) and "://" in layout:
        layout = recognise_layout(str(fetch_shards(layout, on_progress)), options)
    if isinstance(layout, str):
        list_shards([layout])
        raise InputError(
            f"{place}: read as tar shards, which need no packing; expected another layout. `gapctl data verify` checks "
            "shards, and `gapctl data reshard` writes them anew"
        )
    if "://" in str(out):
        return _pack_to_address(layout, str(out), on_progress)
    return pack_shards(layout, expand_home(out).absolute(), on_progress)


def _pack_to_address(layout: Layout, out: str, on_progress: OnProgress) -> PackResult:
    """Pack into the cache, and copy what the folder at an address lacks; `packed.json` comes last.

    A hidden file there says of which layout the shards are until then.
    """
    target = Folder(out.rstrip("/"), "--out")
    done = _parse_pack_record(target.read(PACKED_FILE), layout.fingerprint)
    started = f".packing-{layout.fingerprint}"
    names = target.names("", lambda name: name == started or not is_hidden_or_system_file(name))
    if done is not None and sum(name.endswith(".tar") for name in names) == done.shards:
        return done
    local = find_cache_root() / "packed" / layout.fingerprint
    packed = pack_shards(layout, local, on_progress)
    files = [path for path in sorted(local.iterdir()) if path.name not in (MANIFEST_NAME, PACKED_FILE)]
    own = {started, MANIFEST_NAME, PACKED_FILE, *(path.name for path in files)}
    if foreign := set(names) - (own if done is not None or started in names else set()):
        raise InputError(
            f"--out {out}: holds other data ({min(foreign)}); expected a new or empty folder. Nothing was written"
        )
    target.write(started, b"")
    manifest, places = read_manifest(local / MANIFEST_NAME), dict[str, ShardInfo]()
    for path in files:
        address = target.path(path.name)
        there = find_shard(address)
        if there is None or there.bytes != path.stat().st_size:
            try:
                with target.stage_file(path.name) as temporary:
                    shutil.copyfile(path, temporary)
            except OSError as error:
                raise WorkError(
                    f"{address}: cannot be written ({error}). What has arrived is kept: run the same command again"
                ) from error
            there = find_shard(address)
        if there is None:
            raise WorkError(f"{address}: is gone after it was written; run the same command again")
        places[str(path.absolute())] = there
    write_manifest(target.path(MANIFEST_NAME), relocate_shards(manifest, places))
    target.write(PACKED_FILE, (local / PACKED_FILE).read_bytes())
    with suppress(WorkError):  # who may write need not have the right to delete
        target.remove(started)
    return packed


def pack_shards(layout: Layout, folder: Path, on_progress: OnProgress = ignore_progress) -> PackResult:
    """Write a layout's records into a folder that appears whole, or return what it holds from an earlier time.

    Stopped work goes on after its last whole shard. Raise InputError if the folder holds anything else or nothing of
    the layout can be packed, or an image cannot be read, WorkError if a shard cannot be written.
    """
    folder = folder.resolve()  # a linked folder cannot be replaced, the one that it leads to can
    try:
        if (done := _find_packed(folder, layout.fingerprint)) is not None:
            _renew_manifest(folder)
            return done
        _refuse_other_data(folder, layout.fingerprint)
        with _lock_scratch(folder, layout) as scratch:
            if (done := _find_packed(folder, layout.fingerprint)) is not None:
                return done
            packed = _find_packed(scratch, layout.fingerprint) or _pack_into(layout, scratch, on_progress)
            _refuse_other_data(folder, layout.fingerprint)  # again, as others may have written meanwhile
            _move_packed_files(scratch, folder, layout.fingerprint)
            return packed
    except OSError as error:
        raise WorkError(f"{folder}: cannot be written ({error.strerror or error}). {DISK_REMEDY}") from error


def _move_packed_files(scratch: Path, folder: Path, fingerprint: str) -> None:
    """Make `scratch` the folder, or fill one that exists, whose other files stay.

    Shards of an earlier time are deleted first, and the new ones come last, behind `packed.json`: so a folder with some
    of either is known as this layout's, and as not whole.
    """
    hidden = list(scratch.glob(".*"))  # what only its making needed, and what killed processes left
    if not folder.exists():
        for path in hidden:
            path.unlink()
        scratch.rename(folder)
        return
    for name in _list_own_files(folder, fingerprint):
        if name.endswith(".tar"):
            (folder / name).unlink(missing_ok=True)
    write_file_atomically(folder / PACKED_FILE, (scratch / PACKED_FILE).read_bytes(), folder)
    moved = {*scratch.iterdir()} - {*hidden, scratch / PACKED_FILE}
    for path in sorted(moved, key=lambda path: (path.suffix == ".tar", path.name)):
        path.rename(folder / path.name)
    shutil.rmtree(scratch)


def _list_own_files(folder: Path, fingerprint: str) -> set[str]:
    """Return the names of all files that packing this layout wrote into a folder, there or lost."""
    packed = _read_pack_record(folder, fingerprint)
    if packed is None:
        return set()
    shards = {_name_shard(number) for number in range(packed.shards)}
    return {PACKED_FILE, MANIFEST_NAME, CLASS_NAMES, CLASS_TEMPLATES, *shards}


def _refuse_other_data(folder: Path, fingerprint: str) -> None:
    """Raise InputError for a folder that holds anything but shards of this layout that were packed before.

    Hidden files and those of other systems may lie there, and stay.
    """
    if not folder.exists():
        return
    own = _list_own_files(folder, fingerprint)
    if not folder.is_dir() or any(
        not is_hidden_or_system_file(path.name) and path.name not in own for path in folder.iterdir()
    ):
        raise InputError(f"{folder}: holds other data; expected a new or empty folder. Nothing there was changed")


def _find_packed(folder: Path, fingerprint: str) -> PackResult | None:
    """Return what a folder holds, or None if it was not packed from this layout or lacks a shard."""
    packed = _read_pack_record(folder, fingerprint)
    return packed if packed and len(list_tar_files(folder)) == packed.shards else None


def _renew_manifest(folder: Path) -> None:
    """Index packed shards again where their manifest is missing, or was written before captions were counted."""
    with suppress(InputError):
        if has_caption_counts(folder / MANIFEST_NAME):
            return
    write_manifest(folder / MANIFEST_NAME, _index_packed(folder))


def _index_packed(folder: Path) -> Manifest:
    return build_manifest(list_shards([str(folder)]), Workers(1), captions=CaptionLineMode.LINES)


def _read_pack_record(folder: Path, fingerprint: str) -> PackResult | None:
    try:
        content = (folder / PACKED_FILE).read_bytes()
    except OSError:
        return None
    return _parse_pack_record(content, fingerprint)


def _parse_pack_record(content: bytes | None, fingerprint: str) -> PackResult | None:
    """Return what `packed.json` says, or None for none, and for one of another layout or version."""
    try:
        packed = PackResult(**json.loads(content or b""))
    except (ValueError, TypeError):
        return None
    return packed if (packed.fingerprint, packed.version) == (fingerprint, LAYOUT_VERSION) else None


@contextmanager
def _lock_scratch(folder: Path, layout: Layout) -> Iterator[Path]:
    """Yield the folder beside the target in which it is made; another process that makes it is waited for."""
    scratch = folder.with_name(f".{folder.name}.packing-{layout.fingerprint}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(folder.with_name(f".{folder.name}.{LOCK_FILE}"), delete=True):
        try:
            scratch.mkdir(exist_ok=True)
            yield scratch
        finally:
            if not any(scratch.glob("*.tar")):
                shutil.rmtree(scratch, ignore_errors=True)


class _ShardCounts(NamedTuple):
    """What one shard holds, kept beside it so that stopped work can go on."""

    samples: int
    captions: int
    unreachable: int


def _pack_into(layout: Layout, scratch: Path, on_progress: OnProgress) -> PackResult:
    counts: list[_ShardCounts] = []
    namer, done = KeyNamer(), 0
    numbered = enumerate((namer.name_key(record.key), record) for record in layout.read())
    for number, group in groupby(numbered, key=lambda each: each[0] // SAMPLES_PER_SHARD):
        keyed = (pair for _, pair in group)
        path, counted = scratch / _name_shard(number), scratch / f".{number:05d}.json"
        if path.exists() and counted.exists():
            counts.append(_ShardCounts(*json.loads(counted.read_bytes())))
            deque(keyed, maxlen=0)
        else:
            reached = any(shard.samples > shard.unreachable for shard in counts)
            on_sample = partial(_show_samples, on_progress, done, layout.images)
            counts.append(_write_shard(path, keyed, layout.far, on_sample, reached=reached))
            write_file_atomically(counted, json.dumps(counts[-1]).encode(), scratch)
        done += counts[-1].samples
    return _finish_folder(layout, scratch, counts)


def _name_shard(number: int) -> str:
    return f"{number:05d}.tar"


def _show_samples(on_progress: OnProgress, before: int, images: int, samples: int) -> None:
    on_progress(before + samples, images)


def _finish_folder(layout: Layout, scratch: Path, counts: Sequence[_ShardCounts]) -> PackResult:
    """Write the manifest and the record of the folder."""
    samples, captions, unreachable = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0, 0)
    if not samples:
        raise InputError(f"{layout.place}: {layout.kind} without a sample; expected images with captions")
    manifest = _index_packed(scratch)
    usable = tally_manifest(manifest).usable
    write_manifest(scratch / MANIFEST_NAME, manifest)
    if layout.classes is not None:
        for name, lines in ((CLASS_NAMES, layout.classes.names), (CLASS_TEMPLATES, layout.classes.templates)):
            write_file_atomically(scratch / name, "".join(f"{line}\n" for line in lines).encode(), scratch)
    packed = PackResult(
        layout.place, layout.kind, layout.fingerprint, len(counts), samples, usable, captions, unreachable
    )
    write_file_atomically(scratch / PACKED_FILE, json.dumps(asdict(packed), indent=1).encode(), scratch)
    return packed


def _write_shard(
    path: Path, keyed: Iterator[tuple[str, Record]], far: bool, on_sample: Callable[[int], None], *, reached: bool
) -> _ShardCounts:
    """Write a shard and count what it holds. Raise InputError where none of its links gives an image.

    A few dead links are believed once images of an earlier shard were `reached`.
    """
    samples = captions = links = 0
    unreachable: list[str] = []
    with stage_file_replacement(path, path.parent) as temporary, tarfile.open(temporary, "w") as tar:
        for key, record, image in _read_images(keyed, far):
            if isinstance(image, OSError):
                if record.required:
                    raise InputError(
                        f"{record.where}: its image cannot be read ({image.strerror or image}); expected it there"
                    )
                unreachable.append(f"{record.where}: {image}")
            links += not record.required
            content = image if isinstance(image, bytes) else None
            for name, part in _build_members(key, record, content).items():
                info = tarfile.TarInfo(name)
                info.size = len(part)
                tar.addfile(info, io.BytesIO(part))
            samples, captions = samples + 1, captions + len(record.captions)
            on_sample(samples)
        if links > (FEW_LINKS if reached else 0) and len(unreachable) == links:
            raise InputError(
                f"{unreachable[0]}. None of {links:,} images could be fetched: expected a network that reaches them. "
                "Fetch them elsewhere, as with img2dataset, and bring its shards"
            )
    return _ShardCounts(samples, captions, len(unreachable))


def _read_images(
    keyed: Iterator[tuple[str, Record]], far: bool
) -> Iterator[tuple[str, Record, bytes | OSError | None]]:
    """Yield each record with its image, or with why it cannot be read; images from afar are asked for ahead."""
    if not far:
        for key, record in keyed:
            yield key, record, _read_image(record)
        return
    waiting: deque[tuple[str, Record, Future[bytes | OSError | None]]] = deque()
    with ThreadPoolExecutor(IMAGES_AHEAD) as pool:
        try:
            for key, record in keyed:
                waiting.append((key, record, pool.submit(_read_image, record)))
                if len(waiting) >= IMAGES_AHEAD:
                    key, record, image = waiting.popleft()
                    yield key, record, image.result()
            while waiting:
                key, record, image = waiting.popleft()
                yield key, record, image.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _read_image(record: Record) -> bytes | OSError | None:
    try:
        return None if record.image is None else record.image()
    except OSError as error:
        return error


def _build_members(key: str, record: Record, image: bytes | None) -> dict[str, bytes]:
    """Return the members of a sample by their names; what it lacks has none."""
    members: dict[str, bytes] = {}
    if image is not None:
        form = parse_image_header(image, 0, len(image)).form
        members[f"{key}.{FORM_ENDINGS.get(form, 'jpg')}"] = image
    if record.captions:
        lines = [LINE_ENDS.sub(" ", caption).strip() for caption in record.captions]
        members[f"{key}.txt"] = _encode_text(record, "\n".join(lines))
    about = dict(record.about)
    if key not in (record.key, posixpath.splitext(record.key)[0]):
        about.setdefault("source_key", record.key)
    if about:
        members[f"{key}.json"] = json.dumps(about).encode()
    return members


def _encode_text(record: Record, text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InputError(f"{record.where}: a caption with half of a surrogate pair; expected Unicode text") from error


class KeyNamer:
    """Give each record a key that a tar can have: a path below no other place, without dots, and no key twice."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def name_key(self, wanted: str) -> str:
        """Return the record's own key if that is one, else the nearest."""
        stem, ending = posixpath.splitext(wanted)
        if ending.lower() not in PICTURE_ENDINGS:
            stem = wanted
        *folders, name = [part for part in stem.replace("\\", "/").split("/") if part not in ("", ".", "..")] or [
            "image"
        ]
        plain = "/".join([*folders, name.replace(".", "_")])
        if is_hidden_or_system_file(f"{plain}.jpg"):
            plain = "key_" + plain.replace("/", "_")
        key, times = plain, 1
        while key in self._used:
            times += 1
            key = f"{plain}-{times}"
        self._used.add(key)
        return key


def fetch_shards(place: str, on_progress: OnProgress = ignore_progress) -> Path:
    """Copy the shards at an address into the cache, with the files of classes beside them, and return the folder.

    What is there from an earlier time is not copied again. Raise InputError if the shards cannot be listed,
    WorkError if one cannot be copied.
    """
    shards = list_shards(_list_web_folder(place))
    listed = "\n".join(f"{shard.address}\t{shard.bytes}\t{shard.modified}" for shard in shards)
    folder = find_cache_root() / "packed" / f"copy-{hashlib.sha256(listed.encode()).hexdigest()[:16]}"
    names = _name_copies(shards)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file(folder / f".{LOCK_FILE}"):
            for done, shard in enumerate(shards):
                on_progress(done, len(shards))
                target = folder / names[shard.address]
                if not target.exists():
                    _copy_file(resolve_location(shard.address), target)
        classes = find_class_files(resolve_location(shards[0].address).parent)
        if classes is not None:
            for name, lines in ((CLASS_NAMES, classes.names), (CLASS_TEMPLATES, classes.templates)):
                write_file_atomically(folder / name, "".join(f"{line}\n" for line in lines).encode(), folder)
    except OSError as error:
        raise WorkError(f"{folder}: cannot be written ({error.strerror or error}). {DISK_REMEDY}") from error
    return folder


def _name_copies(shards: Sequence[ShardInfo]) -> Mapping[str, str]:
    """Return a name for the copy of each shard: its own where no two have one, else with its number."""
    own = {shard.address: posixpath.basename(shard.address.partition("?")[0]) for shard in shards}
    if len(set(own.values())) == len(own) and all(name.endswith(".tar") for name in own.values()):
        return own
    return {shard.address: f"{number:05d}.tar" for number, shard in enumerate(shards)}


def _copy_file(shard: Location, target: Path) -> None:
    def copy(temporary: Path) -> None:
        options: dict[str, object] = {"block_size": 0} if shard.scheme in WEB_SCHEMES else {}
        with shard.files.open(shard.path, "rb", **options) as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)

    with stage_file_replacement(target, target.parent) as temporary:
        try:
            retry(lambda: copy(temporary), RETRY_SECONDS)
        except OSError as error:
            raise WorkError(
                f"{shard.address}: cannot be fetched ({error}). What has arrived is kept: run the same command again, "
                "or bring a copy here"
            ) from error


def find_packed_classes(places: Sequence[str]) -> ClassFiles | None:
    """Return the classes of shards that were packed with class labels, if all places have the same ones."""
    found: list[ClassFiles | None] = []
    for place in places:
        folder = Path(place)
        try:
            document = json.loads((folder / PACKED_FILE).read_bytes())
        except (OSError, ValueError):
            return None
        labelled = isinstance(document, dict) and document.get("layout") == CLASS_KIND
        found.append(find_class_files(resolve_location(str(folder))) if labelled else None)
    return found[0] if found and all(each is not None and each == found[0] for each in found) else None
