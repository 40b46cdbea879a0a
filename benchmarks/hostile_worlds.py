"""How often statements are wrong in worlds that the code's own assumptions do not describe.

    python benchmarks/hostile_worlds.py [--rounds 200] [--only predictions] [--docs docs/simulations.md]

Heavy tails, one training in ten that does not take off, smooth curves of a dose, curved confounders, arms drawn from
a population. Each row has the rate now and, where something was changed, the rate without the change. Writes the tables
in docs/simulations.md, each rate with its binomial standard error. About ten minutes on one core; `--only` makes the
tables of one kind of world, and keeps the others.
"""

import argparse
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import numpy as np

from gapctl.analysis import correlation
from gapctl.analysis.correlation import estimate_correlation
from gapctl.analysis.estimates import EffectEstimate, compute_effect_p, compute_prediction_interval, compute_t_interval
from gapctl.analysis.hypothesis_effects import judge_interval
from gapctl.analysis.paired_responses import FloatArray, PairedResponses
from gapctl.analysis.prediction import build_error_matrix, estimate_prediction
from gapctl.analysis.results import UNKNOWN_INTERVAL
from gapctl.analysis.two_modes import compute_distances, find_second_mode
from gapctl.config.arms import ArmGrid
from gapctl.config.hypotheses import Prediction
from simulated_tables import write_between

Rng = np.random.Generator
DOCS = Path(__file__).resolve().parents[1] / "docs" / "simulations.md"
BEGIN, END = "<!-- hostile worlds: begin -->", "<!-- hostile worlds: end -->"
ALPHA, SEEDS = 0.05, 3
MANY: int = 10
"""Rounds of effects alone are so many times as many as those of correlations, which take longer."""


class Table(NamedTuple):
    """A title, the columns' names, and rows of a name and rates with the rounds that each is a share of."""

    title: str
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float]]]
    rounds: int


def seed_rng(name: str) -> Rng:
    """Return a generator that depends on the world's name alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def share(found: Sequence[Sequence[bool]]) -> list[float]:
    """Return the rate of each column over rounds."""
    return [float(rate) for rate in np.mean(np.array(found, dtype=float), axis=0)]


# Effects of recipes: the mean effect is 0 in each.
EFFECTS: dict[str, Callable[[Rng, int], FloatArray]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "heavy-tailed (t, 3 degrees of freedom)": lambda rng, n: rng.standard_t(3, n),
    "skewed (log-normal)": lambda rng, n: rng.lognormal(0, 0.75, n) - math.exp(0.75**2 / 2),
    "one in ten lies 5 away": lambda rng, n: rng.standard_normal(n) + 0.5 - 5 * (rng.random(n) < 0.1),
}


def simulate_recipes(rounds: int) -> Table:
    """Count the intervals over recipes that hold the mean, and prediction intervals that hold the next effect."""
    rows = []
    for name, draw in EFFECTS.items():
        rates: list[float] = []
        for recipes in (8, 24):
            rng, found = seed_rng(f"recipes {name} {recipes}"), []
            for _ in range(rounds):
                *known, following = draw(rng, recipes + 1)
                low, high = compute_t_interval(np.array(known), ALPHA)
                least, most = compute_prediction_interval(np.array(known), ALPHA)
                found.append([low <= 0 <= high, least <= following <= most])
            rates += share(found)
        rows.append((name, rates))
    columns = ["8 recipes, mean", "8, next recipe", "24 recipes, mean", "24, next recipe"]
    return Table(
        "**Recipes: 95 % intervals that hold the mean effect, and that of the next recipe**", columns, rows, rounds
    )


def draw_trainings(rng: Rng, seeds: int, kind: str, arms: int = 6) -> FloatArray:
    """Return responses (S, A) whose arms all have the mean 0; `fails D` ends D lower one time in ten, but for arm 0."""
    own: FloatArray = rng.standard_normal((seeds, arms))
    if kind.startswith("fails"):
        distance = float(kind.split()[1])
        treated = np.arange(arms) > 0
        own = own + treated * (0.1 * distance - distance * (rng.random((seeds, arms)) < 0.1))
    elif kind == "heavy-tailed":
        own = rng.standard_t(3, (seeds, arms))
    elif kind == "skewed":
        own = rng.exponential(size=(seeds, arms)) - 1
    elif kind == "unequal":
        own = own * np.geomspace(1, 4, arms)
    return rng.standard_normal((seeds, 1)) + own


def simulate_modes(rounds: int) -> Table:
    """Count false support of a rise from the first arm to the last, and what of it the check leaves unmarked."""
    rows = []
    kinds = {
        "normal": "normal",
        "heavy-tailed": "heavy-tailed",
        "skewed": "skewed",
        "unequal": "noise 4 times as large in the last arm",
    }
    kinds |= {f"fails {far}": f"one in ten ends {far} lower, but in the first arm" for far in (5, 10, 20)}
    for kind, name in kinds.items():
        rates: list[float] = []
        for seeds in (3, 5, 10):
            rng, found = seed_rng(f"modes {kind} {seeds}"), []
            for _ in range(rounds):
                values = draw_trainings(rng, seeds, kind)
                false = compute_effect_p(values[:, -1] - values[:, 0], "increasing").p < ALPHA / 2
                marked = bool(find_second_mode(compute_distances(values)).any())
                found.append([marked, false, false and not marked])
            rates += share(found)
        rows.append((name, rates))
    columns = [
        f"{seeds} seeds, {what}" for seeds in (3, 5, 10) for what in ("marked", "false support", "of it unmarked")
    ]
    return Table("**Two modes among the trainings of six arms**, with a true effect of 0", columns, rows, rounds)


def draw_gaussian_process(rng: Rng, doses: int) -> FloatArray:
    """Return a smooth random curve whose values a third of the range apart are nearly unrelated."""
    along = np.linspace(0, 1, doses)
    kernel = np.exp(-((along[:, None] - along) ** 2) / (2 * 0.3**2)) + 1e-8 * np.eye(doses)
    return np.asarray(np.linalg.cholesky(kernel) @ rng.standard_normal(doses))


def draw_saturation(rng: Rng, doses: int) -> FloatArray:
    """Return a logistic curve, up or down, steep or shallow."""
    along = np.linspace(0, 1, doses)
    curve = 2 / (1 + np.exp(-rng.uniform(3, 15) * (along - rng.uniform(0.1, 0.9))))
    return np.asarray(rng.choice([-1, 1]) * curve)


def draw_parabola(rng: Rng, doses: int) -> FloatArray:
    """Return a random slope with a random bend."""
    along, (slope, bend) = np.linspace(-1, 1, doses), rng.standard_normal(2)
    return np.asarray(2 * (slope * along + bend * along**2))


SMOOTH = {"Gaussian process": draw_gaussian_process, "saturating": draw_saturation, "parabola": draw_parabola}
GRIDS = {"6 doses": (6,), "12 doses": (12,), "6 x 4 doses": (6, 4), "5 doses x 5 names": (5, 5)}


def add_noise(rng: Rng, means_A: FloatArray) -> FloatArray:
    """Return trainings (S, A) with heavy-tailed noise around the arms' means."""
    return np.asarray(means_A + 0.2 * rng.standard_t(3, (SEEDS, means_A.size)))


def correlate(
    values: Sequence[FloatArray], grid: ArmGrid, smallest: float = 0.0, *, line_only: bool = False
) -> EffectEstimate:
    """Estimate a rising correlation; with `line_only` given metrics are removed as they were before splines."""
    first, count = values[0], values[0].size
    responses = PairedResponses(tuple(range(len(first))), np.array(values), 1, (), (), count, count)
    expand = (lambda found, _: found) if line_only else correlation.expand_given_metrics
    skip = patch.object(correlation, "bootstrap_interval", lambda *_: UNKNOWN_INTERVAL)  # slow, and decides nothing
    with skip, patch.object(correlation, "expand_given_metrics", expand):
        return estimate_correlation(responses, grid, "increasing", smallest, ALPHA).estimate


def simulate_doses(rounds: int) -> Table:
    """Count unrelated smooth curves of doses that are called related."""
    rows = []
    for place, sizes in GRIDS.items():
        named = [place.endswith("names") and factor == 1 for factor in range(len(sizes))]
        doses = tuple(() if name else tuple(range(size)) for size, name in zip(sizes, named, strict=True))
        grid = ArmGrid(sizes, (False,) * len(sizes), doses)
        for kind, curve in SMOOTH.items():
            rng, found = seed_rng(f"doses {place} {kind}"), []
            for _ in range(rounds):
                pair = []
                for _ in range(2):
                    parts = [
                        rng.standard_normal(size) if name else curve(rng, size)
                        for size, name in zip(sizes, named, strict=True)
                    ]
                    pair.append(add_noise(rng, np.asarray(sum(np.ix_(*parts))).ravel()))
                found.append([correlate(pair, one).p < ALPHA for one in (grid, replace(grid, doses=()))])
            rows.append((f"{place}, {kind}", share(found)))
    return Table(
        "**Smooth curves of doses that are unrelated: p below 0.05**", ["now", "permuted as names"], rows, rounds
    )


BENDS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "parabola": np.square,
    "exponential": np.exp,
    "saturating (tanh 3z)": lambda z: np.tanh(3 * z),
    "a jump (logistic 8z)": lambda z: 1 / (1 + np.exp(-8 * z)),
}


def simulate_bends(rounds: int) -> Table:
    """Count metrics that follow a curve of a given one, and have nothing else in common, that are called related."""
    rows = []
    for arms in (6, 12, 40):
        grid = ArmGrid((arms,), (False,))
        for name, bend in BENDS.items():
            rng, found = seed_rng(f"bends {arms} {name}"), []
            for _ in range(rounds):
                z_A = rng.standard_normal(arms)
                shared_A = 4 * (bend(z_A) - bend(z_A).mean()) / bend(z_A).std()
                pair = [add_noise(rng, shared_A + rng.standard_normal(arms)) for _ in range(2)]
                values = [*pair, np.tile(z_A, (SEEDS, 1))]
                found.append([correlate(values, grid, line_only=line).p < ALPHA for line in (False, True)])
            rows.append((f"{arms} arms, {name}", share(found)))
    title = "**Metrics that follow a curve of the given one, four times as large as what is their own: p below 0.05**"
    return Table(title, ["now", "a line removed"], rows, rounds)


def simulate_populations(rounds: int) -> Table:
    """Count true claims about a population of arms that are refuted."""
    rows = []
    for arms in (6, 12, 24):
        for tau, smallest in ((0.25, 0.2), (0.45, 0.4)):
            rng, found, r = seed_rng(f"population {arms} {tau}"), [], math.sin(math.pi * tau / 2)
            for _ in range(rounds):
                x_A = rng.standard_normal(arms)
                y_A = r * x_A + math.sqrt(1 - r * r) * rng.standard_normal(arms)
                one = correlate(
                    [add_noise(rng, 2 * x_A), add_noise(rng, 2 * y_A)], ArmGrid((arms,), (False,)), smallest
                )
                found.append(
                    [
                        judge_interval(one.ci, smallest, "increasing", one.p_claim, ALPHA, p_refuting=p) == "refuted"
                        for p in (one.p_refuting, math.nan)
                    ]
                )
            rows.append((f"{arms} arms, tau {tau:g}, claimed above {smallest:g}", share(found)))
    title = "**True claims about arms of a population that are refuted**"
    return Table(title, ["now", "by the interval alone"], rows, rounds)


class Foretold(NamedTuple):
    """Levels' own response (L,), the predictors (L, 3), and what `beyond` has (L, 0 or 1)."""

    response_L: FloatArray
    predictors_LQ: FloatArray
    beyond_LQ: FloatArray


LEVELS, SMALLEST = 30, 0.25
NONE_LQ = np.empty((LEVELS, 0))
"""Nothing that both forecasts have."""


def draw_family_values(rng: Rng, *shape: int) -> FloatArray:
    """Return values of six families of five levels, which share six tenths of the variance."""
    families = rng.standard_normal((LEVELS // 5, *shape)).repeat(5, axis=0)
    return np.asarray(math.sqrt(0.6) * families + math.sqrt(0.4) * rng.standard_normal((LEVELS, *shape)))


def draw_smooth_columns(rng: Rng) -> FloatArray:
    """Return three curves along an order of the levels."""
    return np.array([draw_gaussian_process(rng, LEVELS) for _ in range(3)]).T


def draw_told(rng: Rng, share: float, *, heavy: bool = False) -> Foretold:
    """Return a response of which predictors tell a share of the variance."""
    predictors = rng.standard_t(3, (LEVELS, 3)) / math.sqrt(3) if heavy else rng.standard_normal((LEVELS, 3))
    own = rng.standard_t(3, LEVELS) / math.sqrt(3) if heavy else rng.standard_normal(LEVELS)
    told = predictors.sum(axis=1) / math.sqrt(3)
    return Foretold(math.sqrt(share) * told + math.sqrt(1 - share) * own, predictors, NONE_LQ)


def draw_told_already(rng: Rng) -> Foretold:
    """Return a response that one metric tells half of, and predictors that go with that metric and tell no more."""
    known = rng.standard_normal((LEVELS, 1))
    return Foretold(
        known[:, 0] + rng.standard_normal(LEVELS), 0.7 * known + 0.7 * rng.standard_normal((LEVELS, 3)), known
    )


FORETOLD: dict[str, Callable[[Rng], Foretold]] = {
    "unrelated, normal": lambda rng: draw_told(rng, 0.0),
    "unrelated, heavy-tailed (t, 3 degrees of freedom)": lambda rng: draw_told(rng, 0.0, heavy=True),
    "unrelated, smooth predictors": lambda rng: Foretold(
        rng.standard_normal(LEVELS), draw_smooth_columns(rng), NONE_LQ
    ),
    "told by what is beyond": draw_told_already,
    "unrelated, families of five alike in both": lambda rng: Foretold(
        draw_family_values(rng), draw_family_values(rng, 3), NONE_LQ
    ),
    "unrelated, both smooth": lambda rng: Foretold(
        draw_gaussian_process(rng, LEVELS), draw_smooth_columns(rng), NONE_LQ
    ),
    "skill near 0.25, normal": lambda rng: draw_told(rng, 0.335),
    "skill near 0.25, heavy-tailed": lambda rng: draw_told(rng, 0.36, heavy=True),
    "true R² of 0.7 (skill 0.67), normal": lambda rng: draw_told(rng, 0.7),
    "true R² of 0.7 (skill 0.69), heavy-tailed": lambda rng: draw_told(rng, 0.7, heavy=True),
}


def compute_true_skill(rng: Rng, draw: Callable[[Rng], Foretold], rounds: int) -> float:
    """Return the skill over many draws of so many levels: their summed squared errors, compared."""
    before, after = 0.0, 0.0
    for _ in range(rounds):
        response_L, predictors_LQ, beyond_LQ = draw(rng)
        before += float(((build_error_matrix(beyond_LQ) @ response_L) ** 2).sum())
        after += float(((build_error_matrix(np.hstack([beyond_LQ, predictors_LQ])) @ response_L) ** 2).sum())
    return 1 - after / before


def simulate_predictions(rounds: int) -> Table:
    """Count supported predictions, small p, and intervals over levels that hold the skill."""
    rows, names = [], [f"information/m{place}" for place in range(4)]
    for name, draw in FORETOLD.items():
        rng, found = seed_rng(f"predictions {name}"), []
        truth = compute_true_skill(seed_rng(f"true skill {name}"), draw, 20 * rounds)
        for _ in range(rounds):
            response_L, predictors_LQ, beyond_LQ = draw(rng)
            asked = Prediction(
                id="it",
                claim="It.",
                test="prediction",
                response="gap/l2m",
                factor="captions",
                predictors=names[:3],
                beyond=names[3 : 3 + beyond_LQ.shape[1]],
                smallest_effect=SMALLEST,
            )
            trained_SL = response_L + 0.3 * rng.standard_t(3, (SEEDS, LEVELS)) / math.sqrt(3)
            known = [np.tile(each, (SEEDS, 1)) for each in (*predictors_LQ.T, *beyond_LQ.T)]
            count = SEEDS * LEVELS
            responses = PairedResponses(tuple(range(SEEDS)), np.array([trained_SL, *known]), 1, (), (), count, count)
            one = estimate_prediction(asked, tuple(range(LEVELS)), responses, ALPHA).estimate
            verdict = judge_interval(one.ci, SMALLEST, "increasing", one.p_claim, ALPHA)
            found.append(
                [verdict == "supported", verdict == "refuted", one.p < ALPHA, one.ci.low <= truth <= one.ci.high]
            )
        rows.append((name, share(found)))
    title = "**Predictions of 30 levels left out in turn, from three metrics**"
    return Table(title, ["supported", "refuted", "p below 0.05", "intervals that hold the skill"], rows, rounds)


def format_table(table: Table) -> str:
    """Format rates in % with their binomial standard errors."""
    head = f"| simulated | {' | '.join(table.columns)} |\n|---|{'---:|' * len(table.columns)}"
    lines = [
        f"| {name} | {' | '.join(_format_rate(rate, table.rounds) for rate in rates)} |" for name, rates in table.rows
    ]
    return "\n".join([f"{table.title}, in % ({table.rounds:,} rounds):", "", head, *lines])


def _format_rate(rate: float, rounds: int) -> str:
    error = math.sqrt(max(rate * (1 - rate), 1 / rounds) / rounds)
    return f"{100 * rate:.1f} ± {100 * error:.1f}"


WORLDS: dict[str, Callable[[int], Table]] = {
    "recipes": lambda rounds: simulate_recipes(MANY * rounds),
    "modes": lambda rounds: simulate_modes(MANY * rounds),
    "doses": simulate_doses,
    "bends": simulate_bends,
    "populations": simulate_populations,
    "predictions": simulate_predictions,
}


def simulate(rounds: int, only: str = "") -> Iterator[Table]:
    """Simulate all worlds, or those of one name."""
    for name, make_table in WORLDS.items():
        if only in ("", name):
            yield make_table(rounds)


def replace_table(text: str, table: Table) -> str:
    """Return the tables of a page with this one in the place of the former one, or last where it is new."""
    before, found, rest = text.partition(table.title)
    if not found:
        return f"{text.rstrip()}\n\n{format_table(table)}\n"
    _, following, after = rest.partition("\n**")
    return f"{before}{format_table(table)}\n{following}{after}"


def main() -> None:
    """Simulate and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--only", choices=WORLDS, default="")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args()
    text = options.docs.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    for table in simulate(options.rounds, options.only):
        print(f"{format_table(table)}\n", flush=True)
        text = replace_table(text, table)
    write_between(options.docs, BEGIN, END, text)


if __name__ == "__main__":
    main()
