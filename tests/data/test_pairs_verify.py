"""`gapctl data verify`, `stats` and `captions` on image-text shards."""

import json
from pathlib import Path
from typing import Any

import pytest

from command_line import gapctl
from pair_shards import pair, write_pairs, write_shard


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("shards")
    folder.mkdir()
    for number in range(2):
        write_pairs(folder / f"{number:05d}.tar", range(4 * number, 4 * number + 4))
    return folder


def test_sound_shards_are_said_to_be(shards: Path) -> None:
    ran = gapctl("data", "verify", "shards", "--workers", "1")
    assert (ran.exit_code, ran.err) == (0, "")
    assert "8 of 8 samples in 2 shards can be used; all images decoded" in ran.out


def test_everything_wrong_is_named_by_shard_and_key(shards: Path) -> None:
    spoilt = {**pair(9), "jpg": pair(9)["jpg"][:400]}
    members = [("a", spoilt), ("b", {"jpg": pair(1)["jpg"]}), ("000001", pair(1)), ("d", {**pair(20), "pkl": b"."})]
    write_shard(shards / "00002.tar", members)
    cut = (shards / "00000.tar").read_bytes()
    (shards / "00003.tar").write_bytes(cut[:700])
    ran = gapctl("data", "verify", "shards", "--workers", "1")
    assert ran.exit_code == 1
    here = f"{shards.absolute()}/00002.tar"
    for line in (
        f"{here}: 1 undecodable image: a",
        f"{here}: 1 no caption: b",
        f"{here}: 1 the same key and image as an earlier sample: 000001",
        f"{here}: members of other kinds, which are never read: 1 pkl",
        f"{shards.absolute()}/00003.tar: cut short: a member at byte 0 has",
    ):
        assert line in ran.out
    document = json.loads(gapctl("data", "verify", "shards", "--workers", "1", "--json").out)
    assert (document["ok"], document["usable"], len(document["wrong_samples"])) == (False, 9, 3)


def test_shards_are_compared_with_their_manifest(shards: Path) -> None:
    gapctl("data", "index", "shards")
    assert gapctl("data", "verify", "shards/manifest.parquet", "--workers", "1").exit_code == 0
    path = shards / "00001.tar"
    path.write_bytes(path.read_bytes().replace(b"a red", b"a rad"))
    (shards / "00000.tar").unlink()
    ran = gapctl("data", "verify", "shards/manifest.parquet", "--workers", "1")
    assert ran.exit_code == 1
    assert f"{path.absolute()}: its content is not what was indexed" in ran.out
    assert "00000.tar: is gone" in ran.out


def test_statistics_count_words_sizes_and_repetitions(shards: Path) -> None:
    write_shard(shards / "00002.tar", [("again", pair(1)), ("odd", {**pair(8), "txt": b""})])
    found = json.loads(gapctl("data", "stats", "shards", "--json").out)
    assert (found["samples"], found["usable"], found["problems"]) == (10, 9, {"no caption": 1})
    assert (found["caption_words"]["mean"], found["caption_words"]["counts"]) == (3.0, {"3": 9})
    assert found["image_shorter_side"]["quantiles"] == [40.0] * 7
    assert found["repeated_captions"] == {"values": 2, "beyond_first": 3}
    assert found["repeated_images"] == {"values": 1, "beyond_first": 1}
    vocabulary = found["vocabulary"]
    assert (vocabulary["words"], vocabulary["occurrences"], vocabulary["commonest"][0]) == (6, 27, ["a", 9])


def test_the_page_of_statistics_is_whole_and_escapes_what_captions_say(shards: Path) -> None:
    write_shard(shards / "00002.tar", [("x", {**pair(8), "txt": b"</script><script>alert(1)"})])
    ran = gapctl("data", "stats", "shards", "--report", "page.html")
    assert "vocabulary: 9 words" in ran.out
    page = Path("page.html").read_text(encoding="utf-8")
    assert "9 image-text pairs" in page
    assert "How long captions are" in page
    assert "<script>alert" not in page


def test_treatments_are_shown_on_ones_own_samples(shards: Path) -> None:
    ran = gapctl("data", "captions", "shards", "--show", "2", "--keep", "full,half,keywords")
    assert ran.exit_code == 0
    assert "000000: a red square" in ran.out
    assert "(the sample lacks what it needs)" in ran.out
    document = json.loads(gapctl("data", "captions", "shards", "--show", "3", "--field", "shape", "--json").out)
    assert [each["sample"] for each in document["samples"]] == [0, 1, 2]
    assert document["samples"][1]["treated"]["enriched"]["text"] == "a green bar bar"
    assert {line["keep"] for line in document["treatments"]} == set(document["samples"][0]["treated"])


def test_a_cut_that_is_drawn_once_is_shown_alike_in_every_epoch(shards: Path) -> None:
    def show(draw: str, epoch: int) -> dict[str, Any]:
        options = ("--keep", "half,words", "--draw", draw, "--epoch", str(epoch))
        return json.loads(gapctl("data", "captions", "shards", "--show", "3", *options, "--json").out)

    once, anew = ([show(draw, epoch) for epoch in range(4)] for draw in ("once", "each_access"))
    assert all(document == once[0] for document in once)
    assert any(document["samples"] != anew[0]["samples"] for document in anew)
    assert [line["random_per_access"] for line in once[0]["treatments"]] == [False, False]
    assert all(line["random_per_access"] for line in anew[0]["treatments"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("captions", "--keep", "haf"), "--keep: keep is 'haf'; did you mean half? Expected one of full, half"),
        (("captions", "--keep", "qarter"), "did you mean quarter?"),
        (("captions", "--keep", "enriched"), "--field: keep is 'enriched' and field is empty"),
        (("captions", "--rate", "2"), "--rate: rate is 2.0, expected 0 to 1"),
        (("captions", "--draw", "never"), "--draw never: no such choice; expected one of each_access, once"),
        (("captions", "--draw", "once", "--keep", "full,half"), "--draw: draw is 'once' and keep full draws nothing"),
        (("captions", "--sentences", "0"), "--sentences: sentences is 0"),
        (("captions", "nowhere"), "nowhere: no such file or folder"),
        (("captions", "empty.tar"), "no sample that can be used"),
        (("stats", "empty.tar"), "no sample that can be used"),
        (
            ("stats", "nowhere.parquet"),
            "nowhere.parquet: no such file; `gapctl data index SHARDS --out nowhere.parquet`",
        ),
        (("verify", "page.parquet"), "page.parquet: not a manifest of shards"),
        (("reshard", "shards", "--out", "shards"), "holds other data"),
        (("reshard", "shards", "--out", "new", "--validation", "1"), "--validation 1: expected a share"),
        (("reshard", "empty.tar", "--out", "new"), "no sample that can be used"),
    ],
)
def test_wrong_input_is_one_message(shards: Path, options: tuple[str, ...], message: str) -> None:
    Path("empty.tar").touch()
    Path("page.parquet").write_text("<html>", encoding="utf-8")
    ran = gapctl("data", *options)
    assert (ran.exit_code, ran.out) == (2, "")
    assert message in " ".join(ran.err.split())
