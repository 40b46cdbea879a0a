"""Of several workers' errors the one that a training made decides, and what only tells of a loss is an accident."""

import pytest
from ray.exceptions import ActorDiedError, RayTaskError
from ray.train import TrainingFailedError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from gapctl.errors import InputError, WorkError
from gapctl.sweep.distributed import find_training_error
from trained_alone import plan_trials

RESET = RuntimeError("Read error [127.0.0.1]:23541: Connection reset by peer")
KILLED = WorkerHealthCheckFailedError("a worker failed its health check", failure=ActorDiedError())
OWN = ArithmeticError("no such number")


def of_workers(*errors: Exception) -> TrainingFailedError:
    return WorkerGroupError("workers failed", dict(enumerate(errors)))


@pytest.mark.parametrize(
    "error",
    [
        of_workers(RESET),
        of_workers(RESET, KILLED),
        of_workers(KILLED),
        of_workers(RESET, RESET),
        of_workers(OWN, KILLED),
        of_workers(WorkError("runs/a: cannot be written")),
        ControllerError(KILLED),
        ActorDiedError(),
        None,
    ],
    ids=str,
)
def test_a_loss_is_an_accident_after_which_the_trial_goes_on(error: BaseException | None) -> None:
    assert isinstance(find_training_error(error, plan_trials()[0]), WorkError)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (of_workers(OWN), OWN),
        (of_workers(OWN, RESET), OWN),
        (of_workers(RESET, OWN), OWN),
        (of_workers(RayTaskError("step", "Traceback", OWN)), OWN),
    ],
    ids=str,
)
def test_a_training_s_own_error_is_found_among_those_that_followed_from_it(
    error: BaseException, expected: Exception
) -> None:
    assert find_training_error(error, plan_trials()[0]) is expected


def test_an_error_for_the_user_comes_before_any_other() -> None:
    wrong = InputError("a worker's 4 pairs cannot be cut into 8 micro-batches")

    assert find_training_error(of_workers(OWN, wrong), plan_trials()[0]) is wrong
