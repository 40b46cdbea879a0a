"""All that is wrong with a cluster file, in the order of its lines."""

import contextlib
import io
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, Final

import yaml

from gapctl.cluster.cost import GIB, Prices, gpu_memory, gpus_per_worker, shipped_prices, slots_of, trial_memory
from gapctl.cluster.files import (
    Cluster,
    LintIssue,
    NodeType,
    at,
    clusters_in,
    container_of,
    items,
    mapping,
    number,
    python_of_image,
    ray_of_image,
    read_documents,
    text,
    texts,
)
from gapctl.config.base import KeyPath, cut, without_passwords
from gapctl.config.yaml_file import YamlSource, read_text_file
from gapctl.errors import InputError
from gapctl.folders import expand_home
from gapctl.plan.plan import Plan, packed


def what_ray_refuses(cluster: Cluster) -> Iterator[LintIssue]:
    """Ray's own preparation and validation of the file, as `ray up` does them before it asks a cloud.

    KubeRay's manifests are checked by its operator alone, so that nothing is found in them here.
    """
    if cluster.cloud != "kuberay":
        refusal = _refusal(yaml.safe_load(cluster.source.text))
        if refusal is not None:
            where, said = refusal
            yield cluster.error("ray-schema", where, f"`ray up` refuses the file: {said}", "correct it")


def _refusal(config: Any) -> tuple[KeyPath, str] | None:
    """Where Ray finds something wrong, and what. Ray's code raises anything on a file that it did not expect."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    with _silence():
        try:
            validate_config(prepare_config(config))
        except KeyError as error:
            return (), f"{error} is missing"
        except Exception as error:
            where = tuple(getattr(error, "absolute_path", ()))  # of jsonschema's errors
            return where, _first_line(str(getattr(error, "message", error)) or type(error).__name__)
    return None


def _first_line(message: str) -> str:
    """The first line of a message; jsonschema repeats the whole value in its."""
    first, *_ = message.strip().splitlines() or [""]
    return first if len(first) <= 160 else f"{cut(first)} {first[-60:]}"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Ray logs and prints what it corrects."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


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


def store_access(cluster: Cluster, named: bool) -> Iterator[LintIssue]:
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


PIPED: Final = re.compile(r"\b(?:curl|wget)\b[^|;&]*?(?P<scheme>https?)://[^|]*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b")
PORT: Final = re.compile(r"--port[= ](\d+)")
JOINS: Final = re.compile(r"--address[= ]\S*?:(\d+)")
STARTS: Final = ("head_start_ray_commands", "worker_start_ray_commands")
DEFAULT_PORT: Final = "6379"


def node_commands(cluster: Cluster) -> Iterator[LintIssue]:
    """Scripts from the net that are run unread, and start commands that cannot work."""
    for path, command in cluster.commands():
        piped = PIPED.search(command)
        if piped and piped["scheme"] == "http":
            yield cluster.error(
                "remote-script",
                path,
                "a script is fetched without encryption and run: whoever is on the way runs code on every node",
                "fetch it by https, compare its checksum, then run it; or install a package",
            )
        elif piped:
            yield cluster.warning(
                "remote-script",
                path,
                "a script from the net is run unread, and may be another one tomorrow",
                "fetch it, compare its checksum, then run it; or install a package",
            )
    if cluster.cloud != "kuberay":
        yield from _starts(cluster)


def _starts(cluster: Cluster) -> Iterator[LintIssue]:
    head, worker = (_joined(cluster, key) for key in STARTS)
    for key, commands in zip(STARTS, (head, worker), strict=True):
        if commands and "ray stop" not in commands:
            yield cluster.error(
                "start-command",
                (key,),
                "a Ray that still runs is not stopped, so that a second `ray up` leaves the old one in place",
                "put `ray stop` before `ray start`",
            )
    if head and "--autoscaling-config" not in head:
        yield cluster.error(
            "start-command",
            (STARTS[0],),
            "the head starts without the autoscaler, so that no worker ever comes",
            "add --autoscaling-config=~/ray_bootstrap_config.yaml to its `ray start`",
        )
    port, joined = PORT.search(head), JOINS.search(worker)
    here, there = port[1] if port else DEFAULT_PORT, joined[1] if joined else None
    if head and there is not None and here != there:
        yield cluster.error(
            "start-command",
            (STARTS[1],),
            f"workers look for the head at port {there}, and it listens at {here}",
            f"write --address=$RAY_HEAD_IP:{here}",
        )


def _joined(cluster: Cluster, key: str) -> str:
    return "\n".join(command for path, command in cluster.commands() if path[0] == key)


CAUSES: Final = "a smaller train.batch_size or resources.pack, or more train.micro_batches"


def fit(cluster: Cluster, plan: Plan, prices: Prices) -> Iterator[LintIssue]:
    """Workers that no trial fits on, GPUs that are too small, more machines that always run than there is work."""
    usable = [node for node in cluster.workers if cluster.most_of(node) > 0]
    resources = plan.sweep.spec.resources
    roomy = [
        node
        for node in usable
        if (slots := slots_of(node, resources)) is not None and slots.machines <= cluster.most_of(node)
    ]
    for node in usable:
        yield from _memory(cluster, node, plan, prices)
    if usable and not roomy:
        each = f"{resources.cpus + resources.readers} CPUs and {gpus_per_worker(usable[0], resources):g} GPUs"
        asked = each if resources.workers == 1 else f"{resources.workers} times {each}"
        yield cluster.error(
            "worker-too-small",
            (*usable[0].path, "resources"),
            f"a trial asks for {asked}, which no kind of worker has: the sweep waits for ever",
            "choose larger machines, or lower resources of the sweep",
        )
    elif usable:
        yield from _surplus(cluster, roomy, len(packed(plan.trainings, resources.pack)), plan)


def _memory(cluster: Cluster, node: NodeType, plan: Plan, prices: Prices) -> Iterator[LintIssue]:
    has, share = gpu_memory(prices, node.instance), gpus_per_worker(node, plan.sweep.spec.resources)
    if has is None or share == 0:
        return
    beside = max(1, int(1 / share)) if share < 1 else 1
    needs, resources = 0.0, plan.sweep.spec.resources
    for group in packed(plan.trainings, resources.pack):
        needs = max(needs, beside * trial_memory(group[0].config, len(group), resources.workers) / GIB)
    if needs > has:
        yield cluster.error(
            "gpu-memory",
            node.instance_at,
            f"a trial needs about {needs:.0f} GiB of GPU memory, and {node.instance} has {has:.0f}",
            f"choose a larger GPU, or {CAUSES}",
        )


def _surplus(cluster: Cluster, roomy: list[NodeType], work: int, plan: Plan) -> Iterator[LintIssue]:
    """Machines that always run, beyond those that the sweep fills; others the autoscaler starts only when needed."""
    for node in roomy:
        slots = slots_of(node, plan.sweep.spec.resources)
        wanted = slots.machines * -(-work // slots.trials) if slots else 0
        if node.min_workers > wanted:
            yield cluster.warning(
                "idle-machines",
                (*node.path, "min_workers"),
                f"{plan.sweep.path.name} fills {wanted} machines of {node.name}, and {node.min_workers} always run",
                "begin from 0: the autoscaler starts them when a trial waits",
            )


def pods(cluster: Cluster) -> Iterator[LintIssue]:
    """Containers without limits, and an autoscaler that is not on."""
    if cluster.cloud != "kuberay":
        return
    document = cluster.source.document
    for node in cluster.nodes:
        limits = (*container_of(node), "resources", "limits")
        missing = [kind for kind in ("cpu", "memory") if number(at(document, *limits, kind)) is None]
        if missing:
            yield cluster.error(
                "no-limits",
                limits,
                f"{node.name} has no limit of {' and '.join(missing)}: Ray takes the whole machine for its own, "
                "and the pod is killed when memory runs out",
                f"set resources.limits.{missing[0]} of its first container",
            )
    if at(document, *cluster.root, "enableInTreeAutoscaling") is not True:
        yield cluster.error(
            "no-autoscaler",
            cluster.root,
            "the autoscaler is off: workers neither come for waiting trials nor go when they idle",
            "set enableInTreeAutoscaling: true",
        )


LONGEST_IDLE: Final = 15.0
"""Minutes: a trial's process is reused within seconds, so a machine that waits this long has nothing to come."""


def waste(cluster: Cluster) -> Iterator[LintIssue]:
    """Idle machines, stopped ones, machines that nobody can find on the bill."""
    yield from _idle(cluster)
    for node in cluster.workers:
        if node.min_workers > 0:
            yield cluster.warning(
                "idle-machines",
                (*node.path, "minReplicas" if cluster.cloud == "kuberay" else "min_workers"),
                f"{node.min_workers} machines of {node.name} are paid for also when there is no work",
                "begin from 0: the autoscaler starts them when a trial waits",
            )
    if cluster.cloud == "aws" and at(cluster.source.document, "provider", "cache_stopped_nodes") is not False:
        yield cluster.warning(
            "stopped-machines",
            ("provider",),
            "idle workers are stopped, not terminated, and go on paying for their disks",
            "set provider.cache_stopped_nodes: false",
        )
    untagged = [] if cluster.cloud == "other" else [node for node in cluster.nodes if not node.tagged]
    if untagged:
        names = ", ".join(node.name for node in untagged)
        yield cluster.warning(
            "no-tags",
            ("metadata",) if cluster.cloud == "kuberay" else untagged[0].machine,
            f"nothing tells the machines of {names} apart on the bill, so that no budget can watch them",
            {
                "aws": "add TagSpecifications with a tag such as project: gapctl",
                "gcp": "add labels: {project: gapctl}",
            }.get(cluster.cloud, "add metadata.labels with project: gapctl"),
        )


def _idle(cluster: Cluster) -> Iterator[LintIssue]:
    if cluster.idle_minutes is None:
        yield cluster.warning(
            "no-idle-timeout",
            cluster.idle_at,
            "nothing here says when idle workers are released, and GPUs wait at full price",
            f"set {cluster.idle_at[-1]} to five minutes",
        )
    elif cluster.idle_minutes > LONGEST_IDLE:
        yield cluster.warning(
            "long-idle-timeout",
            cluster.idle_at,
            f"a GPU is paid for {cluster.idle_minutes:g} minutes after its last trial",
            f"set {cluster.idle_at[-1]} to five minutes; trials that follow one another take seconds",
        )


EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
SSH: Final = 22
OPEN_SERVER: Final = re.compile(r"--(?:dashboard-)?host[= ](?:0\.0\.0\.0|::)(?!\S)")
PUBLIC: Final = ("LoadBalancer", "NodePort")


def open_doors(cluster: Cluster) -> Iterator[LintIssue]:
    """Ports that the whole internet may ask, and servers that answer whoever asks."""
    if cluster.cloud == "aws":
        yield from _security_group(cluster)
    yield from _servers(cluster)
    if cluster.cloud == "kuberay":
        yield from _services(cluster)


def _security_group(cluster: Cluster) -> Iterator[LintIssue]:
    group: KeyPath = ("provider", "security_group")
    rules: KeyPath = (*group, "IpPermissions")
    for index, rule in enumerate(items(at(cluster.source.document, *rules))):
        if _from_everywhere(mapping(rule)):
            yield _door(cluster, (*rules, index), mapping(rule))
    own = text(at(cluster.source.document, *group, "GroupName"))
    named = [bool(at(cluster.source.document, *node.machine, "SecurityGroupIds")) for node in cluster.nodes]
    if not own and not all(named):
        yield cluster.warning(
            "open-ssh",
            group,
            "Ray makes a security group of its own, which lets the whole internet ask for SSH",
            "make a group that lets in your address alone, and name it: provider.security_group.GroupName",
        )


def _from_everywhere(rule: Mapping[str, Any]) -> bool:
    ranges = [*items(rule.get("IpRanges")), *items(rule.get("Ipv6Ranges"))]
    return any(at(each, key) in EVERYWHERE for each in ranges for key in ("CidrIp", "CidrIpv6"))


def _door(cluster: Cluster, path: KeyPath, rule: Mapping[str, Any]) -> LintIssue:
    first, last = number(rule.get("FromPort")), number(rule.get("ToPort"))
    if first == last == SSH:
        return cluster.warning(
            "open-ssh", path, "the whole internet may ask for SSH", "let in your own address alone, as 203.0.113.7/32"
        )
    ports = "every port" if first is None or first < 0 else f"ports {first:g} to {last or first:g}"
    return cluster.error(
        "open-port",
        path,
        f"the whole internet reaches {ports}, and whoever reaches Ray or MLflow runs code on your machines",
        "delete the rule and go through SSH: ssh -L 8265:127.0.0.1:8265",
    )


def _servers(cluster: Cluster) -> Iterator[LintIssue]:
    for path, command in cluster.commands():
        if OPEN_SERVER.search(command):
            yield cluster.warning(
                "open-server",
                path,
                "a server listens on every interface, so that the firewall alone keeps strangers from running code",
                "let it listen on 127.0.0.1 and reach it through SSH",
            )


def _services(cluster: Cluster) -> Iterator[LintIssue]:
    for path, value in texts(at(cluster.source.document, *cluster.root), cluster.root):
        if path[-1] in ("serviceType", "type") and value in PUBLIC:
            yield cluster.error(
                "open-port",
                path,
                f"a service of type {value} shows Ray's dashboard outside the cluster, and whoever sees it runs code",
                "leave it ClusterIP and use kubectl port-forward",
            )
    ingress: KeyPath = (*cluster.root, "headGroupSpec", "enableIngress")
    if at(cluster.source.document, *ingress) is True:
        yield cluster.error(
            "open-port", ingress, "an ingress shows Ray's dashboard outside the cluster", "use kubectl port-forward"
        )


SOMEBODYS: Final = re.compile(r"(?<![\w.~:/$}])/(?:home|Users)/[^\s/'\"]+")


def local_paths(cluster: Cluster) -> Iterator[LintIssue]:
    """What is copied from here but is not here, or is here alone; `ray up` reads relative paths from where it runs."""
    document = cluster.source.document
    for remote, local in mapping(document.get("file_mounts")).items():
        finding = _mount(cluster, remote, text(local))
        if finding is not None:
            yield finding
    for key in ("ssh_private_key", "ssh_public_key"):
        if text(at(document, "auth", key)):
            yield cluster.warning(
                "local-path",
                ("auth", key),
                "only you have this key, so that nobody else can use the file",
                "leave it out: Ray makes a key at the first `ray up`",
            )
    for index, path in enumerate(items(document.get("cluster_synced_files"))):
        if SOMEBODYS.search(text(path)):
            yield _somebodys(cluster, ("cluster_synced_files", index), text(path))
    for where, command in cluster.commands():
        if SOMEBODYS.search(command):
            yield _somebodys(cluster, where, SOMEBODYS.findall(command)[0])


def _mount(cluster: Cluster, remote: str, local: str) -> LintIssue | None:
    where = ("file_mounts", remote)
    if not expand_home(local).exists():
        return cluster.error(
            "local-path",
            where,
            f"{local or 'nothing'} is copied to the nodes, and is not there seen from {Path.cwd().name or '/'}",
            "correct the path, or run from the root of the checkout as `ray up` must be",
        )
    if PurePosixPath(local).is_absolute() or local.startswith("~") or ".." in PurePosixPath(local).parts:
        return cluster.error(
            "local-path",
            where,
            f"{local} lies outside the checkout, so that only this machine can start the cluster",
            "copy from the checkout by a relative path",
        )
    return None


def _somebodys(cluster: Cluster, where: KeyPath, path: str) -> LintIssue:
    return cluster.error("local-path", where, f"{path} is one person's folder, which nodes lack", "write ~ instead")


HEAD: Final = "head"
"""The custom resource that pins a sweep's driver to the head."""


def placement(cluster: Cluster) -> Iterator[LintIssue]:
    """The head's market and resource, the workers' number and market."""
    for node in cluster.heads:
        if node.spot:
            yield cluster.error(
                "head-on-spot",
                node.machine,
                "the head is a spot machine: when it is taken away, the driver, MLflow and all jobs go with it",
                "buy the head on demand",
            )
        if node.resources.get(HEAD, 0) <= 0:
            yield cluster.error(
                "head-resource",
                node.path,
                "the head lacks the custom resource head, so that `gapctl cluster submit` waits for ever",
                "add head: 1 to its resources",
            )
    for node in cluster.workers:
        if node.resources.get(HEAD, 0) > 0:
            yield cluster.error(
                "head-resource",
                node.path,
                f"{node.name} has the custom resource head: a driver may start there and vanish with the machine",
                "leave it to the head alone",
            )
    yield from _workers(cluster)


def _workers(cluster: Cluster) -> Iterator[LintIssue]:
    usable = [node for node in cluster.workers if cluster.most_of(node) > 0]
    if not usable:
        yield cluster.error(
            "no-workers",
            (*cluster.root, "workerGroupSpecs") if cluster.cloud == "kuberay" else ("max_workers",),
            "not one worker may start, so that trials train on the head or not at all",
            "raise max_workers (KubeRay: maxReplicas)",
        )
    elif all(node.spot for node in cluster.workers):
        yield cluster.warning(
            "no-fallback",
            usable[0].path,
            "all workers are spot machines: on a day without any, the sweep waits",
            "add a kind bought on demand, with max_workers: 0 until it is needed",
        )


KEYS: Final = {
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a token": re.compile(r"\b(?:gh[pousr]_[0-9A-Za-z]{30,}|hf_[0-9A-Za-z]{30,}|xox[bp]-[0-9A-Za-z-]{20,})"),
}
NAMED: Final = re.compile(
    r"(?i)[\w-]*(?:password|passwd|secret_access_key|secret_key|api_key|auth_token|access_token)[\"']?\s*[:=]\s*"
    r"[\"']?(?P<value>[^\s\"',}]+)"
)
REFERENCE: Final = re.compile(r"^[$<{(*]|^(?:EDIT|null|none|true|false)$", re.IGNORECASE)
"""A variable, a placeholder or a flag, and no secret."""


def plain_secrets(source: YamlSource) -> Iterator[LintIssue]:
    """Lines that hold a secret, which is not repeated; comments count too."""
    for line, content in enumerate(source.text.splitlines(), start=1):
        kind = _secret_in(content)
        if kind is not None:
            yield LintIssue(
                source.path,
                line,
                "error",
                "secret",
                f"{kind} stands here in plain text, and Ray copies the file to the head",
                "make it invalid, and use an instance profile, a service account or a secret of Kubernetes",
            )


def _secret_in(line: str) -> str | None:
    for kind, pattern in KEYS.items():
        if pattern.search(line):
            return kind
    if without_passwords(line) != line and not re.search(r"://[^\s:/]*:\$", line):
        return "a password in an address"
    named = NAMED.search(line)
    return "a password or key" if named and not REFERENCE.match(named["value"]) else None


COMPARED: Final = ("ray", "torch")
LOCK: Final = "requirements.lock"
OLDEST_PYTHON: Final = (3, 11)
INSTALLS: Final = re.compile(r"\bpip3? install\b")
FREE: Final = ("uv", "pip")
"""Installers, which decide no number."""


def versions(cluster: Cluster) -> Iterator[LintIssue]:
    """Nodes without the lock file, a lock that differs from what is installed here, images of other versions."""
    if cluster.cloud != "kuberay":
        yield from _installed(cluster)
    yield from _images(cluster)


def _installed(cluster: Cluster) -> Iterator[LintIssue]:
    installing = [(path, command) for path, command in cluster.commands() if INSTALLS.search(command)]
    locked = [(path, command) for path, command in installing if LOCK in command]
    if not locked and not mapping(cluster.source.document.get("docker")):
        yield cluster.error(
            "no-lock",
            ("setup_commands",),
            "nodes do not install from the lock file, so that each may get other versions, and other numbers",
            f"install with -r {LOCK}, and gapctl itself with --no-deps",
        )
    for path, command in installing:
        loose = _loose(command)
        if loose:
            yield cluster.warning(
                "unpinned",
                path,
                f"{', '.join(loose)} comes in whatever version is newest when a node starts",
                "pin it, or put it into a lock file",
            )
    for path, _ in locked:
        yield from _drift(cluster, path)


def _loose(command: str) -> list[str]:
    """Packages that a command installs by name alone."""
    _, _, words = command.partition("install ")
    words = re.split(r"[;&|]", words)[0]
    given = re.sub(r"(?:-r|-c|--requirement|--constraint|--python|--target|-e|--editable)[= ]\S+", " ", words).split()
    named = [word.strip("'\"") for word in given if not word.startswith("-")]
    return [name for name in named if "=" not in name and "/" not in name and name not in (*FREE, ".")]


def _drift(cluster: Cluster, path: KeyPath) -> Iterator[LintIssue]:
    mounts = mapping(cluster.source.document.get("file_mounts")).values()
    files = [expand_home(local) for local in mounts if isinstance(local, str) and local.endswith(LOCK)]
    for file in files:
        pins = _pins(file)
        for package in COMPARED:
            here = _here(package)
            if package in pins and here is not None and not here.startswith(pins[package]):
                yield cluster.warning(
                    "version-drift",
                    path,
                    f"nodes get {package} {pins[package]} and this machine has {here}: "
                    "jobs may not be understood, and trials give other numbers than here",
                    f"install {file.name} here too",
                )


def _pins(file: Path) -> Mapping[str, str]:
    try:
        lines = read_text_file(file, str(file), "a lock file").split("\n")
    except InputError:
        return {}
    return {pin[1]: pin[2] for line in lines if (pin := re.match(r"([\w.-]+)==([^\s;]+)", line))}


def _here(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _images(cluster: Cluster) -> Iterator[LintIssue]:
    for node in cluster.nodes:
        yield from _image(cluster, node.image_at, node.image)
    for key in ("image", "head_image", "worker_image"):
        image = text(at(cluster.source.document, "docker", key))
        yield from _image(cluster, ("docker", key), image)
    yield from _disagreement(cluster)


def _image(cluster: Cluster, path: KeyPath, image: str) -> Iterator[LintIssue]:
    python, ray, here = python_of_image(image), ray_of_image(image), _here("ray")
    if python is not None and tuple(map(int, python.split("."))) < OLDEST_PYTHON:
        yield cluster.error(
            "image-version", path, f"the image has Python {python}, and gapctl needs 3.11", "choose a newer image"
        )
    stated = text(at(cluster.source.document, *cluster.root, "rayVersion")) or here
    if ray is not None and stated is not None and ray != stated:
        yield cluster.error(
            "image-version",
            path,
            f"the image has Ray {ray}, and {stated} is expected: nodes of two versions do not talk to each other",
            f"use an image with Ray {stated}",
        )


def _disagreement(cluster: Cluster) -> Iterator[LintIssue]:
    pythons = {node.name: python for node in cluster.nodes if (python := python_of_image(node.image)) is not None}
    if len(set(pythons.values())) > 1:
        odd = _odd(cluster.nodes, pythons)
        found = ", ".join(f"{name} {python}" for name, python in pythons.items())
        yield cluster.error(
            "image-version", odd.image_at, f"nodes have unlike Pythons ({found}), which Ray refuses", "use one release"
        )


def _odd(nodes: tuple[NodeType, ...], pythons: Mapping[str, str]) -> NodeType:
    """The first node that has another Python than the first."""
    first = next(iter(pythons.values()))
    return next(node for node in nodes if pythons.get(node.name, first) != first)


RULES = (what_ray_refuses, placement, waste, open_doors, local_paths, versions, node_commands, pods)


def lint(path: Path, plan: Plan | None = None, prices: Prices | None = None) -> list[LintIssue]:
    """What is wrong with a file, also for a sweep if one is given; raises SpecError for what is no cluster file."""
    sources = read_documents(path)
    found = [finding for source in sources for finding in plain_secrets(source)]
    for cluster in clusters_in(sources):
        found += (finding for rule in RULES for finding in rule(cluster))
        found += store_access(cluster, names_a_store(sources, plan))
        found += fit(cluster, plan, prices or shipped_prices()) if plan else ()
    return sorted(set(found), key=lambda finding: (finding.line, finding.severity, finding.rule, finding.risk))
