"""gapctl works, or says in one message what to do, where a home or a folder is missing, and behind a proxy."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest

from command_line import gapctl
from gapctl.errors import InputError
from gapctl.folders import expand_home, find_cache_root
from gapctl.proxies import bypass_proxies

NOBODY = "import pwd\ndef unknown(*of): raise KeyError(of)\npwd.getpwuid = pwd.getpwnam = unknown\n"
"""A user without an entry in /etc/passwd, whom a test without rights cannot become."""


def run_without_home(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    script = f"{NOBODY}from gapctl.cli.main import run; run({list(arguments)!r})"
    homeless = {name: value for name, value in os.environ.items() if name not in ("HOME", "USER", "LOGNAME")}
    homeless.pop("GAPCTL_CACHE", None)
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={**homeless, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_page_needs_no_home_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "e.npz", image=rng.normal(size=(64, 16)), text=rng.normal(size=(64, 16)))

    ran = run_without_home(tmp_path, "measure", "--embeddings", "e.npz", "--report", "page.html")

    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "page.html").stat().st_size > 100_000
    assert {path.name for path in tmp_path.iterdir()} == {"e.npz", "page.html"}


@pytest.mark.parametrize("environment", [{}, {"HOME": "/nonexistent"}])
def test_what_needs_the_cache_asks_for_one_where_no_home_is_known(tmp_path: Path, environment: dict[str, str]) -> None:
    ran = run_without_home(tmp_path, "data", "mad", **environment)

    assert ran.returncode == 2
    assert ran.stderr == "gapctl: no home folder is known; set GAPCTL_CACHE to a folder that can be written\n"


def test_the_home_of_a_user_who_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="~nobody-of-that-name/runs: no home folder of that user is known"):
        expand_home("~nobody-of-that-name/runs")
    answer = gapctl("data", "index", "~nobody-of-that-name/shards")
    assert answer.exit_code == 2
    assert "Traceback" not in answer.err


def test_the_cache_lies_where_it_is_said_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GAPCTL_CACHE", raising=False)
    assert find_cache_root() == tmp_path / ".cache" / "gapctl"

    monkeypatch.setenv("GAPCTL_CACHE", "~/elsewhere")
    assert find_cache_root() == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    "arguments", [["list"], ["ui"], ["doctor"], ["measure", "--embeddings", "e.npz"], ["data", "index", "shards"]]
)
def test_a_working_folder_that_was_deleted_is_said_by_every_verb(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    answer = gapctl(*arguments)

    assert answer.exit_code == 2
    assert answer.out == ""
    assert answer.err.startswith("gapctl: the folder that you are in cannot be used (No such file or directory)")
    assert answer.err.count("\n") == 1


class Pages(http.server.BaseHTTPRequestHandler):
    """Answers every question, in silence."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"here")

    def log_message(self, *words: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def port() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def refusing_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.mark.usefixtures("refusing_proxy")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_server_on_this_machine_is_asked_without_the_proxy(host: str, port: int) -> None:
    import requests

    bypass_proxies(f"http://{host}:{port}")

    with urlopen(f"http://{host}:{port}/health") as answer:
        assert answer.read() == b"here"
    assert requests.get(f"http://{host}:{port}/health", timeout=10).text == "here"


@pytest.mark.usefixtures("refusing_proxy")
@pytest.mark.parametrize("address", ["http://head.example.org:5000", "sqlite:///mlflow.db", "http://[::1", "192.0.2.1"])
def test_any_other_server_is_asked_through_the_proxy(address: str) -> None:
    bypass_proxies(address)

    assert os.environ["no_proxy"] == ""


def test_what_the_environment_excepts_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", ".example.org, 10.0.0.1")
    monkeypatch.setenv("no_proxy", "")

    bypass_proxies("http://[::1]:5000")
    bypass_proxies("http://[::1]:5000")

    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == ".example.org,10.0.0.1,::1,[::1]"
