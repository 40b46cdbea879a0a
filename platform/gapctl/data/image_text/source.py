"""Locate the image-text pairs of a sweep file: their manifest, held-out pairs and questions.

1. `resolve_pair_paths` turns the configuration's names into absolute `PairPaths`; `bundled` is unpacked to the cache.
2. `hash_pair_data` digests their content for trial ids.
3. `load_pair_manifests` reads the manifests and splits the rows into training and held-out ones.
"""

import hashlib
import lzma
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gapctl.config.trial import PairData
from gapctl.errors import InputError, MissingDataError, WorkError
from gapctl.folders import expand_home, find_cache_root
from gapctl.io.atomic import write_file_atomically
from gapctl.io.hub import convert_hub_file_address
from gapctl.io.scratch import ScratchFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gapctl.data.image_text.manifest import Manifest, ManifestShard
    from gapctl.data.parallel_shards import OnProgress

Named = TypeVar("Named")

BUNDLED: Final = "bundled"
BUNDLE_FOLDER: Final = Path(__file__).parent / "bundled"
BUNDLED_QUESTIONS: Final = BUNDLE_FOLDER / "questions.txt"
"""Zero-shot questions for the bundled pairs."""

MANIFEST_NAME = "manifest.parquet"
EXPECTED = (
    "expected `bundled`, or a folder of shards with their manifest.parquet, or that file; "
    "`gapctl data index SHARDS` makes it. Images with captions in other layouts are packed by themselves"
)


def hash_bundle() -> str:
    """Return 16 hex digits of the packed files. Raise WorkError if the installation is damaged."""
    digest = hashlib.sha256()
    for path in (*_list_archives(), BUNDLED_QUESTIONS):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def find_bundled_manifest() -> Path:
    """Unpack the bundled pairs and return their manifest. Raise InputError if the cache cannot be written."""
    folder = find_cache_root() / "pairs" / f"openmoji-{hash_bundle()}"
    manifest = folder / MANIFEST_NAME
    if not manifest.exists():
        _unpack_archives(folder)
    return manifest


def _list_archives() -> list[Path]:
    archives = sorted(BUNDLE_FOLDER.glob("*.tar.xz"))
    if not archives:
        raise WorkError(f"{BUNDLE_FOLDER}: the bundled pairs are missing. Install gapctl again")
    return archives


def _unpack_archives(folder: Path) -> None:
    from gapctl.data.image_text.index import build_manifest
    from gapctl.data.image_text.manifest import write_manifest
    from gapctl.data.image_text.storage import list_shards
    from gapctl.data.parallel_shards import Workers

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A concurrent process unpacks the same shards, so the first rename may win.
        with ScratchFolder("openmoji", folder.parent) as scratch:
            for path in _list_archives():
                (scratch / path.name.removesuffix(".xz")).write_bytes(lzma.decompress(path.read_bytes()))
            write_manifest(scratch / MANIFEST_NAME, build_manifest(list_shards([str(scratch)]), Workers(1)))
            scratch.chmod(0o755)
            scratch.rename(folder)
    except (OSError, lzma.LZMAError) as error:
        if not (folder / MANIFEST_NAME).exists():
            raise InputError(
                f"{folder}: the bundled pairs cannot be unpacked there ({error}). "
                "Set GAPCTL_CACHE to a folder that can be written to"
            ) from error


@dataclass(frozen=True)
class PairPaths:
    """Paths of a trial's pairs, held-out pairs and questions, as in `PairData`.

    How they are read is not part of it: trials that read them differently share one.
    """

    source: str
    held_out: str
    held_out_share: float
    classes: str


@dataclass(frozen=True, eq=False)
class TrialPairs:
    """The manifests that a trial trains on and is evaluated on, with the rows that it uses."""

    train: "Manifest"
    train_rows: "NDArray[np.int64]"
    held_out: "Manifest"
    held_out_rows: "NDArray[np.int64]"


def resolve_pair_paths(data: PairData) -> PairPaths:
    """Return the absolute paths of a configuration, for a process in any folder."""
    return PairPaths(
        _resolve_path(data.source), _resolve_path(data.held_out), data.held_out_share, _resolve_path(data.classes)
    )


def _resolve_path(place: str) -> str:
    if place in ("", BUNDLED) or "://" in place:
        return place
    return str(expand_home(place).absolute())


def find_manifest(source: str) -> Path | str:
    """Return the manifest's path or address; a place of another layout than shards is packed into the cache first.

    Raise InputError if it is missing, or the place is of no known layout.
    """
    from gapctl.data.image_text.pack import find_or_pack_shards
    from gapctl.data.image_text.records import EXPECTED as EXPECTED_LAYOUTS
    from gapctl.data.image_text.storage import expand_braces
    from gapctl.data.image_text.tables import is_manifest_file, is_table

    if source == BUNDLED:
        return find_bundled_manifest()
    if "://" in source:
        address = convert_hub_file_address(source)
        folder = address.rpartition("/")[0] if _names_tars(source) else address.rstrip("/")
        remote = address if address.endswith(".parquet") else f"{folder}/{MANIFEST_NAME}"
        if is_manifest_file(remote):
            return remote
    else:
        path = expand_home(source).absolute()
        near = path.parent if _names_tars(source) else path
        manifest = near / MANIFEST_NAME if near.is_dir() else path
        if manifest.is_file() and manifest.suffix == ".parquet" and not is_table(str(manifest)):
            return manifest
        if len(expand_braces(source)) == 1 and not path.exists():
            raise MissingDataError(f"{source}: no such file or folder; {EXPECTED_LAYOUTS}", absent=True)
    resolved = find_or_pack_shards([source], local=False)[0]
    if resolved.packed is None:
        raise InputError(f"{source}: no manifest.parquet beside these shards; {_explain_how_to_index(source)}")
    return Path(resolved.shards[0]) / MANIFEST_NAME


def _names_tars(source: str) -> bool:
    """Return whether a source names tar files by a path or an address, with braces or without."""
    return source.endswith(".tar")


def _names_tars_beside(source: str, manifest: Path | str) -> bool:
    """Return whether a source names tar files that lie in the same folder as their manifest.

    Tar files that were packed into the cache have their manifest there, which lists the packed shards instead.
    """
    if not _names_tars(source):
        return False
    if isinstance(manifest, str):
        return convert_hub_file_address(source).rpartition("/")[0] == manifest.rpartition("/")[0]
    return "://" not in source and expand_home(source).absolute().parent == manifest.parent


def _explain_how_to_index(source: str) -> str:
    """Return how to make the manifest of shards, and how to name it."""
    if "://" not in source:
        return EXPECTED
    return (
        f"expected one. `gapctl data index '{source}' --out PLACE.parquet` makes it, at a path or an address that can "
        "be written to, such as s3://BUCKET/cc12m.parquet; then that file is the data.source"
    )


def find_questions_file(places: PairPaths) -> Path | None:
    """Return the path of the zero-shot questions, of a copy if they lie elsewhere; the bundled pairs have their own."""
    if "://" in places.classes:
        content = _read_questions(places.classes)
        copy = find_cache_root() / "questions" / f"{hashlib.sha256(content).hexdigest()[:32]}.txt"
        if not copy.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_file_atomically(copy, content)
        return copy
    if places.classes:
        return Path(places.classes)
    return BUNDLED_QUESTIONS if (places.held_out or places.source) == BUNDLED else None


def hash_pair_data(data: PairData) -> str:
    """Return a digest of all data that a trial reads: pairs, held-out pairs and questions. It is fast.

    Pairs without further files have their manifest's fingerprint. Raise MissingDataError for missing data.
    """
    parts = []
    for key, place, compute_hash in (
        ("data.source", data.source, _hash_manifest),
        ("data.held_out", data.held_out, _hash_manifest),
        ("data.classes", data.classes, _hash_questions),
    ):
        if place:
            try:
                parts.append(compute_hash(place))
            except InputError as error:
                absent = isinstance(error, MissingDataError) and error.absent
                raise MissingDataError(str(error), key, absent=absent) from error
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _hash_manifest(source: str) -> str:
    from gapctl.data.image_text.manifest import hash_shards

    return hash_bundle() if source == BUNDLED else hash_shards(_read_records(source))


def _read_records(source: str) -> "list[ManifestShard]":
    """Return what the manifest of a source says about its shards, or about those that the source names."""
    from gapctl.data.image_text.manifest import read_manifest_shards

    path = find_manifest(source)
    shards = read_manifest_shards(path)
    return _select_named(source, shards, lambda shard: shard.address) if _names_tars_beside(source, path) else shards


def _hash_questions(classes: str) -> str:
    return hashlib.sha256(_read_questions(classes)).hexdigest()


def _read_questions(classes: str) -> bytes:
    from gapctl.data.image_text.locations import resolve_location

    if "://" in classes:
        return resolve_location(classes).read_whole()
    try:
        return expand_home(classes).read_bytes()
    except OSError as error:
        raise InputError(f"{classes}: cannot be read ({error.strerror}); expected a file of questions") from error


def find_held_out_shortage(data: PairData, asked: int) -> int | None:
    """Return the number of held-out pairs if it is less than `asked`, else None. It is fast.

    A share of very many pairs is not counted, as it is never that small.
    """
    place = data.held_out or data.source
    usable = sum(record.usable for record in _read_records(place))
    if not data.held_out:
        if usable * data.held_out_share > 4 * asked:
            return None
        usable = len(load_pair_manifests(resolve_pair_paths(data)).held_out_rows)
    return usable if usable < asked else None


def prepare_large_source(places: PairPaths, on_progress: "OnProgress") -> None:
    """Make what the trainings of a machine share of a large manifest, which takes seconds once; they then find it.

    These are the rows to train on, and their table. `on_progress` gets the samples of both that are done, and all.
    Raise InputError if the manifest is missing.
    """
    from gapctl.data.image_text.manifest import build_pair_table, read_manifest, split_training_validation_rows

    path = None if places.held_out else find_manifest(places.source)
    if path is not None and not _names_tars_beside(places.source, path):
        manifest = read_manifest(path)
        if manifest.file is not None:
            row_N, _ = split_training_validation_rows(
                manifest, places.held_out_share, on_progress=lambda done, total: on_progress(done, 2 * total)
            )
            if len(row_N):
                build_pair_table(manifest, row_N, lambda done, total: on_progress(total + done, 2 * total))


@lru_cache(maxsize=2)
def load_pair_manifests(places: PairPaths) -> TrialPairs:
    """Return the manifests and rows; they are cached for the trials of this process.

    Raise InputError if a manifest is missing or older than its shards, if nothing is left to train or evaluate on, and
    if an image is both trained and evaluated on.
    """
    from gapctl.data.image_text.manifest import split_training_validation_rows

    train = _read_current_manifest(places.source)
    if places.held_out:
        other = _read_current_manifest(places.held_out)
        rows, other_rows = train.usable_rows, other.usable_rows
        shared = _count_shared_images(other, train)
        if shared:
            raise InputError(
                f"data.held_out {places.held_out}: {shared:,} of its {other.usable_count:,} images are among those of "
                f"{places.source}, which are trained on. `gapctl data reshard --validation` makes shards that share "
                "none; without held_out, held_out_share takes a part of the source"
            )
    else:
        other = train
        rows, other_rows = split_training_validation_rows(train, places.held_out_share)
    for place, row_N in ((places.source, rows), (places.held_out or places.source, other_rows)):
        if not len(row_N):
            raise InputError(f"{place}: no pair is left to {'train' if row_N is rows else 'measure'} on; {EXPECTED}")
    return TrialPairs(train, rows, other, other_rows)


def _count_shared_images(other: "Manifest", train: "Manifest") -> int:
    """Count the usable samples of a manifest whose image is among those of another."""
    import numpy as np

    mark_N, trained_M = (each.select_usable("image_mark").to_series().to_numpy() for each in (other, train))
    trained_M = np.sort(trained_M)
    place_N = np.searchsorted(trained_M, mark_N)
    return int((trained_M[np.minimum(place_N, len(trained_M) - 1)] == mark_N).sum()) if len(trained_M) else 0


def _read_current_manifest(source: str) -> "Manifest":
    from gapctl.data.image_text.index import join_manifests, split_by_shard
    from gapctl.data.image_text.manifest import read_manifest, require_unchanged_shards

    path = find_manifest(source)
    manifest = read_manifest(path)
    if _names_tars_beside(source, path):
        parts = _select_named(source, split_by_shard(manifest), lambda part: part.shards[0].address)
        if len(parts) < len(manifest.shards):
            manifest = replace(join_manifests(parts, manifest.captions), reading=manifest.reading)
    require_unchanged_shards(path, manifest)
    return manifest


def _select_named(source: str, shards: list[Named], find_address: Callable[[Named], str]) -> list[Named]:
    """Return the shards of a manifest that a source names by their tars, in that order.

    Raise InputError for one that the manifest does not have.
    """
    from gapctl.data.image_text.storage import expand_place

    known = {find_address(shard): shard for shard in shards}
    names = [name if "://" in name else str(expand_home(name).absolute()) for name in expand_place(source)]
    if missing := [name for name in names if name not in known]:
        raise InputError(
            f"{source}: the manifest beside it does not have {missing[0]}; {_explain_how_to_index(source)}"
        )
    return [known[name] for name in names]
