"""How often intervals over few seeds hold the true effect, and how often a verdict is wrong.

    python benchmarks/interval_coverage.py [--rounds 4000]

The intervals and the rule are the ones that verdicts use. Seeds' effects are drawn with a known mean from a normal, a
skewed (exponential) and a heavy-tailed (t with 3 degrees of freedom) distribution, each with standard deviation 1.
Takes about five minutes on one core; docs/simulations.md has what it gave.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from gapctl.analysis.estimates import EffectEstimate, bootstrap_interval, compute_effect_p, compute_t_interval
from gapctl.analysis.hypothesis_effects import estimate_seeds_needed, judge_interval
from gapctl.analysis.paired_responses import FloatArray
from gapctl.analysis.results import UNKNOWN_INTERVAL, Interval

ALPHA = 0.05
SEEDS = (2, 3, 5, 10)
MOST_SEEDS = 30
Draw = Callable[[np.random.Generator, int], FloatArray]

DRAWS: dict[str, Draw] = {
    "normal": lambda rng, count: rng.standard_normal(count),
    "skewed": lambda rng, count: rng.exponential(size=count) - 1.0,
    "heavy-tailed": lambda rng, count: rng.standard_t(3, size=count) / math.sqrt(3.0),
}


def hall_interval(effects: FloatArray) -> Interval:
    """Student's interval after Hall's transformation for skewness (1992, J R Stat Soc B 54:221-228)."""
    seeds, spread = len(effects), float(effects.std(ddof=1))
    skewness = 0.0 if seeds < 3 else float(stats.skew(effects, bias=False))
    if abs(skewness) < 1e-9:
        return compute_t_interval(effects, ALPHA)

    def untransformed(t: float) -> float:
        inside = 1 + skewness * (t / math.sqrt(seeds) - skewness / (6 * seeds))
        return 3 / skewness * (math.copysign(abs(inside) ** (1 / 3), inside) - 1)

    t = float(stats.t.ppf(1 - ALPHA / 2, seeds - 1))
    centre = float(effects.mean())
    return Interval(centre - spread * untransformed(t), centre - spread * untransformed(-t))


INTERVALS: dict[str, Callable[[FloatArray], Interval]] = {
    "t": lambda effects: compute_t_interval(effects, ALPHA),
    "t after Hall's transformation": hall_interval,
    "percentile bootstrap": lambda effects: bootstrap_interval(effects, ALPHA, "percentile"),
    "BCa bootstrap": lambda effects: bootstrap_interval(effects, ALPHA),
}


def coverage(interval: Callable[[FloatArray], Interval], draw: Draw, seeds: int, rounds: int) -> float:
    """The share of intervals that hold the true mean, zero."""
    rng = np.random.default_rng(seeds)
    intervals = [interval(draw(rng, seeds)) for _ in range(rounds)]
    return sum(found.low <= 0.0 <= found.high for found in intervals) / rounds


def wrongly_supported(true: float, smallest: float, seeds: int, rounds: int, *, look_again: bool) -> float:
    """How often a rise beyond `smallest` is supported that is not there; normal effects, one hypothesis.

    With `look_again`, an inconclusive sweep gets the seeds that it asks for, and is judged a second time.
    """
    rng = np.random.default_rng(seeds)
    wrong = 0
    for _ in range(rounds):
        effects = true + rng.standard_normal(MOST_SEEDS)
        verdict, needed = judged(effects[:seeds], smallest)
        if look_again and needed is not None:
            verdict, _ = judged(effects[:needed], smallest)
        wrong += verdict == "supported"
    return wrong / rounds


def judged(effects: FloatArray, smallest: float) -> tuple[str, int | None]:
    """The verdict on a declared rise, and how many seeds an inconclusive one asks for."""
    tested = compute_effect_p(effects, "increasing", smallest)
    ci = compute_t_interval(effects, ALPHA)
    verdict = judge_interval(ci, smallest, "increasing", tested.p, ALPHA)
    found = EffectEstimate(effects, float(effects.mean()), ci, UNKNOWN_INTERVAL, tested.p, tested.by)
    needed = estimate_seeds_needed(found, smallest, "increasing", ALPHA, ALPHA) if verdict == "inconclusive" else None
    return verdict, needed


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4_000)
    rounds = parser.parse_args().rounds
    print(f"share of 95 % intervals that hold the true effect, {rounds:,} rounds; seeds: {SEEDS}")
    for shape, draw in DRAWS.items():
        for name, interval in INTERVALS.items():
            shares = [coverage(interval, draw, seeds, rounds) for seeds in SEEDS]
            print(f"{shape:13s} {name:29s} " + "  ".join(f"{100 * share:5.1f} %" for share in shares), flush=True)
    print("share of verdicts `supported` where the true effect is only the smallest one, and where it is zero")
    for true, smallest, where in (
        (1.0, 1.0, "on the smallest effect"),
        (0.0, 1.0, "zero"),
        (0.0, 0.0, "zero, no band"),
    ):
        for look_again in (False, True):
            shares = [wrongly_supported(true, smallest, seeds, rounds, look_again=look_again) for seeds in SEEDS]
            looks = "a second look" if look_again else "one look"
            print(f"{where:23s} {looks:14s} " + "  ".join(f"{100 * share:5.1f} %" for share in shares), flush=True)


if __name__ == "__main__":
    main()
