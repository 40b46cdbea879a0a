"""Encode image-text shards with an open_clip model.

1. `encode_shards` looks up each shard in the `ShardCache` by model, weights, preprocessing, device and content.
2. `read_batches` decodes a missing shard's images and tokenizes its captions, `Embedder` encodes batches: on Ray Data,
   or in this process where workers cannot pay.
3. Batches are joined to `ShardEmbeddings`, and each shard is cached as soon as it is complete, so a stopped run
   continues from there.
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.config.base import hash_value
from gapctl.data.image_text.class_prompts import MAX_CAPTIONS, CaptionLineMode, split_captions
from gapctl.data.image_text.index import Sample, decode_image, iterate_shard_samples
from gapctl.data.image_text.tar import SampleProblem
from gapctl.data.parallel_shards import OnProgress, StartRay, ignore_progress
from gapctl.errors import InputError, WorkError
from gapctl.inference.model import OpenModel, build_transform, load_open_clip_model, load_tokenizer
from gapctl.io.atomic import hash_file, stage_file_replacement
from gapctl.models.sources import ImageSettings, WeightsFile

EMBEDDINGS_VERSION: Final = 2
"""Raised whenever the same model and shard would give other embeddings than before."""

Floats = NDArray[np.float32]


class SampleRecord(NamedTuple):
    """A sample besides its embeddings: what its labels are read from."""

    key: str
    captions: list[str]
    about: dict[str, object]


class ShardEmbeddings(NamedTuple):
    """A shard's L2-normalised embeddings, its samples, and why others were skipped, by key.

    Texts (M, D) are the captions of the first sample, then those of the second, and so on.
    """

    image_ND: Floats
    text_MD: Floats
    samples: Sequence[SampleRecord]
    skipped: Mapping[str, str]


def make_shard_key(
    model: str,
    weights_sha256: str,
    preprocess: ImageSettings,
    device: str,
    shard_sha256: str,
    captions: CaptionLineMode,
    left_out: Collection[int] = (),
) -> str:
    """Return the cache key of a shard's embeddings.

    `left_out` are indices of samples that could be encoded and were not.
    """
    decides = {"weights": weights_sha256, "preprocess": preprocess, "device": device, "shard": shard_sha256}
    left = {"left_out": sorted(left_out)} if left_out else {}
    return hash_value({"version": EMBEDDINGS_VERSION, "model": model, **decides, "captions": str(captions), **left})


class ShardCache:
    """A folder with a file per encoded shard, each written atomically."""

    def __init__(self, folder: Path) -> None:
        """Raise InputError if the folder cannot be created."""
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"{folder}: the cache of embeddings cannot be made ({error.strerror}). Set GAPCTL_CACHE to a folder "
                "that can be written to"
            ) from error

    def find(self, key: str) -> ShardEmbeddings | None:
        """Return the embeddings under a key, or None if there are none or damaged ones."""
        try:
            with np.load(self._path(key), allow_pickle=False) as archive:
                samples, skipped = (json.loads(archive[name].tobytes()) for name in ("samples", "skipped"))
                found = ShardEmbeddings(
                    archive["image"], archive["text"], [SampleRecord(*each) for each in samples], skipped
                )
        except (OSError, ValueError, KeyError, EOFError, TypeError, zlib.error, zipfile.BadZipFile):
            return None
        captions = sum(len(sample.captions) for sample in found.samples)
        return found if (len(found.image_ND), len(found.text_MD)) == (len(found.samples), captions) else None

    def keep(self, key: str, shard: ShardEmbeddings) -> None:
        """Write a shard's embeddings. Raises WorkError if that fails."""
        samples, skipped = _pack_json(list(shard.samples)), _pack_json(dict(shard.skipped))
        try:
            with stage_file_replacement(self._path(key), self._folder) as temporary, temporary.open("wb") as file:
                np.savez(file, image=shard.image_ND, text=shard.text_MD, samples=samples, skipped=skipped)
        except OSError as error:
            raise WorkError(
                f"{self._folder}: the embeddings of a shard cannot be written ({error.strerror}). Free some space, or "
                "set GAPCTL_CACHE to another folder; finished shards are kept"
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"


def _pack_json(document: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(document).encode(), np.uint8)


BATCH_SIZE: Final = 32
"""Fixed, and batches never cross shards, so that sums have the same order for any number of processes."""

RayRow = dict[str, Any]
"""A row of Ray's data set: a shard to read, or a batch of its samples."""
ReadBatches = Callable[[RayRow], Iterator[RayRow]]

Tokenizer = Callable[[Sequence[str]], torch.Tensor]
cached_tokenizer = cache(load_tokenizer)


def read_batches(
    row: RayRow, *, model: str, preprocess: ImageSettings, captions: CaptionLineMode, folder: Path | None = None
) -> Iterator[RayRow]:
    """Iterate over the batches of a row's shard, the last one marked; a row with an `error` if the shard is wrong.

    The row's `left_out`, if any, are indices of samples to skip. Images are float32 (B, C, H, W) and tokens int64 (M,
    L), as bytes; M captions, those of the first image first. Shapes follow from the model and from `texts`, which is M.
    """
    transform, skipped = build_transform(preprocess), {}
    tokenize = cached_tokenizer(model, folder)
    pictures: list[torch.Tensor] = []
    samples: list[SampleRecord] = []
    try:
        for sample in iterate_shard_samples(Path(row["path"]), frozenset(json.loads(row.get("left_out", "[]")))):
            texts = split_captions(sample.caption or "", captions)
            why = _explain_unusable(sample, texts)
            if why is None:
                try:
                    pictures.append(transform(decode_image(sample)))
                    samples.append(SampleRecord(sample.key, texts, sample.about))
                except ValueError:
                    why = SampleProblem.UNREADABLE.value
            if why is not None:
                skipped[sample.key] = why
            elif len(samples) == BATCH_SIZE:
                yield _build_row(row, tokenize, pictures, samples)
                pictures, samples = [], []
    except InputError as error:
        yield {**_build_row(row, tokenize, [], []), "error": str(error), "last": True}
        return
    yield {**_build_row(row, tokenize, pictures, samples), "skipped": json.dumps(skipped), "last": True}


def _explain_unusable(sample: Sample, texts: Sequence[str]) -> str | None:
    if sample.image is None:
        return SampleProblem.NO_IMAGE.value
    if len(texts) > MAX_CAPTIONS:
        return f"over {MAX_CAPTIONS:,} captions"
    return None if texts else SampleProblem.NO_CAPTION.value


def _build_row(row: RayRow, tokenize: Tokenizer, pictures: list[torch.Tensor], samples: list[SampleRecord]) -> RayRow:
    captions = [caption for sample in samples for caption in sample.captions]
    return {
        "shard": row["shard"],
        "texts": len(captions),
        "images": torch.stack(pictures).numpy().tobytes() if pictures else b"",
        "tokens": tokenize(captions).numpy().tobytes() if captions else b"",
        "samples": json.dumps(samples),
        "skipped": "{}",
        "error": "",
        "failed": "",
        "last": False,
    }


class Embedder:
    """Encode the rows of `read_batches` in float32, on torch's threads or on a GPU, to which it moves the model."""

    def __init__(self, opened: OpenModel, device: str) -> None:
        self._device = torch.device(device)
        self._model = opened.model.to(self._device)
        size = opened.preprocess["size"]
        self._image_shape = (3, *((size, size) if isinstance(size, int) else tuple(size)))

    @torch.no_grad()
    def __call__(self, row: RayRow) -> RayRow:
        """Return the row with embeddings (B, D) and (M, D) as bytes in place of its images and tokens.

        Texts are encoded `BATCH_SIZE` at a time, so that single captions are batched as their images are.
        """
        count = len(row["images"]) // (4 * int(np.prod(self._image_shape)))
        images = np.frombuffer(row.pop("images"), np.float32).reshape(count, *self._image_shape)
        tokens, texts = np.frombuffer(row.pop("tokens"), np.int64), row.pop("texts")
        if not count:
            return {**row, "image": b"", "text": b""}
        image_BD = self._model.encode_image(self._move_to_device(images), normalize=True)
        parts = torch.split(self._move_to_device(tokens.reshape(texts, -1)), BATCH_SIZE)
        text_MD = torch.cat([self._model.encode_text(part, normalize=True) for part in parts])
        return {**row, "image": _convert_to_bytes(image_BD), "text": _convert_to_bytes(text_MD)}

    def _move_to_device(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(array.copy()).to(self._device)


class EmbedderActor(Embedder):
    """An `Embedder` in a process of its own, where torch has one thread."""

    def __init__(self, model: str, weights: WeightsFile, device: str) -> None:
        torch.set_num_threads(1)
        super().__init__(load_open_clip_model(model, weights), device)

    def __call__(self, row: RayRow) -> RayRow:
        """Return what an `Embedder` does, or the row with the reason why it `failed`: Ray would add advice to it."""
        try:
            return super().__call__(row)
        except Exception as error:  # whatever it is, `_collect_shards` reports it
            return {**row, "image": b"", "text": b"", "failed": _describe_failure(error)}


def _describe_failure(error: BaseException) -> str:
    return [type(error).__name__, *str(error).strip().splitlines()][-1]


def _convert_to_bytes(embedding_BD: torch.Tensor) -> bytes:
    return embedding_BD.float().cpu().numpy().tobytes()


MAX_WORKERS: Final = 8
"""Most workers, as each holds the whole model."""
SMALL_WORK: Final = 10_000_000_000
"""Images times parameters up to which encoding in this process costs no more than starting workers."""
UNENCODABLE_PROBLEMS: Final = frozenset(
    {
        SampleProblem.NO_IMAGE,
        SampleProblem.NO_CAPTION,
        SampleProblem.HTML,
        SampleProblem.APART,
        SampleProblem.NOT_A_FILE,
    }
)
"""Problems of samples that cannot be encoded anyway, so leaving them out does not change the key."""


class EncodingResult(NamedTuple):
    """All shards in order, SHA-256 by path, and how many shards this run encoded."""

    shards: Sequence[ShardEmbeddings]
    sha256s: dict[str, str]
    made: int


def encode_shards(
    paths: Sequence[Path],
    opened: OpenModel,
    cache: ShardCache,
    open_ray: StartRay,
    workers: int,
    on_progress: OnProgress = ignore_progress,
    left_out: Mapping[Path, Mapping[int, str]] = MappingProxyType({}),
    captions: CaptionLineMode = CaptionLineMode.LINES,
) -> EncodingResult:
    """Return the shards' embeddings, equal for any number of workers and of interruptions.

    `left_out` maps each shard to the indices of samples not to encode, and why: a manifest's problems. `open_ray`
    starts Ray with so many CPUs, and is called only where workers can pay: not for one worker of a CPU, nor up to
    `SMALL_WORK` that the cache lacks. A GPU is used if there is one.
    `on_progress` is called with the shards done and their total. Raises InputError for a wrong shard, WorkError if
    encoding fails; finished shards are kept.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    sha256s = {str(path): hash_file(path) for path in paths}
    keys = [
        make_shard_key(
            opened.architecture, opened.weights.sha256, opened.preprocess, device, sha256s[str(path)], captions, decided
        )
        for path in paths
        for decided in [[place for place, why in left_out.get(path, {}).items() if why not in UNENCODABLE_PROBLEMS]]
    ]
    left = [index for index, key in enumerate(keys) if cache.find(key) is None]
    on_progress(len(paths) - len(left), len(paths))
    if left:
        workers = min(workers, len(left), MAX_WORKERS)
        # One reader reads faster than a CPU encodes, but besides a GPU, reading is most of the work.
        actors, readers = (torch.cuda.device_count(), workers) if device == "cuda" else (workers, 1)
        rows: list[RayRow] = [
            {"shard": index, "path": str(paths[index]), "left_out": json.dumps(list(left_out.get(paths[index], {})))}
            for index in left
        ]
        reading = partial(
            read_batches,
            model=opened.name,
            preprocess=dict(opened.preprocess),
            captions=captions,
            folder=opened.weights.folder,
        )
        running: AbstractContextManager[None]
        alone = device == "cpu" and workers == 1
        if alone or _is_small_work(opened, [(paths[index], left_out.get(paths[index], {})) for index in left]):
            running = _use_one_thread()
            encoded = _encode_here(rows, reading, opened, device)
        else:
            running = open_ray(actors + readers)
            encoded = _encode_on_ray(rows, reading, opened, device, actors, readers)
        with running:
            for done, (index, shard) in enumerate(encoded, 1):
                cache.keep(keys[index], shard)
                on_progress(len(paths) - len(left) + done, len(paths))
    shards = []
    for key, path in zip(keys, paths, strict=True):
        written = cache.find(key)
        if written is None:
            raise WorkError(
                f"{path}: its embeddings, just written, cannot be read back. Check the disk, then run again"
            )
        shards.append(written)
    return EncodingResult(shards, sha256s, len(left))


def _is_small_work(opened: OpenModel, shards: Iterable[tuple[Path, Collection[int]]]) -> bool:
    """Return whether shards, each with the indices of samples to leave out, hold at most `SMALL_WORK` for a model."""
    parameters: int = sum(weight.numel() for weight in opened.model.parameters())
    samples = chain.from_iterable(iterate_shard_samples(*shard) for shard in shards)
    try:
        images = sum(1 for _ in islice(samples, SMALL_WORK // parameters + 1))
    except InputError:  # of a wrong shard, which its encoding reports after those before it
        return True
    return images * parameters <= SMALL_WORK


@contextmanager
def _use_one_thread() -> Iterator[None]:
    """Give torch one thread, as actors have, and what it had afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _encode_here(
    rows: Iterable[RayRow], reading: ReadBatches, opened: OpenModel, device: str
) -> Iterator[tuple[int, ShardEmbeddings]]:
    try:
        # What is measured next uses the model on the CPU.
        own = opened if device == "cpu" else opened._replace(model=deepcopy(opened.model))
        yield from _collect_shards(map(Embedder(own, device), chain.from_iterable(map(reading, rows))))
    except InputError:
        raise
    except Exception as error:
        raise _make_encoding_error(_describe_failure(error)) from error


def _encode_on_ray(
    rows: list[RayRow], reading: ReadBatches, opened: OpenModel, device: str, actors: int, readers: int
) -> Iterator[tuple[int, ShardEmbeddings]]:
    import ray.data
    from ray.exceptions import RayError

    ray.data.DataContext.get_current().execution_options.preserve_order = True
    with warnings.catch_warnings():
        # Ray has no named parameter for whether an actor is restarted, and deprecates the only way to say it.
        warnings.filterwarnings("ignore", message=".*ray_remote_args", category=DeprecationWarning)
        dataset = (
            ray.data.from_items(rows, override_num_blocks=len(rows))
            .flat_map(reading, num_cpus=1, compute=ray.data.TaskPoolStrategy(size=readers))
            .map(
                cast("Callable[[RayRow], RayRow]", EmbedderActor),
                fn_constructor_args=(opened.name, opened.weights, device),
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=1,
                num_gpus=1 if device == "cuda" else 0,
                # The same command continues, and Ray warns on the terminal of actors that it may restart.
                max_restarts=0,
                max_task_retries=0,
            )
        )
    try:
        yield from _collect_shards(dataset.iter_rows())
    except RayError as error:
        raise _make_encoding_error(_describe_failure(getattr(error, "cause", None) or error)) from error


def _make_encoding_error(reason: str) -> WorkError:
    return WorkError(
        f"a shard could not be encoded ({reason}). The finished ones are kept: the same command encodes what is left"
    )


def _collect_shards(rows: Iterable[RayRow]) -> Iterator[tuple[int, ShardEmbeddings]]:
    """Join batches, which come in order, to shards."""
    batches: list[RayRow] = []
    for row in rows:
        if row["error"]:
            raise InputError(row["error"])
        if row["failed"]:
            raise _make_encoding_error(row["failed"])
        batches.append(row)
        if row["last"]:
            samples = [SampleRecord(*each) for batch in batches for each in json.loads(batch["samples"])]
            image_ND = _stack_embeddings(batches, "image", len(samples))
            text_MD = _stack_embeddings(batches, "text", sum(len(sample.captions) for sample in samples))
            yield row["shard"], ShardEmbeddings(image_ND, text_MD, samples, json.loads(row["skipped"]))
            batches = []


def _stack_embeddings(batches: Sequence[RayRow], name: str, count: int) -> Floats:
    joined = b"".join(batch[name] for batch in batches)
    return np.frombuffer(joined, np.float32).reshape(count, -1 if count else 0)
