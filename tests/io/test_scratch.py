"""Temporary folders end with what made them, and those of a killed process with the next one's start."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from gapctl.io.scratch import LOCKED, PREFIX, ScratchFolder, delete_abandoned_folders

OWNER = """
import sys, time
from pathlib import Path
from gapctl.io.scratch import ScratchFolder
with ScratchFolder("tune", Path(sys.argv[1])) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("1")
    print(folder, flush=True)
    sys.stdin.read()
"""


def start_owner(parent: Path) -> "subprocess.Popen[str]":
    """A process that has a folder until its input ends."""
    command = [sys.executable, "-c", OWNER, str(parent)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def read_folder(owner: "subprocess.Popen[str]") -> Path:
    assert owner.stdout is not None
    return Path(owner.stdout.readline().strip())


def test_the_folder_of_a_killed_process_goes_when_the_next_one_starts_and_those_of_others_stay(tmp_path: Path) -> None:
    with start_owner(tmp_path) as killed, start_owner(tmp_path) as living:
        left, used = read_folder(killed), read_folder(living)
        killed.kill()
        killed.wait()
        assert (left / "inner" / "file").exists()
        with start_owner(tmp_path) as following:
            new = read_folder(following)
            assert not left.exists()
            assert {used, new} == set(tmp_path.iterdir())
            following.communicate()
        living.communicate()
    assert not list(tmp_path.iterdir())


def test_a_folder_goes_with_its_context_or_its_object_and_stays_under_another_name(tmp_path: Path) -> None:
    with ScratchFolder("index", tmp_path) as folder:
        (folder / "part").write_text("1")
    assert not folder.exists()
    held = ScratchFolder("index", tmp_path)
    path = held.path
    assert path.is_dir()
    del held
    assert not path.exists()
    with ScratchFolder("pairs", tmp_path) as made:
        made.rename(tmp_path / "pairs")
    assert list(tmp_path.iterdir()) == [tmp_path / "pairs"]


def test_only_folders_named_so_are_taken_for_abandoned_and_no_links(tmp_path: Path) -> None:
    parent, elsewhere = tmp_path / "parent", tmp_path / "elsewhere"
    others = [parent / f"{PREFIX}tune-1", parent / f"other{LOCKED}", elsewhere, parent / f"{PREFIX}gone{LOCKED}"]
    for folder in others:
        folder.mkdir(parents=True)
        (folder / "file").write_text("1")
    (parent / f"{PREFIX}file{LOCKED}").write_text("1")
    (parent / f"{PREFIX}link{LOCKED}").symlink_to(elsewhere)

    delete_abandoned_folders(parent)
    delete_abandoned_folders(tmp_path / "missing")

    assert [folder.exists() for folder in others] == [True, True, True, False]
    assert sorted(path.name for path in parent.iterdir()) == sorted(
        [f"{PREFIX}tune-1", f"other{LOCKED}", f"{PREFIX}file{LOCKED}", f"{PREFIX}link{LOCKED}"]
    )


def test_folders_that_are_made_while_others_are_deleted_stay_whole(tmp_path: Path) -> None:
    def use_folder(number: int) -> bool:
        with ScratchFolder("tune", tmp_path) as folder:
            (folder / "file").write_text("1")
            for _ in range(3):
                delete_abandoned_folders(tmp_path)
            return [path.name for path in folder.iterdir()] == ["file"]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use_folder, range(100)))
    assert not list(tmp_path.iterdir())
