"""`gapctl measure`: gap, entropy, object bias and quality of embeddings, of a trial, or of an open_clip model.

1. `load_requested_embeddings` reads or encodes the embeddings; `_load_second_inputs` does so for `--against`.
2. `_measure_inputs` computes the metrics at the requested logit scales.
3. `measure_command` prints them, and writes the report (`_render_page`) or an MLflow run.
4. `_measure_models` does all of this for several models, and puts them beside each other.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gapctl.cli.console import SafeConsole, make_plain_console, make_table
from gapctl.cli.inputs import (
    FailedModel,
    InputOptions,
    Inputs,
    ModelChoice,
    ReportOption,
    add_input_options,
    encode_with_each_model,
    list_models,
    load_requested_embeddings,
)
from gapctl.cli.options import JsonOption
from gapctl.cli.output import check_page_file_name, exit_on_problems, print_json_or_text, write_page
from gapctl.config.metrics import DEFAULT_LOGIT_SCALES, LARGEST_LOGIT_SCALE, explain_metric, format_metric_value
from gapctl.config.sweep import Tracking
from gapctl.errors import InputError
from gapctl.extensions import ExtensionError
from gapctl.tracking.mlflow_sync import Measurement, log_measurement
from gapctl.tracking.store import check_uri

if TYPE_CHECKING:
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.gap import DimensionOverlap
    from gapctl.metrics.plot_data import PlotData
    from gapctl.metrics.sampling import SampleEstimate
    from gapctl.metrics.suite import MetricEstimates
    from gapctl.report.measure_page import Removal


OVERLAP_COUNTS: Final = (1, 3, 10)
MAX_RECALL_PAIRS = 1024
"""The most pairs among which recall is computed again for every removed dimension."""
MAX_FACT_LENGTH = 300
"""The most characters of a fact; a thousand shards would bury the rest, and `--json` lists them."""


@add_input_options
def measure_command(
    asked: InputOptions,
    scales: Annotated[
        list[str] | None,
        typer.Option(
            "--logit-scale",
            "--scale",
            help="Logit scale for the entropies: a number, or 1/T for a temperature T; may be given several times. "
            "If left out: the model's own, or 1, 1/0.07 and 100 where there is none.",
            metavar="S",
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Another model of the same width, given as the first is: do the same dimensions carry its gap?",
            metavar="PLACE|ID",
        ),
    ] = None,
    as_json: JsonOption = False,
    report: ReportOption = None,
    log: Annotated[bool, typer.Option("--log", help="Also keep it in MLflow, as a run of `measurements`.")] = False,
    uri: Annotated[
        str | None, typer.Option("--uri", help="MLflow's store for --log, if not sqlite:///mlflow.db.")
    ] = None,
) -> None:
    """Gap, entropy, object bias and quality of embeddings, of a trial, or of any open_clip model.

    One of three is measured: `--embeddings`, saved before; `--trial`, a finished training of the ledger; `--model`
    with `--pretrained` and `--data`, an open_clip model shown image-text shards. With several `--model` they stand
    beside each other: `--model ViT-B-32 --pretrained openai --model hf-hub:ORGANISATION/NAME --data shards/`.

    An .npz archive is what `numpy.savez(file, image=..., text=...)` writes. Embeddings are float rows, (rows, width),
    and are normalised here; labels and attributes are whole numbers or words. Nothing is ever unpickled.

    * `image` (N, D) and `text` (M, D): needed. With M = N, row i of one matches row i of the other.

    * `text_to_image` (M,): each text's image, 0 to N - 1, where images have several captions.

    * `labels` (N,): each image's object. With neither M = N nor `text_to_image`, the texts are one prompt per class
      and labels are rows of `text`: adds zero-shot accuracy and the comparison of class orders.

    * `attributes` (N,) or (N, factors): each image's attribute; with `labels` it adds object bias (MOAD).

    * `image_with_attributes` (N, D): the embeddings whose object bias is meant, if not those of `image`.

    With one `--scale`, or a model's own, the entropies are `entropy/i2t_nats` and so on; with several, as for saved
    embeddings if none is given, each name ends in its scale: `entropy/i2t_nats_scale_100`. `--json` gives metrics by
    name, null where one is not defined (all objects the same, say), and under `inputs` what they were computed from;
    `samples` there says how many rows a measure looked at where that was a part of them, with its interval. Of several
    models it gives such a document each, under `models`.
    """
    asked_scales = _parse_logit_scales(scales or ())
    if uri is not None and not log:
        raise InputError("--uri belongs to --log; expected both or neither")
    store = uri or Tracking().uri
    if log:
        check_uri(store)
    check_page_file_name("--report", report)
    other = _load_second_inputs(asked, against)
    choices = list_models(asked)
    if len(choices) > 1:
        _measure_models(asked, choices, asked_scales, as_json=as_json, report=report, store=store if log else None)
        return
    inputs = load_requested_embeddings(asked)
    shared = None if other is None else _compare_dimensions(str(against), inputs, other)
    logit_scales = _choose_logit_scales(inputs, asked_scales)
    with make_plain_console(stderr=True).status("measuring"):
        metrics, samples = _measure_inputs(inputs, logit_scales)
        page = _render_page(inputs, metrics) if report is not None or log else ""
    if report is not None:
        write_page("--report", report, page)
    document = _build_measure_document(inputs, metrics, samples, logit_scales)
    if other is not None and shared is not None:
        overlaps = {str(count): overlap._asdict() for count, overlap in shared.items()}
        document["against"] = {"with": other.title, "leading_dimensions": overlaps}
    if log:
        _log_measurement(store, inputs, metrics, page, document)

    def render() -> None:
        _print_measured_metrics(inputs, metrics, samples)
        if other is not None and shared is not None:
            _print_shared_dimensions(other.title, shared)

    print_json_or_text(document, render, as_json)


@dataclass(frozen=True)
class MeasuredModel:
    """One of several models: what was measured, and its metrics."""

    choice: ModelChoice
    inputs: Inputs
    metrics: Mapping[str, float]
    document: Mapping[str, object]


def _measure_models(
    asked: InputOptions,
    choices: Sequence[ModelChoice],
    asked_scales: tuple[float, ...],
    *,
    as_json: bool,
    report: Path | None,
    store: str | None,
) -> None:
    """Measure several models on the same data; log each as soon as it is measured; exit with 1 where one failed."""
    measured: list[MeasuredModel] = []
    failed: list[FailedModel] = []
    for choice, found in zip(choices, encode_with_each_model(asked, choices), strict=True):
        if isinstance(found, FailedModel):
            failed.append(found)
            continue
        scales = _choose_logit_scales(found, asked_scales)
        with make_plain_console(stderr=True).status(f"measuring {choice}"):
            metrics, samples = _measure_inputs(found, scales)
        document = _build_measure_document(found, metrics, samples, scales)
        if store is not None:
            _log_measurement(store, found, metrics, _render_page(found, metrics), document)
        measured.append(MeasuredModel(choice, found, metrics, document))
    problems = [f"{each.choice} was not measured: {each.problem}" for each in failed]
    if measured and report is not None:
        write_page("--report", report, _render_models_page(measured, problems))
    together = {
        "models": [each.document for each in measured],
        "failed": [{**each.choice._asdict(), "problem": each.problem} for each in failed],
    }
    print_json_or_text(together, lambda: _print_models(measured), as_json)
    exit_on_problems(problems)


def _print_models(measured: Sequence[MeasuredModel]) -> None:
    """Print a table with a numbered column for each model, and what the numbers stand for."""
    plain = make_plain_console()
    for number, each in enumerate(measured, 1):
        plain.print(f"{number}: {each.inputs.title}")
        for note in each.inputs.notes:
            plain.print(f"   {note}")
    console = SafeConsole()
    for group, keys in groupby(_list_metric_keys(measured), key=_parse_group):
        columns = [str(number) for number in range(1, len(measured) + 1)]
        table = make_table(group, *columns, "", right=range(1, len(measured) + 1), header_style="bold")
        for key in keys:
            table.add_row("  " + key.removeprefix(f"{group}/"), *_format_values(measured, key), explain_metric(key))
        console.print()
        console.print(table)


def _list_metric_keys(measured: Sequence[MeasuredModel]) -> list[str]:
    """Return every key that a model has, in the order of one that has it, groups together."""
    keys = dict.fromkeys(key for each in measured for key in each.metrics)
    groups = list(dict.fromkeys(map(_parse_group, keys)))
    return sorted(keys, key=lambda key: groups.index(_parse_group(key)))


def _format_values(measured: Sequence[MeasuredModel], key: str) -> list[str]:
    return [format_metric_value(key, each.metrics[key]) if key in each.metrics else "" for each in measured]


def _render_models_page(measured: Sequence[MeasuredModel], problems: Sequence[str]) -> str:
    from gapctl.report.measure_page import MeasureLine, ModelColumn, render_models_page

    lines = [
        MeasureLine(key, tuple(_format_values(measured, key)), explain_metric(key))
        for key in _list_metric_keys(measured)
    ]
    columns = [
        ModelColumn(str(each.choice), each.inputs.title, each.inputs.notes, dict(_flatten_facts("", each.inputs.facts)))
        for each in measured
    ]
    return render_models_page(columns, lines, problems)


def _log_measurement(
    store: str, inputs: Inputs, metrics: Mapping[str, float], page: str, document: Mapping[str, object]
) -> None:
    params = {key: str(value) for key, value in inputs.facts.items() if isinstance(value, str | int | float)}
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    files = {"report.html": page.encode(), "measures.json": json.dumps(document, indent=1).encode()}
    log_measurement(store, Measurement(inputs.title.partition(": ")[0], params, finite, files))


def _choose_logit_scales(inputs: Inputs, asked: tuple[float, ...]) -> tuple[float, ...]:
    own = inputs.embeddings.logit_scale
    return asked or (DEFAULT_LOGIT_SCALES if own is None else (own,))


def _measure_inputs(inputs: Inputs, logit_scales: Sequence[float]) -> "MetricEstimates":
    from gapctl.metrics.sampling import THOROUGH_LIMITS
    from gapctl.metrics.suite import measure_at_logit_scales

    effort = inputs.effort or THOROUGH_LIMITS
    try:
        return measure_at_logit_scales(inputs.embeddings, logit_scales, effort, inputs.zero_shot, inputs.temperature)
    except ExtensionError as error:
        raise InputError(f"{error}; mend or uninstall that package") from error


def _parse_logit_scales(written: Sequence[str]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_parse_logit_scale(text) for text in written))


def _parse_logit_scale(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    try:
        scale = float(numerator) / float(denominator if slash else 1)
    except (ValueError, ZeroDivisionError):
        scale = math.nan
    if not 0 < scale <= LARGEST_LOGIT_SCALE:
        raise InputError(
            f"--scale {text}: expected a number above 0 and at most {LARGEST_LOGIT_SCALE:,.0f}, such as 100, "
            "or 1/0.07 for a temperature of 0.07"
        )
    return scale


def _build_measure_document(
    inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "SampleEstimate"], scales: Sequence[float]
) -> dict[str, object]:
    bias_of = "image_with_attributes" if inputs.embeddings.bias_image_ND is not None else "image"
    return {
        "metrics": {key: _replace_undefined(value) for key, value in metrics.items()},
        "inputs": {
            **inputs.facts,
            "samples": {
                key: {
                    "sample": each.sample,
                    "population": each.population,
                    **({"galleries": each.galleries} if each.galleries else {}),
                    "low": _replace_undefined(each.low),
                    "high": _replace_undefined(each.high),
                }
                for key, each in samples.items()
            },
            "logit_scales": scales,
            "bias_of": bias_of if "bias/moad_image" in metrics else None,
        },
    }


def _replace_undefined(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _print_measured_metrics(
    inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "SampleEstimate"]
) -> None:
    for line in (inputs.title, *inputs.notes):
        make_plain_console().print(line)
    console = SafeConsole()
    for group, keys in groupby(metrics, key=_parse_group):
        table = make_table(group, "", "", right=(1,), header_style="bold")
        for key in keys:
            name = "  " + key.removeprefix(f"{group}/")
            table.add_row(name, format_metric_value(key, metrics[key]), explain_metric(key))
        console.print()
        console.print(table)
    if samples:
        console.print("\nTaken from rows that were drawn or dealt by a fixed seed; --json has their intervals:")
    for key, each in samples.items():
        dealt = f" in {each.galleries} galleries" if each.galleries else ""
        console.print(f"  {key}: {each.sample:,} of {each.population:,}{dealt}")


def _parse_group(key: str) -> str:
    return key.split("/", 1)[0]


def _load_second_inputs(asked: InputOptions, against: str | None) -> Inputs | None:
    """Load the second model as the first was loaded; raise InputError for anything wrong with it."""
    if against is None:
        return None
    if asked.embeddings is None and asked.trial is None:
        raise InputError(
            "--against belongs to --embeddings, with other saved embeddings, or to --trial, with another trial's id; "
            "found it without either. Of a --model's embeddings it takes the saved ones"
        )
    saved = asked.embeddings is not None
    try:
        return load_requested_embeddings(replace(asked, embeddings=against) if saved else replace(asked, trial=against))
    except InputError as error:
        raise InputError(str(error).replace(f"--trial {against}", f"--against {against}")) from error


def _compare_dimensions(against: str, inputs: Inputs, other: Inputs) -> "dict[int, DimensionOverlap]":
    """Return the overlap of both models' leading dimensions, by how many are compared.

    Raise InputError where the widths differ.
    """
    from gapctl.metrics.gap import measure_dimension_overlap
    from gapctl.metrics.streaming import sum_embeddings

    one_D, other_D = (sum_embeddings(each.embeddings).gap.mean_difference_D for each in (inputs, other))
    if len(one_D) != len(other_D):
        raise InputError(
            f"--against {against}: {len(other_D)} wide; expected {len(one_D)} as the first, since dimensions are "
            "compared one by one"
        )
    counts = [count for count in OVERLAP_COUNTS if count < len(one_D)]
    return {count: measure_dimension_overlap(one_D, other_D, count) for count in counts}


def _print_shared_dimensions(title: str, overlaps: "dict[int, DimensionOverlap]") -> None:
    make_plain_console().print(f"\nDimensions that carry most of the gap, shared with {title}:")
    table = make_table("largest", "shared", "by chance", "p", right=range(4), header_style="bold")
    for count, overlap in overlaps.items():
        table.add_row(str(count), f"{count * overlap.share:.0f}", f"{count * overlap.chance:.2f}", f"{overlap.p:.2g}")
    SafeConsole().print(table)


def _render_page(inputs: Inputs, metrics: Mapping[str, float]) -> str:
    from gapctl.metrics.plot_data import sample_plot_data
    from gapctl.report.measure_page import CosineBin, MeasureLine, MeasurePage, PlanePoint, render_measure_page

    picture = sample_plot_data(inputs.embeddings)
    plane, found = picture.plane, picture.similarities
    bins = zip(found.edges[:-1], found.edges[1:], found.matched_B, found.other_B, strict=True)
    page = MeasurePage(
        title=inputs.title,
        notes=inputs.notes,
        lines=[
            MeasureLine(key, (format_metric_value(key, value),), explain_metric(key)) for key, value in metrics.items()
        ],
        facts=dict(_flatten_facts("", inputs.facts)),
        images=[PlanePoint(*map(float, row)) for row in plane.image_P2],
        texts=[PlanePoint(*map(float, row)) for row in plane.text_P2],
        shares=plane.shares,
        bins=[CosineBin(*map(float, row)) for row in bins],
        difference=[float(value) for value in picture.difference_D],
        removals=_measure_removals(inputs.embeddings, picture),
        removal_pairs=min(MAX_RECALL_PAIRS, len(inputs.embeddings.image_ND)),
    )
    return render_measure_page(page)


def _measure_removals(embeddings: "Embeddings", picture: "PlotData") -> "list[Removal]":
    """Measure gap and recall as dimensions are removed; none for class prompts.

    The last step is left out: in one dimension only signs remain.
    """
    import numpy as np

    from gapctl.metrics.embedding_set import assign_match_keys, normalise_rows
    from gapctl.metrics.plot_data import measure_gap_after_removal, measure_recall_after_removal
    from gapctl.metrics.sampling import DrawPurpose, sample_row_numbers
    from gapctl.report.measure_page import Removal

    if embeddings.prompt_of_N is not None:
        return []
    order_D = np.argsort(-np.abs(picture.difference_D), kind="stable")
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    steps = measure_gap_after_removal(image_ND, text_MD, order_D, embeddings.text_to_image_M)
    image_P = sample_row_numbers(DrawPurpose.PAIRS, len(image_ND), MAX_RECALL_PAIRS)
    text_P = image_P
    if embeddings.text_to_image_M is not None:  # the first text of each image
        text_P = np.unique(embeddings.text_to_image_M, return_index=True)[1][image_P]
    image_key_N, text_key_M = assign_match_keys(embeddings)
    recall_T = measure_recall_after_removal(
        image_ND[image_P], text_MD[text_P], image_key_N[image_P], text_key_M[text_P], order_D
    )
    found = zip(steps[:-1], recall_T, strict=False)
    return [Removal(removed, sums.rmg(), sums.l2m(), float(recall)) for removed, (sums, recall) in enumerate(found)]


def _flatten_facts(prefix: str, found: Mapping[str, object]) -> list[tuple[str, str]]:
    listed = []
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            listed += _flatten_facts(f"{prefix}{key} ", value)
        elif value not in (None, (), {}, []):
            text = str(value)
            shown = text if len(text) <= MAX_FACT_LENGTH else f"{text[:MAX_FACT_LENGTH]}..."
            listed.append((f"{prefix}{key}", shown))
    return listed
