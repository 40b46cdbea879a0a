"""The shipped sweep of interventions measures the very models that the sweep of imbalance trains."""

from gapctl.config.load import load_sweep
from gapctl.plan.estimate import estimate_training_cost
from gapctl.plan.plan import Plan, list_remaining_trials, make_plan
from sweep_texts import REPOSITORY


def planned(name: str, scale: str) -> Plan:
    return make_plan(load_sweep(REPOSITORY / f"sweeps/{name}.yaml", scale), lambda data: data.source)


def test_at_all_scales_but_the_laptop_s_its_models_are_arms_of_imbalance() -> None:
    for scale in ("smoke", "hour", "paper"):
        arms = {trial.id for trial in planned("imbalance", scale).trials}
        posthoc = planned("posthoc", scale)

        assert len(posthoc.preparations) == len(posthoc.trials) / 6
        assert {trial.id for trial in posthoc.preparations} <= arms


def test_where_imbalance_was_swept_nothing_is_trained_anew() -> None:
    done = {trial.id for trial in planned("imbalance", "hour").trials}
    posthoc = planned("posthoc", "hour")
    left = list_remaining_trials(posthoc, done)

    assert left == posthoc.trials
    assert {trial.config.train.samples for trial in left} == {0}
    assert estimate_training_cost(left, slots=2).samples == estimate_training_cost(left, slots=2).flops == 0
    assert not {trial.id for trial in left} & done


def test_a_preparation_says_of_which_arm_it_is_and_not_how_that_is_measured() -> None:
    labels = [trial.label for trial in planned("posthoc", "smoke").preparations]

    assert labels == [f"preparation attributes={count} samples=5120 seed=0" for count in (0, 5)]


def test_an_intervention_needs_no_word_in_init_from() -> None:
    assert {trial.config.evaluate.intervention for trial in planned("posthoc", "paper").preparations} == {"none"}


def test_no_two_files_look_at_one_training() -> None:
    """Else the hypotheses of the second would have been written after a look.

    Public models are measured once for all files, whose hypotheses are older than any look at them.
    """
    looked_at: dict[str, str] = {}
    for path in sorted((REPOSITORY / "sweeps").glob("*.yaml")):
        for scale in load_sweep(path).spec.scales:
            sweep = load_sweep(path, scale)
            if scale in ("smoke", "public") or not sweep.spec.hypotheses:
                continue
            for trial in make_plan(sweep, lambda data: data.source).trials:
                assert looked_at.setdefault(trial.id, path.name) == path.name
