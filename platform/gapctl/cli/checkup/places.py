"""Where gapctl writes: the runs folder, the cache with MAD's images, Ray's temporary folder and MLflow's store."""

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from gapctl.cli.checkup.check import Check
from gapctl.errors import GapctlError, InputError
from gapctl.folders import CACHE_REMEDY, cache_root, expand_home
from gapctl.proxies import bypass_proxies

GB = 1e9
LEAST_SPACE, WANTED_SPACE = 0.2 * GB, 2.0 * GB
RAY_STOPS_AT = 0.95
"""How full a disk may be for Ray to write shared arrays to it."""
ANSWER_SECONDS = 2.0


def folder_checks(runs: str) -> list[Check]:
    """The runs folder (or an object store's address), the cache, and Ray's temporary folder."""
    from gapctl.sweep.ray_folder import default_ray_folder

    return [runs_check(runs), cache_check(), temporary_check(default_ray_folder())]


def usual_tracking() -> str:
    """MLflow's store of a sweep file that names none."""
    from gapctl.spec.sweep import Tracking

    return Tracking().uri


def runs_check(runs: str) -> Check:
    """The ledger; an object store is not asked."""
    if "://" in runs:
        return Check("runs", "ok", f"{runs}: an object store, which is not asked now")
    return folder_check("runs", expand_home(runs).absolute(), "give another folder with --runs or GAPCTL_RUNS")


def cache_check() -> Check:
    """The folder of MAD's images."""
    from gapctl.data.mad.store import cache_folder

    try:
        return folder_check("cache", cache_folder(), CACHE_REMEDY)
    except InputError:
        return Check("cache", "problem", "no home folder is known", CACHE_REMEDY)


def folder_check(name: str, folder: Path, elsewhere: str) -> Check:
    """Whether the folder, or the nearest one above it that there is, can be written, and how much room it has."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        return Check(name, "problem", f"{folder}: cannot be written ({error.strerror})", elsewhere)
    found, fix = f"{folder}: {free / GB:,.1f} GB free", f"free some space, or {elsewhere}"
    if free < LEAST_SPACE:
        return Check(name, "problem", found, fix)
    return Check(name, "warning", found, fix) if free < WANTED_SPACE else Check(name, "ok", found)


def images_check(source: str) -> Check:
    """Whether MAD's images are in the cache, both splits whole."""
    from gapctl.data.mad.source import SPLITS
    from gapctl.data.mad.store import find_variants

    try:
        cache_root()
    except InputError as error:
        return Check("MAD's images", "warning", "not made yet", str(error))
    try:
        splits = [find_variants(source, split) for split in SPLITS]
    except GapctlError as error:
        return Check("MAD's images", "problem", str(error), "install gapctl again")
    found = [split.images_NVHW.shape[:2] for split in splits if split is not None]
    if len(found) < len(splits):
        fix = "gapctl data mad makes them in about a minute; a sweep does it too"
        return Check("MAD's images", "warning", "not made yet", fix)
    return Check("MAD's images", "ok", f"{sum(digits * shapes for digits, shapes in found):,} in the cache")


def temporary_check(folder: Path) -> Check:
    """Ray's sessions live there, and shared arrays that do not fit into shared memory."""
    from gapctl.sweep.ray_folder import SHORT, find_fault

    fault = find_fault(folder)
    used = Path(SHORT) if fault and not folder.is_dir() else folder
    elsewhere = "" if fault is None else f"; Ray's sockets go to {SHORT} instead: {fault}"
    if fault is not None and not os.access(SHORT, os.W_OK | os.X_OK):
        found = f"{folder}: {fault}; and {SHORT}, where Ray's sockets would go instead, cannot be written"
        return Check("temporary folder", "problem", found, "set RAY_TMPDIR to a short folder that can be written")
    disk = shutil.disk_usage(used)
    share = disk.used / (disk.used + disk.free)
    found = (
        f"{folder}: the disk of {used} is {share:.0%} full"
        if used != folder
        else f"{folder}: its disk is {share:.0%} full"
    )
    if share > RAY_STOPS_AT:
        fix = f"free some space: Ray writes no arrays to a disk that is over {RAY_STOPS_AT:.0%} full"
        return Check("temporary folder", "warning", f"{found}{elsewhere}", fix)
    return Check("temporary folder", "ok", f"{found}{elsewhere}")


def tracking_check(uri: str) -> Check:
    """Whether MLflow's store can be written, or will be able to once a sweep makes it."""
    from gapctl.tracking.revision import OtherDatabaseError
    from gapctl.tracking.uri import check_uri, database_file, is_server

    try:
        check_uri(uri)
    except OtherDatabaseError as error:
        return Check("MLflow", "problem", error.finding, error.fix)
    except InputError as error:
        return Check("MLflow", "problem", str(error), "correct tracking.uri")
    if is_server(uri):
        return _server_check(uri)
    file = database_file(uri)
    return _database_check(file) if file else Check("MLflow", "ok", "a database server, which is not asked now")


def _database_check(file: Path) -> Check:
    if not file.exists() or not file.stat().st_size:
        return Check("MLflow", "ok", f"{file}: the first sweep makes it")
    from gapctl.tracking.revision import open_to_read

    try:
        with closing(open_to_read(file)) as store:
            (runs,) = store.execute("SELECT COUNT(*) FROM runs WHERE lifecycle_stage = 'active'").fetchone()
    except sqlite3.Error as error:
        fix = "move it away; `gapctl track sync FILE` makes it anew from the ledger"
        return Check("MLflow", "problem", f"{file}: no MLflow store can be read there ({error})", fix)
    return Check("MLflow", "ok", f"{file}: {runs:,} runs")


def _server_check(uri: str) -> Check:
    from gapctl.spec.secrets import without_password

    shown = without_password(uri)
    bypass_proxies(uri)
    try:
        with urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_SECONDS):
            return Check("MLflow", "ok", f"{shown}: answers")
    except (URLError, OSError, ValueError) as error:
        fix = "start it; a sweep keeps its metrics meanwhile, and `gapctl track sync FILE` catches up"
        return Check("MLflow", "warning", f"{shown}: does not answer ({getattr(error, 'reason', error)})", fix)
