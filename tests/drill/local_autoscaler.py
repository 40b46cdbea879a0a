"""A cluster file's node types on this machine: Ray's fake provider starts a raylet where a cloud would a machine.

What is asked of a cloud is taken out (keys, images, commands, files). Names, resources, limits and priorities stay, but
for CPUs: a node of eight would start as many processes here.
"""

import copy
import json
from pathlib import Path
from typing import Any, Final

import yaml

FAKE_HEAD: Final = "ray.head.default"
"""What Ray's provider calls the head, whatever the file does."""
HEAD_ID: Final = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
ENVIRONMENT: Final = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "RAY_NODE_TYPE_NAME": FAKE_HEAD,
}
"""With the newer autoscaler, as `ray up` has it since Ray 2.50."""


def localised(document: dict[str, Any], gcs_address: str, idle_minutes: float) -> dict[str, Any]:
    """What the fake provider takes in place of a cluster file, whose idle timeout alone is another."""
    kinds = copy.deepcopy(document["available_node_types"])
    kinds[FAKE_HEAD] = {**kinds.pop(document["head_node_type"]), "max_workers": 0}
    for kind in kinds.values():
        kind["node_config"] = {}
        kind["resources"]["CPU"] = min(1, kind["resources"]["CPU"])
    kinds[FAKE_HEAD]["resources"]["CPU"] = 0
    return {
        "cluster_name": document["cluster_name"],
        "max_workers": document["max_workers"],
        "idle_timeout_minutes": idle_minutes,
        "upscaling_speed": document.get("upscaling_speed", 1.0),
        "provider": {
            "type": "external",
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "gcs_address": gcs_address,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": kinds,
        "head_node_type": FAKE_HEAD,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{key: [] for key in document if key.endswith("_commands")},
        "initialization_commands": [],
    }


def write_localised(cluster_file: Path, target: Path, gcs_address: str, idle_minutes: float) -> None:
    """The same, from file to file."""
    document = yaml.safe_load(cluster_file.read_text(encoding="utf-8"))
    target.write_text(json.dumps(localised(document, gcs_address, idle_minutes)), encoding="utf-8")
