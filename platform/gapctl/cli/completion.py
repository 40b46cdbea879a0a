"""What the shell completes, beside files: sweeps, scales, trials of a ledger, metrics and settings.

`gapctl --install-completion` makes a shell ask for these at each press of the tab key, so that everything is quick: no
numpy, no torch, and of a ledger only the names of its folders. Where nothing is offered, as nothing can be read or a
path is expected, shells complete files by themselves.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from gapctl.config.load import SUFFIX, SWEEPS, locate_shipped_sweeps
from gapctl.errors import GapctlError

Offers = list[str]


def complete_sweeps(incomplete: str) -> Offers:
    """Offer the names of sweeps, and files that may hold one; a shell offers its own files where these are none."""
    with _quietly():
        names = [path.stem for folder in (Path(SWEEPS), locate_shipped_sweeps()) for path in folder.glob(f"*{SUFFIX}")]
        return [*_filter_names(sorted(names), incomplete), *_list_files(incomplete)]
    return []


def complete_scales(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the scales of the sweep that the command line names."""
    with _quietly():
        scales = _read_sweep(ctx).get("scales")
        return _filter_names(map(str, scales), incomplete) if isinstance(scales, dict) else []
    return []


def complete_trials(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the ids of the trials that have begun in the ledger of `--runs`."""
    from gapctl.ledger import Ledger

    with _quietly():
        runs = str(ctx.params.get("runs") or "runs")
        return [] if "://" in runs else _filter_names(Ledger(runs).list_trial_ids(), incomplete)
    return []


def complete_sets(incomplete: str) -> Offers:
    """Offer the names of evaluation sets that come with gapctl or with packages."""
    from gapctl.config.evaluation_sets import list_set_names

    return _filter_names(list_set_names(), incomplete)


def complete_metrics(incomplete: str) -> Offers:
    """Offer the names of metrics."""
    from gapctl.config.metrics import list_metric_names

    return _filter_names(list_metric_names(), incomplete)


def complete_settings(ctx: typer.Context, incomplete: str) -> Offers:
    """Offer the paths of settings that `--set` takes, up to the equals sign."""
    from gapctl.config.base import flatten_document
    from gapctl.config.settings import list_setting_paths
    from gapctl.config.trial import TrialConfig

    with _quietly():
        base = TrialConfig.model_validate(_read_sweep(ctx).get("base", {}))
        known = [path for path in list_setting_paths(base) if ".init_from." not in path]
        leaves = flatten_document(base.model_dump(exclude={"init_from"}, exclude_none=True))
        short = [path.rpartition(".")[2] for path in leaves]
        once = (name for name in short if short.count(name) == 1)
        return _filter_names((f"{name}=" for name in (*once, *known)), incomplete)
    return []


def _read_sweep(ctx: typer.Context) -> dict[str, object]:
    """Return the values of the first sweep that the command line names; empty where it names none."""
    from gapctl.config.load import find_sweep_file
    from gapctl.config.yaml_file import read_yaml

    # An option at the end that lacks its value keeps Typer from assigning the arguments before it.
    named = [*(ctx.params.get(key) for key in ("file", "files", "sweep")), *ctx.args]
    first = next((each[0] if isinstance(each, list | tuple) else each for each in named if each), None)
    return {} if first is None else read_yaml(find_sweep_file(Path(first))).document


def _list_files(incomplete: str) -> Iterable[str]:
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    return _filter_names(map(str, sorted(folder.glob(f"*{SUFFIX}"))), incomplete)


def _filter_names(names: Iterable[str], incomplete: str) -> Offers:
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


@contextmanager
def _quietly() -> Iterator[None]:
    """Offer nothing where a file or folder cannot be read: the verb itself says why."""
    with suppress(GapctlError, OSError, ValueError):
        yield
