"""What `gapctl measure` and `gapctl intervene` can be pointed at, as options that both share, and what comes of it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.options import DEFAULT_RUNS, RunsOption
from gapctl.data.pairs.caption_lines import CaptionRule
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.data.load import Material
    from gapctl.metrics.class_prompts import ZeroShot
    from gapctl.metrics.effort import Effort
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.embeddings.content import EmbeddingsFile
    from gapctl.spec.data import Data

SOURCES = ("--embeddings", "--trial", "--model")
WITH_MODEL = ("--pretrained", "--data", "--captions", "--label-key", "--classes", "--attributes", "--workers")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The shared options as they were given; exactly one of the sources is."""

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
        CaptionRule | None,
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
    """What is to be measured.

    `facts` are what `--json` tells under `inputs`, `title` says in one line what it is. `zero_shot` asks about the
    images by class prompts, `temperature` are the model's own measures, `notes` are lines for a person to know;
    `effort` is what the model's own evaluation spent on sampled measures, where it had one.
    """

    embeddings: "Embeddings"
    facts: Mapping[str, Any]
    title: str
    zero_shot: "ZeroShot"
    temperature: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    effort: "Effort | None" = None


def takes_inputs(verb: Callable[..., None]) -> Callable[..., None]:
    """Gives a verb the shared options in place of its first argument, `asked`."""
    own = list(inspect.signature(verb).parameters.values())[1:]
    shared = list(inspect.signature(Asked).parameters.values())
    names = [option.name for option in fields(Asked)]

    @wraps(verb)
    def with_options(**given: Any) -> None:
        verb(Asked(**{name: given.pop(name) for name in names}), **given)

    parameters = [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in (*shared, *own)]
    with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_options.__annotations__ = {option.name: option.annotation for option in parameters}
    return with_options


def load_inputs(asked: Asked) -> Inputs:
    """Reads, rebuilds or encodes what was asked for; raises InputError for whatever is wrong with it."""
    _check(asked)
    if asked.embeddings is not None:
        return _of_file(asked.embeddings)
    if asked.trial is not None:
        return _of_trial(asked.trial, asked.runs)
    return _of_model(asked)


def _check(asked: Asked) -> None:
    """The options that contradict each other, or lack one another."""
    given = [option for option in SOURCES if _is_given(asked, option)]
    if len(given) != 1:
        found = f"{' and '.join(given)} were given together" if given else "nothing to measure was named"
        raise InputError(f"{found}; expected one of {', '.join(SOURCES)}")
    alone = [option for option in WITH_MODEL if _is_given(asked, option)]
    if alone and asked.model is None:
        raise InputError(f"{alone[0]} belongs to --model; found it with {given[0]}. Leave it out")
    missing = [option for option in ("--pretrained", "--data") if not _is_given(asked, option)]
    if missing and asked.model is not None:
        raise InputError(f"--model without {' and '.join(missing)}; expected its weights and the shards to show it")


def _is_given(asked: Asked, option: str) -> bool:
    return bool(getattr(asked, option.removeprefix("--").replace("-", "_")) is not None)


def _of_file(place: str) -> Inputs:
    from gapctl.metrics.class_prompts import ZeroShot
    from gapctl.metrics.embeddings.read import read_embeddings

    file = read_embeddings(place)
    facts = {
        "file": place,
        **_hashes(file),
        "arrays": {name: {"shape": facts.shape, "dtype": facts.dtype} for name, facts in file.arrays.items()},
        "unused_arrays": file.unused,
        "pairing": file.pairing,
    }
    notes = (f"not used: {', '.join(file.unused)}",) if file.unused else ()
    title = f"{place}: {_counted(file.embeddings)}; {_belonging(file)}"
    return Inputs(file.embeddings, facts, title, ZeroShot(), notes=notes)


def _hashes(file: "EmbeddingsFile") -> dict[str, Any]:
    """The one file's sha256, or that of the list of all of them."""
    import hashlib

    if len(file.files) == 1:
        return {"sha256": next(iter(file.files.values()))}
    listed = "".join(f"{sha256}  {name}\n" for name, sha256 in file.files.items())
    return {"sha256": hashlib.sha256(listed.encode()).hexdigest(), "files": dict(file.files)}


def _of_trial(prefix: str, runs: str) -> Inputs:
    from dataclasses import asdict

    from gapctl.encoding.trial import encode_trial
    from gapctl.ledger import Ledger
    from gapctl.metrics.effort import TRIAL

    trial = encode_trial(Ledger(runs), prefix, _trial_data)
    facts = {
        "trial": trial.id,
        "runs": runs,
        **trial.described._asdict(),
        "config": trial.described.config.model_dump(mode="json"),
        "result": {name: value for name, value in asdict(trial.result).items() if name not in ("trial", "metrics")},
    }
    title = f"trial {trial.id} ({trial.described.label}): {_counted(trial.encoded.embeddings)}"
    return Inputs(
        trial.encoded.embeddings, facts, title, trial.encoded.zero_shot, trial.encoded.temperature, effort=TRIAL
    )


def _of_model(asked: Asked) -> Inputs:
    from gapctl.cli.input_pairs import PairOptions, encode_pairs

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
            asked.captions or CaptionRule.LINES,
        )
    )
    pairs = found.pairs
    return Inputs(pairs.embeddings, found.facts, found.title, pairs.zero_shot, pairs.temperature, found.notes)


def _trial_data(data: "Data", fingerprint: str) -> "Material":
    """The data that a trial was trained on, and no other."""
    from gapctl.cli.context import fingerprint_of
    from gapctl.cli.preparing import load_data
    from gapctl.cli.terminal import plain_console

    found = fingerprint_of(data)
    if found != fingerprint:
        raise InputError(
            f"{data.source}: data of fingerprint {found}; expected {fingerprint}, which the trial was trained on. "
            "Put that data back in its place"
        )
    return load_data(data, plain_console(stderr=True))


def _counted(embeddings: "Embeddings") -> str:
    images, width = embeddings.image_ND.shape
    return f"{images:,} images and {len(embeddings.text_MD):,} texts, {width} wide"


def _belonging(file: "EmbeddingsFile") -> str:
    belongs = {
        "rows": "row i of one matches row i of the other",
        "text_to_image": "`text_to_image` gives each text's image",
        "labels": "texts are class prompts, `labels` gives each image's",
    }
    return belongs[file.pairing]
