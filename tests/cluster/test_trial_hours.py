"""Hours of a trial on machines that send each other gradients and are lost now and then, held to a simulation."""

import json
import math
from pathlib import Path
from statistics import mean

import pytest

from cluster.cluster_texts import AWS, SWEEP, planted
from command_line import gapctl
from gapctl.cluster.cluster_files import parse_cluster_documents, read_documents
from gapctl.cluster.cost import get_start_hours, load_shipped_prices
from gapctl.cluster.trial_hours import (
    CHECKPOINT_SPACING,
    Exchange,
    choose_checkpoint_hours,
    compute_network_share,
    compute_slowdown,
    estimate_exchange,
)
from gapctl.config.presets import PRESETS
from gapctl.errors import InputError
from gapctl.plan.estimate import count_parameters
from spot_simulation import Group, simulate_training

CAPTIONS = SWEEP.with_name("cc12m_captions.yaml")
RN50_WEIGHTS = count_parameters(PRESETS["rn50-cc12m"], 1024)
MINUTE = 1 / 60


def costs(*more: str) -> list[dict[str, float | str]]:
    """What `gapctl cluster cost` says of CC12M's captions at the paper's scale."""
    code, out, err = gapctl("cluster", "cost", str(AWS), "--sweep", str(CAPTIONS), "--scale", "paper", "--json", *more)
    assert code == 0, err
    rows: list[dict[str, float | str]] = json.loads(out)["estimates"]
    return rows


def pick(rows: list[dict[str, float | str]], machine: str, market: str, key: str, workers: int) -> float:
    """One number of the table, of the first row for a machine, market and number of workers."""
    found = next(
        row for row in rows if (row["instance"], row["market"], row["trial_workers"]) == (machine, market, workers)
    )
    return float(found[key])


@pytest.mark.parametrize("machines", [1, 8])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("start", [1 * MINUTE, 8 * MINUTE])
@pytest.mark.parametrize(("apart", "writing"), [(0.5 * MINUTE, 0.0), (5.5 * MINUTE, 0.27 * MINUTE), (1.0, 0.01)])
def test_hours_on_machines_that_are_lost_are_the_simulation_s(
    machines: int, rate: float, start: float, apart: float, writing: float
) -> None:
    group = Group(machines, rate, start, apart, writing)
    simulated = mean(simulate_training(group, 1000.0, seed).hours for seed in range(10))

    assert 1000 * compute_slowdown(machines * rate, start, apart, writing) == pytest.approx(simulated, rel=0.03)


def test_losses_are_as_many_as_the_hours_have() -> None:
    group = Group(8, 0.2, 8 * MINUTE, 1 * MINUTE)
    runs = [simulate_training(group, 500.0, seed) for seed in range(10)]

    assert mean(run.losses for run in runs) == pytest.approx(8 * 0.2 * mean(run.hours for run in runs), rel=0.03)


def test_work_without_losses_takes_its_hours_and_the_writing_of_checkpoints() -> None:
    assert compute_slowdown(0.0, 1.0, 0.5, 0.01) == pytest.approx(1.02)
    assert compute_slowdown(1e-9, 1.0, 0.5, 0.01) == pytest.approx(1.02, rel=1e-6)


def test_few_losses_cost_a_restart_and_half_an_interval_each() -> None:
    assert compute_slowdown(0.001, 0.1, 0.5) - 1 == pytest.approx(0.001 * (0.1 + 0.25), rel=1e-2)


@pytest.mark.parametrize("rate", [60.0, 1e5])
def test_work_that_hardly_ever_ends_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="expected fewer"):
        compute_slowdown(rate, 1.0, 1.0)


def test_young_s_interval_loses_least() -> None:
    """J. W. Young, Communications of the ACM 17, 1974: the square root of 2 w / r."""
    rate, writing = 0.4, 16 / 3600
    best = math.sqrt(2 * writing / rate)
    at = {share: compute_slowdown(rate, 0.1, share * best, writing) for share in (0.5, 1.0, 2.0)}

    assert at[1.0] == min(at.values())


def test_checkpoints_are_as_far_apart_as_trainings_write_them() -> None:
    from gapctl.training import trial_state

    assert load_shipped_prices().assumptions.checkpoint_seconds == trial_state.UPLOAD_SECONDS
    assert CHECKPOINT_SPACING == trial_state.CHECKPOINT_SPACING
    assert choose_checkpoint_hours(1.0, 0.01) == 1.0
    assert choose_checkpoint_hours(0.1, 0.01) == pytest.approx(0.2)


def test_eight_workers_of_rn50_send_714_megabytes_of_gradients_a_step() -> None:
    exchange = estimate_exchange(RN50_WEIGHTS, 880, 1024, 8)

    assert exchange.gradients == pytest.approx(714e6, rel=0.01)
    assert exchange.rows == pytest.approx(2 * 7 / 8 * 880 * 2 * 1024 * 4)


def test_a_step_waits_for_what_its_backward_pass_does_not_hide() -> None:
    step, gbit = 0.25, 5.0
    exchange = Exchange(gradients=714e6, rows=13e6)
    sent = 8 * 714e6 / 5e9

    assert compute_network_share(exchange, gbit, step) * step == pytest.approx(sent - step * 2 / 3 + 8 * 13e6 / 5e9)
    assert compute_network_share(exchange, 400.0, step) * step == pytest.approx(8 * 13e6 / 400e9)
    assert compute_network_share(exchange, gbit, step, 4) > compute_network_share(exchange, gbit, step)


def test_single_gpus_pay_for_their_network_and_machines_with_several_do_not() -> None:
    rows = costs("--workers", "1", "--workers", "8")

    one, eight = (pick(rows, "g6.2xlarge", "on demand", "total", workers) for workers in (1, 8))
    assert 3 < eight / one < 6
    assert pick(rows, "g6.2xlarge", "on demand", "network_hours", 1) == 0
    wide = pick(rows, "g5.12xlarge", "on demand", "total", 8) / pick(rows, "g5.12xlarge", "on demand", "total", 1)
    assert wide < 1.1
    assert pick(rows, "g5.12xlarge", "on demand", "hours", 8) < 0.6 * pick(rows, "g5.12xlarge", "on demand", "hours", 1)


def test_eight_machines_lose_eight_times_as_often_and_all_of_them_wait() -> None:
    rows = costs("--workers", "1", "--workers", "8")
    lost = {
        workers: pick(rows, "g6.2xlarge", "spot", "lost_hours", workers)
        / pick(rows, "g6.2xlarge", "spot", "machine_hours", workers)
        for workers in (1, 8)
    }

    assert lost[8] > 1.8 * lost[1]


def test_a_kind_that_is_taken_away_more_often_than_others_costs_more(tmp_path: Path) -> None:
    shipped = Path(__file__).parents[2] / "platform/gapctl/cluster/prices.yaml"
    worse, _ = planted(
        tmp_path, shipped, "spot: 0.44, network_gbit: 5", "spot: 0.44, network_gbit: 5, preemptions_per_hour: 1"
    )
    before, after = costs("--workers", "8"), costs("--workers", "8", "--prices", str(worse))

    for key in ("hours", "total", "preemptions", "lost"):
        assert pick(after, "g6.2xlarge", "spot", key, 8) > 1.05 * pick(before, "g6.2xlarge", "spot", key, 8)
    for machine, market in (("g6.2xlarge", "on demand"), ("g5.2xlarge", "spot")):
        assert pick(after, machine, market, "total", 8) == pick(before, machine, market, "total", 8)


def test_an_environment_from_an_image_starts_sooner_and_costs_less(tmp_path: Path) -> None:
    named, _ = planted(tmp_path, AWS, "unpack-image.sh REGISTRY/", "unpack-image.sh registry.example/")
    sweep = ("--sweep", str(SWEEP), "--json")
    installed = json.loads(gapctl("cluster", "cost", str(AWS), *sweep).out)["estimates"][0]  # REGISTRY is nobody's
    unpacked = json.loads(gapctl("cluster", "cost", str(named), *sweep).out)["estimates"][0]
    assumed = load_shipped_prices().assumptions

    assert assumed.image_start_minutes is not None
    sooner = (assumed.start_minutes - assumed.image_start_minutes) / 60
    assert installed["hours"] - unpacked["hours"] == pytest.approx(sooner, rel=0.05)
    assert unpacked["total"] < installed["total"]


UNPACK = "  - bash ~/gapctl/docs/cluster/unpack-image.sh REGISTRY/gapctl:0.1.0-ray2.60.0-py312-cu13 || true # EDIT\n"
NAMED = UNPACK.replace("REGISTRY/", "registry.example/")
WORKERS_IMAGE = "resolve:ssm:/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
PLAIN_IMAGE = "resolve:ssm:/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
OWN_SET_UP = "spot_l4:\n    worker_setup_commands: [~/mine/set-up.sh]\n"


@pytest.mark.parametrize(
    ("changes", "installing"),
    [
        pytest.param([(UNPACK, NAMED)], set(), id="unpacked"),
        pytest.param([(UNPACK, NAMED), (WORKERS_IMAGE, PLAIN_IMAGE)], {"spot_l4"}, id="a machine without Docker"),
        pytest.param([(UNPACK, NAMED), ("  spot_l4:\n", f"  {OWN_SET_UP}")], {"spot_l4"}, id="a set-up of its own"),
        pytest.param(
            [(UNPACK, ""), ("head_setup_commands:\n", f"head_setup_commands:\n{NAMED}")], "all", id="the head alone"
        ),
        pytest.param(
            [("\nauth:", "\ndocker: {image: mine/gapctl:1, container_name: ray}\n\nauth:")], set(), id="containers"
        ),
        pytest.param(
            [("\nauth:", "\ndocker: {image: rayproject/ray:2.60.0, container_name: ray}\n\nauth:")],
            "all",
            id="containers of Ray's own image",
        ),
        pytest.param(
            [("\nauth:", "\ndocker: {head_image: mine/gapctl:1, container_name: ray}\n\nauth:")],
            "all",
            id="a container on the head alone",
        ),
    ],
)
def test_only_kinds_of_machines_that_get_an_image_start_in_its_time(
    tmp_path: Path, changes: list[tuple[str, str]], installing: set[str] | str
) -> None:
    text = AWS.read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    file = tmp_path / "cluster.yaml"
    file.write_text(text, encoding="utf-8")
    (cluster,) = parse_cluster_documents(read_documents(file))

    expected = {node.name for node in cluster.workers} if installing == "all" else installing
    assumed = load_shipped_prices().assumptions
    hours = {node.name: get_start_hours(cluster, node, assumed) for node in cluster.workers}
    assert assumed.image_start_minutes is not None
    assert hours == {
        name: (assumed.start_minutes if name in expected else assumed.image_start_minutes) / 60 for name in hours
    }


def test_the_starts_of_kinds_that_differ_are_both_told(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    text = AWS.read_text(encoding="utf-8").replace(UNPACK, NAMED).replace(WORKERS_IMAGE, PLAIN_IMAGE, 1)
    file.write_text(text, encoding="utf-8")
    out = " ".join(gapctl("cluster", "cost", str(file), "--sweep", str(SWEEP)).out.split())

    assert "5 min to start with its environment from an image (spot_a10g, spot_4xa10g, on_demand_l4)" in out
    assert "8 min to start with installation (spot_l4)" in out


def test_traffic_between_zones_is_told_beside_the_total() -> None:
    rows = costs()
    traffic = pick(rows, "g6.2xlarge", "spot", "traffic_gb", 8)
    out = gapctl("cluster", "cost", str(AWS), "--sweep", str(CAPTIONS), "--scale", "paper").out

    steps = 15 * 277_893_120 / 880
    assert traffic == pytest.approx(8 * steps * (0.714 + 0.0126), rel=0.01)
    assert pick(rows, "g6.2xlarge", "spot", "zone_traffic", 8) == pytest.approx(0.02 * traffic, rel=0.01)
    assert "Between zones that would cost up to" in out
    assert "Between zones" not in gapctl("cluster", "cost", str(AWS), "--sweep", str(SWEEP)).out


def test_workers_that_a_trial_may_not_have_are_refused() -> None:
    found = gapctl("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--workers", "8")

    assert found.exit_code == 2
    assert "resources.workers: found 8; expected 1 with dataset mad" in found.err
