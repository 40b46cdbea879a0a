"""A cohort in a sweep file: rows become trials, tables are read, and what is wrong is said with its place."""

from pathlib import Path

import polars as pl
import pytest

from gapctl.config.base import SpecError
from gapctl.config.cohort import TAKEN_NAMES, Cohort, describe_cohort, expand_cohort_table, parse_table
from gapctl.config.load import LoadedSweep, load_sweep, load_sweep_text
from gapctl.plan.plan import Plan, hash_design, make_plan

HEAD = """
name: models
question: Do models with a larger gap do worse?
base:
  data: {dataset: image_text}
  model: {preset: pairs-small, embed_dim: 32}
  init_from: {train.samples: 1_280}
  train: {samples: 0, batch_size: 64}
  evaluate: {every: 1_280, gallery: 100}
"""
ROWS = """cohort:
  models:
    - {name: short, init_from.train.samples: 640, set: pictograms, size: 1e6}
    - {name: poor, init_from.data.captions.keep: half, set: pictograms, size: 2e6}
    - {name: wide, model.embed_dim: 64, set: others, size: 4e6, published/accuracy: 41.5}
    - {name: tuned, init_from.train.samples: 2_560, set: others, size: 4e6, fine_tuned: fine-tuned on COCO}
"""
KEYS = """  where: {size: ">= 1e6", exclude: [fine_tuned]}
  covariates: [log size]
  strata: set
  source: a table of the paper
"""
TABLE = """# models of a test
name,init_from.train.samples,set,size
short,640,pictograms,1e6
long,2560,others,
"""


def read(text: str, folder: Path = Path()) -> LoadedSweep:
    return load_sweep_text(text, folder / "models.yaml")


def plan(sweep: LoadedSweep) -> Plan:
    return make_plan(sweep, lambda data: data.address)


def test_every_model_that_is_kept_is_a_replicate_with_its_own_training() -> None:
    planned = plan(read(HEAD + ROWS + KEYS))
    assert [trial.label for trial in planned.trials] == ["model=short", "model=poor", "model=wide"]
    assert [trial.replicate for trial in planned.trials] == [0, 1, 2]
    assert {trial.seed for trial in planned.trials} == {0}
    assert [trial.config.train.samples for trial in planned.preparations] == [640, 1_280, 1_280]
    assert planned.preparations[1].config.data.captions.model_dump()["keep"] == "half"
    assert planned.trials[2].config.model.embed_dim == 64
    assert planned.sweep.spec.replicate_noun == "model"


def test_arms_are_crossed_with_models() -> None:
    planned = plan(read(HEAD + "vary: {evaluate.intervention: [none, centre]}\n" + ROWS + KEYS))
    assert [trial.label for trial in planned.trials[:2]] == [
        "intervention=none model=short",
        "intervention=centre model=short",
    ]
    assert len(planned.trials) == 6
    assert len(planned.preparations) == 3


def test_a_model_that_trains_as_a_seed_would_shares_that_trials_id() -> None:
    alone = load_sweep_text(HEAD + "vary: {model.embed_dim: [32, 64]}\n", Path("seeds.yaml"))
    assert plan(read(HEAD + ROWS + KEYS)).trials[2].id == plan(alone).trials[1].id


def test_models_left_out_are_named_with_the_reason() -> None:
    cohort = read(HEAD + ROWS + KEYS.replace(">= 1e6", "> 1e6")).spec.cohort
    assert cohort is not None
    assert [tuple(each) for each in cohort.excluded] == [
        ("short", "size is 1000000.0, not > 1e6"),
        ("tuned", "fine-tuned on COCO"),
    ]
    assert describe_cohort(cohort)[0] == "2 models in 2 strata of set (others 1, pictograms 1)"


def test_a_table_gives_the_same_trials_as_its_rows_in_the_file_and_is_kept_with_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text(TABLE)
    (tmp_path / "models.yaml").write_text(HEAD + "cohort: {models: models.csv, strata: set}\n")
    listed = HEAD + (
        "cohort: {models: [{name: short, init_from.train.samples: 640, set: pictograms, size: 1e6}, "
        "{name: long, init_from.train.samples: 2560, set: others}], strata: set}\n"
    )
    sweep = load_sweep(tmp_path / "models.yaml")
    assert [trial.id for trial in plan(sweep).trials] == [trial.id for trial in plan(read(listed)).trials]
    assert hash_design(plan(sweep)) == hash_design(plan(read(listed)))
    again = load_sweep_text(sweep.text, Path("elsewhere.yaml"), tables=sweep.tables)
    assert again.spec_sha256 == sweep.spec_sha256


def test_a_parquet_table_keeps_the_types_of_its_cells_and_gives_the_same_rows_again(tmp_path: Path) -> None:
    names, sizes = ["001", "#2"], pl.Series([1.0, float("nan")])
    pl.DataFrame({"name": names, "size": sizes, "set": ["true", "1\u20282"], "even": [False, None]}).write_parquet(
        tmp_path / "models.parquet"
    )
    _, tables = expand_cohort_table({"cohort": {"models": "models.parquet"}}, tmp_path, {})
    rows = parse_table(tables["models.parquet"], "models.parquet")
    assert rows == [{"name": "001", "size": 1.0, "set": "true", "even": False}, {"name": "#2", "set": "1\u20282"}]


def test_a_parquet_table_is_read_as_its_csv(tmp_path: Path) -> None:
    pl.DataFrame({"name": ["a", "b"], "init_from.train.samples": [640, 1_920], "set": ["x", None]}).write_parquet(
        tmp_path / "models.parquet"
    )
    (tmp_path / "models.yaml").write_text(HEAD + "cohort: {models: models.parquet}\n")
    cohort = load_sweep(tmp_path / "models.yaml").spec.cohort
    assert cohort is not None
    assert [dict(model.facts) for model in cohort.members] == [{"set": "x"}, {}]


def test_cells_are_numbers_truth_values_or_text() -> None:
    assert list(parse_table('name,a,b,c\n"x, y",3,2.5e3,true\n', "t.csv")) == [
        {"name": "x, y", "a": 3, "b": 2500.0, "c": True}
    ]


def test_names_and_what_is_no_finite_number_stay_text() -> None:
    assert parse_table("name,architecture,weights,set,size\n001,true,1e3,nan,inf\n", "t.csv") == [
        {"name": "001", "architecture": "true", "weights": "1e3", "set": "nan", "size": "inf"}
    ]


def test_only_lines_above_the_header_are_comments_and_csv_alone_splits_lines() -> None:
    text = '# made by hand\r\n#\nname,set\n#1,a\x0bb\nb\u2028c,"two\nlines"\n'
    assert parse_table(text, "t.csv") == [{"name": "#1", "set": "a\x0bb"}, {"name": "b\u2028c", "set": "two\nlines"}]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name,size,size\na,1,2\n", "column 3 of the header has 'size' again; expected each name once"),
        ("name,,size\na,1,2\n", "column 2 of the header has no name"),
        ('name,size\n"a,1\n', "cannot be read as csv, near line 2"),
    ],
)
def test_a_header_or_quotes_that_are_wrong_are_refused(text: str, expected: str) -> None:
    with pytest.raises(SpecError, match=f"t.csv: {expected}"):
        parse_table(text, "t.csv")


def test_a_column_without_values_leaves_out_no_model(tmp_path: Path) -> None:
    (tmp_path / "models.csv").write_text(
        TABLE.replace("name,", "name,weak,").replace("t,640", "t,,640").replace("g,2", "g,,2")
    )
    sweep = read(HEAD + "cohort: {models: models.csv, where: {exclude: [weak]}}\n", tmp_path)
    assert sweep.spec.cohort is not None
    assert len(sweep.spec.cohort.members) == 2


def test_models_are_kept_by_what_their_architectures_have() -> None:
    rows = [{"architecture": "ViT-B-32", "weights": name} for name in ("openai", "laion2b_e16")]
    cohort = Cohort.model_validate({"models": [*rows, {"architecture": "ViT-L-14"}], "where": {"embed_dim": "<= 512"}})
    assert [model.place for model in cohort.members] == [0, 1]
    assert cohort.excluded[0].reason == "embed_dim is 768, not <= 512"


HYPOTHESIS = """hypotheses:
  - {id: it, claim: It does., test: correlation, response: gap/rmg, against: gap/l2m, scope: within_strata,
     where: {stratum: others}, direction: increasing, smallest_effect: 0.1}
"""


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        ("stratum: others", "stratum: other", "where.stratum: found 'other', which no model has; did you mean others?"),
        ("  strata: set\n", "", "scope: found within_strata, and the cohort has no strata; expected cohort.strata"),
        ("gap/l2m", "kind", "against: found 'kind', and kind of poor is 'b'; expected a covariate that is a number"),
        ("stratum: others", "kind: 2", "where.kind: found 2, which no model has; expected one of 1, b, 3"),
    ],
)
def test_what_a_hypothesis_names_and_models_lack_is_said(was: str, now: str, expected: str) -> None:
    text = (HEAD + ROWS + KEYS + HYPOTHESIS).replace("covariates: [", "covariates: [kind, ")
    for name, kind in (("short", "1"), ("poor", "b"), ("wide", "3"), ("tuned", "4")):
        text = text.replace(f"{{name: {name},", f"{{name: {name}, kind: {kind},")
    assert read(text).spec.hypotheses
    with pytest.raises(SpecError) as caught:
        read(text.replace(was, now))
    assert expected in str(caught.value)


def test_other_facts_are_another_design_and_models_in_another_order_too() -> None:
    first = plan(read(HEAD + ROWS + KEYS))
    others = [
        ROWS.replace("2e6", "3e6"),
        ROWS.replace("set: others, size: 4e6, pub", "set: pictograms, size: 4e6, pub"),
    ]
    hashes = {hash_design(plan(read(HEAD + rows + KEYS))) for rows in others}
    assert len(hashes | {hash_design(first)}) == 3


@pytest.mark.parametrize(
    ("was", "now", "expected"),
    [
        (
            "name: poor",
            "name: short",
            "cohort.models[1]: found 'short' again, as row 1 has it; expected each model once",
        ),
        ("set: pictograms, size: 2e6", "size: 2e6", "poor has no set, by which cohort.strata tells models apart"),
        ("log size", "log sise", "no model has a fact 'sise'; did you mean size?"),
        ("strata: set", "strata: sett", "no model has a fact 'sett'; did you mean set?"),
        (">= 1e6", ">= many", "expected a comparison such as '< 1e9'"),
        (">= 1e6", "> 2e6", "leaves wide (short: size is 1000000.0, not > 2e6); expected at least two"),
        ("log size", "seed", "cohort.covariates[0]: found 'seed', which names another column of an analysis's table"),
        ("name: poor", 'name: "po\\nor"', "expected at most 200 printable characters"),
        ("name: poor", f"name: {'p' * 201}", "expected at most 200 printable characters"),
        ("model.embed_dim: 64", "evaluate.gallery: 64", "found 64; expected it in base, as all models are measured"),
        (">= 1e6", "> 1e9", "leaves no model (short: size is 1000000.0, not > 1e9)"),
        ("exclude: [fine_tuned]", "exclude: [fine_tune]", "did you mean fine_tuned?"),
        ("exclude: [fine_tuned]", "exclude: fine_tuned", "expected a list of facts"),
        ("model.embed_dim: 64", "model.embed_dims: 64", "cohort.models[2].model.embed_dims: no such value in base"),
        ("model.embed_dim: 64", "model.embed_dim: -4", "wide: found -4"),
        ("published/accuracy", "imagenet/accuracy", "found 41.5; expected a fact, or published/NAME"),
        ("  source: a table of the paper\n", "", "cohort.source: missing; expected where the published"),
        ("cohort:\n", "seeds: 3\ncohort:\n", "seeds: found 3 beside cohort"),
        ("name: wide, model.embed_dim: 64", "name: wide", "is the same training as"),
    ],
)
def test_wrong_rows_are_said_with_their_place(was: str, now: str, expected: str) -> None:
    text = (HEAD + ROWS + KEYS).replace(was, now)
    assert text != HEAD + ROWS + KEYS
    with pytest.raises(Exception, match=r".") as caught:
        plan(read(text.replace("init_from.data.captions.keep: half, ", "") if "same training" in expected else text))
    assert isinstance(caught.value, SpecError) or "same training" in expected
    assert expected in str(caught.value)


def test_one_model_is_no_cohort() -> None:
    with pytest.raises(SpecError, match=r"cohort.models: found .*; expected at least 2 entries"):
        read(HEAD + "cohort: {models: [{name: short}]}\n")


def test_no_covariate_of_the_shipped_table_is_named_as_a_column_of_an_analysis() -> None:
    _, tables = expand_cohort_table({"cohort": {"models": "open_clip"}}, Path(), {})
    names = {name for row in parse_table(tables["open_clip"], "open_clip") for name in row}
    assert names & set(TAKEN_NAMES) == {"lineage"}
    assert "pretraining_samples" in names


@pytest.mark.parametrize("size", ["many", "-2", "0"])
def test_the_logarithm_of_a_covariate_needs_a_number_above_0(size: str) -> None:
    text = (HEAD + ROWS + KEYS).replace("size: 2e6", f"size: {size}").replace('size: ">= 1e6", ', "")
    with pytest.raises(SpecError, match=r"cohort.models\[1\].size: found .*; expected a number above 0"):
        read(text)


def test_a_table_that_is_missing_or_damaged_is_said_with_the_line_that_names_it(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text(HEAD + "cohort: {models: modles.csv}\n")
    with pytest.raises(
        SpecError, match=r"models.yaml:10:\d+: cohort.models: modles.csv: no such table; expected a list"
    ):
        load_sweep(file)
    (tmp_path / "modles.csv").write_text("name,size\na,1,2\n")
    with pytest.raises(SpecError, match=r"modles\.csv: row 1 has 3 cells, and the header names 2"):
        load_sweep(file)
