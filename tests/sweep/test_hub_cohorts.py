"""A cohort whose models a hub serves has the numbers of their files; whatever the hub or a row does wrong is said.

Trials run as in a sweep, without Ray between. One test sweeps with Ray, by the command.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from command_line import Answer, gapctl
from gapctl.cli.options import compute_data_source_fingerprint
from gapctl.config.architectures import list_architectures
from gapctl.config.load import load_sweep
from gapctl.ledger import Ledger
from gapctl.models.public import read_public_model
from gapctl.plan.plan import Plan, make_plan
from hub import Hub, serve_hub, use_hub
from hub_cohorts import KINDS, WEIGHTS, serve_models, write_cohort, write_sweep
from small_sets import write_classification, write_retrieval
from sweep_without_ray import sweep_alone
from sweeping import run_sweep_of
from tiny_models import TINY_VIT


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The models, the sets and a sweep over the models' own folders, with their numbers in `runs`."""
    folder = write_cohort(tmp_path_factory.mktemp("cohort"))
    assert not sweep_alone(plan_of(folder / "local.yaml"), Ledger(str(folder / "runs"))).failures
    return folder


@pytest.fixture
def hub(cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the models, and a client with an empty cache."""
    read_public_model.cache_clear()
    with serve_hub() as hub:
        serve_models(hub, cohort)
        use_hub(hub, tmp_path / "cache", monkeypatch)
        yield hub


def plan_of(file: Path) -> Plan:
    return make_plan(load_sweep(file), compute_data_source_fingerprint)


def read_metrics(runs: Path, plan: Plan) -> dict[str, str]:
    """The metrics of each finished model, as the text that its result holds."""
    found = {}
    for trial in plan.trials:
        result = runs / trial.id / "result.json"
        if result.is_file() and trial.model is not None:
            found[trial.model.name] = json.dumps(json.loads(result.read_text(encoding="utf-8"))["metrics"])
    return found


def test_models_of_a_hub_have_the_trials_and_numbers_of_their_files(cohort: Path, hub: Hub, tmp_path: Path) -> None:
    local, served = (plan_of(file) for file in (cohort / "local.yaml", write_sweep(cohort, "hub.yaml")))
    assert [trial.id for trial in served.trials] == [trial.id for trial in local.trials]
    assert not hub.downloads()

    assert not sweep_alone(served, Ledger(str(tmp_path / "runs"))).failures

    found = read_metrics(tmp_path / "runs", served)
    assert list(found) == list(KINDS)
    assert found == read_metrics(cohort / "runs", local)
    assert len(set(found.values())) == len(KINDS)
    assert sorted(hub.downloads()) == sorted(f"/storage/tiny/{name}/{WEIGHTS}" for name in KINDS)


def test_models_under_tags_have_them_too(
    cohort: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a newer open_clip listed two tags of a tiny architecture."""
    import open_clip.pretrained as registry

    (cohort / "tiny-vit.json").write_text(json.dumps(TINY_VIT), encoding="utf-8")
    monkeypatch.setitem(list_architectures(), "tiny-vit", cohort / "tiny-vit.json")
    tags = {name: {"hf_hub": f"tiny/{name}/"} for name in ("one", "two")}
    monkeypatch.setitem(registry._PRETRAINED, "tiny-vit", tags)

    def name_tags(text: str) -> str:
        for name in tags:
            text = text.replace(
                f'"architecture": "models/{name}/open_clip_config.json", "weights": "hf-hub:tiny/{name}"',
                f'"architecture": "tiny-vit", "weights": "{name}"',
            )
        return text

    tagged, local = plan_of(write_sweep(cohort, "tags.yaml", change=name_tags)), plan_of(cohort / "local.yaml")
    assert [getattr(trial.config.model, "weights", "") for trial in tagged.trials][:2] == ["one", "two"]
    assert [trial.id for trial in tagged.trials] == [trial.id for trial in local.trials]

    assert not sweep_alone(tagged, Ledger(str(tmp_path / "runs"))).failures
    assert read_metrics(tmp_path / "runs", tagged) == read_metrics(cohort / "runs", local)


def raise_as_extension_error(plan: Plan, failures: Mapping[str, str]) -> dict[str, str]:
    """The last line of each failure, by the name of its model."""
    names = {trial.id: str(trial.model and trial.model.name) for trial in plan.trials}
    return {names[trial_id]: message.strip().splitlines()[-1] for trial_id, message in failures.items()}


def test_downloads_that_break_or_are_spoilt_fail_alone_and_are_taken_up(cohort: Path, hub: Hub, tmp_path: Path) -> None:
    runs, plan = tmp_path / "runs", plan_of(write_sweep(cohort, "hub.yaml"))
    hub.stops[f"tiny/one/{WEIGHTS}"] = 1_000_000
    hub.spoilt.add(f"tiny/resnet/{WEIGHTS}")
    failed = raise_as_extension_error(plan, sweep_alone(plan, Ledger(str(runs))).failures)

    assert list(failed) == ["one", "resnet"]
    assert "found 'hf-hub:tiny/one': open_clip_model.safetensors could not be downloaded from http://" in failed["one"]
    assert "The same command tries again" in failed["one"]
    assert "damaged: its sha256 is" in failed["resnet"]
    done = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    assert len(done) == 2

    hub.stops.clear()
    hub.spoilt.clear()
    damaged = failed["resnet"].partition("Delete ")[2].partition(";")[0]
    Path(damaged).unlink()
    assert not sweep_alone(plan, Ledger(str(runs))).failures
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert read_metrics(runs, plan) == read_metrics(cohort / "runs", plan)


def test_files_that_are_cut_short_or_of_another_architecture_fail_alone(cohort: Path, hub: Hub, tmp_path: Path) -> None:
    runs, served = tmp_path / "runs", hub.repositories
    served["tiny/one"] = {**served["tiny/one"], WEIGHTS: served["tiny/one"][WEIGHTS][:-100]}
    served["tiny/two"] = {**served["tiny/two"], WEIGHTS: served["tiny/resnet"][WEIGHTS]}
    plan = plan_of(write_sweep(cohort, "hub.yaml"))
    failed = raise_as_extension_error(plan, sweep_alone(plan, Ledger(str(runs))).failures)

    assert list(failed) == ["one", "two"]
    assert f"{WEIGHTS}: damaged, or no checkpoint" in failed["one"]
    assert "a checkpoint of another architecture than" in failed["two"]
    assert "Name the architecture that it was trained under" in failed["two"]
    assert list(read_metrics(runs, plan)) == ["resnet", "siglip"]


HUB_FAULTS: dict[str, tuple[int, str]] = {
    "a wrong token": (401, "answered 401"),
    "a file that is gone": (404, "answered 404"),
    "too many requests": (429, "answered 429"),
    "an error of its own": (500, "answered 500"),
}


def assert_refused(ran: Answer, folder: Path, *parts: str) -> None:
    """Require exit code 2 with these words and no traceback, and no ledger."""
    assert (ran.exit_code, ran.out) == (2, ""), ran
    assert "Traceback" not in ran.err
    for part in parts:
        assert part in ran.err, ran.err
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("fault", HUB_FAULTS)
def test_a_hub_that_fails_is_said_with_the_row_before_anything_is_measured(
    cohort: Path, hub: Hub, tmp_path: Path, fault: str
) -> None:
    status, message = HUB_FAULTS[fault]
    hub.statuses[f"tiny/resnet/{WEIGHTS}"] = status
    file = write_sweep(cohort, "hub.yaml")
    place = f"{file}:17:"

    ran = gapctl("sweep", str(file), "--runs", str(tmp_path / "runs"))
    assert_refused(ran, tmp_path, place, "cohort.models[2].weights: found 'hf-hub:tiny/resnet': ", message)
    planned = json.loads(gapctl("plan", str(file), "--json").out)
    assert [trial["id"].endswith("?") for trial in planned["trials"]] == [False, False, True, False]
    (unknown,) = planned["totals"]["unknown_weights"].values()
    assert message in unknown


def replace(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new, 1)

    return change


ROW = '"name": "two", "architecture": "models/two/open_clip_config.json", "weights": "hf-hub:tiny/two", "family": "vit"'
WRONG_ROWS: dict[str, tuple[Callable[[str], str], tuple[str, ...]]] = {
    "a repository that no hub has": (
        replace("hf-hub:tiny/two", "hf-hub:tiny/tow"),
        ("cohort.models[1].weights: found 'hf-hub:tiny/tow': no such repository at http://",),
    ),
    "an unknown architecture": (
        replace(ROW, '"name": "two", "architecture": "ViT-B32", "weights": "openai", "family": "vit"'),
        ("cohort.models[1]", "found 'ViT-B32'; did you mean ViT-B-32?"),
    ),
    "an unknown tag": (
        replace(ROW, '"name": "two", "architecture": "ViT-B-32", "weights": "openay", "family": "vit"'),
        ("cohort.models[1]", "found 'openay': neither a file nor a tag", "did you mean openai?"),
    ),
    "weights of another architecture": (
        replace("hf-hub:tiny/two", "hf-hub:tiny/resnet"),
        ("cohort.models[1]", "found 'hf-hub:tiny/resnet', of another architecture than"),
    ),
    "a model twice": (
        replace("hf-hub:tiny/two", "hf-hub:tiny/one"),
        ("cohort.models[1]", "model=two is the same training as model=one; expected each model once"),
    ),
    "a stratum that is not known": (
        replace(', "family": "resnet"', ""),
        ("cohort.models[2].family: resnet has no family, by which cohort.strata tells models apart",),
    ),
    "a covariate that is not known": (
        replace("log parameters", "log pairs"),
        ("cohort.covariates[0]: no model has a fact 'pairs'",),
    ),
    "a covariate of some": (
        lambda text: replace('"name": "two",', '"name": "two", "pairs": 3,')(replace("log parameters", "pairs")(text)),
        ("cohort.models[0].pairs: one has no pairs, by which cohort.covariates tells models apart; expected a value",),
    ),
}


@pytest.mark.parametrize("wrong", WRONG_ROWS)
def test_a_wrong_row_is_said_with_its_place_before_anything_is_measured(
    cohort: Path, hub: Hub, tmp_path: Path, wrong: str
) -> None:
    change, parts = WRONG_ROWS[wrong]
    file = write_sweep(cohort, "wrong.yaml", change=change)

    assert_refused(gapctl("sweep", str(file), "--runs", str(tmp_path / "runs")), tmp_path, f"{file}:", *parts)


def test_strata_of_one_model_are_counted_in_the_plan(cohort: Path, hub: Hub) -> None:
    printed = " ".join(gapctl("plan", str(write_sweep(cohort, "hub.yaml"))).out.split())

    assert "4 models in 3 strata of family (resnet 1, siglip 1, vit 2)" in printed
    assert "2 strata have one model, which says nothing about differences within a stratum" in printed


def leave_out_an_image(folder: Path) -> str:
    write_retrieval(folder / "words", captions=3)
    (folder / "words" / "test" / "1.tar").unlink()
    return "words"


def write_fewer_images(folder: Path) -> str:
    write_retrieval(folder / "words", images=38)
    return "words"


def write_a_class_too_many(folder: Path) -> str:
    write_classification(folder / "colours", names=("red", "green", "blue", "violet"))
    return "colours"


WRONG_SETS: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing images": (leave_out_an_image, "counts 2 shards, and 1.tar is missing"),
    "wrong counts": (write_fewer_images, "found 38 images, not 40"),
    "a class without an image": (write_a_class_too_many, "no image has violet (1 of 4 classes)"),
}


@pytest.mark.parametrize("wrong", WRONG_SETS)
def test_a_wrong_set_is_said_with_its_place_before_a_model_is_downloaded(
    cohort: Path, hub: Hub, tmp_path: Path, wrong: str
) -> None:
    spoil, message = WRONG_SETS[wrong]
    name = spoil(tmp_path)
    file = write_sweep(cohort, "wrong.yaml", change=replace(str(cohort / name), str(tmp_path / name)))

    ran = gapctl("sweep", str(file), "--runs", str(tmp_path / "runs"))

    assert_refused(ran, tmp_path, f"{file}:", f"evaluation_sets.{name}: evaluation set {name}: ", message)
    assert not hub.downloads()


@pytest.mark.parametrize("weights", ["local-dir:models/", "hf-hub:tiny/"])
@pytest.mark.parametrize("name", ["two", "siglip"])
def test_measuring_a_model_on_a_set_gives_the_numbers_of_its_trial_to_the_last_bit(
    cohort: Path, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: str, name: str
) -> None:
    monkeypatch.chdir(cohort)
    file = write_sweep(cohort, "measured.yaml", lambda model: f"{weights}{model}")
    trial = next(trial for trial in plan_of(file).trials if trial.model and trial.model.name == name)
    runs = str(tmp_path / "runs")
    trained = gapctl("train", str(file), "--trial", trial.id, "--runs", runs)
    assert trained.exit_code == 0, trained.err
    result = Ledger(runs).result(trial.id)
    assert result is not None

    for set_name in ("words", "colours"):
        asked = ("--model", f"{weights}{name}", "--evaluation-set", set_name, "--sweep", str(file), "--json")
        measured = gapctl("measure", *asked)
        assert measured.exit_code == 0, measured.err
        theirs = json.loads(measured.out)["metrics"]
        ours = {
            name if name.startswith("temperature/") else name.removeprefix(f"{set_name}/"): value
            for name, value in result.metrics.items()
            if name.startswith((f"{set_name}/", "temperature/"))
        }
        assert json.dumps(ours, sort_keys=True) == json.dumps(theirs, sort_keys=True)
        assert len(ours) > 20


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_sweep_with_ray_measures_the_others_exits_with_1_and_goes_on_with_what_failed(
    cohort: Path, hub: Hub, tmp_path: Path
) -> None:
    hub.stops[f"tiny/two/{WEIGHTS}"] = 1_000_000
    file = write_sweep(cohort, "hub.yaml")
    first = run_sweep_of(file, tmp_path)
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/result.json")}

    assert first.exit_code == 1
    assert "model=two" in first.err
    assert "found 'hf-hub:tiny/two': open_clip_model.safetensors could not be downloaded from" in first.err
    assert "the same command tries it again" in first.err
    assert len(done) == 3

    hub.stops.clear()
    second = run_sweep_of(file, tmp_path)
    assert second.exit_code == 0, second.err
    assert {path: path.stat().st_mtime_ns for path in done} == done
    plan = plan_of(file)
    assert read_metrics(tmp_path / "runs", plan) == read_metrics(cohort / "runs", plan)
    assert "nothing is left to do" in run_sweep_of(file, tmp_path).out
