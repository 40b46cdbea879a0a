"""How often correlations over a cohort of models are wrong, and how often their intervals hold the truth.

    python benchmarks/simulated_cohorts.py [--rounds 1000] [--only TEXT ...] [--out benchmarks/results]
    python benchmarks/simulated_cohorts.py --tables      # only writes the tables of what is there

Cohorts of 30 and 101 models in 12 strata as unequal as those of public models. A metric is the sum of a part that the
models of a stratum share and a part of the model's own. Each round draws a cohort whose truth is known, and takes it
through the functions that verdicts use. Writes `simulated_cohorts.json` and the tables in docs/statistics.md. Random
numbers are seeded by the case's name. Half an hour in one process.
"""

import argparse
import json
import math
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from gapctl.analysis.cohort import Units, compare_cohort_metric_ranks
from gapctl.analysis.correlation import compute_directional_p
from gapctl.analysis.estimates import Direction, is_significant
from gapctl.analysis.hypothesis_effects import judge_interval
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.random_intercept import estimate_slopes
from gapctl.analysis.results import EstimateWithInterval, Interval
from gapctl.analysis.stratified_tau import compute_strata_bootstrap_interval, estimate_tau, run_model_permutation_test
from gapctl.config.hypotheses import Scope
from simulated_tables import write_between

HERE = Path(__file__).resolve().parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs" / "statistics.md"
BEGIN, END = "<!-- simulated cohorts: begin -->", "<!-- simulated cohorts: end -->"
FIGURES = "simulated_cohorts.json"
ALPHA, PERMUTATIONS = 0.05, 399
SIZES: Mapping[int, Sequence[int]] = {
    30: (7, 5, 4, 3, 2, 2, 2, 1, 1, 1, 1, 1),
    101: (28, 17, 13, 10, 8, 7, 6, 4, 3, 2, 2, 1),
}
SHARES = (0.0, 0.3, 0.6, 0.8)
NORMAL, HEAVY = "normal", "heavy-tailed"
SCOPES: Sequence[Scope] = ("overall", "within_strata", "between_strata")


@dataclass(frozen=True)
class Case:
    """A cohort of `models`, of which `share` of the variance lies between strata.

    `between` and `within` are the correlations of the two metrics' parts of a stratum and of a model. In `covariate`
    both metrics follow a covariate, which is given. In `differing`, the correlation within a stratum is `differing` or
    its negative, by chance. With `sets`, the correlation differs between sets with standard deviation `spread`.
    """

    kind: str
    models: int
    share: float = 0.6
    noise: str = NORMAL
    between: float = 0.0
    within: float = 0.0
    differing: float = 0.0
    sets: int = 1
    spread: float = 0.0

    @property
    def key(self) -> str:
        """The name of the case, from which its random numbers come."""
        return " ".join(map(str, asdict(self).values()))

    def truth(self, scope: Scope) -> float:
        """The true tau over the pairs of a scope, for normal metrics."""
        sizes = np.array(SIZES[self.models])
        within, across = _to_tau(self.within), _to_tau(self.share * self.between + (1 - self.share) * self.within)
        share = float((sizes * (sizes - 1)).sum()) / (self.models * (self.models - 1))
        return {"within_strata": within, "between_strata": across}.get(scope, share * within + (1 - share) * across)


def list_cases() -> Iterator[Case]:
    """Yield all cases, in the order of the tables."""
    for models in SIZES:
        for noise in (NORMAL, HEAVY):
            for share in SHARES:
                yield Case("unrelated", models, share, noise)
        for share in (0.0, 0.6):
            yield Case("covariate", models, share)
        for between, within in ((0.6, 0.6), (-0.6, 0.6), (0.8, 0.0)):
            yield Case("related", models, between=between, within=within)
        edge = math.sin(math.pi * BAND / 2)
        yield Case("weak", models, between=edge, within=edge)
        yield Case("weak", models)
        yield Case("differing", models, differing=0.4)
        for sets, spread in ((5, 0.0), (5, 0.2), (3, 0.2)):
            yield Case("sets", models, within=0.3, sets=sets, spread=spread)


BAND = 0.2
"""The band of the weak cases: a true tau at its edge is no weaker than that."""


def _to_tau(correlation: float) -> float:
    return 2 / math.pi * math.asin(correlation)


def draw_units(case: Case, rng: np.random.Generator) -> Units:
    """Draw the units of one cohort."""
    sizes = SIZES[case.models]
    stratum_N = np.repeat(np.arange(len(sizes)), sizes)

    def draw(*shape: int) -> FloatArray:
        if case.noise == NORMAL:
            return rng.standard_normal(shape)
        return rng.standard_t(3, size=shape) / math.sqrt(3.0)

    shared_K, own_N = draw(len(sizes)), draw(case.models)
    x_N = math.sqrt(case.share) * shared_K[stratum_N] + math.sqrt(1 - case.share) * own_N
    sign_K = rng.choice([-1.0, 1.0], len(sizes))
    common_N, responses = draw(case.models), []
    shared_y_K = case.between * shared_K + math.sqrt(1 - case.between**2) * draw(len(sizes))
    for _ in range(case.sets):
        link = np.clip(case.within + case.spread * rng.standard_normal(), -0.99, 0.99)
        link_N = link + (case.differing * sign_K)[stratum_N]
        rest_N = common_N if case.sets == 1 else (common_N + draw(case.models)) / math.sqrt(2)
        own_y_N = link_N * own_N + np.sqrt(1 - link_N**2) * rest_N
        responses.append(math.sqrt(case.share) * shared_y_K[stratum_N] + math.sqrt(1 - case.share) * own_y_N)
    y_EN, x_EN = np.array(responses), np.tile(x_N, (case.sets, 1))
    covariate_NQ = np.empty((case.models, 0))
    if case.kind == "covariate":
        covariate_NQ = rng.standard_normal((case.models, 1))
        y_EN, x_EN = y_EN + 1.5 * covariate_NQ[:, 0], x_EN + 1.5 * covariate_NQ[:, 0]
    names = tuple(f"model {place:03}" for place in range(case.models))
    strata, sets = tuple(f"stratum {place:02}" for place in stratum_N), tuple(map(str, range(case.sets)))
    return Units(names, strata, names, sets, y_EN, x_EN, (covariate_NQ,) * case.sets, case.models, {})


Figures = dict[str, float]


def simulate(case: Case, rounds: int) -> Figures:
    """Return the share of rounds in which each measure of the case's kind holds; the same whatever ran before."""
    rng = np.random.default_rng(zlib.crc32(case.key.encode()))
    found = [MEASURES[case.kind](case, draw_units(case, rng)) for _ in range(rounds)]
    return {name: sum(one[name] for one in found) / rounds for name in found[0]}


def _judge_scope(units: Units, scope: Scope, direction: Direction, smallest: float) -> tuple[bool, Interval]:
    """Return whether a claim is supported, as the only one of its file, and the interval."""
    found = compare_cohort_metric_ranks(units, scope)
    assert found is not None
    claim = p = found.tau.compute_p(direction, smallest)
    if scope == "within_strata" and direction != "neither":
        permuted = run_model_permutation_test(found.predictors, found.rank_y_EN, units.strata, PERMUTATIONS)
        p = compute_directional_p(permuted, direction)
    ci = found.tau.interval(ALPHA)
    return judge_interval(ci, smallest, direction, max(p, claim), ALPHA) == "supported", ci


def _holds(ci: Interval | EstimateWithInterval, truth: float) -> bool:
    return ci.low <= truth <= ci.high


def _measure_unrelated(case: Case, units: Units) -> Figures:
    """Return which tests call unrelated metrics related."""
    every = compare_cohort_metric_ranks(units, "overall")
    assert every is not None
    naive = run_model_permutation_test(every.predictors, every.rank_y_EN, (tuple(range(case.models)),), PERMUTATIONS)
    found: Figures = {"plain": is_significant(compute_directional_p(naive, "either"), ALPHA)}
    for scope in SCOPES:
        found[scope], ci = _judge_scope(units, scope, "either", 0.0)
        found[f"{scope} covered"] = _holds(ci, 0.0)
    resampled = compute_strata_bootstrap_interval(every.pairs, units.stratum_N, "overall", ALPHA)
    slopes = estimate_slopes(units.response_EN[0], units.predictor_EN[0], units.covariates[0], units.stratum_N, ALPHA)
    assert slopes is not None
    named = {"mixed": slopes.mixed, "within slope": slopes.within, "between slope": slopes.between}
    return found | {"bootstrap": not _holds(resampled, 0.0)} | {name: not _holds(ci, 0) for name, ci in named.items()}


def _measure_related(case: Case, units: Units) -> Figures:
    """Return whether intervals hold the true tau, and whether a relation either way is found."""
    found: Figures = {}
    for scope in SCOPES:
        found[f"{scope} found"], ci = _judge_scope(units, scope, "either", 0.0)
        found[scope] = _holds(ci, case.truth(scope))
    return found


def _measure_weak(case: Case, units: Units) -> Figures:
    return {scope: _judge_scope(units, scope, "neither", BAND)[0] for scope in SCOPES}


def _measure_differing(case: Case, units: Units) -> Figures:
    """Return whether intervals within strata hold the mean over all strata that there could be, which is 0."""
    found = compare_cohort_metric_ranks(units, "within_strata")
    assert found is not None
    other = estimate_tau(found.pairs, units.stratum_N, "within_strata", other_strata=True)
    return {"within_strata": _holds(found.tau.interval(ALPHA), 0), "other strata": _holds(other.interval(ALPHA), 0)}


def _measure_sets(case: Case, units: Units) -> Figures:
    """Return whether intervals of the mean over sets hold the mean over all sets that there could be."""
    truth = _mean_tau(case.within, case.spread)
    found = compare_cohort_metric_ranks(units, "within_strata")
    assert found is not None
    independent = pool_independent_sets(found.tau.by_set, found.tau.errors_E)
    return {"within_strata": _holds(found.tau.interval(ALPHA), truth), "independent": _holds(independent, truth)}


def _mean_tau(correlation: float, spread: float) -> float:
    drawn = correlation + spread * stats.norm.ppf((np.arange(10_000) + 0.5) / 10_000)
    return float((2 / math.pi * np.arcsin(np.clip(drawn, -0.99, 0.99))).mean())


def pool_independent_sets(taus_E: FloatArray, errors_E: FloatArray) -> Interval:
    """Return Paule and Mandel's mean with Hartung and Knapp's interval, as if each set had models of its own."""
    sets = len(taus_E)

    def pool(between: float) -> tuple[float, float, float]:
        weight_E = 1 / (errors_E**2 + between)
        mean = float((weight_E * taus_E).sum() / weight_E.sum())
        return mean, float((weight_E * (taus_E - mean) ** 2).sum()), float(weight_E.sum())

    between = 0.0
    if pool(0.0)[1] > sets - 1:
        between = optimize.brentq(lambda value: pool(value)[1] - (sets - 1), 0.0, 4.0)
    mean, spread, weight = pool(between)
    half = stats.t.ppf(1 - ALPHA / 2, sets - 1) * math.sqrt(spread / (sets - 1) / weight)
    return Interval(mean - half, mean + half)


MEASURES = {
    "unrelated": _measure_unrelated,
    "covariate": _measure_unrelated,
    "related": _measure_related,
    "weak": _measure_weak,
    "differing": _measure_differing,
    "sets": _measure_sets,
}


@dataclass(frozen=True)
class Row:
    """A case with its figures over `rounds`."""

    case: Case
    rounds: int
    figures: Figures


def read_rows(folder: Path) -> list[Row]:
    """Read the figures of a folder; none where there are none yet."""
    path = folder / FIGURES
    found = json.loads(path.read_text()) if path.exists() else []
    return [Row(Case(**row["case"]), row["rounds"], row["figures"]) for row in found]


def write_rows(rows: Sequence[Row], out: Path) -> None:
    """Write the figures in the order of the cases; those that were not simulated now keep their last ones."""
    known = {row.case: row for row in (*read_rows(out), *rows)}
    kept = [known[case] for case in list_cases() if case in known]
    out.mkdir(parents=True, exist_ok=True)
    (out / FIGURES).write_text(json.dumps([asdict(row) for row in kept], indent=1) + "\n")


SCOPE_HEADS: Mapping[str, str] = {
    "overall": "overall",
    "within_strata": "within strata",
    "between_strata": "between strata",
}
Describe = Callable[[Case], str]


def describe_share(case: Case) -> str:
    """Describe how much of the variance lies between strata, and the distribution."""
    return f"{100 * case.share:.0f} % between strata, {case.noise}"


def make_tables(rows: Sequence[Row]) -> str:
    """Return the tables of the figures in Markdown."""
    rounds = min(row.rounds for row in rows)
    error = 100 * (ALPHA * (1 - ALPHA) / rounds) ** 0.5
    kinds = {kind: [row for row in rows if row.case.kind == kind] for kind in MEASURES}

    def tabulate(kind: str, columns: Mapping[str, str], describe: Describe = describe_share) -> str:
        return _format_table(kinds[kind], columns, describe)

    plain = {"plain": "tau, models permuted", **SCOPE_HEADS}
    slopes = {"mixed": "mixed model", "within slope": "within", "between slope": "between"}
    parts = [
        (
            f"**Unrelated metrics that are called related**, in %. {rounds:,} rounds; one standard error is "
            f"{error:.1f} points near 5 %. The first column is the warning: Kendall's tau with a permutation of "
            "models, which ignores strata. The last is for comparison, as intervals that do not hold 0:"
        ),
        tabulate("unrelated", {**plain, "bootstrap": "bootstrap of strata"}),
        "**Slopes of the same metrics**, by intervals that do not hold 0, in %:",
        tabulate("unrelated", slopes),
        "**Both metrics follow a covariate**, which is given, and have nothing else in common; in %:",
        tabulate("covariate", {**plain, **slopes}),
        "**95 % intervals that hold the true tau**, in %:",
        tabulate("unrelated", {f"{scope} covered": head for scope, head in SCOPE_HEADS.items()}),
        tabulate("related", SCOPE_HEADS, lambda case: f"r is {case.between:g} between, {case.within:g} within strata"),
        "**Power**: the same relations, found either way, in %:",
        tabulate(
            "related",
            {f"{scope} found": head for scope, head in SCOPE_HEADS.items()},
            lambda case: f"true tau {', '.join(f'{case.truth(scope):.2f}' for scope in SCOPES)}",
        ),
        (
            f"**Claims of a weak relation**, tau within {BAND:g}, that are supported, in %. Where tau is {BAND:g}, "
            "each is false; where it is 0, each is true:"
        ),
        tabulate("weak", SCOPE_HEADS, lambda case: f"tau is {BAND if case.within else 0:g}"),
        (
            "**Strata that differ**: r within a stratum is 0.4 or -0.4. Intervals that hold 0, the mean over all such "
            "strata, in %:"
        ),
        tabulate("differing", {"within_strata": "interval for these strata", "other strata": "for other strata"}),
        (
            "**Means over evaluation sets** within strata: intervals that hold the mean over all such sets, in %. The "
            "last column takes sets for independent (Paule and Mandel's mean, Hartung and Knapp's interval):"
        ),
        tabulate(
            "sets",
            {"within_strata": "models shared by sets", "independent": "sets as if independent"},
            lambda case: f"{case.sets} sets, standard deviation of r {case.spread:g}",
        ),
    ]
    return "\n\n".join(parts)


def _format_table(rows: Sequence[Row], columns: Mapping[str, str], describe: Describe) -> str:
    head = ["models", "simulated", *columns.values()]
    lines = [f"| {' | '.join(head)} |", f"|---|---|{'---:|' * len(columns)}"]
    for row in rows:
        cells = [str(row.case.models), describe(row.case), *(f"{100 * row.figures[name]:.1f}" for name in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write_tables(out: Path, docs: Path = DOCS) -> None:
    """Write the tables into the documentation where these are the figures that are kept."""
    if out.resolve() == RESULTS:
        write_between(docs, BEGIN, END, make_tables(read_rows(out)))


def main() -> None:
    """Simulate what is asked for and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1_000)
    parser.add_argument("--only", nargs="+", default=[], help="cases whose name begins so; others keep theirs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--tables", action="store_true")
    options = parser.parse_args()
    for case in [] if options.tables else list_cases():
        if options.only and not case.key.startswith(tuple(options.only)):
            continue
        start = time.perf_counter()
        row = Row(case, options.rounds, simulate(case, options.rounds))
        write_rows([row], options.out)  # after each case, so that what is interrupted keeps what is done
        shares = "  ".join(f"{name} {100 * share:.1f}" for name, share in row.figures.items())
        print(f"{case.key}: {shares}  {time.perf_counter() - start:.0f} s", flush=True)
    write_tables(options.out)


if __name__ == "__main__":
    main()
