"""`gapctl measure --trial` rebuilds a finished trial and finds the very numbers that the trial logged."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from command_line import Answer, gapctl
from gapctl.ledger import Ledger
from gapctl.training.checkpoint import pack_weights
from idx_files import write_digits
from sweep_texts import edited

TRAINED_ONLY = ("train/loss", "train/loss_floor", "train/loss_bayes", "train/loss_excess")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger below `runs` that holds four tiny finished trials, on digits of its own."""
    folder = tmp_path_factory.mktemp("trained")
    digits = write_digits(folder / "digits")
    base = f"base:\n  data: {{source: {digits}}}\n  evaluate: {{gallery: 64}}\n"
    vary = "vary:\n  data.captions.held_out: [own, full]\n"
    (folder / "sweep.yaml").write_text(edited(("base:\n", base), ("vary:\n", vary)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAPCTL_CACHE", str(folder / "cache"))
        planned = json.loads(gapctl("plan", str(folder / "sweep.yaml"), "--scale", "quick", "--json").out)
        for trial in planned["trials"]:
            ran = gapctl(
                *("train", str(folder / "sweep.yaml"), "--scale", "quick"),
                *("--trial", trial["id"], "--runs", str(folder / "runs")),
            )
            assert ran.exit_code == 0, ran.err
    return folder


@pytest.fixture
def runs(trained: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GAPCTL_CACHE", str(trained / "cache"))
    return str(trained / "runs")


@pytest.fixture
def own_runs(runs: str, tmp_path: Path) -> str:
    """A copy of the ledger that a test may damage."""
    return str(shutil.copytree(runs, tmp_path / "runs"))


def measured(trial: str, runs: str, *more: str) -> Answer:
    return gapctl("measure", "--trial", trial, "--runs", runs, *more)


def a_trial(runs: str) -> str:
    return Ledger(runs).list_trial_ids()[0]


def test_every_number_of_the_result_is_found_again(runs: str) -> None:
    trials = Ledger(runs).list_trial_ids()
    assert len(trials) == 4
    for trial in trials:
        result = Ledger(runs).result(trial)
        assert result is not None
        expected = {key: value for key, value in result.metrics.items() if key not in TRAINED_ONLY}

        found = json.loads(measured(trial, runs, "--json").out)["metrics"]

        assert len(expected) >= 40
        assert {key: found[key] for key in expected} == expected


def test_the_beginning_of_an_id_is_enough(runs: str) -> None:
    first, *others = Ledger(runs).list_trial_ids()
    length = next(count for count in range(1, 13) if not any(other.startswith(first[:count]) for other in others))

    document = json.loads(measured(first[:length], runs, "--json").out)

    assert document["inputs"]["trial"] == first
    assert document["inputs"]["config"]["evaluate"]["gallery"] == 64


def test_the_table_says_which_trial_it_is(runs: str) -> None:
    lines = measured(a_trial(runs), runs).out.splitlines()

    assert lines[0].startswith(f"trial {a_trial(runs)} (")
    assert "64 images and 64 texts, 64 wide" in lines[0]
    assert "temperature" in [line.strip() for line in lines]


def test_another_scale_takes_the_place_of_the_models_own(runs: str) -> None:
    plain = json.loads(measured(a_trial(runs), runs, "--json").out)
    asked = json.loads(measured(a_trial(runs), runs, "--json", "--scale", "100").out)

    assert asked["inputs"]["logit_scales"] == [100]
    assert asked["metrics"]["entropy/i2t_nats"] < plain["metrics"]["entropy/i2t_nats"]
    assert asked["metrics"]["temperature/tau"] == plain["metrics"]["temperature/tau"]


def assert_refused(ran: Answer, message: str, exit_code: int = 2) -> None:
    assert ran.exit_code == exit_code
    assert ran.out == ""
    assert ran.err.count("\n") == 1
    assert message in ran.err


def test_an_unknown_id_is_answered_with_those_that_there_are(runs: str) -> None:
    ran = measured("zzz", runs)

    assert_refused(ran, f"gapctl: --trial zzz: no trial in {runs} begins with that; expected one of ")
    assert all(trial in ran.err for trial in Ledger(runs).list_trial_ids())


def test_an_ambiguous_beginning_names_the_trials_that_it_fits(own_runs: str) -> None:
    trial = a_trial(own_runs)
    other = trial[:-1] + ("0" if trial[-1] != "0" else "1")
    (Path(own_runs) / other).mkdir()

    assert_refused(measured(trial[:8], own_runs), f"2 trials in {own_runs} begin with that; expected one of ")


def test_a_folder_without_trials_is_no_ledger(tmp_path: Path) -> None:
    assert_refused(measured("abc", str(tmp_path / "none")), "holds no trials; expected a ledger, which --runs names")


def test_an_unfinished_trial_is_refused(own_runs: str) -> None:
    trial = a_trial(own_runs)
    (Path(own_runs) / trial / "result.json").unlink()

    assert_refused(measured(trial, own_runs), f"trial {trial} is not finished; expected {own_runs}/{trial}/result.json")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_in_place_of_the_weights_is_never_loaded(own_runs: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = a_trial(own_runs)
    monkeypatch.chdir(own_runs)
    (Path(own_runs) / trial / "checkpoints" / "final.pt").write_bytes(pickle.dumps(Bomb()))

    assert_refused(measured(trial, own_runs), "checkpoints/final.pt: damaged: no weights can be read from it", 1)
    assert not Path("unpickled").exists()


class Bomb:
    """Leaves a file behind wherever it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("unpickled"),)


def test_weights_of_another_architecture_are_damage(own_runs: str) -> None:
    trial = a_trial(own_runs)
    (Path(own_runs) / trial / "checkpoints" / "final.pt").write_bytes(pack_weights(torch.nn.Linear(2, 2)))

    assert_refused(measured(trial, own_runs), "final.pt: damaged: Error(s) in loading state_dict for CLIP", 1)


def test_other_data_in_the_place_of_the_trials_own_is_noticed(
    trained: Path, runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = trained / "digits"
    other = write_digits(tmp_path / "other", train=21)
    kept = digits.rename(tmp_path / "kept")
    try:
        shutil.copytree(other, digits)
        assert_refused(measured(a_trial(runs), runs), "which the trial was trained on. Put that data back in its place")
    finally:
        shutil.rmtree(digits)
        kept.rename(digits)
