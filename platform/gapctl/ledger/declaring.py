"""What declaring a plan makes of an earlier declaration: what has begun stays as it stood before."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gapctl.ledger.declaration import UNDECLARED, Asked, Declaration
from gapctl.plan.identity import design_sha256
from gapctl.plan.trials import Plan
from gapctl.spec.secrets import is_private, without_passwords

DEFAULT_SCALE_NAME: Final = "base"

HasBegun = Callable[[Sequence[str]], bool]
"""Whether any of these trials has left something in the ledger."""


def scale_name(plan: Plan) -> str:
    """The name under which a declaration files the plan."""
    return plan.sweep.scale or DEFAULT_SCALE_NAME


def declared(earlier: Declaration | None, plan: Plan, has_begun: HasBegun) -> Declaration:
    """The declaration after this plan was asked for.

    Hypotheses and question are fixed once any trial of the sweep has begun, design, seeds and text once one of the
    scale has. Hypotheses that come after a trial are never preregistered, whatever becomes of the trial's folder.
    """
    scale, asked = scale_name(plan), asked_for(plan)
    known = earlier or _nothing_declared(plan)
    listed = {**known.trials, scale: _joined(known.trials.get(scale, []), plan)}
    noted = with_begun(replace(known, trials=listed), has_begun)
    fixed = scale in noted.begun and scale in known.design_sha256
    design = UNDECLARED if scale in noted.begun else design_sha256(plan)
    return replace(
        _with_hypotheses(noted, plan, kept=earlier is not None and _is_fixed(noted)),
        spec_sha256={**known.spec_sha256, scale: plan.sweep.spec_sha256},
        design_sha256=known.design_sha256 | ({} if fixed else {scale: design}),
        seeds=known.seeds | ({} if fixed else {scale: plan.sweep.spec.seeds}),
        asked={**known.asked, scale: asked},
        declared={**known.declared, scale: _first_text(noted, scale) or asked},
    )


def with_begun(declaration: Declaration, has_begun: HasBegun) -> Declaration:
    """The declaration with every scale noted of which a trial has begun; what was noted once stays."""
    begun = [name for name, ids in declaration.trials.items() if name in declaration.begun or has_begun(ids)]
    return replace(declaration, begun=begun)


def asked_for(plan: Plan) -> Asked:
    """What is kept of a plan."""
    sweep = plan.sweep
    return Asked(
        file=str(sweep.path),
        text=without_passwords(sweep.text),
        scale=sweep.scale,
        overrides=[text for text in sweep.overrides if not is_private(text)],
        recipe_version=plan.recipe_version,
        fingerprints={trial.config.data.address: trial.data_fingerprint for trial in plan.trainings},
    )


def _is_fixed(declaration: Declaration) -> bool:
    return bool(declaration.begun) or not declaration.preregistered


def _with_hypotheses(noted: Declaration, plan: Plan, *, kept: bool) -> Declaration:
    if kept:  # older versions kept the first question of all, however often it was put anew before a trial
        return noted if noted.declared else replace(noted, question=plan.sweep.spec.question)
    return replace(
        noted,
        question=plan.sweep.spec.question,
        hypotheses_sha256=plan.sweep.hypotheses_sha256,
        preregistered=not noted.begun,
    )


def _first_text(noted: Declaration, scale: str) -> Asked | None:
    """What was asked when the scale began; of a ledger that did not keep that, the earliest that is left."""
    return noted.declared.get(scale) or noted.asked.get(scale) if scale in noted.begun else None


def _nothing_declared(plan: Plan) -> Declaration:
    return Declaration(plan.sweep.spec.name, plan.sweep.spec.question, "", False, {}, {})


def _joined(listed: Sequence[str], plan: Plan) -> list[str]:
    return list(dict.fromkeys([*listed, *(trial.id for trial in plan.trials)]))
