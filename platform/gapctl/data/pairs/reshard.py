"""Writes pairs anew in the img2dataset layout: so many to a shard, shuffled, made smaller, split in two.

The files depend on the samples and the request alone, to the last byte (resized images also on Pillow's version).
"""

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import polars as pl

from gapctl.data.mad.draws import Purpose, generator
from gapctl.data.mad.shards.atomic import appearing, write_whole
from gapctl.data.pairs.manifest import Manifest
from gapctl.data.pairs.samples import Sample, about_of, picture_of
from gapctl.data.pairs.split import held_out
from gapctl.data.pairs.spread import Workers
from gapctl.data.pairs.stored import OpenShards
from gapctl.errors import InputError, WorkError
from gapctl.stores import is_foreign

REQUEST_FILE: Final = ".resharding.json"
QUALITY: Final = 95
ENDINGS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp"}
PARTS: Final = ("image", "caption", "json")
NEEDED: Final = ("shard", "key", "form", *(f"{part}_{what}" for part in PARTS for what in ("offset", "bytes")))
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class ReshardRequest:
    """What decides the files: the pairs' fingerprint, and how they are laid out.

    `shuffle` is a seed, None for the order as it is; `resize` the shorter side that larger images get; `validation`
    the share that goes into shards of its own, chosen by `split_seed`.
    """

    fingerprint: str
    per_shard: int
    shuffle: int | None = None
    resize: int | None = None
    validation: float = 0.0
    split_seed: int = 0


@dataclass(frozen=True)
class ShardToWrite:
    """An output shard, its samples by their rows, and the number that its keys begin with."""

    address: str
    number: int
    digits: int
    rows: Sequence[dict[str, Any]]
    resize: int | None


@dataclass(frozen=True)
class Resharded:
    """Shards of each split by name, of which this run wrote `made`; what it dropped, by the key it had."""

    shards: dict[str, int]
    samples: dict[str, int]
    made: int
    dropped: Sequence[str]


def reshard(
    manifest: Manifest,
    request: ReshardRequest,
    out: Path,
    workers: Workers,
    on_progress: OnProgress = lambda done, total: None,
) -> Resharded:
    """Writes the usable samples of a manifest; stopped work goes on where it was.

    `on_progress` is told how many samples are done, and of how many. Raises InputError where the folder holds anything
    else, WorkError where a shard cannot be read or written.
    """
    splits = split_pairs(manifest.usable, request)
    tasks = {name: _tasks(out, name, rows, request, len(splits) > 1) for name, rows in splits.items()}
    every = [task for split in tasks.values() for task in split]
    _begin(out, request, every)
    left = [task for task in every if not Path(task.address).exists()]
    total, done, dropped = len(manifest.usable), sum(len(task.rows) for task in every if task not in left), list[str]()
    on_progress(done, total)
    for place, undecodable in workers.each(write_shard, left):
        done += len(left[place].rows)
        dropped += undecodable
        on_progress(done, total)
    (out / REQUEST_FILE).unlink()
    samples = {name: len(rows) for name, rows in splits.items()}
    return Resharded({name: len(split) for name, split in tasks.items()}, samples, len(left), dropped)


def split_pairs(usable: pl.DataFrame, request: ReshardRequest) -> dict[str, pl.DataFrame]:
    """The samples of each split in the order in which they are written.

    Samples with the same image go the same way, so that no image is trained on and validated; which way depends on
    the image and the seed alone, not on what else there is.
    """
    if request.shuffle is not None:
        usable = usable[generator(Purpose.SHARDS, request.shuffle).permutation(len(usable))]
    if not request.validation:
        return {"train": usable}
    chosen = [held_out(mark, request.validation, request.split_seed) for mark in usable["image_mark"]]
    validation = pl.Series(chosen, dtype=pl.Boolean)
    return {"train": usable.filter(~validation), "validation": usable.filter(validation)}


def _tasks(out: Path, split: str, rows: pl.DataFrame, request: ReshardRequest, several: bool) -> list[ShardToWrite]:
    folder = out.absolute() / split if several else out.absolute()
    digits = max(4, len(str(request.per_shard - 1)))
    parts = rows.select(NEEDED).iter_slices(request.per_shard)
    return [
        ShardToWrite(str(folder / f"{number:05d}.tar"), number, digits, part.to_dicts(), request.resize)
        for number, part in enumerate(parts)
    ]


def _begin(out: Path, request: ReshardRequest, tasks: Sequence[ShardToWrite]) -> None:
    wanted = json.dumps(asdict(request)).encode()
    try:
        out.mkdir(parents=True, exist_ok=True)
        marked = (out / REQUEST_FILE).read_bytes() if (out / REQUEST_FILE).exists() else None
        if marked is None and any(not is_foreign(path.name) for path in out.iterdir()):
            raise InputError(f"--out {out}: holds other data; expected a new or empty folder. Nothing was written")
        if marked not in (None, wanted):
            raise InputError(
                f"--out {out}: was begun otherwise ({marked.decode() if marked else ''}). Give another folder, or "
                "delete this one. Nothing was written"
            )
        write_whole(out / REQUEST_FILE, wanted, out)
        for folder in {Path(task.address).parent for task in tasks}:
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}); expected a folder that can") from error


def write_shard(task: ShardToWrite) -> list[str]:
    """Writes one shard, which appears whole, and gives the keys of what cannot be decoded.

    Raises WorkError where the samples cannot be read or the shard cannot be written.
    """
    path, dropped = Path(task.address), list[str]()
    try:
        with appearing(path, path.parent) as temporary, temporary.open("wb") as file, OpenShards() as opened:
            _write(file, task, opened, dropped)
    except OSError as error:
        raise WorkError(
            f"{path}: cannot be made ({error}). The finished shards are kept: the same command makes what is left"
        ) from error
    return dropped


def _write(file: BinaryIO, task: ShardToWrite, opened: OpenShards, dropped: list[str]) -> None:
    from webdataset import TarWriter

    # A fixed time: webdataset would write the present one, to the microsecond.
    with TarWriter(file, encoder=False, mtime=0) as writer:
        for place, sample, row in _read(task.rows, opened):
            members = _members(sample, row, task, place)
            if members is None:
                dropped.append(sample.key)
            else:
                writer.write(members)


def _read(rows: Sequence[dict[str, Any]], opened: OpenShards) -> Iterator[tuple[int, Sample, dict[str, Any]]]:
    for place, row in enumerate(rows):
        image, caption, about = (
            opened.read(row["shard"], row[f"{part}_offset"], row[f"{part}_bytes"]) for part in PARTS
        )
        yield place, Sample(row["key"], image, caption.decode("utf-8-sig", "replace").strip(), about_of(about)), row


def _members(sample: Sample, row: dict[str, Any], task: ShardToWrite, place: int) -> dict[str, Any] | None:
    """What webdataset writes of a sample; None where its image cannot be decoded."""
    key = f"{task.number:05d}{place:0{task.digits}d}"
    about = {**sample.about, "key": key, "caption": sample.caption, "source_key": sample.key}
    image, ending = sample.image, ENDINGS[row["form"]]
    if task.resize is not None:
        try:
            resized = _resized(sample, task.resize)
        except ValueError:
            return None
        if resized is not None:
            image, (width, height) = resized
            about |= {"width": width, "height": height}
            ending = "jpg"
    text = json.dumps(about).encode()
    return {"__key__": key, ending: image, "txt": str(sample.caption).encode(), "json": text}


def _resized(sample: Sample, side: int) -> tuple[bytes, tuple[int, int]] | None:
    """A JPEG whose shorter side is `side`, and its size; None where the image is not larger.

    Raises ValueError where it cannot be decoded.
    """
    from PIL import Image

    picture = picture_of(sample)
    shorter = min(picture.size)
    if shorter <= side:
        return None
    size = max(1, round(picture.width * side / shorter)), max(1, round(picture.height * side / shorter))
    buffer = io.BytesIO()
    picture.resize(size, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue(), size
