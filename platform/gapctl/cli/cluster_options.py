"""The arguments that verbs of `gapctl cluster` share, and a plan that is sized without its data."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gapctl.plan.trials import Plan

ClusterFileArgument = Annotated[
    Path, typer.Argument(help="A file for `ray up`, or KubeRay's manifests.", show_default=False, metavar="FILE")
]
PricesOption = Annotated[
    Path | None, typer.Option("--prices", help="A table of prices and machines, instead of gapctl's.", metavar="FILE")
]
DashboardOption = Annotated[
    str,
    typer.Option(
        "--address", help="Ray's dashboard, as `ray dashboard` brings it here.", envvar="RAY_API_SERVER_ADDRESS"
    ),
]
FollowOption = Annotated[
    bool, typer.Option("--follow", help="Show what the job prints until it ends; Ctrl-C leaves it running.")
]
DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def plan_to_size(file: Path, scale: str | None, overrides: Sequence[str] | None) -> "Plan":
    """The trials of a sweep whose data may lie elsewhere: how many and how large, under ids that are not theirs."""
    from gapctl.cli.context import open_sweep
    from gapctl.plan.make import make_plan

    return make_plan(open_sweep(file, scale, overrides), lambda data: data.source)
