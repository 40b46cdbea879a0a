"""`gapctl cluster lint`: what is wrong with a cluster file, before it costs money or lets strangers in."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gapctl.cli.cluster_options import ClusterFileArgument, PricesOption, plan_to_size
from gapctl.cli.options import JsonOption, ScaleOption, SetOption

if TYPE_CHECKING:
    from gapctl.cluster.finding import Finding


def lint_command(
    file: ClusterFileArgument,
    sweep: Annotated[
        Path | None,
        typer.Option("--sweep", help="Also hold the machines to what this sweep's trials need.", metavar="SWEEP"),
    ] = None,
    scale: ScaleOption = None,
    overrides: SetOption = None,
    prices: PricesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with a cluster file: Ray's own schema, then what costs money, fails late or is not safe.

    Each finding names its line, the risk and the fix. The exit code is 1 if there is an error, 0 with warnings alone.
    """
    from gapctl.cluster.lint import lint
    from gapctl.cluster.prices import read_prices
    from gapctl.errors import InputError

    if sweep is None and (scale is not None or overrides):
        raise InputError("--scale and --set change a sweep: expected --sweep SWEEP beside them")
    plan = plan_to_size(sweep, scale, overrides) if sweep else None
    found = lint(file, plan, read_prices(prices) if prices else None)
    errors = sum(finding.severity == "error" for finding in found)
    if as_json:
        typer.echo(json.dumps(_document(file, found, errors), indent=1))
    else:
        _print(file, found, errors)
    if errors:
        raise typer.Exit(1)


def _document(file: Path, found: "Sequence[Finding]", errors: int) -> dict[str, object]:
    findings = [{**finding._asdict(), "file": str(finding.file)} for finding in found]
    return {"file": str(file), "findings": findings, "totals": {"error": errors, "warning": len(found) - errors}}


def _print(file: Path, found: "Sequence[Finding]", errors: int) -> None:
    from gapctl.cli.terminal import plain_console

    console = plain_console()
    for finding in found:
        console.print(str(finding))
    counts = {"error": errors, "warning": len(found) - errors}
    said = [f"{count} {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
    console.print(f"{file}: {' and '.join(said) or 'nothing found'}")
