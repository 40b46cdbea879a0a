"""What docs/security.md says, where no test of a part says it already."""

import ast
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from command_line import gapctl
from gapctl.cli.ui import ui_command
from gapctl.config.base import SpecError
from gapctl.config.load import load_sweep_text
from gapctl.errors import InputError
from gapctl.ledger import Ledger
from gapctl.training.checkpoint import unpack_weights
from package_code import PACKAGE, calls
from sweep_texts import TINY, written


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> object:
        return Path.touch, (Path("executed"),)


@pytest.fixture(autouse=True)
def _nothing_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("executed").exists()


def test_the_bomb_works() -> None:
    pickle.loads(pickle.dumps(Bomb()))

    assert Path("executed").exists()
    Path("executed").unlink()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [pickle.dumps(Bomb()), b"\x80\x04.", b""], ids=["a bomb", "a stub", "nothing"])
def test_weights_that_are_a_pickle_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        unpack_weights(content)


def test_weights_with_a_pickle_in_torch_s_own_format_are_refused(tmp_path: Path) -> None:
    torch.save({"weight": Bomb()}, tmp_path / "weights.pt")

    with pytest.raises(ValueError, match=r"."):
        unpack_weights((tmp_path / "weights.pt").read_bytes())


TAG = "!!python/object/apply:pathlib.Path.touch [executed]"


def test_a_tag_in_a_sweep_file_makes_nothing() -> None:
    with pytest.raises(SpecError, match="found the tag"):
        load_sweep_text(f"{TINY}alpha: {TAG}\n", Path("sweep.yaml"))


@pytest.mark.parametrize("verb", ["lint", "cost"])
def test_a_tag_in_a_cluster_file_or_in_a_table_of_prices_makes_nothing(tmp_path: Path, verb: str) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"provider: {{type: aws}}\nx: {TAG}\n")
    shipped, sweep = PACKAGE.parents[1] / "cluster.yaml", written(tmp_path, TINY)

    assert gapctl("cluster", verb, str(bad), "--sweep", str(sweep)).exit_code == 2
    assert gapctl("cluster", verb, str(shipped), "--sweep", str(sweep), "--prices", str(bad)).exit_code == 2


def test_every_reader_of_weights_refuses_objects() -> None:
    found = calls("torch", "load")

    assert found
    for call in found:
        assert any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords)


def test_no_reader_of_arrays_allows_objects() -> None:
    found = calls("np", "load")

    assert found
    for call in found:
        assert not any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in call.keywords)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pickle", "load"),
        ("pickle", "loads"),
        ("cloudpickle", "loads"),
        ("yaml", "load"),
        ("yaml", "unsafe_load"),
        ("yaml", "full_load"),
        ("os", "system"),
        ("joblib", "load"),
    ],
)
def test_nothing_in_the_package_runs_what_it_reads(module: str, name: str) -> None:
    assert [ast.unparse(call) for call in calls(module, name)] == []


def test_no_command_of_ours_goes_through_a_shell() -> None:
    for call in [*calls("subprocess", "run"), *calls("subprocess", "Popen")]:
        assert not any(word.arg == "shell" for word in call.keywords)


def test_pages_are_served_to_this_machine_alone_unless_one_says_otherwise() -> None:
    assert inspect.signature(ui_command).parameters["host"].default == "127.0.0.1"


LOCAL_RAY = """
import json
from gapctl.sweep.ray_session import open_ray_session
with open_ray_session(None):
    import ray
    from ray._private.authentication.authentication_utils import is_token_auth_enabled
    print(json.dumps({"dashboard": ray._private.worker.global_worker.node.webui_url, "token": is_token_auth_enabled()}))
"""


def test_a_sweep_s_own_ray_has_no_dashboard_and_asks_for_a_token() -> None:
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    sources = os.pathsep.join([str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", LOCAL_RAY],
        env={**without, "PYTHONPATH": sources},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"dashboard": "", "token": True}


ADDRESS = "ftp://me:hunter2@host/x"


@pytest.mark.parametrize("words", [("--set", f"base.data.source={ADDRESS}"), ("--runs", ADDRESS)])
def test_an_address_with_a_password_is_refused_and_not_repeated(tmp_path: Path, words: tuple[str, str]) -> None:
    found = gapctl("status", str(written(tmp_path, TINY)), *words)

    assert found.exit_code == 2
    assert "an address with a password" in found.err
    assert "hunter2" not in found.err + found.out


def test_no_ledger_begins_at_an_address_with_a_password() -> None:
    with pytest.raises(InputError, match=r"me:\*\*\*@host"):
        Ledger(ADDRESS)


def test_a_wrong_override_is_repeated_without_its_password(tmp_path: Path) -> None:
    found = gapctl("plan", str(written(tmp_path, TINY)), "--set", "trackng.uri=postgresql://me:hunter2@host/runs")

    assert found.exit_code == 2
    assert "hunter2" not in found.err


def test_the_plain_loader_is_a_safe_one() -> None:
    from gapctl.config.yaml_file import PlainLoader

    assert issubclass(PlainLoader, yaml.SafeLoader)
