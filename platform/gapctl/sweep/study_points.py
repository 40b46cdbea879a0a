"""The points of a study, by how they stand, to be matched with what a ledger's record says of the same search."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Literal, get_args

from gapctl.plan.search import Point

if TYPE_CHECKING:
    import optuna

REPEATS: Final = "gapctl.repeats"
"""Which failed point another one is drawn for once more."""
Standing = Literal["ended", "running", "waiting", "failed"]
STANDINGS: Final[tuple[Standing, ...]] = get_args(Standing)


class Here:
    """The points of a study that a record may tell of, each to be matched once, as twins are points of their own."""

    def __init__(
        self, trials: "Sequence[optuna.trial.FrozenTrial]", key: "Callable[[optuna.trial.FrozenTrial], Point]"
    ) -> None:
        repeated = {trial.user_attrs.get(REPEATS) for trial in trials}
        self._left = [(_standing(trial), key(trial), trial) for trial in trials if trial.number not in repeated]

    def take(self, point: Point, *standings: Standing) -> "optuna.trial.FrozenTrial | None":
        """A point like this that was not taken before, of the first of these standings that has one."""
        for wanted in standings:
            for place, (standing, found, trial) in enumerate(self._left):
                if standing == wanted and found == point:
                    del self._left[place]
                    return trial
        return None


def _standing(trial: "optuna.trial.FrozenTrial") -> Standing:
    name = trial.state.name
    if name == "FAIL":
        return "failed"
    return "ended" if trial.state.is_finished() else "running" if name == "RUNNING" else "waiting"
