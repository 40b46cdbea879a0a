"""What a design cannot decide however its trainings come out, said while it can still be changed."""

from gapctl.spec.arms import arm_grid
from gapctl.spec.hypotheses import Correlation
from gapctl.spec.sweep import SweepFile


def out_of_reach(spec: SweepFile) -> list[str]:
    """A sentence for each thing that no result can decide; none where there are no hypotheses."""
    if not spec.hypotheses:
        return []
    one = "1 seed gives estimates and no verdicts: a verdict needs at least 2 seeds, and 3 to be worth much"
    few = (_too_few_arms(item, spec) for item in spec.hypotheses if isinstance(item, Correlation))
    return [*([one] if spec.seeds == 1 else []), *(line for line in few if line)]


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
