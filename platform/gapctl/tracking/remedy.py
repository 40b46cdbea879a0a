"""The command that shows in MLflow later what could not be shown now."""

import shlex

from gapctl.ledger import Ledger
from gapctl.plan.trials import Plan


def sync_command(plan: Plan, ledger: Ledger) -> str:
    """`gapctl track sync` for this sweep, as it is to be typed, less its `--set` options: those are only mentioned."""
    sweep = plan.sweep
    scale = [] if sweep.scale in (None, sweep.spec.default_scale) else ["--scale", str(sweep.scale)]
    command = shlex.join(["gapctl", "track", "sync", str(sweep.path), *scale, "--runs", ledger.root])
    overridden = any(isinstance(setting.source, str) for setting in sweep.settings)
    return f"`{command}`" + (" with the same --set" if overridden else "")
