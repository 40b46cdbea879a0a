"""A Ray cluster of this machine: a head without CPUs, and nodes that each have one CPU, or `node_cpus`.

It has its own ports, folder and token, so that other Rays of the machine are neither found nor disturbed. With a
`Network` each node runs in a network namespace of its own.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

from drill.network import Machine, Network
from drill.processes import LOOK_SECONDS, below, came_true, family, runs, signalled

PATIENCE_SECONDS: Final = 600.0
UP: Final = "Ray runtime started."
"""What `ray start` says then."""
HOST: Final = "127.0.0.1"
RAY: Final = (sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats")
WORKERS_PORTS: Final = ("--min-worker-port=0", "--max-worker-port=0")
"""Free ones: nodes of one machine would otherwise take the same."""
AGENTS_PORTS: Final = (
    "--dashboard-agent-grpc-port",
    "--dashboard-agent-listen-port",
    "--metrics-export-port",
    "--runtime-env-agent-port",
)
"""Where they are not said, a raylet waits for its agents to choose them, and crashes if they need more than 15 s."""
LISTEN_OPTION: Final = "--dashboard-agent-listen-port"
LISTEN_PORT: Final = "dashboard_agent_listen_port"
"""The file, by node, in which a raylet looks for this one although it is said."""
NODE_ID: Final = "RAY_OVERRIDE_NODE_ID_FOR_TESTING"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class LocalCluster:
    """`folder` must have a short path: Ray's sockets lie below it. Nodes take the machines of `network` in turn."""

    def __init__(self, folder: Path, network: Network | None = None, **environment: str) -> None:
        self._folder, self.node_cpus = folder, 1
        self._port = free_port()
        self._host = network.address if network else HOST
        self._network, self._free = network, list(network.machines) if network else []
        self.machines: dict[int, Machine] = {}  # by the number of a node's process
        self.address = f"{self._host}:{self._port}"
        token = folder / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        self.environment: Mapping[str, str] = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_worker_niceness": "0",
            "NO_PROXY": ",".join([HOST, self._host, *(machine.address for machine in self._free)]),
            **environment,
        }
        self.head: subprocess.Popen[bytes] | None = None
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._started, self._logs = 0, dict[int, Path]()

    def start_head(self, *more: str, cpus: int = 0) -> None:
        """Starts it and waits until it runs; again on the same port where one was lost.

        Ray gives a node half a minute to come up, which is too short on a busy machine: it is tried again then. Without
        `more`, which may have it scale, it has no process that would.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            head = self.head = self._start(
                "head",
                "--head",
                f"--port={self._port}",
                f"--temp-dir={self._folder / 'ray'}",
                f"--ray-client-server-port={free_port()}",
                "--include-dashboard=false",
                f"--num-cpus={cpus}",
                '--resources={"head": 1}',
                *(more or ["--no-monitor"]),
            )
            came_true(partial(self._is_settled, head), PATIENCE_SECONDS)
            if self._is_up(head):
                return
            self.drop_head()
        raise AssertionError(f"the head did not start within {PATIENCE_SECONDS:.0f} s, see {self._folder}/head.*.log")

    def add_node(self) -> "subprocess.Popen[bytes]":
        """Starts another node; it joins when it is ready."""
        machine = self._free.pop(0) if self._network else None
        node = self._start("node", f"--address={self.address}", f"--num-cpus={self.node_cpus}", machine=machine)
        self.nodes.append(node)
        if machine is not None:
            self.machines[node.pid] = machine
        return node

    def node_of(self, pid: int) -> "subprocess.Popen[bytes] | None":
        """The node on which a process runs."""
        return next((node for node in self.nodes if pid in family(node.pid)), None)

    def drop(self, node: "subprocess.Popen[bytes]") -> None:
        """The machine vanishes, with everything that runs on it."""
        self.nodes.remove(node)
        _kill(node)
        if (machine := self.machines.pop(node.pid, None)) is not None:
            self._free.append(machine)

    def drop_head(self) -> None:
        """The head's machine vanishes."""
        assert self.head is not None
        _kill(self.head)

    def replace_lost_nodes(self, wanted: int) -> None:
        """Starts new ones for those that ended by themselves, as nodes do whose raylet was killed or given up."""
        for node in [node for node in self.nodes if node.poll() is not None]:
            self.drop(node)
        while len(self.nodes) < wanted:
            self.add_node()

    def wait_for_nodes(self) -> None:
        """Waits until all nodes run, as an idle machine starts a sweep before its nodes have joined.

        Ray gives a node half a minute too; one that did not come up in it is started again.
        """
        wanted = len(self.nodes)
        if not came_true(lambda: self._all_up(wanted), PATIENCE_SECONDS):
            raise AssertionError(f"nodes did not start within {PATIENCE_SECONDS:.0f} s, see {self._folder}/node.*.log")

    def _all_up(self, wanted: int) -> bool:
        self.replace_lost_nodes(wanted)
        return all(map(self._is_up, self.nodes))

    def stop(self) -> None:
        """Ends everything as a person would, who takes a minute at most."""
        started = [*self.nodes, *([self.head] if self.head else [])]
        signalled([process.pid for process in started], signal.SIGTERM)
        came_true(lambda: not any(runs(process.pid) for process in started), 60.0)
        for process in started:
            _kill(process)

    def _start(self, name: str, *options: str, machine: Machine | None = None) -> "subprocess.Popen[bytes]":
        self._started += 1
        log = self._folder / f"{name}.{self._started}.log"
        chosen = {option: free_port() for option in AGENTS_PORTS}
        ports = [*WORKERS_PORTS, *(f"{option}={port}" for option, port in chosen.items())]
        environment = {NODE_ID: secrets.token_hex(28), **self.environment}
        address = machine.address if machine else self._host
        command = [*RAY, f"--node-ip-address={address}", "--object-store-memory=100000000", *ports, *options]
        with log.open("wb") as output:
            process = subprocess.Popen(
                machine.command(*command) if machine else command,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._logs[process.pid] = log
        said = (process, f"{LISTEN_PORT}_{environment[NODE_ID]}", str(chosen[LISTEN_OPTION]))
        threading.Thread(target=self._say_port, args=said, daemon=True).start()
        return process

    def _say_port(self, process: "subprocess.Popen[bytes]", name: str, port: str) -> None:
        """Says in the agent's place on which port it will listen, until the node is up."""
        while not self._is_settled(process):
            for session in (self._folder / "ray").glob("session_2*"):
                if not (session / name).exists():
                    (session / name).write_text(port)
            time.sleep(LOOK_SECONDS)

    def _is_settled(self, process: "subprocess.Popen[bytes]") -> bool:
        return process.poll() is not None or self._is_up(process)

    def _is_up(self, process: "subprocess.Popen[bytes]") -> bool:
        return process.poll() is None and UP in self._logs[process.pid].read_text(errors="replace")


def raylet_of(node: "subprocess.Popen[bytes]") -> int | None:
    """The number of a node's raylet, once it runs."""
    return next((each.pid for each in below(node.pid) if "/raylet/raylet " in each.command), None)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    signalled(family(process.pid), signal.SIGKILL)
    process.wait(timeout=30)
