"""Every field of a sweep file takes what it should, and says what it expects where it is given anything else."""

from pathlib import Path
from typing import Any

import pytest

from gapctl.config.base import list_leaf_paths, replace_at_path
from gapctl.config.trial import TrialConfig
from sweep_texts import complaints, document, edited, loaded

TAKES: list[tuple[str, Any]] = [
    ("name", "a-name_2"),
    ("question", "Why?"),
    ("seeds", 1000),
    ("alpha", 0.01),
    ("resources.cpus", 4),
    ("resources.gpus", "auto"),
    ("resources.gpus", 0.5),
    ("resources.workers", 1),
    ("tracking.uri", "http://mlflow.example:5000"),
    ("default_scale", "quick"),
    ("base.data.dataset", "mad"),
    ("base.data.source", "folder/of/digits"),
    ("base.data.main_factor", "colour"),
    ("base.data.captions.attributes", 0),
    ("base.data.sides", "image_image"),
    ("base.data.captions.order", "canonical"),
    ("base.data.captions.noise", 0.25),
    ("base.data.captions.held_out", "full"),
    ("base.data.captions.synonyms", 3),
    ("base.data.share", 0.5),
    ("base.model.preset", "mad-tiny"),
    ("base.model.embed_dim", 128),
    ("base.model.shared", "blocks"),
    ("base.temperature.mode", "fixed"),
    ("base.temperature.init", 0.01),
    ("base.temperature.lr", 0.01),
    ("base.loss.kind", "siglip"),
    ("base.loss.equal_captions", "masked"),
    ("base.loss.alignment", 0.5),
    ("base.loss.uniformity", 1),
    ("base.loss.cross_uniformity", 0.0),
    ("base.train.samples", 1024),
    ("base.train.batch_size", 2),
    ("base.train.lr", 1),
    ("base.train.weight_decay", 0),
    ("base.train.warmup", 0.0),
    ("base.train.mismatched", 0.1),
    ("base.train.precision", "bfloat16"),
    ("base.evaluate.sets_at", "each"),
    ("base.evaluate.every", 1),
    ("base.evaluate.gallery", 168_000),
    ("base.evaluate.intervention", "remove_30"),
]

REFUSES: list[tuple[str, Any, str]] = [
    (
        "name",
        "Big Name",
        "found 'Big Name'; expected lower-case letters, digits, - and _, with a letter or digit first",
    ),
    ("name", "../up", "found '../up'; expected lower-case letters"),
    ("name", "a" * 81, "expected at most 80 characters"),
    ("question", "", "found ''; expected text that is not empty"),
    ("seeds", 0, "found 0; expected at least 1"),
    ("seeds", 1001, "found 1001; expected at most 1000"),
    ("seeds", 2.0, "found 2.0; expected a whole number"),
    ("seeds", True, "found true; expected a whole number"),
    ("seeds", "3", "found '3'; expected a whole number"),
    ("seeds", None, "found nothing; expected a whole number"),
    ("alpha", 0.0, "found 0.0; expected a number above 0"),
    ("alpha", 1, "found 1; expected a number below 1"),
    ("resources.cpus", 0, "found 0; expected at least 1"),
    ("resources.gpus", "all", "found 'all'; expected auto or a number"),
    ("resources.gpus", -1, "found -1; expected auto or at least 0"),
    ("resources.workers", 2, "found 2; expected 1 with dataset mad, whose models are small"),
    ("resources.readers", 1, "found 1; expected 0 with dataset mad"),
    ("tracking.uri", "", "found ''; expected text that is not empty"),
    ("default_scale", "quik", "found 'quik'; expected quick"),
    ("scales", ["quick"], "found ['quick']; expected a mapping"),
    ("scales.quick", None, "found nothing; expected a mapping"),
    ("base", [], "found an empty list; expected a mapping"),
    ("base.data", "mad", "found 'mad'; expected a mapping"),
    ("base.data.dataset", "mda", "found 'mda'; expected mad or image_text; did you mean mad?"),
    ("base.data.source", "", "found ''; expected text that is not empty"),
    ("base.data.main_factor", "color", "expected digit, thickness, swelling, fracture, scale or colour; did you mean"),
    ("base.data.captions.attributes", 6, "found 6; expected at most 5"),
    ("base.data.captions.attributes", -1, "found -1; expected at least 0"),
    ("base.data.captions.order", "random", "found 'random'; expected shuffled or canonical"),
    ("base.data.captions.held_out", "treated", "found 'treated'; expected own or full"),
    ("base.data.captions.fixed", ["color"], "found 'color'; did you mean colour? Expected one of thickness, swelling"),
    ("base.data.captions.fixed", "colour, size", "found 'size'; expected one of thickness, swelling"),
    ("base.data.captions.fixed", "digit", "found 'digit', the main factor, which every caption says anyway"),
    ("base.data.captions.fixed", 3, "expected a list"),
    ("base.data.captions.synonyms", 5, "found 5; expected at most 4"),
    ("base.data.captions.synonym_draw", "never", "found 'never'; expected each_access or once"),
    ("base.data.captions.synonym_draw", "once", "found 'once' with synonyms 1; expected 2 or more synonyms there"),
    ("base.data.captions.choose", "drawn", "expected base.data.captions.fixed, the list of attributes that captions"),
    (
        "base.model.preset",
        "mad-tinny",
        "found 'mad-tinny'; expected mad-tiny, mad-patch4, table, pairs-small, vit-b-32 or rn50-cc12m; did you mean",
    ),
    ("base.model.embed_dim", 1, "found 1; expected at least 2"),
    ("base.temperature.mode", "frozn", "expected learned, fixed, schedule or frozen; did you mean frozen?"),
    ("base.train.samples", 0, "found 0 without init_from; expected at least a batch"),
    ("base.evaluate.strength", 0.5, "found 0.5 with intervention none; expected an intervention"),
    ("base.evaluate.intervention", "center", "found 'center'; expected none, shift, centre"),
    ("base.temperature.mode", "frozen", "found 'frozen' without init_from; expected learned, fixed or schedule"),
    ("base.temperature.mode", "schedule", "found 'schedule' without final"),
    ("base.temperature.final", 0.05, "found 0.05 with mode learned; expected it with mode schedule only"),
    ("base.train.micro_batches", 2, "found 2; expected 1 with dataset mad"),
    ("base.train.compile", True, "found true; expected false with dataset mad"),
    ("base.model.preset", "vit-b-32", "found 'vit-b-32' with dataset mad; expected mad-tiny or mad-patch4"),
    ("base.init_from", {"model.embed_dim": 8}, "changes model; expected this training's model"),
    ("base.init_from", {"data.sides": "image_image"}, "changes data.sides; expected this training's sides"),
    ("base.init_from", {"train": {"lr": "fast"}}, "train.lr: Input should be a valid number"),
    ("base.init_from", {"train.l": 1}, "train.l: no such value; did you mean train.lr? Expected one of data.dataset, "),
    ("base.temperature.init", 0.009, "found 0.009; expected at least 0.01"),
    ("base.temperature.init", 11, "found 11; expected at most 10"),
    ("base.temperature.lr", 0, "found 0; expected a number above 0"),
    ("base.temperature.lr", 5, "found 5 with train.lr 0.001; expected at most 1, a thousand times that"),
    ("base.loss.kind", "cliip", "found 'cliip'; did you mean clip? Expected one of clip, siglip"),
    ("base.train.samples", -1, "found -1; expected at least 0"),
    ("base.loss.uniformity", -1, "found -1; expected at least 0"),
    ("base.loss.equal_captions", "mask", "found 'mask'; expected negatives or masked; did you mean masked?"),
    ("base.train.samples", 10**13, "found 10000000000000; expected at most 1e+12"),
    ("base.train.batch_size", 1, "found 1; expected at least 2"),
    ("base.train.batch_size", 1024, "samples (512) is smaller than batch_size (1024): not one step would run"),
    ("base.train.lr", 0, "found 0; expected a number above 0"),
    ("base.train.lr", 1e9, "expected at most 10"),
    ("base.train.lr", float("nan"), "found nan; expected a"),
    ("base.train.lr", float("inf"), "found inf; expected a"),
    ("base.train.lr", "fast", "found 'fast'; expected a number"),
    ("base.train.weight_decay", -0.1, "found -0.1; expected at least 0"),
    ("base.train.warmup", 1.0, "found 1.0; expected a number below 1"),
    ("base.train.precision", "float16", "found 'float16'; expected auto, float32 or bfloat16; did you mean"),
    ("base.evaluate.every", 0, "found 0; expected at least 1"),
    ("base.evaluate.gallery", 1, "found 1; expected at least 2"),
    ("base.evaluate.gallery", 168_001, "found 168001; expected at most 168000"),
    ("vary", {}, "found an empty mapping; expected at least one entry"),
    ("vary", None, "found nothing; expected a mapping"),
    ("hypotheses", "none", "found 'none'; expected a list"),
]


def with_value(path: str, value: Any) -> dict[str, Any]:
    return replace_at_path(document(), path.split("."), value)


@pytest.mark.parametrize(("path", "value"), TAKES)
def test_a_field_takes(tmp_path: Path, path: str, value: Any) -> None:
    found: Any = loaded(tmp_path, with_value(path, value)).spec
    for step in path.split("."):
        found = getattr(found, step)

    assert found == value


def test_every_value_of_a_training_is_among_these() -> None:
    tried = {path.removeprefix("base.") for path, _ in TAKES if path.startswith("base.")}

    refused = {"train.micro_batches", "train.compile"}  # by MAD
    needed = {"temperature.final", "evaluate.strength", "evaluate.metrics"}  # a schedule, intervention, package
    needed |= {"init.gap", "loss.targets"}  # a table
    refused.add("evaluate.sets")
    needed |= {"data.captions.fixed", "data.captions.synonym_draw"}  # as many attributes, synonyms
    assert tried | refused | needed == set(list_leaf_paths(TrialConfig().model_dump()))


@pytest.mark.parametrize(("path", "value", "expected"), REFUSES)
def test_a_field_refuses(tmp_path: Path, path: str, value: Any, expected: str) -> None:
    first, *_ = complaints(tmp_path, with_value(path, value))
    about = path.removesuffix(".batch_size") if "smaller than" in expected else path

    assert f": {about}: " in first
    assert expected in first


@pytest.mark.parametrize("key", ["name", "question", "base", "vary"])
def test_what_a_sweep_cannot_do_without_is_missed(tmp_path: Path, key: str) -> None:
    without = {name: value for name, value in document().items() if name != key}

    assert f"F:1:1: {key}: missing; expected it here" in complaints(tmp_path, without)


def test_everything_else_has_a_default(tmp_path: Path) -> None:
    spec = loaded(tmp_path, {key: document()[key] for key in ("name", "question", "vary")} | {"base": {}}).spec

    assert spec.base == TrialConfig()
    assert (spec.seeds, spec.alpha, spec.hypotheses, spec.scales, spec.default_scale) == (1, 0.05, [], {}, None)
    assert spec.resources.cpus == 1
    assert spec.tracking.uri == "sqlite:///mlflow.db"


FACTOR = "data.captions.attributes"
LEVELS = f"{FACTOR}: [0, 5]"
WRONG_GRIDS = {
    f"{FACTOR}: []": f"F:6:3: vary.{FACTOR}: found an empty list; expected at least one entry",
    f"{FACTOR}: 5": f"F:6:3: vary.{FACTOR}: found 5; expected a list",
    f"{FACTOR}: [0, [5]]": f"F:6:33: vary.{FACTOR}[1]: found [5]; expected a number, text, true or false",
    f"{FACTOR}: [0, null]": f"F:6:33: vary.{FACTOR}[1]: found nothing; expected a number, text, true or false",
    f"{FACTOR}: [0, 9]": f"F:6:33: vary.{FACTOR}[1]: found 9; expected at most 5",
    f"{FACTOR}: [0, 5, 0]": f"F:6:36: vary.{FACTOR}[2]: found 0 again; expected each level once",
    f"{FACTOR}: [0, five]": f"F:6:33: vary.{FACTOR}[1]: found 'five'; expected a whole number",
    f"{FACTOR}: [0, true]": f"F:6:33: vary.{FACTOR}[1]: found true; expected a whole number",
    f"{LEVELS}\n  train.batch_size: [64, 1024]": (
        "F:7:26: vary.train.batch_size[1]: samples (512) is smaller than batch_size (1024): not one step would run"
    ),
    f"{LEVELS}\n  train.lr: [1, 1.0]": "F:7:17: vary.train.lr[1]: found 1.0 again; expected each level once",
    f"{LEVELS}\n  train.rl: [0.1]": "F:7:3: vary.train.rl: no such value in base; did you mean train.lr? Expected one",
    f"{LEVELS}\n  train: [{{lr: 0.1}}]": "F:7:11: vary.train[0]: found a mapping; expected a number, text",
}


@pytest.mark.parametrize(("grid", "expected"), WRONG_GRIDS.items())
def test_a_wrong_grid_is_answered_at_its_level(tmp_path: Path, grid: str, expected: str) -> None:
    found = complaints(tmp_path, edited((LEVELS, grid)))

    assert any(line.startswith(expected) for line in found), found


def test_a_misspelt_factor_is_answered_with_the_nearest_one(tmp_path: Path) -> None:
    found = complaints(tmp_path, edited((LEVELS, "data.captions.atributes: [0, 5]")))

    nearest = "did you mean data.captions.attributes? Expected one of data.dataset, "
    assert found[0].startswith(f"F:6:3: vary.data.captions.atributes: no such value in base; {nearest}")
    assert len(found) == 1, "hypotheses that name the factor as it should be spelt are not wrong too"


def test_combinations_without_number_are_counted_and_not_tried(tmp_path: Path) -> None:
    many = ", ".join(str(level) for level in range(1, 2001))
    grid = "\n  ".join([LEVELS, f"train.samples: [{many}]", f"train.lr: [{many}]", f"evaluate.every: [{many}]"])

    assert complaints(tmp_path, edited((LEVELS, grid))) == [
        "F:5:1: vary: asks for 16,000,000,000 trials (16,000,000,000 combinations, seeds: 1); expected at most 100,000"
    ]


RESPONSE = "response: gap/rmg\n    factor: data.captions.attributes\n    direction: decreasing"
WRONG_TRENDS = [
    (
        RESPONSE,
        RESPONSE.replace("rmg", "rgm"),
        "F:11:5",
        "response",
        "found 'gap/rgm'; expected a metric such as gap/rmg",
    ),
    (RESPONSE, RESPONSE.replace("rmg", "rgm"), "F:11:5", "response", "did you mean gap/rmg?"),
    ("test: trend", "test: trnd", "F:10:5", "test", "found 'trnd'; expected trend, contrast, "),
    (
        "    test: trend\n",
        "",
        "F:8:5",
        "test",
        "missing; expected trend, contrast, equivalence, correlation, mediation, threshold or prediction",
    ),
    ("decreasing", "either", "F:13:5", "direction", "found 'either'; expected increasing or decreasing"),
    (
        "direction: de",
        "dirction: de",
        "F:13:5",
        "dirction",
        "unknown key; did you mean direction? Expected one of",
    ),
    ("[0, 5]\nhyp", "[5]\nhyp", "F:12:5", "factor", "its only level is 5; expected at least two for a trend"),
    (
        f"  {LEVELS}\n",
        "  train.lr: [1]\n",
        "F:12:5",
        "factor",
        f"found '{FACTOR}', which does not vary; expected one of",
    ),
    ("claim: It closes.", "claim: ''", "F:9:5", "claim", "found ''; expected text that is not empty"),
]
WRONG_CONTRASTS = [
    ("between: [0, 5]", "between: [0, 4]", "F:20:18", "between[1]", f"found 4; expected a level of {FACTOR}: [0, 5]"),
    ("between: [0, 5]", "between: [0, 0]", "F:20:18", "between[1]", "found 0 again; expected two different levels"),
    ("between: [0, 5]", "between: [0]", "F:20:5", "between[1]", "missing; expected two levels"),
    ("between: [0, 5]", "between: [0, 3, 5]", "F:20:5", "between", "found [0, 3, 5]; expected at most 2 entries"),
    ("between: [0, 5]", "between: 0", "F:20:5", "between", "found 0; expected a list"),
    ("    between: [0, 5]\n", "", "F:15:5", "between", "missing; expected it here"),
    ("id: ends", "id: gap", "F:15:5", "id", "found 'gap' again; expected each id once"),
    ("id: ends", "id: The ends", "F:15:5", "id", "found 'The ends'; expected lower-case letters, digits, - and _"),
]
WRONG_HYPOTHESES = [(0, *case) for case in WRONG_TRENDS] + [(1, *case) for case in WRONG_CONTRASTS]


@pytest.mark.parametrize(("index", "old", "new", "place", "key", "expected"), WRONG_HYPOTHESES)
def test_a_wrong_hypothesis_is_answered_at_its_key(
    tmp_path: Path, index: int, old: str, new: str, place: str, key: str, expected: str
) -> None:
    found = complaints(tmp_path, edited((old, new)))
    about = [line for line in found if line.startswith(f"{place}: hypotheses[{index}].{key}: ")]

    assert any(expected in line for line in about), found


def test_a_trend_over_words_is_answered(tmp_path: Path) -> None:
    text = edited(("  data.captions.attributes: [0, 5]\n", "  data.main_factor: [digit, colour]\n")).replace(
        "factor: data.captions.attributes\n    direction: decreasing",
        "factor: data.main_factor\n    direction: decreasing",
    )

    expected = "F:12:5: hypotheses[0].factor: its levels are ['digit', 'colour']; expected numbers for a trend"
    assert expected in complaints(tmp_path, text)


@pytest.mark.parametrize("effect", ["-0.1", ".nan", ".inf", "small", "null"])
def test_the_smallest_effect_is_a_number_from_zero_up(tmp_path: Path, effect: str) -> None:
    text = edited(("decreasing\n    smallest_effect: 0.02", f"decreasing\n    smallest_effect: {effect}"))
    (found,) = complaints(tmp_path, text)

    assert found.startswith("F:14:5: hypotheses[0].smallest_effect: found ")
