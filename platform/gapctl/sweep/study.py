"""Draw the points of a search and decide which trainings to stop, with an Optuna study in memory.

The record in the ledger is the state of a search; every process replays it into a new `Study`. Ray Tune's own
OptunaSearch cannot resume like that: it keeps open points in Tune's experiment folder, and after a kill would leave
them running for ever and draw others.
"""

import math
from typing import TYPE_CHECKING, Final

from gapctl.config.sweep import Domain, Search
from gapctl.ledger.search_record import PointState
from gapctl.plan.plan import SearchPoint

if TYPE_CHECKING:
    import optuna


STARTUP_POINTS: Final = 10
"""Points drawn at random before the sampler uses outcomes; Optuna's default."""


class Study:
    """One search: `draw_point`, `add_point`, `record_measure` while it is trained, and `end_point`."""

    def __init__(self, search: Search, name: str) -> None:
        """Begin without points. `name` is the study's name in the ledger's record."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.name, self._search = name, search
        self._distributions = {path: _build_distribution(domain) for path, domain in search.space.items()}
        self._study = optuna.create_study(direction=search.direction, pruner=_build_pruner(search))
        self._trials: list[optuna.Trial] = []

    def draw_point(self) -> SearchPoint:
        """Return the point that the sampler draws after those added so far, rounded as it is trained.

        The study itself must know rounded points only, as a resumed one is replayed from them. So the sampler draws in
        a copy. It is seeded for this one point, so that a resumed search draws the same points.
        """
        import optuna

        seed = self._search.seed * 10_007 + len(self._trials)
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=seed)
        if self._search.sampler != "random":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP_POINTS, constant_liar=True)
        copy = optuna.create_study(direction=self._search.direction, sampler=sampler)
        copy.add_trials(self._study.get_trials(deepcopy=False))
        drawn = copy.ask(self._distributions).params
        return {path: domain.round(drawn[path]) for path, domain in self._search.space.items()}

    def add_point(self, point: SearchPoint) -> int:
        """Add a point that is to be trained and return its number, from 0 on."""
        self._study.enqueue_trial(dict(point))
        self._trials.append(self._study.ask(self._distributions))
        return self._trials[-1].number

    def record_measure(self, number: int, value: float, samples_seen: int) -> bool:
        """Record a new measure of a point in training and return whether to stop it."""
        self._trials[number].report(value, samples_seen)
        return self._trials[number].should_prune()

    def end_point(self, number: int, state: PointState, value: float) -> None:
        """Record that a point is done (with its final value), stopped or failed.

        NaN or infinity counts as worse than any number.
        """
        import optuna

        if state == "done" and math.isfinite(value):
            self._study.tell(number, value)
        else:
            ended = optuna.trial.TrialState.FAIL if state == "failed" else optuna.trial.TrialState.PRUNED
            self._study.tell(number, state=ended)

    def compute_importance(self) -> dict[str, float]:
        """Return each path's share of the metric's variation (PED-ANOVA, arXiv 2304.10255), {} for few points."""
        import optuna

        done = self._study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        if len(done) <= len(self._distributions) or len({trial.value for trial in done}) < 2:
            return {}
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        return {path: round(float(share), 6) for path, share in found.items()}


def _build_pruner(search: Search) -> "optuna.pruners.BasePruner":
    import optuna

    if search.stop_early is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.SuccessiveHalvingPruner(search.stop_early.after, search.stop_early.reduce)


def _build_distribution(domain: Domain) -> "optuna.distributions.BaseDistribution":
    import optuna

    if domain.choice is not None:
        return optuna.distributions.CategoricalDistribution(list(domain.choice))
    return optuna.distributions.FloatDistribution(*domain.ends, log=domain.kind == "log")
