"""Check a cluster file for errors and risks.

`lint_cluster_file`, at the end, runs all `RULES` and the checks that need a sweep, and returns the issues in the order
of their lines. Each check is a generator of `LintIssue`s from a `ClusterFile`.
"""

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from gapctl.cluster.cost import (
    GIB,
    PriceTable,
    count_gpus_per_worker,
    count_trials_at_once,
    estimate_trial_memory,
    find_gpu_memory,
    load_shipped_prices,
)
from gapctl.cluster.files import (
    ClusterFile,
    LintIssue,
    NodeType,
    find_clusters,
    get_value,
    iterate_strings,
    locate_container,
    parse_python_version,
    parse_ray_version,
    read_documents,
    read_list,
    read_mapping,
    read_number,
    read_string,
)
from gapctl.config.base import KeyPath, cut_text
from gapctl.config.yaml_file import YamlSource, read_text_file
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.io.passwords import hide_passwords
from gapctl.plan.plan import Plan, pack_trials


def check_ray_schema(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report what Ray's own validation refuses, as `ray up` runs it before it asks a cloud.

    KubeRay's manifests are validated by its operator alone, so nothing is reported for them.
    """
    if cluster.cloud != "kuberay":
        refusal = _find_ray_error(yaml.safe_load(cluster.source.text))
        if refusal is not None:
            where, message = refusal
            yield cluster.report_error("ray-schema", where, f"`ray up` refuses the file: {message}", "correct it")


def _find_ray_error(config: Any) -> tuple[KeyPath, str] | None:
    """Return path and text of Ray's error, or None. Ray's code raises any error for files that it did not expect."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with _silence_ray():
        try:
            validate_config(prepare_config(config))
        except KeyError as error:
            return (), f"{error} is missing"
        except Exception as error:
            where = tuple(getattr(error, "absolute_path", ()))  # of jsonschema's errors
            return where, _cut_message(str(getattr(error, "message", error)) or type(error).__name__)
    return None


def _cut_message(message: str) -> str:
    """Return the first line of a message, shortened: jsonschema repeats the whole value."""
    first, *_ = message.strip().splitlines() or [""]
    return first if len(first) <= 160 else f"{cut_text(first)} {first[-60:]}"


@contextlib.contextmanager
def _silence_ray() -> Iterator[None]:
    """Suppress what Ray logs and prints while it corrects a file."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


STORE_ADDRESS: Final = re.compile(r"\b(?:s3|gs)://")
STORE_FIXES: Final = {
    "aws": "give it an IamInstanceProfile that may get, put, list and delete in the bucket",
    "gcp": "give it a service account with storage.objectUser on the bucket, and the scope cloud-platform",
    "kuberay": "give the pod a serviceAccountName that is bound to such a role",
}


def is_store_used(sources: Sequence[YamlSource], plan: Plan | None) -> bool:
    """Return whether a bucket is named anywhere in a file or as data of the sweep."""
    data = [trial.config.data.address for trial in plan.trainings] if plan else []
    return any(STORE_ADDRESS.search(text) for text in [*(source.text for source in sources), *data])


def check_store_access(cluster: ClusterFile, named: bool) -> Iterator[LintIssue]:
    """Report nodes without a right to an object store: errors if a bucket is named, otherwise warnings."""
    for node in cluster.nodes if cluster.cloud in STORE_FIXES else ():
        if not node.access:
            report = cluster.report_error if named else cluster.report_warning
            yield report(
                "store-access",
                node.machine,
                f"{node.name} has no right to an object store: it can neither read shards nor write the ledger there",
                STORE_FIXES[cluster.cloud],
            )


PIPED_SCRIPT: Final = re.compile(r"\b(?:curl|wget)\b[^|;&]*?(?P<scheme>https?)://[^|]*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b")
PORT_OPTION: Final = re.compile(r"--port[= ](\d+)")
ADDRESS_OPTION: Final = re.compile(r"--address[= ]\S*?:(\d+)")
START_KEYS: Final = ("head_start_ray_commands", "worker_start_ray_commands")
DEFAULT_PORT: Final = "6379"


def check_node_commands(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report scripts from the net that run unread, and start commands that cannot work."""
    for path, command in cluster.list_commands():
        piped = PIPED_SCRIPT.search(command)
        if piped and piped["scheme"] == "http":
            yield cluster.report_error(
                "remote-script",
                path,
                "a script is fetched without encryption and run: whoever is on the way runs code on every node",
                "fetch it by https, compare its checksum, then run it; or install a package",
            )
        elif piped:
            yield cluster.report_warning(
                "remote-script",
                path,
                "a script from the net is run unread, and may be another one tomorrow",
                "fetch it, compare its checksum, then run it; or install a package",
            )
    if cluster.cloud != "kuberay":
        yield from _check_start_commands(cluster)


def _check_start_commands(cluster: ClusterFile) -> Iterator[LintIssue]:
    head, worker = (_join_commands(cluster, key) for key in START_KEYS)
    for key, commands in zip(START_KEYS, (head, worker), strict=True):
        if commands and "ray stop" not in commands:
            yield cluster.report_error(
                "start-command",
                (key,),
                "a Ray that still runs is not stopped, so that a second `ray up` leaves the old one in place",
                "put `ray stop` before `ray start`",
            )
    if head and "--autoscaling-config" not in head:
        yield cluster.report_error(
            "start-command",
            (START_KEYS[0],),
            "the head starts without the autoscaler, so that no worker ever comes",
            "add --autoscaling-config=~/ray_bootstrap_config.yaml to its `ray start`",
        )
    port, joined = PORT_OPTION.search(head), ADDRESS_OPTION.search(worker)
    here, there = port[1] if port else DEFAULT_PORT, joined[1] if joined else None
    if head and there is not None and here != there:
        yield cluster.report_error(
            "start-command",
            (START_KEYS[1],),
            f"workers look for the head at port {there}, and it listens at {here}",
            f"write --address=$RAY_HEAD_IP:{here}",
        )


def _join_commands(cluster: ClusterFile, key: str) -> str:
    return "\n".join(command for path, command in cluster.list_commands() if path[0] == key)


MEMORY_FIXES: Final = "a smaller train.batch_size or resources.pack, or more train.micro_batches"


def check_plan_fits(cluster: ClusterFile, plan: Plan, prices: PriceTable) -> Iterator[LintIssue]:
    """Report workers that no trial fits on, GPUs that are too small, and idle machines beyond the sweep's work."""
    usable = [node for node in cluster.workers if cluster.count_max_machines(node) > 0]
    resources = plan.sweep.spec.resources
    roomy = [
        node
        for node in usable
        if (slots := count_trials_at_once(node, resources)) is not None
        and slots.machines <= cluster.count_max_machines(node)
    ]
    for node in usable:
        yield from _check_gpu_memory(cluster, node, plan, prices)
    if usable and not roomy:
        each = f"{resources.cpus + resources.readers} CPUs and {count_gpus_per_worker(usable[0], resources):g} GPUs"
        asked = each if resources.workers == 1 else f"{resources.workers} times {each}"
        yield cluster.report_error(
            "worker-too-small",
            (*usable[0].path, "resources"),
            f"a trial asks for {asked}, which no kind of worker has: the sweep waits for ever",
            "choose larger machines, or lower resources of the sweep",
        )
    elif usable:
        yield from _check_surplus_machines(cluster, roomy, len(pack_trials(plan.trainings, resources.pack)), plan)


def _check_gpu_memory(cluster: ClusterFile, node: NodeType, plan: Plan, prices: PriceTable) -> Iterator[LintIssue]:
    has, share = find_gpu_memory(prices, node.instance), count_gpus_per_worker(node, plan.sweep.spec.resources)
    if has is None or share == 0:
        return
    beside = max(1, int(1 / share)) if share < 1 else 1
    needs, resources = 0.0, plan.sweep.spec.resources
    for group in pack_trials(plan.trainings, resources.pack):
        needs = max(needs, beside * estimate_trial_memory(group[0].config, len(group), resources.workers) / GIB)
    if needs > has:
        yield cluster.report_error(
            "gpu-memory",
            node.instance_at,
            f"a trial needs about {needs:.0f} GiB of GPU memory, and {node.instance} has {has:.0f}",
            f"choose a larger GPU, or {MEMORY_FIXES}",
        )


def _check_surplus_machines(cluster: ClusterFile, roomy: list[NodeType], work: int, plan: Plan) -> Iterator[LintIssue]:
    """Report machines that always run beyond those that the sweep fills."""
    for node in roomy:
        slots = count_trials_at_once(node, plan.sweep.spec.resources)
        wanted = slots.machines * -(-work // slots.trials) if slots else 0
        if node.min_workers > wanted:
            yield cluster.report_warning(
                "idle-machines",
                (*node.path, "min_workers"),
                f"{plan.sweep.path.name} fills {wanted} machines of {node.name}, and {node.min_workers} always run",
                "begin from 0: the autoscaler starts them when a trial waits",
            )


def check_pods(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report containers without limits, and a missing autoscaler."""
    if cluster.cloud != "kuberay":
        return
    document = cluster.source.document
    for node in cluster.nodes:
        limits = (*locate_container(node), "resources", "limits")
        missing = [kind for kind in ("cpu", "memory") if read_number(get_value(document, *limits, kind)) is None]
        if missing:
            yield cluster.report_error(
                "no-limits",
                limits,
                f"{node.name} has no limit of {' and '.join(missing)}: Ray takes the whole machine for its own, "
                "and the pod is killed when memory runs out",
                f"set resources.limits.{missing[0]} of its first container",
            )
    if get_value(document, *cluster.root, "enableInTreeAutoscaling") is not True:
        yield cluster.report_error(
            "no-autoscaler",
            cluster.root,
            "the autoscaler is off: workers neither come for waiting trials nor go when they idle",
            "set enableInTreeAutoscaling: true",
        )


LONGEST_IDLE_MINUTES: Final = 15.0
"""A trial's process is reused within seconds, so a machine idle for so many minutes has nothing to expect."""


def check_idle_cost(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report idle or stopped machines that are paid for, and machines that cannot be told apart on the bill."""
    yield from _check_idle_timeout(cluster)
    for node in cluster.workers:
        if node.min_workers > 0:
            yield cluster.report_warning(
                "idle-machines",
                (*node.path, "minReplicas" if cluster.cloud == "kuberay" else "min_workers"),
                f"{node.min_workers} machines of {node.name} are paid for also when there is no work",
                "begin from 0: the autoscaler starts them when a trial waits",
            )
    if cluster.cloud == "aws" and get_value(cluster.source.document, "provider", "cache_stopped_nodes") is not False:
        yield cluster.report_warning(
            "stopped-machines",
            ("provider",),
            "idle workers are stopped, not terminated, and go on paying for their disks",
            "set provider.cache_stopped_nodes: false",
        )
    untagged = [] if cluster.cloud == "other" else [node for node in cluster.nodes if not node.tagged]
    if untagged:
        names = ", ".join(node.name for node in untagged)
        yield cluster.report_warning(
            "no-tags",
            ("metadata",) if cluster.cloud == "kuberay" else untagged[0].machine,
            f"nothing tells the machines of {names} apart on the bill, so that no budget can watch them",
            {
                "aws": "add TagSpecifications with a tag such as project: gapctl",
                "gcp": "add labels: {project: gapctl}",
            }.get(cluster.cloud, "add metadata.labels with project: gapctl"),
        )


def _check_idle_timeout(cluster: ClusterFile) -> Iterator[LintIssue]:
    if cluster.idle_minutes is None:
        yield cluster.report_warning(
            "no-idle-timeout",
            cluster.idle_at,
            "nothing here says when idle workers are released, and GPUs wait at full price",
            f"set {cluster.idle_at[-1]} to five minutes",
        )
    elif cluster.idle_minutes > LONGEST_IDLE_MINUTES:
        yield cluster.report_warning(
            "long-idle-timeout",
            cluster.idle_at,
            f"a GPU is paid for {cluster.idle_minutes:g} minutes after its last trial",
            f"set {cluster.idle_at[-1]} to five minutes; trials that follow one another take seconds",
        )


ALL_ADDRESSES: Final = ("0.0.0.0/0", "::/0")
SSH_PORT: Final = 22
OPEN_SERVER: Final = re.compile(r"--(?:dashboard-)?host[= ](?:0\.0\.0\.0|::)(?!\S)")
PUBLIC_SERVICES: Final = ("LoadBalancer", "NodePort")


def check_open_ports(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report ports open to the whole internet, and servers that answer anyone."""
    if cluster.cloud == "aws":
        yield from _check_security_group(cluster)
    yield from _check_servers(cluster)
    if cluster.cloud == "kuberay":
        yield from _check_services(cluster)


def _check_security_group(cluster: ClusterFile) -> Iterator[LintIssue]:
    group: KeyPath = ("provider", "security_group")
    rules: KeyPath = (*group, "IpPermissions")
    for index, rule in enumerate(read_list(get_value(cluster.source.document, *rules))):
        if _is_open_to_all(read_mapping(rule)):
            yield _report_open_port(cluster, (*rules, index), read_mapping(rule))
    own = read_string(get_value(cluster.source.document, *group, "GroupName"))
    named = [bool(get_value(cluster.source.document, *node.machine, "SecurityGroupIds")) for node in cluster.nodes]
    if not own and not all(named):
        yield cluster.report_warning(
            "open-ssh",
            group,
            "Ray makes a security group of its own, which lets the whole internet ask for SSH",
            "make a group that lets in your address alone, and name it: provider.security_group.GroupName",
        )


def _is_open_to_all(rule: Mapping[str, Any]) -> bool:
    ranges = [*read_list(rule.get("IpRanges")), *read_list(rule.get("Ipv6Ranges"))]
    return any(get_value(each, key) in ALL_ADDRESSES for each in ranges for key in ("CidrIp", "CidrIpv6"))


def _report_open_port(cluster: ClusterFile, path: KeyPath, rule: Mapping[str, Any]) -> LintIssue:
    first, last = read_number(rule.get("FromPort")), read_number(rule.get("ToPort"))
    if first == last == SSH_PORT:
        return cluster.report_warning(
            "open-ssh", path, "the whole internet may ask for SSH", "let in your own address alone, as 203.0.113.7/32"
        )
    ports = "every port" if first is None or first < 0 else f"ports {first:g} to {last or first:g}"
    return cluster.report_error(
        "open-port",
        path,
        f"the whole internet reaches {ports}, and whoever reaches Ray or MLflow runs code on your machines",
        "delete the rule and go through SSH: ssh -L 8265:127.0.0.1:8265",
    )


def _check_servers(cluster: ClusterFile) -> Iterator[LintIssue]:
    for path, command in cluster.list_commands():
        if OPEN_SERVER.search(command):
            yield cluster.report_warning(
                "open-server",
                path,
                "a server listens on every interface, so that the firewall alone keeps strangers from running code",
                "let it listen on 127.0.0.1 and reach it through SSH",
            )


def _check_services(cluster: ClusterFile) -> Iterator[LintIssue]:
    for path, value in iterate_strings(get_value(cluster.source.document, *cluster.root), cluster.root):
        if path[-1] in ("serviceType", "type") and value in PUBLIC_SERVICES:
            yield cluster.report_error(
                "open-port",
                path,
                f"a service of type {value} shows Ray's dashboard outside the cluster, and whoever sees it runs code",
                "leave it ClusterIP and use kubectl port-forward",
            )
    ingress: KeyPath = (*cluster.root, "headGroupSpec", "enableIngress")
    if get_value(cluster.source.document, *ingress) is True:
        yield cluster.report_error(
            "open-port", ingress, "an ingress shows Ray's dashboard outside the cluster", "use kubectl port-forward"
        )


HOME_FOLDER: Final = re.compile(r"(?<![\w.~:/$}])/(?:home|Users)/[^\s/'\"]+")


def check_local_paths(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report local files that are missing, or that only this machine has.

    `ray up` reads relative paths from the folder where it runs.
    """
    document = cluster.source.document
    for remote, local in read_mapping(document.get("file_mounts")).items():
        finding = _check_mount(cluster, remote, read_string(local))
        if finding is not None:
            yield finding
    for key in ("ssh_private_key", "ssh_public_key"):
        if read_string(get_value(document, "auth", key)):
            yield cluster.report_warning(
                "local-path",
                ("auth", key),
                "only you have this key, so that nobody else can use the file",
                "leave it out: Ray makes a key at the first `ray up`",
            )
    for index, path in enumerate(read_list(document.get("cluster_synced_files"))):
        if HOME_FOLDER.search(read_string(path)):
            yield _report_home_folder(cluster, ("cluster_synced_files", index), read_string(path))
    for where, command in cluster.list_commands():
        if HOME_FOLDER.search(command):
            yield _report_home_folder(cluster, where, HOME_FOLDER.findall(command)[0])


def _check_mount(cluster: ClusterFile, remote: str, local: str) -> LintIssue | None:
    where = ("file_mounts", remote)
    if not expand_home(local).exists():
        return cluster.report_error(
            "local-path",
            where,
            f"{local or 'nothing'} is copied to the nodes, and is not there seen from {Path.cwd().name or '/'}",
            "correct the path, or run from the root of the checkout as `ray up` must be",
        )
    if PurePosixPath(local).is_absolute() or local.startswith("~") or ".." in PurePosixPath(local).parts:
        return cluster.report_error(
            "local-path",
            where,
            f"{local} lies outside the checkout, so that only this machine can start the cluster",
            "copy from the checkout by a relative path",
        )
    return None


def _report_home_folder(cluster: ClusterFile, where: KeyPath, path: str) -> LintIssue:
    return cluster.report_error(
        "local-path", where, f"{path} is one person's folder, which nodes lack", "write ~ instead"
    )


HEAD_RESOURCE: Final = "head"
"""The custom resource that pins a sweep's driver to the head."""


def check_placement(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report a head on the spot market or without its resource, and workers that are missing or all on spot."""
    for node in cluster.heads:
        if node.spot:
            yield cluster.report_error(
                "head-on-spot",
                node.machine,
                "the head is a spot machine: when it is taken away, the driver, MLflow and all jobs go with it",
                "buy the head on demand",
            )
        if node.resources.get(HEAD_RESOURCE, 0) <= 0:
            yield cluster.report_error(
                "head-resource",
                node.path,
                "the head lacks the custom resource head, so that `gapctl cluster submit` waits for ever",
                "add head: 1 to its resources",
            )
    for node in cluster.workers:
        if node.resources.get(HEAD_RESOURCE, 0) > 0:
            yield cluster.report_error(
                "head-resource",
                node.path,
                f"{node.name} has the custom resource head: a driver may start there and vanish with the machine",
                "leave it to the head alone",
            )
    yield from _check_workers(cluster)


def _check_workers(cluster: ClusterFile) -> Iterator[LintIssue]:
    usable = [node for node in cluster.workers if cluster.count_max_machines(node) > 0]
    if not usable:
        yield cluster.report_error(
            "no-workers",
            (*cluster.root, "workerGroupSpecs") if cluster.cloud == "kuberay" else ("max_workers",),
            "not one worker may start, so that trials train on the head or not at all",
            "raise max_workers (KubeRay: maxReplicas)",
        )
    elif all(node.spot for node in cluster.workers):
        yield cluster.report_warning(
            "no-fallback",
            usable[0].path,
            "all workers are spot machines: on a day without any, the sweep waits",
            "add a kind bought on demand, with max_workers: 0 until it is needed",
        )


SECRET_PATTERNS: Final = {
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{30,}|hf_[0-9A-Za-z]{30,}|xox[bp]-[0-9A-Za-z-]{20,})"),
}
NAMED_SECRET: Final = re.compile(
    r"(?i)[\w-]*(?:password|passwd|secret_access_key|secret_key|api_key|auth_token|access_token)[\"']?\s*[:=]\s*"
    r"[\"']?(?P<value>[^\s\"',}]+)"
)
HARMLESS_VALUE: Final = re.compile(r"^[$<{(*]|^(?:EDIT|null|none|true|false)$", re.IGNORECASE)
"""A variable, a placeholder or a flag, which is no secret."""


def find_plain_secrets(source: YamlSource) -> Iterator[LintIssue]:
    """Report lines that hold a secret, comments included, without repeating it."""
    for line, content in enumerate(source.text.splitlines(), start=1):
        kind = _find_secret(content)
        if kind is not None:
            yield LintIssue(
                source.path,
                line,
                "error",
                "secret",
                f"{kind} stands here in plain text, and Ray copies the file to the head",
                "make it invalid, and use an instance profile, a service account or a secret of Kubernetes",
            )


def _find_secret(line: str) -> str | None:
    for kind, pattern in SECRET_PATTERNS.items():
        if pattern.search(line):
            return kind
    if hide_passwords(line) != line and not re.search(r"://[^\s:/]*:\$", line):
        return "a password in an address"
    named = NAMED_SECRET.search(line)
    return "a password or key" if named and not HARMLESS_VALUE.match(named["value"]) else None


COMPARED_PACKAGES: Final = ("ray", "torch")
LOCK_FILE: Final = "requirements.lock"
OLDEST_PYTHON: Final = (3, 11)
PIP_INSTALL: Final = re.compile(r"\bpip3? install\b")
INSTALLERS: Final = ("uv", "pip")
"""Packages that only install others, so their versions decide no results."""


def check_versions(cluster: ClusterFile) -> Iterator[LintIssue]:
    """Report nodes without the lock file, locks that differ from this machine, and images of other versions."""
    if cluster.cloud != "kuberay":
        yield from _check_installs(cluster)
    yield from _check_images(cluster)


def _check_installs(cluster: ClusterFile) -> Iterator[LintIssue]:
    installing = [(path, command) for path, command in cluster.list_commands() if PIP_INSTALL.search(command)]
    locked = [(path, command) for path, command in installing if LOCK_FILE in command]
    if not locked and not read_mapping(cluster.source.document.get("docker")):
        yield cluster.report_error(
            "no-lock",
            ("setup_commands",),
            "nodes do not install from the lock file, so that each may get other versions, and other numbers",
            f"install with -r {LOCK_FILE}, and gapctl itself with --no-deps",
        )
    for path, command in installing:
        loose = _find_unpinned_packages(command)
        if loose:
            yield cluster.report_warning(
                "unpinned",
                path,
                f"{', '.join(loose)} comes in whatever version is newest when a node starts",
                "pin it, or put it into a lock file",
            )
    for path, _ in locked:
        yield from _check_version_drift(cluster, path)


def _find_unpinned_packages(command: str) -> list[str]:
    """Return packages that a command installs by name alone."""
    _, _, words = command.partition("install ")
    words = re.split(r"[;&|]", words)[0]
    given = re.sub(r"(?:-r|-c|--requirement|--constraint|--python|--target|-e|--editable)[= ]\S+", " ", words).split()
    named = [word.strip("'\"") for word in given if not word.startswith("-")]
    return [name for name in named if "=" not in name and "/" not in name and name not in (*INSTALLERS, ".")]


def _check_version_drift(cluster: ClusterFile, path: KeyPath) -> Iterator[LintIssue]:
    mounts = read_mapping(cluster.source.document.get("file_mounts")).values()
    files = [expand_home(local) for local in mounts if isinstance(local, str) and local.endswith(LOCK_FILE)]
    for file in files:
        pins = _read_pins(file)
        for package in COMPARED_PACKAGES:
            here = _find_local_version(package)
            if package in pins and here is not None and not here.startswith(pins[package]):
                yield cluster.report_warning(
                    "version-drift",
                    path,
                    f"nodes get {package} {pins[package]} and this machine has {here}: "
                    "jobs may not be understood, and trials give other numbers than here",
                    f"install {file.name} here too",
                )


def _read_pins(file: Path) -> Mapping[str, str]:
    try:
        lines = read_text_file(file, str(file), "a lock file").split("\n")
    except InputError:
        return {}
    return {pin[1]: pin[2] for line in lines if (pin := re.match(r"([\w.-]+)==([^\s;]+)", line))}


def _find_local_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _check_images(cluster: ClusterFile) -> Iterator[LintIssue]:
    for node in cluster.nodes:
        yield from _check_image(cluster, node.image_at, node.image)
    for key in ("image", "head_image", "worker_image"):
        image = read_string(get_value(cluster.source.document, "docker", key))
        yield from _check_image(cluster, ("docker", key), image)
    yield from _check_python_agreement(cluster)


def _check_image(cluster: ClusterFile, path: KeyPath, image: str) -> Iterator[LintIssue]:
    python, ray, here = parse_python_version(image), parse_ray_version(image), _find_local_version("ray")
    if python is not None and tuple(map(int, python.split("."))) < OLDEST_PYTHON:
        yield cluster.report_error(
            "image-version", path, f"the image has Python {python}, and gapctl needs 3.11", "choose a newer image"
        )
    stated = read_string(get_value(cluster.source.document, *cluster.root, "rayVersion")) or here
    if ray is not None and stated is not None and ray != stated:
        yield cluster.report_error(
            "image-version",
            path,
            f"the image has Ray {ray}, and {stated} is expected: nodes of two versions do not talk to each other",
            f"use an image with Ray {stated}",
        )


def _check_python_agreement(cluster: ClusterFile) -> Iterator[LintIssue]:
    pythons = {node.name: python for node in cluster.nodes if (python := parse_python_version(node.image)) is not None}
    if len(set(pythons.values())) > 1:
        odd = _find_odd_node(cluster.nodes, pythons)
        found = ", ".join(f"{name} {python}" for name, python in pythons.items())
        yield cluster.report_error(
            "image-version", odd.image_at, f"nodes have unlike Pythons ({found}), which Ray refuses", "use one release"
        )


def _find_odd_node(nodes: tuple[NodeType, ...], pythons: Mapping[str, str]) -> NodeType:
    """Return the first node with another Python version than the first node."""
    first = next(iter(pythons.values()))
    return next(node for node in nodes if pythons.get(node.name, first) != first)


RULES = (
    check_ray_schema,
    check_placement,
    check_idle_cost,
    check_open_ports,
    check_local_paths,
    check_versions,
    check_node_commands,
    check_pods,
)


def lint_cluster_file(path: Path, plan: Plan | None = None, prices: PriceTable | None = None) -> list[LintIssue]:
    """Return all issues of a file, also for a sweep if given. Raises SpecError if it is no cluster file."""
    sources = read_documents(path)
    found = [finding for source in sources for finding in find_plain_secrets(source)]
    for cluster in find_clusters(sources):
        found += (finding for rule in RULES for finding in rule(cluster))
        found += check_store_access(cluster, is_store_used(sources, plan))
        found += check_plan_fits(cluster, plan, prices or load_shipped_prices()) if plan else ()
    return sorted(set(found), key=lambda finding: (finding.line, finding.severity, finding.rule, finding.risk))
