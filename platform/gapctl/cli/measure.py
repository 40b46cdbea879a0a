"""`gapctl measure`: gap, entropy, object bias and quality of whatever has embeddings."""

import json
import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gapctl.cli.inputs import Asked, Inputs, load_inputs, takes_inputs
from gapctl.cli.options import JsonOption

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.spec.vocabulary import MetricName

USUAL_SCALES = ("1", "1/0.07", "100")
"""Plain cosines, CLIP's temperature before training, and the largest scale that CLIP's training allows."""

LARGEST_SCALE = 1e6
"""Beyond it rounding alone moves an entropy in its tenth digit and soon everywhere."""
GROUPS = ("gap", "entropy", "temperature", "bias", "geometry", "quality")

ScalesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--scale",
        help="Logit scale for the entropies: a number, or 1/T for a temperature T; may be given several times. "
        "If left out: 1, 1/0.07 and 100.",
        metavar="S",
    ),
]


@takes_inputs
def measure_command(asked: Asked, scales: ScalesOption = None, as_json: JsonOption = False) -> None:
    """Gap, entropy, object bias and quality of saved embeddings.

    The archive is what `numpy.savez(file, image=..., text=...)` writes. Embeddings are float rows, (rows, width),
    and are normalised here; everything else is whole numbers. Nothing is ever unpickled.

    * `image` (N, D) and `text` (M, D): needed. With M = N, row i of one matches row i of the other.

    * `text_to_image` (M,): each text's image, 0 to N - 1, where images have several captions.

    * `labels` (N,): each image's object. With neither M = N nor `text_to_image`, the texts are one prompt per class
      and labels are rows of `text`: adds zero-shot accuracy and the comparison of class orders.

    * `attributes` (N,) or (N, factors): each image's attribute; with `labels` it adds object bias (MOAD).

    * `image_with_attributes` (N, D): the embeddings whose object bias is meant, if not those of `image`.

    With one `--scale` the entropies are `entropy/i2t_nats` and so on; with several, or with none given, each name
    ends in its scale: `entropy/i2t_nats_scale_100`. `--json` gives metrics by name, null where one is not defined
    (all objects the same, say), and under `inputs` what they were computed from.
    """
    from gapctl.cli.terminal import plain_console

    asked_scales = _logit_scales(scales or ())
    inputs = load_inputs(asked)
    own = inputs.embeddings.logit_scale
    logit_scales = asked_scales or (_logit_scales(USUAL_SCALES) if own is None else (own,))
    with plain_console(stderr=True).status("measuring"):
        metrics = _measured(inputs, logit_scales)
    if as_json:
        typer.echo(json.dumps(_document(inputs, metrics, logit_scales), indent=1))
    else:
        _print(inputs, metrics)


def _measured(inputs: Inputs, logit_scales: Sequence[float]) -> dict[str, float]:
    from gapctl.metrics.class_prompts import accuracies
    from gapctl.metrics.effort import THOROUGH
    from gapctl.metrics.suite import entropies_by_scale, measure

    found = {**measure(inputs.embeddings, inputs.effort or THOROUGH), **inputs.temperature}
    if logit_scales != (inputs.embeddings.logit_scale,):
        found |= entropies_by_scale(inputs.embeddings, logit_scales)
    found |= accuracies(inputs.embeddings.image_ND, inputs.zero_shot)
    return {key: found[key] for key in sorted(found, key=lambda key: GROUPS.index(_group(key)))}


def _logit_scales(written: Sequence[str]) -> tuple[float, ...]:
    return tuple(dict.fromkeys(_logit_scale(text) for text in written))


def _logit_scale(text: str) -> float:
    from gapctl.errors import InputError

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


def _document(inputs: Inputs, metrics: Mapping[str, float], scales: Sequence[float]) -> dict[str, Any]:
    bias_of = "image_with_attributes" if inputs.embeddings.bias_image_ND is not None else "image"
    return {
        "metrics": {key: value if math.isfinite(value) else None for key, value in metrics.items()},
        "inputs": {
            **inputs.facts,
            "logit_scales": scales,
            "bias_of": bias_of if "bias/moad_image" in metrics else None,
        },
    }


def _print(inputs: Inputs, metrics: Mapping[str, float]) -> None:
    from rich.console import Console

    from gapctl.cli.terminal import plain_console

    for line in (inputs.title, *inputs.notes):
        plain_console().print(line)
    console = Console(highlight=False)
    for group, keys in groupby(metrics, key=_group):
        _print_group(console, group, {key: metrics[key] for key in keys})


def _group(key: str) -> str:
    return key.split("/", 1)[0]


def _print_group(console: "Console", group: str, metrics: Mapping[str, float]) -> None:
    from rich.table import Table

    from gapctl.spec.vocabulary import described

    table = Table(group, "", "", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for key, value in metrics.items():
        name = described(key)
        table.add_row("  " + key.removeprefix(f"{group}/"), _shown(value, name), name.meaning if name else "")
    console.print()
    console.print(table)


def _shown(value: float, name: "MetricName | None") -> str:
    if math.isnan(value):
        return "undefined"
    unit = name.unit if name else ""
    if unit in ("pairs", "dimensions"):
        return f"{value:.0f}"
    if unit == "percent":
        return f"{value:.1f} %"
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.4f}"
