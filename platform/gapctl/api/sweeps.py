"""Plan, run and analyse sweeps from Python, and read a ledger as polars frames.

1. `load_sweep` reads a sweep file or a shipped sweep's name; `Sweep.plan` lists its trials, `Sweep.run` trains them.
2. `analyze` judges a sweep by its ledger; `Analysis` has the verdicts, the trials, figures and reports.
3. `trials`, `history` and `verdicts` read everything that a ledger holds.

Each does what the verb of its name does, by the same code, with the same checks and errors.
"""

import html
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from gapctl.errors import GapctlError, InputError, WorkError, require_packages

if TYPE_CHECKING:
    import altair
    import polars as pl

    from gapctl.analysis.compare import SweepAnalysis
    from gapctl.analysis.results import Verdict
    from gapctl.plan.plan import Plan

DEFAULT_RUNS = "runs"


class Sweep:
    """A checked sweep: a question, the grid of trainings that answers it, and its hypotheses."""

    def __init__(self, file: Path, scale: str | None, overrides: Sequence[str]) -> None:
        from gapctl.config.load import load_sweep as read_sweep

        self._file, self._overrides = file, tuple(overrides)
        self._sweep = read_sweep(file, scale, self._overrides)

    @property
    def name(self) -> str:
        """The sweep's name, under which a ledger keeps it."""
        return self._sweep.spec.name

    @property
    def question(self) -> str:
        """The question that the sweep asks."""
        return self._sweep.spec.question

    @property
    def scale(self) -> str | None:
        """The chosen scale, or the file's default."""
        return self._sweep.scale

    def plan(self) -> "SweepPlan":
        """List the sweep's trials; nothing is trained. Raise InputError for data that are missing or damaged.

        The id of a trial ends in `?` where the sha256 of its public weights is not known.
        """
        return SweepPlan(self._make_plan(provisional=True))

    def run(self, runs: str = DEFAULT_RUNS, address: str | None = None) -> "Analysis":
        """Train what the ledger `runs` lacks of the sweep, on Ray, and return its analysis.

        `address` is a running Ray cluster, else this machine is used. Progress is printed. Raise WorkError if a trial
        failed: finished ones are kept, and the same call goes on.
        """
        require_packages("ray", "torch", "mlflow", "open_clip")
        import typer

        from gapctl.cli.sweep import sweep_command

        try:
            sweep_command(self._file, self.scale, list(self._overrides), str(runs), address)
        except typer.Exit as stopped:
            if stopped.exit_code == 130:
                raise KeyboardInterrupt from None
            if stopped.exit_code:
                raise WorkError(
                    f"{self.name}: a trial or a check failed, as printed above; what is done is kept in {runs}. Mend "
                    "the cause and call run again"
                ) from None
        return analyze(self, runs)

    def _make_plan(self, *, provisional: bool = False) -> "Plan":
        from gapctl.cli.options import load_plan

        return load_plan(self._file, self.scale, self._overrides, provisional=provisional)

    def __repr__(self) -> str:
        scale = f", scale {self.scale}" if self.scale else ""
        return f"<gapctl.Sweep {self.name}{scale}: {self.question}>"


class SweepPlan:
    """The trials of a sweep, in the order in which they are trained."""

    def __init__(self, plan: "Plan") -> None:
        self._plan = plan

    def __len__(self) -> int:
        return len(self._plan.trials)

    @property
    def ids(self) -> tuple[str, ...]:
        """The trials' ids."""
        return tuple(trial.id for trial in self._plan.trials)

    def frame(self) -> "pl.DataFrame":
        """Return a polars frame: `trial`, `label`, `seed`, `steps`, `samples`, and a column for each factor."""
        import polars as pl

        return pl.DataFrame(
            [
                {
                    "trial": trial.id,
                    "label": trial.label,
                    "seed": trial.seed,
                    "steps": trial.config.train.steps,
                    "samples": trial.config.train.samples,
                    **trial.factors,
                }
                for trial in self._plan.trials
            ],
            infer_schema_length=None,
        )

    def __repr__(self) -> str:
        return f"<{len(self)} trials of {self._plan.sweep.spec.name}>\n{self.frame()}"

    def _repr_html_(self) -> str:
        return str(self.frame()._repr_html_())


class Verdicts(Sequence["Verdict"]):
    """The verdicts of an analysis in the file's order, also by a hypothesis' id; a table wherever it is shown."""

    def __init__(self, verdicts: "Sequence[Verdict]") -> None:
        self._verdicts = tuple(verdicts)

    def __len__(self) -> int:
        return len(self._verdicts)

    @overload
    def __getitem__(self, key: "int | str") -> "Verdict": ...
    @overload
    def __getitem__(self, key: slice) -> "Sequence[Verdict]": ...
    def __getitem__(self, key: "int | str | slice") -> "Verdict | Sequence[Verdict]":
        if not isinstance(key, str):
            return self._verdicts[key]
        for verdict in self._verdicts:
            if verdict.id == key:
                return verdict
        from gapctl.config.base import format_choices

        raise KeyError(f"no hypothesis {key!r}; {format_choices(key, [verdict.id for verdict in self._verdicts])}")

    def __iter__(self) -> Iterator["Verdict"]:
        return iter(self._verdicts)

    def frame(self) -> "pl.DataFrame":
        """Return a polars frame with a row for each hypothesis, its effect, interval, p and marks."""
        import polars as pl

        return pl.DataFrame(
            [
                {
                    "id": verdict.id,
                    "claim": verdict.claim,
                    "verdict": verdict.verdict,
                    "estimate": verdict.estimate,
                    "low": verdict.ci.low,
                    "high": verdict.ci.high,
                    "p": verdict.p,
                    "seeds": verdict.seeds,
                    "trials": verdict.trials,
                    "marks": ", ".join(verdict.marks),
                    "reason": verdict.reason,
                }
                for verdict in self._verdicts
            ]
        )

    def __repr__(self) -> str:
        return "\n".join(
            f"{verdict.id}: {verdict.verdict}{''.join(f' ({mark})' for mark in verdict.marks)}, {verdict.estimate:.4g} "
            f"({verdict.ci.low:.4g} to {verdict.ci.high:.4g}), p {verdict.p:.2g}"
            for verdict in self._verdicts
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in _list_cells(verdict))
            + "</tr>"
            for verdict in self._verdicts
        )
        counted = " or ".join(dict.fromkeys(verdict.replicate_name for verdict in self._verdicts)) or "seeds"
        head = "".join(f"<th>{name}</th>" for name in ("claim", "verdict", "estimate", "interval", "p", counted))
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _list_cells(verdict: "Verdict") -> list[str]:
    marks = "".join(f" ({mark})" for mark in verdict.marks)
    interval = f"{verdict.ci.low:.4g} to {verdict.ci.high:.4g}"
    return [
        verdict.claim,
        f"{verdict.verdict}{marks}",
        f"{verdict.estimate:.4g}",
        interval,
        f"{verdict.p:.2g}",
        str(verdict.seeds),
    ]


class Analysis:
    """A sweep judged by its ledger: `verdicts`, `trials`, `history`, figures and reports."""

    def __init__(self, judged: "SweepAnalysis", runs: str) -> None:
        self._judged, self._runs = judged, runs
        self.verdicts = Verdicts(judged.analysis.verdicts)
        """One for each hypothesis, in the file's order; also by id."""

    @property
    def trials(self) -> "pl.DataFrame":
        """A row for each finished trial: `trial`, `label`, `seed`, its factors and its metrics."""
        return self._judged.analysis.trials

    @property
    def history(self) -> "pl.DataFrame":
        """A row for each evaluation: `trial`, `label`, `seed`, factors, `samples_seen` and metrics."""
        return self._judged.analysis.history

    @property
    def damaged(self) -> tuple[str, ...]:
        """Messages about trials whose files could not be read, which no verdict uses."""
        return self._judged.damaged

    @property
    def lacking(self) -> tuple[str, ...]:
        """Messages about what else the ledger lacks for the hypotheses, such as tables, and what to run for it."""
        return self._judged.lacking

    def report(self, out: str | Path) -> Path:
        """Write the report (.html, .md or .tex) and return its path; raise InputError where it cannot be written."""
        from gapctl.analysis.compare import compare_sweeps
        from gapctl.cli.analyze import choose_report_format, write_report
        from gapctl.ledger import LedgerSnapshot

        path = Path(out)
        form = choose_report_format(None, path)
        assert form is not None
        return Path(write_report(form, path, compare_sweeps([self._judged]), LedgerSnapshot(self._runs)))

    def figure(
        self, kind: str = "dose_response", *, metric: str = "gap/rmg", factor: str | None = None
    ) -> "altair.TopLevelMixin":
        """Return a figure of the report as an Altair chart, which shows itself in a notebook.

        `dose_response` is a metric by a factor of the sweep, its first if none is named; `verdicts` are the effects of
        all hypotheses. Raise InputError for a kind, metric or factor that the sweep does not have.
        """
        import altair

        from gapctl.report.figures import plot_forest, plot_metric_response
        from gapctl_charts.figure import Figure, trusted
        from gapctl_charts.look import FILE_LOOK

        analysis = self._judged.analysis
        if kind not in ("dose_response", "verdicts"):
            raise InputError(f"`kind`: found {kind!r}; expected 'dose_response' or 'verdicts'")
        with trusted():
            if kind == "dose_response":
                self._require_metric(metric)
                drawn: Figure | None = plot_metric_response(analysis, self._find_factor(factor), metric, FILE_LOOK)
            else:
                drawn = plot_forest(analysis, FILE_LOOK)
        if drawn is None:
            raise InputError("figure: no hypothesis of this sweep has an estimate yet; train more of it")
        return altair.Chart.from_dict(dict(drawn.spec))

    def _find_factor(self, factor: str | None) -> str:
        factors = self._judged.analysis.factors
        if factor is None and factors:
            return factors[0]
        if factor in factors:
            return str(factor)
        from gapctl.config.base import format_choices

        raise InputError(
            f"`factor`: found {factor!r}; {format_choices(str(factor), factors) if factors else 'none varies'}"
        )

    def _require_metric(self, metric: str) -> None:
        columns = [name for name in self.trials.columns if "/" in name]
        if metric not in columns:
            from gapctl.config.base import format_word_suggestion

            suggestion = format_word_suggestion(metric, columns)
            raise InputError(f"`metric`: found {metric!r}; expected a metric of these trials{suggestion}")

    def __repr__(self) -> str:
        analysis = self._judged.analysis
        done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
        return f"{analysis.sweep}: {analysis.question}\n{done}\n{self.verdicts!r}"

    def _repr_html_(self) -> str:
        analysis = self._judged.analysis
        done = f"{len(analysis.trials)} of {analysis.planned} trainings done"
        title = f"<b>{html.escape(analysis.sweep)}</b>: {html.escape(analysis.question)} ({done})"
        return f"<p>{title}</p>{self.verdicts._repr_html_()}"


def load_sweep(file: str | Path, scale: str | None = None, set: Mapping[str, object] | None = None) -> Sweep:  # noqa: A002
    """Read and check a sweep: a file, or the name of one that comes with gapctl, such as `imbalance`.

    `scale` is a named recipe of the file, and `set` overrides values by their dotted path, such as `{"seeds": 5}`, as
    the command line's options of these names do. Raise InputError with file, line and column for anything wrong.
    """
    if not isinstance(file, str | Path):
        raise InputError(f"load_sweep: found a {type(file).__name__}; expected a file or a name such as 'imbalance'")
    if set is not None and not isinstance(set, Mapping):
        raise InputError(f"`set`: found a {type(set).__name__}; expected a mapping such as {{'seeds': 5}}")
    return Sweep(Path(file), scale, [_format_override(path, value) for path, value in (set or {}).items()])


def _format_override(path: str, value: object) -> str:
    try:
        return f"{path}={json.dumps(value)}"
    except (TypeError, ValueError):
        raise InputError(
            f"`set`: {path}: found a {type(value).__name__}; expected a number, a text, a truth value, or a "
            "list or mapping of them"
        ) from None


def analyze(
    sweep: "Sweep | str | Path", runs: str | Path = DEFAULT_RUNS, *, scale: str | None = None, declared: bool = False
) -> Analysis:
    """Judge a sweep's hypotheses by the trials that are done in the ledger `runs`; nothing is trained.

    With `declared`, judge it as it stood before its first trial. Raise InputError if no trial is done.
    """
    from gapctl.analysis.service import judge_plans
    from gapctl.cli.analyze import load_plans
    from gapctl.ledger import LedgerSnapshot

    if not isinstance(sweep, Sweep):
        sweep = load_sweep(sweep, scale)
    elif scale is not None:
        raise InputError("`scale`: found it beside a loaded sweep, which has its own; give it to load_sweep")
    ledger, problems = LedgerSnapshot(str(runs)), list[GapctlError]()
    plans = load_plans([sweep._file], sweep.scale, sweep._overrides, ledger, declared=declared)
    judged = judge_plans(plans, ledger, problems, with_history=True)
    if problems:
        raise problems[0]
    return Analysis(judged[0], str(runs))


def trials(runs: str | Path = DEFAULT_RUNS) -> "pl.DataFrame":
    """Return a row for each finished trial of every sweep in a ledger: sweep, factors, settings and metrics."""
    from gapctl.analysis.compare import build_trials_table

    return build_trials_table(_judge_all(runs))


def history(runs: str | Path = DEFAULT_RUNS) -> "pl.DataFrame":
    """Return a row for each evaluation of every finished trial in a ledger."""
    from gapctl.analysis.compare import build_history_table

    return build_history_table(_judge_all(runs, with_history=True))


def verdicts(runs: str | Path = DEFAULT_RUNS) -> "pl.DataFrame":
    """Return a row for each hypothesis of every sweep in a ledger: its verdict, effect, interval, p and marks."""
    import polars as pl

    frames = [
        Verdicts(judged.analysis.verdicts).frame().insert_column(0, pl.lit(judged.name).alias("sweep"))
        for judged in _judge_all(runs)
        if judged.analysis.verdicts
    ]
    return pl.concat(frames) if frames else pl.DataFrame()


def _judge_all(runs: str | Path, *, with_history: bool = False) -> "list[SweepAnalysis]":
    from gapctl.analysis.service import judge_ledger
    from gapctl.ledger import LedgerSnapshot

    ledger = LedgerSnapshot(str(runs))
    if not ledger.list_sweeps():
        raise InputError(
            f"`runs`: {ledger.root} keeps no sweep; expected a folder that `gapctl sweep FILE --runs` filled"
        )
    return judge_ledger(ledger, with_history=with_history)[0]
