"""Run the steps of the Dockerfile in a plain Debian, where no builder is at hand, and a sweep in what comes out.

    sudo python docs/cluster/check_image.py [--root FOLDER] [--suite bookworm] [--keep FOLDER] [--markdown FILE]

1. `parse_dockerfile` reads the steps; one of a kind that is not known is an error.
2. `ImageRoot` makes a Debian by `debootstrap`, or takes one that was unpacked into `--root`, and runs each step in it.
3. `main` then checks what the image promises, runs a sweep inside, and prints the seconds of everything.

It needs Linux, root and about 12 GB of disk. Each step has mounts and processes of its own (`unshare`), which end with
it. The Debian stands for the image that `FROM` names: its Python may be another one.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from string import Template
from typing import Final, NamedTuple

REPOSITORY: Final = Path(__file__).parents[2]
DOCKERFILE: Final = Path(__file__).with_name("Dockerfile")
PATH_OF_IMAGES: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES: Final = "/etc/ssl/certs/ca-certificates.crt"
NETWORK_VARIABLES: Final = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "UV_DEFAULT_INDEX")
"""What the clients of package registries read here, and need inside too."""


class Step(NamedTuple):
    """An instruction of a Dockerfile: its line, its keyword, and what follows as one line."""

    line: int
    keyword: str
    text: str


def parse_dockerfile(text: str) -> list[Step]:
    """Return the steps. Raise ValueError at one that is not known, or for a file that does not begin with FROM."""
    steps, begun, parts = list[Step](), 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        begun = begun if parts else number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            keyword, _, rest = " ".join(parts).partition(" ")
            if keyword not in ("FROM", *RUNNERS):
                raise ValueError(f"line {begun}: found {keyword}; expected FROM or one of {', '.join(RUNNERS)}")
            steps.append(Step(begun, keyword, rest))
            parts = []
    if [step.keyword for step in steps].count("FROM") != 1 or steps[0].keyword != "FROM":
        raise ValueError("expected one FROM, before all else")
    return steps


def run_apart(command: list[str]) -> None:
    """Run a command whose mounts and processes end with it. Raise CalledProcessError."""
    own = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"]
    subprocess.run([*own, *command], check=True)


@dataclass
class ImageRoot:
    """A folder that becomes the image's file system, and the state that steps hand on, as a builder keeps it."""

    folder: Path
    variables: dict[str, str] = field(default_factory=lambda: {"PATH": PATH_OF_IMAGES, "HOME": "/root"})
    user: str = "root"
    place: PurePosixPath = field(default_factory=lambda: PurePosixPath("/"))

    def run(self, command: str) -> None:
        """Run a shell command inside, with mounts and processes that end with it. Raise CalledProcessError."""
        given = {**self._get_network_variables(), **self.variables}
        inside = ["chroot", f"--userspec={self.user}", str(self.folder), "/usr/bin/env", "-i"]
        inside += [*(f"{name}={value}" for name, value in given.items()), "/bin/sh", "-ec"]
        inside += [f"cd {shlex.quote(str(self.place))}\n{command}"]
        mounts = [
            f"mount -t proc proc {self.folder}/proc",
            f"mount --rbind /sys {self.folder}/sys",
            f"mount --rbind /dev {self.folder}/dev",
            f"mount -t tmpfs -o mode=1777 shm {self.folder}/dev/shm",
            f"mount -t tmpfs -o mode=755 run {self.folder}/run",
            f"cp {shlex.quote(os.environ.get('SSL_CERT_FILE', CERTIFICATES))} {self.folder}/run/certificates.crt",
            f"exec {shlex.join(inside)}",
        ]
        run_apart(["sh", "-ec", "\n".join(mounts)])

    def _get_network_variables(self) -> dict[str, str]:
        named = {name: os.environ[name] for name in NETWORK_VARIABLES if name in os.environ}
        own = dict.fromkeys(("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE"), "/run/certificates.crt")
        return {**named, **own}

    def copy(self, text: str) -> None:
        """Copy files and folders of the checkout as COPY does: a folder's content, and files into what ends in /."""
        *sources, target = [word for word in text.split() if not word.startswith("--chown=")]
        owner = next((word.partition("=")[2] for word in text.split() if word.startswith("--chown=")), "root:root")
        there = self.place / target
        into = self.folder / there.relative_to("/")
        for source in sources:
            if (REPOSITORY / source).is_dir():
                shutil.copytree(
                    REPOSITORY / source, into, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__")
                )
            elif target.endswith("/"):
                shutil.copy2(REPOSITORY / source, into)
            else:
                shutil.copyfile(REPOSITORY / source, into)
        as_root = ImageRoot(self.folder, place=self.place)
        copied = [there / Path(source).name if target.endswith("/") else there for source in sources]
        as_root.run(f"chown -R {owner} {shlex.join(map(str, copied))}")

    def set_place(self, text: str) -> None:
        """Make the folder of WORKDIR, and run what follows there."""
        self.place /= self._expand(text)
        ImageRoot(self.folder).run(f"mkdir -p {self.place}")

    def set_variables(self, text: str) -> None:
        """Set the variables of ENV."""
        self.variables.update(word.split("=", 1) for word in shlex.split(self._expand(text)))

    def _expand(self, text: str) -> str:
        """Put the variables of earlier steps in place of their names, as a builder does."""
        return Template(text).substitute(self.variables)

    def set_user(self, text: str) -> None:
        """Run what follows as another user."""
        self.user = text


RUNNERS: Final[Mapping[str, Callable[[ImageRoot, str], None]]] = {
    "RUN": lambda root, text: root.run(text),
    "COPY": ImageRoot.copy,
    "ENV": ImageRoot.set_variables,
    "WORKDIR": ImageRoot.set_place,
    "USER": ImageRoot.set_user,
}
"""What carries out each kind of step."""


CHECKS: Final = {
    "no compiler is in it": "! command -v cc gcc g++ c++ clang",
    "torch is for the CUDA of the image's name": (
        'python -c \'import torch, sys; found = torch.version.cuda.split(".")[0]; print(torch.__version__, found); '
        'sys.exit(found != "{cuda}")\''
    ),
    "a login shell finds Ray": "bash -lc 'ray --version'",
    "the sweep at scale smoke": "cd /tmp && gapctl sweep imbalance --scale smoke --runs /tmp/runs",
}


def main() -> None:
    """Print each step as it begins, then the table of seconds; the exit code is 1 where a step or check failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, help="a Debian that was unpacked, instead of one by debootstrap")
    parser.add_argument("--suite", default="bookworm", help="of Debian, for debootstrap")
    parser.add_argument("--keep", type=Path, help="a new folder for the image's files, which stay there")
    parser.add_argument("--markdown", type=Path, help="a file for the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="image-", ignore_cleanup_errors=True) as scratch:
        folder = arguments.root or arguments.keep or Path(scratch) / "root"
        seconds = dict[str, float]()
        try:
            if arguments.root is None:
                debootstrap = ["debootstrap", "--variant=minbase", arguments.suite, str(folder)]
                measure("debootstrap, for FROM", seconds, partial(run_apart, debootstrap))
            shutil.copyfile("/etc/resolv.conf", folder / "etc/resolv.conf")
            root, text = ImageRoot(folder), DOCKERFILE.read_text(encoding="utf-8")
            for step in parse_dockerfile(text)[1:]:
                name = f"{step.line}: {step.keyword} {step.text}"
                measure(name, seconds, partial(RUNNERS[step.keyword], root, step.text))
            for name, check in CHECKS.items():
                measure(name, seconds, partial(root.run, check.replace("{cuda}", find_cuda(text))))
        except subprocess.CalledProcessError as error:
            sys.exit(f"failed with exit code {error.returncode}: {list(seconds)[-1] if seconds else 'the first step'}")
        du = subprocess.run(["du", "-sm", str(folder)], check=True, capture_output=True, text=True)
    lines = [f"| {name[:90].replace('|', chr(92) + '|')} | {took:.0f} |" for name, took in seconds.items()]
    table = "\n".join(["| step | s |", "|---|---:|", *lines, f"\n{int(du.stdout.split()[0]) / 1000:.1f} GB on disk.\n"])
    print(table, end="")
    if arguments.markdown is not None:
        arguments.markdown.write_text(table, encoding="utf-8")


def find_cuda(text: str) -> str:
    """Return the major version of CUDA in the image's name, as the Dockerfile's command tags it."""
    return text.partition("-t REGISTRY/gapctl:")[2].split()[0].rpartition("-cu")[2]


def measure(name: str, seconds: dict[str, float], act: Callable[[], object]) -> None:
    """Do something and note how long it took."""
    print(f"== {name[:150]}", file=sys.stderr, flush=True)
    seconds[name] = 0.0
    began = time.monotonic()
    act()
    seconds[name] = time.monotonic() - began


if __name__ == "__main__":
    main()
