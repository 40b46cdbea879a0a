"""The plan of a file as a ledger has it: of a search, the points that were drawn so far."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gapctl.cli.context import fingerprint_of, plan_for
from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.ledger import Ledger
    from gapctl.ledger.search_record import SearchRecord
    from gapctl.plan.trials import Plan


def plan_in(file: Path, scale: str | None, overrides: Sequence[str] | None, ledger: "Ledger") -> "Plan":
    """As `plan_for`; of a search, its points as trials. Raises InputError where none was drawn yet."""
    plan = plan_for(file, scale, overrides)
    return plan if plan.sweep.spec.search is None else drawn_plan(plan, ledger)


def drawn_plan(plan: "Plan", ledger: "Ledger") -> "Plan":
    """The points of a search that `plan_for` checked."""
    from gapctl.plan.search import search_plan

    record = record_of(plan, ledger)
    if record is None or not record.drawn:
        raise InputError(
            f"{ledger.root}: no point of the search {plan.sweep.spec.name} was drawn; expected the runs folder of "
            f"one, with the same --scale and --set. Run `gapctl sweep {plan.sweep.path}` first, or name the ledger "
            "with --runs"
        )
    return search_plan(plan.sweep, [drawn.point for drawn in record.drawn], fingerprint_of)


def record_of(plan: "Plan", ledger: "Ledger") -> "SearchRecord | None":
    """What a ledger says of a search as it is asked for now; None where it has none, or another's."""
    from gapctl.ledger.declaring import scale_name
    from gapctl.plan.search import study_name

    spec = plan.sweep.spec
    study = study_name(plan.sweep, fingerprint_of(spec.base.data))
    return ledger.search_of_study(f"{spec.name}.{scale_name(plan)}", study)
