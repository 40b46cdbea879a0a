"""A pack of `sweeps/optimum.yaml` leaves the ledger of tables that were trained alone, to the last bit."""

from pathlib import Path

import pytest
import torch

import gapctl
from gapctl.config.trial import is_table
from gapctl.data.mad.feed import load_mad_arrays
from gapctl.inference.trial import encode_gallery_with_trial_model
from gapctl.ledger import Ledger, Result
from gapctl.plan.plan import Trial, pack_trials
from gapctl.sweep.pack_work import PackWork
from sweeping import SMOKE
from trained_alone import plan_trials, trained_alone

OPTIMUM = SMOKE.parent / "optimum.yaml"
SHORT = ("base.train.samples=3_840", "base.evaluate.every=3_840", "base.evaluate.gallery=64")


def trials() -> list[Trial]:
    """Every fourth of the smoke, of one width."""
    (pack, *_) = pack_trials(plan_trials(*SHORT, file=OPTIMUM), 48)
    return list(pack[::4])


def require(runs: Path, trial: Trial) -> Result:
    result = Ledger(str(runs)).result(trial.id)
    assert result is not None
    return result


def defined(result: Result) -> dict[str, float]:
    return {name: value for name, value in result.metrics.items() if value == value}


def test_tables_that_are_killed_in_a_pack_end_with_the_bits_of_tables_alone(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    pack, runs = trials(), tmp_path / "runs"
    assert all(is_table(trial.config) for trial in pack)
    data = load_mad_arrays(pack[0].config.data)
    killed = PackWork(pack, data, str(runs), threads=1, gpu=False)
    killed.train_for(0.0, steps=len(pack) + 13)
    killed.save_and_stop()
    assert all(Ledger(str(runs)).trial(trial.id).checkpoints() for trial in pack)

    again = PackWork(pack, data, str(runs), threads=1, gpu=False)
    while again.unfinished:
        again.train_for(60.0)

    for trial in pack:
        alone = trained_alone(trial, tmp_path / "alone")
        assert defined(require(runs, trial)) == defined(alone)
        assert require(runs, trial).hardware["precision"] == "float32"


def test_a_table_is_encoded_again_from_the_ledger_but_has_no_encoders_to_load(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    trial, runs = trials()[0], tmp_path / "runs"
    trained_alone(trial, runs)

    again = encode_gallery_with_trial_model(Ledger(str(runs)), trial.id, lambda data, _: load_mad_arrays(data))  # type: ignore[arg-type]

    assert again.encoded.embeddings.image_ND.shape == (64, trial.config.model.embed_dim)
    with pytest.raises(gapctl.InputError, match=r"is a table .* which has no encoders to load"):
        gapctl.load_model(trial.id, runs=runs)
