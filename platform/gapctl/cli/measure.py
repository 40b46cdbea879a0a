"""`gapctl measure`: gap, entropy, object bias and quality of embeddings, of a trial, or of an open_clip model.

1. `load_inputs` reads or encodes the embeddings; `load_second_inputs` does so for `--against`.
2. `_measure_inputs` computes the metrics at the requested logit scales.
3. `measure_command` prints them, and writes the report (`render_measure_report`) or an MLflow run.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

import typer

from gapctl.cli.inputs import InputOptions, Inputs, add_input_options, load_inputs
from gapctl.cli.options import JsonOption
from gapctl.cli.output import check_page, write_page
from gapctl.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from gapctl.config.metrics import MetricName
    from gapctl.metrics.embedding_set import Embeddings
    from gapctl.metrics.gap import DimensionOverlap
    from gapctl.metrics.plots import PlotData
    from gapctl.metrics.sampling import SampleEstimate
    from gapctl.report.measure_page import MeasureLine, MeasurePage, Removal


OVERLAP_COUNTS: Final = (1, 3, 10)


MAX_RECALL_PAIRS = 1024
"""The most pairs among which recall is computed again for every removed dimension."""


MAX_FACT_LENGTH = 300
"""The most characters of a fact; a thousand shards would bury the rest, and `--json` lists them."""


DEFAULT_SCALES = ("1", "1/0.07", "100")
"""Plain cosines, CLIP's temperature before training, and the largest scale that CLIP's training allows."""


LARGEST_SCALE = 1e6
"""Beyond this scale, rounding alone changes an entropy in its tenth digit, and soon in all."""
METRIC_GROUPS = ("gap", "entropy", "temperature", "bias", "geometry", "quality")


ReportOption = Annotated[
    Path | None,
    typer.Option("--report", help="Also write a report: one HTML file that needs no network.", metavar="FILE.html"),
]


AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Another model of the same width, given as the first is: do the same dimensions carry its gap?",
        metavar="PLACE|ID",
    ),
]
LogOption = Annotated[bool, typer.Option("--log", help="Also keep it in MLflow, as a run of `measurements`.")]
UriOption = Annotated[str | None, typer.Option("--uri", help="MLflow's store for --log, if not sqlite:///mlflow.db.")]


ScalesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--logit-scale",
        "--scale",
        help="Logit scale for the entropies: a number, or 1/T for a temperature T; may be given several times. "
        "If left out: the model's own, or 1, 1/0.07 and 100 where there is none.",
        metavar="S",
    ),
]


class ModelComparison(NamedTuple):
    """The other model's title, and the overlap of leading dimensions by how many are compared."""

    title: str
    overlaps: "dict[int, DimensionOverlap]"


@add_input_options
def measure_command(
    asked: InputOptions,
    scales: ScalesOption = None,
    against: AgainstOption = None,
    as_json: JsonOption = False,
    report: ReportOption = None,
    log: LogOption = False,
    uri: UriOption = None,
) -> None:
    """Gap, entropy, object bias and quality of embeddings, of a trial, or of any open_clip model.

    One of three is measured: `--embeddings`, saved before; `--trial`, a finished training of the ledger; `--model`
    with `--pretrained` and `--data`, an open_clip model shown image-text shards.

    An .npz archive is what `numpy.savez(file, image=..., text=...)` writes. Embeddings are float rows, (rows, width),
    and are normalised here; everything else is whole numbers. Nothing is ever unpickled.

    * `image` (N, D) and `text` (M, D): needed. With M = N, row i of one matches row i of the other.

    * `text_to_image` (M,): each text's image, 0 to N - 1, where images have several captions.

    * `labels` (N,): each image's object. With neither M = N nor `text_to_image`, the texts are one prompt per class
      and labels are rows of `text`: adds zero-shot accuracy and the comparison of class orders.

    * `attributes` (N,) or (N, factors): each image's attribute; with `labels` it adds object bias (MOAD).

    * `image_with_attributes` (N, D): the embeddings whose object bias is meant, if not those of `image`.

    With one `--scale`, or a model's own, the entropies are `entropy/i2t_nats` and so on; with several, as for saved
    embeddings if none is given, each name ends in its scale: `entropy/i2t_nats_scale_100`. `--json` gives metrics by
    name, null where one is not defined (all objects the same, say), and under `inputs` what they were computed from;
    `samples` there says how many rows a measure looked at where that was a part of them, with its interval.
    """
    from gapctl.cli.output import make_plain_console

    asked_scales = _parse_logit_scales(scales or ())
    _check_store(uri, log)
    check_page("--report", report)
    other = load_second_inputs(asked, against)
    inputs = load_inputs(asked)
    shared = compare_dimensions(against, inputs, other) if against is not None and other is not None else None
    own = inputs.embeddings.logit_scale
    logit_scales = asked_scales or (_parse_logit_scales(DEFAULT_SCALES) if own is None else (own,))
    with make_plain_console(stderr=True).status("measuring"):
        metrics, samples = _measure_inputs(inputs, logit_scales)
        page = _render_page(inputs, metrics) if report is not None or log else ""
    if report is not None:
        write_page("--report", report, page)
    document = _build_measure_document(inputs, metrics, samples, logit_scales)
    if shared is not None:
        document["against"] = build_comparison_document(shared)
    if log:
        _log_run(uri, document, inputs, page)
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    _print_metrics(inputs, metrics, samples)
    if shared is not None:
        print_shared_dimensions(shared)


def _measure_inputs(
    inputs: Inputs, logit_scales: Sequence[float]
) -> tuple[dict[str, float], dict[str, "SampleEstimate"]]:
    """Return the metrics in the order of their groups, and the samples of those that used a part of the rows."""
    from gapctl.metrics.classification import measure_accuracies
    from gapctl.metrics.sampling import THOROUGH_LIMITS
    from gapctl.metrics.suite import measure_entropies_by_scale, measure_with_samples

    effort = inputs.effort or THOROUGH_LIMITS
    values, sampled = measure_with_samples(inputs.embeddings, effort)
    found = {**values, **inputs.temperature}
    if logit_scales != (inputs.embeddings.logit_scale,):
        by_scale = measure_entropies_by_scale(inputs.embeddings, logit_scales, effort)
        found, sampled = found | by_scale.values, sampled | by_scale.samples
    found |= measure_accuracies(inputs.embeddings.image_ND, inputs.zero_shot)
    samples = {key: each for key, each in sampled.items() if not each.whole and found.get(key) == each.value}
    return {key: found[key] for key in sorted(found, key=lambda key: METRIC_GROUPS.index(_parse_group(key)))}, samples


def _parse_logit_scales(written: Sequence[str]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_parse_logit_scale(text) for text in written))


def _parse_logit_scale(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    try:
        scale = float(numerator) / float(denominator if slash else 1)
    except (ValueError, ZeroDivisionError):
        scale = math.nan
    if not 0 < scale <= LARGEST_SCALE:
        raise InputError(
            f"--scale {text}: expected a number above 0 and at most {LARGEST_SCALE:,.0f}, such as 100, "
            "or 1/0.07 for a temperature of 0.07"
        )
    return scale


def _check_store(uri: str | None, log: bool) -> None:
    if uri is not None and not log:
        raise InputError("--uri belongs to --log; expected both or neither")
    if log:
        from gapctl.tracking.store import check_uri

        check_uri(_choose_store(uri))


def _choose_store(uri: str | None) -> str:
    from gapctl.config.sweep import Tracking

    return uri or Tracking().uri


def _log_run(uri: str | None, document: Mapping[str, Any], inputs: Inputs, page: str) -> None:
    from gapctl.tracking.measurement import Measurement, log_measurement

    params = {key: str(value) for key, value in inputs.facts.items() if isinstance(value, str | int | float)}
    metrics = {key: value for key, value in document["metrics"].items() if value is not None}
    files = {"report.html": page.encode(), "measures.json": json.dumps(document, indent=1).encode()}
    log_measurement(_choose_store(uri), Measurement(inputs.title.partition(": ")[0], params, metrics, files))


def _render_page(inputs: Inputs, metrics: Mapping[str, float]) -> str:
    from gapctl.config.metrics import find_metric
    from gapctl.report.measure_page import MeasureLine

    names = {key: find_metric(key) for key in metrics}
    lines = [MeasureLine(key, _format_value(value, names[key]), _explain_metric(key)) for key, value in metrics.items()]
    return render_measure_report(inputs, lines)


def _explain_metric(key: str) -> str:
    from gapctl.config.metrics import find_metric

    if (name := find_metric(key)) is not None:
        return name.meaning
    group, _, rest = key.partition("/accuracy_")
    return f"zero-shot accuracy of {rest}" if group == "quality" else ""


def _build_measure_document(
    inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "SampleEstimate"], scales: Sequence[float]
) -> dict[str, Any]:
    bias_of = "image_with_attributes" if inputs.embeddings.bias_image_ND is not None else "image"
    return {
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        "inputs": {
            **inputs.facts,
            "samples": {key: _describe_sample(each) for key, each in samples.items()},
            "logit_scales": scales,
            "bias_of": bias_of if "bias/moad_image" in metrics else None,
        },
    }


def _describe_sample(sampled: "SampleEstimate") -> dict[str, Any]:
    ends = {"low": sampled.low, "high": sampled.high}
    known = {end: value if math.isfinite(value) else None for end, value in ends.items()}
    dealt = {"galleries": sampled.galleries} if sampled.galleries else {}
    return {"sample": sampled.sample, "population": sampled.population, **dealt, **known}


def _print_metrics(inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "SampleEstimate"]) -> None:
    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import make_plain_console

    for line in (inputs.title, *inputs.notes):
        make_plain_console().print(line)
    console = SafeConsole()
    for group, keys in groupby(metrics, key=_parse_group):
        _print_group(console, group, {key: metrics[key] for key in keys})
    if samples:
        console.print("\nTaken from rows that were drawn or dealt by a fixed seed; --json has their intervals:")
    for key, each in samples.items():
        dealt = f" in {each.galleries} galleries" if each.galleries else ""
        console.print(f"  {key}: {each.sample:,} of {each.population:,}{dealt}")


def _parse_group(key: str) -> str:
    return key.split("/", 1)[0]


def _print_group(console: "Console", group: str, metrics: Mapping[str, float]) -> None:
    from rich.table import Table

    from gapctl.config.metrics import find_metric

    table = Table(group, "", "", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for key, value in metrics.items():
        name = find_metric(key)
        table.add_row("  " + key.removeprefix(f"{group}/"), _format_value(value, name), _explain_metric(key))
    console.print()
    console.print(table)


def _format_value(value: float, name: "MetricName | None") -> str:
    if math.isnan(value):
        return "undefined"
    unit = name.unit if name else "percent"
    if unit in ("pairs", "dimensions"):
        return f"{value:.0f}"
    if unit == "percent":
        return f"{value:.1f} %"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"


def load_second_inputs(asked: InputOptions, against: str | None) -> Inputs | None:
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
        return load_inputs(replace(asked, embeddings=against) if saved else replace(asked, trial=against))
    except InputError as error:
        raise InputError(str(error).replace(f"--trial {against}", f"--against {against}")) from error


def compare_dimensions(against: str, inputs: Inputs, other: Inputs) -> ModelComparison:
    """Compare the leading dimensions of both models; raise InputError where the widths differ."""
    from gapctl.metrics.gap import measure_dimension_overlap
    from gapctl.metrics.streaming import sum_embeddings

    one_D, other_D = (sum_embeddings(each.embeddings).gap.mean_difference_D for each in (inputs, other))
    if len(one_D) != len(other_D):
        raise InputError(
            f"--against {against}: {len(other_D)} wide; expected {len(one_D)} as the first, since dimensions are "
            "compared one by one"
        )
    counts = [count for count in OVERLAP_COUNTS if count < len(one_D)]
    return ModelComparison(other.title, {count: measure_dimension_overlap(one_D, other_D, count) for count in counts})


def build_comparison_document(found: ModelComparison) -> dict[str, Any]:
    """Return the comparison as `--json` prints it."""
    return {"with": found.title, "leading_dimensions": {str(k): each._asdict() for k, each in found.overlaps.items()}}


def print_shared_dimensions(found: ModelComparison) -> None:
    """Print the comparison as a table."""
    from rich.table import Table

    from gapctl.cli.console import SafeConsole
    from gapctl.cli.output import make_plain_console

    make_plain_console().print(f"\nDimensions that carry most of the gap, shared with {found.title}:")
    table = Table("largest", "shared", "by chance", "p", box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.justify = "right"
    for count, overlap in found.overlaps.items():
        table.add_row(str(count), f"{count * overlap.share:.0f}", f"{count * overlap.chance:.2f}", f"{overlap.p:.2g}")
    SafeConsole().print(table)


def render_measure_report(inputs: Inputs, lines: "list[MeasureLine]") -> str:
    """Return the page as one HTML text."""
    from gapctl.report.measure_page import render_measure_page

    return render_measure_page(_build_page_data(inputs, lines))


def _build_page_data(inputs: Inputs, lines: "list[MeasureLine]") -> "MeasurePage":
    from gapctl.metrics.plots import sample_plot_data
    from gapctl.report.measure_page import CosineBin, MeasurePage, PlanePoint

    picture = sample_plot_data(inputs.embeddings)
    plane, found = picture.plane, picture.similarities
    return MeasurePage(
        title=inputs.title,
        notes=inputs.notes,
        lines=lines,
        facts=dict(_flatten_facts("", inputs.facts)),
        images=[PlanePoint(*map(float, row)) for row in plane.image_P2],
        texts=[PlanePoint(*map(float, row)) for row in plane.text_P2],
        shares=plane.shares,
        bins=[
            CosineBin(*map(float, row))
            for row in zip(found.edges[:-1], found.edges[1:], found.matched_B, found.other_B, strict=True)
        ],
        difference=[float(value) for value in picture.difference_D],
        removals=_measure_removals(inputs.embeddings, picture),
        removal_pairs=min(MAX_RECALL_PAIRS, len(inputs.embeddings.image_ND)),
    )


def _measure_removals(embeddings: "Embeddings", picture: "PlotData") -> "list[Removal]":
    """Measure gap and recall as dimensions are removed; none for class prompts.

    The last step is left out: in one dimension only signs remain.
    """
    import numpy as np

    from gapctl.metrics.embedding_set import assign_match_keys, normalise_rows
    from gapctl.metrics.plots import measure_gap_after_removal, measure_recall_after_removal
    from gapctl.report.measure_page import Removal

    if embeddings.prompt_of_N is not None:
        return []
    order_D = np.argsort(-np.abs(picture.difference_D), kind="stable")
    image_ND, text_MD = normalise_rows(embeddings.image_ND), normalise_rows(embeddings.text_MD)
    steps = measure_gap_after_removal(image_ND, text_MD, order_D, embeddings.text_to_image_M)
    image_P, text_P = _sample_pairs(embeddings)
    image_key_N, text_key_M = assign_match_keys(embeddings)
    recall_T = measure_recall_after_removal(
        image_ND[image_P], text_MD[text_P], image_key_N[image_P], text_key_M[text_P], order_D
    )
    found = zip(steps[:-1], recall_T, strict=False)
    return [Removal(removed, sums.rmg(), sums.l2m(), float(recall)) for removed, (sums, recall) in enumerate(found)]


def _sample_pairs(embeddings: "Embeddings") -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
    """Draw the rows of images and of one text each, among which recall is computed as dimensions are removed."""
    import numpy as np

    from gapctl.metrics.sampling import DrawPurpose, sample_rows

    image_P = sample_rows(DrawPurpose.PAIRS, len(embeddings.image_ND), MAX_RECALL_PAIRS)
    if embeddings.text_to_image_M is None:
        return image_P, image_P
    first_text_N = np.unique(embeddings.text_to_image_M, return_index=True)[1]
    return image_P, first_text_N[image_P]


def _flatten_facts(prefix: str, found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return every fact as text, by its path."""
    listed = []
    for key, value in found.items():
        if isinstance(value, Mapping) and value:
            listed += _flatten_facts(f"{prefix}{key} ", value)
        elif value not in (None, (), {}, []):
            text = str(value)
            shown = text if len(text) <= MAX_FACT_LENGTH else f"{text[:MAX_FACT_LENGTH]}..."
            listed.append((f"{prefix}{key}", shown))
    return listed
