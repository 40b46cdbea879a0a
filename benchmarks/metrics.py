"""What the measures cost beside the formulas that they replace, on one core and without a network.

    python benchmarks/metrics.py [--json FILE] [--details FILE] [--folder DIR] [--rows 1000000] [--part gap ...]

Parts: `gap` (RMG and object bias at N = 20,000, D = 512), `neighborhood` (1,000 classes), `stream` (N x 512 float32
from disk; writes two files of `--rows` rows into `--folder` and removes them), `measure` (`gapctl measure` of such
files, a process of its own with all cores) and `drift` (float32 sums over ten million rows). The peers are the official
definitions written out here in plain torch and numpy: all pairs in N x N matrices, and a comparison of all pairs of
classes for each class.

Times are CPU seconds of this process, the least of three for anything short; wall time stands beside them where files
are read.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray

from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.formats import locate_npy_rows
from gapctl.metrics.geometry import compare_class_orders
from gapctl.metrics.streaming import EmbeddingStream
from process_cost import measured
from row import Row, write_rows

Answer = TypeVar("Answer")
Found = dict[str, Any]
WIDTH: Final = 512
CLASSES: Final = 1_000
CLASSES_TIMED: Final = 50
STREAM_BLOCK: Final = 8_192


class Timed(NamedTuple, Generic[Answer]):
    """What a call gave, and the CPU seconds it took."""

    answer: Answer
    seconds: float


def timed(call: Callable[[], Answer], repeats: int = 1) -> Timed[Answer]:
    """The least of several times."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        answer = call()
        times.append(time.process_time() - started)
    return Timed(answer, min(times))


def rows(count: int, width: int, seed: int, shift: float = 0.1) -> NDArray[np.float32]:
    """Normal rows off the origin."""
    rng = np.random.Generator(np.random.Philox(seed))
    return rng.standard_normal((count, width), dtype=np.float32) + np.float32(shift)


def labelled(count: int, width: int) -> Embeddings:
    """Pairs with ten objects and one attribute of three values."""
    rng = np.random.Generator(np.random.Philox(9))
    return Embeddings(
        rows(count, width, 1),
        rows(count, width, 2, -0.1),
        labels_N=rng.integers(0, 10, count),
        attributes_NF=rng.integers(0, 3, (count, 1)),
    )


def official_gap_and_bias(embeddings: Embeddings) -> tuple[float, float]:
    """RMG (self-pairs left out) and MOAD of images by N x N matrices of cosines, float32."""
    both = (embeddings.image_ND, embeddings.text_MD)
    image, text = (torch.nn.functional.normalize(torch.from_numpy(each)) for each in both)
    count = len(image)
    within_text = _off_diagonal_mean(text @ text.T, count)
    cosine_NN = image @ image.T
    within_image = _off_diagonal_mean(cosine_NN, count)
    matched = (1 - (image * text).sum(dim=1).mean()) / 2
    rmg = matched / (matched + ((1 - within_image) / 2 + (1 - within_text) / 2) / 2)
    upper_NN = torch.ones(count, count, dtype=torch.bool).triu_(1)
    assert embeddings.labels_N is not None
    assert embeddings.attributes_NF is not None
    by_object = _margin(cosine_NN, embeddings.labels_N, upper_NN)
    return float(rmg), by_object - _margin(cosine_NN, embeddings.attributes_NF[:, 0], upper_NN)


def _off_diagonal_mean(cosine_NN: torch.Tensor, count: int) -> torch.Tensor:
    return (cosine_NN.sum(dtype=torch.float64) - cosine_NN.diagonal().sum()) / (count * (count - 1))


def _margin(cosine_NN: torch.Tensor, label_N: NDArray[np.int64], upper_NN: torch.Tensor) -> float:
    label = torch.from_numpy(label_N)
    same_NN = label[:, None] == label[None]
    same = cosine_NN[same_NN & upper_NN].mean(dtype=torch.float64)
    return float(same - cosine_NN[~same_NN & upper_NN].mean(dtype=torch.float64))


def gap_part() -> Found:
    """RMG and object bias together."""
    embeddings = labelled(20_000, WIDTH)

    def ours() -> tuple[float, float]:
        stream = EmbeddingStream(second_moments=False)
        stream.update(embeddings)
        found = stream.compute()
        return found["gap/rmg"], found["bias/moad_image"]

    here, peer = timed(ours, 3), timed(lambda: official_gap_and_bias(embeddings))
    assert np.allclose(here.answer, peer.answer, atol=1e-5), (here.answer, peer.answer)
    return beside(here.seconds, peer.seconds)


def official_distance(one_KL: NDArray[np.int64], other_KL: NDArray[np.int64]) -> float:
    """The mean over rows of the share of pairs that two lists order differently, by comparing all pairs."""
    i, j = np.meshgrid(np.arange(one_KL.shape[1]), np.arange(one_KL.shape[1]))
    distances = []
    for a, b in zip(one_KL, other_KL, strict=True):
        crossed = ((a[i] < a[j]) & (b[i] > b[j])) | ((a[i] > a[j]) & (b[i] < b[j]))
        distances.append(crossed.sum() / (len(a) * (len(a) - 1)))
    return float(np.mean(distances))


def official_distances(
    image_KD: NDArray[np.float64], text_KD: NDArray[np.float64], classes: int
) -> tuple[float, float]:
    """What `neighborhood` calls kendall and discordance, over the first `classes` classes."""
    orders = [np.argsort(each_KD @ each_KD.T, axis=1)[:classes] for each_KD in (image_KD, text_KD)]
    others = [np.array([row[row != own] for own, row in enumerate(order)]) for order in orders]
    places = [np.argsort(each, axis=1) for each in others]
    return official_distance(*orders), official_distance(*places)


def neighborhood_part() -> Found:
    """Both distances; the official comparison of all pairs is timed on some classes and scaled up."""
    image, text = normalise_rows(rows(CLASSES, WIDTH, 3)), normalise_rows(rows(CLASSES, WIDTH, 4))
    here = timed(lambda: compare_class_orders(image, np.arange(CLASSES), text), 3)
    peer = timed(lambda: official_distances(image, text, CLASSES_TIMED), 3)
    few = compare_class_orders(image[:60], np.arange(60), text[:60])
    assert np.allclose((few.kendall, few.discordance), official_distances(image[:60], text[:60], 60))
    found = beside(here.seconds, peer.seconds * CLASSES / CLASSES_TIMED)
    return {**found, "classes": CLASSES, "classes_timed": CLASSES_TIMED}


def stream_part(folder: Path, count: int) -> Found:
    """Gap and object bias of two files in one pass, beside reading both, from disk and from the page cache."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        paths = [_written(Path(room) / f"{side}.npy", count, seed) for side, seed in (("image", 1), ("text", 2))]
        found: Found = {"rows": count, "width": WIDTH, "gigabytes": sum(path.stat().st_size for path in paths) / 1e9}
        for state in ("disk", "cache"):
            read = _walled(_read, paths, dropped=state == "disk")
            found[f"read_from_{state}"] = read
            for name, call in (("gap", _gap_streamed), ("gap_and_bias", _all_streamed)):
                ours = _walled(call, paths, dropped=state == "disk")
                found[f"{name}_from_{state}"] = {**ours, "over_reading": ours["wall"] / read["wall"]}
    found["peak_gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return found


def _written(path: Path, count: int, seed: int) -> Path:
    """A file of rows that repeat, shifted, since drawing them all would take longer than the benchmark."""
    block_BD = rows(10_000, WIDTH, seed)
    with path.open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, WIDTH)}
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, count, len(block_BD)):
            np.roll(block_BD, start // len(block_BD), axis=0)[: count - start].tofile(file)
    return path


def _walled(call: Callable[[list[Path]], None], paths: list[Path], *, dropped: bool) -> dict[str, float]:
    if dropped:
        _drop_from_cache(paths)
    wall, cpu = time.perf_counter(), time.process_time()
    call(paths)
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def _drop_from_cache(paths: list[Path]) -> None:
    os.sync()
    for path in paths:
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def _read(paths: list[Path]) -> None:
    room = bytearray(STREAM_BLOCK * WIDTH * 4)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(room):
                pass


def _gap_streamed(paths: list[Path]) -> None:
    stream = EmbeddingStream(second_moments=False)
    image, text = (locate_npy_rows(path) for path in paths)
    for image_BD, text_BD in zip(image.read_blocks(STREAM_BLOCK), text.read_blocks(STREAM_BLOCK), strict=True):
        stream.update(Embeddings(image_BD, text_BD))
    stream.compute()


def _all_streamed(paths: list[Path]) -> None:
    stream = EmbeddingStream(second_moments=False)
    image, text = (locate_npy_rows(path) for path in paths)
    label_B = np.arange(STREAM_BLOCK) * 7919 % 30
    for image_BD, text_BD in zip(image.read_blocks(STREAM_BLOCK), text.read_blocks(STREAM_BLOCK), strict=True):
        mine_B = label_B[: len(image_BD)]
        stream.update(Embeddings(image_BD, text_BD, labels_N=mine_B % 10, attributes_NF=mine_B[:, None] // 10))
    stream.compute()


def measure_part(folder: Path, count: int) -> Found:
    """The whole of `gapctl measure` on two files of different rows, with all cores."""
    with tempfile.TemporaryDirectory(dir=folder) as room:
        paths = [Path(room) / f"{side}.npy" for side in ("image", "text")]
        for seed, path in enumerate(paths):
            array = np.lib.format.open_memmap(path, "w+", np.float32, (count, WIDTH))
            for start in range(0, count, 10_000):
                drawn = rows(min(10_000, count - start), WIDTH, seed * count + start)
                array[start : start + 10_000] = drawn
            del array
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.pop(name)
        cost, _ = measured(
            [sys.executable, "-m", "gapctl", "measure", "--embeddings", ",".join(map(str, paths)), "--json"]
        )
    return {"rows": count, "width": WIDTH, **cost._asdict()}


def drift_part() -> Found:
    """The mean cosine of ten million rows, all (0.6, 0.8) or (0.8, 0.6), from sums in either precision."""
    block_BD = np.tile(np.array([[0.6, 0.8], [0.8, 0.6]], np.float32), (50_000, 1))
    narrow_D, stream, count = np.zeros(2, np.float32), EmbeddingStream(second_moments=False), 0
    for _ in range(100):
        narrow_D = np.add.reduce(np.concatenate([narrow_D[None], block_BD]), axis=0)
        stream.update(Embeddings(block_BD, block_BD))
        count += len(block_BD)
    exact, narrow_mean_D = 0.98, narrow_D.astype(np.float64) / count
    return {
        "rows": count,
        "mean_cosine": exact,
        "float32_error": float(narrow_mean_D @ narrow_mean_D) / exact - 1,
        "float64_error": stream.sums().gap.image.cosine_with_self / exact - 1,
    }


def beside(ours: float, peer: float) -> Found:
    """Both times and their ratio."""
    return {"seconds": ours, "peer_seconds": peer, "times_faster": peer / ours}


def main() -> None:
    """Prints each part as it ends, and writes all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="the rows that `make bench` shows")
    parser.add_argument("--details", type=Path, help="everything that was measured")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parts: dict[str, Callable[[], Found]] = {
        "stream": lambda: stream_part(arguments.folder, arguments.rows),
        "measure": lambda: measure_part(arguments.folder, arguments.rows),
        "gap": gap_part,
        "neighborhood": neighborhood_part,
        "drift": drift_part,
    }
    parser.add_argument("--part", choices=tuple(parts), action="append")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {}
    for name in arguments.part or parts:
        found[name] = parts[name]()
        print(name, json.dumps(found[name], indent=1), flush=True)
    if arguments.details:
        arguments.details.write_text(json.dumps({"threads": 1, **found}, indent=1) + "\n", encoding="utf-8")
    write_rows(table_rows(found), arguments.json)


def table_rows(found: Found) -> list[Row]:
    """What of it has a target, for the table of all benchmarks."""
    lines = []
    if gap := found.get("gap"):
        why = "one product of labels and rows; reading the rows once"
        lines.append(_faster("RMG and MOAD, 20,000 x 512", "N x N formulas", gap, why))
    if near := found.get("neighborhood"):
        why = "sorting each class's order; the peer is timed on 50 classes and scaled up"
        lines.append(_faster("neighbourhood test, 1,000 classes", "all pairs compared", near, why))
    if stream := found.get("stream"):
        for state in ("disk", "cache"):
            ours, read = stream[f"gap_and_bias_from_{state}"], stream[f"read_from_{state}"]
            lines.append(
                Row(
                    what=f"gap and MOAD of {stream['rows']:,} x {WIDTH} from {state}, over reading",
                    unit="times as long",
                    ours=ours["wall"] / read["wall"],
                    target=2.0 if state == "cache" else 3.0,
                    wanted=1.3 if state == "cache" else None,
                    better="lower",
                    limited_by="widening rows to float64, and three products of them"
                    if state == "cache"
                    else "the disk",
                )
            )
        peak = stream["peak_gigabytes"]
        why = "torch and the packages take most of it"
        lines.append(Row("the same, memory", "GB", peak, why, target=1.5, better="lower"))
    if whole := found.get("measure"):
        what, why = f"`measure` whole, {whole['rows']:,} x {WIDTH}", "products of queries with the whole gallery"
        lines.append(Row(what, "s", whole["seconds"], why, target=240.0, better="lower"))
        why = "rows checked together in float64"
        lines.append(Row("the same, memory", "GB", whole["megabytes"] / 1e3, why, target=4.0, better="lower"))
    return lines


def _faster(what: str, peer_name: str, found: Found, why: str) -> Row:
    return Row(
        what=what,
        unit="s",
        ours=found["seconds"],
        limited_by=why,
        peer_name=peer_name,
        peer=found["peer_seconds"],
        ratio=found["times_faster"],
        target=100.0,
        better="lower",
    )


if __name__ == "__main__":
    main()
