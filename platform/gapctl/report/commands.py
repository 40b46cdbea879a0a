"""The commands that give a page's numbers again, as they are to be typed."""

import json
import shlex
from typing import Final, NamedTuple

from gapctl.ledger import Ledger
from gapctl.plan.trials import Plan
from gapctl.spec.settings import Setting

DEFAULT_RUNS: Final = "runs"


class Commands(NamedTuple):
    """Training what is left, judging anew, training one trial alone (`TRIAL` stands for its id), looking at runs."""

    sweep: str
    analyze: str
    train: str
    ui: str


def commands_of(plan: Plan, ledger: Ledger) -> Commands:
    """The commands with this plan's file, scale and `--set` options, and this ledger's folder."""
    sweep, file = plan.sweep, str(plan.sweep.path)
    scale = ["--scale", sweep.scale] if sweep.scale else []
    changes = [word for setting in sweep.settings if isinstance(setting.source, str) for word in _set(setting)]
    runs = [] if ledger.root == DEFAULT_RUNS else ["--runs", ledger.root]
    same = [file, *scale, *changes, *runs]
    return Commands(
        sweep=shlex.join(["gapctl", "sweep", *same]),
        analyze=shlex.join(["gapctl", "analyze", *same, "--out", "report.html"]),
        train=shlex.join(["gapctl", "train", *same, "--trial", "TRIAL"]),
        ui=shlex.join(["gapctl", "ui", file, *scale]),
    )


def default_sweep_command(sweep: str, scale: str | None) -> str:
    """The command for a file where sweeps usually are, when nothing but its name is known."""
    return shlex.join(["gapctl", "sweep", f"sweeps/{sweep}.yaml", *(["--scale", scale] if scale else [])])


def _set(setting: Setting) -> list[str]:
    """JSON is YAML, and unlike what was typed it is never cut short."""
    return ["--set", f"{setting.written}={json.dumps(setting.value)}"]
