"""Image-text pairs as a sweep file names them: where their manifest lies, what stands for them, what is held out."""

import hashlib
import lzma
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gapctl.config.trial import PairData
from gapctl.data.image_text.index import about_of
from gapctl.data.image_text.manifest import Manifest
from gapctl.data.image_text.questions import Question, labels_of
from gapctl.data.image_text.storage import OpenShards
from gapctl.data.rng import Purpose, generator
from gapctl.errors import InputError, WorkError
from gapctl.folders import cache_root, expand_home

if TYPE_CHECKING:
    import numpy as np


BUNDLED: Final = "bundled"
FOLDER: Final = Path(__file__).parent / "bundled"
QUESTIONS: Final = FOLDER / "questions.txt"
"""Zero-shot questions that the bundled pairs answer."""


def bundle_fingerprint() -> str:
    """16 hex digits that stand for the packed files; raises WorkError where the installation is damaged."""
    digest = hashlib.sha256()
    for path in (*_packed(), QUESTIONS):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def bundled_manifest() -> Path:
    """The manifest of the unpacked pairs; raises InputError where the cache cannot be written."""
    folder = cache_root() / "pairs" / f"openmoji-{bundle_fingerprint()}"
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        _unpack(folder)
    return manifest


def _packed() -> list[Path]:
    found = sorted(FOLDER.glob("*.tar.xz"))
    if not found:
        raise WorkError(f"{FOLDER}: the bundled pairs are missing. Install gapctl again")
    return found


def _unpack(folder: Path) -> None:
    from gapctl.data.image_text.index import look_at
    from gapctl.data.image_text.manifest import write_manifest
    from gapctl.data.image_text.storage import Workers, stored_shards

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever unpacks at the same time makes the same shards: the first folder that gets the name stays.
        scratch = Path(tempfile.mkdtemp(prefix=".openmoji-", dir=folder.parent))
        try:
            for path in _packed():
                (scratch / path.name.removesuffix(".xz")).write_bytes(lzma.decompress(path.read_bytes()))
            write_manifest(scratch / "manifest.parquet", look_at(stored_shards([str(scratch)]), Workers(1)))
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, lzma.LZMAError) as error:
        if not (folder / "manifest.parquet").exists():
            raise InputError(
                f"{folder}: the bundled pairs cannot be unpacked there ({error}). "
                "Set GAPCTL_CACHE to a folder that can be written to"
            ) from error


MANIFEST = "manifest.parquet"
EXPECTED = (
    "expected `bundled`, or a folder of shards with their manifest.parquet, or that file; "
    "`gapctl data index SHARDS` makes it"
)


@dataclass(frozen=True)
class PairPlaces:
    """Where a trial's pairs, held-out pairs and questions lie, as `PairData` names them; how they are read is the
    trial's own matter, as trials that read them otherwise share these."""

    source: str
    held_out: str
    held_out_share: float
    classes: str


@dataclass(frozen=True, eq=False)
class Pairs:
    """The manifests that a trial trains on and is measured on, with the numbers of the rows that it uses."""

    train: "Manifest"
    train_rows: "NDArray[np.int64]"
    held_out: "Manifest"
    held_out_rows: "NDArray[np.int64]"


def places_of(data: PairData) -> PairPlaces:
    """The places of a configuration, for a process in any folder."""
    return PairPlaces(_absolute(data.source), _absolute(data.held_out), data.held_out_share, _absolute(data.classes))


def _absolute(place: str) -> str:
    if place in ("", BUNDLED) or "://" in place:
        return place
    return str(expand_home(place).absolute())


def manifest_path(source: str) -> Path:
    """The manifest's file; raises InputError where there is none."""
    if source == BUNDLED:
        return bundled_manifest()
    path = expand_home(source).absolute()
    found = path / MANIFEST if path.is_dir() else path
    if not found.is_file():
        problem = "no manifest.parquet in this folder" if path.is_dir() else "no such file or folder"
        raise InputError(f"{source}: {problem}; {EXPECTED}")
    return found


def questions_path(places: PairPlaces) -> Path | None:
    """The file of zero-shot questions; the bundled pairs bring their own."""
    if places.classes:
        return Path(places.classes)
    return QUESTIONS if BUNDLED in (places.held_out or places.source,) else None


def pairs_fingerprint(data: PairData) -> str:
    """Stands for all that a trial reads: pairs, held-out pairs, questions; quick.

    Pairs without further files have their manifest's fingerprint. Raises MissingDataError for what is missing.
    """
    parts = [_of_key("data.source", lambda: _manifest_fingerprint(data.source))]
    if data.held_out:
        parts.append(_of_key("data.held_out", lambda: _manifest_fingerprint(data.held_out)))
    if data.classes:
        parts.append(_of_key("data.classes", lambda: _content(data)))
    if len(parts) == 1:
        return parts[0]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class MissingDataError(InputError):
    """What one key of a configuration names is not there, or not what it should be."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def _of_key(key: str, ask: Callable[[], str]) -> str:
    try:
        return ask()
    except InputError as error:
        raise MissingDataError(key, str(error)) from error


def _manifest_fingerprint(source: str) -> str:
    from gapctl.data.image_text.manifest import fingerprint_of, read_records

    return bundle_fingerprint() if source == BUNDLED else fingerprint_of(read_records(manifest_path(source)))


def _content(data: PairData) -> str:
    try:
        return hashlib.sha256(expand_home(data.classes).read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{data.classes}: cannot be read ({error.strerror}); expected a file of questions") from error


def held_out_at_most(data: PairData, asked: int) -> int | None:
    """How many pairs are held out where they are fewer than asked for, else None; quick.

    Where a share of very many is held out it is not counted, as so few are never asked for.
    """
    from gapctl.data.image_text.manifest import read_records

    place = data.held_out or data.source
    usable = sum(record.usable for record in read_records(manifest_path(place)))
    if not data.held_out:
        if usable * data.held_out_share > 4 * asked:
            return None
        usable = len(open_pairs(places_of(data)).held_out_rows)
    return usable if usable < asked else None


@lru_cache(maxsize=2)
def open_pairs(places: PairPlaces) -> Pairs:
    """The manifests, kept for the trials of this process that share them.

    Raises InputError where a manifest is missing or older than its shards, where nothing is left to train or measure
    on, and where an image is both trained and measured on.
    """
    from gapctl.data.image_text.manifest import split_rows

    train = _current(places.source)
    if places.held_out:
        other = _current(places.held_out)
        rows, other_rows = _usable(train), _usable(other)
        _check_apart(places, train, other)
    else:
        other = train
        rows, other_rows = split_rows(train, places.held_out_share)
    for place, found in ((places.source, rows), (places.held_out or places.source, other_rows)):
        if not len(found):
            raise InputError(f"{place}: no pair is left to {'train' if found is rows else 'measure'} on; {EXPECTED}")
    return Pairs(train, rows, other, other_rows)


def _check_apart(places: PairPlaces, train: "Manifest", held_out: "Manifest") -> None:
    """Refuses held-out images that are trained on."""
    shared = held_out.usable["image_mark"].is_in(train.usable["image_mark"].implode()).sum()
    if shared:
        raise InputError(
            f"data.held_out {places.held_out}: {shared:,} of its {len(held_out.usable):,} images are among those of "
            f"{places.source}, which are trained on. `gapctl data reshard --validation` makes shards that share none; "
            "without held_out, held_out_share takes a part of the source"
        )


def _current(source: str) -> "Manifest":
    from gapctl.data.image_text.manifest import read_manifest, require_current

    path = manifest_path(source)
    manifest = read_manifest(path)
    require_current(path, manifest)
    return manifest


def _usable(manifest: "Manifest") -> "NDArray[np.int64]":
    found: NDArray[np.int64] = (manifest.samples["problem"].is_null()).arg_true().cast(int).to_numpy()
    return found


GALLERY_SEED: Final = 2404_07983


class Told(NamedTuple):
    """A sample, and what its JSON says of it."""

    key: str
    about: Mapping[str, Any]


def gallery_rows(pairs: Pairs, size: int) -> NDArray[np.int64]:
    """`size` of the held-out rows, or all where there are fewer: the same for every seed, in the manifest's order."""
    return some_rows(pairs.held_out_rows, size)


def some_rows(row_N: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """`size` of these rows, or all where there are fewer, in rising order: always the same ones."""
    order_N = generator(Purpose.GALLERY, GALLERY_SEED).permutation(len(row_N))
    chosen_S: NDArray[np.int64] = np.sort(row_N[order_N[:size]])
    return chosen_S


def answers(
    manifest: Manifest, row_N: NDArray[np.int64], questions: Mapping[str, Question]
) -> dict[str, NDArray[np.int64]]:
    """Each row's class by question; raises InputError for a sample that no class of a question fits."""
    told = _told(manifest, row_N) if questions else []
    return {
        key: labels_of("data.classes", told, key, tuple(question.prompts)).label_N
        for key, question in questions.items()
    }


def _told(manifest: Manifest, row_N: NDArray[np.int64]) -> list[Told]:
    columns = manifest.samples[row_N].select("shard", "key", "json_offset", "json_bytes").iter_rows()
    try:
        with OpenShards() as opened:
            return [Told(key, about_of(opened.read(shard, start, size))) for shard, key, start, size in columns]
    except OSError as error:
        raise WorkError(f"held-out pairs cannot be read ({error}); `gapctl data verify` says what is wrong") from error
