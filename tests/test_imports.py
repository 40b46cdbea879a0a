"""Imports of what lasts to the end: nothing collects them, and a thread makes them while its caller waits."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from gapctl.imports import import_in_background, import_without_garbage_collection


def test_what_an_import_made_is_left_out_of_later_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gapctl_lasting.py").write_text("import gc\nwhile_importing = gc.isenabled()\nkept = [[]]\n")
    monkeypatch.syspath_prepend(tmp_path)
    gc.unfreeze()
    import_without_garbage_collection("gapctl_lasting")

    module = sys.modules.pop("gapctl_lasting")
    assert (module.while_importing, gc.isenabled()) == (False, True)
    assert not any(found is module.kept for found in gc.get_objects())


def test_a_module_that_is_there_already_changes_nothing() -> None:
    gc.unfreeze()
    import_without_garbage_collection("gapctl.imports")

    assert gc.get_freeze_count() == 0


def test_bindings_have_nothing_to_report_when_a_process_that_trains_exits() -> None:
    program = (
        "from gapctl.imports import collect_garbage_at_exit, import_without_garbage_collection\n"
        "import_without_garbage_collection('triton')\n"
        "collect_garbage_at_exit()\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert (ended.stdout, ended.stderr) == ("", "")


def test_a_plan_needs_no_statistics() -> None:
    program = (
        "import sys, gapctl.cli.plan\nprint([name for name in ('scipy', 'torch', 'polars') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert ended.stdout.strip() == "[]"


def test_a_module_is_there_once_its_caller_has_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with import_in_background("colorsys"):
        pass

    assert "colorsys" in sys.modules


def test_a_failed_import_in_the_background_is_left_to_the_caller_s_own(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with import_in_background("gapctl.there_is_no_such_module"):
        pass

    assert gc.isenabled()
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ModuleNotFoundError):
        import_without_garbage_collection("gapctl.there_is_no_such_module")
