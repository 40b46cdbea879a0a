"""From a plan and its ledger to the verdicts, the curves and the trials behind them."""

from dataclasses import replace

from gapctl.analysis.curves import curves
from gapctl.analysis.design import deviation, remark
from gapctl.analysis.holm import holm
from gapctl.analysis.results import Analysis, Verdict
from gapctl.analysis.table import Tables, read_tables
from gapctl.analysis.verdict import measure, verdict
from gapctl.ledger import Declaration, Ledger
from gapctl.plan.trials import Plan


def analyze(plan: Plan, ledger: Ledger) -> Analysis:
    """Judges the plan's hypotheses by its finished trials, however many there are; damaged ones are left out.

    Raises WorkError where the ledger cannot be read or the sweep's declaration is damaged.
    """
    declaration = ledger.declaration(plan.sweep.spec.name)
    return analysis_of(plan, read_tables(plan, ledger), declaration)


def analysis_of(plan: Plan, tables: Tables, declaration: Declaration | None) -> Analysis:
    """The same from trials that were read already."""
    sweep, spec = plan.sweep, plan.sweep.spec
    declared = declaration.declared_sha256 if declaration else None
    departed = deviation(plan, declaration)
    return Analysis(
        sweep=spec.name,
        question=spec.question,
        scale=sweep.scale,
        alpha=spec.alpha,
        spec_sha256=sweep.spec_sha256,
        hypotheses_sha256=sweep.hypotheses_sha256,
        declared_sha256=declared,
        factors=tuple(spec.vary),
        verdicts=_verdicts(plan, tables, exploratory=declared != sweep.hypotheses_sha256 or departed is not None),
        trials=tables.trials,
        curves=curves(tables.trials, spec.vary, spec.alpha),
        history=tables.history,
        planned=len(plan.trials),
        deviation=departed,
        remark=remark(plan, declaration),
        provenance=tables.provenance,
    )


def _verdicts(plan: Plan, tables: Tables, *, exploratory: bool) -> tuple[Verdict, ...]:
    spec = plan.sweep.spec
    measured = [measure(hypothesis, tables.trials, spec) for hypothesis in spec.hypotheses]
    corrected = holm([item.estimate.p for item in measured], spec.alpha)
    found = (verdict(item, after, spec.alpha, exploratory) for item, after in zip(measured, corrected, strict=True))
    # A seed may be missing because of what the treatment did to it; what the others say only explores.
    return tuple(replace(one, exploratory=one.exploratory or one.seeds < spec.seeds) for one in found)
