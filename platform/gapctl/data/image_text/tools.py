"""Rewrite, count and verify sets of image-text shards.

1. `reshard_pairs` writes pairs anew in the img2dataset layout: shards of equal size, shuffled, resized, split in two.
2. `compute_pair_stats` describes a manifest's samples, with their words.
3. `verify_shards` and `verify_manifest_shards` decode every image and report problems.

Written files depend on the samples and the request alone, to the last byte (resized images also on Pillow's version).
"""

import io
import json
import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.image import decode_rgb_image
from gapctl.data.image_text.index import Sample, build_manifest, decode_image, read_sample_by_row
from gapctl.data.image_text.manifest import Manifest, ManifestShard, choose_validation_images
from gapctl.data.image_text.shard_index import SampleRow, hash_to_64_bits
from gapctl.data.image_text.storage import ShardInfo, ShardReader, find_shards
from gapctl.data.image_text.tar import SampleProblem, ShardBytes
from gapctl.data.parallel_shards import OnProgress, Workers, ignore_progress
from gapctl.data.rng import Purpose, make_generator
from gapctl.errors import InputError, WorkError
from gapctl.io.files import Folder
from gapctl.io.retry import is_hidden_or_system_file

REQUEST_FILE: Final = ".resharding.json"
JPEG_QUALITY: Final = 95
IMAGE_SUFFIXES: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}
SAMPLE_PARTS: Final = ("image", "caption", "json")
NEEDED_COLUMNS: Final = (
    "shard",
    "key",
    "form",
    "captions",
    *(f"{part}_{what}" for part in SAMPLE_PARTS for what in ("offset", "bytes")),
)
QUANTILES: Final = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
SHOWN_WORDS: Final = 30
_SHORTER: Final = pl.min_horizontal("width", "height")
STAT_COLUMNS: Final = {
    "caption_words": pl.col("words") / pl.col("captions"),
    "caption_characters": (pl.col("characters") + 1) / pl.col("captions") - 1,
    "captions": pl.col("captions"),
    "image_shorter_side": _SHORTER,
    "image_aspect": pl.max_horizontal("width", "height") / _SHORTER,
}
"""The columns of `PairStats` by name."""
_WORD: Final = re.compile(r"\w[\w'’-]*")
SHARD_MISSING: Final = "is gone"


@dataclass(frozen=True)
class ReshardRequest:
    """The settings that determine the files: the pairs' fingerprint and the layout.

    `shuffle` is a seed, None to keep the order; `resize` is the shorter side of larger images; `validation` is the
    share that goes into shards of its own, chosen by `split_seed`.
    """

    fingerprint: str
    per_shard: int
    shuffle: int | None = None
    resize: int | None = None
    validation: float = 0.0
    split_seed: int = 0


@dataclass(frozen=True)
class ShardWriteTask:
    """An output shard, the rows of its samples, and the number that its keys begin with."""

    address: str
    number: int
    digits: int
    rows: pl.DataFrame
    resize: int | None

    @property
    def folder(self) -> str:
        """The path or address of the folder that the shard is written to."""
        return self.address.rpartition("/")[0]


@dataclass(frozen=True)
class ReshardResult:
    """Shards of each split by name, the number `made` by this run, and the dropped samples by their old keys."""

    shards: dict[str, int]
    samples: dict[str, int]
    made: int
    dropped: Sequence[str]


def reshard_pairs(
    manifest: Manifest,
    request: ReshardRequest,
    out: Path | str,
    workers: Workers,
    on_progress: OnProgress = ignore_progress,
) -> ReshardResult:
    """Write the usable samples of a manifest to a path or an address, continuing interrupted work.

    `on_progress` gets the finished samples and all samples. Raise InputError if the folder holds anything else,
    WorkError if a shard cannot be read or written.
    """
    splits = split_pairs(manifest, request)
    folder = Folder(str(out), "--out")
    plans = [plan for name, places in splits.items() for plan in _plan_shards(folder, name, places, request, splits)]
    _prepare_folder(folder, request)
    there = {f"{place}/{name}" for place in {plan.folder for plan in plans} for name in Folder(place).names("")}
    left = [plan for plan in plans if plan.address not in there]
    total, dropped = manifest.usable_count, list[str]()
    done = total - sum(len(plan.place_N) for plan in left)
    on_progress(done, total)
    for place, undecodable in workers.each(write_shard, _ShardWriteTasks(left, manifest, request.resize)):
        done += len(left[place].place_N)
        dropped += undecodable
        on_progress(done, total)
    folder.remove(REQUEST_FILE)
    samples = {name: len(places) for name, places in splits.items()}
    shards = {name: -(-count // request.per_shard) for name, count in samples.items()}
    return ReshardResult(shards, samples, len(left), dropped)


def split_pairs(manifest: Manifest, request: ReshardRequest) -> dict[str, NDArray[np.int64]]:
    """Return the samples of each split in the order of writing, by their places among the usable ones.

    Samples with the same image go the same way, so that no image is both trained on and validated. The way depends on
    the image and the seed alone, not on other data.
    """
    place_N = np.arange(manifest.usable_count)
    if request.shuffle is not None:
        place_N = make_generator(Purpose.SHARDS, request.shuffle).permutation(len(place_N))
    if not request.validation:
        return {"train": place_N}
    mark_N = manifest.select_usable("image_mark").to_series().to_numpy()
    out_N = choose_validation_images(mark_N, request.validation, request.split_seed)[place_N]
    return {"train": place_N[~out_N], "validation": place_N[out_N]}


class _ShardPlan(NamedTuple):
    """An output shard: its folder, name and number, the digits of its keys, and the places of its samples."""

    folder: str
    number: int
    digits: int
    place_N: NDArray[np.int64]

    @property
    def address(self) -> str:
        return f"{self.folder}/{self.number:05d}.tar"


def _plan_shards(
    out: Folder, split: str, place_N: NDArray[np.int64], request: ReshardRequest, splits: Collection[str]
) -> list[_ShardPlan]:
    root = out.address.rstrip("/") if out.disk is None else str(out.disk)
    folder = f"{root}/{split}" if len(splits) > 1 else root
    digits = max(4, len(str(request.per_shard - 1)))
    firsts = range(0, len(place_N), request.per_shard)
    return [
        _ShardPlan(folder, number, digits, place_N[first : first + request.per_shard])
        for number, first in enumerate(firsts)
    ]


class _ShardWriteTasks(Sequence[ShardWriteTask]):
    """The tasks of these plans, each made when it is asked for: rows of all samples would not fit into memory.

    What writing needs of a sample is kept in 70 bytes, with shards and forms by number.
    """

    def __init__(self, plans: Sequence[_ShardPlan], manifest: Manifest, resize: int | None) -> None:
        shards, forms = dict.fromkeys(shard.address for shard in manifest.shards), list(IMAGE_SUFFIXES)
        columns: dict[str, pl.Expr] = {name: pl.col(name) for name in NEEDED_COLUMNS}
        columns |= {"shard": pl.col("shard").cast(pl.Enum(list(shards))), "form": pl.col("form").cast(pl.Enum(forms))}
        self._rows = manifest.select_usable(*columns.values()) if plans else pl.DataFrame()
        self._plans, self._resize = plans, resize

    def __len__(self) -> int:
        return len(self._plans)

    def __getitem__(self, place: int) -> ShardWriteTask:  # type: ignore[override]
        plan = self._plans[place]
        rows = self._rows[plan.place_N].cast({"shard": pl.String, "form": pl.String})
        return ShardWriteTask(plan.address, plan.number, plan.digits, rows, self._resize)


def _prepare_folder(out: Folder, request: ReshardRequest) -> None:
    wanted = json.dumps(asdict(request)).encode()
    try:
        marked = out.read(REQUEST_FILE)
        if marked is None and any(not is_hidden_or_system_file(name) for name in out.names("")):
            raise InputError(
                f"--out {out.address}: holds other data; expected a new or empty folder. Nothing was written"
            )
        if marked not in (None, wanted):
            raise InputError(
                f"--out {out.address}: was begun otherwise ({marked.decode() if marked else ''}). Give another folder, "
                "or delete this one. Nothing was written"
            )
        out.write(REQUEST_FILE, wanted)
    except WorkError as error:
        reason = getattr(error.__cause__, "strerror", None) or error.__cause__
        raise InputError(f"--out {out.address}: cannot be written ({reason}); expected a folder that can") from error


def write_shard(task: ShardWriteTask) -> list[str]:
    """Write one shard atomically, and return the keys of images that cannot be decoded.

    Raise WorkError if the samples cannot be read or the shard cannot be written.
    """
    from webdataset import TarWriter

    dropped = list[str]()
    try:
        # A fixed time, because webdataset would write the present one.
        with (
            Folder(task.folder, "--out").stage_file(task.address.rpartition("/")[2]) as temporary,
            temporary.open("wb") as file,
            ShardReader() as opened,
            TarWriter(file, encoder=False, mtime=0) as writer,
        ):
            for place, row in enumerate(task.rows.iter_rows(named=True)):
                sample = read_sample_by_row(row, partial(opened.read, row["shard"]))
                try:
                    members = _build_members(sample, IMAGE_SUFFIXES[row["form"]], task, place)
                except ValueError:
                    dropped.append(sample.key)
                else:
                    writer.write(members)
    except OSError as error:
        raise WorkError(
            f"{task.address}: cannot be made ({error}). The finished shards are kept: the same command makes what is "
            "left"
        ) from error
    return dropped


def _build_members(sample: Sample, ending: str, task: ShardWriteTask, place: int) -> dict[str, object]:
    """Return a sample's members in webdataset's layout. Raise ValueError if its image cannot be decoded."""
    key = f"{task.number:05d}{place:0{task.digits}d}"
    about = {**sample.about, "key": key, "caption": sample.caption, "source_key": sample.key}
    if sample.captions > 1:
        del about["caption"]  # a json that has the whole text says that it is one caption
    image = sample.image
    if task.resize is not None and (resized := _resize_image(sample, task.resize)) is not None:
        image, (width, height) = resized
        about |= {"width": width, "height": height}
        ending = "jpg"
    text = json.dumps(about).encode()
    return {"__key__": key, ending: image, "txt": str(sample.caption).encode(), "json": text}


def _resize_image(sample: Sample, side: int) -> tuple[bytes, tuple[int, int]] | None:
    """Return a JPEG whose shorter side is `side`, and its size, or None if the image is not larger.

    Raise ValueError if it cannot be decoded.
    """
    from PIL import Image

    picture = decode_image(sample)
    shorter = min(picture.size)
    if shorter <= side:
        return None
    size = max(1, round(picture.width * side / shorter)), max(1, round(picture.height * side / shorter))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue(), size


@dataclass(frozen=True)
class ColumnStats:
    """The mean of a column, its values at `QUANTILES`, and the frequency of each rounded value."""

    mean: float
    quantiles: tuple[float, ...]
    counts: Mapping[int, int]


@dataclass(frozen=True)
class DuplicateCounts:
    """The number of distinct values that occur more than once, and of samples beyond the first of each."""

    values: int
    beyond_first: int


@dataclass(frozen=True)
class VocabularyStats:
    """Statistics of words (case folded).

    These are distinct words, occurrences, the number of words that make 90 % of them, that of words that occur once,
    and the commonest words; `captions` is the number of samples whose captions were read.
    """

    words: int
    occurrences: int
    for_90_percent: int
    once: int
    commonest: Sequence[tuple[str, int]]
    captions: int


@dataclass(frozen=True)
class PairStats:
    """Statistics of the usable samples, except `samples` and `problems`, which are of all.

    Of an image's several captions, `caption_words` and `caption_characters` take the mean, and `repeated_captions`
    compares all together.
    Images count as repeated if their length and both their ends are the same; `verify_shards` compares them in full.
    """

    samples: int
    usable: int
    problems: Mapping[str, int]
    bytes: int
    caption_words: ColumnStats
    caption_characters: ColumnStats
    image_shorter_side: ColumnStats
    image_aspect: ColumnStats
    captions: ColumnStats
    forms: Mapping[str, int]
    repeated_captions: DuplicateCounts
    repeated_images: DuplicateCounts
    vocabulary: VocabularyStats


def compute_pair_stats(
    manifest: Manifest,
    workers: Workers,
    words_of: int | None = None,
    on_progress: OnProgress = ignore_progress,
) -> PairStats:
    """Return the statistics of a manifest; captions are read for their words.

    With `words_of`, the captions of about so many samples are read, of whole shards at equal distances. `image_aspect`
    is the longer side over the shorter one. `on_progress` gets the captions that were read, and all. Raise WorkError if
    a shard cannot be read.
    """
    problems = manifest.select_problems("problem")["problem"].value_counts(sort=True)
    return PairStats(
        samples=manifest.sample_count,
        usable=manifest.usable_count,
        problems=dict(problems.iter_rows()),
        bytes=sum(shard.bytes for shard in manifest.shards),
        **{name: _summarise_column(manifest, name) for name in STAT_COLUMNS},
        forms=dict(manifest.select_usable(pl.col("form").value_counts(sort=True)).unnest("form").iter_rows()),
        repeated_captions=_count_duplicates(manifest, "caption_mark"),
        repeated_images=_count_duplicates(manifest, "image_mark"),
        vocabulary=_summarise_vocabulary(manifest, workers, words_of, on_progress),
    )


def _summarise_column(manifest: Manifest, name: str) -> ColumnStats:
    column = manifest.select_usable(STAT_COLUMNS[name].alias(name)).to_series()
    counts = column.round().cast(pl.Int64).value_counts().sort(name)
    mean, ordered = float(column.mean() or 0), column.sort()  # type: ignore[arg-type]
    quantiles = tuple(float(ordered.quantile(share, "nearest") or 0) for share in QUANTILES)
    return ColumnStats(mean, quantiles, dict(counts.iter_rows()))


def _count_duplicates(manifest: Manifest, name: str) -> DuplicateCounts:
    mark_N = np.sort(manifest.select_usable(name).to_series().to_numpy())
    again = mark_N[1:] == mark_N[:-1]
    return DuplicateCounts(len(np.unique(mark_N[1:][again])), int(again.sum()))


def _summarise_vocabulary(
    manifest: Manifest, workers: Workers, words_of: int | None, on_progress: OnProgress
) -> VocabularyStats:
    counts, read = Counter[str](), 0
    shards = [shard for shard in manifest.shards if shard.usable]
    total = sum(shard.usable for shard in shards)
    if words_of is not None and words_of < total:
        chosen = np.linspace(0, len(shards) - 1, max(1, round(words_of / total * len(shards)))).round().astype(int)
        shards = [shards[place] for place in np.unique(chosen).tolist()]
        total = sum(shard.usable for shard in shards)
    tasks = _CaptionTasks(manifest, [shard.address for shard in shards])
    on_progress(0, total)
    for place, counted in workers.each(count_words, tasks):
        counts.update(counted)
        read += shards[place].usable
        on_progress(read, total)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    occurrences, reached, needed = counts.total(), 0, 0
    for _, count in ordered:
        if reached >= 0.9 * occurrences:
            break
        reached, needed = reached + count, needed + 1
    once = sum(count == 1 for count in counts.values())
    return VocabularyStats(len(counts), occurrences, needed, once, ordered[:SHOWN_WORDS], read)


CaptionPlaces = list[tuple[str, int, int]]
"""Shard, offset and bytes of captions of one shard, in the order of their offsets."""


class _CaptionTasks(Sequence[CaptionPlaces]):
    """The captions of these shards, each shard's looked up when it is asked for."""

    def __init__(self, manifest: Manifest, addresses: Sequence[str]) -> None:
        self._manifest, self._addresses = manifest, addresses

    def __len__(self) -> int:
        return len(self._addresses)

    def __getitem__(self, place: int) -> CaptionPlaces:  # type: ignore[override]
        rows = self._manifest.select_shard(
            self._addresses[place], "shard", "caption_offset", "caption_bytes", "problem"
        )
        return rows.filter(pl.col("problem").is_null()).drop("problem").sort("caption_offset").rows()


def count_words(captions: CaptionPlaces) -> Counter[str]:
    """Return the frequencies of words in the captions of a shard at (shard, offset, bytes), in ascending order."""
    counts = Counter[str]()
    try:
        with ShardReader() as opened:
            for content in opened.read_ranges(captions[0][0], [(start, size) for _, start, size in captions]):
                counts.update(_WORD.findall(content.decode("utf-8-sig", "replace").casefold()))
    except OSError as error:
        raise WorkError(f"{error}; run `gapctl data index` again") from error
    return counts


class FaultyShard(NamedTuple):
    """A shard with a fault beyond single samples."""

    address: str
    what: str


@dataclass(frozen=True)
class PairVerification:
    """The shards as a manifest (`image_mark` is of whole images here), and the faults of shards.

    `repeated` counts images that occur under several keys, beyond the first: common in web data, and not an error.
    """

    found: Manifest
    wrong: Sequence[FaultyShard]
    repeated: int

    @property
    def problems(self) -> pl.DataFrame:
        """The samples that are left out: shard, key, offset, problem."""
        return self.found.select_problems("shard", "key", "offset", "problem")

    @property
    def sound(self) -> bool:
        """Whether there is no problem."""
        return not self.wrong and not len(self.problems)


def verify_shards(
    shards: Sequence[ShardInfo],
    workers: Workers,
    on_progress: OnProgress = ignore_progress,
    captions: CaptionLineMode | None = None,
) -> PairVerification:
    """Decode every image of these shards; `on_progress` gets the finished bytes and all bytes.

    `captions` says what several lines of a text are; without it each sample does.
    """
    manifest = build_manifest(shards, workers, _verify_sample, on_progress, captions)
    damaged = [FaultyShard(shard.address, shard.damage) for shard in manifest.shards if shard.damage]
    return PairVerification(manifest, damaged, _count_duplicates(manifest, "image_mark").beyond_first)


def verify_manifest_shards(
    manifest: Manifest,
    workers: Workers,
    on_progress: OnProgress = ignore_progress,
    only: Collection[str] | None = None,
) -> PairVerification:
    """Decode every image of a manifest's shards, and compare each shard with its record.

    Of `only` these shards images are decoded, and of the others sizes and times are compared. Raise InputError for one
    that the manifest does not have.
    """
    addresses = [shard.address for shard in manifest.shards]
    if unknown := set(only or ()) - set(addresses):
        raise InputError(
            f"{min(unknown)}: is not in the manifest, which has {len(addresses):,} other shards; `gapctl data index` "
            "adds it"
        )
    decoded = set(addresses if only is None else only)
    now = dict(zip(addresses, find_shards(addresses), strict=True))
    there = [stored for address, stored in now.items() if stored is not None and address in decoded]
    verified = verify_shards(there, workers, on_progress, manifest.captions)
    verified = replace(verified, found=replace(verified.found, reading=manifest.reading))
    current = {shard.address: shard for shard in verified.found.shards}
    found = {
        record.address: _describe_difference(record, current.get(record.address))
        if record.address in decoded
        else _describe_changed_shard(record, now[record.address])
        for record in manifest.shards
    }
    wrong = [FaultyShard(address, what) for address, what in found.items() if what is not None]
    return replace(verified, wrong=[*wrong, *verified.wrong])


def _describe_changed_shard(record: ManifestShard, there: ShardInfo | None) -> str | None:
    if there is None:
        return SHARD_MISSING
    if there.bytes != record.bytes:
        return f"{there.bytes:,} bytes, {record.bytes:,} when it was indexed"
    return "was written again since it was indexed" if record.modified and there != record.stored else None


def _describe_difference(record: ManifestShard, current: ManifestShard | None) -> str | None:
    if current is None:
        return SHARD_MISSING
    if current.bytes != record.bytes:
        return f"{current.bytes:,} bytes, {record.bytes:,} when it was indexed"
    if current.fingerprint != record.fingerprint:
        return "its content is not what was indexed"
    return None


def _verify_sample(content: ShardBytes, sample: SampleRow) -> SampleRow:
    """Decode the image, and mark the sample by the whole of it."""
    image, problem = content[sample.image_offset : sample.image_offset + sample.image_bytes], sample.problem
    if problem is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                decode_rgb_image(image)
            except ValueError:
                problem = SampleProblem.UNREADABLE.value
    return sample._replace(image_mark=hash_to_64_bits(image), problem=problem)
