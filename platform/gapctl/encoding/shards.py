"""Every shard's embeddings: those that the cache has, and the rest by Ray Data, kept as soon as a shard is done."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch

from gapctl.data.mad.shards.atomic import sha256_of
from gapctl.data.pairs.caption_lines import CaptionRule
from gapctl.data.pairs.problems import Problem
from gapctl.encoding.embedder import Embedder
from gapctl.encoding.open_model import OpenModel
from gapctl.encoding.read_batches import read_batches
from gapctl.encoding.shard_cache import Described, EncodedShard, Floats, ShardCache, shard_key
from gapctl.errors import InputError, WorkError

MOST_WORKERS: Final = 8
"""Each holds the whole model."""
NEVER_ENCODED: Final = frozenset(
    {Problem.NO_IMAGE, Problem.NO_CAPTION, Problem.HTML, Problem.APART, Problem.NOT_A_FILE}
)
"""Problems of samples that cannot be encoded; leaving them out decides nothing."""

OnProgress = Callable[[int, int], None]
OpenRay = Callable[[int], AbstractContextManager[None]]


class Encoded(NamedTuple):
    """All shards in their order; `sha256s` by path, and how many of them this run encoded."""

    shards: Sequence[EncodedShard]
    sha256s: dict[str, str]
    made: int


def encode_shards(
    paths: Sequence[Path],
    opened: OpenModel,
    cache: ShardCache,
    open_ray: OpenRay,
    workers: int,
    on_progress: OnProgress = lambda done, total: None,
    left_out: Mapping[Path, Mapping[int, str]] = MappingProxyType({}),
    captions: CaptionRule = CaptionRule.LINES,
) -> Encoded:
    """The shards' embeddings, the same for any number of workers and however often the work was stopped.

    `left_out` names, for each shard, the places of samples that are not encoded, and why: a manifest's problems.
    `open_ray` starts Ray with so many CPUs, and is called only if the cache lacks a shard; a GPU is used if there is
    one. `on_progress` is told of shards done, and of how many. Raises InputError for a wrong shard, WorkError if
    encoding fails; finished shards are kept.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sha256s = {str(path): sha256_of(path) for path in paths}
    keys = [
        shard_key(
            opened.architecture, opened.weights.sha256, opened.preprocess, device, sha256s[str(path)], captions, decided
        )
        for path in paths
        for decided in [[place for place, why in left_out.get(path, {}).items() if why not in NEVER_ENCODED]]
    ]
    left = [index for index, key in enumerate(keys) if cache.find(key) is None]
    on_progress(len(paths) - len(left), len(paths))
    if left:
        workers = min(workers, len(left), MOST_WORKERS)
        with open_ray(_cpus(workers, device)):
            tasks = [_Task(index, str(paths[index]), list(left_out.get(paths[index], {}))) for index in left]
            for done, (index, shard) in enumerate(_on_ray(tasks, opened, workers, device, captions), 1):
                cache.keep(keys[index], shard)
                on_progress(len(paths) - len(left) + done, len(paths))
    return Encoded([_kept(cache, key, path) for key, path in zip(keys, paths, strict=True)], sha256s, len(left))


def _kept(cache: ShardCache, key: str, path: Path) -> EncodedShard:
    found = cache.find(key)
    if found is None:
        raise WorkError(f"{path}: its embeddings, just written, cannot be read back. Check the disk, then run again")
    return found


def _actors(workers: int, device: str) -> int:
    return torch.cuda.device_count() if device == "cuda" else workers


def _readers(workers: int, device: str) -> int:
    """One reads faster than a CPU encodes; beside a GPU, reading is most of the work."""
    return workers if device == "cuda" else 1


def _cpus(workers: int, device: str) -> int:
    return _actors(workers, device) + _readers(workers, device)


class _Task(NamedTuple):
    shard: int
    path: str
    left_out: list[int]


def _on_ray(
    tasks: Sequence[_Task], opened: OpenModel, workers: int, device: str, captions: CaptionRule
) -> Iterator[tuple[int, EncodedShard]]:
    import ray.data
    from ray.exceptions import RayError

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    items = [{"shard": task.shard, "path": task.path, "left_out": json.dumps(task.left_out)} for task in tasks]
    reading = partial(read_batches, model=opened.name, preprocess=dict(opened.preprocess), captions=captions)
    readers = ray.data.TaskPoolStrategy(size=_readers(workers, device))
    dataset = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .flat_map(reading, num_cpus=1, compute=readers)
        .map(
            cast("Callable[[dict[str, Any]], dict[str, Any]]", Embedder),
            fn_constructor_args=(opened.name, opened.weights, device),
            compute=ray.data.ActorPoolStrategy(size=_actors(workers, device)),
            num_cpus=1,
            num_gpus=1 if device == "cuda" else 0,
            max_restarts=0,  # the same command continues, and Ray warns on the terminal of actors that it may restart
            max_task_retries=0,
        )
    )
    try:
        yield from _collected(dataset.iter_rows())
    except RayError as error:
        raise WorkError(
            f"a shard could not be encoded ({_reason(error)}). The finished ones are kept: the same command encodes "
            "what is left"
        ) from error


def _collected(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[int, EncodedShard]]:
    """Shards from batches, which come in order."""
    batches: list[dict[str, Any]] = []
    for row in rows:
        if row["error"]:
            raise InputError(row["error"])
        batches.append(row)
        if row["last"]:
            yield row["shard"], _shard(batches)
            batches = []


def _shard(batches: Sequence[dict[str, Any]]) -> EncodedShard:
    samples = [Described(*each) for batch in batches for each in json.loads(batch["samples"])]
    image_ND = _stacked(batches, "image", len(samples))
    text_MD = _stacked(batches, "text", sum(len(sample.captions) for sample in samples))
    return EncodedShard(image_ND, text_MD, samples, json.loads(batches[-1]["skipped"]))


def _stacked(batches: Sequence[dict[str, Any]], name: str, count: int) -> Floats:
    joined = b"".join(batch[name] for batch in batches)
    return np.frombuffer(joined, np.float32).reshape(count, -1 if count else 0)


def _reason(error: BaseException) -> str:
    cause: Any = getattr(error, "cause", None) or error
    lines = str(cause).strip().splitlines()
    return lines[-1] if lines else type(cause).__name__
