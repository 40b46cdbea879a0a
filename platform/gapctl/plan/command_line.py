"""The command line that gives a plan again, and the name of its results' files: file, scale, `--set` and ledger."""

import json
from typing import Final

from gapctl.config.base import is_private_override
from gapctl.config.load import LoadedSweep
from gapctl.io.passwords import has_password
from gapctl.plan.plan import Plan

DEFAULT_RUNS = "runs"
NOT_TRAINED: Final = ("resources", "tracking", "limits")
"""Sections that change neither which trials there are nor how they are judged."""
HASH_DIGITS: Final = 8


def build_plan_arguments(plan: Plan, runs: str) -> list[str]:
    """Return the arguments that give this plan again, without those at their default."""
    return [*build_sweep_arguments(plan.sweep), *build_ledger_arguments(runs)]


def build_ledger_arguments(runs: str) -> list[str]:
    """Return the arguments that name a ledger."""
    return ["--runs", runs] if runs != DEFAULT_RUNS else []


def build_sweep_arguments(sweep: LoadedSweep) -> list[str]:
    """Return the arguments of a sweep without its ledger; leave out options that may hold a password."""
    arguments = build_file_arguments(sweep)
    for setting in sweep.settings:
        if isinstance(setting.source, str) and not is_private_override(setting.written):
            value = setting.value
            # A text that is not one word is quoted as YAML needs it, and nothing is cut short.
            plain = isinstance(value, str) and value.replace("-", "").replace("/", "").isalpha()
            arguments += ["--set", f"{setting.written}={value if plain else json.dumps(value)}"]
    return arguments


def build_file_arguments(sweep: LoadedSweep) -> list[str]:
    """Return a sweep's file and scale, for verbs that take no `--set`."""
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    return [str(sweep.path), *scale]


def build_ui_arguments(sweep: LoadedSweep) -> list[str]:
    """Return the arguments of `gapctl ui`: `--uri` where the address was overridden and holds no password."""
    uri = sweep.spec.tracking.uri
    typed = any(setting.written == "tracking.uri" and isinstance(setting.source, str) for setting in sweep.settings)
    plain = typed and not has_password(uri)
    return [*build_file_arguments(sweep), *(["--uri", uri] if plain else [])]


def format_result_file_prefix(sweep: LoadedSweep) -> str:
    """Return how the names of a sweep's derived files begin: `imbalance.smoke`, or `imbalance.smoke.1a2b3c4d`.

    The hash is of the sweep as it is run, where `--set` changed what is trained or judged: another sweep of that name
    must not take the place of the file's own results.
    """
    own = f"{sweep.spec.name}.{sweep.scale_name_or_base}"
    sections = {text.strip().partition("=")[0].partition(".")[0] for text in sweep.overrides}
    return f"{own}.{sweep.spec_sha256[:HASH_DIGITS]}" if sections.difference(NOT_TRAINED) else own
