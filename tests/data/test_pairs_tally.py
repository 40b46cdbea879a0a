"""Samples are usable or left out for one reason each, in the same words wherever shards are read; the counts add up."""

import io
import json
from pathlib import Path

from rich.console import Console

from command_line import gapctl
from gapctl.cli.data import load_data
from gapctl.config.trial import PairData
from gapctl.data.image_text.manifest import read_manifest
from gapctl.data.image_text.source import find_bundled_manifest, load_pair_manifests, resolve_pair_paths
from pair_shards import write_mixed, write_pairs, write_shard

SAMPLES = 12
DECODED = "undecodable image"


def test_index_verify_reshard_and_the_feed_count_the_same_samples(tmp_path: Path) -> None:
    reasons = write_mixed(tmp_path)
    unread = {why: count for why, count in reasons.items() if why != DECODED}

    indexed = json.loads(gapctl("data", "index", str(tmp_path), "--json").out)
    verified = json.loads(gapctl("data", "verify", str(tmp_path), "--workers", "1", "--json").out)
    options = ("--out", str(tmp_path / "out"), "--workers", "1", "--json")
    resharded = json.loads(gapctl("data", "reshard", str(tmp_path), *options).out)

    assert indexed["samples"] == verified["samples"] == SAMPLES
    assert (indexed["problems"], verified["problems"], resharded["problems"]) == (unread, reasons, unread)
    for found in (indexed, verified):
        assert found["usable"] + sum(found["problems"].values()) == SAMPLES
    assert resharded["samples"] == {"train": indexed["usable"]}
    assert indexed["unused_shards"] == verified["unused_shards"]
    assert indexed["unused_shards"] == {
        f"{tmp_path}/00001.tar": "no samples",
        f"{tmp_path}/00002.tar": "2 no image",
    }
    assert indexed["ignored"] == {"cls": 1}

    said = io.StringIO()
    data = PairData.model_validate({"dataset": "cc12m", "source": str(tmp_path), "held_out_share": 0.5})
    load_data(data, Console(file=said, width=1_000))
    pairs = load_pair_manifests(resolve_pair_paths(data))
    assert len(pairs.train_rows) + len(pairs.held_out_rows) + sum(unread.values()) == SAMPLES
    assert f"{tmp_path}: {indexed['usable']} usable of {SAMPLES} samples" in said.getvalue()
    person = gapctl("data", "index", str(tmp_path)).out
    for line in (*(f"{count} {why}" for why, count in unread.items()), "00001.tar: nothing of it is used: no samples"):
        assert line in said.getvalue()
        assert line in person


def test_nothing_is_said_of_shards_that_are_used_whole(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.tar", range(9))
    assert "left out" not in gapctl("data", "index", str(tmp_path)).out
    said = io.StringIO()
    data = PairData.model_validate({"dataset": "cc12m", "source": str(tmp_path), "held_out_share": 0.5})
    load_data(data, Console(file=said))
    assert said.getvalue() == ""


def test_the_parts_of_a_manifest_that_was_made_less_closely_are_read_again(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.tar", range(3))
    first = json.loads(gapctl("data", "index", str(tmp_path), "--json").out)
    older = (tmp_path / "manifest.parquet").read_bytes()
    older = older.replace(b'"reading": 3', b'"reading": 2')
    (tmp_path / "manifest.parquet").write_bytes(older)
    again = json.loads(gapctl("data", "index", str(tmp_path), "--json").out)
    assert (first["read"], again["read"]) == (1, 1)
    assert again["fingerprint"] == first["fingerprint"]


def test_the_bundled_pairs_keep_the_fingerprint_that_trials_are_known_by() -> None:
    manifest = read_manifest(find_bundled_manifest())
    assert (manifest.fingerprint, len(manifest.samples), len(manifest.usable)) == ("551443040015c001", 2_237, 2_237)


def test_many_unused_shards_are_counted_and_not_all_named(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a.tar", range(3))
    for number in range(8):
        write_shard(tmp_path / f"{number}.tar", [])
    ran = gapctl("data", "index", str(tmp_path))
    assert ran.out.count("nothing of it is used: no samples") == 5
    assert "and 3 more shards of which nothing is used" in ran.out
