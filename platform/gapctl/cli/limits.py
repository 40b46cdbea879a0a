"""A sweep's limits on the command line: what its machines cost, what the limits leave, and what is said at the end."""

from typing import TYPE_CHECKING, Final

from gapctl.errors import InputError

if TYPE_CHECKING:
    from gapctl.ledger import Ledger
    from gapctl.plan.cost import Cost
    from gapctl.plan.trials import Plan
    from gapctl.spec.sweep import Limits
    from gapctl.sweep.allowance import Allowance


WITH_MACHINES: Final = "The same command goes on once there is such a machine, or with smaller `resources`."


def allowance_of(plan: "Plan", ledger: "Ledger", address: str | None) -> "Allowance":
    """The plan's limits, with what earlier runs spent of them.

    Raises InputError for a limit of money on this machine where nobody knows what it costs.
    """
    from gapctl.cluster.bill import Bill
    from gapctl.spec.problem import Problem
    from gapctl.sweep.allowance import Allowance
    from gapctl.sweep.ray_gate import asking

    limits = plan.sweep.spec.limits
    if limits.cost is not None and address is None and price_here(limits) is None:
        text = (
            f"found {limits.cost:g}, but of this machine no price is known; expected limits.price_per_hour beside it "
            "(what an hour of this machine costs you), or limits.hours instead"
        )
        raise InputError(plan.sweep.located(Problem(("limits", "cost"), text)))
    return Allowance(plan, ledger, Bill(limits.price_per_hour, asking))


def price_here(limits: "Limits") -> float | None:
    """What an hour of this machine costs: by the table, if it is a cloud's, else as the file says."""
    from gapctl.cluster.bill import price_of
    from gapctl.cluster.machine_kind import this_machine
    from gapctl.cluster.prices import shipped_prices

    return price_of(this_machine(), shipped_prices(), limits.price_per_hour)


def beyond_limits(plan: "Plan", ledger: "Ledger", left: "Cost") -> list[str]:
    """What `gapctl plan` says of the limits before anything runs."""
    from gapctl.ledger.declaring import scale_name
    from gapctl.plan.limits import beyond

    limits = plan.sweep.spec.limits
    if not limits.any:
        return []
    spent = ledger.spent(plan.sweep.spec.name, scale_name(plan))
    price = price_here(limits) if limits.cost is not None else None
    return beyond(limits, left.wall_hours, price, spent.hours, spent.cost)


def stopped_text(plan: "Plan", ledger: "Ledger", allowance: "Allowance", reason: str) -> str:
    """Why the sweep stopped, what is left, and how to go on; `reason` is the cluster's, where no limit was reached."""
    from gapctl.sweep.run import remainder

    few = f" ({allowance.unpriced} machines of unknown price were not counted)" if allowance.unpriced else ""
    left, all_ = len(remainder(plan, ledger).left), len(plan.trainings)
    why, how = (f"{allowance.reached}{few}", allowance.how_to_go_on) if allowance.reached else (reason, WITH_MACHINES)
    return (
        f"{why}; {left} of {all_} trainings are left, those in training with checkpoints, and the "
        f"verdicts are about what is there. {how}"
    )
