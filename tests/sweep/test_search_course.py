"""A search hands out each point once, whatever interrupts it, and ends with as many as were asked for."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from gapctl.ledger import LeaseLostError, Ledger
from gapctl.ledger.search_record import SEARCH, SearchRecord
from gapctl.ledger.trial import FAILURE, STOPPED
from gapctl.plan.plan import name_study
from gapctl.plan.trial_id import compute_trial_id
from searches import EVERY, METRIC, SAMPLES, course_of, distance, ids, loaded, run, train


def record_of(folder: Path) -> SearchRecord:
    record = Ledger(str(folder)).search("tune.base")
    assert record is not None
    return record


def fail_as_lost() -> None:
    raise LeaseLostError("tune.base.search", None)


def test_it_draws_as_many_points_as_were_asked_for_and_finds_the_best(tmp_path: Path) -> None:
    course, ledger = course_of(loaded(tmp_path, trials=20), tmp_path), Ledger(str(tmp_path))
    trained = run(course, ledger)
    record = course.close_search()

    assert course.complete
    assert len(record.drawn) == len({drawn.number for drawn in record.drawn}) == 20
    assert set(ids(trained)) == {drawn.trial for drawn in record.drawn}
    assert record.best is not None
    assert record.best.value == max(distance(trial) for trial in trained) > 0.8
    assert record.importance["train.lr"] > record.importance["train.batch_size"]


def test_a_point_is_an_ordinary_trial_whose_numbers_can_be_typed(tmp_path: Path) -> None:
    sweep = loaded(tmp_path)
    trained = run(course_of(sweep, tmp_path), Ledger(str(tmp_path)))

    for trial in trained:
        lr = trial.config.train.lr
        assert float(f"{lr:.3g}") == lr
        assert 1e-4 <= lr <= 1e-2
        assert trial.factors == {"train.lr": lr, "train.batch_size": trial.config.train.batch_size}
        assert trial.id == compute_trial_id(trial.config, 0, "fingerprint")


def test_the_same_seed_draws_the_same_points_and_another_seed_others(tmp_path: Path) -> None:
    drawn = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        (tmp_path / name).mkdir()
        sweep = loaded(tmp_path / name, seed=seed, trials=14)
        drawn.append(ids(run(course_of(sweep, tmp_path / name), Ledger(str(tmp_path / name)))))

    assert drawn[0] == drawn[1]
    assert not set(drawn[0]) & set(drawn[2])


@pytest.mark.parametrize("interruption", [0, 6, 12])
def test_a_search_that_ends_anywhere_goes_on_as_if_it_had_not(tmp_path: Path, interruption: int) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    sweep = loaded(tmp_path, trials=14)
    whole = run(course_of(sweep, tmp_path / "whole"), Ledger(str(tmp_path / "whole")))

    ledger, first = Ledger(str(tmp_path / "parts")), course_of(sweep, tmp_path / "parts")
    before = run(first, ledger, most=interruption)
    left = first.pick_trial()  # drawn, and killed in its middle
    assert left is not None
    train(first, ledger, left, until=EVERY)
    after = run(course_of(sweep, tmp_path / "parts"), ledger)

    assert ids(after)[0] == left.id
    assert ids(before) + ids(after) == ids(whole)
    assert record_of(tmp_path / "parts").drawn == record_of(tmp_path / "whole").drawn


def test_a_result_that_was_not_told_before_the_kill_counts(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=2), Ledger(str(tmp_path))
    killed = course_of(sweep, tmp_path)
    trial = killed.pick_trial()
    assert trial is not None
    deaf = replace(trial)
    killed.note_result = lambda trial, result: None  # type: ignore[method-assign]
    train(killed, ledger, deaf)

    trained = run(course_of(sweep, tmp_path), ledger)

    assert trial.id not in ids(trained)
    assert [drawn.state for drawn in record_of(tmp_path).drawn] == ["done", "done"]


def test_a_point_that_was_drawn_twice_is_trained_once(tmp_path: Path) -> None:
    space = {"train.batch_size": {"choice": [64, 128]}}
    course, ledger = course_of(loaded(tmp_path, space=space, trials=6), tmp_path), Ledger(str(tmp_path))

    trained = run(course, ledger, lambda trial: trial.config.train.batch_size / 128)

    assert len(trained) == len(set(ids(trained))) == 2
    assert [drawn.state for drawn in record_of(tmp_path).drawn] == ["done"] * 6
    assert course.complete


def test_twins_that_are_drawn_at_the_same_time_end_together(tmp_path: Path) -> None:
    space = {"train.batch_size": {"choice": [64, 128]}}
    course, ledger = course_of(loaded(tmp_path, space=space, trials=5), tmp_path), Ledger(str(tmp_path))
    both = [course.pick_trial(), course.pick_trial()]

    assert course.pick_trial() is None  # the others are twins of these
    assert not course.complete
    for trial in both:
        assert trial is not None
        train(course, ledger, trial)
    assert course.complete
    assert len(record_of(tmp_path).drawn) == 5


def test_more_points_go_on_with_the_same_study_and_another_space_begins_another(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path))
    first = run(course_of(loaded(tmp_path, trials=3), tmp_path), ledger)
    more = run(course_of(loaded(tmp_path, trials=5), tmp_path), ledger)

    assert len(first) == 3
    assert len(more) == 2
    assert len(record_of(tmp_path).drawn) == 5
    other = loaded(tmp_path, trials=2, space={"train.lr": {"log": [1e-4, 1e-3]}})
    assert name_study(other, "fingerprint") != name_study(loaded(tmp_path), "fingerprint")
    assert len(run(course_of(other, tmp_path), ledger)) == 2
    assert len(record_of(tmp_path).drawn) == 2


def test_the_worst_are_stopped_with_their_measures_and_marked(tmp_path: Path) -> None:
    course = course_of(loaded(tmp_path, trials=12, stop_early={"after": EVERY, "reduce": 3}), tmp_path)
    ledger = Ledger(str(tmp_path))

    run(course, ledger)
    record = course.close_search()
    stopped = [drawn for drawn in record.drawn if drawn.state == "stopped"]

    assert {drawn.state for drawn in record.drawn} == {"done", "stopped"}
    assert len(stopped) >= 4
    for drawn in stopped:
        folder = ledger.trial(drawn.trial)
        assert EVERY <= drawn.samples_seen < SAMPLES
        assert math.isfinite(drawn.value)
        assert f"stopped by the search tune.base at {drawn.samples_seen:,} of 5,120 samples" in (
            folder.read_text(STOPPED) or ""
        )
        assert folder.result() is None
        assert folder.read_text(FAILURE) is None
    assert record.best is not None
    assert record.best.state == "done"


def test_a_stopped_point_is_not_trained_again_by_the_same_search(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, trials=9, stop_early={"after": EVERY, "reduce": 3})
    run(course_of(sweep, tmp_path), Ledger(str(tmp_path)))

    assert course_of(sweep, tmp_path).pick_trial() is None


def test_a_stopped_trial_that_begins_elsewhere_is_no_longer_marked(tmp_path: Path) -> None:
    course = course_of(loaded(tmp_path, trials=9, stop_early={"after": EVERY, "reduce": 3}), tmp_path)
    ledger = Ledger(str(tmp_path))
    run(course, ledger)
    stopped = next(drawn.trial for drawn in course.record.drawn if drawn.state == "stopped")

    ledger.trial(stopped).begin(course.trials[stopped])

    assert ledger.trial(stopped).read_text(STOPPED) is None


def test_a_value_that_is_no_number_is_worse_than_all_that_are(tmp_path: Path) -> None:
    course = course_of(loaded(tmp_path, trials=6), tmp_path)

    run(course, Ledger(str(tmp_path)), lambda trial: math.nan if trial.config.train.lr > 1e-3 else distance(trial))
    record = course.close_search()

    assert course.complete
    assert any(math.isnan(drawn.value) for drawn in record.drawn)
    assert record.best is not None
    assert math.isfinite(record.best.value)


def test_what_failed_is_tried_once_more_by_the_next_command(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=3), Ledger(str(tmp_path))
    course = course_of(sweep, tmp_path)
    failing = course.pick_trial()
    assert failing is not None
    course.note_failure(failing, "it broke")
    run(course, ledger)
    assert [drawn.state for drawn in record_of(tmp_path).drawn] == ["failed", "done", "done"]

    again = run(course_of(sweep, tmp_path), ledger)

    assert ids(again) == [failing.id]
    assert sorted(drawn.state for drawn in record_of(tmp_path).drawn) == ["done"] * 3


def test_an_early_stopping_search_goes_on_from_the_record_and_the_histories(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, trials=9, stop_early={"after": EVERY, "reduce": 3})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(course_of(sweep, whole), Ledger(str(whole)))
    ledger = Ledger(str(parts))
    for _ in range(9):  # a new process for every point
        (trial,) = run(course_of(sweep, parts), ledger, most=1)
        rows = [{"samples_seen": seen, METRIC: distance(trial)} for seen in range(EVERY, SAMPLES + 1, EVERY)]
        ledger.trial(trial.id).save_history(rows)

    assert "stopped" in {drawn.state for drawn in record_of(whole).drawn}
    assert record_of(parts).drawn == record_of(whole).drawn


def test_a_resumed_training_is_stopped_by_measures_that_only_its_history_has(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=6, stop_early={"after": EVERY, "reduce": 2}), Ledger(str(tmp_path))
    killed = course_of(sweep, tmp_path)
    trial = killed.pick_trial()
    assert trial is not None
    ledger.trial(trial.id).save_history([{"samples_seen": EVERY, METRIC: 0.5}])

    again = course_of(sweep, tmp_path)

    (drawn,) = again.record.drawn
    assert (drawn.trial, drawn.value, drawn.samples_seen) == (trial.id, 0.5, EVERY)
    assert again.pick_trial() == trial
    assert not again.should_stop(trial.id, [{"samples_seen": EVERY, METRIC: 0.1}])
    assert again.record.drawn == [drawn]


def test_a_record_of_an_earlier_version_whose_failed_points_have_other_numbers_goes_on(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=5), Ledger(str(tmp_path))
    run(course_of(sweep, tmp_path), ledger, most=3)
    record = record_of(tmp_path)
    last = replace(record.drawn[2], state="failed", number=7)
    (tmp_path / last.trial / "result.json").unlink()
    ledger.save_search("tune.base", replace(record, drawn=[replace(record.drawn[0], number=4), record.drawn[1], last]))
    (tmp_path / "tune.study.db").write_bytes(b"of the earlier version")

    course = course_of(sweep, tmp_path)
    after = run(course, ledger)

    assert ids(after)[0] == last.trial
    assert len(after) == 3
    assert [drawn.number for drawn in record_of(tmp_path).drawn] == [0, 1, 2, 3, 4]
    assert {drawn.state for drawn in record_of(tmp_path).drawn} == {"done"}
    assert {drawn.trial for drawn in record.drawn} <= {drawn.trial for drawn in record_of(tmp_path).drawn}


def test_twins_are_points_of_their_own_in_a_search_that_is_restored(tmp_path: Path) -> None:
    space = {"train.batch_size": {"choice": [64, 128]}}
    sweep, ledger = loaded(tmp_path, space=space, trials=6), Ledger(str(tmp_path))
    run(course_of(sweep, tmp_path), ledger, most=1)
    run(course_of(sweep, tmp_path), ledger)

    again = course_of(sweep, tmp_path)

    assert len(record_of(tmp_path).drawn) == 6
    assert again.pick_trial() is None


def test_points_in_training_stay_in_the_record_of_a_search_that_begins_again(tmp_path: Path) -> None:
    sweep = loaded(tmp_path, trials=3)
    first = course_of(sweep, tmp_path)
    begun = [first.pick_trial(), first.pick_trial()]

    course_of(sweep, tmp_path)

    assert [drawn.trial for drawn in record_of(tmp_path).drawn] == [trial.id for trial in begun if trial]


def test_the_record_of_a_space_that_was_changed_is_kept_and_found_again(tmp_path: Path) -> None:
    ledger, other = Ledger(str(tmp_path)), {"train.lr": {"log": [1e-4, 1e-3]}}
    first, changed = loaded(tmp_path, trials=3), loaded(tmp_path, trials=2, space=other)
    trained = run(course_of(first, tmp_path), ledger)
    known = record_of(tmp_path)
    run(course_of(changed, tmp_path), ledger)

    assert record_of(tmp_path).study == name_study(changed, "fingerprint")
    assert ledger.read_study_search("tune.base", known.study) == known
    back = course_of(first, tmp_path)
    assert back.pick_trial() is None
    assert {drawn.trial for drawn in record_of(tmp_path).drawn} == {*ids(trained)}
    assert ledger.read_study_search("tune.base", name_study(changed, "fingerprint")) is not None


def test_who_lost_the_search_to_another_process_leaves_its_record_alone(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=3), Ledger(str(tmp_path))

    with pytest.raises(LeaseLostError):
        course_of(sweep, tmp_path, require=fail_as_lost)

    assert ledger.search("tune.base") is None


def test_a_damaged_result_is_told_and_not_trained_over(tmp_path: Path) -> None:
    sweep, ledger = loaded(tmp_path, trials=2), Ledger(str(tmp_path))
    first = course_of(sweep, tmp_path).pick_trial()
    assert first is not None
    (tmp_path / first.id).mkdir()
    (tmp_path / first.id / "result.json").write_text("{")

    course = course_of(sweep, tmp_path)
    trained = run(course, ledger)

    assert first.id not in ids(trained)
    assert "damaged" in course.damaged[first.id]
    assert (tmp_path / first.id / "result.json").read_text() == "{"


def test_a_record_reads_back(tmp_path: Path) -> None:
    course = course_of(loaded(tmp_path, trials=3), tmp_path)
    run(course, Ledger(str(tmp_path)), most=2)
    assert course.pick_trial() is not None
    record = course.record

    read = SEARCH.parse(SEARCH.serialize(record))

    assert [replace(drawn, value=0.0) for drawn in read.drawn] == [replace(drawn, value=0.0) for drawn in record.drawn]
    assert math.isnan(read.drawn[-1].value)
    assert read.metric == METRIC
