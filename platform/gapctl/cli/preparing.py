"""Loading a trial's data while a person watches: a progress bar where variants have to be made first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from gapctl.spec.data import Data, PairData

if TYPE_CHECKING:
    from rich.console import Console

    from gapctl.data.load import Material


MAKING: Final = "making MAD's variants (once; they are cached)"


def load_data(data: Data, console: "Console", *, announce: bool = False) -> "Material":
    """The data of a configuration, made and cached at first use; `announce` as in `variants_bar`.

    Prints what of image-text pairs is left out, and why.
    """
    from gapctl.data.load import load_material

    with variants_bar(console, announce=announce) as show:
        loaded = load_material(data, on_progress=show)
    if isinstance(data, PairData):
        _print_left_out(data, console)
    return loaded


def _print_left_out(data: PairData, console: "Console") -> None:
    from gapctl.data.pairs.source import open_pairs, places_of
    from gapctl.data.pairs.tally import tally_of

    pairs = open_pairs(places_of(data))
    for source, manifest in {data.source: pairs.train, data.held_out or data.source: pairs.held_out}.items():
        tally = tally_of(manifest)
        if tally.lines:
            console.print(f"{source}: {tally.usable:,} usable of {tally.samples:,} samples", soft_wrap=True)
        for line in tally.lines:
            console.print(line, soft_wrap=True)


@contextmanager
def variants_bar(console: "Console", *, announce: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that appears at the first call (digits done, digits in all) and is gone in the end.

    Without a terminal there is none; there, `announce` has one line say what takes so long.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(MAKING, total=None, visible=False)

        def show(done: int, total: int) -> None:
            if announce and not console.is_terminal and not progress.tasks[task].visible:
                console.print(MAKING, highlight=False, markup=False, soft_wrap=True)
            progress.update(task, completed=done, total=total, visible=True)

        yield show
