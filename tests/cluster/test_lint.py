"""Each mistake planted in a shipped cluster file is found at its line; the shipped files have none."""

import contextlib
import copy
import json
from pathlib import Path

import pytest
import yaml

from cluster.cluster_texts import AWS, GCP, KUBERAY, REPOSITORY, SWEEP, Mistake, planted
from command_line import gapctl
from gapctl.cluster.lint import lint_cluster_file
from gapctl.errors import InputError


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.parametrize("file", [AWS, GCP, KUBERAY], ids=["aws", "gcp", "kuberay"])
def test_a_shipped_file_has_nothing_wrong(file: Path) -> None:
    for scale in ("smoke", "laptop", "paper"):
        found = gapctl("cluster", "lint", str(file), "--sweep", str(SWEEP), "--scale", scale)

        assert found == (0, f"{file}: nothing found\n", "")


SPOT = "      InstanceMarketOptions: {MarketType: spot}\n"
FALLBACK = "    priority: 0\n    resources: {CPU: 8, GPU: 1}\n    node_config:\n"
GROUP = "  security_group: {GroupName: gapctl} # EDIT\n"
RULES = "  security_group: {{GroupName: gapctl, IpPermissions: [{}]}}\n"
HEAD_PROFILE = "      IamInstanceProfile: {Name: gapctl-head}"
LIMITS = "              limits: {cpu: 6, memory: 24Gi}\n"
KEY = "AKIA" + "Q7EXAMPLE7EXAMPL"
SOMEBODY = "/" + "home/anna/venv/bin/pip"

MISTAKES = {
    "a misspelt key": Mistake(
        AWS, "idle_timeout_minutes: 5", "idle_timeout_minuts: 5", "error", "ray-schema", "# A Ray cluster"
    ),
    "half a GPU": Mistake(
        AWS, "resources: {CPU: 8, GPU: 1}", "resources: {CPU: 8, GPU: 0.5}", "error", "ray-schema", "GPU: 0.5"
    ),
    "another head": Mistake(
        AWS, "head_node_type: head", "head_node_type: boss", "error", "ray-schema", "# A Ray cluster"
    ),
    "no provider's type": Mistake(AWS, "  type: aws\n", "", "error", "ray-schema", "# A Ray cluster"),
    "a file that is not here": Mistake(
        AWS, "~/gapctl/sweeps: sweeps", "~/gapctl/sweeps: sweps", "error", "local-path", "~/gapctl/sweeps: sweps"
    ),
    "a file of this machine": Mistake(AWS, "~/gapctl/sweeps: sweeps", "~/x: ~/", "error", "local-path"),
    "a folder of one person": Mistake(
        AWS, "~/env/bin/pip install --quiet uv", f"{SOMEBODY} install --quiet uv", "error", "local-path", SOMEBODY
    ),
    "a key of one person": Mistake(
        AWS,
        "  ssh_user: ubuntu\n",
        "  ssh_user: ubuntu\n  ssh_private_key: ~/.ssh/mine\n",
        "warning",
        "local-path",
        "  ssh_private_key",
    ),
    "no idle timeout": Mistake(
        AWS, "idle_timeout_minutes: 5", "# minutes: 5", "warning", "no-idle-timeout", "# A Ray cluster"
    ),
    "a long idle timeout": Mistake(
        AWS, "idle_timeout_minutes: 5", "idle_timeout_minutes: 120", "warning", "long-idle-timeout"
    ),
    "workers that always run": Mistake(AWS, "min_workers: 0", "min_workers: 2", "warning", "idle-machines"),
    "stopped machines": Mistake(
        AWS, "cache_stopped_nodes: false", "cache_stopped_nodes: true", "warning", "stopped-machines", "provider:"
    ),
    "the world at every port": Mistake(
        AWS, GROUP, RULES.format('{IpProtocol: "-1", IpRanges: [{CidrIp: 0.0.0.0/0}]}'), "error", "open-port"
    ),
    "the world at the dashboard": Mistake(
        AWS,
        GROUP,
        RULES.format("{FromPort: 8265, ToPort: 8265, IpRanges: [{CidrIp: 0.0.0.0/0}]}"),
        "error",
        "open-port",
    ),
    "the world at SSH": Mistake(
        AWS, GROUP, RULES.format("{FromPort: 22, ToPort: 22, Ipv6Ranges: [{CidrIpv6: '::/0'}]}"), "warning", "open-ssh"
    ),
    "no group of one's own": Mistake(AWS, GROUP, "", "warning", "open-ssh", "provider:"),
    "a dashboard for everybody": Mistake(
        AWS, "--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "warning", "open-server"
    ),
    "no fallback": Mistake(
        AWS,
        "  on_demand_l4:\n    min_workers: 0\n    max_workers: 0\n    priority: 0\n    resources: {CPU: 8, GPU: 1}\n"
        "    node_config:\n",
        "  on_demand_l4:\n    min_workers: 0\n    max_workers: 0\n    priority: 0\n"
        f"    resources: {{CPU: 8, GPU: 1}}\n    node_config:\n{SPOT}",
        "warning",
        "no-fallback",
        "  spot_l4:",
    ),
    "a head on the spot market": Mistake(
        AWS,
        "      InstanceType: m6i.xlarge\n",
        f"      InstanceType: m6i.xlarge\n{SPOT}",
        "error",
        "head-on-spot",
        "    node_config:",
    ),
    "a head without its resource": Mistake(AWS, "{CPU: 0, head: 1}", "{CPU: 0}", "error", "head-resource", "  head:\n"),
    "a worker that plays the head": Mistake(
        AWS,
        "resources: {CPU: 8, GPU: 1}",
        "resources: {CPU: 8, GPU: 1, head: 1}",
        "error",
        "head-resource",
        "  spot_l4:",
    ),
    "no workers": Mistake(AWS, "max_workers: 8", "max_workers: 0", "error", "no-workers"),
    "no tags": Mistake(
        AWS,
        "{ResourceType: instance, Tags: [{Key: project, Value: gapctl}]}",
        "{ResourceType: instance, Tags: []}",
        "warning",
        "no-tags",
        "    node_config:",
    ),
    "nodes without the lock": Mistake(
        AWS, "-r requirements.lock -r requirements-cluster.lock", "-r other.txt", "error", "no-lock", "setup_commands:"
    ),
    "a package in any version": Mistake(
        AWS, "-r requirements-cluster.lock", "-r requirements-cluster.lock wandb", "warning", "unpinned"
    ),
    "a head without a right to the bucket": Mistake(
        AWS, HEAD_PROFILE, "      # none", "error", "store-access", "    node_config:"
    ),
    "an image with an old Python": Mistake(AWS, "ubuntu/server/24.04", "ubuntu/server/22.04", "error", "image-version"),
    "a container with another Ray": Mistake(
        AWS,
        "head_node_type: head\n",
        "head_node_type: head\ndocker: {image: rayproject/ray:2.9.0-py312, container_name: ray}\n",
        "error",
        "image-version",
        "docker:",
    ),
    "a script by http": Mistake(
        AWS,
        "setup_commands:\n",
        "setup_commands:\n  - curl -s http://get.example.org/x | sudo bash\n",
        "error",
        "remote-script",
        "  - curl",
    ),
    "a script by https": Mistake(
        AWS,
        "setup_commands:\n",
        "setup_commands:\n  - wget -qO- https://get.example.org/x | sh\n",
        "warning",
        "remote-script",
        "  - wget",
    ),
    "a key in plain text": Mistake(AWS, "cluster_name: gapctl", f"cluster_name: gapctl # {KEY}", "error", "secret"),
    "a password in an address": Mistake(
        AWS, "s3://BUCKET/mlflow", "postgresql://me:hunter2@db/mlflow", "error", "secret"
    ),
    "a password by its name": Mistake(
        AWS,
        "head_setup_commands:\n",
        "head_setup_commands:\n  - export DB_PASSWORD=hunter2\n",
        "error",
        "secret",
        "  - export DB_",
    ),
    "a Ray that is not stopped": Mistake(
        AWS,
        "head_start_ray_commands:\n  - ~/env/bin/ray stop\n",
        "head_start_ray_commands:\n",
        "error",
        "start-command",
    ),
    "a head without the autoscaler": Mistake(
        AWS,
        " --autoscaling-config=~/ray_bootstrap_config.yaml",
        "",
        "error",
        "start-command",
        "head_start_ray_commands",
    ),
    "workers at another port": Mistake(
        AWS,
        "--address=$RAY_HEAD_IP:6379",
        "--address=$RAY_HEAD_IP:6380",
        "error",
        "start-command",
        "worker_start_ray_commands",
    ),
    "unlike Pythons": Mistake(
        GCP, "family/ubuntu-2404-lts-amd64", "family/my-py311", "error", "image-version", "common-cu129"
    ),
    "a head on Google's spot market": Mistake(
        GCP,
        "      machineType: n2-standard-4\n",
        "      machineType: n2-standard-4\n      scheduling: [{preemptible: true}]\n",
        "error",
        "head-on-spot",
        "    node_config:",
    ),
    "no labels": Mistake(GCP, "      labels: {project: gapctl}\n", "", "warning", "no-tags", "    node_config:"),
    "a worker without an account": Mistake(
        GCP,
        "      serviceAccounts: # EDIT: storage.objectUser on the bucket, and nothing else\n        - {email: "
        "gapctl-worker@my-project.iam.gserviceaccount.com, scopes: [https://www.googleapis.com/auth/cloud-platform]}\n",
        "",
        "error",
        "store-access",
        "    node_config:\n      machineType: g2",
    ),
    "a pod without limits": Mistake(KUBERAY, LIMITS, "", "error", "no-limits", "            resources:"),
    "a pod without a limit of memory": Mistake(
        KUBERAY, LIMITS, "              limits: {cpu: 6}\n", "error", "no-limits"
    ),
    "a head that all the world sees": Mistake(
        KUBERAY, "serviceType: ClusterIP", "serviceType: LoadBalancer", "error", "open-port"
    ),
    "pods of another Ray": Mistake(
        KUBERAY, "ray2.60.0-py312-cu13 # EDIT", "ray2.9.0-py312-cu13", "error", "image-version"
    ),
    "no autoscaler": Mistake(
        KUBERAY, "enableInTreeAutoscaling: true", "enableInTreeAutoscaling: false", "error", "no-autoscaler", "spec:"
    ),
    "a pod without an account": Mistake(
        KUBERAY, "serviceAccountName: gapctl # EDIT: bound", "# bound", "error", "store-access", "      spec:"
    ),
    "a password in a manifest": Mistake(
        KUBERAY,
        "            image: REGISTRY",
        "            env: [{name: X, value: 'https://me:hunter2@h'}]\n            image: REGISTRY",
        "error",
        "secret",
        "            env:",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_a_planted_mistake_is_found_at_its_line(tmp_path: Path, mistake: Mistake) -> None:
    path, line = planted(tmp_path, mistake.file, mistake.old, mistake.new, mistake.at)
    code, out, err = gapctl("cluster", "lint", str(path), "--json")
    found = [(each["severity"], each["rule"]) for each in json.loads(out)["findings"]]
    where = [each["line"] for each in json.loads(out)["findings"] if each["rule"] == mistake.rule]

    assert err == ""
    assert (mistake.severity, mistake.rule) in found
    assert line in where
    assert code == (1 if any(severity == "error" for severity, _ in found) else 0)


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))
def test_a_finding_names_line_risk_and_fix_and_no_secret(tmp_path: Path, mistake: Mistake) -> None:
    path, _ = planted(tmp_path, mistake.file, mistake.old, mistake.new, mistake.at)
    *lines, _ = gapctl("cluster", "lint", str(path)).out.splitlines()

    assert lines
    for said in lines:
        place, severity, rest = said.split(": ", 2)
        assert place.startswith(f"{path}:")
        assert severity in ("error", "warning")
        assert "; " in rest
        assert "hunter2" not in said
        assert KEY not in said


def test_aws_without_tags_is_said_once_with_all_its_machines(tmp_path: Path) -> None:
    text = AWS.read_text(encoding="utf-8").replace("Key: project", "Key: Name")
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    (said,) = [line for line in gapctl("cluster", "lint", str(path)).out.splitlines() if "bill" in line]

    assert "head, spot_l4, spot_a10g, spot_4xa10g, on_demand_l4" in said


def test_a_lock_that_differs_from_what_is_installed_here_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("platform", "dashboards", "docs", "sweeps"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    for name in ("pyproject.toml", "requirements-cluster.lock", "README.md"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "requirements.lock").write_text("ray==2.1.0\ntorch==2.0.0\n")
    monkeypatch.chdir(tmp_path)
    code, out, _ = gapctl("cluster", "lint", str(AWS), "--json")
    drift = [each for each in json.loads(out)["findings"] if each["rule"] == "version-drift"]

    assert code == 0
    assert [each["risk"].split(" and ")[0] for each in drift] == ["nodes get ray 2.1.0", "nodes get torch 2.0.0"]


@pytest.mark.parametrize(
    ("file", "machine", "override", "rule", "severity"),
    [
        (AWS, "g6.2xlarge", "base.train.batch_size=40_000", "gpu-memory", "error"),
        (KUBERAY, "g2-standard-8", "base.train.batch_size=40_000", "gpu-memory", "error"),
        (AWS, "g6.2xlarge", "resources.cpus=16", "worker-too-small", "error"),
        (GCP, "g2-standard-8", "resources.gpus=2.0", "worker-too-small", "error"),
    ],
)
def test_machines_are_held_to_what_the_sweep_asks_for(
    file: Path, machine: str, override: str, rule: str, severity: str
) -> None:
    code, out, _ = gapctl("cluster", "lint", str(file), "--sweep", str(SWEEP), "--set", override, "--json")
    found = [each for each in json.loads(out)["findings"] if each["rule"] == rule]
    lines = file.read_text(encoding="utf-8").splitlines()

    assert code == 1
    assert {each["severity"] for each in found} == {severity}
    assert any(place in lines[each["line"] - 1] for each in found for place in (machine, "resources"))


def test_more_machines_that_always_run_than_the_sweep_fills(tmp_path: Path) -> None:
    path, line = planted(tmp_path, AWS, "min_workers: 0", "min_workers: 8")
    found = gapctl("cluster", "lint", str(path), "--sweep", str(SWEEP), "--scale", "smoke")

    assert f"{path}:{line}: warning: imbalance.yaml fills 2 machines of spot_l4, and 8 always run" in found.out


def test_data_in_a_bucket_need_a_right_to_it(tmp_path: Path) -> None:
    text = AWS.read_text(encoding="utf-8").replace("s3://", "disk:/").replace("IamInstanceProfile", "Other")
    text = text.replace("REGISTRY/", "mine/")
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    alone = gapctl("cluster", "lint", str(path))
    sweep = ("--sweep", str(SWEEP), "--set", "base.data.source=s3://b/mad")

    assert alone.exit_code == 0
    assert "warning: head has no right" in alone.out
    assert gapctl("cluster", "lint", str(path), *sweep).exit_code == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "found nothing; expected a cluster file"),
        ("a: [", "not YAML"),
        ("- 1\n", "expected a cluster file: a mapping with cluster_name"),
        ("name: imbalance\nquestion: Why?\n", "found no cluster, only name, question"),
        ("kind: Service\napiVersion: v1\n", "found no cluster"),
        ("provider: {type: aws}\na: *b\n", "write the value out"),
        ("provider: {type: aws}\nprovider: {type: gcp}\n", "given twice, first in line 1"),
    ],
)
def test_what_is_no_cluster_file_is_told_without_a_traceback(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    found = gapctl("cluster", "lint", str(path))

    assert found.exit_code == 2
    assert expected in found.err
    assert "sweep file" not in found.err


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = gapctl("cluster", "lint", str(tmp_path / "none.yaml"))

    assert found.exit_code == 2
    assert "none.yaml: no such file; expected a cluster file such as cluster.yaml" in found.err


def paths_in(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every path in a document, inner nodes included."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for step, inner in steps for found in paths_in(inner, (*path, step)))]


@pytest.mark.parametrize(("first", "wrong"), enumerate(["x", [], {}, None, -1, [{"a": 1}], {"b": [None]}], start=1))
@pytest.mark.parametrize("file", [AWS, GCP, KUBERAY], ids=["aws", "gcp", "kuberay"])
def test_whatever_a_file_holds_anywhere_it_is_answered(tmp_path: Path, file: Path, first: int, wrong: object) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8").split("\n---\n")[0])
    for path in paths_in(document)[first::19]:
        changed = copy.deepcopy(document)
        around = changed
        for step in path[:-1]:
            around = around[step]
        around[path[-1]] = wrong
        target = tmp_path / "cluster.yaml"
        target.write_text(yaml.safe_dump(changed))
        with contextlib.suppress(InputError):
            assert all(finding.line >= 1 for finding in lint_cluster_file(target))
