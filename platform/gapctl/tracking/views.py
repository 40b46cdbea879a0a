"""What MLflow's pages offer under "Views": which columns the runs have, how they are sorted, which charts there are.

MLflow keeps a saved view as a tag of its experiment: a name, two times, and the page's state as JSON; keys that the
state leaves out keep their defaults. A page that does not understand a view says so and shows its default.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

from gapctl.plan.trials import Plan
from gapctl.tracking.findings import VERDICTS
from gapctl.tracking.treatments import Treatments

PREFIX: Final = "mlflow.sharedViewState."
TABLE: Final = "gapctl-table"
CURVES: Final = "gapctl-curves"
IS_TRIAL: Final = "tags.`gapctl.kind` = 'trial'"
USUAL_RESPONSES: Final = ("gap/rmg", "bias/moad_image", "quality/object_accuracy")
"""What is shown of a sweep without hypotheses."""
ALSO_SHOWN: Final = ("quality/object_accuracy", "temperature/tau", "train/loss")
NARROWEST: Final = 110
WIDTH_OF_A_LETTER: Final = 7
"""Pixels."""
RUN_NAME: Final = "attributes.`Run Name`"
BESIDE_A_NAME: Final = 80
WIDEST_NAME: Final = 420
"""Pixels: what stands before a run's name, and how wide the column may be."""
MADE_AT: Final = 0
"""The same time at each writing, so that a second one changes nothing."""
LONGEST_TAG: Final = 20_000


def views(plan: Plan) -> dict[str, str]:
    """The experiment's tags: a table of sweeps with their verdicts and of trials in order, and curves by treatment."""
    treatments = Treatments(plan)
    responses = list(dict.fromkeys(item.response for item in plan.sweep.spec.hypotheses)) or list(USUAL_RESPONSES)
    metrics = list(dict.fromkeys([*responses, *ALSO_SHOWN]))
    columns = [
        *_columns("tags", [VERDICTS]),
        *_columns("params", [*treatments.names, "seed"]),
        *_columns("metrics", metrics),
    ]
    table = {
        "orderByKey": "tags.`mlflow.runName`",
        "orderByAsc": True,
        "selectedColumns": columns,
        "columnOrder": [RUN_NAME, *columns],
        "columnWidths": {
            RUN_NAME: _width_of_names([treatments.run_name(trial) for trial in plan.trials]),
            **{column: max(NARROWEST, WIDTH_OF_A_LETTER * len(column)) for column in columns},
        },
    }
    curves = {
        **table,
        # The pages load a hundred runs at first: by seed, these are of all treatments.
        "orderByKey": "params.`seed`",
        "searchFilter": IS_TRIAL,
        "groupBy": {
            "aggregateFunction": "average",
            "groupByKeys": [{"mode": "param", "groupByData": name} for name in treatments.names],
        },
        "runsHiddenMode": "FIRST_20_RUNS",
        "isAccordionReordered": True,
        **_charts(plan, treatments, responses, metrics),
    }
    made = {f"{PREFIX}{TABLE}": _envelope("Table", table), f"{PREFIX}{CURVES}": _envelope("Curves", curves)}
    # A view is a convenience, and MLflow refuses the whole sweep for a tag that is too long.
    return {key: view for key, view in made.items() if len(view) <= LONGEST_TAG}


def _width_of_names(names: Sequence[str]) -> int:
    longest = max(len(name) for name in names)
    return min(WIDEST_NAME, max(NARROWEST, BESIDE_A_NAME + WIDTH_OF_A_LETTER * longest))


def _columns(kind: str, names: Sequence[str]) -> list[str]:
    return [f"{kind}.`{name}`" for name in names]


def _envelope(name: str, state: dict[str, Any]) -> str:
    return json.dumps({"name": name, "createdAt": MADE_AT, "updatedAt": MADE_AT, "state": json.dumps(state)})


def _charts(
    plan: Plan, treatments: Treatments, responses: Sequence[str], metrics: Sequence[str]
) -> dict[str, list[dict[str, Any]]]:
    """Over training, a line for each treatment; at the end, a point for each trial over each numeric treatment."""
    curves, doses = "gapctl-over-training", "gapctl-by-treatment"
    numeric = [treatments.name(path) for path, levels in plan.sweep.spec.vary.items() if _is_numeric(levels)]
    return {
        "compareRunSections": [_section(doses, "By treatment"), _section(curves, "Over training")],
        "compareRunCharts": [
            *(_scatter(doses, name, metric) for name in numeric for metric in responses),
            *(_line(curves, metric) for metric in metrics),
        ],
    }


def _is_numeric(levels: Sequence[object]) -> bool:
    return all(isinstance(level, int | float) and not isinstance(level, bool) for level in levels)


def _section(uuid: str, name: str) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "display": True,
        "isReordered": False,
        "deleted": False,
        "isGenerated": False,
    }


def _chart(kind: str, section: str, name: str) -> dict[str, Any]:
    return {
        "uuid": f"{section}-{name}",
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
    }


def _scatter(section: str, treatment: str, metric: str) -> dict[str, Any]:
    return {
        **_chart("SCATTER", section, f"{treatment}-{metric}"),
        "xaxis": {"key": treatment, "type": "PARAM"},
        "yaxis": {"key": metric, "type": "METRIC"},
    }


def _line(section: str, metric: str) -> dict[str, Any]:
    return {
        **_chart("LINE", section, metric),
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
