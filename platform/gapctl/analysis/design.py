"""Whether what is judged is what was declared before the first trial: levels, recipe, seeds and question."""

from gapctl.ledger import Declaration
from gapctl.ledger.declaration import UNDECLARED
from gapctl.ledger.declaring import scale_name
from gapctl.plan.identity import design_sha256
from gapctl.plan.trials import Plan


def deviation(plan: Plan, declaration: Declaration | None) -> str | None:
    """How the plan departs from the declared design so that verdicts only explore; None where it does not.

    Judging other levels, another recipe or fewer seeds than declared chooses among results that could be seen, and
    adding seeds until a verdict falls gives chance several tries (docs/statistics.md has how much that costs). Another
    question lets an answer mean something else.
    """
    if declaration is None:
        return None
    declared = declaration.design_sha256.get(scale_name(plan), UNDECLARED)
    if declared == UNDECLARED:
        return "trainings of this scale had begun before it was declared"
    if declared != design_sha256(plan):
        return "what is trained, at which levels or from which seed on, was changed after the first training began"
    if declaration.declared and declaration.question != plan.sweep.spec.question:
        return f"the question was put otherwise after the first training began; declared was: {declaration.question}"
    seeds = declaration.seeds[scale_name(plan)]
    judged = plan.sweep.spec.seeds
    if judged < seeds:
        return f"{judged} of the {seeds} declared seeds are judged"
    if judged > seeds:
        return (
            f"{judged} seeds are judged where {seeds} were declared, and seeds added after a look are a stopping rule"
        )
    return None
