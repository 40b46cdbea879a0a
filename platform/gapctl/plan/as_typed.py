"""A plan's file, scale, `--set` options and ledger, as they are typed after a verb."""

import json

from gapctl.plan.trials import Plan
from gapctl.spec.settings import Setting

DEFAULT_RUNS = "runs"


def as_typed(plan: Plan, runs: str) -> list[str]:
    """The words that give this plan again; what is the default anyway is left out."""
    return [*file_and_scale(plan), *_changes(plan), *(["--runs", runs] if runs != DEFAULT_RUNS else [])]


def file_and_scale(plan: Plan) -> list[str]:
    """The words for what takes no `--set`."""
    sweep = plan.sweep
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    return [str(sweep.path), *scale]


def _changes(plan: Plan) -> list[str]:
    typed = (setting for setting in plan.sweep.settings if isinstance(setting.source, str))
    return [word for setting in typed for word in ("--set", _as_set(setting))]


def _as_set(setting: Setting) -> str:
    """The change as it is typed; a text that is not one word is quoted as YAML wants it, and nothing is cut short."""
    value = setting.value
    plain = isinstance(value, str) and value.replace("-", "").replace("/", "").isalpha()
    return f"{setting.written}={value if plain else json.dumps(value)}"
