"""`gapctl measure`: gap, entropy, object bias and quality of whatever has embeddings."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.inputs import Asked, Inputs, load_inputs, takes_inputs
from gapctl.cli.measure_against import against_document, compare, print_against, read_other
from gapctl.cli.measure_report import render_report
from gapctl.cli.options import JsonOption
from gapctl.cli.page_file import check_page, write_page
from gapctl.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.metrics.sampled import Sampled
    from gapctl.spec.vocabulary import MetricName

USUAL_SCALES = ("1", "1/0.07", "100")
"""Plain cosines, CLIP's temperature before training, and the largest scale that CLIP's training allows."""

LARGEST_SCALE = 1e6
"""Beyond it rounding alone moves an entropy in its tenth digit and soon everywhere."""
GROUPS = ("gap", "entropy", "temperature", "bias", "geometry", "quality")

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
        "--scale",
        help="Logit scale for the entropies: a number, or 1/T for a temperature T; may be given several times. "
        "If left out: the model's own, or 1, 1/0.07 and 100 where there is none.",
        metavar="S",
    ),
]


@takes_inputs
def measure_command(
    asked: Asked,
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
    from gapctl.cli.terminal import plain_console

    asked_scales = _logit_scales(scales or ())
    _check_store(uri, log)
    check_page("--report", report)
    other = read_other(asked, against)
    inputs = load_inputs(asked)
    shared = compare(against, inputs, other) if against is not None and other is not None else None
    own = inputs.embeddings.logit_scale
    logit_scales = asked_scales or (_logit_scales(USUAL_SCALES) if own is None else (own,))
    with plain_console(stderr=True).status("measuring"):
        metrics, samples = _measured(inputs, logit_scales)
        page = _page(inputs, metrics) if report is not None or log else ""
    if report is not None:
        write_page("--report", report, page)
    document = _document(inputs, metrics, samples, logit_scales)
    if shared is not None:
        document["against"] = against_document(shared)
    if log:
        _log(uri, document, inputs, page)
    if as_json:
        typer.echo(json.dumps(document, indent=1))
        return
    _print(inputs, metrics, samples)
    if shared is not None:
        print_against(shared)


def _measured(inputs: Inputs, logit_scales: Sequence[float]) -> tuple[dict[str, float], dict[str, "Sampled"]]:
    """The measures in the order of their groups, and what those that looked at a part of the rows looked at."""
    from gapctl.metrics.class_prompts import accuracies
    from gapctl.metrics.effort import THOROUGH
    from gapctl.metrics.suite import entropies_by_scale, measured

    effort = inputs.effort or THOROUGH
    values, sampled = measured(inputs.embeddings, effort)
    found = {**values, **inputs.temperature}
    if logit_scales != (inputs.embeddings.logit_scale,):
        by_scale = entropies_by_scale(inputs.embeddings, logit_scales, effort)
        found, sampled = found | by_scale.values, sampled | by_scale.samples
    found |= accuracies(inputs.embeddings.image_ND, inputs.zero_shot)
    samples = {key: each for key, each in sampled.items() if not each.whole and found.get(key) == each.value}
    return {key: found[key] for key in sorted(found, key=lambda key: GROUPS.index(_group(key)))}, samples


def _logit_scales(written: Sequence[str]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_logit_scale(text) for text in written))


def _logit_scale(text: str) -> float:
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
        from gapctl.tracking.uri import check_uri

        check_uri(_store(uri))


def _store(uri: str | None) -> str:
    from gapctl.spec.sweep import Tracking

    return uri or Tracking().uri


def _log(uri: str | None, document: Mapping[str, Any], inputs: Inputs, page: str) -> None:
    from gapctl.tracking.measurement import Measurement, log_measurement

    params = {key: str(value) for key, value in inputs.facts.items() if isinstance(value, str | int | float)}
    metrics = {key: value for key, value in document["metrics"].items() if value is not None}
    files = {"report.html": page.encode(), "measures.json": json.dumps(document, indent=1).encode()}
    log_measurement(_store(uri), Measurement(inputs.title.partition(": ")[0], params, metrics, files))


def _page(inputs: Inputs, metrics: Mapping[str, float]) -> str:
    from gapctl.report.measured.record import Line
    from gapctl.spec.vocabulary import described

    names = {key: described(key) for key in metrics}
    lines = [Line(key, _shown(value, names[key]), _meaning(key)) for key, value in metrics.items()]
    return render_report(inputs, lines)


def _meaning(key: str) -> str:
    from gapctl.spec.vocabulary import described

    if (name := described(key)) is not None:
        return name.meaning
    group, _, rest = key.partition("/accuracy_")
    return f"zero-shot accuracy of {rest}" if group == "quality" else ""


def _document(
    inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "Sampled"], scales: Sequence[float]
) -> dict[str, Any]:
    bias_of = "image_with_attributes" if inputs.embeddings.bias_image_ND is not None else "image"
    return {
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        "inputs": {
            **inputs.facts,
            "samples": {key: _sample(each) for key, each in samples.items()},
            "logit_scales": scales,
            "bias_of": bias_of if "bias/moad_image" in metrics else None,
        },
    }


def _sample(sampled: "Sampled") -> dict[str, Any]:
    ends = {"low": sampled.low, "high": sampled.high}
    known = {end: value if math.isfinite(value) else None for end, value in ends.items()}
    dealt = {"galleries": sampled.galleries} if sampled.galleries else {}
    return {"sample": sampled.sample, "population": sampled.population, **dealt, **known}


def _print(inputs: Inputs, metrics: Mapping[str, float], samples: Mapping[str, "Sampled"]) -> None:
    from gapctl.cli.safe_console import SafeConsole
    from gapctl.cli.terminal import plain_console

    for line in (inputs.title, *inputs.notes):
        plain_console().print(line)
    console = SafeConsole()
    for group, keys in groupby(metrics, key=_group):
        _print_group(console, group, {key: metrics[key] for key in keys})
    if samples:
        console.print("\nTaken from rows that were drawn or dealt by a fixed seed; --json has their intervals:")
    for key, each in samples.items():
        dealt = f" in {each.galleries} galleries" if each.galleries else ""
        console.print(f"  {key}: {each.sample:,} of {each.population:,}{dealt}")


def _group(key: str) -> str:
    return key.split("/", 1)[0]


def _print_group(console: "Console", group: str, metrics: Mapping[str, float]) -> None:
    from rich.table import Table

    from gapctl.spec.vocabulary import described

    table = Table(group, "", "", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for key, value in metrics.items():
        name = described(key)
        table.add_row("  " + key.removeprefix(f"{group}/"), _shown(value, name), _meaning(key))
    console.print()
    console.print(table)


def _shown(value: float, name: "MetricName | None") -> str:
    if math.isnan(value):
        return "undefined"
    unit = name.unit if name else "percent"
    if unit in ("pairs", "dimensions"):
        return f"{value:.0f}"
    if unit == "percent":
        return f"{value:.1f} %"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
