"""The right to read and write the object store."""

import re
from collections.abc import Iterator
from typing import Final

from gapctl.cluster.description import Cluster
from gapctl.cluster.finding import Finding
from gapctl.spec.trial import TrialConfig

STORE: Final = re.compile(r"\b(?:s3|gs)://")
FIXES: Final = {
    "aws": "give it an IamInstanceProfile that may get, put, list and delete in the bucket",
    "gcp": "give it a service account with storage.objectUser on the bucket, and the scope cloud-platform",
    "kuberay": "give the pod a serviceAccountName that is bound to such a role",
}


def store_access(cluster: Cluster, trials: tuple[TrialConfig, ...] = ()) -> Iterator[Finding]:
    """Nodes without a right to the bucket that the file or the sweep names."""
    named = bool(STORE.search(cluster.source.text))
    named = named or any(STORE.search(config.data.source) for config in trials)
    for node in cluster.nodes if cluster.cloud in FIXES else ():
        if not node.access:
            tell = cluster.error if named else cluster.warning
            yield tell(
                "store-access",
                node.machine,
                f"{node.name} has no right to an object store: it can neither read shards nor write the ledger there",
                FIXES[cluster.cloud],
            )
