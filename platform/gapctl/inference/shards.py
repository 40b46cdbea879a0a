"""Every shard's embeddings: those that the cache has, and the rest by Ray Data, kept as soon as a shard is done."""

import json
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.config.base import sha256_of
from gapctl.data.image_text.index import Sample, picture_of, samples_of
from gapctl.data.image_text.questions import CaptionRule, captions_of
from gapctl.data.image_text.tar import Problem
from gapctl.errors import InputError, WorkError
from gapctl.inference.model import OpenModel, Weights, open_model, tokenizer_of, transform_of
from gapctl.io.atomic import appearing, file_sha256

VERSION: Final = 2
"""Raised whenever the same model and shard would give other embeddings than before."""

Floats = NDArray[np.float32]


class Described(NamedTuple):
    """A sample beside its embeddings: what its labels can be found in."""

    key: str
    captions: list[str]
    about: dict[str, Any]


class EncodedShard(NamedTuple):
    """A shard's L2-normalised embeddings, its samples, and why others were left out, by key.

    Texts (M, D) are the captions of the first sample, then those of the second, and so on.
    """

    image_ND: Floats
    text_MD: Floats
    samples: Sequence[Described]
    skipped: Mapping[str, str]


def shard_key(
    model: str,
    weights_sha256: str,
    preprocess: Mapping[str, Any],
    device: str,
    shard_sha256: str,
    captions: CaptionRule,
    left_out: Collection[int] = (),
) -> str:
    """The address of a shard's embeddings; `left_out` are the places of samples that could be encoded and were not."""
    decides = {"weights": weights_sha256, "preprocess": preprocess, "device": device, "shard": shard_sha256}
    left = {"left_out": sorted(left_out)} if left_out else {}
    return sha256_of({"version": VERSION, "model": model, **decides, "captions": str(captions), **left})


class ShardCache:
    """A folder with a file per encoded shard; each appears whole or not at all."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError where the folder cannot be made."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: the cache of embeddings cannot be made ({error.strerror}). Set GAPCTL_CACHE to a folder "
                "that can be written to"
            ) from error

    def find(self, key: str) -> EncodedShard | None:
        """The embeddings under a key; None where there are none, or damaged ones."""
        try:
            with np.load(self._path(key), allow_pickle=False) as archive:
                samples, skipped = (json.loads(archive[name].tobytes()) for name in ("samples", "skipped"))
                found = EncodedShard(archive["image"], archive["text"], [Described(*each) for each in samples], skipped)
        except (OSError, ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile):
            return None
        captions = sum(len(sample.captions) for sample in found.samples)
        return found if (len(found.image_ND), len(found.text_MD)) == (len(found.samples), captions) else None

    def keep(self, key: str, shard: EncodedShard) -> None:
        """Writes a shard's embeddings; raises WorkError where that fails."""
        samples, skipped = _pack_embeddings(list(shard.samples)), _pack_embeddings(dict(shard.skipped))
        try:
            with appearing(self._path(key), self._folder) as temporary, temporary.open("wb") as file:
                np.savez(file, image=shard.image_ND, text=shard.text_MD, samples=samples, skipped=skipped)
        except OSError as error:
            raise WorkError(
                f"{self._folder}: the embeddings of a shard cannot be written ({error.strerror}). Free some space, or "
                "set GAPCTL_CACHE to another folder; finished shards are kept"
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"


def _pack_embeddings(document: Any) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


BATCH: Final = 32
"""Fixed, and never across shards, so that sums are taken in the same order however many processes share the work."""

MOST_CAPTIONS: Final = 1000
"""Of one image; a text of more lines is no list of captions, and would have to fit into memory."""

Row = dict[str, Any]
tokenizer = cache(tokenizer_of)


@dataclass
class _Pending:
    """What has been read of a shard and not been handed on."""

    pictures: list[torch.Tensor] = field(default_factory=list)
    samples: list[Described] = field(default_factory=list)


def read_batches(row: Row, *, model: str, preprocess: Mapping[str, Any], captions: CaptionRule) -> Iterator[Row]:
    """The batches of a row's shard, the last one marked; a row with an `error` in place of a shard that is wrong.

    The row's `left_out`, if it has any, are the places of samples that are not read. Images are float32 (B, C, H, W)
    and tokens int64 (M, L), as bytes; M captions, those of the first image first. Their shapes follow from the model
    and from `texts`, which is M.
    """
    transform, pending, skipped = transform_of(preprocess), _Pending(), {}
    try:
        for sample in samples_of(Path(row["path"]), frozenset(json.loads(row.get("left_out", "[]")))):
            texts = captions_of(sample.caption or "", captions)
            why = _unusable(sample, texts) or _take(sample, texts, transform, pending)
            if why:
                skipped[sample.key] = why
            elif len(pending.samples) == BATCH:
                yield _row(row, model, pending)
                pending = _Pending()
    except InputError as error:
        yield {**_row(row, model, _Pending()), "error": str(error), "last": True}
        return
    yield {**_row(row, model, pending), "skipped": json.dumps(skipped), "last": True}


def _unusable(sample: Sample, texts: Sequence[str]) -> str | None:
    if sample.image is None:
        return Problem.NO_IMAGE.value
    if len(texts) > MOST_CAPTIONS:
        return f"over {MOST_CAPTIONS:,} captions"
    return None if texts else Problem.NO_CAPTION.value


def _take(sample: Sample, texts: list[str], transform: Any, pending: _Pending) -> str | None:
    """Adds a sample; says why where its image cannot be read."""
    try:
        picture = transform(picture_of(sample))
    except ValueError:
        return Problem.UNREADABLE.value
    pending.pictures.append(picture)
    pending.samples.append(Described(sample.key, texts, sample.about))
    return None


def _row(row: Row, model: str, pending: _Pending) -> Row:
    images_BCHW = torch.stack(pending.pictures).numpy().tobytes() if pending.pictures else b""
    captions = [caption for sample in pending.samples for caption in sample.captions]
    tokens_BL = tokenizer(model)(captions).numpy().tobytes() if captions else b""
    batch = {"images": images_BCHW, "tokens": tokens_BL, "samples": json.dumps(pending.samples)}
    return {"shard": row["shard"], "texts": len(captions), **batch, "skipped": "{}", "error": "", "last": False}


class Embedder:
    """Embeds the rows that `read_batches` makes; float32, on one thread of a CPU or on a GPU."""

    def __init__(self, model: str, weights: Weights, device: str) -> None:
        torch.set_num_threads(1)
        self._device = torch.device(device)
        opened = open_model(model, weights)
        self._model = opened.model.to(self._device)
        size = opened.preprocess["size"]
        self._image_shape = (3, *((size, size) if isinstance(size, int) else tuple(size)))

    @torch.no_grad()
    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """The row with embeddings (B, D) and (M, D) as bytes in place of its images and tokens.

        Texts are encoded `BATCH` at a time, so that captions of one each are batched as their images are.
        """
        count = len(row["images"]) // (4 * int(np.prod(self._image_shape)))
        images = np.frombuffer(row.pop("images"), np.float32).reshape(count, *self._image_shape)
        tokens, texts = np.frombuffer(row.pop("tokens"), np.int64), row.pop("texts")
        if not count:
            return {**row, "image": b"", "text": b""}
        image_BD = self._model.encode_image(self._on_device(images), normalize=True)
        parts = torch.split(self._on_device(tokens.reshape(texts, -1)), BATCH)
        text_MD = torch.cat([self._model.encode_text(part, normalize=True) for part in parts])
        return {**row, "image": _bytes(image_BD), "text": _bytes(text_MD)}

    def _on_device(self, array: Any) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


def _bytes(embedding_BD: torch.Tensor) -> bytes:
    return embedding_BD.float().cpu().numpy().tobytes()


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
    sha256s = {str(path): file_sha256(path) for path in paths}
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
