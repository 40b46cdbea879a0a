"""The inputs of `gapctl measure` and `gapctl intervene`: shared options, and the embeddings that they lead to.

`add_input_options` gives a verb the options of `InputOptions`. `load_inputs` then reads saved embeddings, encodes a
trial's gallery, or encodes image-text pairs with an open_clip model (`_encode_pairs`), and returns `Inputs`.
"""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.completion import complete_sets, complete_trials
from gapctl.cli.console import make_plain_console, show_progress
from gapctl.cli.data import load_data
from gapctl.cli.data_pack import describe_packed, list_places, resolve_data
from gapctl.cli.options import DEFAULT_RUNS, RunsOption, compute_fingerprint
from gapctl.config.evaluation_sets import NamedSet, require_set
from gapctl.config.load import load_sweep
from gapctl.config.trial import Data
from gapctl.data.image_text.questions import CaptionLineMode, read_attributes, read_classes
from gapctl.errors import InputError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import hash_file
from gapctl.ledger import Ledger

if TYPE_CHECKING:
    from gapctl.config.evaluation_sets import EvaluationSet
    from gapctl.data.image_text.evaluation_sets import OpenSet
    from gapctl.data.load import Dataset
    from gapctl.inference.model import OpenModel
    from gapctl.inference.pairs import EncodedPairs
    from gapctl.metrics.classification import ZeroShotTasks
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.sampling import SampleLimits

SOURCE_OPTIONS = ("--embeddings", "--trial", "--model")
SET_EXCLUDES = ("--embeddings", "--data", "--captions", "--label-key", "--classes", "--attributes", "--workers")
"""Options that say what a model is shown, which an evaluation set says itself."""
MODEL_OPTIONS = ("--pretrained", "--data", "--captions", "--label-key", "--classes", "--attributes", "--workers")


ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write a report: one HTML file that needs no network.", metavar="FILE.html"),
]


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """The shared options as given; exactly one of the sources must be."""

    embeddings: Annotated[
        str | None,
        typer.Option(
            "--embeddings",
            help="Saved: .npz, .parquet, .safetensors, .pt, image.npy,text.npy, or a folder.",
            metavar="PLACE",
        ),
    ] = None
    trial: Annotated[
        str | None,
        typer.Option(
            "--trial",
            help="A finished trial: its id, or the beginning of it.",
            metavar="ID",
            autocompletion=complete_trials,
        ),
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
        typer.Option(
            "--data",
            help="Image-text data: tar shards, a folder of images with captions, a csv or parquet, COCO's json; a path "
            "or an address; several times.",
            metavar="PLACE",
        ),
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
    evaluation_set: Annotated[
        str | None,
        typer.Option(
            "--evaluation-set",
            "--set",
            help="Show it this evaluation set, in place of --data or of the trial's gallery: a name that comes with "
            "gapctl (`coco`), that --sweep defines, or that the trial was measured on.",
            metavar="NAME",
            autocompletion=complete_sets,
        ),
    ] = None
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="The sweep file that defines --evaluation-set.", metavar="FILE"),
    ] = None


@dataclass(frozen=True)
class Inputs:
    """The embeddings to measure, and what is known about them.

    `facts` are printed under `inputs` by `--json`, and `title` describes them in one line. `zero_shot` has the class
    prompts, `temperature` the model's own measures, `notes` lines for a person. `effort` has the sample limits of the
    model's own evaluation, if it had one.
    """

    embeddings: "Embeddings"
    facts: Mapping[str, object]
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
    given = [option for option in SOURCE_OPTIONS if _is_given(asked, option)]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given together" if given else "nothing to measure was named"
        raise InputError(f"{found}; expected one of {', '.join(SOURCE_OPTIONS)}")
    alone = [option for option in MODEL_OPTIONS if _is_given(asked, option)]
    if alone and asked.model is None:
        raise InputError(f"{alone[0]} belongs to --model; found it with {given[0]}. Leave it out")
    if asked.evaluation_set is not None:
        return _load_set_inputs(asked, asked.evaluation_set)
    if asked.sweep is not None:
        raise InputError(f"--sweep {asked.sweep}: only with --evaluation-set, one of those that it defines")
    if asked.embeddings is not None:
        return _load_embeddings_file(asked.embeddings)
    if asked.trial is not None:
        return _load_trial_inputs(asked.trial, asked.runs)
    if asked.model is None or asked.pretrained is None or asked.data is None:
        missing = [option for option in ("--pretrained", "--data") if not _is_given(asked, option)]
        raise InputError(f"--model without {' and '.join(missing)}; expected its weights and the shards to show it")
    return _encode_pairs(asked, asked.model, asked.pretrained, asked.data)


def _is_given(asked: InputOptions, option: str) -> bool:
    return getattr(asked, option.removeprefix("--").replace("-", "_")) is not None


def _load_embeddings_file(place: str) -> Inputs:
    from gapctl.metrics.classification import ZeroShotTasks
    from gapctl.metrics.formats import read_embeddings

    file = read_embeddings(place)
    if len(file.files) == 1:
        hashes: dict[str, object] = {"sha256": next(iter(file.files.values()))}
    else:
        listed = "".join(f"{sha256}  {name}\n" for name, sha256 in file.files.items())
        hashes = {"sha256": hashlib.sha256(listed.encode()).hexdigest(), "files": dict(file.files)}
    facts = {
        "file": place,
        **hashes,
        "arrays": {name: {"shape": facts.shape, "dtype": facts.dtype} for name, facts in file.arrays.items()},
        "unused_arrays": file.unused,
        "pairing": file.pairing,
    }
    pairings = {
        "rows": "row i of one matches row i of the other",
        "text_to_image": "`text_to_image` gives each text's image",
        "labels": "texts are class prompts, `labels` gives each image's",
    }
    notes = (f"not used: {', '.join(file.unused)}",) if file.unused else ()
    title = f"{place}: {_describe_embeddings(file.embeddings)}; {pairings[file.pairing]}"
    return Inputs(file.embeddings, facts, title, ZeroShotTasks(), notes=notes)


def _load_trial_inputs(prefix: str, runs: str) -> Inputs:
    from gapctl.inference.trial import encode_trial
    from gapctl.metrics.sampling import TRIAL_LIMITS

    trial = encode_trial(Ledger(runs), prefix, _load_trial_data)
    encoded = trial.encoded
    facts = {
        "trial": trial.id,
        "runs": runs,
        **trial.described._asdict(),
        "config": trial.described.config.model_dump(mode="json"),
        "result": {name: value for name, value in asdict(trial.result).items() if name not in ("trial", "metrics")},
    }
    title = f"trial {trial.id} ({trial.described.label}): {_describe_embeddings(encoded.embeddings)}"
    return Inputs(encoded.embeddings, facts, title, encoded.zero_shot, encoded.temperature, effort=TRIAL_LIMITS)


def _load_set_inputs(asked: InputOptions, name: str) -> Inputs:
    """Show an evaluation set to a trial's model or to an open_clip model, by the code that trials are measured by."""
    import torch

    from gapctl.inference.model import build_open_set_model, find_weights, open_model, require_known_model
    from gapctl.inference.trial import encode_trial_set
    from gapctl.training.set_evaluation import encode_set

    beside = [option for option in SET_EXCLUDES if _is_given(asked, option)]
    if beside:
        raise InputError(f"{beside[0]} beside --evaluation-set {name}, which has its own; expected one of them")
    declared = {} if asked.sweep is None else load_sweep(asked.sweep).spec.evaluation_sets
    with show_progress() as show:
        if asked.trial is not None:
            trial = encode_trial_set(
                Ledger(asked.runs),
                asked.trial,
                lambda described: _open_named_set(name, {**described.sets, **declared}),
                partial(show, f"encoding {name}"),
            )
            encoded, whose = trial.encoded, f"trial {trial.id} ({trial.described.label})"
            facts: dict[str, object] = {"trial": trial.id, "runs": asked.runs, "label": trial.described.label}
        elif asked.model is None or asked.pretrained is None:
            raise InputError("--model without --pretrained; expected its weights, a tag or a file")
        else:
            require_known_model(asked.model)
            opened = _open_named_set(name, declared)
            model = open_model(asked.model, find_weights(asked.model, asked.pretrained))
            model.model.to("cuda" if torch.cuda.is_available() else "cpu")
            encoded = encode_set(opened, build_open_set_model(model), partial(show, f"encoding {name}"))
            whose = f"{asked.model} ({asked.pretrained})"
            facts = {
                "model": asked.model,
                "pretrained": asked.pretrained,
                "weights": {"file": str(model.weights.path), "sha256": model.weights.sha256, "part": model.origin},
                "preprocess": dict(model.preprocess),
            }
    shown = encoded.opened
    facts["evaluation_set"] = {
        "name": name,
        "kind": shown.definition.kind,
        "fingerprint": shown.fingerprint,
        **shown.about,
    }
    texts = sum(map(len, shown.captions))
    notes = (f"{encoded.cut:,} of {texts:,} captions are cut by the model's context",) if encoded.cut else ()
    title = f"{whose} on evaluation set {name}: {_describe_embeddings(encoded.embeddings)}"
    extra = {**encoded.temperature, **encoded.measure_accuracies()}
    return Inputs(encoded.embeddings, facts, title, encoded.zero_shot, extra, notes)


def _open_named_set(name: str, declared: "Mapping[str, EvaluationSet]") -> "OpenSet":
    from gapctl.data.image_text.evaluation_sets import open_set

    try:
        definition = require_set(name, declared)
    except InputError as error:
        raise InputError(f"--evaluation-set {error}") from error
    with show_progress(in_bytes=True) as show:
        return open_set(NamedSet(name, definition), lambda done, total: show(f"checking {name}", done, total))


def _load_trial_data(data: Data, fingerprint: str) -> "Dataset":
    """Load the data that a trial was trained on; raise InputError for any other."""
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


def _encode_pairs(asked: InputOptions, model: str, pretrained: str, data: list[str]) -> Inputs:
    """Check everything that is quick to check, then encode; raise InputError for anything wrong."""
    from gapctl.cli.sweep import start_local_ray
    from gapctl.data.image_text.index import build_damage_error, build_manifest
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.pack import find_packed_classes
    from gapctl.data.image_text.storage import list_local_shards
    from gapctl.data.image_text.tar_layouts import CLASS_KEY
    from gapctl.data.shard_jobs import Workers, count_available_cores
    from gapctl.inference.model import find_weights, open_model, require_known_model
    from gapctl.inference.pairs import LabelOptions, assemble_pairs, check_first_sample
    from gapctl.inference.shards import ShardCache, encode_shards

    require_known_model(model)
    files = {"classes": asked.classes, "attributes": asked.attributes}
    for option, given in files.items():
        if given is not None and asked.label_key is None:
            raise InputError(
                f"--{option} without --label-key; expected the key of the samples' json that names the object"
            )
    labels = LabelOptions(
        asked.label_key,
        read_classes(asked.classes) if asked.classes else None,
        read_attributes(asked.attributes) if asked.attributes else {},
    )
    workers, rule = asked.workers or count_available_cores(), asked.captions or CaptionLineMode.LINES
    resolved = resolve_data(data, local=True)
    classes = find_packed_classes(list_places(resolved))
    if classes is not None and asked.label_key is None:
        labels = labels._replace(label_key=CLASS_KEY, classes=classes.build_prompts())
    manifest = build_manifest(list_local_shards(list_places(resolved)), Workers(workers))
    for shard in manifest.shards:  # one that ends early may lack most of its samples
        if shard.damage is not None:
            raise build_damage_error(shard.address, shard.samples, shard.damage)
    tally = tally_manifest(manifest)
    tally.require_usable(f"--data {' '.join(data)}")
    check_first_sample(manifest, labels)
    paths = [Path(shard.address) for shard in manifest.shards if shard.usable]
    opened = open_model(model, find_weights(model, pretrained))
    problems = {
        Path(str(shard)): {place: why for place, why in enumerate(rows["problem"]) if why is not None}
        for (shard,), rows in manifest.samples.partition_by("shard", as_dict=True, maintain_order=True).items()
    }
    cache = ShardCache(find_cache_root() / "embeddings")
    with show_progress() as show:
        bar = partial(show, "encoding shards")
        encoded = encode_shards(paths, opened, cache, start_local_ray, workers, bar, problems, rule)
    tally = tally.add_undecodable(tally.usable - sum(len(shard.samples) for shard in encoded.shards))
    tally.require_usable(f"--data {' '.join(data)}")
    pairs = assemble_pairs(opened, encoded.shards, labels)
    facts = {
        "model": model,
        "pretrained": pretrained,
        "weights": {"file": str(opened.weights.path), "sha256": opened.weights.sha256, "part": opened.origin},
        "preprocess": dict(opened.preprocess),
        "shards": encoded.sha256s,
        "samples_in_shards": tally.samples,
        "pairs": tally.usable,
        "captions": {
            "rule": str(rule),
            "texts": len(pairs.embeddings.text_MD),
            "samples_of_several_lines": pairs.several_lines,
        },
        "skipped": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "ignored": dict(tally.ignored),
        "label_key": labels.label_key,
        **{name: path and {"file": str(path), "sha256": hash_file(path)} for name, path in files.items()},
    }
    shards = "1 shard" if len(paths) == 1 else f"{len(paths)} shards"
    title = f"{model} ({pretrained}) on {shards}: {_describe_embeddings(pairs.embeddings)}"
    packed = {place.place: asdict(place.packed) for place in resolved if place.packed is not None}
    if packed:
        facts["packed"] = packed
    notes = (*_list_notes(opened, pairs, rule), *tally.lines, *describe_packed(resolved))
    return Inputs(pairs.embeddings, facts, title, pairs.zero_shot, pairs.temperature, notes)


def _list_notes(opened: "OpenModel", pairs: "EncodedPairs", rule: CaptionLineMode) -> tuple[str, ...]:
    origin = (f"weights of {opened.weights.path.name}: {opened.origin}",) if opened.origin else ()
    if not pairs.several_lines:
        return origin
    images, texts = len(pairs.embeddings.image_ND), len(pairs.embeddings.text_MD)
    read, other = ("one caption per line", "whole") if rule is CaptionLineMode.LINES else ("lines joined", "lines")
    effect = "joins them" if other == "whole" else "reads one caption per line"
    several = f"{pairs.several_lines:,} of {images:,} samples have several lines"
    return (*origin, f"{texts:,} captions of {images:,} images, {read}: {several}, and --captions {other} {effect}")
