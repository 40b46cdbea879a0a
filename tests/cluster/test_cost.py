"""What a sweep costs: formulas held to numbers worked out by hand, and wrong tables told with their place."""

import json
import math
from pathlib import Path

import pytest
import torch

from cluster.cluster_texts import AWS, GCP, KUBERAY, SWEEP, planted
from command_line import gapctl
from gapctl.cluster.cost import (
    GIB,
    PRICES_FILE,
    estimate_rent,
    estimate_trial_memory,
    load_shipped_prices,
    read_prices,
)
from gapctl.config.load import load_sweep
from gapctl.config.presets import PRESETS
from gapctl.config.sweep import Resources
from gapctl.config.trial import TrialConfig
from gapctl.plan.estimate import FLOPS_PER_CPU, VOCABULARY_SIZES, count_parameters
from gapctl.plan.plan import make_plan

ROUND = """\
as_of: 2026-01-31
checked: true
currency: EUR
region: {aws: eu-central-1}
assumptions:
  gpu_mfu: {mad-tiny: 0.5, mad-patch4: 0.5, pairs-small: 1, rn50-cc12m: 1, vit-b-32: 1}
  checkpoint_seconds: 3600
  checkpoint_mb_per_second: 1000000
  start_minutes: 30
  notice_seconds: 0
  preemptions_per_hour: 0.5
  failures_per_hour: 0
gpus: {Round: {memory_gib: 10, peak_tflops: 1}}
instances:
  m6i.xlarge: {cloud: aws, cpus: 4, on_demand: 1, spot: 0.5}
  g6.2xlarge: {cloud: aws, cpus: 8, gpu: Round, gpus: 1, on_demand: 10, spot: 4}
  g5.2xlarge: {cloud: aws, cpus: 8, gpu: Round, gpus: 1, on_demand: 20, spot: 8}
  g5.12xlarge: {cloud: aws, cpus: 48, gpu: Round, gpus: 4, on_demand: 80, spot: 32}
"""
SAME_TAG = """\
name: tags
question: q?
base:
  data: {dataset: image_text}
  model: {architecture: ViT-B-32, weights: openai}
  train: {samples: 0}
  evaluate: {gallery: 100}
cohort:
  models:
    - {name: small, architecture: ViT-B-32, weights: laion2b_e16}
    - {name: large, architecture: ViT-L-14, weights: laion2b_e16}
resources: {cpus: 1, gpus: 0}
"""


def estimates(file: Path, *more: str, sweep: Path = SWEEP) -> list[dict[str, object]]:
    """What `gapctl cluster cost --json` says."""
    code, out, err = gapctl("cluster", "cost", str(file), "--sweep", str(sweep), "--json", *more)
    assert code == 0, err
    rows: list[dict[str, object]] = json.loads(out)["estimates"]
    return rows


def table(folder: Path, old: str = "", new: str = "") -> Path:
    """A table of round numbers, with one text replaced."""
    path = folder / "prices.yaml"
    assert old in ROUND
    path.write_text(ROUND.replace(old, new, 1))
    return path


def test_hours_and_money_are_what_the_formulas_give(tmp_path: Path) -> None:
    flops = PRESETS["mad-tiny"].count_training_flops(64) * 51_200
    work = 3 * flops / (1e12 * 0.5) / 3600  # 18 trials on 8 machines: the longest train three
    each = 0.5 * work / 3  # losses during one training, which ends before its first checkpoint
    longer = math.exp(0.5 * 0.5) * (math.exp(each) - 1) / each
    spot, on_demand, *_ = estimates(AWS, "--prices", str(table(tmp_path)))

    assert spot["machines"] == on_demand["machines"] == 8
    assert on_demand["hours"] == pytest.approx(0.5 + work, rel=5e-3)
    assert spot["hours"] == pytest.approx(0.5 + longer * work, rel=5e-3)
    paid = 8 * (0.5 + 5 / 60) + 18 / 3 * work
    assert on_demand["workers"] == pytest.approx(10 * paid, rel=5e-3)
    assert on_demand["total"] == pytest.approx(10 * paid + 0.5 + work, rel=5e-3)
    assert spot["lost"] == pytest.approx(4 * (longer - 1) * 18 / 3 * work, rel=5e-3)
    assert on_demand["lost"] == on_demand["preemptions"] == 0


def test_public_models_whose_weights_have_one_name_are_counted_apart(tmp_path: Path) -> None:
    sweep = tmp_path / "tags.yaml"
    sweep.write_text(SAME_TAG)
    code, out, err = gapctl("cluster", "cost", str(AWS), "--sweep", str(sweep))

    assert (code, err) == (0, "")
    assert "2 trainings" in out


def test_work_that_would_hardly_ever_end_on_one_market_leaves_the_other_s_estimates(tmp_path: Path) -> None:
    prices = table(tmp_path, "preemptions_per_hour: 0.5", "preemptions_per_hour: 20")
    asked = ("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--prices", str(prices))
    document = json.loads(gapctl(*asked, "--json").out)
    lines = gapctl(*asked).out.splitlines()

    assert {each["market"] for each in document["estimates"]} == {"on demand"}
    assert {each["market"] for each in document["impossible"]} == {"spot"}
    assert len(document["impossible"]) == len(document["estimates"]) == 4
    told = [
        line for line in lines if line.startswith("no estimate for spot_l4, g6.2xlarge, spot, trials of 1 worker: ")
    ]
    assert len(told) == 1
    assert "found 20 losses an hour of a trial's machines, of which each costs 0.5 h" in " ".join(lines)


def test_a_sweep_that_hardly_ever_ends_anywhere_is_refused(tmp_path: Path) -> None:
    prices = table(tmp_path, "preemptions_per_hour: 0.5", "preemptions_per_hour: 20")
    prices.write_text(prices.read_text().replace("failures_per_hour: 0", "failures_per_hour: 20"))
    found = gapctl("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--prices", str(prices))

    assert (found.exit_code, found.out) == (2, "")
    assert "found no kind of worker that could train the sweep; expected one" in found.err
    assert found.err.count("found 20 losses an hour") == 8


@pytest.mark.parametrize("file", [AWS, GCP, KUBERAY], ids=["aws", "gcp", "kuberay"])
@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_all_numbers_are_finite_and_the_market_of_the_file_is_marked(file: Path, scale: str) -> None:
    rows = estimates(file, "--scale", scale)
    numbers = [value for row in rows for value in row.values() if isinstance(value, float)]

    assert numbers
    assert all(math.isfinite(value) and value >= 0 for value in numbers)
    assert sum(bool(row["chosen"]) for row in rows) == len({str(row["node"]) for row in rows}) == len(rows) / 2


def test_a_ledger_takes_its_finished_trials_out(tmp_path: Path) -> None:
    (everything, *_), (left, *_) = estimates(AWS), estimates(AWS, "--runs", str(tmp_path))

    assert left == everything


def test_more_than_a_gpu_can_do_at_once_takes_longer_not_less(tmp_path: Path) -> None:
    path, _ = planted(tmp_path, AWS, "max_workers: 8 # EDIT: the most", "max_workers: 2 # EDIT: the most")
    few, many = estimates(path)[0], estimates(AWS)[0]

    assert float(str(few["hours"])) > float(str(many["hours"]))
    assert few["machines"] == 2


def test_a_cpu_trains_by_what_a_core_sustains(tmp_path: Path) -> None:
    on_gpu, on_cpu = estimates(AWS)[1], estimates(AWS, "--set", "resources.gpus=0.0")[1]

    assert float(str(on_cpu["hours"])) > float(str(on_gpu["hours"]))
    assert on_cpu["machines"] == 3  # eight cores each


def test_workers_on_several_machines_are_faster_and_lose_more_to_each_preemption() -> None:
    pairs = (SWEEP.with_name("cc12m_captions.yaml"), "--set", "resources.gpus=1.0")
    alone = estimates(AWS, *pairs[1:], sweep=pairs[0])[0]
    together = estimates(AWS, *pairs[1:], "--set", "resources.workers=4", sweep=pairs[0])[0]

    assert together["machines"] == 8
    assert float(str(together["lost_hours"])) > 3 * float(str(alone["lost_hours"]))


def test_more_workers_than_machines_are_told_by_lint() -> None:
    pairs = str(SWEEP.with_name("cc12m_captions.yaml"))
    found = gapctl("cluster", "lint", str(AWS), "--sweep", pairs, "--set", "resources.workers=16")

    assert found.exit_code == 1
    assert "a trial asks for 16 times 1 CPUs and 1 GPUs, which no kind of worker has" in found.out


def test_the_table_says_when_prices_were_typed_in_and_that_nobody_checked_them() -> None:
    out = gapctl("cluster", "cost", str(AWS), "--sweep", str(SWEEP)).out

    assert f"Prices in USD of {load_shipped_prices().as_of}" in out
    assert "not checked" in out
    assert "nan" not in out.lower()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("checked: true", "checked: perhaps", ":2:1: checked: found 'perhaps'; expected true or false"),
        ("mad-tiny: 0.5", "mad-tiny: 1.5", ":6:13: assumptions.gpu_mfu.mad-tiny: found 1.5; expected at most 1"),
        ("mad-tiny: 0.5, ", "", "assumptions.gpu_mfu: found no share for mad-tiny; expected one for every preset"),
        ("spot: 0.5", "spots: 0.5", "instances.m6i.xlarge.spots: unknown key"),
        ("gpu: Round", "gpu: Square", "instances.g6.2xlarge: found the GPU 'Square'; expected one of gpus"),
        ("gpus: 1, on_demand: 10", "on_demand: 10", "found gpu without gpus"),
        ("on_demand: 10", "on_demand: -1", "expected a number above 0"),
        (
            "  m6i.xlarge",
            "  m6.xlarge",
            "head: found the machine 'm6i.xlarge', of which no price is known",
        ),
    ],
)
def test_a_wrong_table_is_told_with_its_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    prices = table(tmp_path, old, new)
    found = gapctl("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--prices", str(prices))

    assert found.exit_code == 2
    assert expected in found.err
    assert found.out == ""


def test_a_machine_without_a_price_leaves_the_others_estimates(tmp_path: Path) -> None:
    prices = table(tmp_path, "  g6.2xlarge", "  g7.2xlarge")
    asked = ("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--prices", str(prices))
    document = json.loads(gapctl(*asked, "--json").out)

    assert [each["node"] for each in document["impossible"]] == ["spot_l4", "on_demand_l4"]
    assert [each["market"] for each in document["impossible"]] == [None, None]
    assert {each["node"] for each in document["estimates"]} == {"spot_a10g", "spot_4xa10g"}
    assert "spot_l4: found the machine 'g6.2xlarge', of which no price is known" in " ".join(gapctl(*asked).out.split())


def test_a_manifest_that_names_no_machine_has_no_price(tmp_path: Path) -> None:
    path, _ = planted(
        tmp_path, KUBERAY, "node.kubernetes.io/instance-type: g2-standard-8 # EDIT\n", "disk: ssd\n", "        disk"
    )
    found = json.loads(gapctl("cluster", "cost", str(path), "--sweep", str(SWEEP), "--json").out)

    (impossible,) = found["impossible"]
    assert "spot-l4: found no machine; expected its nodeSelector with node.kubernetes.io/inst" in impossible["found"]
    assert {each["node"] for each in found["estimates"]} == {"on-demand-l4"}


def test_each_kind_of_worker_too_small_for_a_trial_is_told_beside_the_others() -> None:
    asked = ("cluster", "cost", str(AWS), "--sweep", str(SWEEP), "--set")
    some, none = gapctl(*asked, "resources.cpus=16"), gapctl(*asked, "resources.cpus=64")
    document = json.loads(gapctl(*asked, "resources.cpus=16", "--json").out)

    assert sum(each.startswith("no estimate for") for each in some.out.splitlines()) == 3
    assert "no estimate for spot_l4, g6.2xlarge, any market, trials of 1 worker: " in some.out
    told = "found 8 CPUs and 1 GPUs; expected at least 16 and 1, as each worker of a trial takes"
    assert told in " ".join(some.out.split())
    assert [each["market"] for each in document["estimates"]] == ["spot", "on demand"]
    assert {each["node"] for each in document["estimates"]} == {"spot_4xa10g"}
    assert (none.exit_code, none.out) == (2, "")
    assert none.err.count("expected at least 64 and 1, as each worker of a trial takes") == 4


def test_workers_of_which_one_number_fits_nowhere_are_compared_all_the_same() -> None:
    captions = str(SWEEP.with_name("cc12m_captions.yaml"))
    asked = ("cluster", "cost", str(AWS), "--sweep", captions, "--json", "--workers", "1", "--workers", "8")
    document = json.loads(gapctl(*asked, "--set", "resources.gpus=2").out)

    assert {each["trial_workers"] for each in document["estimates"]} == {1, 8}
    assert {(each["node"], each["trial_workers"]) for each in document["impossible"]} == {
        (node, workers) for node in ("spot_l4", "spot_a10g", "on_demand_l4") for workers in (1, 8)
    }


def test_every_shipped_file_has_prices_for_its_machines() -> None:
    assert PRICES_FILE.name == "prices.yaml"
    for file in (AWS, GCP, KUBERAY):
        assert estimates(file)


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_model_but_for_biases_norms_and_vocabulary(name: str) -> None:
    from gapctl.models.build import TokenVocabulary, build_model

    preset = PRESETS[name]
    config = {"model": {"preset": name, "embed_dim": preset.embed_dim}, "data": {"dataset": preset.dataset}}
    tokens = VOCABULARY_SIZES[preset.vocabulary]
    with torch.device("meta"):
        model = build_model(
            TrialConfig.model_validate(config), TokenVocabulary(tokens, preset.text.tokens, pad=0, end=0), seed=0
        )
    built = sum(weight.numel() for weight in model.parameters())

    assert count_parameters(preset, preset.embed_dim) == pytest.approx(built, rel=0.05)


@pytest.mark.parametrize(("batch", "precision"), [(128, "bfloat16"), (4096, "bfloat16"), (4096, "float32")])
def test_memory_grows_with_batch_precision_and_pack(batch: int, precision: str) -> None:
    config = TrialConfig.model_validate({"train": {"samples": 8192, "batch_size": batch, "precision": precision}})
    smaller = TrialConfig.model_validate({"train": {"samples": 8192, "batch_size": batch // 2, "precision": precision}})

    assert (
        1 * GIB < estimate_trial_memory(smaller) < estimate_trial_memory(config) < estimate_trial_memory(config, pack=2)
    )
    assert estimate_trial_memory(config) - estimate_trial_memory(smaller) > 0


def test_the_machine_on_which_the_whole_sweep_costs_least_is_rented_by_itself(tmp_path: Path) -> None:
    trials = make_plan(load_sweep(SWEEP, "laptop"), lambda data: data.source).trials * 1_000
    flops = PRESETS["mad-tiny"].count_training_flops(64) * 51_200 * len(trials)
    prices = read_prices(table(tmp_path, "on_demand: 10,", "on_demand: 2,"))

    one_gpu = estimate_rent(trials, Resources(), prices)
    assert one_gpu is not None
    hours = 0.5 + flops / (1e12 * 0.5) / 3600
    assert (one_gpu.machine, one_gpu.gpu) == ("g6.2xlarge", "Round")
    assert (one_gpu.hours, one_gpu.cost) == pytest.approx((hours, 2 * hours))

    small = read_prices(table(tmp_path, "memory_gib: 10", "memory_gib: 1"))
    cores = estimate_rent(trials, Resources(), small)
    assert cores is not None
    rounds = -(-len(trials) // 4)  # one after another on each of four cores
    hours = 0.5 + rounds * flops / len(trials) / FLOPS_PER_CPU / 3600
    assert (cores.machine, cores.gpu) == ("m6i.xlarge", None)
    assert (cores.hours, cores.cost) == pytest.approx((hours, hours))
    assert estimate_rent(trials, Resources(cpus=49), prices) is None


def test_a_plan_says_what_is_left_costs_on_a_rented_machine() -> None:
    totals = json.loads(gapctl("plan", str(SWEEP), "--json").out)["totals"]
    printed = " ".join(gapctl("plan", str(SWEEP)).out.split())
    prices = load_shipped_prices()

    rent = totals["rent"]
    assert rent["cost"] == pytest.approx(rent["hours"] * prices.instances[rent["machine"]].on_demand)
    assert (rent["currency"], rent["prices_as_of"]) == (prices.currency, prices.as_of)
    assert f"USD on one {rent['machine']}" in printed
    assert "gapctl cluster cost" in printed
