"""The sweep file's JSON Schema, from which editors complete keys and underline mistakes."""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

from gapctl.config.base import list_leaf_paths
from gapctl.config.hypotheses import LOGARITHM, SLUG, TESTS, Correlation
from gapctl.config.metrics import METRICS
from gapctl.config.settings import list_setting_paths
from gapctl.config.sweep import LONGEST_SCALE_NAME, SCALE_NAME, SweepFile
from gapctl.config.trial import Model, OpenClipModel, PairData, TrialConfig

Schema = dict[str, Any]


def build_schema() -> Schema:
    """Return the models as JSON Schema (2020-12), with the factors, settings and metrics that only the checks know."""
    schema = SweepFile.model_json_schema()
    known = _merge_lists(list_leaf_paths(base.model_dump()) for base in _list_bases())
    paths = [*known, *(f"init_from.{path}" for path in known)]
    schema["properties"]["vary"]["propertyNames"] = _build_factor_schema(paths)
    schema["properties"]["treatments"]["propertyNames"] = {"pattern": SLUG}
    schema["properties"]["evaluation_sets"]["propertyNames"] = {"pattern": SLUG}
    scales = schema["properties"]["scales"]
    scales["propertyNames"] = {"pattern": SCALE_NAME, "maxLength": LONGEST_SCALE_NAME}
    scales["additionalProperties"]["propertyNames"] = {
        "anyOf": [
            {"enum": _merge_lists([*map(list_setting_paths, _list_bases()), [f"vary.{path}" for path in paths]])},
            {"pattern": SLUG.replace("^", r"^(vary|treatments)\.")},
            {"pattern": SLUG.replace("^", r"^evaluation_sets\.").replace("$", r"(\.[a-z_]+)+$")},
        ]
    }
    models = schema["$defs"]["Cohort"]["properties"]["models"]
    schema["$defs"]["Cohort"]["properties"]["models"] = {
        "anyOf": [models, {"type": "string"}]
    }  # rows, or a table of them
    schema["oneOf"] = [{"anyOf": [{"required": ["vary"]}, {"required": ["cohort"]}]}, {"required": ["search"]}]
    search = schema["$defs"]["Search"]["properties"]
    search["metric"] |= _build_metric_schema()
    search["space"]["propertyNames"] = {"enum": paths}
    schema["$defs"]["RecipeReplicates"]["properties"]["space"]["propertyNames"] = {"enum": paths}
    schema["$defs"]["Domain"] |= {"minProperties": 1, "maxProperties": 1}
    for hypothesis in TESTS.values():
        for name, known in schema["$defs"][hypothesis.__name__]["properties"].items():
            _complete_key(name, known, paths, hypothesis is Correlation)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _list_bases() -> list[TrialConfig]:
    """List a configuration of each dataset and each kind of model."""
    pairs = PairData(dataset="cc12m")
    models: list[Model | OpenClipModel] = [Model(preset="pairs-small"), OpenClipModel(architecture="ViT-B-32")]
    return [TrialConfig(), *(TrialConfig(data=pairs, model=model) for model in models)]


def _merge_lists(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(lists)))


def _complete_key(name: str, known: Schema, paths: list[str], correlates: bool) -> None:
    """Add the metrics or factors that a key of a hypothesis may name to that key's schema.

    A correlation may be over a cohort of models, and names covariates and metrics of evaluation sets there.
    """
    if name in ("response", "against"):
        known.update(_build_metric_schema())
        if correlates:
            known["anyOf"] += _build_cohort_schemas()
    elif name in ("factor", "mediator"):
        known.update(_build_factor_schema(paths))
    elif name == "given":
        known["items"].update(_build_factor_schema([*paths, *sorted(METRICS)]))
        known["items"]["anyOf"] += [_build_other_metric_schema(), *_build_cohort_schemas()]
    elif name in ("predictors", "beyond"):
        known["items"].update(_build_metric_schema())
    elif name == "where":
        known["propertyNames"] = _build_factor_schema(paths)


def _build_factor_schema(paths: list[str]) -> Schema:
    """Return the schema of a factor's name: one of the paths, or the name of a treatment."""
    return {"anyOf": [{"enum": paths}, {"pattern": SLUG}]}


def _build_metric_schema() -> Schema:
    """Return the schema of a metric's name: one of gapctl's own, or one of another group."""
    return {"anyOf": [{"enum": sorted(METRICS)}, _build_other_metric_schema()]}


def _build_cohort_schemas() -> list[Schema]:
    """Return the schemas of a covariate, such as `log parameters`, and of a metric on an evaluation set."""
    slug, groups = SLUG.strip("^$"), "|".join(sorted({metric.group for metric in METRICS.values()}))
    return [{"pattern": f"^({LOGARITHM})?{slug}$"}, {"pattern": rf"^{slug}/({groups})/\w+$"}]


def _build_other_metric_schema() -> Schema:
    """Return the schema of another package's metric, or of one on an evaluation set.

    A name in gapctl's own groups would hide misspelt ones.
    """
    groups = "|".join(sorted({metric.group for metric in METRICS.values()}))
    return {"pattern": rf"^(?!({groups})/)(\w+/\w+|[a-z0-9][a-z0-9_-]*/\w+/\w+)$"}


def format_schema() -> str:
    """Return the text of `sweeps/schema.json`.

    `python -m gapctl.config.json_schema > sweeps/schema.json` writes it anew.
    """
    return json.dumps(build_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    print(format_schema(), end="")
