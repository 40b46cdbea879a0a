"""Both estimands of one correlation, by the tests of a cohort, on the published ledger: its recipes stand for models.

    python benchmarks/ledger_cohorts.py     # writes the table in docs/statistics.md

A recipe is an arm of a sweep. Its stratum is the content of its captions, the seeds are its evaluation sets, and what
else varies are its covariates. Within strata, recipes of one content are compared, which differ in quality. Between
strata, with quality given, recipes of different content are.
"""

import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl

from gapctl.analysis.hypothesis_effects import estimate_cohort_hypothesis_effect
from gapctl.analysis.results import EstimateWithInterval
from gapctl.analysis.service import judge_ledger
from gapctl.config.hypotheses import Correlation
from gapctl.ledger import LedgerSnapshot
from simulated_tables import write_between

REPOSITORY: Final = Path(__file__).resolve().parents[1]
LEDGER: Final = REPOSITORY / "docs" / "results" / "laptop" / "ledger.tar.xz"
DOCS: Final = REPOSITORY / "docs" / "statistics.md"
BEGIN, END = "<!-- ledger cohorts: begin -->", "<!-- ledger cohorts: end -->"
CONTENT: Final = "data.captions.attributes"
ATTRIBUTE, OBJECT = "quality/attribute_accuracy", "quality/object_accuracy"
QUALITY: Final[Mapping[str, Sequence[str]]] = {
    "object_attribute": ["model.embed_dim"],
    "next_confounds": ["data.captions.noise", "data.share"],
}
"""What varies beside content in each sweep that correlates the two accuracies over both."""


def read_recipes(folder: Path) -> dict[str, pl.DataFrame]:
    """Unpack the ledger into a folder, and return a cohort's table for each sweep."""
    with tarfile.open(LEDGER) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.0 to 3.11.3 has none
        archive.extractall(folder)
    sweeps, _ = judge_ledger(LedgerSnapshot(str(folder / "laptop")), list(QUALITY))
    return {one.analysis.sweep: build_cohort(one.analysis.trials, QUALITY[one.analysis.sweep]) for one in sweeps}


def build_cohort(trials: pl.DataFrame, quality: Sequence[str]) -> pl.DataFrame:
    """Return a row for each arm: its metrics on each seed, its content as stratum, its quality as names."""
    factors = [CONTENT, *quality]
    names = [pl.col(path).cast(pl.String).alias(rename_factor(path)) for path in quality]
    wide = trials.pivot("seed", index=factors, values=[ATTRIBUTE, OBJECT], sort_columns=True)
    sets = {name: "seed-{1}/{0}".format(*name.rsplit("_", 1)) for name in wide.columns if name not in factors}
    label = pl.concat_str([pl.col(path).cast(pl.String) for path in factors], separator=" ")
    return wide.rename(sets).with_columns(
        label.alias("label"), pl.col(CONTENT).cast(pl.String).alias("stratum"), *names
    )


def rename_factor(path: str) -> str:
    """Return a factor's name as a covariate: the last part of its path."""
    return path.rsplit(".", 1)[-1]


def correlate(recipes: pl.DataFrame, **changes: object) -> EstimateWithInterval:
    """Return tau of the two accuracies, the mean over seeds, with its interval."""
    seeds = sorted({name.partition("/")[0] for name in recipes.columns if name.startswith("seed-")})
    own = {"id": "together", "claim": "They rise together.", "test": "correlation", "smallest_effect": 0.1}
    asked = {"response": ATTRIBUTE, "against": OBJECT, "direction": "increasing", "sets": seeds}
    hypothesis = Correlation.model_validate({**own, **asked, **changes})
    found = estimate_cohort_hypothesis_effect(hypothesis, recipes, 0.05).estimate
    return EstimateWithInterval(found.value, *found.ci)


def measure_estimands(sweep: str, recipes: pl.DataFrame) -> dict[str, EstimateWithInterval]:
    """Return tau overall, within content, between contents as they are, and between contents with quality given."""
    given = [rename_factor(path) for path in QUALITY[sweep]]
    held = recipes.with_columns(pl.concat_str(given, separator=" ").alias("stratum"))
    return {
        "overall": correlate(recipes, scope="overall"),
        "within content": correlate(recipes, scope="within_strata"),
        "across content": correlate(recipes, scope="between_strata"),
        "across content, given quality": correlate(recipes, scope="between_strata", given=given),
        "across content, strata of one quality": correlate(held, scope="within_strata"),
    }


def make_table(found: Mapping[str, Mapping[str, EstimateWithInterval]]) -> str:
    """Return the table in Markdown, a column for each estimand."""
    heads = list(next(iter(found.values())))
    lines = [f"| sweep | {' | '.join(heads)} |", f"|---|{'---:|' * len(heads)}"]
    for sweep, estimands in found.items():
        cells = [f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})".replace("-", "−") for one in estimands.values()]
        lines.append(f"| `{sweep}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Write the table."""
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure_estimands(name, recipes) for name, recipes in read_recipes(Path(folder)).items()}
    text = make_table(dict(sorted(found.items())))
    write_between(DOCS, BEGIN, END, text)
    print(text)


if __name__ == "__main__":
    main()
