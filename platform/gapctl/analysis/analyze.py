"""From a plan and its ledger to the verdicts, the curves and the trials behind them."""

import numpy as np

from gapctl.analysis.curves import curves
from gapctl.analysis.declared import declared_otherwise
from gapctl.analysis.design import deviation
from gapctl.analysis.holm import holm
from gapctl.analysis.learning import failed_checks
from gapctl.analysis.measured import measure
from gapctl.analysis.remaining import remaining
from gapctl.analysis.results import Analysis, Verdict
from gapctl.analysis.table import Tables, read_tables
from gapctl.analysis.verdict import verdict
from gapctl.ledger import Declaration, Ledger
from gapctl.plan.as_typed import DEFAULT_RUNS
from gapctl.plan.trials import Plan
from gapctl.spec.hypotheses import named_by


def analyze(plan: Plan, ledger: Ledger) -> Analysis:
    """Judges the plan's hypotheses by its finished trials, however many there are; damaged ones are left out.

    Raises WorkError where the ledger cannot be read or the sweep's declaration is damaged.
    """
    declaration = ledger.declaration(plan.sweep.spec.name)
    return analysis_of(plan, read_tables(plan, ledger), declaration, ledger.root)


def analysis_of(plan: Plan, tables: Tables, declaration: Declaration | None, runs: str = DEFAULT_RUNS) -> Analysis:
    """The same from trials that were read already; `runs` is where the command that trains the rest should look."""
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
        verdicts=verdicts(plan, tables, not confirms, runs),
        trials=tables.trials,
        curves=curves(tables.trials, spec.vary, spec.alpha),
        history=tables.history,
        planned=len(plan.trials),
        deviation=departed,
        provenance=tables.provenance,
        learning=tables.learning,
        declared=None if confirms or declaration is None else declared_otherwise(plan, declaration, runs),
    )


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
                not_learned=failed_checks(
                    tables.learning, item.cells, item.hypothesis.where, named_by(item.hypothesis)
                ),
            )
            for item, p, claim in each
        )
