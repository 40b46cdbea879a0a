"""An error of ours reaches the user as itself, also where Tune has caught it."""

import traceback

import pytest
from ray.tune.error import TuneError

from gapctl.errors import WorkError
from gapctl.sweep.tuner import raise_own_errors


def fail_within_tune(error: Exception) -> None:
    try:
        raise error
    except Exception:
        raise TuneError(traceback.format_exc())  # noqa: B904


def test_a_full_disk_that_tune_caught_is_told_as_what_it_is() -> None:
    with pytest.raises(WorkError, match="the disk is full"), raise_own_errors():
        fail_within_tune(WorkError("the disk is full"))


def test_what_is_not_ours_stays_as_tune_says_it() -> None:
    with pytest.raises(TuneError, match="division"), raise_own_errors():
        fail_within_tune(ZeroDivisionError("division by zero"))
