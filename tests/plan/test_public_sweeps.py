"""The shipped sweeps over public models plan at each scale, and share what they train."""

from pathlib import Path

import pytest

from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.load import load_sweep, load_sweep_text
from gapctl.config.trial import OpenClipModel
from gapctl.errors import InputError, UnknownWeightsError
from gapctl.plan.plan import DataSource, Plan, make_plan
from gapctl.plan.trial_id import PROVISIONAL
from sweep_texts import REPOSITORY

SWEEPS = ("public_neighbourhoods", "public_attributes")


def planned(name: str, scale: str) -> Plan:
    return make_plan(load_sweep(REPOSITORY / f"sweeps/{name}.yaml", scale), without_a_hub, provisional=True)


def without_a_hub(data: DataSource) -> str:
    """Fingerprints of what is here; the weights of public models are not."""
    if isinstance(data, OpenClipModel) and data.weights:
        raise UnknownWeightsError(f"{data.weights} is not here", data.weights)
    return compute_data_source_fingerprint(data)


@pytest.mark.parametrize("name", SWEEPS)
def test_the_rehearsal_trains_the_models_of_public_models_and_none_anew(name: str) -> None:
    trained = {trial.id for trial in planned("public_models", "tiny").preparations}
    found = planned(name, "tiny")

    assert len(trained) == 16
    assert {trial.id for trial in found.preparations} == trained
    assert {trial.config.train.samples for trial in found.trials} == {0}
    assert not any(trial.is_provisional for trial in found.trials)


@pytest.mark.parametrize("name", SWEEPS)
def test_the_public_scale_lists_the_cohort_and_the_sets_that_are_to_be_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where none of the sets is
    found = planned(name, "public")
    models = {trial.model.name for trial in found.trials if trial.model is not None}
    sets = found.sweep.spec.base.evaluate.sets

    assert len(models) >= 101
    assert all(trial.is_provisional for trial in found.trials)
    assert len({trial.id for trial in found.trials}) == len(found.trials)
    for each in sets:
        assert any(f"evaluation set {each}: data/" in message for message in found.missing_data)
        assert found.sweep.spec.evaluation_sets[each].expect.images


def test_attributes_are_asked_with_content_held_and_across_it() -> None:
    spec = load_sweep(REPOSITORY / "sweeps/public_attributes.yaml").spec
    scopes = {each.id: getattr(each, "scope", None) for each in spec.hypotheses}

    assert {scope for name, scope in scopes.items() if name.endswith("with-content-held")} == {"within_strata"}
    assert {scope for name, scope in scopes.items() if name.endswith("across-content")} == {"between_strata"}


def test_a_missing_set_is_refused_and_planned_with_other_ids_where_that_is_asked(tmp_path: Path) -> None:
    text = (
        "name: lone\nquestion: Is it here?\nbase: {data: {dataset: image_text}, model: {preset: pairs-small}, "
        "evaluate: {sets: [birds]}}\nevaluation_sets: {birds: {kind: retrieval, source: nowhere}}\n"
        "vary: {train.lr: [1.0e-3, 2.0e-3]}\n"
    )
    sweep = load_sweep_text(text, tmp_path / "lone.yaml")

    with pytest.raises(InputError, match=r"evaluation set birds: nowhere: no such file or folder"):
        make_plan(sweep, compute_data_source_fingerprint)

    plan = make_plan(sweep, compute_data_source_fingerprint, provisional=True)
    assert all(trial.id.endswith(PROVISIONAL) for trial in plan.trials)
