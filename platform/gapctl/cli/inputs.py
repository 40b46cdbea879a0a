"""The inputs of `gapctl measure` and `gapctl intervene`: shared options, and the embeddings that they lead to.

`add_input_options` gives a verb the options of `InputOptions`. `load_requested_embeddings` then reads saved embeddings,
encodes a trial's gallery, or encodes image-text pairs with an open_clip model (`_encode_pairs`), and returns `Inputs`.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gapctl.cli.completion import complete_sets, complete_trials
from gapctl.cli.console import make_plain_console, show_progress
from gapctl.cli.data import load_data
from gapctl.cli.data_pack import find_or_pack_data, format_packed_places, list_shard_places
from gapctl.cli.options import DEFAULT_RUNS, RunsOption, compute_data_source_fingerprint
from gapctl.config.evaluation_sets import NamedSet, require_set
from gapctl.config.load import load_sweep
from gapctl.config.trial import Data
from gapctl.data.image_text.class_prompts import CaptionLineMode, read_attribute_prompts, read_class_prompts
from gapctl.errors import GapctlError, InputError
from gapctl.folders import find_cache_root
from gapctl.io.atomic import hash_file
from gapctl.ledger import Ledger

if TYPE_CHECKING:
    from gapctl.config.evaluation_sets import EvaluationSet
    from gapctl.data.image_text.evaluation_sets import OpenedEvaluationSet
    from gapctl.data.image_text.manifest import ManifestTally
    from gapctl.data.image_text.pack import ResolvedPlace
    from gapctl.data.load import Dataset
    from gapctl.data.parallel_shards import StartRay
    from gapctl.inference.model import OpenModel
    from gapctl.inference.pairs import EncodedPairs, LabelOptions
    from gapctl.metrics.classification import ZeroShotTasks
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.sampling import SampleLimits
    from gapctl.training.set_evaluation import EncodedEvaluationSet

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
        list[str] | None,
        typer.Option(
            "--model",
            help="An open_clip architecture, with the two below; or hf-hub:ORGANISATION/NAME or local-dir:FOLDER, "
            "which have weights of their own. Several times: `measure` shows them beside each other.",
            metavar="NAME",
        ),
    ] = None
    pretrained: Annotated[
        list[str] | None,
        typer.Option(
            "--pretrained",
            help="One of its tags, or a file of weights; of several, in the order of the architectures.",
            metavar="TAG|FILE",
        ),
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
        typer.Option(
            "--sweep", help="The sweep file that defines --evaluation-set, at its default scale.", metavar="FILE"
        ),
    ] = None


@dataclass(frozen=True)
class Inputs:
    """The embeddings to measure, and what is known about them.

    `facts` are printed under `inputs` by `--json`, and `title` describes them in one line. `zero_shot` has the class
    prompts, `temperature` the model's own measures, and entropies of one that knows the world, `notes` lines for a
    person. `effort` has the sample limits of the model's own evaluation, if it had one.
    """

    embeddings: "Embeddings"
    facts: Mapping[str, object]
    title: str
    zero_shot: "ZeroShotTasks"
    temperature: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    effort: "SampleLimits | None" = None


class ModelChoice(NamedTuple):
    """A model as given: its name, and a tag or a file, None where the name stands for weights too."""

    name: str
    pretrained: str | None

    def __str__(self) -> str:
        """Return how a title names the model."""
        return self.name if self.pretrained is None else f"{self.name} ({self.pretrained})"


class FailedModel(NamedTuple):
    """A model, of several, that could not be measured, and why."""

    choice: ModelChoice
    problem: str


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


def load_requested_embeddings(asked: InputOptions, *, pairs: bool = False) -> Inputs:
    """Read, rebuild or encode the requested embeddings; raise InputError for anything wrong with them.

    With `pairs`, trials on MAD and evaluation sets are shown prompts of objects with attributes too.
    """
    _require_one_source(asked)
    if asked.trial is not None and asked.evaluation_set is not None:
        return _show_set_to_trial(asked, asked.trial, asked.evaluation_set, pairs=pairs)
    if asked.embeddings is not None:
        return _load_embeddings_file(asked.embeddings)
    if asked.trial is not None:
        return _load_trial_inputs(asked.trial, asked.runs, pairs=pairs)
    choices = list_models(asked)
    if len(choices) > 1:
        raise InputError(f"{len(choices)} times --model; expected one here. `gapctl measure` takes several")
    from gapctl.models.sources import check_model_name

    check_model_name(*choices[0])
    with _open_data(asked, pairs=pairs) as encode:
        return encode(choices[0])


def list_models(asked: InputOptions) -> tuple[ModelChoice, ...]:
    """Return the models of `--model` and `--pretrained`, none where something else is measured.

    The first --pretrained belongs to the first --model that is an architecture, and so on. Raise InputError where
    options contradict, or a model is given twice.
    """
    from gapctl.models.sources import has_own_weights

    _require_one_source(asked)
    names, weights = asked.model or [], asked.pretrained or []
    if not names:
        return ()
    bare = [name for name in names if not has_own_weights(name)]
    missing = [
        option
        for option, lacks in (
            ("--pretrained", bool(bare) and not weights),
            ("--data", asked.data is None and asked.evaluation_set is None),
        )
        if lacks
    ]
    if missing:
        raise InputError(f"--model without {' and '.join(missing)}; expected its weights and the shards to show it")
    if len(bare) != len(weights):
        own = [name for name in names if has_own_weights(name)]
        besides = f" ({', '.join(own)} {'have' if len(own) > 1 else 'has'} weights already)" if own else ""
        raise InputError(
            f"{len(weights)} times --pretrained for {len(bare)} architectures{besides}; expected one for each of "
            f"{', '.join(bare) or 'none'}, in their order"
        )
    for option, file in _list_prompt_files(asked).items():
        if file is not None and asked.label_key is None:
            raise InputError(
                f"--{option} without --label-key; expected the key of the samples' json that names the object"
            )
    given = iter(weights)
    choices = tuple(ModelChoice(name, None if has_own_weights(name) else next(given)) for name in names)
    twice = next((choice for place, choice in enumerate(choices) if choice in choices[:place]), None)
    if twice is not None:
        raise InputError(f"--model {twice}: given twice; expected each model once")
    return choices


def encode_with_each_model(asked: InputOptions, choices: Sequence[ModelChoice]) -> Iterator[Inputs | FailedModel]:
    """Encode the same data with each model in turn; one that fails does not stop the others.

    Raise InputError, before anything is encoded, for a name that nothing has, or for wrong data.
    """
    from gapctl.models.sources import HubError, check_model_name

    failed: dict[ModelChoice, str] = {}
    for choice in choices:
        try:
            check_model_name(*choice)
        except HubError as error:
            failed[choice] = str(error)
    with _open_data(asked) as encode:
        for choice in choices:
            if choice in failed:
                yield FailedModel(choice, failed[choice])
                continue
            try:
                inputs = encode(choice)
            except GapctlError as error:
                yield FailedModel(choice, str(error))
            else:
                yield inputs


def _require_one_source(asked: InputOptions) -> None:
    """Raise InputError unless exactly one source is given, with only the options that belong to it."""
    given = [option for option in SOURCE_OPTIONS if _is_given(asked, option)]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given together" if given else "nothing to measure was named"
        raise InputError(f"{found}; expected one of {', '.join(SOURCE_OPTIONS)}")
    alone = [option for option in MODEL_OPTIONS if _is_given(asked, option)]
    if alone and asked.model is None:
        raise InputError(f"{alone[0]} belongs to --model; found it with {given[0]}. Leave it out")
    if asked.evaluation_set is None and asked.sweep is not None:
        raise InputError(f"--sweep {asked.sweep}: only with --evaluation-set, one of those that it defines")
    beside = [option for option in SET_EXCLUDES if _is_given(asked, option)]
    if asked.evaluation_set is not None and beside:
        name = asked.evaluation_set
        raise InputError(f"{beside[0]} beside --evaluation-set {name}, which has its own; expected one of them")


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


def _load_trial_inputs(prefix: str, runs: str, *, pairs: bool) -> Inputs:
    from gapctl.inference.trial import encode_gallery_with_trial_model
    from gapctl.metrics.sampling import TRIAL_LIMITS

    trial = encode_gallery_with_trial_model(Ledger(runs), prefix, _load_trial_data, pairs=pairs)
    encoded = trial.encoded
    facts = {
        "trial": trial.id,
        "runs": runs,
        **trial.described._asdict(),
        "config": trial.described.config.model_dump(mode="json"),
        "result": {name: value for name, value in asdict(trial.result).items() if name not in ("trial", "metrics")},
    }
    title = f"trial {trial.id} ({trial.described.label}): {_describe_embeddings(encoded.embeddings)}"
    known = {**encoded.temperature, **encoded.posterior}
    return Inputs(encoded.embeddings, facts, title, encoded.zero_shot, known, effort=TRIAL_LIMITS)


def _show_set_to_trial(asked: InputOptions, trial_id: str, name: str, *, pairs: bool) -> Inputs:
    """Show an evaluation set to a trial's model, by the code that trials are measured by."""
    from gapctl.inference.trial import encode_set_with_trial_model

    declared = _read_declared_sets(asked)
    with show_progress() as show:
        trial = encode_set_with_trial_model(
            Ledger(asked.runs),
            trial_id,
            lambda described: _open_named_set(name, {**described.sets, **declared}),
            partial(show, f"encoding {name}"),
            pairs=pairs,
        )
    facts = {"trial": trial.id, "runs": asked.runs, "label": trial.described.label}
    return _describe_set_inputs(trial.encoded, f"trial {trial.id} ({trial.described.label})", facts)


def _show_set_to_model(choice: ModelChoice, opened: "OpenedEvaluationSet", *, pairs: bool) -> Inputs:
    """Show an evaluation set to an open_clip model, by the code that trials are measured by."""
    import torch

    from gapctl.inference.model import build_open_clip_set_model, load_open_clip_model
    from gapctl.models.sources import find_or_download_weights
    from gapctl.training.set_evaluation import encode_set

    model = load_open_clip_model(choice.name, find_or_download_weights(*choice))
    model.model.to("cuda" if torch.cuda.is_available() else "cpu")
    with show_progress() as show:
        bar = partial(show, f"encoding {opened.name}")
        encoded = encode_set(opened, build_open_clip_set_model(model), bar, pairs=pairs)
    facts = {
        "model": choice.name,
        "pretrained": choice.pretrained,
        "weights": {"file": str(model.weights.path), "sha256": model.weights.sha256, "part": model.origin},
        "preprocess": dict(model.preprocess),
    }
    return _describe_set_inputs(encoded, str(choice), facts)


def _describe_set_inputs(encoded: "EncodedEvaluationSet", whose: str, facts: Mapping[str, object]) -> Inputs:
    shown = encoded.opened
    described = {
        "name": shown.name,
        "kind": shown.definition.kind,
        "fingerprint": shown.fingerprint,
        **shown.about,
    }
    texts = sum(map(len, shown.captions))
    notes = (f"{encoded.cut:,} of {texts:,} captions are cut by the model's context",) if encoded.cut else ()
    title = f"{whose} on evaluation set {shown.name}: {_describe_embeddings(encoded.embeddings)}"
    extra = {**encoded.temperature, **encoded.measure_accuracies()}
    return Inputs(encoded.embeddings, {**facts, "evaluation_set": described}, title, encoded.zero_shot, extra, notes)


def _read_declared_sets(asked: InputOptions) -> "Mapping[str, EvaluationSet]":
    return {} if asked.sweep is None else load_sweep(asked.sweep).spec.evaluation_sets


@contextmanager
def _open_data(asked: InputOptions, *, pairs: bool = False) -> Iterator[Callable[[ModelChoice], Inputs]]:
    """Return what shows a model the data or the evaluation set; raise InputError for anything wrong with these."""
    if asked.evaluation_set is not None:
        opened = _open_named_set(asked.evaluation_set, _read_declared_sets(asked))
        yield lambda choice: _show_set_to_model(choice, opened, pairs=pairs)
        return
    with _open_pair_data(asked) as data:
        yield lambda choice: _encode_pairs(choice, data)


def _open_named_set(name: str, declared: "Mapping[str, EvaluationSet]") -> "OpenedEvaluationSet":
    from gapctl.data.image_text.evaluation_sets import open_set

    try:
        definition = require_set(name, declared)
    except InputError as error:
        raise InputError(f"--evaluation-set {error}") from error
    with show_progress(in_bytes=True) as show:
        return open_set(NamedSet(name, definition), lambda done, total: show(f"checking {name}", done, total))


def _load_trial_data(data: Data, fingerprint: str) -> "Dataset":
    """Load the data that a trial was trained on; raise InputError for any other."""
    found = compute_data_source_fingerprint(data)
    if found != fingerprint:
        raise InputError(
            f"{data.source}: data of fingerprint {found}; expected {fingerprint}, which the trial was trained on. "
            "Put that data back in its place"
        )
    return load_data(data, make_plain_console(stderr=True))


def _describe_embeddings(embeddings: "Embeddings") -> str:
    images, width = embeddings.image_ND.shape
    return f"{images:,} images and {len(embeddings.text_MD):,} texts, {width} wide"


class PairsToEncode(NamedTuple):
    """Image-text pairs that models are shown, and everything about them that is the same for each model.

    `problems` are the samples of each shard that are left out, and why. `open_ray` starts Ray where it is not running.
    """

    asked: InputOptions
    paths: list[Path]
    problems: dict[Path, dict[int, str]]
    tally: "ManifestTally"
    labels: "LabelOptions"
    rule: CaptionLineMode
    workers: int
    resolved: "Sequence[ResolvedPlace]"
    open_ray: "StartRay"

    @property
    def place(self) -> str:
        """How messages name the data."""
        return f"--data {' '.join(self.asked.data or ())}"


@contextmanager
def _open_pair_data(asked: InputOptions) -> Iterator[PairsToEncode]:
    """Check everything about the data that is quick to check; raise InputError for anything wrong."""
    from gapctl.data.image_text.index import build_damage_error, build_manifest
    from gapctl.data.image_text.manifest import tally_manifest
    from gapctl.data.image_text.pack import find_packed_classes
    from gapctl.data.image_text.storage import list_or_pack_local_shards
    from gapctl.data.image_text.tar_layouts import CLASS_KEY
    from gapctl.data.parallel_shards import Workers, count_available_cores
    from gapctl.inference.pairs import LabelOptions, check_first_sample

    labels = LabelOptions(
        asked.label_key,
        read_class_prompts(asked.classes) if asked.classes else None,
        read_attribute_prompts(asked.attributes) if asked.attributes else {},
    )
    workers = asked.workers or count_available_cores()
    resolved = find_or_pack_data(asked.data or [], local=True)
    classes = find_packed_classes(list_shard_places(resolved))
    if classes is not None and asked.label_key is None:
        labels = labels._replace(label_key=CLASS_KEY, classes=classes.build_prompts())
    manifest = build_manifest(list_or_pack_local_shards(list_shard_places(resolved)), Workers(workers))
    for shard in manifest.shards:  # one that ends early may lack most of its samples
        if shard.damage is not None:
            raise build_damage_error(shard.address, shard.samples, shard.damage)
    tally = tally_manifest(manifest)
    tally.require_usable(f"--data {' '.join(asked.data or ())}")
    check_first_sample(manifest, labels)
    paths = [Path(shard.address) for shard in manifest.shards if shard.usable]
    problems = {
        Path(str(shard)): {place: why for place, why in enumerate(rows["problem"]) if why is not None}
        for (shard,), rows in manifest.samples.partition_by("shard", as_dict=True, maintain_order=True).items()
    }
    rule = asked.captions or CaptionLineMode.LINES
    with ExitStack() as stack:
        yield PairsToEncode(asked, paths, problems, tally, labels, rule, workers, resolved, _SharedRay(stack).open)


class _SharedRay:
    """Start a local Ray for the first model that needs one, and a larger one for a model that needs more workers."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._cpus = stack, 0

    @contextmanager
    def open(self, cpus: int) -> Iterator[None]:
        from gapctl.cli.sweep import start_local_ray

        if cpus > self._cpus:
            self._stack.close()
            self._stack.enter_context(start_local_ray(cpus))
            self._cpus = cpus
        yield


def _list_prompt_files(asked: InputOptions) -> dict[str, Path | None]:
    return {"classes": asked.classes, "attributes": asked.attributes}


def _encode_pairs(choice: ModelChoice, data: PairsToEncode) -> Inputs:
    """Show a model the pairs; raise InputError for anything wrong with it."""
    from gapctl.inference.model import load_open_clip_model
    from gapctl.inference.pairs import assemble_encoded_pairs
    from gapctl.inference.shards import ShardCache, encode_shards
    from gapctl.models.sources import find_or_download_weights

    opened = load_open_clip_model(choice.name, find_or_download_weights(*choice))
    cache = ShardCache(find_cache_root() / "embeddings")
    with show_progress() as show:
        bar = partial(show, "encoding shards")
        encoded = encode_shards(data.paths, opened, cache, data.open_ray, data.workers, bar, data.problems, data.rule)
    tally = data.tally.add_undecodable(data.tally.usable - sum(len(shard.samples) for shard in encoded.shards))
    tally.require_usable(data.place)
    pairs = assemble_encoded_pairs(opened, encoded.shards, data.labels)
    files = _list_prompt_files(data.asked)
    facts = {
        "model": choice.name,
        "pretrained": choice.pretrained,
        "weights": {"file": str(opened.weights.path), "sha256": opened.weights.sha256, "part": opened.origin},
        "preprocess": dict(opened.preprocess),
        "shards": encoded.sha256s,
        "samples_in_shards": tally.samples,
        "pairs": tally.usable,
        "captions": {
            "rule": str(data.rule),
            "texts": len(pairs.embeddings.text_MD),
            "samples_of_several_lines": pairs.several_lines,
        },
        "skipped": dict(tally.problems),
        "unused_shards": dict(tally.unused),
        "ignored": dict(tally.ignored),
        "label_key": data.labels.label_key,
        **{name: path and {"file": str(path), "sha256": hash_file(path)} for name, path in files.items()},
    }
    shards = "1 shard" if len(data.paths) == 1 else f"{len(data.paths)} shards"
    title = f"{choice} on {shards}: {_describe_embeddings(pairs.embeddings)}"
    packed = {place.place: asdict(place.packed) for place in data.resolved if place.packed is not None}
    if packed:
        facts["packed"] = packed
    notes = (*_list_notes(opened, pairs, data.rule), *tally.lines, *format_packed_places(data.resolved))
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
