"""`gapctl data fetch` brings a set from a hub in its real protocol: resumed, checked, and never half."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import Answer, gapctl
from gapctl.config import evaluation_sets
from gapctl.config.evaluation_sets import ShippedSet
from hub import Hub, serve_hub
from small_sets import IMAGES, write_classification
from unhelpful_servers import unused_address

REPOSITORY = "datasets/clip-benchmark/wds_colours"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with a set of classes that gapctl ships for this test, and a cache of its own."""
    shipped = ShippedSet.model_validate(
        {
            "title": "coloured shapes",
            "hub": f"https://huggingface.co/{REPOSITORY}",
            "fetch": True,
            "licence": "ours",
            "how": "Ask us.",
            "definition": {"kind": "classification", "expect": {"images": IMAGES, "classes": 3}},
        }
    )
    known = {**evaluation_sets.load_shipped_sets(), "colours": shipped}
    for place in ("gapctl.config.evaluation_sets", "gapctl.cli.data", "gapctl.data.image_text.evaluation_sets"):
        monkeypatch.setattr(f"{place}.load_shipped_sets", lambda: known)
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    with serve_hub() as hub:
        hub.add(REPOSITORY, write_classification(tmp_path / "hub"))
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


def read_content_requests(hub: Hub) -> list[str]:
    """The paths of files that were asked for, not of what the hub says about them."""
    return [path for method, path, _ in hub.asked if method == "GET"]


def fetch(*more: str) -> Answer:
    return gapctl("data", "fetch", "colours", *more)


def test_shards_classes_and_templates_arrive_and_are_counted(hub: Hub, tmp_path: Path) -> None:
    ran = fetch("--out", str(tmp_path / "here"), "--json")

    document = json.loads(ran.out)
    assert ran.exit_code == 0, ran.err
    assert (document["images"], document["classes"], document["shards"]) == (IMAGES, 3, 1)
    for name in ("test/0.tar", "test/nshards.txt", "classnames.txt", "zeroshot_classification_templates.txt"):
        assert (tmp_path / "here" / name).read_bytes() == hub.repositories[REPOSITORY][name]


def test_what_was_fetched_is_found_by_its_name(hub: Hub, tmp_path: Path) -> None:
    fetch()
    hub.statuses[REPOSITORY] = 500

    (tmp_path / "a.yaml").write_text(
        "name: a\nquestion: Does it find them?\nvary: {train.lr: [1.0e-3]}\nbase:\n  data: {dataset: image_text}\n"
        "  model: {preset: pairs-small}\n  evaluate: {sets: [colours], gallery: 40}\n",
        encoding="utf-8",
    )
    ran = gapctl("plan", str(tmp_path / "a.yaml"), "--json")

    assert ran.exit_code == 0, ran.err
    assert len(json.loads(ran.out)["trials"]) == 1


def test_a_second_call_downloads_nothing(hub: Hub, tmp_path: Path) -> None:
    fetch("--out", str(tmp_path / "here"))
    before = read_content_requests(hub)

    ran = fetch("--out", str(tmp_path / "here"), "--json")

    assert json.loads(ran.out)["fetched"] == 0
    assert read_content_requests(hub) == before


def test_a_download_that_breaks_off_is_continued(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)  # what is kept of a broken answer
    hub.breaks[f"{REPOSITORY}/test/0.tar"] = [20_000, 36_384]

    ran = fetch("--out", str(tmp_path / "here"))

    assert ran.exit_code == 0, ran.err
    assert [part for _, _, part in hub.asked if part] == ["bytes=16384-", "bytes=32768-"]
    assert (tmp_path / "here/test/0.tar").read_bytes() == hub.repositories[REPOSITORY]["test/0.tar"]


def test_a_file_with_another_content_than_the_hub_says_is_deleted(hub: Hub, tmp_path: Path) -> None:
    hub.spoilt = {f"{REPOSITORY}/test/0.tar"}

    ran = fetch("--out", str(tmp_path / "here"))

    assert ran.exit_code == 1
    assert "arrived with sha256" in ran.err
    assert not (tmp_path / "here/test/0.tar").exists()
    hub.spoilt = set()
    assert fetch("--out", str(tmp_path / "here")).exit_code == 0


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [(401, 2, "asks who you are"), (403, 2, "set HF_TOKEN"), (404, 2, "answered 404; expected nshards.txt")],
)
def test_a_hub_that_refuses_is_quoted(hub: Hub, tmp_path: Path, status: int, code: int, message: str) -> None:
    hub.statuses[REPOSITORY] = status

    ran = fetch("--out", str(tmp_path / "here"))

    assert ran.exit_code == code, ran.err
    assert message in ran.err
    assert "Traceback" not in ran.err


def test_a_set_with_another_count_than_is_published_is_refused(hub: Hub, tmp_path: Path) -> None:
    write_classification(tmp_path / "fewer", images=30)
    hub.repositories[REPOSITORY]["test/0.tar"] = (tmp_path / "fewer/test/0.tar").read_bytes()

    ran = fetch("--out", str(tmp_path / "here"))

    assert ran.exit_code == 2
    assert "found 30 images, not 40" in ran.err


def test_a_count_of_shards_that_is_none_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.repositories[REPOSITORY]["test/nshards.txt"] = b"<html>"

    ran = fetch("--out", str(tmp_path / "here"))

    assert ran.exit_code == 2
    assert "nshards.txt: found '<html>'; expected the number of shards" in ran.err


def test_a_set_with_a_licence_of_its_own_is_not_downloaded(hub: Hub) -> None:
    ran = gapctl("data", "fetch", "imagenet")

    assert ran.exit_code == 2
    assert "https://image-net.org/download" in ran.err
    assert "evaluation_sets: {imagenet: {source: PLACE}}" in ran.err
    assert not hub.asked


def test_an_unknown_set_is_answered_with_the_nearest(hub: Hub) -> None:
    ran = gapctl("data", "fetch", "flickr30")

    assert ran.exit_code == 2
    assert "did you mean flickr30k?" in ran.err


@pytest.mark.slow
def test_a_hub_that_cannot_be_reached_or_is_busy_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    """huggingface_hub itself waits for half a minute before it gives up."""
    nobody = fetch("--out", str(tmp_path / "here"), "--mirror", unused_address())
    hub.statuses[REPOSITORY] = 500
    busy = fetch("--out", str(tmp_path / "here"))

    assert (nobody.exit_code, busy.exit_code) == (1, 1)
    assert "The same command tries again. What has arrived is kept" in nobody.err
    assert "answered 500" in busy.err
