"""`ray up` would take cluster.yaml as it is; it costs nothing idle, and needs nothing that only one machine has.

No cloud is asked: Ray's own preparation and validation run on the file, and AWS is left out.
"""

import copy
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import jsonschema
import pytest
import torch
import yaml
from ray._private.resource_and_label_spec import ResourceAndLabelSpec
from ray.autoscaler._private.commands import warn_about_bad_start_command
from ray.autoscaler._private.util import prepare_config, validate_config

REPOSITORY = Path(__file__).parents[2]
GCP: dict[str, Any] = yaml.safe_load((REPOSITORY / "docs" / "cluster" / "gcp.yaml").read_text(encoding="utf-8"))
SERVICES = REPOSITORY / "docs" / "cluster" / "head-services.sh"
CLUSTER: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text(encoding="utf-8"))
HEAD = CLUSTER["available_node_types"][CLUSTER["head_node_type"]]
WORKERS = {name: node for name, node in CLUSTER["available_node_types"].items() if name != CLUSTER["head_node_type"]}
COMMANDS = [key for key in CLUSTER if key.endswith("_commands")]


def commands() -> Iterator[str]:
    """Every command that runs on a node."""
    for key in COMMANDS:
        yield from CLUSTER[key]


@pytest.mark.parametrize("config", [CLUSTER, GCP], ids=["aws", "gcp"])
def test_ray_takes_it(config: dict[str, Any]) -> None:
    prepared = prepare_config(copy.deepcopy(config))
    validate_config(prepared)

    assert prepared["head_setup_commands"] == config["setup_commands"] + config["head_setup_commands"]
    assert prepared["worker_setup_commands"] == config["setup_commands"] + config["worker_setup_commands"]
    assert prepared["available_node_types"]["head"]["max_workers"] == 0


def misspelt(config: dict[str, Any]) -> None:
    config["idle_timeout_minuts"] = 5


def without_a_machine(config: dict[str, Any]) -> None:
    del config["available_node_types"]["spot_l4"]["node_config"]


def with_half_a_gpu(config: dict[str, Any]) -> None:
    config["available_node_types"]["spot_l4"]["resources"]["GPU"] = 0.5


def with_another_head(config: dict[str, Any]) -> None:
    config["head_node_type"] = "absent"


def with_more_workers_than_allowed(config: dict[str, Any]) -> None:
    config["available_node_types"]["spot_l4"]["min_workers"] = 9


@pytest.mark.parametrize(
    "spoil", [misspelt, without_a_machine, with_half_a_gpu, with_another_head, with_more_workers_than_allowed]
)
def test_ray_would_not_take_it(spoil: Callable[[dict[str, Any]], None]) -> None:
    config = copy.deepcopy(CLUSTER)
    spoil(config)

    with pytest.raises((jsonschema.ValidationError, ValueError)):
        validate_config(prepare_config(config))


def test_the_head_is_bought_on_demand_and_the_workers_on_the_spot_market_in_two_kinds() -> None:
    spot = {
        name: node["node_config"]["InstanceType"]
        for name, node in WORKERS.items()
        if "InstanceMarketOptions" in node["node_config"]
    }

    first = {machine for name, machine in spot.items() if WORKERS[name]["max_workers"]}

    assert "InstanceMarketOptions" not in HEAD["node_config"]
    assert len(first) == 2
    assert [node["max_workers"] for name, node in WORKERS.items() if name not in spot] == [0]


def test_the_fallback_is_the_last_choice() -> None:
    fallback = min(WORKERS, key=lambda name: WORKERS[name]["priority"])

    assert "InstanceMarketOptions" not in WORKERS[fallback]["node_config"]


@pytest.mark.parametrize("config", [CLUSTER, GCP], ids=["aws", "gcp"])
def test_the_head_offers_ray_no_cpu_beside_mlflow_and_postgresql(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = config["available_node_types"][config["head_node_type"]]["resources"]
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps(resources))  # as `ray up` hands them to `ray start`
    offered = ResourceAndLabelSpec().resolve(is_head=True, node_ip_address="127.0.0.1").to_resource_dict()

    assert "CPU" not in offered
    assert offered["head"] == 1


@pytest.mark.parametrize("config", [CLUSTER, GCP], ids=["aws", "gcp"])
def test_a_kind_of_worker_has_several_gpus_and_waits_to_be_wanted(config: dict[str, Any]) -> None:
    kinds = config["available_node_types"].values()
    several = [node for node in kinds if node["resources"].get("GPU", 0) > 1]

    assert [node["max_workers"] for node in several] == [0]


def test_an_idle_cluster_is_only_its_head() -> None:
    assert 0 < CLUSTER["idle_timeout_minutes"] <= 15
    assert [node.get("min_workers", 0) for node in WORKERS.values()] == [0] * len(WORKERS)
    assert CLUSTER["provider"]["cache_stopped_nodes"] is False


def test_no_kind_of_worker_may_grow_beyond_the_whole() -> None:
    assert all(node["max_workers"] <= CLUSTER["max_workers"] for node in WORKERS.values())
    assert all(node["resources"]["GPU"] >= 1 for node in WORKERS.values())


def test_all_nodes_have_one_python_and_it_is_new_enough() -> None:
    images = [node["node_config"]["ImageId"] for node in CLUSTER["available_node_types"].values()]

    # Ubuntu 24.04 has Python 3.12; an image by its number would suit one region only and vanish some day.
    assert all(image.startswith("resolve:ssm:/aws/service/") and "24.04" in image for image in images)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"


def test_what_is_copied_to_a_node_is_in_every_checkout() -> None:
    mounts = CLUSTER["file_mounts"]
    tracked = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=False).stdout

    for remote, local in mounts.items():
        assert not PurePosixPath(local).is_absolute()
        assert ".." not in PurePosixPath(local).parts
        assert remote == f"~/gapctl/{local}"
        assert (REPOSITORY / local).exists()
        assert not tracked or any(line == local or line.startswith(f"{local}/") for line in tracked.splitlines())


def test_what_the_commands_use_is_copied() -> None:
    needed = {
        "requirements.lock",
        "requirements-cluster.lock",
        "pyproject.toml",
        "platform",
        "dashboards",
        "docs/cluster",
        "sweeps",
    }

    assert set(CLUSTER["file_mounts"].values()) == needed


def test_no_key_or_address_of_one_person_is_in_it() -> None:
    assert set(CLUSTER["auth"]) == {"ssh_user"}
    assert CLUSTER["provider"]["security_group"] == {"GroupName": "gapctl"}
    assert not {"subnet_id", "aws_credentials"} & set(CLUSTER["provider"])
    for node in CLUSTER["available_node_types"].values():
        assert not {"KeyName", "SubnetId", "SubnetIds", "SecurityGroupIds"} & set(node["node_config"])
    assert "docker" not in CLUSTER


def test_every_node_gets_the_locked_versions_and_the_head_can_start_others() -> None:
    (install,) = [command for command in CLUSTER["setup_commands"] if "-r requirements.lock" in command]
    names = ("requirements.lock", "requirements-cluster.lock")
    locked = "\n".join((REPOSITORY / name).read_text(encoding="utf-8") for name in names)

    assert "-r requirements-cluster.lock" in install
    for package in ("boto3", "google-api-python-client", "psycopg2-binary", "s3fs", "gcsfs"):
        assert f"\n{package}==" in f"\n{locked}"


def test_a_node_whose_gpu_torch_cannot_use_joins_no_cluster() -> None:
    (check,) = CLUSTER["worker_setup_commands"]
    here = check.replace("~/env/bin/python", sys.executable)
    ran = subprocess.run(["bash", "-c", here], capture_output=True, text=True, check=False)

    assert (ran.returncode == 0) == torch.cuda.is_available()
    assert torch.cuda.is_available() or f"torch {torch.__version__} for CUDA {torch.version.cuda} cannot" in ran.stderr


@pytest.mark.parametrize("command", commands(), ids=lambda command: command[:40])
def test_a_command_is_shell(command: str) -> None:
    checked = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr


def test_the_head_starts_the_autoscaler_and_keeps_its_dashboard_to_itself(capsys: pytest.CaptureFixture[str]) -> None:
    warn_about_bad_start_command(["ray start --head"])
    assert "Potential fix" in "".join(capsys.readouterr())
    warn_about_bad_start_command(CLUSTER["head_start_ray_commands"])
    assert "".join(capsys.readouterr()) == ""

    start = start_of("head_start_ray_commands")
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in start
    assert "--dashboard-host=127.0.0.1" in start


def start_of(key: str) -> str:
    """The command of a list that starts Ray."""
    (start,) = [command for command in CLUSTER[key] if "ray start" in command]
    return str(start)


def test_workers_join_the_head_at_its_port() -> None:
    head, worker = start_of("head_start_ray_commands"), start_of("worker_start_ray_commands")

    assert "--port=6379" in head
    assert "--address=$RAY_HEAD_IP:6379" in worker
    for start in (head, worker):
        assert start.startswith("ulimit -n 65536; export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token")


def test_nodes_share_a_token_that_the_head_makes() -> None:
    (made,) = CLUSTER["head_setup_commands"]

    assert "~/.ray/auth_token" in made
    assert "get-auth-token --generate" in made
    assert CLUSTER["cluster_synced_files"] == ["~/.ray/auth_token"]


def test_services_of_the_head_are_shell_and_listen_to_the_head_alone() -> None:
    text = SERVICES.read_text(encoding="utf-8")
    checked = subprocess.run(["bash", "-n", str(SERVICES)], capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stderr
    for listening in ("--host 127.0.0.1", "--web.listen-address=127.0.0.1", "GF_SERVER_HTTP_ADDR=127.0.0.1"):
        assert listening in text
    assert "0.0.0.0" not in text


@pytest.mark.parametrize(("address", "handed_on"), [("", []), ("https://s3.example.org", ["--setenv"])])
def test_services_of_the_head_get_the_address_of_another_store(address: str, handed_on: list[str]) -> None:
    (line,) = [line for line in SERVICES.read_text(encoding="utf-8").splitlines() if "AWS_ENDPOINT_URL" in line]
    words = f"printf '%s\\n' {line.rstrip(chr(92)).strip()}"
    shown = subprocess.run(
        ["bash", "-euc", words], env={"AWS_ENDPOINT_URL": address}, capture_output=True, text=True, check=True
    ).stdout.split()

    assert shown == [*handed_on, *([f"AWS_ENDPOINT_URL={address}"] if address else [])]


@pytest.mark.parametrize("key", [key for key in CLUSTER if key != "provider"])
def test_the_twin_differs_in_what_the_clouds_differ_in(key: str) -> None:
    if key not in ("available_node_types", "head_start_ray_commands"):
        assert GCP[key] == CLUSTER[key]
    assert [command.replace("gs://", "s3://") for command in GCP["head_start_ray_commands"]] == CLUSTER[
        "head_start_ray_commands"
    ]
