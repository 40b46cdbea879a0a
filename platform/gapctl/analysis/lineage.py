"""The question that a sweep asks again: its plan from the ledger, and its answers beside the new verdicts."""

from dataclasses import replace

from gapctl.analysis.results import FirstAnswer, FirstQuestion, Verdict
from gapctl.errors import InputError
from gapctl.ledger import Declaration, Ledger
from gapctl.ledger.preregistration import rebuild_declared_plan, rebuild_plan
from gapctl.plan.plan import Plan


def rebuild_first_plan(plan: Plan, ledger: Ledger) -> Plan:
    """Rebuild the plan of the question that this plan's sweep asks again, as declared where the ledger kept that.

    Use this plan's scale where the question was asked at it, else the only scale that it was asked at. Raise
    InputError, or WorkError for a damaged ledger, where there is no such plan.
    """
    asked = str(plan.sweep.spec.asks_again)
    name, _, when = asked.partition("@")
    declaration = ledger.read_declaration(name)
    if declaration is None:
        raise InputError(f"{ledger.root} holds no sweep {name}")
    first = _rebuild_plan(declaration, _choose_scale(plan, declaration, ledger), ledger.locate_declaration(name))
    found = first.sweep.hypotheses_sha256
    if "-" not in when and not found.startswith(when):
        raise InputError(f"{name} in {ledger.root} has the hypotheses {found[: len(when)]}, not {when}")
    if found == plan.sweep.hypotheses_sha256:
        raise InputError(f"{name} in {ledger.root} asks the same as this sweep, with the same hypotheses")
    return first


def _choose_scale(plan: Plan, declaration: Declaration, ledger: Ledger) -> str:
    scales = list(declaration.trials)
    if plan.sweep.scale_name in scales:
        return plan.sweep.scale_name
    if len(scales) == 1:
        return scales[0]
    raise InputError(
        f"{declaration.sweep} in {ledger.root} has the scales {', '.join(scales)}, not {plan.sweep.scale_name}"
    )


def _rebuild_plan(declaration: Declaration, scale: str, path: str) -> Plan:
    try:
        return rebuild_declared_plan(declaration, scale, path)
    except InputError:
        return rebuild_plan(declaration, scale, path)


def attach_first_answer(first: FirstQuestion | None, verdict: Verdict) -> Verdict:
    """Return the verdict with the first answer to its hypothesis.

    That is the answer of the same id, or else the only one to the same test of the same response by the same factor.
    """
    if first is None:
        return verdict
    same = [one for one in first.answers if one.id == verdict.id]
    alike = [one for one in first.answers if _get_question(one) == _get_question(verdict)]
    found = same or (alike if len(alike) == 1 else [])
    if not found:
        return verdict
    one = found[0]
    answer = FirstAnswer(
        first.sweep, one.id, one.claim, one.verdict, one.estimate, one.ci, one.p, one.replicates, one.marks
    )
    return replace(verdict, first_answer=answer)


def _get_question(verdict: Verdict) -> tuple[str, str, str]:
    return verdict.test, verdict.response, verdict.factor
