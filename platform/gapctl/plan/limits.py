"""Whether what is left of a plan would go beyond a sweep file's limits, by the plan's own estimate."""

from gapctl.spec.sweep import Limits


def beyond(
    limits: Limits, wall_hours: float, price_per_hour: float | None, spent_hours: float, spent_cost: float
) -> list[str]:
    """A line for each limit that the estimate of `wall_hours` exceeds, and one where money cannot be estimated.

    `price_per_hour` is this machine's, `spent_hours` and `spent_cost` what earlier runs took of the limits.
    """
    lines = []
    if limits.hours is not None and spent_hours + wall_hours > limits.hours:
        lines.append(
            f"limits.hours: {_before(spent_hours, 'h')}about {wall_hours:.2g} h on this machine are beyond "
            f"{limits.hours:g} h: the sweep would stop there, and go on with a higher limit"
        )
    if limits.cost is None:
        return lines
    if price_per_hour is None:
        unknown = "limits.cost: of this machine no price is known, so a sweep is refused here"
        return [*lines, f"{unknown} without limits.price_per_hour; `gapctl cluster cost` estimates a cluster's"]
    cost = wall_hours * price_per_hour
    if spent_cost + cost > limits.cost:
        lines.append(
            f"limits.cost: {_before(spent_cost, '')}about {cost:.2g} for {wall_hours:.2g} h at {price_per_hour:g} are "
            f"beyond {limits.cost:g}: the sweep would stop there, and go on with a higher limit"
        )
    return lines


def _before(spent: float, unit: str) -> str:
    return f"{spent:.2g}{' ' * bool(unit)}{unit} spent before and " if spent else ""
