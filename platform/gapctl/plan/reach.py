"""What a design cannot decide however its trainings come out, said while it can still be changed."""

from gapctl.spec.arms import arm_grid
from gapctl.spec.hypotheses import Correlation, named_by
from gapctl.spec.sweep import SweepFile
from gapctl.spec.vocabulary import is_of_seed_pairs


def out_of_reach(spec: SweepFile) -> list[str]:
    """A sentence for each thing that no result can decide; none where there are no hypotheses."""
    if not spec.hypotheses:
        return []
    one = "1 seed gives estimates and no verdicts: a verdict needs at least 2 seeds, and 3 to be worth much"
    few = (_too_few_arms(item, spec) for item in spec.hypotheses if isinstance(item, Correlation))
    return [*([one] if spec.seeds == 1 else []), *_too_few_pairs(spec), *(line for line in few if line)]


def _too_few_pairs(spec: SweepFile) -> list[str]:
    """Metrics that compare two seeds have half as many replicates as there are seeds."""
    asking = [item.id for item in spec.hypotheses if any(map(is_of_seed_pairs, named_by(item)))]
    seeds = spec.replicates
    pairs = sum(seed % 2 == 0 and seed + 1 in seeds for seed in seeds)
    if not asking or (pairs > 1 and 2 * pairs == spec.seeds):
        return []
    made = f"{spec.seeds} from {spec.first_seed} on make {pairs} pair{'' if pairs == 1 else 's'}"
    wanted = "expected an even first_seed and an even number of seeds, at least 4, for a verdict"
    return [f"{', '.join(asking)}: seeds are compared two by two (0 with 1, 2 with 3), and {made}: {wanted}"]


def _too_few_arms(hypothesis: Correlation, spec: SweepFile) -> str | None:
    """A correlation's p is a share of the ways to deal its arms, and Holm may ask for alpha over all hypotheses."""
    grid = arm_grid(spec.vary, hypothesis.where, hypothesis.given)
    least = grid.least_p(2 if hypothesis.direction == "either" else 1)
    wanted = spec.alpha / len(spec.hypotheses)
    if least < wanted:
        return None
    return (
        f"{hypothesis.id}: p of a correlation over {grid.arms} arms cannot fall below {least:.2g}, and Holm over "
        f"{len(spec.hypotheses)} hypotheses may ask for {wanted:.2g}: vary more levels"
    )
