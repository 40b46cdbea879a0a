"""Fields that the models gain leave the hashes and ids of what was done before them as they were."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from gapctl.config.base import OmitFromHash, select_hashed_fields
from gapctl.config.hypotheses import Trend
from gapctl.config.sweep import SweepFile, hypotheses_sha256, spec_sha256
from gapctl.config.trial import FrozenModel, PairCaptions, Train, TrialConfig
from gapctl.plan.plan import hash_design, make_plan
from gapctl.plan.trial_id import compute_trial_id
from sweep_texts import TINY, loaded

# What gapctl gave when these were written down, for TINY on data whose fingerprint is "fingerprint". A test that fails
# here says that a new field lacks AddedLater: ledgers that exist would look changed, and their trials be trained anew.
IDS = ["1d7e0f470073", "52de52cae7bb"]
SPEC = "2314f204d528fcdedd33efd394ed784709c3558d59ed037af0c26db22fcf9fca"
HYPOTHESES = "f7f2fffde0dbdcb822e0f0d89281dc4fcc4275c96d072aa5e63d28de4d6058ba"
DESIGN = "17ebbde936cfb99afdb78a4b5c696c80de95a75ea7d323e9efe492ae92e5a123"


ADDED = (
    ("temperature", "final"),
    ("temperature", "lr"),
    ("train", "micro_batches"),
    ("train", "compile"),
    ("evaluate", "intervention"),
    ("evaluate", "strength"),
    ("evaluate", "metrics"),
    ("evaluate", "sets"),
    ("evaluate", "sets_at"),
    ("train", "mismatched"),
    ("data", "sides"),
    ("model", "shared"),
    ("loss", "targets"),
    ("loss", "equal_captions"),
    ("loss", "alignment"),
    ("loss", "uniformity"),
    ("loss", "cross_uniformity"),
)


def test_what_is_in_ledgers_keeps_its_ids_and_hashes(tmp_path: Path) -> None:
    plan = make_plan(loaded(tmp_path, TINY), lambda data: "fingerprint", recipe_version=3)

    assert [trial.id for trial in plan.trials] == IDS
    assert plan.sweep.spec_sha256 == SPEC
    assert plan.sweep.hypotheses_sha256 == HYPOTHESES
    assert hash_design(plan) == DESIGN


class Noise(FrozenModel):
    """A new part with a field of its own."""

    level: float = 0.0


class LaterTrain(Train):
    """Training as it may be described one day."""

    clip_gradients: Annotated[float | None, OmitFromHash(before=None)] = None
    noise: Annotated[Noise, OmitFromHash(before={"level": 0})] = Noise()


class LaterConfig(TrialConfig):
    """A trial as it may be described one day."""

    train: LaterTrain = LaterTrain()
    repeats: Annotated[int, OmitFromHash(before=1)] = 1


class LaterTrend(Trend):
    """A hypothesis as it may be written one day."""

    covariates: Annotated[list[str], OmitFromHash(before=[])] = Field(default_factory=list)


class LaterSweep(SweepFile):
    """A sweep file as it may be one day; its default of `trim` is no longer what there was before the field."""

    base: LaterConfig
    hypotheses: list[LaterTrend] = Field(default_factory=list)  # type: ignore[assignment]
    trim: Annotated[float, OmitFromHash(before=0)] = 0.1


TREND = {
    "id": "gap",
    "claim": "It closes.",
    "test": "trend",
    "response": "gap/rmg",
    "factor": "data.captions.attributes",
    "direction": "decreasing",
    "smallest_effect": 0.02,
}
FILE = {
    "name": "s",
    "question": "Does it?",
    "base": {"train": {"samples": 512, "batch_size": 64}},
    "vary": {"data.captions.attributes": [0, 5]},
    "hypotheses": [TREND],
}
NOW = SweepFile.model_validate(FILE)


def later(**changes: object) -> LaterSweep:
    return LaterSweep.model_validate({**FILE, "trim": 0, **changes})


def test_a_field_with_a_default_changes_no_id_and_no_hash() -> None:
    grown = later()

    assert compute_trial_id(grown.base, 0, "f") == compute_trial_id(NOW.base, 0, "f")
    assert hypotheses_sha256(grown) == hypotheses_sha256(NOW)
    assert spec_sha256(grown) == spec_sha256(NOW)


def test_the_value_of_before_may_be_written_out() -> None:
    base = {"repeats": 1, "train": {**FILE["base"]["train"], "clip_gradients": None, "noise": {"level": 0.0}}}  # type: ignore[index]

    assert compute_trial_id(later(base=base).base, 0, "f") == compute_trial_id(NOW.base, 0, "f")


@pytest.mark.parametrize(
    "base",
    [{"repeats": 2}, {"train": {"clip_gradients": 1.0}}, {"train": {"noise": {"level": 0.1}}}],
    ids=["a field", "a field of a part", "a field of a new part"],
)
def test_any_other_value_gives_other_trials(base: dict[str, object]) -> None:
    assert compute_trial_id(LaterConfig.model_validate(base), 0, "f") != compute_trial_id(LaterConfig(), 0, "f")


def test_other_hypotheses_and_other_files_have_other_hashes() -> None:
    assert hypotheses_sha256(later(hypotheses=[{**TREND, "covariates": ["seed"]}])) != hypotheses_sha256(NOW)
    assert spec_sha256(later(trim=0.2)) != spec_sha256(NOW)


def test_a_default_that_changed_is_told_from_what_there_was_before_the_field() -> None:
    assert spec_sha256(LaterSweep.model_validate(FILE)) != spec_sha256(NOW)


def test_everything_else_of_a_model_is_kept() -> None:
    config = TrialConfig()
    plain = config.model_dump(mode="json", exclude={"init_from": True, "init": True})
    del plain["data"]["share"]
    for later in ("noise", "held_out", "fixed", "synonyms", "synonym_draw"):
        del plain["data"]["captions"][later]
    for section, later in ADDED:
        del plain[section][later]

    assert select_hashed_fields(config) == plain
    assert select_hashed_fields(LaterConfig()) == plain


def test_pairs_that_are_cut_at_each_access_keep_their_ids() -> None:
    assert "draw" not in select_hashed_fields(PairCaptions(keep="half"))
    assert select_hashed_fields(PairCaptions(keep="half", draw="once"))["draw"] == "once"


def test_a_list_of_attributes_has_one_id_in_whatever_form_it_is_written() -> None:
    forms = ("colour, scale", ["scale", "colour"], ["colour", "scale"])
    ids = {
        compute_trial_id(TrialConfig.model_validate({"data": {"captions": {"fixed": form}}}), 0, "f") for form in forms
    }

    assert len(ids) == 1
    assert ids != {compute_trial_id(TrialConfig.model_validate({"data": {"captions": {"attributes": 2}}}), 0, "f")}
