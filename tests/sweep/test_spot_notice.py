"""A trial leaves a machine that is announced to be taken away, with a checkpoint, and goes on elsewhere."""

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest

from drill.drilled_sweep import DrilledSweep, kill_sweeps
from drill.local_cluster import LocalCluster
from drill.processes import adopt_orphans, below, came_true, environment_of, runs, signalled
from drill.promises import in_the_ledger
from drill.watch import Watch
from gapctl.errors import WorkError
from gapctl.ledger import LeaseOwner, Ledger
from gapctl.sweep import spot_notice, worker
from gapctl.sweep.spot_notice import MACHINE_TAKEN_TEXT, SpotWatch
from metadata_service import AMAZON_TOKEN, metadata
from sweep_without_ray import worker_for
from trained_alone import plan_trials
from unhelpful_servers import unused_address

LONGEST_SECONDS = 900.0
ENDPOINT = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
TOKEN, ACTION = {"PUT /latest/api/token": "a token"}, "GET /latest/meta-data/spot/instance-action"


def write_notice(seconds: float) -> str:
    """What AWS answers so long before it takes a machine."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))
    return f'{{"action": "terminate", "time": "{moment}"}}'


class Node:
    """Ray's view of the node of this process: `draining` as somebody else asked for, `drains` as this process did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.draining, self.drains = False, list[float]()
        monkeypatch.setattr(spot_notice, "drain_this_node", self.drains.append)
        monkeypatch.setattr(spot_notice, "is_this_node_draining", lambda: self.draining)
        monkeypatch.setenv(ENDPOINT, unused_address())
        monkeypatch.setenv("GCE_METADATA_HOST", unused_address().removeprefix("http://"))


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def test_a_notice_drains_the_node_until_the_announced_second(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = dict(TOKEN)
    with metadata(answers, AMAZON_TOKEN) as address:
        monkeypatch.setenv(ENDPOINT, address)
        watch = SpotWatch(every=0.01)
        time.sleep(0.2)
        assert not watch.announced
        answers[ACTION] = '{"action": "stop", "time": "2027-01-15T12:02:00Z"}'
        assert came_true(lambda: watch.announced, 60.0)
    assert node.drains == [1_800_014_520.0]


def test_where_no_cloud_answers_a_drain_by_others_is_noticed(node: Node) -> None:
    watch = SpotWatch(every=0.01)
    node.draining = True
    assert came_true(lambda: watch.announced, 60.0)
    assert node.drains == []


def test_an_answer_of_another_form_is_no_notice(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {**TOKEN, ACTION: '{"action": "hibernate"}'}
    with metadata(answers, AMAZON_TOKEN) as address:
        monkeypatch.setenv(ENDPOINT, address)
        watch = SpotWatch(every=0.01)
        time.sleep(0.2)
        assert not watch.announced
        answers[ACTION] = write_notice(120)
        assert came_true(lambda: watch.announced, 60.0)


def test_a_trial_leaves_an_announced_machine_with_a_checkpoint_and_without_its_lease(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (trial, *_) = plan_trials("base.train.samples=640", "base.evaluate.every=640", "base.evaluate.gallery=64")
    ledger = Ledger(str(tmp_path / "runs"))
    monkeypatch.setattr(worker, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(worker, "SpotWatch", lambda: SpotWatch(every=0.01))
    training = worker_for(trial, ledger, LeaseOwner.for_sweep("imbalance"), {})
    training.step()  # its first evaluation
    (report,) = training.step()["reports"]
    node.draining = True
    assert came_true(lambda: training._spot.announced, 60.0)

    with pytest.raises(WorkError, match=f"{trial.label}: {MACHINE_TAKEN_TEXT}"):
        training.step()

    folder = ledger.trial(trial.id)
    assert folder.checkpoints()[0][0].endswith(f"{report['samples_seen']:012d}.pt")
    assert report["samples_seen"] > 0
    assert folder.lease() is None
    assert folder.result() is None


@pytest.mark.slow
@pytest.mark.timeout(3 * LONGEST_SECONDS)
def test_a_trial_whose_machine_is_announced_to_go_goes_on_elsewhere_without_a_loss() -> None:
    """Two nodes, each with a metadata service of its own; a trial's node gets the two-minute warning."""
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="gs-", dir="/tmp"))  # Ray's sockets need a short path
    answers = [dict(TOKEN), dict(TOKEN)]
    cluster = LocalCluster(folder)
    tracking = f"sqlite:///{folder / 'mlflow.db'}"
    quiet, moved = (
        DrilledSweep(folder, name, str(folder / name), tracking, trials=2, samples=40_960)
        for name in ("quiet", "moved")
    )
    with metadata(answers[0], AMAZON_TOKEN) as first, metadata(answers[1], AMAZON_TOKEN) as second:
        try:
            cluster.start_head()
            for address in (first, second):  # one after the other, as a node that did not come up is started again
                cluster.environment = {**cluster.environment, ENDPOINT: address}
                cluster.add_node()
                cluster.wait_for_nodes()
            quiet.start(cluster.address, cluster.environment)
            assert came_true(lambda: quiet.code() is not None, LONGEST_SECONDS)
            assert quiet.code() == 0, quiet.log.read_text()
            moved.start(cluster.address, cluster.environment)
            watch = Watch(moved.runs, moved.ids)
            checkpoints = Path(moved.runs).glob
            assert came_true(lambda: any(checkpoints("*/checkpoints/0*.pt")), LONGEST_SECONDS)
            assert came_true(lambda: bool(watch.in_training()), LONGEST_SECONDS)
            victim, lease = next(iter(watch.in_training().items()))
            place = [first, second].index(environment_of(lease.pid)[ENDPOINT])
            answers[place][ACTION] = write_notice(120)
            assert came_true(lambda: not runs(lease.pid), 60.0), "its process leaves before the machine does"
            assert came_true(lambda: moved.code() is not None, LONGEST_SECONDS)
            watch.end()
        finally:
            kill_sweeps(quiet, moved)
            cluster.stop()
            signalled([each.pid for each in below(os.getpid()) if str(folder) in each.command], signal.SIGKILL)
    assert moved.code() == 0, moved.log.read_text()
    assert in_the_ledger(moved, quiet) == []
    assert len(watch.trials[victim].holders) == 2
    shutil.rmtree(folder, ignore_errors=True)
