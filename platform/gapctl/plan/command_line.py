"""The command line that gives a plan again: a sweep's file, scale, `--set` options and ledger."""

import json

from gapctl.config.base import is_private_override
from gapctl.config.load import Sweep
from gapctl.io.passwords import has_password
from gapctl.plan.plan import Plan

DEFAULT_RUNS = "runs"


def build_plan_arguments(plan: Plan, runs: str) -> list[str]:
    """Return the arguments that give this plan again, without those at their default."""
    return [*build_sweep_arguments(plan.sweep), *build_ledger_arguments(runs)]


def build_ledger_arguments(runs: str) -> list[str]:
    """Return the arguments that name a ledger."""
    return ["--runs", runs] if runs != DEFAULT_RUNS else []


def build_sweep_arguments(sweep: Sweep) -> list[str]:
    """Return the arguments of a sweep without its ledger; leave out options that may hold a password."""
    arguments = build_file_arguments(sweep)
    for setting in sweep.settings:
        if isinstance(setting.source, str) and not is_private_override(setting.written):
            value = setting.value
            # A text that is not one word is quoted as YAML needs it, and nothing is cut short.
            plain = isinstance(value, str) and value.replace("-", "").replace("/", "").isalpha()
            arguments += ["--set", f"{setting.written}={value if plain else json.dumps(value)}"]
    return arguments


def build_file_arguments(sweep: Sweep) -> list[str]:
    """Return a sweep's file and scale, for verbs that take no `--set`."""
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    return [str(sweep.path), *scale]


def build_ui_arguments(sweep: Sweep) -> list[str]:
    """Return the arguments of `gapctl ui`: `--uri` where the address was overridden and holds no password."""
    uri = sweep.spec.tracking.uri
    typed = any(setting.written == "tracking.uri" and isinstance(setting.source, str) for setting in sweep.settings)
    plain = typed and not has_password(uri)
    return [*build_file_arguments(sweep), *(["--uri", uri] if plain else [])]
