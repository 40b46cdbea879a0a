"""The inputs of `gapctl measure` and `gapctl intervene`: shared options, and the embeddings that they lead to.

`add_input_options` gives a verb the options of `InputOptions`. `load_inputs` then reads saved embeddings, encodes a
trial's gallery, or encodes image-text pairs with an open_clip model (`encode_pairs`), and returns `Inputs`.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption
from gapctl.data.image_text.questions import CaptionLineMode
from gapctl.errors import InputError
from gapctl.io.atomic import hash_file

if TYPE_CHECKING:
    from gapctl.config.trial import Data
    from gapctl.data.image_text.manifest import Manifest, ManifestTally
    from gapctl.data.load import Dataset
    from gapctl.inference.model import OpenModel
    from gapctl.inference.pairs import EncodedPairs, LabelOptions
    from gapctl.inference.shards import EncodingResult
    from gapctl.metrics.classification import ZeroShotTasks
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.formats import EmbeddingsFile
    from gapctl.metrics.sampling import SampleLimits


SOURCE_OPTIONS = ("--embeddings", "--trial", "--model")
MODEL_OPTIONS = ("--pretrained", "--data", "--captions", "--label-key", "--classes", "--attributes", "--workers")


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """The shared options as given; exactly one of the sources must be."""

    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            help="Saved: .npz, .parquet, .safetensors, image.npy,text.npy, or a folder.",
            metavar="PLACE",
        ),
    ] = None
    trial: Annotated[
        str | None, typer.Option("--trial", help="A finished trial: its id, or the beginning of it.", metavar="ID")
    ] = None
    runs: RunsOption = DEFAULT_RUNS
    model: Annotated[
        str | None, typer.Option("--model", help="An open_clip architecture, with the two below.", metavar="NAME")
    ] = None
    pretrained: Annotated[
        str | None, typer.Option("--pretrained", help="One of its tags, or a file of weights.", metavar="TAG|FILE")
    ] = None
    data: Annotated[
        list[str] | None,
        typer.Option("--data", help="Tar shards: files, {00..11}.tar, folders; several times.", metavar="SHARDS"),
    ] = None
    captions: Annotated[
        CaptionLineMode | None,
        typer.Option(
            "--captions",
            help="What several lines of a sample's .txt are: `lines` takes each for a caption of the image, `whole` "
            "all for one. If left out: lines.",
        ),
    ] = None
    label_key: Annotated[
        str | None, typer.Option("--label-key", help="The key of a sample's json that names its object.", metavar="KEY")
    ] = None
    classes: Annotated[
        Path | None, typer.Option("--classes", help="The objects, one per line, and templates.", metavar="FILE")
    ] = None
    attributes: Annotated[
        Path | None, typer.Option("--attributes", help="The same for attributes, below [key] lines.", metavar="FILE")
    ] = None
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes that encode; one per core if left out.", min=1)
    ] = None


@dataclass(frozen=True)
class Inputs:
    """The embeddings to measure, and what is known about them.

    `facts` are printed under `inputs` by `--json`, and `title` describes them in one line. `zero_shot` has the class
    prompts, `temperature` the model's own measures, `notes` lines for a person. `effort` has the sample limits of the
    model's own evaluation, if it had one.
    """

    embeddings: "Embeddings"
    facts: Mapping[str, Any]
    title: str
    zero_shot: "ZeroShotTasks"
    temperature: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    effort: "SampleLimits | None" = None


def add_input_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb the shared options in place of its first argument, `asked`."""
    own = list(inspect.signature(verb).parameters.values())[1:]
    shared = list(inspect.signature(InputOptions).parameters.values())
    names = [option.name for option in fields(InputOptions)]

    @wraps(verb)
    def with_options(**given: Any) -> None:
        verb(InputOptions(**{name: given.pop(name) for name in names}), **given)

    parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*shared, *own)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {option.name: option.annotation for option in parameters}
    return with_options


def load_inputs(asked: InputOptions) -> Inputs:
    """Read, rebuild or encode the requested embeddings; raise InputError for anything wrong with them."""
    _check_options(asked)
    if asked.embeddings is not None:
        return _load_embeddings_file(asked.embeddings)
    if asked.trial is not None:
        return _load_trial_inputs(asked.trial, asked.runs)
    return _encode_model_inputs(asked)


def _check_options(asked: InputOptions) -> None:
    """Raise InputError for options that contradict each other, or require one another."""
    given = [option for option in SOURCE_OPTIONS if _is_given(asked, option)]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given together" if given else "nothing to measure was named"
        raise InputError(f"{found}; expected one of {', '.join(SOURCE_OPTIONS)}")
    alone = [option for option in MODEL_OPTIONS if _is_given(asked, option)]
    if alone and asked.model is None:
        raise InputError(f"{alone[0]} belongs to --model; found it with {given[0]}. Leave it out")
    missing = [option for option in ("--pretrained", "--data") if not _is_given(asked, option)]
    if missing and asked.model is not None:
        raise InputError(f"--model without {' and '.join(missing)}; expected its weights and the shards to show it")


def _is_given(asked: InputOptions, option: str) -> bool:
    return bool(getattr(asked, option.removeprefix("--").replace("-", "_")) is not None)


def _load_embeddings_file(place: str) -> Inputs:
    from gapctl.metrics.classification import ZeroShotTasks
    from gapctl.metrics.formats import read_embeddings

    file = read_embeddings(place)
    facts = {
        "file": place,
        **_hash_files(file),
        "arrays": {name: {"shape": facts.shape, "dtype": facts.dtype} for name, facts in file.arrays.items()},
        "unused_arrays": file.unused,
        "pairing": file.pairing,
    }
    notes = (f"not used: {', '.join(file.unused)}",) if file.unused else ()
    title = f"{place}: {_describe_embeddings(file.embeddings)}; {_describe_pairing(file)}"
    return Inputs(file.embeddings, facts, title, ZeroShotTasks(), notes=notes)


def _hash_files(file: "EmbeddingsFile") -> dict[str, Any]:
    """Return the sha256 of the one file, or of the list of all files."""
    if len(file.files) == 1:
        return {"sha256": next(iter(file.files.values()))}
    listed = "".join(f"{sha256}  {name}\n" for name, sha256 in file.files.items())
    return {"sha256": hashlib.sha256(listed.encode()).hexdigest(), "files": dict(file.files)}


def _load_trial_inputs(prefix: str, runs: str) -> Inputs:
    from dataclasses import asdict

    from gapctl.inference.trial import encode_trial
    from gapctl.ledger import Ledger
    from gapctl.metrics.sampling import TRIAL_LIMITS

    trial = encode_trial(Ledger(runs), prefix, _load_trial_data)
    facts = {
        "trial": trial.id,
        "runs": runs,
        **trial.described._asdict(),
        "config": trial.described.config.model_dump(mode="json"),
        "result": {name: value for name, value in asdict(trial.result).items() if name not in ("trial", "metrics")},
    }
    title = f"trial {trial.id} ({trial.described.label}): {_describe_embeddings(trial.encoded.embeddings)}"
    return Inputs(
        trial.encoded.embeddings, facts, title, trial.encoded.zero_shot, trial.encoded.temperature, effort=TRIAL_LIMITS
    )


def _encode_model_inputs(asked: InputOptions) -> Inputs:
    assert asked.model is not None
    assert asked.pretrained is not None
    assert asked.data is not None
    found = encode_pairs(
        PairOptions(
            asked.model,
            asked.pretrained,
            asked.data,
            asked.label_key,
            asked.classes,
            asked.attributes,
            asked.workers,
            asked.captions or CaptionLineMode.LINES,
        )
    )
    pairs = found.pairs
    return Inputs(pairs.embeddings, found.facts, found.title, pairs.zero_shot, pairs.temperature, found.notes)


def _load_trial_data(data: "Data", fingerprint: str) -> "Dataset":
    """Load the data that a trial was trained on; raise InputError for any other."""
    from gapctl.cli.data_mad import load_data
    from gapctl.cli.options import compute_fingerprint
    from gapctl.cli.output import make_plain_console

    found = compute_fingerprint(data)
    if found != fingerprint:
        raise InputError(
            f"{data.source}: data of fingerprint {found}; expected {fingerprint}, which the trial was trained on. "
            "Put that data back in its place"
        )
    return load_data(data, make_plain_console(stderr=True))


def _describe_embeddings(embeddings: "Embeddings") -> str:
    images, width = embeddings.image_ND.shape
    return f"{images:,} images and {len(embeddings.text_MD):,} texts, {width} wide"


def _describe_pairing(file: "EmbeddingsFile") -> str:
    belongs = {
        "rows": "row i of one matches row i of the other",
        "text_to_image": "`text_to_image` gives each text's image",
        "labels": "texts are class prompts, `labels` gives each image's",
    }
    return belongs[file.pairing]


class PairOptions(NamedTuple):
    """The options of `--model`."""

    model: str
    pretrained: str
    data: Sequence[str]
    label_key: str | None
    classes: Path | None
    attributes: Path | None
    workers: int | None
    captions: CaptionLineMode


class PairInputs(NamedTuple):
    """The encoded pairs, with the facts for `--json`, the title and the notes."""

    pairs: "EncodedPairs"
    facts: dict[str, Any]
    title: str
    notes: tuple[str, ...]


def encode_pairs(options: PairOptions) -> PairInputs:
    """Check everything that is quick to check, then encode; raise InputError for anything wrong."""
    from gapctl.cli.sweep import start_local_ray
    from gapctl.data.image_text.index import build_manifest
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.storage import list_local_shards
    from gapctl.data.shard_jobs import Workers, count_available_cores
    from gapctl.folders import find_cache_root
    from gapctl.inference.model import find_weights, open_model, require_known_model
    from gapctl.inference.pairs import assemble_pairs, check_first_sample
    from gapctl.inference.shards import ShardCache, encode_shards

    require_known_model(options.model)
    asking, workers = _read_label_options(options), options.workers or count_available_cores()
    manifest = build_manifest(list_local_shards(options.data), Workers(workers))
    _require_whole_shards(manifest)
    tally = tally_manifest(manifest)
    tally.require_usable(f"--data {' '.join(options.data)}")
    check_first_sample(manifest, asking)
    paths = [Path(shard.address) for shard in manifest.shards if shard.usable]
    opened = open_model(options.model, find_weights(options.model, options.pretrained))
    cache = ShardCache(find_cache_root() / "embeddings")
    with _show_shard_bar() as show:
        encoded = encode_shards(
            paths, opened, cache, start_local_ray, workers, show, _map_problems(manifest), options.captions
        )
    tally = tally.add_undecodable(tally.usable - sum(len(shard.samples) for shard in encoded.shards))
    tally.require_usable(f"--data {' '.join(options.data)}")
    pairs = assemble_pairs(opened, encoded.shards, asking)
    shards = "1 shard" if len(paths) == 1 else f"{len(paths)} shards"
    title = f"{options.model} ({options.pretrained}) on {shards}: {_describe_embeddings(pairs.embeddings)}"
    notes = (*_list_notes(opened, pairs, options.captions), *tally.lines)
    return PairInputs(pairs, _collect_facts(options, opened, encoded, tally, pairs), title, notes)


def _require_whole_shards(manifest: "Manifest") -> None:
    """Raise for a shard that ends early: it may lack most of its samples."""
    from gapctl.data.image_text.index import build_damage_error

    for shard in manifest.shards:
        if shard.damage is not None:
            raise build_damage_error(shard.address, shard.samples, shard.damage)


def _map_problems(manifest: "Manifest") -> dict[Path, dict[int, str]]:
    """Return the problems of each shard's samples by their place in the shard."""
    return {
        Path(str(shard)): {place: why for place, why in enumerate(rows["problem"]) if why is not None}
        for (shard,), rows in manifest.samples.partition_by("shard", as_dict=True, maintain_order=True).items()
    }


def _read_label_options(options: PairOptions) -> "LabelOptions":
    from gapctl.data.image_text.questions import read_attributes, read_classes
    from gapctl.inference.pairs import LabelOptions

    for option, given in (("--classes", options.classes), ("--attributes", options.attributes)):
        if given is not None and options.label_key is None:
            raise InputError(
                f"{option} without --label-key; expected the key of the samples' json that names the object"
            )
    return LabelOptions(
        options.label_key,
        read_classes(options.classes) if options.classes else None,
        read_attributes(options.attributes) if options.attributes else {},
    )


def _list_notes(opened: "OpenModel", pairs: "EncodedPairs", rule: CaptionLineMode) -> tuple[str, ...]:
    origin = (f"weights of {opened.weights.path.name}: {opened.origin}",) if opened.origin else ()
    if not pairs.several_lines:
        return origin
    images, texts = len(pairs.embeddings.image_ND), len(pairs.embeddings.text_MD)
    read, other = ("one caption per line", "whole") if rule is CaptionLineMode.LINES else ("lines joined", "lines")
    effect = "joins them" if other == "whole" else "reads one caption per line"
    several = f"{pairs.several_lines:,} of {images:,} samples have several lines"
    return (*origin, f"{texts:,} captions of {images:,} images, {read}: {several}, and --captions {other} {effect}")


def _collect_facts(
    options: PairOptions, opened: "OpenModel", encoded: "EncodingResult", tally: "ManifestTally", pairs: "EncodedPairs"
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
        **{name: None if path is None else _describe_file(path) for name, path in files.items()},
    }


def _describe_file(path: Path) -> dict[str, str]:
    return {"file": str(path), "sha256": hash_file(path)}


@contextmanager
def _show_shard_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar over shards on standard error; remove it at the end."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gapctl.cli.output import make_plain_console

    console = make_plain_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("encoding shards", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
