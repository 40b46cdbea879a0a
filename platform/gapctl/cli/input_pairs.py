"""`--model` with its companions: an open_clip model shown image-text shards while a person watches."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gapctl.data.pairs.caption_lines import CaptionRule
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.data.pairs.manifest import Manifest
    from gapctl.data.pairs.tally import Tally
    from gapctl.encoding.open_model import OpenModel
    from gapctl.encoding.pairs import Asking, EncodedPairs
    from gapctl.encoding.shards import Encoded


class PairOptions(NamedTuple):
    """What the command line asks for."""

    model: str
    pretrained: str
    data: Sequence[str]
    label_key: str | None
    classes: Path | None
    attributes: Path | None
    workers: int | None
    captions: CaptionRule


class MeasuredPairs(NamedTuple):
    """The pairs, and what `--json` and a person are told of them."""

    pairs: "EncodedPairs"
    facts: dict[str, Any]
    title: str
    notes: tuple[str, ...]


def encode_pairs(options: PairOptions) -> MeasuredPairs:
    """Checks all that can be checked at once, then encodes; raises InputError for whatever is wrong."""
    from gapctl.cli.local_ray import local_ray
    from gapctl.data.mad.store import available_cores
    from gapctl.data.pairs.index import look_at
    from gapctl.data.pairs.places import local_shards
    from gapctl.data.pairs.spread import Workers
    from gapctl.data.pairs.tally import tally_of
    from gapctl.encoding.open_model import open_model, require_known
    from gapctl.encoding.pairs import check_first, encoded_pairs
    from gapctl.encoding.shard_cache import ShardCache
    from gapctl.encoding.shards import encode_shards
    from gapctl.encoding.weights import find_weights
    from gapctl.folders import cache_root

    require_known(options.model)
    asking, workers = _asking(options), options.workers or available_cores()
    manifest = look_at(local_shards(options.data), Workers(workers))
    _require_whole(manifest)
    tally = tally_of(manifest)
    tally.require_usable(f"--data {' '.join(options.data)}")
    check_first(manifest, asking)
    paths = [Path(shard.address) for shard in manifest.shards if shard.usable]
    opened = open_model(options.model, find_weights(options.model, options.pretrained))
    cache = ShardCache(cache_root() / "embeddings")
    with _bar() as show:
        encoded = encode_shards(paths, opened, cache, local_ray, workers, show, _left_out(manifest), options.captions)
    tally = tally.with_undecodable(tally.usable - sum(len(shard.samples) for shard in encoded.shards))
    tally.require_usable(f"--data {' '.join(options.data)}")
    pairs = encoded_pairs(opened, encoded.shards, asking)
    shards = "1 shard" if len(paths) == 1 else f"{len(paths)} shards"
    title = f"{options.model} ({options.pretrained}) on {shards}: {_counted(pairs)}"
    notes = (*_notes(opened, pairs, options.captions), *tally.lines)
    return MeasuredPairs(pairs, _facts(options, opened, encoded, tally, pairs), title, notes)


def _require_whole(manifest: "Manifest") -> None:
    """Refuses a shard that ends early: what it lacks could be most of it."""
    from gapctl.data.pairs.samples import damaged_shard

    for shard in manifest.shards:
        if shard.damage is not None:
            raise damaged_shard(shard.address, shard.samples, shard.damage)


def _left_out(manifest: "Manifest") -> dict[Path, dict[int, str]]:
    """The problems of each shard's samples by their place in it."""
    return {
        Path(str(shard)): {place: why for place, why in enumerate(rows["problem"]) if why is not None}
        for (shard,), rows in manifest.samples.partition_by("shard", as_dict=True, maintain_order=True).items()
    }


def _asking(options: PairOptions) -> "Asking":
    from gapctl.data.pairs.questions import read_attributes, read_classes
    from gapctl.encoding.pairs import Asking

    for option, given in (("--classes", options.classes), ("--attributes", options.attributes)):
        if given is not None and options.label_key is None:
            raise InputError(
                f"{option} without --label-key; expected the key of the samples' json that names the object"
            )
    return Asking(
        options.label_key,
        read_classes(options.classes) if options.classes else None,
        read_attributes(options.attributes) if options.attributes else {},
    )


def _counted(pairs: "EncodedPairs") -> str:
    count, width = pairs.embeddings.image_ND.shape
    return f"{count:,} images and {len(pairs.embeddings.text_MD):,} texts, {width} wide"


def _notes(opened: "OpenModel", pairs: "EncodedPairs", rule: CaptionRule) -> tuple[str, ...]:
    origin = (f"weights of {opened.weights.path.name}: {opened.origin}",) if opened.origin else ()
    if not pairs.several_lines:
        return origin
    images, texts = len(pairs.embeddings.image_ND), len(pairs.embeddings.text_MD)
    read, other = ("one caption per line", "whole") if rule is CaptionRule.LINES else ("lines joined", "lines")
    effect = "joins them" if other == "whole" else "reads one caption per line"
    several = f"{pairs.several_lines:,} of {images:,} samples have several lines"
    return (*origin, f"{texts:,} captions of {images:,} images, {read}: {several}, and --captions {other} {effect}")


def _facts(
    options: PairOptions, opened: "OpenModel", encoded: "Encoded", tally: "Tally", pairs: "EncodedPairs"
) -> dict[str, Any]:
    files = {"classes": options.classes, "attributes": options.attributes}
    return {
        "model": options.model,
        "pretrained": options.pretrained,
        "weights": {"file": str(opened.weights.path), "sha256": opened.weights.sha256, "part": opened.origin},
        "preprocess": dict(opened.preprocess),
        "shards": encoded.sha256s,
        "samples_in_shards": tally.samples,
        "pairs": tally.usable,
        "captions": {
            "rule": str(options.captions),
            "texts": len(pairs.embeddings.text_MD),
            "samples_of_several_lines": pairs.several_lines,
        },
        "skipped": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "ignored": dict(tally.ignored),
        "label_key": options.label_key,
        **{name: None if path is None else _file(path) for name, path in files.items()},
    }


def _file(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar over shards on standard error, gone in the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.terminal import plain_console

    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("encoding shards", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
