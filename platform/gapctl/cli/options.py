"""The arguments that several verbs share, so that they read the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_RUNS = "runs"

SweepFileArgument = Annotated[
    Path,
    typer.Argument(
        help="The sweep: a file, or a name such as imbalance, which is looked for in sweeps/ and in gapctl.",
        show_default=False,
        metavar="FILE",
    ),
]
ScaleOption = Annotated[
    str | None, typer.Option("--scale", help="A named recipe of the file; its default_scale if left out.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a value, e.g. --set base.train.samples=20_000.", metavar="PATH=VALUE"),
]
RunsOption = Annotated[
    str,
    typer.Option("--runs", help="The ledger: a folder, s3://... or gs://...", metavar="DIR", envvar="GAPCTL_RUNS"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, nothing else.")]
