"""`gapctl measure` takes models of a hub and of folders, and several models, which stand beside each other."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_measures import no_ray

from command_line import Answer, gapctl, gapctl_process
from hub import Hub, make_environment, serve_hub, use_hub
from mlflow_database import write_empty_database
from pair_shards import write_pairs
from tiny_models import HALVES, TINY_RESNET, TINY_SIGLIP, TINY_VIT, write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three models of different kinds."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "vit", TINY_VIT)
    write_model(folder / "resnet", TINY_RESNET)
    write_model(folder / "siglip", TINY_SIGLIP, preprocess=HALVES)
    return folder


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    write_pairs(folder / "00000.tar", range(20))
    write_pairs(folder / "00001.tar", range(20, 30))
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def hub(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve_hub() as hub:
        for name in ("vit", "resnet", "siglip"):
            hub.add(f"tiny/{name}", models / name)
        use_hub(hub, tmp_path / "hub", monkeypatch)
        yield hub


@pytest.fixture
def place(hub: Hub, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a hub, and the file's cache of embeddings."""
    monkeypatch.setattr("gapctl.cli.sweep.start_local_ray", no_ray)
    monkeypatch.setenv("GAPCTL_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def measure(shards: Path, *models: str, more: tuple[str, ...] = ()) -> Answer:
    named = [part for model in models for part in ("--model", model)]
    return gapctl("measure", *named, "--data", str(shards), "--workers", "2", *more)


def test_a_hubs_model_gives_the_numbers_of_its_folder(place: Path, models: Path, shards: Path) -> None:
    hubs, folders = (
        json.loads(measure(shards, name, more=("--json",)).out)
        for name in ("hf-hub:tiny/siglip", f"local-dir:{models}/siglip")
    )
    assert hubs["metrics"] == folders["metrics"]
    assert hubs["inputs"]["weights"]["sha256"] == folders["inputs"]["weights"]["sha256"]
    assert hubs["inputs"]["model"] == "hf-hub:tiny/siglip"
    assert hubs["inputs"]["pretrained"] is None
    assert hubs["inputs"]["preprocess"]["mean"] == HALVES["mean"]
    assert hubs["metrics"]["temperature/bias"] == -10


def test_several_models_are_those_of_single_calls(place: Path, models: Path, shards: Path) -> None:
    names = ("hf-hub:tiny/vit", f"local-dir:{models}/resnet", "hf-hub:tiny/siglip")
    ran = measure(shards, *names, more=("--json",))
    assert (ran.exit_code, ran.err) == (0, "")
    document = json.loads(ran.out)
    assert list(document) == ["models", "failed"]
    assert document["failed"] == []
    assert document["models"] == [json.loads(measure(shards, name, more=("--json",)).out) for name in names]


def test_several_models_stand_beside_each_other(place: Path, models: Path, shards: Path) -> None:
    ran = measure(shards, "hf-hub:tiny/vit", "hf-hub:tiny/siglip", more=("--report", "both.html"))
    lines = ran.out.splitlines()
    assert lines[0].startswith("1: hf-hub:tiny/vit on 2 shards: 30 images and 30 texts, 12 wide")
    assert lines[1].startswith("2: hf-hub:tiny/siglip on 2 shards: 30 images and 30 texts, 24 wide")
    one, other = (
        json.loads(measure(shards, f"hf-hub:tiny/{name}", more=("--json",)).out) for name in ("vit", "siglip")
    )
    (row,) = [line.split() for line in lines if line.split()[:1] == ["rmg"]]
    assert [float(value) for value in row[1:3]] == pytest.approx(
        [one["metrics"]["gap/rmg"], other["metrics"]["gap/rmg"]], abs=1e-3
    )
    (bias,) = [line for line in lines if line.split()[:1] == ["bias"] and "-10" in line]
    assert bias.index("-10") > lines[0].index("1")  # of the second model alone
    page = Path("both.html").read_text(encoding="utf-8")
    assert "2 models on the same data" in page
    assert page.count("hf-hub:tiny/siglip on 2 shards") == 1
    assert f"<td>{row[1]}</td><td>{row[2]}</td>" in page


def test_a_model_that_fails_does_not_stop_the_others(place: Path, hub: Hub, shards: Path) -> None:
    hub.statuses["tiny/vit/open_clip_model.safetensors"] = 500
    ran = measure(shards, "hf-hub:tiny/vit", "hf-hub:tiny/siglip", more=("--json",))
    assert ran.exit_code == 1
    document = json.loads(ran.out)
    assert [each["inputs"]["model"] for each in document["models"]] == ["hf-hub:tiny/siglip"]
    (failed,) = document["failed"]
    assert (failed["name"], failed["pretrained"]) == ("hf-hub:tiny/vit", None)
    assert f"{hub.address} answered 500 for open_clip_model.safetensors" in failed["problem"]
    assert ran.err == f"gapctl: hf-hub:tiny/vit was not measured: {failed['problem']}\n"


def test_a_hub_that_is_overloaded_from_the_start_does_not_stop_the_others(
    place: Path, hub: Hub, models: Path, shards: Path
) -> None:
    hub.statuses["tiny/vit"] = 429
    ran = measure(shards, "hf-hub:tiny/vit", f"local-dir:{models}/resnet")
    assert ran.exit_code == 1
    assert ran.out.startswith(f"1: local-dir:{models}/resnet on 2 shards")
    assert "hf-hub:tiny/vit was not measured: --model hf-hub:tiny/vit: " in ran.err
    assert "too many requests" in ran.err


def test_where_all_fail_all_are_named_and_nothing_is_printed(place: Path, hub: Hub, shards: Path) -> None:
    hub.stops["tiny/vit/open_clip_model.safetensors"] = 1000
    hub.statuses["tiny/resnet"] = 500
    ran = measure(shards, "hf-hub:tiny/vit", "hf-hub:tiny/resnet", more=("--json",))
    assert ran.exit_code == 1
    assert json.loads(ran.out)["models"] == []
    assert ran.err.count("\n") == 2
    assert "The same command tries again" in ran.err


def test_a_wrong_name_among_several_is_answered_before_anything_is_encoded(
    place: Path, cache: Path, hub: Hub, shards: Path
) -> None:
    before = len(list(cache.rglob("*.npz")))
    for name, message in (
        ("hf-hub:tiny/vitt", f"--model hf-hub:tiny/vitt: no such repository at {hub.address}"),
        ("local-dir:nowhere", "--model local-dir:nowhere: no such folder"),
    ):
        ran = measure(shards, "hf-hub:tiny/vit", name)
        assert (ran.exit_code, ran.out) == (2, "")
        assert message in ran.err
        assert ran.err.count("\n") == 1
    assert len(list(cache.rglob("*.npz"))) == before
    assert not hub.downloads()


CONTRADICTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "one weights too few": (
        ("--model", "ViT-B-32", "--model", "RN50", "--pretrained", "openai"),
        "1 times --pretrained for 2 architectures; expected one for each of ViT-B-32, RN50, in their order",
    ),
    "weights for a hub's model": (
        ("--model", "hf-hub:a/b", "--pretrained", "openai"),
        "1 times --pretrained for 0 architectures (hf-hub:a/b has weights already); expected one for each of none",
    ),
    "a model twice": (("--model", "hf-hub:a/b", "--model", "hf-hub:a/b"), "--model hf-hub:a/b: given twice"),
    "no data": (("--model", "hf-hub:a/b"), "--model without --data"),
    "an unknown tag of the second": (
        ("--model", "hf-hub:tiny/vit", "--model", "ViT-B-32", "--pretrained", "openay"),
        "did you mean openai?",
    ),
}


@pytest.mark.parametrize("wrong", CONTRADICTIONS)
def test_options_that_contradict_are_refused(place: Path, shards: Path, wrong: str) -> None:
    options, message = CONTRADICTIONS[wrong]
    data = () if wrong == "no data" else ("--data", str(shards))
    ran = gapctl("measure", *options, *data)
    assert (ran.exit_code, ran.out) == (2, "")
    assert message in ran.err


def test_each_tag_or_file_belongs_to_its_architecture(place: Path, weights: Path, shards: Path) -> None:
    """`weights` are of ViT-S-32-alt; the second file of the same architecture is another model."""
    import torch

    state = torch.load(weights, weights_only=True)
    torch.save({key: value * 1.5 for key, value in state.items()}, "other.pt")
    names = ("--model", "ViT-S-32-alt", "--pretrained", str(weights), "--model", "hf-hub:tiny/vit")
    second = ("--model", "ViT-S-32-alt", "--pretrained", "other.pt")
    ran = gapctl("measure", *names, *second, "--data", str(shards), "--json")
    assert ran.exit_code == 0, ran.err
    found = [(each["inputs"]["model"], each["inputs"]["pretrained"]) for each in json.loads(ran.out)["models"]]
    assert found == [("ViT-S-32-alt", str(weights)), ("hf-hub:tiny/vit", None), ("ViT-S-32-alt", "other.pt")]


def test_several_models_are_logged_as_a_run_each(place: Path, models: Path, shards: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{write_empty_database(place / 'mlflow.db')}"
    ran = measure(shards, "hf-hub:tiny/vit", "hf-hub:tiny/siglip", more=("--log", "--uri", uri))
    assert ran.exit_code == 0, ran.err
    client = MlflowClient(uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "measurements"]
    runs = client.search_runs([experiment.experiment_id])
    assert {run.data.params["model"] for run in runs} == {"hf-hub:tiny/vit", "hf-hub:tiny/siglip"}


def test_intervene_takes_a_hubs_model_and_no_second(place: Path, models: Path, shards: Path) -> None:
    ran = gapctl("intervene", "--model", "hf-hub:tiny/vit", "--data", str(shards), "--json")
    assert ran.exit_code == 0, ran.err
    assert json.loads(ran.out)["inputs"]["model"] == "hf-hub:tiny/vit"
    two = ("--model", "hf-hub:tiny/vit", "--model", "hf-hub:tiny/siglip")
    refused = gapctl("intervene", *two, "--data", str(shards))
    assert refused.exit_code == 2
    assert "2 times --model; expected one here. `gapctl measure` takes several" in refused.err


def test_the_environments_hub_is_the_one_that_a_process_asks(hub: Hub, shards: Path, tmp_path: Path) -> None:
    ran = gapctl_process(
        *("measure", "--model", "hf-hub:tiny/unknown", "--data", str(shards)),
        folder=tmp_path,
        **make_environment(hub, tmp_path / "own"),
    )
    assert ran.exit_code == 2
    assert ran.err.startswith(f"gapctl: --model hf-hub:tiny/unknown: no such repository at {hub.address}")
    assert ran.err.count("\n") == 1
