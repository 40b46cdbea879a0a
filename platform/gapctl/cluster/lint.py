"""Check a cluster file for errors and risks.

1. `rules.yaml` is the table of what can be wrong: severity, risk and remedy of each rule.
2. A function for each, in `FINDERS`, finds its places in a `ClusterFile`. Four subjects have files of their own:
   `lint_software.py`, `lint_commands.py` (of the shell), `lint_machines.py` and `lint_pods.py` (of KubeRay).
3. `lint_cluster_file`, at the end, makes `LintIssue`s of them and of what only a sweep shows, in the order of lines.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import TypeAdapter

from gapctl.cluster.cluster_files import (
    ClusterFile,
    Finder,
    Finding,
    LintIssue,
    Severity,
    get_list_or_empty,
    get_mapping_or_empty,
    get_text_or_empty,
    get_value_or_none,
    iterate_strings,
    parse_cluster_documents,
    parse_number_or_none,
    read_documents,
)
from gapctl.cluster.cost import (
    GIB,
    PriceTable,
    count_gpus_per_worker,
    count_trials_at_once,
    estimate_trial_memory,
    find_gpu_memory,
    load_shipped_prices,
)
from gapctl.cluster.lint_commands import COMMAND_FINDERS
from gapctl.cluster.lint_machines import MACHINE_FINDERS, is_in_one_zone
from gapctl.cluster.lint_pods import POD_FINDERS
from gapctl.cluster.lint_software import SOFTWARE_FINDERS
from gapctl.cluster.ray_internals import find_config_error
from gapctl.config.base import FrozenModel, KeyPath
from gapctl.config.yaml_file import YamlSource, read_yaml
from gapctl.folders import expand_home
from gapctl.io.passwords import hide_passwords
from gapctl.plan.plan import Plan, pack_trials

RULES_FILE: Final = Path(__file__).parent / "rules.yaml"


class LintRule(FrozenModel):
    """What a rule says: its stable name where that is not its key, and texts for a finding's words to be filled in."""

    rule: str = ""
    severity: Severity
    risk: str
    fix: str


@cache
def load_rule_texts() -> Mapping[str, LintRule]:
    """Return the rules by their key."""
    return TypeAdapter(dict[str, LintRule]).validate_python(read_yaml(RULES_FILE).document)


def _build_issue(source: YamlSource, key: str, line: int, words: Mapping[str, object]) -> LintIssue:
    rule = load_rule_texts()[key]
    risk, fix = rule.risk.format_map(words), rule.fix.format_map(words)
    return LintIssue(source.path, line, rule.severity, rule.rule or key, risk, fix)


def _find_refusals(cluster: ClusterFile) -> Iterator[Finding]:
    """Find what Ray's own validation refuses, as `ray up` runs it before it asks a cloud.

    KubeRay's manifests are validated by its operator alone, so nothing is found in them.
    """
    refusal = find_config_error(cluster.source.text) if cluster.cloud != "kuberay" else None
    if refusal is not None:
        yield Finding(refusal.path, {"message": refusal.message})


HEAD_RESOURCE: Final = "head"
"""The custom resource that pins a sweep's driver to the head."""


def _find_unpinned_heads(cluster: ClusterFile) -> Iterator[Finding]:
    yield from (Finding(node.path) for node in cluster.heads if node.resources.get(HEAD_RESOURCE, 0) <= 0)


def _find_pinned_workers(cluster: ClusterFile) -> Iterator[Finding]:
    for node in cluster.workers:
        if node.resources.get(HEAD_RESOURCE, 0) > 0:
            yield Finding(node.path, {"name": node.name})


def _find_missing_workers(cluster: ClusterFile) -> Iterator[Finding]:
    if not cluster.usable_workers:
        yield Finding((*cluster.root, "workerGroupSpecs") if cluster.cloud == "kuberay" else ("max_workers",))


def _find_missing_fallback(cluster: ClusterFile) -> Iterator[Finding]:
    if cluster.usable_workers and all(node.spot for node in cluster.workers):
        yield Finding(cluster.usable_workers[0].path)


def _find_missing_total(cluster: ClusterFile) -> Iterator[Finding]:
    """Find a file without the most workers of all kinds together, which Ray then takes to be two."""
    if cluster.cloud != "kuberay" and "max_workers" not in cluster.source.document:
        yield Finding(("max_workers",), {"default": cluster.max_workers})


LONGEST_IDLE_MINUTES: Final = 15.0
"""A trial's process is reused within seconds, so a machine idle for so many minutes has nothing to expect."""
TAG_FIXES: Final = {
    "aws": "add TagSpecifications with a tag such as project: gapctl",
    "gcp": "add labels: {project: gapctl}",
    "kuberay": "add metadata.labels with project: gapctl",
}


def _find_missing_timeout(cluster: ClusterFile) -> Iterator[Finding]:
    if cluster.idle_minutes is None:
        yield Finding(cluster.idle_at, {"key": cluster.idle_at[-1]})


def _find_long_timeout(cluster: ClusterFile) -> Iterator[Finding]:
    if cluster.idle_minutes is not None and cluster.idle_minutes > LONGEST_IDLE_MINUTES:
        yield Finding(cluster.idle_at, {"minutes": f"{cluster.idle_minutes:g}", "key": cluster.idle_at[-1]})


def _find_idle_machines(cluster: ClusterFile) -> Iterator[Finding]:
    key = "minReplicas" if cluster.cloud == "kuberay" else "min_workers"
    for node in cluster.workers:
        if node.min_workers > 0:
            yield Finding((*node.path, key), {"count": node.min_workers, "name": node.name})


def _find_stopped_machines(cluster: ClusterFile) -> Iterator[Finding]:
    if (
        cluster.cloud == "aws"
        and get_value_or_none(cluster.source.document, "provider", "cache_stopped_nodes") is not False
    ):
        yield Finding(("provider",))


def _find_untagged_machines(cluster: ClusterFile) -> Iterator[Finding]:
    untagged = [] if cluster.cloud == "other" else [node for node in cluster.nodes if not node.tagged]
    if untagged:
        words = {"names": ", ".join(node.name for node in untagged), "fix": TAG_FIXES[cluster.cloud]}
        yield Finding(("metadata",) if cluster.cloud == "kuberay" else untagged[0].machine, words)


ALL_ADDRESSES: Final = ("0.0.0.0/0", "::/0")
SSH_PORT: Final = 22
OPEN_SERVER: Final = re.compile(r"--(?:dashboard-)?host[= ](?:0\.0\.0\.0|::)(?!\S)")
SECURITY_GROUP: Final[KeyPath] = ("provider", "security_group")


def _find_open_ports(cluster: ClusterFile, *, ssh: bool) -> Iterator[Finding]:
    where: KeyPath = (*SECURITY_GROUP, "IpPermissions")
    listed = get_list_or_empty(get_value_or_none(cluster.source.document, *where)) if cluster.cloud == "aws" else []
    for index, rule in enumerate(map(get_mapping_or_empty, listed)):
        ranges = [*get_list_or_empty(rule.get("IpRanges")), *get_list_or_empty(rule.get("Ipv6Ranges"))]
        if any(get_value_or_none(each, key) in ALL_ADDRESSES for each in ranges for key in ("CidrIp", "CidrIpv6")):
            first, last = parse_number_or_none(rule.get("FromPort")), parse_number_or_none(rule.get("ToPort"))
            ports = "every port" if first is None or first < 0 else f"ports {first:g} to {last or first:g}"
            if ssh == (first == last == SSH_PORT):
                yield Finding((*where, index), {"ports": ports})


def _find_open_group(cluster: ClusterFile) -> Iterator[Finding]:
    document = cluster.source.document
    own = get_text_or_empty(get_value_or_none(document, *SECURITY_GROUP, "GroupName"))
    named = [bool(get_value_or_none(document, *node.machine, "SecurityGroupIds")) for node in cluster.nodes]
    if cluster.cloud == "aws" and not own and not all(named):
        yield Finding(SECURITY_GROUP)


def _find_open_servers(cluster: ClusterFile) -> Iterator[Finding]:
    yield from (Finding(path) for path, command in cluster.list_commands() if OPEN_SERVER.search(command))


HOME_FOLDER: Final = re.compile(r"(?<![\w.~:/$}])/(?:home|Users)/[^\s/'\"]+")


def _find_mounts(cluster: ClusterFile, *, there: bool) -> Iterator[Finding]:
    """Find local files that are missing, or those that are there and outside the checkout.

    `ray up` reads relative paths from the folder where it runs.
    """
    for remote, found in get_mapping_or_empty(cluster.source.document.get("file_mounts")).items():
        local = get_text_or_empty(found)
        outside = PurePosixPath(local).is_absolute() or local.startswith("~") or ".." in PurePosixPath(local).parts
        if expand_home(local).exists() == there and (outside or not there):
            yield Finding(("file_mounts", remote), {"local": local or "nothing", "here": Path.cwd().name or "/"})


HEAVY_FOLDERS: Final = (".git", ".venv", "venv", "node_modules", ".tox", "mlruns")


def _find_whole_checkouts(cluster: ClusterFile) -> Iterator[Finding]:
    """Find mounts of the folder that `ray up` runs in, or of any with what only this machine needs.

    `rsync_exclude` keeps such files from nodes, but Ray reads each of them at every `ray up` to see what changed.
    """
    for remote, found in get_mapping_or_empty(cluster.source.document.get("file_mounts")).items():
        folder = expand_home(get_text_or_empty(found) or "/nonexistent")
        heavy = [name for name in HEAVY_FOLDERS if (folder / name).exists()]
        if heavy or folder.resolve() == Path.cwd().resolve():
            words = {"local": found, "heavy": " and ".join(heavy) or "all that lies in it"}
            yield Finding(("file_mounts", remote), words)


WRITABLE_FOLDER: Final = re.compile(r"(?!/)|/(?:home/[^/]+|tmp|var/tmp|dev/shm)/.")


def _find_unwritable_targets(cluster: ClusterFile) -> Iterator[Finding]:
    """Find mounts to where the user of SSH may not write; into a container Ray copies as its own user."""
    user = get_value_or_none(cluster.source.document, "auth", "ssh_user")
    mounts = get_mapping_or_empty(cluster.source.document.get("file_mounts"))
    for remote in mounts if user != "root" and not cluster.in_containers else ():
        if not WRITABLE_FOLDER.match(remote):
            yield Finding(("file_mounts", remote), {"remote": remote, "user": user or "the user"})


def _find_own_keys(cluster: ClusterFile) -> Iterator[Finding]:
    for key in ("ssh_private_key", "ssh_public_key"):
        if get_text_or_empty(get_value_or_none(cluster.source.document, "auth", key)):
            yield Finding(("auth", key))


def _find_home_folders(cluster: ClusterFile) -> Iterator[Finding]:
    for index, path in enumerate(get_list_or_empty(cluster.source.document.get("cluster_synced_files"))):
        if HOME_FOLDER.search(get_text_or_empty(path)):
            yield Finding(("cluster_synced_files", index), {"path": path})
    for where, command in cluster.list_commands():
        if HOME_FOLDER.search(command):
            yield Finding(where, {"path": HOME_FOLDER.findall(command)[0]})


FINDERS: Final[Mapping[str, Finder]] = {
    "ray-schema": _find_refusals,
    "head-on-spot": lambda cluster: [Finding(node.machine) for node in cluster.heads if node.spot],
    "head-without-resource": _find_unpinned_heads,
    "worker-with-head-resource": _find_pinned_workers,
    "no-workers": _find_missing_workers,
    "no-fallback": _find_missing_fallback,
    "no-max-workers": _find_missing_total,
    "no-idle-timeout": _find_missing_timeout,
    "long-idle-timeout": _find_long_timeout,
    "idle-machines": _find_idle_machines,
    "stopped-machines": _find_stopped_machines,
    "no-tags": _find_untagged_machines,
    "open-ssh": lambda cluster: _find_open_ports(cluster, ssh=True),
    "open-port": lambda cluster: _find_open_ports(cluster, ssh=False),
    "open-group": _find_open_group,
    "open-server": _find_open_servers,
    "missing-mount": lambda cluster: _find_mounts(cluster, there=False),
    "outside-mount": lambda cluster: _find_mounts(cluster, there=True),
    "whole-checkout": _find_whole_checkouts,
    "mount-target": _find_unwritable_targets,
    "own-key": _find_own_keys,
    "home-folder": _find_home_folders,
    **SOFTWARE_FINDERS,
    **COMMAND_FINDERS,
    **POD_FINDERS,
}
"""Finds the places of each rule that needs no sweep."""


STORE_ADDRESS: Final = re.compile(r"\b(?:s3|gs)://")
STORE_FIXES: Final = {
    "aws": "give it an IamInstanceProfile that may get, put, list and delete in the bucket",
    "gcp": "give it a service account with storage.objectUser on the bucket, and the scope cloud-platform",
    "kuberay": "give the pod a serviceAccountName that is bound to such a role",
}


OTHER_STORE: Final = "AWS_ENDPOINT_URL"


def find_missing_store_access(cluster: ClusterFile) -> Iterator[Finding]:
    """Find nodes without a right to an object store. Another store than a cloud's own has keys, which no file shows."""
    other = any(OTHER_STORE in text for _, text in iterate_strings(cluster.source.document))
    for node in cluster.nodes if cluster.cloud in STORE_FIXES and not other else ():
        if not node.access:
            yield Finding(node.machine, {"name": node.name, "fix": STORE_FIXES[cluster.cloud]})


def is_store_used(sources: Sequence[YamlSource], plan: Plan | None) -> bool:
    """Return whether a bucket is named anywhere in a file or as data of the sweep."""
    data = [trial.config.data.address for trial in plan.trainings] if plan else []
    return any(STORE_ADDRESS.search(text) for text in [*(source.text for source in sources), *data])


def find_unsuited_workers(cluster: ClusterFile, plan: Plan, prices: PriceTable) -> Iterator[tuple[str, Finding]]:
    """Find workers that no trial fits on or that train one in several zones, small GPUs, and idle machines."""
    usable, resources = cluster.usable_workers, plan.sweep.spec.resources
    packs = pack_trials(plan.trainings, resources.pack)
    sizes = [estimate_trial_memory(pack[0].config, len(pack), resources.workers) for pack in packs]
    roomy = False
    words: dict[str, object]
    for node in usable:
        has, share = find_gpu_memory(prices, node.instance), count_gpus_per_worker(node.resources, resources)
        beside = max(1, int(1 / share)) if 0 < share < 1 else 1
        needs = beside * max(sizes, default=0.0) / GIB
        if has is not None and share > 0 and needs > has:
            words = {"needs": f"{needs:.0f}", "instance": node.instance, "has": f"{has:.0f}"}
            yield "gpu-memory", Finding(node.instance_at, words)
        slots = count_trials_at_once(node.resources, resources)
        if slots is None or slots.machines > cluster.count_max_machines(node):
            continue
        if slots.machines > 1 and not is_in_one_zone(cluster, node):
            yield "zones-apart", Finding(node.machine, {"name": node.name, "machines": slots.machines})
        roomy, wanted = True, slots.machines * -(-len(packs) // slots.trials)
        if node.min_workers > wanted:
            words = {"sweep": plan.sweep.path.name, "wanted": wanted, "name": node.name, "count": node.min_workers}
            yield "surplus-machines", Finding((*node.path, "min_workers"), words)
    if usable and not roomy:
        gpus = count_gpus_per_worker(usable[0].resources, resources)
        each = f"{resources.cpus + resources.readers} CPUs and {gpus:g} GPUs"
        asked = each if resources.workers == 1 else f"{resources.workers} times {each}"
        yield "worker-too-small", Finding((*usable[0].path, "resources"), {"asked": asked})


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


def _find_secret(line: str) -> str | None:
    """Return what kind of secret a line holds, comments included."""
    for kind, pattern in SECRET_PATTERNS.items():
        if pattern.search(line):
            return kind
    if hide_passwords(line) != line and not re.search(r"://[^\s:/]*:\$", line):
        return "a password in an address"
    named = NAMED_SECRET.search(line)
    return "a password or key" if named and not HARMLESS_VALUE.match(named["value"]) else None


TEMPLATES: Final = {
    "cluster.yaml": "8a161d6038031c50",
    "docs/cluster/gcp.yaml": "6ec46686b16876c6",
    "docs/cluster/kuberay.yaml": "0f87f3013c2b3d96",
}
"""The shipped files by their digests: their placeholders are there to be filled in."""
PLACEHOLDERS: Final = {
    "BUCKET": (re.compile(r"\b(?:s3|gs)://BUCKET\b"), "a bucket of yours"),
    "REGISTRY": (re.compile(r"\bREGISTRY/"), "a registry of yours"),
    "my-project": (re.compile(r"\bmy-project\b"), "your project at Google"),
}


def compute_digest(sources: Sequence[YamlSource]) -> str:
    """Return a digest of a file's values; comments do not count."""
    values = json.dumps([source.document for source in sources], sort_keys=True)
    return hashlib.sha256(values.encode()).hexdigest()[:16]


def _find_placeholders(sources: Sequence[YamlSource]) -> Iterator[tuple[YamlSource, Finding]]:
    """Find placeholders of the shipped files that a copy of them still has, in comments excepted."""
    if compute_digest(sources) in TEMPLATES.values():
        return
    for source in sources:
        for path, text in iterate_strings(source.document):
            for name, (pattern, meaning) in PLACEHOLDERS.items():
                if pattern.search(text):
                    yield source, Finding(path, {"name": name, "meaning": meaning})


def lint_cluster_file(path: Path, plan: Plan | None = None, prices: PriceTable | None = None) -> list[LintIssue]:
    """Return all issues of a file, also for a sweep if given. Raises SpecError if it is no cluster file."""
    sources = read_documents(path)
    found = [
        _build_issue(source, "secret", line, {"kind": kind})
        for source in sources
        for line, content in enumerate(source.text.splitlines(), start=1)
        if (kind := _find_secret(content)) is not None
    ]
    for source, finding in _find_placeholders(sources):
        found.append(_build_issue(source, "placeholder", source.place(finding.path).line, finding.words))
    prices = prices or load_shipped_prices()
    access = "store-access" if is_store_used(sources, plan) else "store-access-unnamed"
    for cluster in parse_cluster_documents(sources):
        findings = [(key, each) for key, find in FINDERS.items() for each in find(cluster)]
        findings += [(key, each) for key, find in MACHINE_FINDERS.items() for each in find(cluster, prices)]
        findings += [(access, each) for each in find_missing_store_access(cluster)]
        findings += find_unsuited_workers(cluster, plan, prices) if plan else []
        for key, finding in findings:
            found.append(_build_issue(cluster.source, key, cluster.source.place(finding.path).line, finding.words))
    return sorted(set(found), key=lambda issue: (issue.line, issue.severity, issue.rule, issue.risk))
