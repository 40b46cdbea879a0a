"""From a plan and its ledger to the verdicts, the curves and the trials behind them."""

import numpy as np

from gapctl.analysis.curves import curves
from gapctl.analysis.declared import declared_otherwise
from gapctl.analysis.design import deviation
from gapctl.analysis.holm import holm
from gapctl.analysis.learning import failed_checks
from gapctl.analysis.lineage import beside, recalled_first
from gapctl.analysis.measured import measure
from gapctl.analysis.remaining import remaining
from gapctl.analysis.results import Analysis, FirstQuestion, Verdict
from gapctl.analysis.table import Tables, read_tables
from gapctl.analysis.verdict import verdict
from gapctl.errors import GapctlError
from gapctl.ledger import Ledger
from gapctl.ledger.declaring import scale_name
from gapctl.plan.as_typed import DEFAULT_RUNS
from gapctl.plan.trials import Plan
from gapctl.spec.hypotheses import named_by


def analyze(plan: Plan, ledger: Ledger) -> Analysis:
    """Judges the plan's hypotheses by its finished trials, however many there are; damaged ones are left out.

    Raises WorkError where the ledger cannot be read or the sweep's declaration is damaged.
    """
    return analysis_of(plan, read_tables(plan, ledger), ledger)


def analysis_of(plan: Plan, tables: Tables, ledger: Ledger, *, with_first: bool = True) -> Analysis:
    """The same from trials that were read already; `with_first` also judges the question that the sweep asks again."""
    runs, declaration = ledger.root, ledger.declaration(plan.sweep.spec.name)
    first = first_question(plan, ledger) if with_first else None
    sweep, spec = plan.sweep, plan.sweep.spec
    declared = declaration.declared_sha256 if declaration else None
    departed = deviation(plan, declaration)
    confirms = declared == sweep.hypotheses_sha256 and departed is None
    return Analysis(
        sweep=spec.name,
        question=spec.question,
        scale=sweep.scale,
        alpha=spec.alpha,
        spec_sha256=sweep.spec_sha256,
        hypotheses_sha256=sweep.hypotheses_sha256,
        declared_sha256=declared,
        factors=tuple(spec.vary),
        verdicts=tuple(beside(first, one) for one in verdicts(plan, tables, not confirms, runs)),
        trials=tables.trials,
        curves=curves(tables.trials, spec.vary, spec.alpha),
        history=tables.history,
        planned=len(plan.trials),
        deviation=departed,
        provenance=tables.provenance,
        learning=tables.learning,
        first_question=first,
        declared=None if confirms or declaration is None else declared_otherwise(plan, declaration, runs),
    )


def first_question(plan: Plan, ledger: Ledger) -> FirstQuestion | None:
    """The question that the plan's sweep asks again with its answers, as this ledger declared and trained it.

    None where the sweep asks nothing again; a note where the ledger cannot answer.
    """
    asked = plan.sweep.spec.asks_again
    if asked is None:
        return None
    try:
        first = recalled_first(plan, ledger)
        tables = read_tables(first, ledger, with_history=False)
    except GapctlError as error:
        return FirstQuestion(asked, note=str(error))
    name = f"{first.sweep.spec.name} ({scale_name(first)})"
    if tables.trials.is_empty():
        return FirstQuestion(asked, name, note=f"{ledger.root} has no finished training of {name}")
    return FirstQuestion(asked, name, analysis_of(first, tables, ledger, with_first=False).verdicts)


def verdicts(plan: Plan, tables: Tables, exploratory: bool, runs: str = DEFAULT_RUNS) -> tuple[Verdict, ...]:
    """All hypotheses of the plan's file against its trials, corrected together."""
    spec, trials = plan.sweep.spec, tables.trials
    left = remaining(plan, trials["trial"], tables.damaged, runs)
    with np.errstate(all="ignore"):  # a metric of 1e300 overflows somewhere and is told as the NaN that it becomes
        measured = [measure(hypothesis, trials, spec) for hypothesis in spec.hypotheses]
        corrected = holm([item.estimate.p for item in measured], spec.alpha)
        claims = holm([item.estimate.p_claim for item in measured], spec.alpha)
        each = zip(measured, corrected, claims, strict=True)
        # A seed may be missing because of what the treatment did to it; what the others say only explores.
        return tuple(
            verdict(
                item,
                p,
                claim,
                spec.alpha,
                left,
                exploratory=exploratory or not item.complete,
                redesigned=spec.asks_again is not None,
                not_learned=failed_checks(
                    tables.learning, item.cells, item.hypothesis.where, named_by(item.hypothesis)
                ),
            )
            for item, p, claim in each
        )
