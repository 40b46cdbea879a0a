"""Cores, memory, shared memory and open files: what the operating system grants this process."""

import os
import resource
import shutil
import sys
from pathlib import Path

from gapctl.cli.checkup.check import Check

GB = 1e9
LEAST_MEMORY, MEMORY_PER_TRIAL = 1.5 * GB, 1.0 * GB
SHARED_MEMORY = 1.0 * GB
OPEN_FILES = 8192
"""What Ray recommends at least; it raises the soft limit to the hard one itself."""


def machine_checks() -> list[Check]:
    """Every check of this file, on this machine."""
    cores = usable_cores()
    return [
        cores_check(cores),
        memory_check(available_memory(), cores),
        shared_memory_check(Path("/dev/shm")),
        open_files_check(*resource.getrlimit(resource.RLIMIT_NOFILE)),
    ]


def cores_check(cores: int) -> Check:
    """A sweep trains as many trials at once as there are cores."""
    if cores > 1:
        return Check("cores", "ok", f"{cores}: a sweep trains {cores} trials at once")
    return Check("cores", "warning", "1: a sweep trains one trial after another", "use a machine with more cores")


def memory_check(available: float | None, cores: int) -> Check:
    """Every trial that is being trained takes about a gigabyte, and Ray half of one."""
    if available is None:
        return Check("memory", "ok", "this system does not tell")
    found, wanted = f"{available / GB:.1f} GB available", MEMORY_PER_TRIAL * (cores + 1)
    if available < LEAST_MEMORY:
        return Check("memory", "problem", found, f"free some: Ray and one trial need about {LEAST_MEMORY / GB:.1f} GB")
    if available < wanted:
        fix = f"free some, or train fewer trials at once with --set resources.cpus={cores}"
        return Check("memory", "warning", f"{found}, {cores} trials at once want {wanted / GB:.0f} GB", fix)
    return Check("memory", "ok", found)


def shared_memory_check(folder: Path) -> Check:
    """Ray shares arrays between processes there, and on a slower disk where there is no room."""
    if not folder.is_dir():
        elsewhere = sys.platform != "linux"
        return Check("shared memory", "ok" if elsewhere else "warning", f"there is no {folder}; Ray uses a disk")
    free = shutil.disk_usage(folder).free
    found = f"{free / GB:.2f} GB free in {folder}"
    if free < SHARED_MEMORY:
        fix = "in Docker add --shm-size=2g; otherwise enlarge or empty it. Until then Ray uses a disk, which is slower"
        return Check("shared memory", "warning", found, fix)
    return Check("shared memory", "ok", found)


def open_files_check(soft: int, hard: int) -> Check:
    """Ray opens many sockets and files; minus one stands for no limit."""
    raised = f", which Ray may raise to {_limit(hard)}" if soft != hard else ""
    found = f"limit {_limit(soft)}{raised}"
    if 0 <= hard < OPEN_FILES:
        fix = f"raise it before a sweep: ulimit -Hn {OPEN_FILES} as root, or in /etc/security/limits.conf"
        return Check("open files", "warning", found, fix)
    return Check("open files", "ok", found)


def _limit(number: int) -> str:
    return "no limit" if number in (-1, resource.RLIM_INFINITY) else f"{number:,}"


def usable_cores() -> int:
    """Cores that this process may use: those it is bound to, or fewer where a container has a quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return min(cores, max(1, int(quota) // int(period))) if quota.isdigit() and period.strip().isdigit() else cores


def available_memory() -> float | None:
    """Bytes that can be had without swapping, within a container's limit; None where the system does not tell."""
    lines = (_read("/proc/meminfo") or "").splitlines()
    found = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    limit, used = _read("/sys/fs/cgroup/memory.max"), _read("/sys/fs/cgroup/memory.current")
    if limit and used and limit.isdigit():
        found.append(max(0.0, float(limit) - float(used)))
    return min(found, default=None)


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:
        return None
