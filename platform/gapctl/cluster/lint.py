"""All that is wrong with a cluster file, in the order of its lines."""

from pathlib import Path

from gapctl.cluster.finding import Finding
from gapctl.cluster.prices import Prices, shipped_prices
from gapctl.cluster.ray_schema import what_ray_refuses
from gapctl.cluster.read import clusters_in, read_documents
from gapctl.cluster.rules.access import names_a_store, store_access
from gapctl.cluster.rules.commands import node_commands
from gapctl.cluster.rules.fit import fit
from gapctl.cluster.rules.kubernetes import pods
from gapctl.cluster.rules.money import waste
from gapctl.cluster.rules.network import open_doors
from gapctl.cluster.rules.paths import local_paths
from gapctl.cluster.rules.placement import placement
from gapctl.cluster.rules.secrets import plain_secrets
from gapctl.cluster.rules.versions import versions
from gapctl.plan.trials import Plan

RULES = (what_ray_refuses, placement, waste, open_doors, local_paths, versions, node_commands, pods)


def lint(path: Path, plan: Plan | None = None, prices: Prices | None = None) -> list[Finding]:
    """What is wrong with a file, also for a sweep if one is given; raises SpecError for what is no cluster file."""
    sources = read_documents(path)
    found = [finding for source in sources for finding in plain_secrets(source)]
    for cluster in clusters_in(sources):
        found += (finding for rule in RULES for finding in rule(cluster))
        found += store_access(cluster, names_a_store(sources, plan))
        found += fit(cluster, plan, prices or shipped_prices()) if plan else ()
    return sorted(set(found), key=lambda finding: (finding.line, finding.severity, finding.rule, finding.risk))
