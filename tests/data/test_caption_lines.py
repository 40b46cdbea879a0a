"""Images with several captions: the manifest says which lines are captions, and a training draws one at each access."""

import json
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from command_line import gapctl
from gapctl.config.trial import PairCaptions, PairData
from gapctl.data.image_text import manifest as manifests
from gapctl.data.image_text.class_prompts import MAX_CAPTIONS, CaptionLineMode
from gapctl.data.image_text.feed import PairFeed, decode_manifest_rows
from gapctl.data.image_text.index import build_manifest, index_shards
from gapctl.data.image_text.manifest import (
    SCHEMA,
    Manifest,
    parse_manifest,
    read_manifest,
    serialise_manifest,
    write_manifest,
)
from gapctl.data.image_text.pack import find_or_pack_shards
from gapctl.data.image_text.read import ReadOptions, ReadStatus, hash_text
from gapctl.data.image_text.source import hash_pair_data
from gapctl.data.image_text.storage import list_shards
from gapctl.data.image_text.tokens import get_clip_tokenizer
from gapctl.data.parallel_shards import Workers
from gapctl.data.treatments import treat_caption
from layout_places import write_coco
from pair_shards import pair, write_pairs, write_shard

HERE = Workers(1)
LINES = ("one", "two words", "three words now")
TEXT = "\n".join(LINES).encode()
BEFORE = "f1af2a0218422b41"
"""The fingerprint of six pairs of one caption each, before captions were counted."""
BEFORE_LINES = "1e9f60af17339dd4"
"""The same of `write_two`, each text of which was one caption."""


def with_json(**about: object) -> dict[str, bytes]:
    return {**pair(0), "txt": TEXT, "json": json.dumps(about).encode()}


def write_two(path: Path) -> Path:
    """One image with three captions and blank lines about them, and one with two and no json."""
    first = {**pair(0), "txt": b"one\ntwo words\n\nthree\n"}
    return write_shard(path, [("a", first), ("b", {"jpg": pair(1)["jpg"], "txt": b"x\ny"})])


def write_several(path: Path, images: int = 12) -> Path:
    """Every second image with three captions, the others with one."""
    texts = [TEXT if number % 2 else b"a single caption" for number in range(images)]
    return write_shard(path, ((f"{number:03d}", {**pair(number), "txt": text}) for number, text in enumerate(texts)))


def indexed(*paths: Path, captions: CaptionLineMode | None = None) -> Manifest:
    return build_manifest(list_shards([str(path) for path in paths]), HERE, captions=captions)


def write_earlier_manifest(path: Path, manifest: Manifest) -> Path:
    """The manifest as the version before captions were counted wrote it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifests, "READING_VERSION", 2)
        write_manifest(path, manifest)
    metadata = json.loads(pl.read_parquet_metadata(path)[manifests.METADATA_KEY])
    del metadata["captions"]
    samples = pl.read_parquet(path).drop("captions")
    samples.write_parquet(path, metadata={manifests.METADATA_KEY: json.dumps(metadata)}, statistics=False)
    return path


@pytest.mark.parametrize(
    ("members", "captions"),
    [
        ({**pair(0), "txt": TEXT}, 3),
        ({**pair(0), "txt": b"\xef\xbb\xbf one \r\n\r\n two \r three \n"}, 3),
        ({**pair(0), "txt": b"  one caption \n\n"}, 1),
        ({**pair(0), "txt": "form\x0cfeed and \u2028 separator".encode()}, 1),
        ({"jpg": pair(0)["jpg"], "txt": TEXT}, 3),
        (with_json(caption="one"), 3),
        (with_json(caption=TEXT.decode(), url="https://example.org"), 1),
        (with_json(caption=TEXT.decode().replace("\n", "\r\n") + "\n"), 1),
        (with_json(caption=list(LINES)), 3),
        ({**pair(0), "txt": TEXT, "json": b"{no json"}, 3),
        ({**pair(0), "txt": b"x\n" * MAX_CAPTIONS}, MAX_CAPTIONS),
        ({**pair(0), "txt": b"x\n" * (MAX_CAPTIONS + 1)}, 1),
    ],
)
def test_each_line_is_a_caption_unless_the_json_has_the_whole_text(
    tmp_path: Path, members: dict[str, bytes], captions: int
) -> None:
    shard = write_shard(tmp_path / "a.tar", [("a", members)])

    assert indexed(shard).samples["captions"].to_list() == [captions]
    assert indexed(shard, captions=CaptionLineMode.WHOLE).samples["captions"].to_list() == [1]


def test_lines_that_the_json_calls_one_caption_can_be_called_captions(tmp_path: Path) -> None:
    shard = write_shard(tmp_path / "a.tar", [("a", with_json(caption=TEXT.decode()))])

    assert indexed(shard, captions=CaptionLineMode.LINES).samples["captions"].to_list() == [3]


def test_shards_of_single_captions_keep_their_fingerprint_and_other_readings_have_others(tmp_path: Path) -> None:
    single, several = write_pairs(tmp_path / "single.tar", range(6)), write_two(tmp_path / "several.tar")
    whole, lines = CaptionLineMode.WHOLE, CaptionLineMode.LINES

    assert {indexed(single, captions=rule).fingerprint for rule in (None, whole, lines)} == {BEFORE}
    assert indexed(several, captions=whole).fingerprint == BEFORE_LINES
    assert indexed(several).fingerprint == indexed(several, captions=lines).fingerprint != BEFORE_LINES


def test_readings_that_differ_in_one_sample_have_different_fingerprints(tmp_path: Path) -> None:
    both = [("a", with_json(caption=TEXT.decode())), ("b", with_json())]
    shard = write_shard(tmp_path / "a.tar", both)

    found = [indexed(shard, captions=rule) for rule in (None, *CaptionLineMode)]

    assert [each.samples["captions"].to_list() for each in found] == [[1, 3], [3, 3], [1, 1]]
    assert len({each.fingerprint for each in found}) == 3


def test_a_manifest_of_an_earlier_version_stays_valid_and_reads_each_text_whole(tmp_path: Path) -> None:
    write_several(tmp_path / "a.tar")
    path = write_earlier_manifest(
        tmp_path / "manifest.parquet", indexed(tmp_path / "a.tar", captions=CaptionLineMode.WHOLE)
    )
    data = PairData(dataset="image_text", source=str(tmp_path))
    earlier, before = read_manifest(path), hash_pair_data(data)

    assert earlier.samples.schema == pl.Schema(SCHEMA)
    assert (earlier.captions, set(earlier.samples["captions"])) == (CaptionLineMode.WHOLE, {1})
    assert earlier.fingerprint == before == indexed(tmp_path / "a.tar", captions=CaptionLineMode.WHOLE).fingerprint
    batch, _ = next(iter(PairFeed(earlier, range(12), ReadOptions(16), 0, 12)))
    assert set(batch.text_id_B.tolist()) == {hash_text(TEXT.decode()), hash_text("a single caption")}
    ran = gapctl("data", "verify", str(path), "--workers", "1")
    assert (ran.exit_code, "indexed by an earlier version: each .txt is read as one caption" in ran.out) == (0, True)

    index = gapctl("data", "index", str(tmp_path / "a.tar"))
    assert "6 of 12 images have several captions, one a line: 24 in all" in index.out
    assert read_manifest(path).samples["captions"].to_list() == [1, 3] * 6
    assert hash_pair_data(data) != before


def test_a_manifest_keeps_its_reading_until_another_is_asked_for(tmp_path: Path) -> None:
    shard, out = write_several(tmp_path / "a.tar"), tmp_path / "m.parquet"
    shards = list_shards([str(shard)])

    first = index_shards(shards, out, HERE, captions=CaptionLineMode.WHOLE)
    again = index_shards(shards, out, HERE)
    other = index_shards(shards, out, HERE, captions=CaptionLineMode.LINES)

    assert (first.read, again.read, other.read) == (1, 0, 1)
    assert again.manifest.captions is CaptionLineMode.WHOLE
    assert (read_manifest(out).captions, read_manifest(out).samples["captions"].sum()) == (CaptionLineMode.LINES, 24)
    assert parse_manifest(serialise_manifest(first.manifest)).fingerprint == again.manifest.fingerprint


def test_verify_and_stats_say_how_many_captions_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_several(Path("a.tar"))
    assert gapctl("data", "index", "a.tar", "--captions", "whole", "--out", "whole.parquet").exit_code == 0

    lines, whole = (
        json.loads(gapctl("data", "verify", each, "--json").out)["captions"] for each in ("a.tar", "whole.parquet")
    )
    stats = json.loads(gapctl("data", "stats", "a.tar", "--json").out)

    assert lines == {"rule": "by_sample", "total": 24, "images_of_several": 6}
    assert whole == {"rule": "whole", "total": 12, "images_of_several": 0}
    assert (stats["captions"]["mean"], stats["captions"]["counts"]) == (2.0, {"1": 6, "3": 6})
    assert (stats["caption_words"]["mean"], stats["caption_characters"]["mean"]) == (2.5, (16 + 9) / 2)
    assert "captions of an image" in gapctl("data", "stats", "a.tar").out
    assert "indexed with `--captions whole`" in gapctl("data", "stats", "whole.parquet").out


def read_epochs(manifest: Manifest, epochs: int, **options: object) -> list[dict[int, int]]:
    """By epoch, the caption that each sample was read with."""
    read: list[dict[int, int]] = []
    settings = {"rule": ReadOptions(16), "seed": 0, "batch_size": 4} | options
    feed = PairFeed(manifest, range(12), **settings)  # type: ignore[arg-type]
    for number, (batch, _) in enumerate(islice(feed, epochs * 3)):
        if number % 3 == 0:
            read.append({})
        read[-1] |= dict(zip(batch.sample_B.tolist(), batch.text_id_B.tolist(), strict=True))
    return read


def test_a_training_draws_one_caption_at_each_access_and_all_of_them_in_time(tmp_path: Path) -> None:
    manifest = indexed(write_several(tmp_path / "a.tar"))
    epochs = read_epochs(manifest, 100)

    drawn = Counter(read[sample] for read in epochs for sample in range(1, 12, 2))
    single = {read[sample] for read in epochs for sample in range(0, 12, 2)}

    assert single == {hash_text("a single caption")}
    assert drawn.keys() == {hash_text(line) for line in LINES}
    assert all(150 < count < 250 for count in drawn.values())
    assert epochs == read_epochs(manifest, 100)
    assert epochs != read_epochs(manifest, 100, seed=1)


def test_what_is_drawn_depends_on_seed_epoch_and_sample_alone(tmp_path: Path) -> None:
    manifest = indexed(write_several(tmp_path / "a.tar"))
    whole = read_epochs(manifest, 3)

    resumed = PairFeed(manifest, range(12), ReadOptions(16), 0, 4, position=28)
    for rank in (0, 1):
        halves = PairFeed(manifest, range(12), ReadOptions(16), 0, 4, rank=rank, world=2)
        for number, (batch, _) in enumerate(islice(halves, 9)):
            for sample, text in zip(batch.sample_B.tolist(), batch.text_id_B.tolist(), strict=True):
                assert whole[number // 3][sample] == text
    for batch, _ in islice(resumed, 2):
        for sample, text in zip(batch.sample_B.tolist(), batch.text_id_B.tolist(), strict=True):
            assert whole[2][sample] == text


def test_a_caption_is_treated_after_it_was_drawn(tmp_path: Path) -> None:
    manifest = indexed(write_several(tmp_path / "a.tar"))
    half = PairCaptions(keep="half")

    for batch, position in islice(PairFeed(manifest, range(12), ReadOptions(16, half), 0, 4), 9):
        for sample, text, words in zip(batch.sample_B, batch.text_id_B, batch.words_B, strict=True):
            captions = LINES if sample % 2 else ("a single caption",)
            (caption,) = [each for each in captions if len(each.split()) == words]
            treated = treat_caption(half, caption, {}, 0, (position - 4) // 12, int(sample))
            assert treated is not None
            assert text == hash_text(treated.text)


def test_a_gallery_has_every_caption_of_an_image(tmp_path: Path) -> None:
    manifest = indexed(write_several(tmp_path / "a.tar"))

    (part,) = decode_manifest_rows(manifest, [1, 2, 3], ReadOptions(16), seed=0, all_captions=True)

    assert part.captions is not None
    expected = [*LINES, "a single caption", *LINES]
    np.testing.assert_array_equal(part.captions.tokens_ML, get_clip_tokenizer(77)(expected))
    assert part.captions.text_id_M.tolist() == [hash_text(text) for text in expected]
    assert part.captions.image_M.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert part.pairs.sample_B.tolist() == [1, 2, 3]


def test_captions_of_one_image_are_treated_with_draws_of_their_own(tmp_path: Path) -> None:
    words = " ".join(f"w{number}" for number in range(40))
    shard = write_shard(tmp_path / "a.tar", [("a", {**pair(0), "txt": "\n".join([words] * 8).encode()})])
    rule = PairCaptions(keep="words", rate=0.5)

    (part,) = decode_manifest_rows(indexed(shard), [0], ReadOptions(16, rule), seed=0, all_captions=True)

    assert part.captions is not None
    assert len(set(part.captions.text_id_M.tolist())) == 8
    only = treat_caption(rule, words, {}, 0, 0, 0)
    assert only is not None
    assert part.captions.text_id_M[0] == hash_text(only.text)


def test_a_gallery_leaves_out_an_image_of_which_one_caption_cannot_be_treated(tmp_path: Path) -> None:
    about = json.dumps({"pos": ["NUM", "NOUN"]}).encode()
    samples = [
        ("odd", {**pair(0), "txt": b"two dogs\nthree", "json": about}),
        ("even", {**pair(1), "txt": b"two dogs\nsix cats", "json": about}),
    ]
    manifest = indexed(write_shard(tmp_path / "a.tar", samples))
    rule = ReadOptions(16, PairCaptions(keep="attributes"))

    (part,) = decode_manifest_rows(manifest, [0, 1], rule, seed=0, all_captions=True)

    assert [(each.key, each.why) for each in part.left_out] == [("odd", ReadStatus.LACKING.words)]
    assert part.captions is not None
    assert part.captions.text_id_M.tolist() == [hash_text("two"), hash_text("six")]
    assert part.captions.image_M.tolist() == [0, 0]


def test_new_shards_keep_what_their_lines_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one = {**pair(2), "txt": TEXT, "json": json.dumps({"caption": TEXT.decode()}).encode()}
    write_shard(Path("a.tar"), [("five", {**pair(1), "txt": TEXT}), ("one", one), ("plain", pair(3))])
    assert gapctl("data", "reshard", "a.tar", "--out", "new").exit_code == 0
    assert gapctl("data", "index", "a.tar", "--captions", "whole", "--out", "whole.parquet").exit_code == 0
    assert gapctl("data", "reshard", "whole.parquet", "--out", "whole").exit_code == 0

    assert indexed(Path("new")).samples["captions"].to_list() == [3, 1, 1]
    assert indexed(Path("whole")).samples["captions"].to_list() == [1, 1, 1]
    with tarfile.open("new/00000.tar") as shard:
        texts = [shard.extractfile(name) for name in shard.getnames() if name.endswith(".txt")]
        assert [text.read() for text in texts if text is not None] == [TEXT, TEXT, pair(3)["txt"]]


def test_treatments_are_shown_on_the_caption_that_is_drawn(tmp_path: Path) -> None:
    shard = str(write_several(tmp_path / "a.tar"))
    shown = [
        json.loads(gapctl("data", "captions", shard, "--keep", "full", "--epoch", str(epoch), "--json").out)["samples"]
        for epoch in range(8)
    ]

    assert {epoch[1]["caption"] for epoch in shown} == set(LINES)
    assert {(epoch[0]["caption"], epoch[0]["captions"]) for epoch in shown} == {("a single caption", 1)}
    assert all(epoch[1]["treated"]["full"]["text"] == epoch[1]["caption"] for epoch in shown)
    manifest, epochs = indexed(Path(shard)), range(8)
    read = read_epochs(manifest, len(epochs))
    assert [hash_text(shown[epoch][1]["caption"]) for epoch in epochs] == [read[epoch][1] for epoch in epochs]
    assert "(drawn from 3 captions)" in gapctl("data", "captions", shard).out


def test_what_an_earlier_version_packed_is_indexed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    place = write_coco(tmp_path)
    folder = Path(find_or_pack_shards([str(place)], local=True)[0].shards[0])
    path = folder / "manifest.parquet"
    write_earlier_manifest(path, indexed(folder, captions=CaptionLineMode.WHOLE))
    shard = next(folder.glob("*.tar")).stat()

    for remove in (False, True):
        if remove:
            path.unlink()
        find_or_pack_shards([str(place)], local=True)
        assert read_manifest(path).samples["captions"].to_list() == [5] * 6
    assert next(folder.glob("*.tar")).stat() == shard
