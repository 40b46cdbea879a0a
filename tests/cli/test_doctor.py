"""`gapctl doctor` names what is missing with its fix, and survives whatever it finds."""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from command_line import Answer
from gapctl.cli import doctor as importing
from gapctl.cli import doctor as machine
from gapctl.cli import doctor as packages
from gapctl.cli import doctor as places
from gapctl.cli.doctor import CheckResult, doctor_command
from gapctl.data.mad.images import load_variant_images
from idx_files import write_digits
from mlflow_database import write_empty_database
from one_verb import run_verb

GB = 10**9
PLATFORM = Path(__file__).parents[2] / "platform"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Answer, Path]:
    """One real look at this machine, with folders of its own."""
    folder = tmp_path_factory.mktemp("doctor")
    ran = run_verb(
        doctor_command, "--runs", str(folder / "runs"), "--tracking", f"sqlite:///{folder}/mlflow.db", "--json"
    )
    return ran, folder


def test_every_question_gets_an_answer(told: tuple[Answer, Path]) -> None:
    ran, _ = told
    names = {check["name"] for check in json.loads(ran.out)["checks"]}

    always = {"Python", "cores", "memory", "shared memory", "open files", "runs", "cache", "temporary folder"}
    assert always | {"MAD's images", "MLflow", "imports", "number format", "GPU"} <= names
    assert ran.err == ""


def test_the_exit_code_says_whether_there_is_a_problem(told: tuple[Answer, Path]) -> None:
    ran, _ = told
    document = json.loads(ran.out)
    states = [check["state"] for check in document["checks"]]

    assert document["totals"] == {state: states.count(state) for state in ("ok", "warning", "problem")}
    assert ran.exit_code == (1 if "problem" in states else 0)
    assert all(check["fix"] for check in document["checks"] if check["state"] == "problem")


def test_looking_leaves_nothing_behind(told: tuple[Answer, Path]) -> None:
    _, folder = told

    assert list(folder.iterdir()) == []


def test_it_tells_what_is_missing_where_a_package_is_gone_and_starts_no_ray(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['numpy'] = None\n"
        "import typer; from gapctl.cli import doctor, main\n"
        "doctor.list_modules = lambda packages, thorough: ['yaml', 'no_such_module']\n"
        "from gapctl.cli.doctor import doctor_command; app = typer.Typer(); app.command()(doctor_command)\n"
        "main.app = app\n"
        "try: main.run(['--runs', 'runs'])\n"
        "finally: print('heavy:', sorted({'ray', 'torch', 'mlflow'} & set(sys.modules)))"
    )
    ran = python(script, tmp_path)

    assert ran.returncode == 1
    assert ran.stderr == ""
    assert "heavy: []" in ran.stdout
    text = " ".join(ran.stdout.split())
    assert "problem MAD's images cannot be looked at: numpy is not installed fix: python -m pip install gapctl" in text
    assert "ModuleNotFoundError: No module named 'no_such_module' no_such_module fix: install the package" in text
    assert "3 problems" in text


def python(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(PLATFORM)},
    )


def test_a_single_core_is_a_warning() -> None:
    assert machine.check_cores(1).state == "warning"
    assert machine.check_cores(2).state == "ok"


@pytest.mark.parametrize(("available", "state"), [(0.5, "problem"), (2.0, "warning"), (16.0, "ok")])
def test_memory_is_weighed_against_the_trials_trained_at_once(available: float, state: str) -> None:
    found = machine.check_memory(available * GB, cores=4)

    assert found.state == state
    assert "--set resources.cpus=4" in found.fix if state == "warning" else True


def test_this_machine_tells_cores_and_memory() -> None:
    assert 1 <= machine.count_usable_cores() <= (os.cpu_count() or 1)
    assert (machine.read_available_memory() or 1) > 0


class Usage(NamedTuple):
    """What shutil.disk_usage gives; stands in for a disk that a test cannot fill."""

    total: int
    used: int
    free: int


def with_disk(monkeypatch: pytest.MonkeyPatch, free: float, total: float = 100 * GB) -> None:
    usage = Usage(int(total), int(total - free), int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)


def test_little_shared_memory_is_a_warning_with_docker_s_option(monkeypatch: pytest.MonkeyPatch) -> None:
    with_disk(monkeypatch, free=0.064 * GB)
    found = machine.check_shared_memory(Path("/tmp"))

    assert found.state == "warning"
    assert found.found == "0.06 GB free in /tmp"
    assert "--shm-size=2g" in found.fix


def test_few_open_files_are_a_warning_only_where_ray_cannot_raise_the_limit() -> None:
    assert machine.check_open_files(1024, 1_048_576).state == "ok"
    assert machine.check_open_files(1024, -1).found == "limit 1,024, which Ray may raise to no limit"
    found = machine.check_open_files(1024, 4096)
    assert (found.state, "ulimit -Hn 8192" in found.fix) == ("warning", True)


@pytest.mark.parametrize(("free", "state"), [(0.1, "problem"), (1.0, "warning"), (50.0, "ok")])
def test_a_folder_needs_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: float, state: str) -> None:
    with_disk(monkeypatch, free * GB)
    found = places.check_runs(str(tmp_path / "new" / "runs"))

    assert found.state == state
    assert f"{free:.1f} GB free" in found.found
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    found = places.check_runs(str(tmp_path / "runs"))

    assert found.state == "problem"
    assert "cannot be written (Not a directory)" in found.found
    assert "--runs" in found.fix


def test_an_object_store_is_not_asked() -> None:
    assert places.check_runs("s3://bucket/runs") == CheckResult(
        "runs", "ok", "s3://bucket/runs: an object store, which is not asked now"
    )


def test_a_disk_that_ray_would_not_write_to_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with_disk(monkeypatch, free=4 * GB)
    assert places.check_temporary_folder(Path("/tmp")).state == "warning"
    with_disk(monkeypatch, free=6 * GB)
    assert places.check_temporary_folder(Path("/tmp")).state == "ok"


def test_mad_s_images_are_missing_until_both_splits_are_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    source = str(write_digits(tmp_path / "digits", train=1, test=1))

    load_variant_images(source, "train", workers=1)
    half = places.check_images(source)
    load_variant_images(source, "test", workers=1)
    assert (half.state, "gapctl data mad" in half.fix) == ("warning", True)
    assert places.check_images(source) == CheckResult("MAD's images", "ok", "48 in the cache")


def test_a_store_that_a_sweep_will_make_is_fine(tmp_path: Path) -> None:
    found = places.check_tracking(f"sqlite:///{tmp_path}/mlflow.db")

    assert (found.state, found.found) == ("ok", f"{tmp_path}/mlflow.db: the first sweep makes it")


def test_the_runs_of_a_real_store_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    uri = f"sqlite:///{write_empty_database(tmp_path / 'mlflow.db')}"
    client = MlflowClient(uri)
    for _ in range(3):
        client.create_run("0")

    assert places.check_tracking(uri) == CheckResult("MLflow", "ok", f"{tmp_path}/mlflow.db: 3 runs")


def test_a_damaged_store_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 8)
    found = places.check_tracking(f"sqlite:///{file}")

    assert found.state == "problem"
    assert "gapctl track sync" in found.fix


def test_an_address_that_mlflow_cannot_use_is_a_problem() -> None:
    assert places.check_tracking("ftp://somewhere/mlflow").state == "problem"


@pytest.fixture
def health() -> Iterator[str]:
    class Healthy(http.server.BaseHTTPRequestHandler):
        """Stands in for an MLflow server, of which only the health page is asked."""

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *parts: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_server_is_asked_whether_it_lives(health: str) -> None:
    assert places.check_tracking(health) == CheckResult("MLflow", "ok", f"{health}: answers")


def test_a_server_that_is_away_is_a_warning_since_a_sweep_waits_for_it() -> None:
    found = places.check_tracking("http://127.0.0.1:9")

    assert found.state == "warning"
    assert "gapctl track sync" in found.fix


def installed(folder: Path, name: str, version: str, *needs: str) -> None:
    """Puts a package's metadata where Python looks for it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs), ""]))


def test_missing_and_old_packages_are_named_with_who_requires_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(tmp_path, "gap_above", "1.0", "gap_below[fast]>=1", "gap_old>=3", "gap_gone>=1", 'win; os_name == "nt"')
    installed(tmp_path, "gap_below", "1.5", 'gap_old<2; extra == "fast"', 'never; extra == "slow"')
    installed(tmp_path, "gap_old", "2.0")

    assert packages.check_packages("gap_above") == [
        CheckResult(
            "gap_old", "problem", "2.0, and gap_above requires gap_old>=3", 'python -m pip install "gap_old>=3"'
        ),
        CheckResult(
            "gap_gone", "problem", "not installed; gap_above requires it", 'python -m pip install "gap_gone>=1"'
        ),
        CheckResult("gap_old", "warning", "2.0, and gap_below requires gap_old<2", 'python -m pip install "gap_old<2"'),
    ]


def test_packages_that_are_as_required_take_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    installed(tmp_path, "gap_top", "1.0", "gap_base>=1")
    installed(tmp_path, "gap_base", "1.0", "gap_ground")
    installed(tmp_path, "gap_ground", "1.0")

    assert packages.check_packages("gap_top") == [
        CheckResult("packages", "ok", "1 and the 1 that they need, all as required")
    ]


def test_every_package_that_gapctl_requires_has_a_module_to_import() -> None:
    from importlib.util import find_spec

    modules = importing.list_modules(packages.list_required_packages(), thorough=True)
    assert [module for module in modules if find_spec(module.split(".")[0]) is None] == []
    assert {"torch", "ray", "mlflow", "open_clip"} <= set(modules)


def module(folder: Path, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(text)
    return name


def test_modules_that_raise_crash_or_chatter_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    imported = importing.ImportProbe(
        [
            module(tmp_path, "chatters", "print('hello'); import os; os.write(1, b'{}')"),
            module(tmp_path, "raises", "import nothing_of_that_name"),
            module(tmp_path, "leaves", "raise SystemExit('go away')"),
            module(tmp_path, "crashes", "import os; os._exit(7)"),
            module(tmp_path, "comes_after", ""),
        ]
    ).result()

    assert imported.loaded == ("chatters",)
    assert imported.errors == {
        "raises": "ModuleNotFoundError: No module named 'nothing_of_that_name'",
        "leaves": "SystemExit: go away",
        "crashes": "the process died while importing it (exit status 7)",
    }
    assert [check.state for check in importing.check_imports(imported, thorough=True)] == ["ok", *["problem"] * 3]


def test_a_module_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(importing, "IMPORT_TIMEOUT_SECONDS", 3.0)
    hangs = module(tmp_path, "hangs", "import time; time.sleep(60)")

    assert importing.ImportProbe([hangs]).result().errors == {"hangs": "did not load within 3 s"}


def seen(**changes: Any) -> dict[str, Any]:
    return {"units": ["AVX512"], "precision": "float32", "gpus": [], "cuda": None, "torch": "2.9"} | changes


def test_the_number_format_and_the_gpu_are_what_torch_sees() -> None:
    precision, gpu = importing.check_torch(seen(gpus=["NVIDIA H100 (85 GB)"], precision="bfloat16"), driver="550.54.15")

    assert precision.found == "AVX512: precision auto trains in bfloat16"
    assert gpu == CheckResult("GPU", "ok", "NVIDIA H100 (85 GB)")
    assert importing.check_torch(seen(), driver=None)[1].state == "ok"


@pytest.mark.parametrize(("cuda", "fix"), [(None, "install torch's CUDA build"), ("13.2", "nvidia-smi")])
def test_a_gpu_that_torch_cannot_use_is_a_warning(cuda: str | None, fix: str) -> None:
    gpu = importing.check_torch(seen(cuda=cuda), driver="550.54.15")[1]

    assert gpu.state == "warning"
    assert fix in gpu.fix
