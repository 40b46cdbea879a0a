"""What was run, in terms and facts: trainings, hours, data, hardware, versions, hashes, and how to run it again."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import polars as pl

from gapctl.analysis.agreement import NOT_RECORDED
from gapctl.analysis.judged import Judged, arms_words
from gapctl.ledger import Ledger
from gapctl.report.commands import commands_of
from gapctl.report.words import counted, duration, number

_HARDWARE: Final = ("device", "name", "threads", "precision", "packed")


class Fact(NamedTuple):
    """A term and what is said of it; `code` where it is a command or a hash."""

    term: str
    said: str
    code: bool = False


def run_facts(judged: Judged, ledger: Ledger) -> list[Fact]:
    """The facts of one sweep of a ledger."""
    analysis, spec = judged.analysis, judged.plan.sweep.spec
    done, planned = len(analysis.trials), len(judged.plan.trials)
    command = commands_of(judged.plan, ledger).sweep
    return [
        Fact("trainings", f"{done} of {planned} done; {counted(spec.seeds, 'seed')}; {_varied(judged)}"),
        *_missing(judged, command),
        Fact("time", _time(analysis.trials)),
        *_made(analysis.provenance),
        Fact("sweep file's sha256", analysis.spec_sha256, code=True),
        Fact("hypotheses' sha256", analysis.hypotheses_sha256, code=True),
        Fact("run it again", command, code=True),
    ]


def _varied(judged: Judged) -> str:
    vary = judged.plan.sweep.spec.vary
    return "; ".join(f"{path}: {', '.join(map(str, levels))}" for path, levels in vary.items())


def _missing(judged: Judged, command: str) -> list[Fact]:
    if not judged.missing:
        return []
    which = arms_words(judged.missing, judged.plan.trials)
    return [Fact("missing", f"{counted(len(judged.missing), 'training')}: {which}; `{command}` finishes them")]


def _time(trials: pl.DataFrame) -> str:
    seconds = float(trials["seconds"].sum())
    each = f"{number(seconds / len(trials))} s each on average" if len(trials) else "none done"
    return f"{duration(seconds)} of training in all, {each}"


def _made(provenance: pl.DataFrame) -> list[Fact]:
    data = [_values(provenance, name) for name in ("data_source", "data_fingerprint", "recipe_version")]
    hardware = [f"{name} {_values(provenance, f'hardware.{name}')}" for name in _HARDWARE]
    versions = [name.removeprefix("versions.") for name in provenance.columns if name.startswith("versions.")]
    return [
        Fact("data", f"{data[0]}, fingerprint {data[1]}, recipe version {data[2]}"),
        Fact("hardware", "; ".join(hardware)),
        Fact("versions", ", ".join(f"{name} {_values(provenance, f'versions.{name}')}" for name in versions)),
    ]


def _values(provenance: pl.DataFrame, name: str) -> str:
    """A column's value, or each of them with how many trainings have it."""
    if name not in provenance.columns:
        return NOT_RECORDED
    counts = provenance[name].value_counts(sort=True)
    found = [(NOT_RECORDED if value is None else str(value), count) for value, count in counts.rows()]
    return found[0][0] if len(found) == 1 else _counted(found)


def _counted(found: Sequence[tuple[str, int]]) -> str:
    return " and ".join(f"{value} ({count} trainings)" for value, count in sorted(found, key=lambda one: -one[1]))
