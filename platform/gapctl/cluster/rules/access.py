"""The right to read and write the object store."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.plan.trials import Plan
from gapctl.spec.yaml_source import YamlSource

STORE: Final = re.compile(r"\b(?:s3|gs)://")
FIXES: Final = {
    "aws": "give it an IamInstanceProfile that may get, put, list and delete in the bucket",
    "gcp": "give it a service account with storage.objectUser on the bucket, and the scope cloud-platform",
    "kuberay": "give the pod a serviceAccountName that is bound to such a role",
}


def names_a_store(sources: Sequence[YamlSource], plan: Plan | None) -> bool:
    """Whether a bucket is named anywhere in a file, or as data of the sweep."""
    data = [trial.config.data.address for trial in plan.trainings] if plan else []
    return any(STORE.search(text) for text in [*(source.text for source in sources), *data])


def store_access(cluster: Cluster, named: bool) -> Iterator[Finding]:
    """Nodes without a right to an object store: an error where a bucket is named, a warning elsewhere."""
    for node in cluster.nodes if cluster.cloud in FIXES else ():
        if not node.access:
            tell = cluster.error if named else cluster.warning
            yield tell(
                "store-access",
                node.machine,
                f"{node.name} has no right to an object store: it can neither read shards nor write the ledger there",
                FIXES[cluster.cloud],
            )
