"""Saved views, descriptions and addresses of MLflow's pages.

MLflow keeps a saved view as a tag of its experiment: a name, two times, and the page's state as JSON. Missing keys of
the state keep their defaults. A page that does not understand a view says so and shows its default.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from gapctl.config.checks import explain_unlogged
from gapctl.config.load import LoadedSweep
from gapctl.errors import WorkError
from gapctl.io.passwords import hide_password
from gapctl.plan.command_line import build_sweep_arguments
from gapctl.plan.plan import Plan
from gapctl.tracking.run_contents import TreatmentColumns
from gapctl.tracking.store import explain_error, open_mlflow_client

JsonObject = dict[str, object]

REPORT: Final = "report.html"
NOTE: Final = "mlflow.note.content"
VERDICTS: Final = "gapctl.verdicts"
MARKS: Final = "gapctl.marks"
LONGEST_NOTE: Final = 7_900
"""MLflow cuts a tag's text after 8,000 characters."""


@dataclass(frozen=True)
class SweepFindings:
    """The verdicts of a sweep as its run shows them.

    `verdicts` is a short text, `table` is Markdown, `files` are by name and include the report. `marks` name the
    verdicts that carry any, such as `slope: not learned; difference: exploratory, not learned`. `metrics` are the
    verdicts' numbers, such as `verdict/slope/estimate`.
    """

    verdicts: str
    table: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    marks: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)


def format_sweep_note(sweep: LoadedSweep, findings: SweepFindings | None, report: str, curves: str) -> str:
    """Return the run's description: the question, then the verdicts with links, or the hypotheses.

    MLflow's page shows only the first lines at once, so the answer and the link to the `report` come first.
    """
    if findings is None:
        claims = [f"* **{item.id}**: {item.claim}" for item in sweep.spec.hypotheses]
        parts = ["Hypotheses, to be judged when trials are done:", "\n".join(claims)] if claims else []
    else:
        parts = [f"**{findings.verdicts}** · [open the report]({report}) · [see the curves]({curves})", findings.table]
    again = shlex.join(["gapctl", "sweep", *build_sweep_arguments(sweep)])
    text = "\n\n".join(filter(None, [sweep.spec.question, *parts, f"Run it again: `{again}`"]))
    return text if len(text) <= LONGEST_NOTE else f"{text[:LONGEST_NOTE]}\n\n(cut; the report has it all)"


PREFIX: Final = "mlflow.sharedViewState."
"""Undocumented prefix of the tags that hold saved views; MLflow has no other way to save one. Tried with 3.17."""
TABLE: Final = "gapctl-table"
CURVES: Final = "gapctl-curves"
IS_TRIAL: Final = "tags.`gapctl.kind` = 'trial'"
GAP: Final = "gap/rmg"
BIAS: Final = "bias/moad_image"
"""What every sweep is about; the bias is of data with attributes."""
USUAL_RESPONSES: Final = (GAP, BIAS, "quality/object_accuracy")
"""Metrics shown for a sweep without hypotheses."""
ALSO_SHOWN: Final = ("quality/object_accuracy", "temperature/tau", "train/loss")
NARROWEST: Final = 110
WIDTH_OF_A_LETTER: Final = 7
"""Pixels per letter."""
RUN_NAME: Final = "attributes.`Run Name`"
BESIDE_A_NAME: Final = 80
WIDEST_NAME: Final = 420
"""Pixels: space before a run's name, and the column's greatest width."""
MADE_AT: Final = 0
"""A fixed time, so that writing a view again changes nothing."""
LONGEST_TAG: Final = 20_000


def build_view_tags(plan: Plan) -> dict[str, str]:
    """Return the experiment's view tags: a table of sweeps and trials, and curves by treatment."""
    treatments = TreatmentColumns(plan)
    responses = list(dict.fromkeys(item.response for item in plan.sweep.spec.hypotheses)) or list(USUAL_RESPONSES)
    spec = plan.sweep.spec
    always = [key for key in (GAP, BIAS) if not explain_unlogged(key, spec.base, spec.vary)]
    metrics = list(dict.fromkeys([*always, *responses, *ALSO_SHOWN]))
    # Metrics come before treatments and replicates, which the runs' names say: the first two are on a laptop's screen.
    columns = [f"tags.`{VERDICTS}`", *(f"metrics.`{name}`" for name in metrics)]
    columns += [f"params.`{name}`" for name in (*treatments.names, spec.replicate_noun)]
    longest = max(len(treatments.run_name(trial)) for trial in plan.trials)
    table: JsonObject = {
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {
            RUN_NAME: min(WIDEST_NAME, max(NARROWEST, BESIDE_A_NAME + WIDTH_OF_A_LETTER * longest)),
            **{column: max(NARROWEST, WIDTH_OF_A_LETTER * len(column)) for column in columns},
        },
    }
    curves: JsonObject = {
        **table,
        # The pages first load a hundred runs: sorted by seed or model, these cover all treatments.
        "orderByKey": f"params.`{spec.replicate_noun}`",
        "searchFilter": IS_TRIAL,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": name} for name in treatments.names],
        },
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        **_build_charts(plan, treatments, responses, metrics),
    }
    made = {f"{PREFIX}{TABLE}": _wrap_view("Table", table), f"{PREFIX}{CURVES}": _wrap_view("Curves", curves)}
    # A view is a convenience, and MLflow refuses the whole sweep for a tag that is too long.
    return {key: view for key, view in made.items() if len(view) <= LONGEST_TAG}


def _wrap_view(name: str, state: JsonObject) -> str:
    return json.dumps({"name": name, "createdAt": MADE_AT, "updatedAt": MADE_AT, "state": json.dumps(state)})


def _build_charts(
    plan: Plan, treatments: TreatmentColumns, responses: Sequence[str], metrics: Sequence[str]
) -> JsonObject:
    """Build lines over training per treatment, and final values of each trial over each numeric treatment."""
    curves, doses = "gapctl-over-training", "gapctl-by-treatment"
    numeric = [
        treatments.name(path)
        for path, levels in plan.sweep.spec.vary.items()
        if all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)
    ]
    plain: JsonObject = {"display": True, "isReordered": False, "deleted": False, "isGenerated": False}
    return {
        "compareRunSections": [
            {"uuid": doses, "name": "By treatment", **plain},
            {"uuid": curves, "name": "Over training", **plain},
        ],
        "compareRunCharts": [
            *(_build_scatter(doses, name, metric) for name in numeric for metric in responses),
            *(_build_line(curves, metric) for metric in metrics),
        ],
    }


def _build_chart(kind: str, section: str, name: str) -> JsonObject:
    return {
        "uuid": f"{section}-{name}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
    }


def _build_scatter(section: str, treatment: str, metric: str) -> JsonObject:
    return {
        **_build_chart("SCATTER", section, f"{treatment}-{metric}"),
        "xaxis": {"key": treatment, "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }


def _build_line(section: str, metric: str) -> JsonObject:
    return {
        **_build_chart("LINE", section, metric),
        "metricKey": metric,
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "scaleType": "linear",
        "range": {},
        "selectedXAxisMetricKey": "",
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


TRAININGS = "workflowType=machine_learning"
"""Without this, MLflow's pages open with their views for language models."""

SHARE_KEY = "viewStateShareKey"
CHARTS = "compareRunsMode=CHART"


def find_experiment_page_address(address: str, uri: str, sweep_name: str | None) -> str:
    """Return the page of the sweep's experiment on a server at `address`, or of all experiments if it has none yet.

    Raises WorkError if the store cannot be read.
    """
    if sweep_name is None:
        return format_overview_address(address)
    try:
        experiment = open_mlflow_client(uri).get_experiment_by_name(sweep_name)
    except Exception as error:
        raise WorkError(f"MLflow at {hide_password(uri)} cannot be read: {explain_error(error)}") from error
    return (
        format_overview_address(address)
        if experiment is None
        else format_sweep_address(address, experiment.experiment_id, experiment.tags)
    )


def format_overview_address(address: str) -> str:
    """Return the page of all experiments."""
    return f"{address}/#/experiments?{TRAININGS}"


def format_sweep_address(address: str, experiment_id: str, tags: Mapping[str, str]) -> str:
    """Return the page of an experiment, in the sweep's own table view if saved."""
    return f"{address}/{_format_experiment(experiment_id)}{_format_view(tags, TABLE)}"


def find_curves_address(address: str, experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """Return the page of an experiment's curves, or None if that view is not saved."""
    view = _format_view(tags, CURVES)
    return f"{address}/{format_curves_address(experiment_id)}" if view else None


def format_curves_address(experiment_id: str) -> str:
    """Return an experiment's curves, relative to MLflow's address. The view alone would first show a table."""
    return f"{_format_experiment(experiment_id)}&{SHARE_KEY}={CURVES}&{CHARTS}"


def format_run_address(experiment_id: str, run_id: str) -> str:
    """Return a run's page, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}?{TRAININGS}"


def format_file_address(experiment_id: str, run_id: str, name: str) -> str:
    """Return the page of a run's file, relative to MLflow's address."""
    return f"#/experiments/{experiment_id}/runs/{run_id}/artifacts/{name}?{TRAININGS}"


def _format_experiment(experiment_id: str) -> str:
    return f"#/experiments/{experiment_id}/runs?{TRAININGS}"


def _format_view(tags: Mapping[str, str], view: str) -> str:
    return f"&{SHARE_KEY}={view}" if f"{PREFIX}{view}" in tags else ""
