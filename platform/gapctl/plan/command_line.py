"""A sweep's file, scale, `--set` options and ledger, as they are typed after a verb."""

import json

from gapctl.config.base import holds_password, is_private
from gapctl.config.load import Setting, Sweep
from gapctl.plan.plan import Plan

DEFAULT_RUNS = "runs"


def as_typed(plan: Plan, runs: str) -> list[str]:
    """The words that give this plan again; what is the default anyway is left out."""
    return [*sweep_as_typed(plan.sweep), *ledger_as_typed(runs)]


def ledger_as_typed(runs: str) -> list[str]:
    """The words for a ledger."""
    return ["--runs", runs] if runs != DEFAULT_RUNS else []


def sweep_as_typed(sweep: Sweep) -> list[str]:
    """The words for a sweep without its ledger; options that may hold a password are left out."""
    typed = (setting for setting in sweep.settings if isinstance(setting.source, str))
    shown = (setting for setting in typed if not is_private(setting.written))
    return [*file_and_scale(sweep), *(word for setting in shown for word in ("--set", _as_set(setting)))]


def file_and_scale(sweep: Sweep) -> list[str]:
    """The words for what takes no `--set`."""
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    return [str(sweep.path), *scale]


def for_ui(sweep: Sweep) -> list[str]:
    """The words for `gapctl ui`: with the store's address where the file has another, unless it holds a password."""
    uri = sweep.spec.tracking.uri
    typed = any(setting.written == "tracking.uri" and isinstance(setting.source, str) for setting in sweep.settings)
    plain = typed and not holds_password(uri)
    return [*file_and_scale(sweep), *(["--uri", uri] if plain else [])]


def _as_set(setting: Setting) -> str:
    """The change as it is typed; a text that is not one word is quoted as YAML wants it, and nothing is cut short."""
    value = setting.value
    plain = isinstance(value, str) and value.replace("-", "").replace("/", "").isalpha()
    return f"{setting.written}={value if plain else json.dumps(value)}"
