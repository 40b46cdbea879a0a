"""What trainings ask of object stores and what that costs, for `gapctl plan` and `gapctl cluster cost`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gapctl.cluster.cluster_files import ClusterFile
from gapctl.cluster.cost import CostEstimate, PriceTable, count_trials_at_once, format_money
from gapctl.config.sweep import Resources
from gapctl.config.trial import PairData
from gapctl.errors import GapctlError
from gapctl.plan.plan import Trial

if TYPE_CHECKING:
    from gapctl.data.image_text.requests import StoredPairs

BUNDLED: Final = "bundled"


class RequestCost(NamedTuple):
    """Requests and bytes of some trainings, their money, None without a price, and data that could not be looked at.

    Each training is on `nodes` machines.
    """

    nodes: int
    gets: float
    bytes: float
    cost: float | None
    unknown: tuple[str, ...] = ()


def estimate_request_cost(trials: Sequence[Trial], prices: PriceTable, nodes: int = 1) -> RequestCost | None:
    """Return what the trainings ask of object stores on `nodes` machines each; None where their pairs lie on a disk.

    The price of a request is that of the shards' scheme. Each set of pairs is looked at once.
    """
    if not any(_may_be_in_a_store(trial) for trial in trials):
        return None
    from gapctl.data.image_text.requests import RequestEstimate, estimate_requests, summarise_stored_pairs

    found, cost, unknown = RequestEstimate(), 0.0 if trials else None, dict[str, None]()
    summaries: dict[tuple[str, str, float], StoredPairs | None] = {}
    for trial in trials:
        data = trial.config.data
        if not isinstance(data, PairData) or not _may_be_in_a_store(trial):
            continue
        pairs = (data.source, data.held_out, data.held_out_share)
        if pairs not in summaries:
            summaries[pairs] = None
            try:
                summaries[pairs] = summarise_stored_pairs(data)
            except GapctlError as error:
                if "://" in data.source + data.held_out:  # what a disk lacks is said elsewhere
                    unknown[str(error)] = None
        if (stored := summaries[pairs]) is not None:
            each = estimate_requests(trial.config, stored, nodes)
            price = prices.gets_per_1000.get(stored.address.partition("://")[0])
            found = found.add(each)
            cost = None if price is None or cost is None else cost + each.gets / 1000 * price
    if not any(summaries.values()) and not unknown:
        return None
    return RequestCost(nodes, found.gets, found.bytes, cost, tuple(unknown))


def _may_be_in_a_store(trial: Trial) -> bool:
    """Return whether a training's shards may lie in a store: a manifest on a disk may be of such shards."""
    data = trial.config.data
    return isinstance(data, PairData) and {data.source, data.held_out} - {"", BUNDLED} != set()


def count_nodes_per_trial(cluster: ClusterFile, estimates: Sequence[CostEstimate], resources: Resources) -> int:
    """Return how many machines train one trial on the kind of worker that a cluster file buys first."""
    bought = next((each.node for each in estimates if each.chosen), estimates[0].node)
    node = next(node for node in cluster.workers if node.name == bought)
    slots = count_trials_at_once(node.resources, resources)
    return 1 if slots is None else slots.machines


def build_request_fields(found: RequestCost | None, prices: PriceTable) -> dict[str, object]:
    """Return the field `requests` of a JSON document; nothing where nothing is asked of a store."""
    if found is None:
        return {}
    fields: dict[str, object] = {"nodes": found.nodes, "gets": round(found.gets), "bytes": round(found.bytes)}
    if found.cost is not None:
        fields |= {"cost": round(found.cost, 2), "currency": prices.currency, "prices_as_of": prices.as_of}
    return {"requests": fields | ({"unknown": list(found.unknown)} if found.unknown else {})}


def describe_requests(found: RequestCost | None, prices: PriceTable) -> list[str]:
    """Return a line about requests, bytes and money, and one for each source that could not be looked at."""
    if found is None:
        return []
    lines = [f"object store: requests are not known: {each}" for each in found.unknown]
    if not found.gets:
        return lines
    state = "checked" if prices.checked else "not checked"
    money = "of which no price is known"
    if found.cost is not None:
        money = f"{format_money(found.cost)} {prices.currency} by prices of {prices.as_of}, {state}"
    shown = f"{found.gets / 1e6:,.2g} million" if found.gets >= 1e6 else f"{found.gets:,.0f}"
    where = "on one machine each" if found.nodes == 1 else f"on {found.nodes} machines each"
    asked = f"about {shown} requests (GET) and {found.bytes / 1e12:,.2g} TB {where}, {money}"
    return [f"object store: {asked}; traffic within its region is free, other traffic is not counted", *lines]
