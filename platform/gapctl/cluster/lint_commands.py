"""Find mistakes in the shell commands of a file for `ray up`: each runs in a shell of its own, without a keyboard.

1. Commands of any kind: scripts from the net, questions that nobody answers, settings that end with their shell.
2. How Ray is started on the head and on workers.
3. Ray's token: who asks for it, who makes it, and how workers get it.

`COMMAND_FINDERS`, at the end, has a function for each rule of `rules.yaml`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from gapctl.cluster.cluster_files import ClusterFile, Finder, Finding, get_mapping_or_empty, iterate_strings
from gapctl.config.base import KeyPath

PIPED_SCRIPT: Final = re.compile(r"\b(?:curl|wget)\b[^|;&]*?(?P<scheme>https?)://[^|]*\|\s*(?:sudo\s+)?(?:ba|z)?sh\b")
PORT_OPTION: Final = re.compile(r"--port[= ](\d+)")
ADDRESS_OPTION: Final = re.compile(r"--address[= ]\S*?:(\d+)")
HEAD_START: Final = "head_start_ray_commands"
WORKER_START: Final = "worker_start_ray_commands"
DEFAULT_PORT: Final = "6379"


def _find_piped_scripts(cluster: ClusterFile, scheme: str) -> Iterator[Finding]:
    for path, command in cluster.list_commands():
        piped = PIPED_SCRIPT.search(command)
        if piped and piped["scheme"] == scheme:
            yield Finding(path)


SHELL_SETTING: Final = re.compile(r"\s*(?:cd|export|source|\.|(?:conda|mamba) activate|ulimit|alias|umask)\s[^<>|]*")
INSTALL: Final = re.compile(r"\b(?:apt|apt-get|yum|dnf)\s(?P<before>[^;&|]*?)\binstall\b(?P<after>[^;&|]*)")
ASSUMED_YES: Final = re.compile(r"\s(?:-[a-zA-Z]*y[a-zA-Z]*|-qq|--yes|--assume-yes|--assumeyes)(?=\s|$)")


def _find_lost_settings(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in cluster.list_commands():
        parts = [part for part in re.split(r"&&|;", command) if part.strip()]
        if parts and all(SHELL_SETTING.fullmatch(part + " ") for part in parts):
            # The first word alone: what follows may be a secret.
            yield Finding(path, {"word": parts[0].split()[0]})


def _find_commands_that_ask(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in cluster.list_commands():
        for install in INSTALL.finditer(command):
            if not ASSUMED_YES.search(f" {install['before']} {install['after']}"):
                yield Finding(path)


def _join_start_commands(cluster: ClusterFile, key: str) -> str:
    if cluster.cloud == "kuberay":
        return ""
    return "\n".join(command for path, command in cluster.list_commands() if path[0] == key)


def _find_running_ray(cluster: ClusterFile) -> Iterator[Finding]:
    for key in (HEAD_START, WORKER_START):
        commands = _join_start_commands(cluster, key)
        if commands and "ray stop" not in commands:
            yield Finding((key,))


def _find_missing_autoscaler(cluster: ClusterFile) -> Iterator[Finding]:
    head = _join_start_commands(cluster, HEAD_START)
    if head and "--autoscaling-config" not in head:
        yield Finding((HEAD_START,))


def _find_other_port(cluster: ClusterFile) -> Iterator[Finding]:
    head = _join_start_commands(cluster, HEAD_START)
    port, joined = PORT_OPTION.search(head), ADDRESS_OPTION.search(_join_start_commands(cluster, WORKER_START))
    here = port[1] if port else DEFAULT_PORT
    if head and joined is not None and here != joined[1]:
        yield Finding((WORKER_START,), {"there": joined[1], "here": here})


START: Final = re.compile(r"\bray start\b[^;&|]*")
NEW_ENVIRONMENT: Final = re.compile(r"(?:-m venv|\buv venv|\bvirtualenv)\s+(?:-\S+\s+)*[\"']?([^\s;&|)\"']+)")
BARE_RAY: Final = re.compile(r"(?<![\w./~-])ray (?:start|stop)\b")
PROFILES: Final = re.compile(r">>\s*(?:~|\$HOME)?/?\S*(?:bashrc|profile|bash_profile)")


def _list_start_commands(cluster: ClusterFile, *keys: str) -> list[tuple[KeyPath, str]]:
    """Return the commands that start Ray, on the head and on workers or on one of them."""
    if cluster.cloud == "kuberay":
        return []
    wanted = keys or (HEAD_START, WORKER_START)
    return [(path, command) for path, command in cluster.list_commands() if path[0] in wanted and START.search(command)]


def _find_missing_path(cluster: ClusterFile, *, profile: bool) -> Iterator[Finding]:
    """Find commands that call `ray` by its name alone, where it lies in a virtual environment that the file makes.

    Ray runs commands in interactive shells, so a line in a profile (`profile`) helps them, but nothing else.
    """
    commands = [] if cluster.cloud == "kuberay" else list(cluster.list_commands())
    folders = [PurePosixPath(found).name for _, command in commands for found in NEW_ENVIRONMENT.findall(command)]
    for folder in folders[:1]:
        in_profile = any(f"{folder}/bin" in command and PROFILES.search(command) for _, command in commands)
        for path, command in commands if in_profile == profile else ():
            called = BARE_RAY.search(command) if path[0] in (HEAD_START, WORKER_START) else None
            if called and f"{folder}/bin" not in command[: called.start()]:
                yield Finding(path, {"folder": folder})


def _find_blocking_starts(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in _list_start_commands(cluster):
        if any("--block" in start.split() for start in START.findall(command)):
            yield Finding(path)


def _find_lone_workers(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in _list_start_commands(cluster, WORKER_START):
        if "--head" in command or "--address" not in command:
            yield Finding(path)


def _find_fixed_heads(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in _list_start_commands(cluster, WORKER_START):
        named = re.search(r"--address[= ][\"']?([^\s:\"']+)", command)
        if named and "RAY_HEAD_IP" not in command:
            yield Finding(path, {"address": named[1]})


def _find_few_open_files(cluster: ClusterFile) -> Iterator[Finding]:
    for path, command in _list_start_commands(cluster):
        if "ulimit -n" not in command:
            yield Finding(path)


TOKEN_MODE: Final = "RAY_AUTH_MODE=token"
TOKEN_FILE: Final = "auth_token"
TOKEN_MAKER: Final = re.compile(r"get-auth-token|RAY_AUTH_TOKEN(?:_PATH)?=|auth_token")
SIDES: Final = {"head": HEAD_START, "worker": WORKER_START}


class TokenUse(NamedTuple):
    """Where a side starts Ray, whether it asks for the token, and all commands that run there."""

    path: KeyPath
    asks: bool
    commands: str


def _describe_token_use(cluster: ClusterFile, side: str) -> TokenUse | None:
    """Return how the head or the workers use Ray's token; None where the file does not start Ray there."""
    starts = _list_start_commands(cluster, SIDES[side])
    keys = ("initialization_commands", "setup_commands", f"{side}_setup_commands", SIDES[side])
    commands = "\n".join(command for path, command in cluster.list_commands() if path[0] in keys)
    return TokenUse(starts[0][0], TOKEN_MODE in commands, commands) if starts else None


def _compare_token_use(cluster: ClusterFile) -> Iterator[tuple[str, Finding]]:
    """Yield each mistake with the token by its rule."""
    head, worker = _describe_token_use(cluster, "head"), _describe_token_use(cluster, "worker")
    if head is None or worker is None:
        return
    synced = [text for _, text in iterate_strings(cluster.source.document.get("cluster_synced_files"))]
    mounted = list(get_mapping_or_empty(cluster.source.document.get("file_mounts")))
    if head.asks != worker.asks:
        side, other = ("worker", "head") if head.asks else ("head", "worker")
        yield "token-on-one-side", Finding((worker if head.asks else head).path, {"side": side, "other": other})
    elif not head.asks:
        yield "no-token", Finding(head.path)
    else:
        if (
            not any(TOKEN_FILE in str(place) for place in (*synced, *mounted))
            and "RAY_AUTH_TOKEN" not in worker.commands
        ):
            yield "token-not-synced", Finding(("cluster_synced_files",))
        if not TOKEN_MAKER.search(head.commands) and not any(TOKEN_FILE in str(place) for place in mounted):
            yield "token-not-made", Finding(head.path)


def _find_token_mistakes(cluster: ClusterFile, rule: str) -> Iterator[Finding]:
    yield from (finding for key, finding in _compare_token_use(cluster) if key == rule)


COMMAND_FINDERS: Final[Mapping[str, Finder]] = {
    "piped-http-script": lambda cluster: _find_piped_scripts(cluster, "http"),
    "piped-https-script": lambda cluster: _find_piped_scripts(cluster, "https"),
    "running-ray": _find_running_ray,
    "head-without-autoscaler": _find_missing_autoscaler,
    "other-port": _find_other_port,
    "lost-setting": _find_lost_settings,
    "question": _find_commands_that_ask,
    "ray-path": lambda cluster: _find_missing_path(cluster, profile=False),
    "ray-path-of-profile": lambda cluster: _find_missing_path(cluster, profile=True),
    "blocking-start": _find_blocking_starts,
    "lone-worker": _find_lone_workers,
    "fixed-head": _find_fixed_heads,
    "few-open-files": _find_few_open_files,
    "token-on-one-side": lambda cluster: _find_token_mistakes(cluster, "token-on-one-side"),
    "token-not-synced": lambda cluster: _find_token_mistakes(cluster, "token-not-synced"),
    "token-not-made": lambda cluster: _find_token_mistakes(cluster, "token-not-made"),
    "no-token": lambda cluster: _find_token_mistakes(cluster, "no-token"),
}
