"""A sweep of tables says at once what a table cannot be trained on, and packs all that it can train together."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from gapctl.config.trial import TrialConfig
from gapctl.errors import InputError
from gapctl.plan.estimate import count_trial_flops
from gapctl.plan.plan import make_plan, pack_trials
from gapctl.plan.trial_id import compute_trial_id
from sweep_texts import complaints, document, loaded


def sweep(base: Mapping[str, Any], vary: Mapping[str, Any] | None = None) -> dict[str, Any]:
    text = document()
    text["base"] |= base
    return text | {"vary": {**text["vary"], **(vary or {})}}


TABLE = {"model": {"preset": "table"}}


@pytest.mark.parametrize(
    ("base", "answer"),
    [
        (
            {"data": {"dataset": "image_text"}} | TABLE,
            "base.model.preset: found 'table' with dataset cc12m; expected pairs-small",
        ),
        (
            {"data": {"sides": "image_image"}} | TABLE,
            "base.model.preset: found 'table' with data.sides image_image; expected image_text",
        ),
        (
            {"data": {"captions": {"attributes": 2, "held_out": "full"}}} | TABLE,
            "base.model.preset: found 'table' with data.captions.held_out full, whose captions no training shows it",
        ),
        (
            {"model": {"preset": "table", "architecture": "ViT-B-32"}},
            "base.model.preset: found 'table' beside architecture; expected one of them",
        ),
        (
            {"model": {"preset": "table", "shared": "blocks"}},
            "base.model.shared: found 'blocks' with preset table, which has no encoders",
        ),
        ({"data": {"main_factor": "shape"}} | TABLE, "base.data.main_factor: found 'shape'; expected"),
        (
            {"train": {"samples": 512, "batch_size": 64, "precision": "bfloat16"}} | TABLE,
            "base.train.precision: found 'bfloat16' with model.preset table",
        ),
        (
            {"init": {"gap": 1.0}},
            "base.init.gap: found 1 with mad-tiny, which begins where its weights take it; expected 0, or model.preset",
        ),
        ({"init": {"gap": 2.5}} | TABLE, "base.init.gap: found 2.5; expected at most 1.9"),
        (
            {"init": {"gap": 1.0}, "init_from": {"init.gap": 0.0}} | TABLE,
            "base.init.gap: found 1 with init_from, whose training began at 0; expected the same",
        ),
        (
            {"loss": {"targets": "posterior"}},
            "base.loss.targets: found 'posterior' with mad-tiny; expected drawn, or model.preset table",
        ),
        (
            {"loss": {"targets": "posterior", "kind": "siglip"}} | TABLE,
            "base.loss.targets: found 'posterior' beside another loss than clip's alone",
        ),
        (
            {"loss": {"targets": "posterior"}, "train": {"samples": 512, "batch_size": 64, "mismatched": 0.5}} | TABLE,
            "base.train.mismatched: found 0.5 with loss.targets posterior, which is of matched pairs; expected 0",
        ),
        (
            {"init_from": {"data.captions.attributes": 1}} | TABLE,
            "base.init_from: changes what captions name; expected this training's captions",
        ),
    ],
)
def test_what_a_table_cannot_be_is_answered_with_its_place(
    base: Mapping[str, Any], answer: str, tmp_path: Path
) -> None:
    text = sweep(base)
    if base.get("data", {}).get("dataset"):
        text |= {"vary": {"data.captions.keep": ["full", "half"]}, "hypotheses": []}

    found = complaints(tmp_path, text)

    assert any(answer in line for line in found), found


def test_a_start_that_varies_is_refused_where_another_training_gives_the_weights(tmp_path: Path) -> None:
    base = {"init": {"gap": 1.0}, "init_from": {"init.gap": 1.0, "train.samples": 640}} | TABLE

    (line,) = complaints(tmp_path, sweep(base, {"init.gap": [0.0, 1.0]}))

    assert "vary.init.gap[0]: found 0 with init_from, whose training began at 1" in line
    assert complaints(tmp_path, sweep({"init_from": {"train.samples": 640}} | TABLE, {"init.gap": [0.0, 1.0]})) == []


def test_a_metric_of_tables_is_asked_of_tables_alone(tmp_path: Path) -> None:
    text = sweep({})
    text["hypotheses"][0]["response"] = "train/loss_end"

    (line,) = complaints(tmp_path, text)

    assert "it is of tables; expected model.preset table" in line
    assert complaints(tmp_path, text | {"base": {**text["base"], **TABLE}}) == []


def test_a_start_without_a_gap_leaves_the_ids_of_other_presets_as_they_were() -> None:
    assert compute_trial_id(TrialConfig(), 0, "data") == "df0ca9e392b1"


@pytest.mark.parametrize(
    ("path", "levels"),
    [
        ("data.captions.order", ["shuffled", "canonical"]),
        ("data.captions.synonyms", [1, 3]),
        ("data.captions.synonym_draw", ["each_access", "once"]),
    ],
)
def test_tables_that_differ_in_the_wording_of_captions_alone_are_one_training(
    path: str, levels: list[Any], tmp_path: Path
) -> None:
    worded = {"data": {"captions": {"synonyms": 2}}} if path.endswith("draw") else {}
    text = sweep({**TABLE, **worded})
    encoders = sweep({"model": {"preset": "mad-tiny"}, **worded})
    del text["vary"], encoders["vary"]
    text["hypotheses"] = encoders["hypotheses"] = []
    varied = {"vary": {path: levels}}

    with pytest.raises(InputError) as caught:
        make_plan(loaded(tmp_path, {**text, **varied}), lambda source: "data")

    assert f"is the same training as {path.rsplit('.', 1)[-1]}={levels[0]}" in str(caught.value)
    assert "neither the order nor the words of captions change a row of a table" in str(caught.value)
    plan = make_plan(loaded(tmp_path, {**encoders, **varied}), lambda source: "data")
    assert len({trial.id for trial in plan.trials}) == len(plan.trials) > 1


def test_a_table_of_shuffled_captions_keeps_its_published_id() -> None:
    def name(**captions: Any) -> str:
        data = {"captions": {"attributes": 2, **captions}}
        return compute_trial_id(TrialConfig.model_validate({**TABLE, "data": data}), 0, "data")

    assert name() == "001898ac4e69"
    assert name(order="canonical", synonyms=3, synonym_draw="once") == name()
    assert name(noise=0.1) != name()


def test_tables_of_other_captions_temperatures_and_starts_train_together(tmp_path: Path) -> None:
    varied = {
        "temperature.mode": ["learned", "fixed"],
        "init.gap": [0.0, 1.0],
        "data.main_factor": ["digit", "colour"],
        "model.embed_dim": [16, 32],
    }
    trials = make_plan(loaded(tmp_path, sweep(TABLE, varied)), lambda source: "data").trials

    packs = pack_trials(trials, 256)

    assert [len(pack) for pack in packs] == [16, 16]
    assert [{trial.config.model.embed_dim for trial in pack} for pack in packs] == [{16}, {32}]


def test_a_plan_counts_a_table_s_evaluations_beside_its_steps(tmp_path: Path) -> None:
    long, none = (
        make_plan(loaded(tmp_path, sweep({**TABLE, "train": {"samples": samples, "batch_size": 64}})), lambda _: "data")
        for samples in (640_000, 64)
    )

    steps, evaluations = count_trial_flops(long.trials[0]), count_trial_flops(none.trials[0])

    assert steps is not None
    assert evaluations is not None
    assert 2 * evaluations < steps < 10 * evaluations
