"""What a training will ask of an object store: estimated from its manifest, held to what its feed asks."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from command_line import gapctl
from gapctl.cli.store_requests import estimate_request_cost
from gapctl.cluster.cost import load_shipped_prices
from gapctl.config.load import load_sweep
from gapctl.config.trial import PairData, TrialConfig
from gapctl.data.image_text import requests
from gapctl.data.image_text.index import build_manifest
from gapctl.data.image_text.manifest import PairTable, write_manifest
from gapctl.data.image_text.order import PairOrder, WorkerShare, split_into_spans
from gapctl.data.image_text.pieces import plan_pieces
from gapctl.data.image_text.requests import StoredPairs, StoredShard, estimate_requests
from gapctl.data.image_text.storage import list_shards
from gapctl.data.parallel_shards import Workers
from gapctl.errors import InputError
from gapctl.plan.plan import make_plan
from pair_shards import write_pairs

REPOSITORY = Path(__file__).parents[2]
SHARDS, PER_SHARD, SAMPLE_BYTES = 24, 1_000, 30_000


def stored_pairs(held_out_share: float = 0.0) -> StoredPairs:
    shard = StoredShard(PER_SHARD * SAMPLE_BYTES, PER_SHARD, PER_SHARD * (1 - held_out_share))
    return StoredPairs("s3://bucket/pairs", [shard] * SHARDS, held_out_bytes=0.0)


def table_of(held_out_share: float) -> PairTable:
    """The training's samples in shards of samples of equal size, without the held-out ones."""
    row_N = np.flatnonzero(np.random.default_rng(0).random(SHARDS * PER_SHARD) >= held_out_share)
    whole_N2 = np.stack([row_N % PER_SHARD * SAMPLE_BYTES, np.full(len(row_N), SAMPLE_BYTES)], axis=1)
    addresses = [f"s3://bucket/pairs/{number}.tar" for number in range(SHARDS)]
    shard_N = (row_N // PER_SHARD).astype(np.int32)
    edges = np.searchsorted(shard_N, np.arange(SHARDS + 1)).tolist()
    known = {"addresses": addresses, "edges": edges, "row_N": row_N, "shard_N": shard_N}
    return PairTable(**dict.fromkeys(PairTable._fields, ()) | known | {"whole_N2": whole_N2})


def count_requests(table: PairTable, batch: int, nodes: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Plan one epoch for all workers of all nodes; return the requests of all nodes, and their bytes."""
    order, world = PairOrder(split_into_spans(table.edges), 0), sum(map(len, nodes))
    found = set[tuple[int, str, int, int, int]]()
    for number in range(order.chunks):
        chunk = order.chunk(0, number)
        places: list[NDArray[np.int64]] = [
            chunk.place_N[WorkerShare(0, batch, rank, world).of(chunk)] for rank in range(world)
        ]
        for node, ranks in enumerate(nodes):
            for rank in ranks:
                others = [places[other] for other in ranks if other != rank]
                for piece in plan_pieces(table, places[rank], others, chunk.start):
                    found.add((node, piece.address, piece.start, piece.size, piece.position))
    return len(found), sum(size for *_, size, _ in found)


@pytest.mark.parametrize(
    ("batch", "nodes", "held_out"),
    [
        (256, [[0]], 0.0),
        (256, [[0]], 0.1),
        (256, [range(8)], 0.1),
        (256, [[0], [1], [2], [3]], 0.0),
        (256, [range(4), range(4, 8)], 0.1),
        (8_192, [[0], [1]], 0.0),
        (512, [[rank] for rank in range(64)], 0.0),
    ],
)
def test_the_estimate_is_near_what_the_feed_asks(batch: int, nodes: Sequence[Sequence[int]], held_out: float) -> None:
    gets, read = count_requests(table_of(held_out), batch, nodes)
    config = config_of(round(SHARDS * PER_SHARD * (1 - held_out)), batch)
    found = estimate_requests(config, stored_pairs(held_out), len(nodes))

    assert found.gets == pytest.approx(gets, rel=0.15)
    assert found.bytes == pytest.approx(read, rel=0.15)


def config_of(samples: int, batch: int) -> TrialConfig:
    return TrialConfig.model_validate(
        {
            "data": {"dataset": "image_text"},
            "model": {"preset": "pairs-small"},
            "train": {"samples": samples, "batch_size": batch},
        }
    )


def test_a_node_reads_each_byte_once_an_epoch_in_one_request_a_span() -> None:
    gets, read = count_requests(table_of(0.0), 256, [range(8)])

    assert read == SHARDS * PER_SHARD * SAMPLE_BYTES
    assert gets <= SHARDS * 4


def test_single_workers_of_the_former_feed_would_have_asked_for_almost_every_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """CC12M's paper scale was computed to take 3.0 billion requests, joined within 64 KiB by each of eight workers."""
    monkeypatch.setattr(requests, "REMOTE_GAP_BYTES", 1 << 16)
    sweep = load_sweep(REPOSITORY / "sweeps" / "cc12m_captions.yaml", "paper")
    trained = sweep.spec.base.train.samples
    shard = StoredShard(270_000_000, 9_000, 9_000)
    found = estimate_requests(sweep.spec.base, StoredPairs("s3://b", [shard] * 1_029, held_out_bytes=0.0), 8)

    assert 15 * found.gets == pytest.approx(3.0e9, rel=0.1)
    assert found.bytes < 2 * 30_000 * trained


SWEEP = """\
name: far
question: What does it ask?
base:
  data: {{dataset: image_text, source: '{source}', held_out_share: 0.5}}
  model: {{preset: pairs-small}}
  train: {{samples: 20000, batch_size: 8}}
  evaluate: {{gallery: 2, every: 10000}}
vary: {{train.lr: [1.0e-3, 1.0e-4]}}
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sweep on twenty pairs at an address."""
    monkeypatch.setenv("GAPCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    write_pairs(tmp_path / "shards" / "a.tar", range(20))
    manifest = build_manifest(list_shards([f"file://{tmp_path}/shards"]), Workers(1))
    write_manifest(tmp_path / "shards" / "manifest.parquet", manifest)
    file = tmp_path / "far.yaml"
    file.write_text(SWEEP.format(source=f"file://{tmp_path}/shards/manifest.parquet"), encoding="utf-8")
    return file


def test_a_plan_says_what_is_asked_of_a_store(far: Path) -> None:
    said = json.loads(gapctl("plan", str(far), "--json").out)["totals"]["requests"]

    assert said["nodes"] == 1
    assert said["gets"] == pytest.approx(2 * (2_000 + 3 * 2), rel=0.01)  # a piece an epoch, and the gallery thrice
    assert "cost" not in said  # files have no price
    assert "object store: about 4,0" in gapctl("plan", str(far)).out


def test_costs_on_a_cluster_have_what_is_asked_of_a_store(far: Path) -> None:
    cluster = str(REPOSITORY / "cluster.yaml")
    gets = []
    for workers in (1, 8):
        option = ("--sweep", str(far), "--set", f"resources.workers={workers}", "--set", "resources.gpus=1", "--json")
        ran = gapctl("cluster", "cost", cluster, *option)
        assert ran.exit_code == 0, ran.err
        document = json.loads(ran.out)
        assert document["requests"]["nodes"] == workers
        gets.append(document["requests"]["gets"])
    assert gets[0] == pytest.approx(2 * (2_000 + 3 * 2), rel=0.01)
    assert 5 * gets[0] < gets[1] <= 8 * gets[0]

    (far.parent / "shards" / "manifest.parquet").unlink()
    document = json.loads(gapctl("cluster", "cost", cluster, "--sweep", str(far), "--json").out)
    assert "manifest.parquet" in document["requests"]["unknown"][0]


def test_a_store_is_asked_once_about_pairs_that_differ_in_their_captions(
    far: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[str]()

    def refuse(data: PairData) -> None:
        asked.append(data.source)
        raise InputError("no answer")

    monkeypatch.setattr(requests, "summarise_stored_pairs", refuse)
    text = far.read_text(encoding="utf-8").replace("vary: {", "vary: {data.captions.keep: [full, half], ")
    far.write_text(text, encoding="utf-8")
    trials = make_plan(load_sweep(far), lambda _: "data").trials

    found = estimate_request_cost(trials, load_shipped_prices())

    assert found is not None
    assert found.unknown == ("no answer",)
    assert len(asked) == 1


def test_shards_in_a_store_count_though_their_manifest_lies_on_a_disk(far: Path) -> None:
    file = far.with_name("local.yaml")
    file.write_text(SWEEP.format(source=far.parent / "shards" / "manifest.parquet"), encoding="utf-8")

    said = json.loads(gapctl("plan", str(file), "--json").out)["totals"]["requests"]

    assert said["gets"] == pytest.approx(2 * (2_000 + 3 * 2), rel=0.01)


def test_a_plan_on_a_disk_says_nothing_of_a_store(far: Path) -> None:
    file = far.with_name("near.yaml")
    file.write_text(SWEEP.format(source="bundled"), encoding="utf-8")

    assert "requests" not in json.loads(gapctl("plan", str(file), "--json").out)["totals"]
