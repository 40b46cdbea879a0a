"""Find machines that are not what the file says of them, that a cloud refuses to start, or that cost more than needed.

1. Resources: what node types claim, beside what their machines have.
2. Images: the user, the processor, NVIDIA's driver beside torch's CUDA and the GPU.
3. Disks: their size, and whether they go with the machine.
4. Zones, markets, and the service that hands out credentials.

`MACHINE_FINDERS`, at the end, has a function for each rule of `rules.yaml`. What an unknown name stands for is not
judged.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from gapctl.cluster.cluster_files import (
    GPU_RESOURCE,
    ClusterFile,
    Finding,
    NodeType,
    get_list_or_empty,
    get_mapping_or_empty,
    get_text_or_empty,
    get_value_or_none,
    iterate_strings,
    locate_container,
    parse_number_or_none,
)
from gapctl.cluster.cost import PriceTable
from gapctl.cluster.lint_software import find_installed_torch
from gapctl.cluster.machines import (
    count_machine_gpus,
    find_operating_system,
    get_machine,
    has_gpu,
    is_from_template,
    list_accelerators,
    load_machine_facts,
)
from gapctl.config.base import KeyPath

MachineFinder = Callable[[ClusterFile, PriceTable], Iterable[Finding]]
LIMIT_NAMES: Final = {"CPU": "cpu", "GPU": GPU_RESOURCE}


def _locate_claim(cluster: ClusterFile, node: NodeType, kind: str) -> KeyPath:
    if cluster.cloud == "kuberay":
        return (*locate_container(node), "resources", "limits", LIMIT_NAMES[kind])
    return (*node.path, "resources", kind)


def _find_excess_claims(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes:
        listed = prices.instances.get(node.instance)
        has = {"GPU": count_machine_gpus(cluster, node, prices), "CPU": listed.cpus if listed else None}
        for kind, there in has.items():
            claimed = node.resources.get(kind, 0)
            if there is not None and claimed > there:
                words = {"name": node.name, "claimed": f"{claimed:g}", "kind": kind, "instance": node.instance}
                yield Finding(_locate_claim(cluster, node, kind), {**words, "has": there})


def _find_idle_gpus(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    """Find GPUs that Ray is not told of. On AWS it asks for what a file leaves out; pods may share a machine."""
    for node in cluster.nodes if cluster.cloud in ("aws", "gcp") else ():
        has, claimed = count_machine_gpus(cluster, node, prices), node.resources.get("GPU")
        if has and (claimed is not None or cluster.cloud == "gcp") and (claimed or 0) < has:
            words = {"name": node.name, "claimed": f"{claimed or 0:g}", "instance": node.instance, "has": has}
            yield Finding((*node.path, "resources"), words)


def _find_heads_open_to_trials(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    key = "rayStartParams" if cluster.cloud == "kuberay" else "resources"
    for node in cluster.heads:
        if node.resources.get("CPU") != 0:
            fix = 'num-cpus: "0"' if cluster.cloud == "kuberay" else "CPU: 0"
            yield Finding((*node.path, key), {"key": key, "fix": fix})


def _find_missing_images(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud in ("aws", "gcp") else ():
        if node.image.lower() in ("", "latest_dlami") and not is_from_template(get_machine(cluster, node)):
            yield Finding(node.image_at, {"name": node.name})


def _find_other_users(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    user = get_text_or_empty(get_value_or_none(cluster.source.document, "auth", "ssh_user"))
    systems = [(node, find_operating_system(node.image)) for node in cluster.nodes if cluster.cloud == "aws"]
    other = next(((node, system) for node, system in systems if system is not None and system.user != user), None)
    if other is not None:
        node, system = other
        yield Finding(("auth", "ssh_user"), {"user": user or "nobody", "name": node.name, "expected": system.user})


def _find_other_processors(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    facts = load_machine_facts()
    for node in cluster.nodes:
        arm = bool(re.search(facts.arm_machines, node.instance))
        if re.search(facts.x86_images if arm else facts.arm_images, node.image):
            words = {"name": node.name, "instance": node.instance, "kind": "ARM" if arm else "x86"}
            yield Finding(node.image_at, words)


DRIVER_INSTALLATION: Final = re.compile(r"nvidia-driver|nvidia-open|cuda-drivers|nvidia-headless|install_gpu_driver")


def _installs_driver(cluster: ClusterFile, node: NodeType) -> bool:
    """Return whether a command, or Google's agent at the first boot, puts a driver on a node."""
    items = get_list_or_empty(get_value_or_none(get_machine(cluster, node), "metadata", "items"))
    agent = any(get_value_or_none(each, "key") == "install-nvidia-driver" for each in items)
    return agent or any(DRIVER_INSTALLATION.search(command) for _, command in cluster.list_commands())


def _find_missing_drivers(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    facts = load_machine_facts()
    for node in cluster.nodes if cluster.cloud != "kuberay" else ():
        bare = re.search(facts.plain, node.image) and not re.search(facts.driver, node.image)
        if bare and has_gpu(cluster, node, prices) and not _installs_driver(cluster, node):
            yield Finding(node.image_at, {"name": node.name})


def _find_old_drivers(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    """Find images whose driver is older than the CUDA of the torch that nodes install."""
    facts, torch = load_machine_facts(), find_installed_torch(cluster)
    oldest = None if torch is None else facts.oldest_driver.get(str(torch.cuda))
    if torch is None or oldest is None:
        return
    for node in cluster.nodes:
        named = re.search(facts.driver_number, node.image)
        if named and int(named[1]) < oldest and has_gpu(cluster, node, prices):
            yield Finding(node.image_at, {"driver": named[1], "torch": torch.text, "oldest": oldest})


def _find_old_gpus(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    facts, torch = load_machine_facts(), find_installed_torch(cluster)
    if torch is None or torch.cuda is None or torch.cuda <= facts.last_cuda_of_old_gpus:
        return
    for node in cluster.nodes:
        for name in (node.instance, *list_accelerators(get_machine(cluster, node))):
            if re.search(facts.old_gpus, name):
                yield Finding(node.instance_at, {"instance": name, "torch": torch.text})


def _find_torch_without_gpu(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    torch = find_installed_torch(cluster)
    gpus = [node.name for node in cluster.workers if has_gpu(cluster, node, prices)]
    if torch is not None and torch.cuda == 0 and gpus:
        yield Finding(torch.path, {"torch": torch.text, "names": ", ".join(gpus)})


LEAST_DISK_GB: Final = 50.0
"""A node's environment takes 7 GB, an image with NVIDIA's driver some 30, and data come on top."""
DISKS: Final = {"aws": "BlockDeviceMappings", "gcp": "disks"}
SIZES: Final[Mapping[str, KeyPath]] = {"aws": ("Ebs", "VolumeSize"), "gcp": ("initializeParams", "diskSizeGb")}
DISK_FIXES: Final = {
    "aws": "add BlockDeviceMappings with DeviceName /dev/sda1 and Ebs.VolumeSize: 150",
    "gcp": "set disks[0].initializeParams.diskSizeGb: 150",
}


def _list_disks(cluster: ClusterFile, node: NodeType) -> list[tuple[KeyPath, Mapping[str, object], float | None]]:
    """Return path, description and size in GB of each disk that the file gives a machine."""
    key, size = DISKS.get(cluster.cloud, ""), SIZES.get(cluster.cloud, ())
    listed = map(get_mapping_or_empty, get_list_or_empty(get_machine(cluster, node).get(key)))
    return [
        ((*node.machine, key, index), each, parse_number_or_none(get_value_or_none(each, *size)))
        for index, each in enumerate(listed)
    ]


def _find_missing_disks(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud in DISKS else ():
        disks = _list_disks(cluster, node)
        if all(size is None for _, _, size in disks) and not is_from_template(get_machine(cluster, node)):
            where = (*disks[0][0], *SIZES[cluster.cloud]) if disks else node.machine
            yield Finding(where, {"name": node.name, "fix": DISK_FIXES[cluster.cloud]})


def _find_small_disks(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes:
        for path, _, size in _list_disks(cluster, node)[:1]:
            if size is not None and size < LEAST_DISK_GB:
                where = (*path, *SIZES[cluster.cloud])
                yield Finding(where, {"name": node.name, "size": f"{size:g}", "least": f"{LEAST_DISK_GB:g}"})


def _find_other_devices(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud == "aws" else ():
        system, disks = find_operating_system(node.image), _list_disks(cluster, node)
        devices = [get_text_or_empty(disk.get("DeviceName")) for _, disk, _ in disks]
        if system is not None and devices and system.root_device not in devices:
            words = {"name": node.name, "device": devices[0] or "none", "expected": system.root_device}
            yield Finding((*disks[0][0], "DeviceName"), words)


def _find_surviving_disks(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    key: KeyPath = ("autoDelete",) if cluster.cloud == "gcp" else ("Ebs", "DeleteOnTermination")
    for node in cluster.nodes:
        for path, disk, _ in _list_disks(cluster, node):
            goes = get_value_or_none(disk, *key)
            if goes is False or (goes is None and cluster.cloud == "gcp"):
                yield Finding((*path, *key), {"name": node.name, "key": key[-1]})


AWS_REGION: Final = re.compile(r"[a-z]+(?:-[a-z]+)+-\d+")
GCP_REGION: Final = re.compile(r"[a-z]+-[a-z]+\d+")
ZONE_IN_ADDRESS: Final = re.compile(r"zones/([a-z0-9-]+)")


def _list_zones(cluster: ClusterFile) -> Iterator[tuple[KeyPath, str]]:
    """Iterate over all zones that a file names: its own, a placement's, and those in Google's addresses."""
    where: KeyPath = ("provider", "availability_zone")
    for zone in get_text_or_empty(get_value_or_none(cluster.source.document, *where)).split(","):
        yield where, zone.strip()
    for node in cluster.nodes:
        for path, text in iterate_strings(get_machine(cluster, node), node.machine):
            if path[-1] in ("AvailabilityZone", "zone") and "/" not in text:
                yield path, text
            elif cluster.cloud == "gcp" and (named := ZONE_IN_ADDRESS.search(text)):
                yield path, named[1]


def _find_other_zones(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    region = get_text_or_empty(get_value_or_none(cluster.source.document, "provider", "region"))
    middle = {"aws": "", "gcp": "-"}.get(cluster.cloud)
    for path, zone in _list_zones(cluster) if middle is not None and region else ():
        local = cluster.cloud == "aws" and zone.startswith(f"{region}-")
        if zone and not local and not re.fullmatch(f"{re.escape(region)}{middle}[a-z]", zone):
            yield Finding(path, {"zone": zone, "region": region, "example": f"{region}{middle}a"})


def _find_wrong_regions(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    where: KeyPath = ("provider", "region")
    region = get_value_or_none(cluster.source.document, *where)
    pattern = {"aws": AWS_REGION, "gcp": GCP_REGION}.get(cluster.cloud)
    if pattern is not None and not pattern.fullmatch(get_text_or_empty(region)):
        yield Finding(where, {"region": region or "none", "example": "us-east-1 or us-central1"})


def _find_missing_zone(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    if cluster.cloud == "gcp" and not get_value_or_none(cluster.source.document, "provider", "availability_zone"):
        yield Finding(("provider", "availability_zone"))


ZONE_LABELS: Final = ("topology.kubernetes.io/zone", "topology.gke.io/zone")


def is_in_one_zone(cluster: ClusterFile, node: NodeType) -> bool:
    """Return whether all machines of a kind start in one zone. Files for Google's machines always name one."""
    machine = get_machine(cluster, node)
    if cluster.cloud == "kuberay":
        selector = get_mapping_or_empty(machine.get("nodeSelector"))
        return any(label in selector for label in ZONE_LABELS) or bool(
            get_value_or_none(machine, "affinity", "podAffinity")
        )
    if cluster.cloud != "aws":
        return True
    zones = [zone for path, zone in _list_zones(cluster) if path[0] == "provider" and zone]
    subnets = get_list_or_empty(machine.get("SubnetIds"))
    return len(zones) == 1 or len(subnets) == 1 or bool(machine.get("Placement") or machine.get("SubnetId"))


SPOT_OPTIONS: Final[KeyPath] = ("InstanceMarketOptions", "SpotOptions")


def _find_low_bids(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes:
        bid = parse_number_or_none(get_value_or_none(get_machine(cluster, node), *SPOT_OPTIONS, "MaxPrice"))
        listed = prices.instances.get(node.instance)
        if bid is not None and listed is not None and bid < listed.spot:
            words = {"bid": f"{bid:g}", "instance": node.instance, "price": f"{listed.spot:g}", "as_of": prices.as_of}
            yield Finding((*node.machine, *SPOT_OPTIONS, "MaxPrice"), words)


def _find_persistent_requests(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    where: KeyPath = (*SPOT_OPTIONS, "SpotInstanceType")
    for node in cluster.nodes:
        if get_value_or_none(get_machine(cluster, node), *where) == "persistent":
            yield Finding((*node.machine, *where), {"name": node.name})


def _get_scheduling(cluster: ClusterFile, node: NodeType) -> Mapping[str, object]:
    """Return when Google may stop a machine: a mapping, or a list of them as in Ray's examples."""
    found = get_machine(cluster, node).get("scheduling")
    parts = map(get_mapping_or_empty, get_list_or_empty(found) or [found])
    return {key: value for part in parts for key, value in part.items()}


def _find_live_migration(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    """Find machines with a GPU bought on demand that Google would have to move alive; on spot it never does."""
    for node in cluster.nodes if cluster.cloud == "gcp" else ():
        at_maintenance = _get_scheduling(cluster, node).get("onHostMaintenance")
        if at_maintenance != "TERMINATE" and has_gpu(cluster, node, prices) and not node.spot:
            yield Finding((*node.machine, "scheduling"), {"name": node.name})


def _find_stopped_spot_machines(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud == "gcp" else ():
        scheduling = _get_scheduling(cluster, node)
        if scheduling.get("provisioningModel") == "SPOT" and scheduling.get("instanceTerminationAction") != "DELETE":
            yield Finding((*node.machine, "scheduling"), {"name": node.name})


WIDE_SCOPES: Final = re.compile(r"cloud-platform$|devstorage\.(?:read_write|full_control)$")


def _find_narrow_scopes(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud == "gcp" else ():
        accounts = get_list_or_empty(get_machine(cluster, node).get("serviceAccounts"))
        for index, account in enumerate(map(get_mapping_or_empty, accounts)):
            scopes = get_list_or_empty(account.get("scopes"))
            if not any(WIDE_SCOPES.search(get_text_or_empty(scope)) for scope in scopes):
                yield Finding((*node.machine, "serviceAccounts", index), {"name": node.name})


def _find_open_metadata(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    for node in cluster.nodes if cluster.cloud == "aws" else ():
        machine = get_machine(cluster, node)
        if get_value_or_none(machine, "MetadataOptions", "HttpTokens") != "required" and not is_from_template(machine):
            yield Finding((*node.machine, "MetadataOptions"), {"name": node.name})


CONTAINER_HOPS: Final = 2.0


def _find_short_hops(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    where: KeyPath = ("MetadataOptions", "HttpPutResponseHopLimit")
    for node in cluster.nodes if cluster.cloud == "aws" and cluster.in_containers else ():
        hops = parse_number_or_none(get_value_or_none(get_machine(cluster, node), *where)) or 1
        if hops < CONTAINER_HOPS and not is_from_template(get_machine(cluster, node)):
            yield Finding((*node.machine, *where), {"name": node.name})


def _find_nameless_keys(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    key = get_value_or_none(cluster.source.document, "auth", "ssh_private_key")
    for node in cluster.nodes if cluster.cloud == "aws" and key else ():
        machine = get_machine(cluster, node)
        if not machine.get("KeyName") and not machine.get("UserData"):
            yield Finding((*node.machine, "KeyName"), {"name": node.name})


LABEL: Final = re.compile(r"[a-z0-9_-]{1,63}")


def _find_invalid_google_names(cluster: ClusterFile, prices: PriceTable) -> Iterator[Finding]:
    if cluster.cloud == "gcp":
        name = get_text_or_empty(cluster.source.document.get("cluster_name"))
        for path, text in [(("cluster_name",), name), *((node.path, node.name) for node in cluster.nodes)]:
            if not LABEL.fullmatch(text):
                yield Finding(path, {"text": text})


MACHINE_FINDERS: Final[Mapping[str, MachineFinder]] = {
    "excess-claims": _find_excess_claims,
    "idle-gpus": _find_idle_gpus,
    "head-cpus": _find_heads_open_to_trials,
    "no-image": _find_missing_images,
    "ssh-user": _find_other_users,
    "processor": _find_other_processors,
    "no-driver": _find_missing_drivers,
    "old-driver": _find_old_drivers,
    "old-gpu": _find_old_gpus,
    "torch-without-gpu": _find_torch_without_gpu,
    "no-disk": _find_missing_disks,
    "small-disk": _find_small_disks,
    "other-device": _find_other_devices,
    "surviving-disk": _find_surviving_disks,
    "other-zone": _find_other_zones,
    "wrong-region": _find_wrong_regions,
    "no-zone": _find_missing_zone,
    "low-bid": _find_low_bids,
    "persistent-request": _find_persistent_requests,
    "live-migration": _find_live_migration,
    "stopped-spot": _find_stopped_spot_machines,
    "narrow-scope": _find_narrow_scopes,
    "open-metadata": _find_open_metadata,
    "short-hops": _find_short_hops,
    "nameless-key": _find_nameless_keys,
    "bad-label": _find_invalid_google_names,
}
"""Finds the places of each rule that needs to know what machines are."""
