"""Mistakes that people report publicly of Ray's cluster files, planted in a shipped one, are found at their line."""

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from cluster.cluster_texts import AWS, GCP, KUBERAY, REPOSITORY, Mistake, planted
from command_line import gapctl
from gapctl.cluster.cluster_files import read_documents
from gapctl.cluster.lint import FINDERS, TEMPLATES, LintIssue, compute_digest, lint_cluster_file, load_rule_texts
from gapctl.cluster.lint_machines import MACHINE_FINDERS

SPOT_L4 = (
    "      InstanceType: g6.2xlarge\n      ImageId: resolve:ssm:/aws/service/deeplearning/ami/x86_64/"
    "base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id\n"
)
HEAD_IMAGE = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
WORKER_DISK = (
    "      BlockDeviceMappings:\n        - DeviceName: /dev/sda1\n"
    "          Ebs: {VolumeSize: 150, VolumeType: gp3, Encrypted: true}\n"
)
HEAD_START = "  - ulimit -n 65536; export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token RAY_METRICS"
WORKER_START = "  - ulimit -n 65536; export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token; ray start --address"
MARKET = "InstanceMarketOptions: {MarketType: spot}"
PROFILE = "  - grep -q 'env/bin' ~/.bashrc || echo 'export PATH=~/env/bin:$PATH' >> ~/.bashrc\n"
GPU_IMAGE = "common-cu129-ubuntu-2404-nvidia-580"
SPOT_SCHEDULING = "{provisioningModel: SPOT, instanceTerminationAction: DELETE, onHostMaintenance: TERMINATE}"
POD_GPU = (
    "              resources:\n                limits: {cpu: 7, memory: 26Gi, nvidia.com/gpu: 1}\n"
    "                requests: {cpu: 7, memory: 26Gi, nvidia.com/gpu: 1}\n"
)
SCOPES = "scopes: [https://www.googleapis.com/auth/cloud-platform]"
IMAGE = "REGISTRY/gapctl:0.1.0-ray2.60.0-py312-cu13"
UNPACK = f"  - bash ~/gapctl/docs/cluster/unpack-image.sh {IMAGE} || true # EDIT\n"
LOCKS = "-r requirements.lock -r requirements-cluster.lock"
DOCKER = "head_node_type: head\ndocker: {image: REGISTRY/gapctl:1-ray2.60.0-py312, container_name: ray}\n"

REPORTED = {
    "no block device mapping": Mistake(
        AWS,
        SPOT_L4 + f"      {MARKET}\n" + WORKER_DISK,
        SPOT_L4,
        "error",
        "no-disk",
        "    node_config:\n      InstanceType: g6.2xlarge",
    ),
    "no size of Google's disk": Mistake(
        GCP,
        "{diskSizeGb: 150, sourceImage",
        "{sourceImage",
        "error",
        "no-disk",
        "          initializeParams: {sourceImage",
    ),
    "a small disk": Mistake(AWS, "VolumeSize: 150", "VolumeSize: 30", "warning", "small-disk"),
    "a small disk at Google": Mistake(GCP, "diskSizeGb: 150", "diskSizeGb: 20", "warning", "small-disk"),
    "a disk that is not the root": Mistake(
        AWS, "DeviceName: /dev/sda1", "DeviceName: /dev/xvda", "error", "other-device"
    ),
    "a disk that stays": Mistake(
        AWS, "VolumeSize: 150,", "VolumeSize: 150, DeleteOnTermination: false,", "warning", "surviving-disk"
    ),
    "Google's disk that stays": Mistake(
        GCP, "          autoDelete: true\n", "", "warning", "surviving-disk", "        - boot"
    ),
    "GPUs that the machine does not have": Mistake(
        AWS, "{CPU: 8, GPU: 1}", "{CPU: 8, GPU: 4}", "error", "machine-resources"
    ),
    "GPUs on a machine without any": Mistake(
        AWS, "InstanceType: g6.2xlarge", "InstanceType: m7i.8xlarge", "error", "machine-resources", "{CPU: 8, GPU: 1}"
    ),
    "CPUs that the machine does not have": Mistake(
        GCP, "{CPU: 8, GPU: 1}", "{CPU: 16, GPU: 1}", "error", "machine-resources"
    ),
    "GPUs that Ray is not told of": Mistake(
        AWS, "{CPU: 48, GPU: 4}", "{CPU: 48, GPU: 1}", "warning", "machine-resources"
    ),
    "no GPU in Google's resources": Mistake(GCP, "{CPU: 8, GPU: 1}", "{CPU: 8}", "warning", "machine-resources"),
    "a head that works": Mistake(AWS, "{CPU: 0, head: 1}", "{CPU: 4, head: 1}", "warning", "head-cpus"),
    "a head's pod that works": Mistake(KUBERAY, 'num-cpus: "0", ', "", "warning", "head-cpus", "rayStartParams"),
    "no most of all workers": Mistake(
        AWS, "max_workers: 8 # EDIT: the most", "# the most", "warning", "no-max-workers", "# A Ray cluster"
    ),
    "a user that the image does not have": Mistake(AWS, "ssh_user: ubuntu", "ssh_user: ec2-user", "error", "ssh-user"),
    "Amazon's image for Ubuntu's user": Mistake(
        AWS,
        "base-oss-nvidia-driver-gpu-ubuntu-24.04",
        "base-oss-nvidia-driver-gpu-amazon-linux-2023",
        "error",
        "ssh-user",
        "  ssh_user",
    ),
    "a zone of another region": Mistake(
        AWS,
        "region: us-east-1 # EDIT\n",
        "region: us-east-1\n  availability_zone: us-west-2a\n",
        "error",
        "zone",
        "  availability_zone",
    ),
    "one of two zones elsewhere": Mistake(
        AWS,
        "region: us-east-1 # EDIT\n",
        "region: us-east-1\n  availability_zone: us-east-1a,us-east-2b\n",
        "error",
        "zone",
        "  availability_zone",
    ),
    "Google's zone of another region": Mistake(
        GCP, "availability_zone: us-central1-a", "availability_zone: europe-west4-a", "error", "zone"
    ),
    "no zone at Google": Mistake(GCP, "  availability_zone: us-central1-a # EDIT\n", "", "error", "zone", "provider:"),
    "a zone in the place of a region": Mistake(AWS, "region: us-east-1", "region: us-east-1a", "error", "zone"),
    "an accelerator of another zone": Mistake(
        GCP,
        "      machineType: g2-standard-8 # has its L4 built in\n",
        "      machineType: n1-standard-8\n      guestAccelerators: [{acceleratorCount: 1, acceleratorType: "
        "projects/p/zones/europe-west4-a/acceleratorTypes/nvidia-tesla-t4}]\n",
        "error",
        "zone",
        "      guestAccelerators",
    ),
    "a GPU without a driver": Mistake(
        AWS,
        SPOT_L4,
        f"      InstanceType: g6.2xlarge\n      ImageId: {HEAD_IMAGE}\n",
        "error",
        "no-driver",
        f"      ImageId: {HEAD_IMAGE}\n      {MARKET}",
    ),
    "Google's GPU without a driver": Mistake(GCP, GPU_IMAGE, "common-cu129-ubuntu-2404", "error", "no-driver"),
    "a driver older than torch's CUDA": Mistake(
        GCP, GPU_IMAGE, "common-cu128-ubuntu-2404-nvidia-570", "error", "old-driver"
    ),
    "a GPU older than torch's CUDA": Mistake(
        AWS, "InstanceType: g6.2xlarge", "InstanceType: p3.2xlarge", "error", "old-gpu"
    ),
    "torch without CUDA": Mistake(
        AWS, LOCKS, f"{LOCKS} --extra-index-url https://download.pytorch.org/whl/cpu", "error", "torch-without-gpu"
    ),
    "a machine of another processor": Mistake(
        AWS,
        "InstanceType: m6i.xlarge",
        "InstanceType: m7g.xlarge",
        "error",
        "processor",
        f"      ImageId: {HEAD_IMAGE}",
    ),
    "no image": Mistake(AWS, f"      ImageId: {HEAD_IMAGE}\n", "", "error", "no-image", "    node_config:"),
    "the whole checkout": Mistake(AWS, "  ~/gapctl/sweeps: sweeps", "  ~/gapctl: .", "warning", "whole-checkout"),
    "a target that only root may write": Mistake(
        AWS, "  ~/gapctl/sweeps: sweeps", "  /opt/gapctl/sweeps: sweeps", "error", "local-path"
    ),
    "a token that is not synced": Mistake(
        AWS, "cluster_synced_files: [~/.ray/auth_token]", "cluster_synced_files: []", "error", "token"
    ),
    "the token asked for by the head alone": Mistake(
        AWS,
        WORKER_START,
        WORKER_START.replace(" RAY_AUTH_MODE=token", ""),
        "error",
        "token",
    ),
    "the token asked for by workers alone": Mistake(
        AWS, HEAD_START, "  - ulimit -n 65536; export PATH=~/env/bin:$PATH RAY_METRICS", "error", "token"
    ),
    "a token that nobody makes": Mistake(
        AWS,
        "  - test -s ~/.ray/auth_token || ~/env/bin/ray get-auth-token --generate > /dev/null\n",
        "  - hostname\n",
        "error",
        "token",
        HEAD_START,
    ),
    "no token among pods": Mistake(
        KUBERAY, "  authOptions: {mode: token} # KubeRay", "  # KubeRay", "warning", "token", "spec:"
    ),
    "a start that knows Ray from a profile alone": Mistake(
        AWS, "export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token;", "export RAY_AUTH_MODE=token;", "warning", "ray-path"
    ),
    "a start that blocks": Mistake(
        AWS, "ray start --head --port", "ray start --head --block --port", "error", "start-command"
    ),
    "a worker that starts a cluster of its own": Mistake(
        AWS,
        "ray start --address=$RAY_HEAD_IP:6379",
        "ray start --head",
        "error",
        "start-command",
        "; ray start --head --object",
    ),
    "a worker of a fixed head": Mistake(
        AWS, "--address=$RAY_HEAD_IP:6379", "--address=10.0.0.7:6379", "error", "start-command"
    ),
    "few open files": Mistake(
        AWS,
        "  - ulimit -n 65536; export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token;",
        "  - export PATH=~/env/bin:$PATH RAY_AUTH_MODE=token;",
        "warning",
        "start-command",
    ),
    "an environment activated in a shell of its own": Mistake(
        AWS,
        "setup_commands:\n",
        "setup_commands:\n  - cd ~/gapctl && source ~/env/bin/activate\n",
        "error",
        "lost-setting",
        "  - cd ~/gapctl && source",
    ),
    "an installation that asks": Mistake(
        AWS,
        "setup_commands:\n",
        "setup_commands:\n  - sudo apt-get install git-lfs\n",
        "error",
        "question",
        "  - sudo apt",
    ),
    "a bid below the price": Mistake(
        AWS, MARKET, "InstanceMarketOptions: {MarketType: spot, SpotOptions: {MaxPrice: '0.10'}}", "warning", "low-bid"
    ),
    "a request that outlives the cluster": Mistake(
        AWS,
        MARKET,
        "InstanceMarketOptions: {MarketType: spot, SpotOptions: {SpotInstanceType: persistent}}",
        "error",
        "persistent-request",
    ),
    "a GPU that Google would move alive": Mistake(
        GCP,
        "      scheduling: {onHostMaintenance: TERMINATE}\n",
        "",
        "error",
        "live-migration",
        "    node_config:\n      machineType: g2-standard-8\n",
    ),
    "spot machines that are stopped": Mistake(
        GCP, SPOT_SCHEDULING, "{provisioningModel: SPOT, onHostMaintenance: TERMINATE}", "warning", "stopped-machines"
    ),
    "a scope that reads alone": Mistake(
        GCP, SCOPES, "scopes: [https://www.googleapis.com/auth/devstorage.read_only]", "error", "store-access"
    ),
    "credentials for any request": Mistake(
        AWS,
        "      MetadataOptions: {HttpTokens: required} # a request",
        "      # a request",
        "warning",
        "open-metadata",
        "    node_config:",
    ),
    "a container that credentials do not reach": Mistake(
        AWS,
        "head_node_type: head\n",
        DOCKER,
        "error",
        "short-hops",
        "      MetadataOptions: {HttpTokens: required} # a",
    ),
    "a key without its name": Mistake(
        AWS,
        "  ssh_user: ubuntu\n",
        "  ssh_user: ubuntu\n  ssh_private_key: ~/.ssh/mine\n",
        "error",
        "key-name",
        "    node_config:",
    ),
    "a name that Google refuses": Mistake(GCP, "  spot_l4:", "  spot.l4:", "error", "cluster-name"),
    "a container that moves on": Mistake(
        AWS,
        "head_node_type: head\n",
        DOCKER.replace("1-ray2.60.0-py312", "latest"),
        "warning",
        "image-version",
        "docker:",
    ),
    "pods of Ray alone": Mistake(
        KUBERAY,
        f"{IMAGE} # EDIT",
        "rayproject/ray:2.60.0-py312-gpu",
        "error",
        "image-version",
    ),
    "pods without a GPU": Mistake(
        KUBERAY,
        POD_GPU,
        POD_GPU.replace(", nvidia.com/gpu: 1", ""),
        "error",
        "no-gpu-limit",
        "                limits: {cpu: 7, memory: 26Gi}",
    ),
    "pods with fewer GPUs than Ray is told": Mistake(
        KUBERAY,
        "      rayStartParams: {}\n",
        '      rayStartParams: {num-gpus: "4"}\n',
        "error",
        "no-gpu-limit",
        "                limits: {cpu: 7, memory: 26Gi, nvidia.com/gpu: 1}",
    ),
    "pods that tolerate no GPU": Mistake(
        KUBERAY,
        "            - {key: nvidia.com/gpu, operator: Exists}\n",
        "",
        "warning",
        "no-toleration",
        "          tolerations:",
    ),
    "pods that request less than their limits": Mistake(
        KUBERAY,
        "              requests: {cpu: 6, memory: 24Gi}",
        "              requests: {cpu: 6, memory: 8Gi}",
        "warning",
        "low-request",
    ),
    "pods that restart": Mistake(
        KUBERAY,
        "restartPolicy: Never\n          nodeSelector:\n",
        "restartPolicy: Always\n          nodeSelector:\n",
        "error",
        "restarting-pod",
    ),
    "more replicas than allowed": Mistake(KUBERAY, "      replicas: 0", "      replicas: 9", "error", "replica-range"),
    "a number where Kubernetes takes a text": Mistake(KUBERAY, 'num-cpus: "0"', "num-cpus: 0", "error", "start-param"),
    "resources that lose their quotes": Mistake(
        KUBERAY, """'"{\\"head\\": 1}"'""", """'{"head": 1}'""", "error", "start-param"
    ),
    "an API that is going": Mistake(KUBERAY, "ray.io/v1\n", "ray.io/v1alpha1\n", "error", "old-api"),
    "a bucket left as it was": Mistake(
        AWS,
        "region: us-east-1",
        "region: us-west-2",
        "error",
        "placeholder",
        "  - bash ~/gapctl/docs/cluster/head-services",
    ),
    "a project left as it was": Mistake(
        GCP,
        "machineType: n2-standard-4",
        "machineType: n2-standard-8",
        "error",
        "placeholder",
        "  project_id: my-project",
    ),
    "a registry left as it was": Mistake(
        KUBERAY, "maxReplicas: 8", "maxReplicas: 4", "error", "placeholder", "            image: REGISTRY"
    ),
    "an image left as it was": Mistake(AWS, "region: us-east-1", "region: us-west-2", "error", "placeholder", UNPACK),
    "Google's image left as it was": Mistake(
        GCP, "machineType: n2-standard-4", "machineType: n2-standard-8", "error", "placeholder", UNPACK
    ),
    "an image of another Ray": Mistake(
        AWS, "gapctl:0.1.0-ray2.60.0", "gapctl:0.1.0-ray2.9.0", "error", "image-version", "  - bash ~/gapctl"
    ),
    "an image of another Python": Mistake(GCP, "py312-cu13", "py313-cu13", "error", "image-version"),
    "an image of another CUDA": Mistake(AWS, "py312-cu13", "py312-cu128", "warning", "image-version"),
    "an image that moves on": Mistake(AWS, IMAGE, "mine/gapctl", "warning", "image-version", "  - bash ~/gapctl"),
    "an image for another user": Mistake(
        AWS, "ssh_user: ubuntu", "ssh_user: admin", "warning", "image-user", "  - bash ~/gapctl"
    ),
    "an image that comes too late": Mistake(
        AWS, UNPACK, f"  - python3 -m venv ~/env\n{UNPACK}", "warning", "late-image", UNPACK
    ),
    "pods on a GPU older than their CUDA": Mistake(
        KUBERAY,
        "            node.kubernetes.io/instance-type: g2-standard-8 # EDIT\n",
        "            node.kubernetes.io/instance-type: p3.2xlarge\n",
        "error",
        "old-gpu",
    ),
    "pods with GPUs and an image without CUDA": Mistake(
        KUBERAY,
        f"            - name: ray-worker\n              image: {IMAGE} # EDIT\n",
        "            - name: ray-worker\n              image: mine/gapctl:1-ray2.60.0-py312-cpu\n",
        "error",
        "torch-without-gpu",
        "              image: mine",
    ),
    "a job's bucket left as it was": Mistake(
        KUBERAY, "maxReplicas: 8", "maxReplicas: 4", "error", "placeholder", "  entrypoint: >-"
    ),
}


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


class Linted(NamedTuple):
    """A file with a mistake, the line of that, and what is found."""

    path: Path
    line: int
    issues: Sequence[LintIssue]


@pytest.fixture(scope="module")
def linted(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Linted]:
    """Each mistake's file, which takes long to read."""
    found = {}
    with contextlib.chdir(REPOSITORY):
        for name, mistake in REPORTED.items():
            path, line = planted(tmp_path_factory.mktemp("planted"), mistake.file, mistake.old, mistake.new, mistake.at)
            found[name] = Linted(path, line, lint_cluster_file(path))
    return found


@pytest.mark.parametrize("name", REPORTED)
def test_a_reported_mistake_is_found_at_its_line(linted: Mapping[str, Linted], name: str) -> None:
    mistake = REPORTED[name]
    found = [(each.line, each.severity) for each in linted[name].issues if each.rule == mistake.rule]

    assert (linted[name].line, mistake.severity) in found


@pytest.mark.parametrize("name", REPORTED)
def test_a_finding_says_what_is_wrong_and_what_to_do(linted: Mapping[str, Linted], name: str) -> None:
    for issue in linted[name].issues:
        place = re.escape(str(linted[name].path))
        assert re.fullmatch(rf"{place}:\d+: (error|warning): .+; .+", str(issue), re.DOTALL)
        assert not re.search(r"\{\w+\}", re.sub(r"-C|\$\{", "", issue.risk + issue.fix))


def test_every_rule_has_texts_and_every_text_a_rule() -> None:
    of_sweeps = {"worker-too-small", "surplus-machines", "gpu-memory", "zones-apart"}
    of_lines = {"secret", "placeholder", "store-access", "store-access-unnamed"}

    assert set(load_rule_texts()) == {*FINDERS, *MACHINE_FINDERS} | of_sweeps | of_lines


def test_the_shipped_files_are_known_so_that_their_placeholders_may_stand() -> None:
    now = {name: compute_digest(read_documents(REPOSITORY / name)) for name in TEMPLATES}

    assert now == TEMPLATES, "write these digests into TEMPLATES of gapctl/cluster/lint.py"


def test_comments_of_a_shipped_file_may_change(tmp_path: Path) -> None:
    path, _ = planted(tmp_path, AWS, "# A Ray cluster", "# Our Ray cluster")

    assert lint_cluster_file(path) == []


def test_ray_that_no_profile_and_no_path_finds_is_an_error(tmp_path: Path) -> None:
    text = AWS.read_text(encoding="utf-8").replace(PROFILE, "")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace("  - ~/env/bin/ray stop", "  - ray stop"), encoding="utf-8")
    found = [each for each in lint_cluster_file(path) if each.rule == "ray-path"]

    assert [each.severity for each in found] == ["error", "error"]
    assert all("ray stop" in path.read_text(encoding="utf-8").splitlines()[each.line - 1] for each in found)


def test_no_token_on_either_side_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(AWS.read_text(encoding="utf-8").replace(" RAY_AUTH_MODE=token", ""), encoding="utf-8")
    (found,) = [each for each in lint_cluster_file(path) if each.rule == "token"]

    assert found.severity == "warning"
    assert "ray start --head" in path.read_text(encoding="utf-8").splitlines()[found.line - 1]


def test_driver_torch_and_cuda_are_named_together(tmp_path: Path) -> None:
    path, _ = planted(tmp_path, GCP, GPU_IMAGE, "common-cu128-ubuntu-2404-nvidia-570")
    (found,) = [each for each in lint_cluster_file(path) if each.rule == "old-driver"]

    assert re.search(r"driver is 570, and nodes install torch 2\.\d+\.\d+ for CUDA 13, which needs 580", found.risk)


def test_a_driver_that_suits_the_installed_cuda_is_fine(tmp_path: Path) -> None:
    text = GCP.read_text(encoding="utf-8").replace(GPU_IMAGE, "common-cu128-ubuntu-2404-nvidia-570")
    path = tmp_path / "cluster.yaml"
    path.write_text(text.replace(LOCKS, f"{LOCKS} --index-url https://download.pytorch.org/whl/cu128"))

    assert not [each for each in lint_cluster_file(path) if each.rule in ("old-driver", "old-gpu")]


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("setup_commands:\n", "setup_commands:\n  - sudo apt-get install -y nvidia-driver-580\n", "no-driver"),
        (SPOT_L4, "      InstanceType: g6.2xlarge\n      LaunchTemplate: {LaunchTemplateName: mine}\n", "no-image"),
        ("--address=$RAY_HEAD_IP:6379", "--address=${RAY_HEAD_IP}:6379", "start-command"),
        ("region: us-east-1 # EDIT\n", "region: us-east-1\n  availability_zone: us-east-1-bos-1a\n", "zone"),
        ("head_node_type: head\n", "head_node_type: head\ndocker: {image: ''}\n", "short-hops"),
    ],
)
def test_what_is_right_in_another_way_is_not_found(tmp_path: Path, old: str, new: str, rule: str) -> None:
    path, _ = planted(tmp_path, AWS, old, new)
    if rule == "no-driver":
        path, _ = planted(tmp_path, path, SPOT_L4, f"      InstanceType: g6.2xlarge\n      ImageId: {HEAD_IMAGE}\n")

    assert not [each for each in lint_cluster_file(path) if each.rule == rule]


@pytest.mark.parametrize("scheduling", ["[{onHostMaintenance: TERMINATE}]", "[{preemptible: true}]"])
def test_google_s_scheduling_may_be_a_list(tmp_path: Path, scheduling: str) -> None:
    path, _ = planted(tmp_path, GCP, "scheduling: {onHostMaintenance: TERMINATE}", f"scheduling: {scheduling}")

    assert not [each for each in lint_cluster_file(path) if each.rule == "live-migration"]


def test_nodes_of_another_store_than_the_cloud_s_need_no_role(tmp_path: Path) -> None:
    text = GCP.read_text(encoding="utf-8").replace("serviceAccounts", "others")
    path = tmp_path / "cluster.yaml"

    path.write_text(text, encoding="utf-8")
    assert len([each for each in lint_cluster_file(path) if each.rule == "store-access"]) == 5

    export = "export AWS_ENDPOINT_URL=https://s3.example.org "
    path.write_text(text.replace("export PATH=~/env/bin:$PATH RAY", f"{export}PATH=~/env/bin:$PATH RAY"))
    assert [each for each in lint_cluster_file(path) if each.rule in ("store-access", "ray-path", "token")] == []


def test_a_trial_over_several_machines_wants_them_in_one_zone(tmp_path: Path) -> None:
    wide = ("--sweep", "cc12m_captions", "--set", "resources.workers=8", "--json")
    pinned, _ = planted(
        tmp_path, AWS, "region: us-east-1 # EDIT\n", "region: us-east-1\n  availability_zone: us-east-1a\n"
    )

    assert '"zones-apart"' in gapctl("cluster", "lint", str(AWS), *wide).out
    assert '"zones-apart"' not in gapctl("cluster", "lint", str(pinned), *wide).out
    assert '"zones-apart"' not in gapctl("cluster", "lint", str(AWS), *wide[:-2], "resources.workers=1", "--json").out
