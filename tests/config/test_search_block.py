"""A search in a sweep file: what it may say, and why a file with hypotheses has none."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gapctl.config.load import load_sweep
from gapctl.config.sweep import Domain, spec_sha256
from sweep_texts import REPOSITORY, SHIPPED, complaints, loaded

SEARCH: dict[str, Any] = {
    "metric": "quality/i2t_recall_10",
    "direction": "maximize",
    "trials": 4,
    "space": {"train.lr": {"log": [1.0e-4, 1.0e-2]}, "train.batch_size": {"choice": [64, 128]}},
    "stop_early": {"after": 256, "reduce": 2},
}
DOCUMENT: dict[str, Any] = {
    "name": "tune",
    "question": "Which is best?",
    "base": {"train": {"samples": 512, "batch_size": 64}, "evaluate": {"every": 128, "gallery": 64}},
    "search": SEARCH,
}
HYPOTHESIS = {
    "id": "gap",
    "claim": "It closes.",
    "test": "contrast",
    "response": "gap/rmg",
    "factor": "train.lr",
    "between": [0.001, 0.01],
    "direction": "either",
    "smallest_effect": 0.1,
}


def with_search(**changes: Any) -> dict[str, Any]:
    kept = {key: value for key, value in {**SEARCH, **changes}.items() if value is not None}
    return {**DOCUMENT, "search": kept}


def test_a_search_takes_the_place_of_vary(tmp_path: Path) -> None:
    spec = loaded(tmp_path, DOCUMENT).spec

    assert spec.vary == {}
    assert spec.search is not None
    assert spec.search.sampler == "tpe"
    assert spec.search.space["train.batch_size"].values == [64, 128]
    assert spec.search.space["train.lr"].values == (1e-4, 1e-2)


def test_a_file_with_neither_needs_vary(tmp_path: Path) -> None:
    document = {key: value for key, value in DOCUMENT.items() if key != "search"}

    assert complaints(tmp_path, document) == ["F:1:1: vary: missing; expected it here"]


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        (
            {"hypotheses": [HYPOTHESIS]},
            "search: found beside hypotheses; expected one of them: a search chooses by its ",
        ),
        ({"vary": {"train.lr": [1e-3, 1e-2]}}, "search: found beside vary; expected one of them"),
        ({"seeds": 3}, "seeds: found 3; expected 1 with search"),
        ({"resources": {"pack": 2}}, "resources.pack: found 2; expected 1 with search"),
        ({"base": {**DOCUMENT["base"], "init_from": {"train.lr": 0.1}}}, "search: found beside init_from"),
    ],
)
def test_what_a_search_cannot_stand_beside(tmp_path: Path, beside: dict[str, Any], said: str) -> None:
    found = complaints(tmp_path, {**DOCUMENT, **beside})

    assert any(said in line for line in found), found


def test_early_stopping_in_a_file_with_hypotheses_is_refused_with_the_reason(tmp_path: Path) -> None:
    document = yaml.safe_load(SHIPPED.read_text()) | {"search": SEARCH}

    found = complaints(tmp_path, document)

    assert any("which are stopped, so that a verdict on them would be about what was chosen" in line for line in found)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"metric": "quality/i2t_recal_10"}, "search.metric: found 'quality/i2t_recal_10'; expected a metric such as"),
    ({"metric": "captions/empty"}, "search.metric: found 'captions/empty', which no training of this sweep logs"),
    ({"metric": "train/loss"}, "with train.batch_size in space, which moves it by itself"),
    ({"direction": "up"}, "search.direction: found 'up'; expected minimize or maximize"),
    ({"trials": 0}, "search.trials: found 0; expected at least 1"),
    ({"space": {}}, "search.space: found an empty mapping; expected at least one entry"),
    (
        {"space": {"train.rl": {"log": [1, 2]}}},
        "space.train.rl: no such value in base; did you mean train.lr? Exp",
    ),
    ({"space": {"base.train.lr": {"log": [1, 2]}}}, "did you mean train.lr?"),
    ({"space": {"evaluate.gallery": {"choice": [64, 128]}}}, "cannot be drawn: points are compared by the same"),
    ({"space": {"train.samples": {"choice": [512, 1024]}}}, "cannot be drawn: what is trained longer is better"),
    (
        {"space": {"train.lr": {}}},
        "search.space.train.lr: found none of its keys; expected one of log, uniform, choice",
    ),
    ({"space": {"train.lr": {"log": [1, 2], "uniform": [1, 2]}}}, "found log and uniform; expected one of"),
    (
        {"space": {"train.lr": {"log": [0.1, 0.01]}}},
        "train.lr.log: found 0.1 to 0.01; expected the smaller number first",
    ),
    ({"space": {"train.lr": {"log": [0, 1]}}}, "train.lr.log: found 0; expected numbers above 0"),
    (
        {"space": {"train.lr": {"uniform": [1, 20]}}},
        "search.space.train.lr.uniform[1]: found 20.0; expected at most 10",
    ),
    ({"space": {"train.batch_size": {"uniform": [64, 128]}}}, "expected a whole number"),
    (
        {"space": {"train.batch_size": {"choice": [64, 1024]}}},
        "search.space.train.batch_size.choice[1]: samples (512) is",
    ),
    ({"space": {"train.batch_size": {"choice": [64, 64]}}}, "choice[1]: found 64 again; expected each level once"),
    ({"space": {"train.batch_size": {"choice": [64]}}}, "choice: found [64]; expected at least"),
    ({"stop_early": {"after": 512}}, "found 512; expected fewer than base.train.samples, 512"),
    ({"stop_early": {"after": 64}}, "found 64; expected at least base.evaluate.every, 128"),
    ({"stop_early": {"after": 256, "reduce": 1}}, "search.stop_early.reduce: found 1; expected at least 2"),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_search_is_answered_with_its_place(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    found = complaints(tmp_path, with_search(**changes))

    assert any(said in line for line in found), found
    assert all(line.startswith("F:") for line in found)


def test_a_scale_and_set_change_a_search(tmp_path: Path) -> None:
    document = {**DOCUMENT, "scales": {"short": {"search.trials": 2, "search.stop_early.after": 128}}}

    scaled = loaded(tmp_path, document, "short", "search.sampler=random", "search.stop_early.reduce=4").spec.search

    assert scaled is not None
    assert (scaled.trials, scaled.sampler) == (2, "random")
    assert scaled.stop_early is not None
    assert (scaled.stop_early.after, scaled.stop_early.reduce) == (128, 4)


def test_files_without_a_search_keep_their_hash() -> None:
    with_field = load_sweep(SHIPPED).spec

    assert spec_sha256(with_field) == spec_sha256(with_field.model_copy(update={"search": None}))


def test_a_domain_knows_its_kind() -> None:
    assert Domain(log=(1.0, 2.0)).kind == "log"
    assert Domain(choice=["a", "b"]).values == ["a", "b"]


def test_the_shipped_search_is_the_recipe_of_the_shipped_sweep_but_for_what_it_draws() -> None:
    tuned, swept = load_sweep(REPOSITORY / "sweeps" / "tune_mad.yaml").spec, load_sweep(SHIPPED).spec

    assert tuned.base.model == swept.base.model
    assert tuned.base.train == swept.base.train
    assert tuned.search is not None
    assert set(tuned.search.space) == {"train.lr", "train.weight_decay", "train.batch_size", "train.warmup"}
