"""A model is found in a folder or downloaded from a hub; whatever a hub does wrong is said in one message."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import open_clip
import pytest
import torch

from gapctl.errors import InputError
from gapctl.inference.model import load_open_clip_model, load_tokenizer
from gapctl.models.sources import HubError, check_model_name, find_or_download_weights
from hub import COMMIT, Hub, serve_hub, use_hub
from tiny_models import HALVES, TINY_RESNET, TINY_SIGLIP, TINY_VIT, write_model

REPOSITORY = "organisation/tiny"
NAME = f"hf-hub:{REPOSITORY}"
WEIGHTS = "open_clip_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny", TINY_VIT, preprocess=HALVES)


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and a client with an empty cache."""
    with serve_hub() as hub:
        hub.add(REPOSITORY, folder)
        use_hub(hub, tmp_path / "cache", monkeypatch)
        yield hub


@pytest.mark.parametrize("config", [TINY_VIT, TINY_RESNET, TINY_SIGLIP], ids=["ViT", "ResNet", "SigLIP"])
def test_a_folders_model_is_the_one_that_open_clip_builds(config: dict[str, object], tmp_path: Path) -> None:
    name = f"local-dir:{write_model(tmp_path / 'model', config, preprocess=HALVES)}"
    opened = load_open_clip_model(name, find_or_download_weights(name, None))
    expected, _, preprocess = open_clip.create_model_and_transforms(name)
    for key, value in expected.state_dict().items():
        torch.testing.assert_close(opened.model.state_dict()[key], value, rtol=0, atol=0)
    assert opened.preprocess["mean"] == HALVES["mean"] == list(preprocess.transforms[-1].mean)
    tokens = load_tokenizer(name, opened.weights.folder)(["a dog"])
    assert tokens.tolist() == open_clip.get_tokenizer(name)(["a dog"]).tolist()
    assert tokens.shape == (1, 16)


def test_a_hubs_model_is_downloaded_once_and_is_that_of_the_folder(hub: Hub, folder: Path) -> None:
    one, other = (find_or_download_weights(name, None) for name in (NAME, f"local-dir:{folder}"))
    assert one.sha256 == other.sha256
    assert one.path.parent == one.folder
    assert str(one.folder).endswith(f"snapshots/{COMMIT}")
    assert (
        load_open_clip_model(NAME, one).architecture == load_open_clip_model(f"local-dir:{folder}", other).architecture
    )
    find_or_download_weights(NAME, None)
    assert hub.downloads() == [f"/storage/{REPOSITORY}/{WEIGHTS}"]


def test_what_is_in_the_cache_needs_no_hub(hub: Hub) -> None:
    first = find_or_download_weights(NAME, None)
    hub.statuses[REPOSITORY] = 500
    assert find_or_download_weights(NAME, None) == first


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)  # of 10 MiB, more than the file has
    hub.breaks[f"{REPOSITORY}/{WEIGHTS}"] = [1_000_000]
    assert find_or_download_weights(NAME, None).path.read_bytes() == hub.repositories[REPOSITORY][WEIGHTS]
    first, second = [where for method, path, where in hub.asked if "/storage/" in path and method == "GET"]
    assert first == ""
    assert second.startswith("bytes=9")


def test_a_download_that_stops_for_good_leaves_nothing_that_is_taken_for_weights(hub: Hub) -> None:
    hub.stops[f"{REPOSITORY}/{WEIGHTS}"] = 1_000_000
    with pytest.raises(HubError, match=r"could not be downloaded from http.*\. The same command tries again"):
        find_or_download_weights(NAME, None)
    hub.stops.clear()
    assert find_or_download_weights(NAME, None).path.read_bytes() == hub.repositories[REPOSITORY][WEIGHTS]


def test_a_damaged_file_of_the_cache_is_named(hub: Hub) -> None:
    path = find_or_download_weights(NAME, None).path.resolve()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(InputError, match=rf"damaged: its sha256 is .*Delete {path}; the same command downloads it"):
        find_or_download_weights(NAME, None)


FAULTS: dict[str, tuple[Callable[[Hub], object], str, type[InputError], str]] = {
    "no such repository": (
        lambda hub: hub.repositories.clear(),
        NAME,
        InputError,
        "no such repository at http://.*401",
    ),
    "404": (
        lambda hub: hub.statuses.update({f"{REPOSITORY}/{WEIGHTS}": 404}),
        NAME,
        HubError,
        f"answered 404 for {WEIGHTS}. Run the same command later",
    ),
    "429": (
        lambda hub: hub.statuses.update({REPOSITORY: 429}),
        NAME,
        HubError,
        "answered 429 for open_clip_config.json: too many requests. Wait some minutes",
    ),
    "500": (
        lambda hub: hub.statuses.update({f"{REPOSITORY}/{WEIGHTS}": 500}),
        NAME,
        HubError,
        f"answered 500 for {WEIGHTS}. Run the same command later. Or copy open_clip_config.json and the weights into",
    ),
    "no configuration": (
        lambda hub: hub.repositories[REPOSITORY].pop("open_clip_config.json"),
        NAME,
        InputError,
        "no open_clip_config.json in this repository of http.*. Expected a model of open_clip",
    ),
    "no weights": (
        lambda hub: hub.repositories[REPOSITORY].pop(WEIGHTS),
        NAME,
        InputError,
        f"no {WEIGHTS} or open_clip_pytorch_model.bin in this repository",
    ),
    "a configuration of another kind": (
        lambda hub: hub.repositories[REPOSITORY].update({"open_clip_config.json": b'{"model_type": "clip"}'}),
        NAME,
        InputError,
        "found model_type; expected `model_cfg` with embed_dim, vision_cfg, text_cfg",
    ),
    "no JSON": (
        lambda hub: hub.repositories[REPOSITORY].update({"open_clip_config.json": b"<html>"}),
        NAME,
        InputError,
        "open_clip_config.json: damaged",
    ),
    "code of its own": (
        lambda hub: hub.repositories[REPOSITORY].update({"open_clip_config.json": with_remote_code()}),
        NAME,
        InputError,
        r"wants to run code of the repository \(trust_remote_code\), which is never done",
    ),
    "no name": (
        lambda hub: None,
        "hf-hub:",
        InputError,
        "found nothing after hf-hub:. Expected hf-hub:ORGANISATION/NAME",
    ),
    "half a name": (lambda hub: None, "hf-hub:tiny", InputError, "found tiny after hf-hub:"),
    "a wrong name": (lambda hub: None, "hf-hub:a/b c", InputError, "Expected hf-hub:ORGANISATION/NAME"),
}


def with_remote_code() -> bytes:
    text = {**TINY_VIT["text_cfg"], "tokenizer_kwargs": {"trust_remote_code": True}}
    return json.dumps({"model_cfg": {**TINY_VIT, "text_cfg": text}}).encode()


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_hub_does_wrong_gets_one_message(hub: Hub, fault: str) -> None:
    break_hub, name, kind, message = FAULTS[fault]
    break_hub(hub)
    with pytest.raises(InputError, match=message) as raised:
        find_or_download_weights(name, None)
    assert type(raised.value) is kind
    assert str(raised.value).startswith(f"--model {name}: ")
    assert "\n" not in str(raised.value)


def test_without_a_network_the_message_says_what_to_do(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE forbids to download it.*give --model local-dir:FOLDER"):
        check_model_name(NAME, None)


def empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def leave_config(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def write_several(folder: Path) -> None:
    for name in ("one.pt", "two.pt"):
        (folder / name).write_bytes((folder / WEIGHTS).read_bytes())
    (folder / WEIGHTS).unlink()


def change_width(folder: Path) -> None:
    changed = {**TINY_VIT, "text_cfg": {**TINY_VIT["text_cfg"], "width": 32}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": changed}), encoding="utf-8")


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])


def write_nonsense(folder: Path) -> None:
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**TINY_VIT, "vision_cfg": {"width": "wide"}}}), encoding="utf-8"
    )


WRONG_FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (empty, "no open_clip_config.json in this folder; expected open_clip's, and weights"),
    "no weights": (leave_config, "no weights in this folder; expected open_clip_model.safetensors"),
    "several": (write_several, r"several files of weights \(one.pt, two.pt\); expected one"),
    "another architecture": (change_width, "a checkpoint of another architecture than local-dir:.*; of another shape"),
    "cut short": (cut_weights, "open_clip_model.safetensors: damaged, or no checkpoint"),
    "nonsense": (write_nonsense, "open_clip cannot build it here"),
}


@pytest.mark.parametrize("wrong", WRONG_FOLDERS)
def test_a_wrong_folder_gets_one_message(wrong: str, tmp_path: Path) -> None:
    change, message = WRONG_FOLDERS[wrong]
    folder = write_model(tmp_path / "model", TINY_VIT)
    change(folder)
    with pytest.raises(InputError, match=message):
        load_open_clip_model(f"local-dir:{folder}", find_or_download_weights(f"local-dir:{folder}", None))


def test_a_name_without_a_folder_is_refused(tmp_path: Path) -> None:
    for name in ("local-dir:", f"local-dir:{tmp_path}/none"):
        with pytest.raises(InputError, match=r"no such folder; expected one with open_clip_config.json"):
            check_model_name(name, None)


def test_weights_beside_a_model_that_has_its_own_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"--pretrained openai: .* has weights of its own; leave --pretrained out"):
        check_model_name(f"local-dir:{folder}", "openai")


def test_a_tag_on_a_hub_is_downloaded_in_its_own_place(hub: Hub, tmp_path: Path) -> None:
    # As in the real registry: the tag's record names a repository, and the usual file in it.
    hub.repositories["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"] = {WEIGHTS: b"not the real one"}
    found = find_or_download_weights("ViT-B-32", "laion2b_s34b_b79k")
    assert found.path.read_bytes() == b"not the real one"
    hub.repositories.clear()
    empty_cache = tmp_path / "cache" / "hub"
    empty_cache.rename(tmp_path / "elsewhere")
    with pytest.raises(HubError, match=r"cannot be downloaded \(no such repository at http.*download open_clip_model"):
        find_or_download_weights("ViT-B-32", "laion2b_s34b_b79k")
