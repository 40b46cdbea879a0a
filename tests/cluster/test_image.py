"""The image of nodes: its Dockerfile's steps are known, its name says what is in it, and its environment is unpacked.

No builder and no registry are asked: a few lines of shell stand in for docker and sudo. The steps themselves are run by
`docs/cluster/check_image.py`.
"""

import importlib.util
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from cluster.cluster_texts import AWS, GCP, KUBERAY, REPOSITORY
from gapctl.cluster.cluster_files import parse_cuda_version, parse_python_version, parse_ray_version

DOCKERFILE = REPOSITORY / "docs" / "cluster" / "Dockerfile"
UNPACK = REPOSITORY / "docs" / "cluster" / "unpack-image.sh"
IMAGE = re.compile(r"REGISTRY/gapctl:([\w.-]+)")
PAGES = [AWS, GCP, KUBERAY, DOCKERFILE, UNPACK, DOCKERFILE.with_name("README.md")]


def load_script() -> ModuleType:
    """The script that runs the steps where no builder is."""
    spec = importlib.util.spec_from_file_location("check_image", DOCKERFILE.with_name("check_image.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_image"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


SCRIPT = load_script()
STEPS = SCRIPT.parse_dockerfile(DOCKERFILE.read_text(encoding="utf-8"))
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")


def find_pin(package: str) -> str:
    """The version of a package in the lock."""
    (pin,) = re.findall(rf"^{package}==([^\s;]+)", LOCK, re.MULTILINE)
    return str(pin)


def test_every_step_of_the_dockerfile_is_known_to_the_script() -> None:
    assert STEPS[0].keyword == "FROM"
    assert {step.keyword for step in STEPS[1:]} == set(SCRIPT.RUNNERS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nADD x y\n", "line 2: found ADD; expected FROM or one of RUN, COPY"),
        ("RUN true\nFROM a\n", "expected one FROM, before all else"),
        ("FROM a\nFROM b\n", "expected one FROM, before all else"),
    ],
)
def test_a_step_that_is_not_known_is_refused_with_its_line(text: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        SCRIPT.parse_dockerfile(text)


def test_lines_are_joined_and_comments_between_them_left_out() -> None:
    (_, step) = SCRIPT.parse_dockerfile("# about\nFROM a\n\nRUN one \\\n# between\n && two\n")

    assert step == (4, "RUN", "one && two")


def test_steps_hand_on_user_place_and_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = list[tuple[str, str, str, str]]()
    monkeypatch.setattr(
        SCRIPT.ImageRoot,
        "run",
        lambda root, command: ran.append((root.user, str(root.place), root.variables.get("A", ""), command)),
    )
    (tmp_path / "srv/part").mkdir(parents=True)
    root = SCRIPT.ImageRoot(tmp_path)
    text = "FROM a\nUSER me\nENV A=1 B='two words' C=/srv\nWORKDIR $C\nCOPY --chown=me:us pyproject.toml ./\n"
    for step in SCRIPT.parse_dockerfile(text + "WORKDIR part\nCOPY sweeps sweeps\nRUN act\n")[1:]:
        SCRIPT.RUNNERS[step.keyword](root, step.text)

    assert ran == [
        ("root", "/", "", "mkdir -p /srv"),
        ("root", "/srv", "", "chown -R me:us /srv/pyproject.toml"),
        ("root", "/", "", "mkdir -p /srv/part"),
        ("root", "/srv/part", "", "chown -R root:root /srv/part/sweeps"),
        ("me", "/srv/part", "1", "act"),
    ]
    assert root.variables["B"] == "two words"
    assert (tmp_path / "srv/pyproject.toml").is_file()
    assert (tmp_path / "srv/part/sweeps/imbalance.yaml").is_file()


def test_all_files_name_one_image_and_its_name_says_what_is_in_it() -> None:
    tags = {tag for page in PAGES for tag in IMAGE.findall(page.read_text(encoding="utf-8"))}
    version = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    (tag,) = tags

    assert tag.startswith(f"{version}-")
    assert parse_ray_version(tag) == find_pin("ray")
    assert parse_python_version(tag) == parse_python_version(STEPS[0].text)
    assert parse_cuda_version(tag) == int(find_pin("nvidia-cuda-runtime").split(".")[0])


def test_the_layer_of_cuda_has_torch_and_all_of_nvidia_s_packages() -> None:
    (layer,) = [step.text for step in STEPS if "/tmp/cuda.lock" in step.text]
    (pattern,) = re.findall(r"grep -E '([^']+)'", layer)
    chosen = [line for line in LOCK.splitlines() if re.search(pattern, line)]

    assert [line for line in LOCK.splitlines() if re.match(r"torch==|triton==|nvidia-|cuda-", line)] == chosen
    assert len(chosen) > 10


def test_nodes_find_the_environment_where_the_image_has_it() -> None:
    commands = yaml.safe_load(AWS.read_text(encoding="utf-8"))["setup_commands"]
    unpacked = next(place for place, command in enumerate(commands) if "unpack-image.sh" in command)
    installs = [place for place, command in enumerate(commands) if "-m venv ~/env" in command or "uv pip" in command]

    assert any("python3 -m venv ~/env" in step.text for step in STEPS)
    assert [step.text for step in STEPS if step.keyword in ("USER", "WORKDIR")] == ["ubuntu", "$HOME/gapctl", "$HOME"]
    assert unpacked < min(installs)
    assert commands[unpacked].endswith("|| true")


def test_the_image_has_what_nodes_get_of_the_checkout_and_no_compiler() -> None:
    mounts = set(yaml.safe_load(AWS.read_text(encoding="utf-8"))["file_mounts"].values())
    words = [step.text.split() for step in STEPS if step.keyword == "COPY"]
    copied = {word for each in words for word in each[:-1] if not word.startswith("--")}
    (install,) = [step.text for step in STEPS if "apt-get install" in step.text]

    assert copied == mounts - {"docs/cluster"}
    assert not re.search(r"gcc|g\+\+|build-essential|clang|-dev\b", install)


SUDO = '#!/bin/sh\nexec "$@"\n'
DOCKER = """#!/bin/sh
echo "$@" >> "$LOG"
case $1 in
  pull) exit $PULL;;
  run) mkdir -p "$HOME/env.part/bin" && printf '#!/bin/sh\\nexit $STARTS\\n' > "$HOME/env.part/bin/ray"
       chmod +x "$HOME/env.part/bin/ray";;
  login) cat > /dev/null;;
esac
"""
AWS_CLIENT = '#!/bin/sh\necho "aws $@" >> "$LOG"\necho password\n'


def unpack(folder: Path, image: str = "mine/gapctl:1", pull: int = 0, starts: int = 0) -> tuple[int, Path, str]:
    """Run the script with stand-ins for docker, sudo and aws: its exit code, the environment's folder, their calls."""
    home, tools = folder / "home", folder / "tools"
    for path in (home, tools):
        path.mkdir(exist_ok=True)
    for name, text in {"sudo": SUDO, "docker": DOCKER, "aws": AWS_CLIENT, "chown": "#!/bin/sh\n"}.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    log = folder / "log"
    log.touch()
    given = {"HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}", "LOG": str(log)}
    ran = subprocess.run(
        ["bash", str(UNPACK), image],
        env={**given, "PULL": str(pull), "STARTS": str(starts)},
        capture_output=True,
        check=False,
    )
    return ran.returncode, home / "env", log.read_text()


def test_the_environment_of_the_image_becomes_that_of_the_node(tmp_path: Path) -> None:
    code, environment, calls = unpack(tmp_path)

    assert code == 0
    assert (environment / "bin" / "ray").is_file()
    assert not environment.with_name("env.part").exists()
    assert "pull --quiet mine/gapctl:1" in calls
    assert """mine/gapctl:1 -c cp -a "$HOME"/env/. /part/""" in calls
    assert "login" not in calls


@pytest.mark.parametrize(("pull", "starts"), [(1, 0), (0, 1)], ids=["no image", "another Python"])
def test_where_the_image_cannot_be_had_or_used_nothing_is_left_behind(tmp_path: Path, pull: int, starts: int) -> None:
    code, environment, _ = unpack(tmp_path, pull=pull, starts=starts)

    assert code == 1
    assert list(environment.parent.iterdir()) == []


def test_an_environment_that_is_there_stays(tmp_path: Path) -> None:
    own = tmp_path / "home" / "env" / "own"
    own.mkdir(parents=True)
    code, _, calls = unpack(tmp_path, pull=1)

    assert (code, calls) == (0, "")
    assert own.exists()


def test_a_registry_of_aws_lets_in_the_machine_s_role(tmp_path: Path) -> None:
    code, _, calls = unpack(tmp_path, "12345.dkr.ecr.eu-west-1.amazonaws.com/gapctl:1")

    assert code == 0
    assert "aws ecr get-login-password --region eu-west-1" in calls
    assert "login --username AWS --password-stdin 12345.dkr.ecr.eu-west-1.amazonaws.com" in calls
