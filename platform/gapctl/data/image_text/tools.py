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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from gapctl.data.image_text.class_prompts import CaptionLineMode
from gapctl.data.image_text.image import decode_rgb_image
from gapctl.data.image_text.index import (
    Sample,
    SampleRow,
    build_manifest,
    decode_image,
    hash_to_64_bits,
    read_sample_by_row,
)
from gapctl.data.image_text.manifest import Manifest, ManifestShard, is_validation_image
from gapctl.data.image_text.storage import ShardInfo, ShardReader, find_shard
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
    rows: Sequence[dict[str, Any]]
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
    splits = split_pairs(manifest.usable, request)
    folder = Folder(str(out), "--out")
    tasks = {name: _plan_shards(folder, name, rows, request, len(splits) > 1) for name, rows in splits.items()}
    every = [task for split in tasks.values() for task in split]
    _prepare_folder(folder, request)
    there = {f"{place}/{name}" for place in {task.folder for task in every} for name in Folder(place).names("")}
    left = [task for task in every if task.address not in there]
    total, done, dropped = len(manifest.usable), sum(len(task.rows) for task in every if task not in left), list[str]()
    on_progress(done, total)
    for place, undecodable in workers.each(write_shard, left):
        done += len(left[place].rows)
        dropped += undecodable
        on_progress(done, total)
    folder.remove(REQUEST_FILE)
    samples = {name: len(rows) for name, rows in splits.items()}
    return ReshardResult({name: len(split) for name, split in tasks.items()}, samples, len(left), dropped)


def split_pairs(usable: pl.DataFrame, request: ReshardRequest) -> dict[str, pl.DataFrame]:
    """Return the samples of each split in the order of writing.

    Samples with the same image go the same way, so that no image is both trained on and validated. The way depends on
    the image and the seed alone, not on other data.
    """
    if request.shuffle is not None:
        usable = usable[make_generator(Purpose.SHARDS, request.shuffle).permutation(len(usable))]
    if not request.validation:
        return {"train": usable}
    chosen = [is_validation_image(mark, request.validation, request.split_seed) for mark in usable["image_mark"]]
    validation = pl.Series(chosen, dtype=pl.Boolean)
    return {"train": usable.filter(~validation), "validation": usable.filter(validation)}


def _plan_shards(
    out: Folder, split: str, rows: pl.DataFrame, request: ReshardRequest, several: bool
) -> list[ShardWriteTask]:
    root = out.address.rstrip("/") if out.disk is None else str(out.disk)
    folder = f"{root}/{split}" if several else root
    digits = max(4, len(str(request.per_shard - 1)))
    parts = rows.select(NEEDED_COLUMNS).iter_slices(request.per_shard)
    return [
        ShardWriteTask(f"{folder}/{number:05d}.tar", number, digits, part.to_dicts(), request.resize)
        for number, part in enumerate(parts)
    ]


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
            for place, row in enumerate(task.rows):
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
    and the commonest words.
    """

    words: int
    occurrences: int
    for_90_percent: int
    once: int
    commonest: Sequence[tuple[str, int]]


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


def compute_pair_stats(manifest: Manifest, workers: Workers) -> PairStats:
    """Return the statistics of a manifest; captions are read for their words.

    `image_aspect` is the longer side over the shorter one. Raise WorkError if a shard cannot be read.
    """
    usable = manifest.usable
    problems = manifest.samples["problem"].drop_nulls().value_counts(sort=True)
    return PairStats(
        samples=len(manifest.samples),
        usable=len(usable),
        problems=dict(problems.iter_rows()),
        bytes=sum(shard.bytes for shard in manifest.shards),
        **{name: _summarise_column(usable.select(values.alias(name))[name]) for name, values in STAT_COLUMNS.items()},
        forms=dict(usable["form"].value_counts(sort=True).iter_rows()),
        repeated_captions=_count_duplicates(usable["caption_mark"]),
        repeated_images=_count_duplicates(usable["image_mark"]),
        vocabulary=_summarise_vocabulary(usable, workers),
    )


def _summarise_column(column: pl.Series) -> ColumnStats:
    counts = column.round().cast(pl.Int64).value_counts().sort(column.name)
    quantiles = tuple(float(column.quantile(share, "nearest") or 0) for share in QUANTILES)
    return ColumnStats(float(column.mean() or 0), quantiles, dict(counts.iter_rows()))  # type: ignore[arg-type]


def _count_duplicates(marks: pl.Series) -> DuplicateCounts:
    counts = marks.value_counts(name="times")["times"]
    several = counts.filter(counts > 1)
    return DuplicateCounts(len(several), int(several.sum()) - len(several))


def _summarise_vocabulary(usable: pl.DataFrame, workers: Workers) -> VocabularyStats:
    captions = usable.select("shard", "caption_offset", "caption_bytes").sort("shard", "caption_offset")
    counts = Counter[str]()
    for _, counted in workers.each(count_words, [part.rows() for part in captions.partition_by("shard")]):
        counts.update(counted)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    occurrences, reached, needed = counts.total(), 0, 0
    for _, count in ordered:
        if reached >= 0.9 * occurrences:
            break
        reached, needed = reached + count, needed + 1
    once = sum(count == 1 for count in counts.values())
    return VocabularyStats(len(counts), occurrences, needed, once, ordered[:SHOWN_WORDS])


def count_words(captions: Sequence[tuple[str, int, int]]) -> Counter[str]:
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
        return self.found.samples.filter(pl.col("problem").is_not_null()).select("shard", "key", "offset", "problem")

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
    usable = manifest.usable
    return PairVerification(manifest, damaged, len(usable) - usable["image_mark"].n_unique())


def verify_manifest_shards(
    manifest: Manifest, workers: Workers, on_progress: OnProgress = ignore_progress
) -> PairVerification:
    """Decode every image of a manifest's shards, and compare each shard with its record."""
    now = {shard.address: find_shard(shard.address) for shard in manifest.shards}
    there = [stored for stored in now.values() if stored is not None]
    verified = verify_shards(there, workers, on_progress, manifest.captions)
    verified = replace(verified, found=replace(verified.found, reading=manifest.reading))
    current = {shard.address: shard for shard in verified.found.shards}
    wrong = [
        FaultyShard(record.address, what)
        for record in manifest.shards
        if (what := _describe_difference(record, current.get(record.address))) is not None
    ]
    return replace(verified, wrong=[*wrong, *verified.wrong])


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
