"""Kernels by numpy give what those by torch give, up to rounding, and metrics need torch nowhere else."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from clouds import matched_rows, random_rows

from gapctl.metrics import comparisons_numpy, comparisons_torch
from gapctl.metrics.sampling import DrawPurpose, make_metric_generator

ROWS, WIDTH = 150, 12
IMAGES, TEXTS = matched_rows(ROWS, WIDTH, gap=0.4)
KEYS = np.arange(ROWS) // 2
TYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def require_close(found: object, expected: object, dtype: type) -> None:
    """Require equality up to the rounding of the type."""
    rtol, atol = (1e-10, 1e-9) if dtype is np.float64 else (2e-4, 5e-4)  # logits of 100 cancel in float32
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


@TYPES
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_entropies_agree(dtype: type, scale: float) -> None:
    image, text = IMAGES.astype(dtype), TEXTS.astype(dtype)
    expected = comparisons_torch.compute_entropies(image, text, scale)
    require_close(comparisons_numpy.compute_entropies(image, text, scale), expected, dtype)


@TYPES
def test_potentials_and_their_counts_agree(dtype: type) -> None:
    arguments = (IMAGES.astype(dtype), KEYS, TEXTS.astype(dtype), KEYS)
    found, expected = (
        comparisons_numpy.sum_gaussian_potentials(*arguments),
        comparisons_torch.sum_gaussian_potentials(*arguments),
    )
    require_close(found[0], expected[0], dtype)
    assert (found[1] == expected[1]).all()


def test_neighbours_agree_with_ties_among_equal_captions() -> None:
    texts = TEXTS[KEYS * 2]
    arguments = (IMAGES, texts, np.arange(0, ROWS, 3), 10)
    expected = comparisons_torch.compute_neighbor_overlaps(*arguments)
    require_close(comparisons_numpy.compute_neighbor_overlaps(*arguments), expected, np.float64)


@pytest.mark.parametrize("gallery", [ROWS, 4])
def test_hits_agree_also_where_the_gallery_is_smaller_than_the_depth(gallery: int) -> None:
    arguments = (IMAGES, TEXTS[:gallery], KEYS, KEYS[:gallery])
    assert (comparisons_numpy.find_recall_hits(*arguments) == comparisons_torch.find_recall_hits(*arguments)).all()


def test_gains_agree_and_leave_out_queries_without_a_match() -> None:
    arguments = (IMAGES, KEYS, (IMAGES, KEYS), (TEXTS[:100], KEYS[:100]), 10)
    found, expected = (
        comparisons_numpy.compute_normalised_discounted_gains(*arguments),
        comparisons_torch.compute_normalised_discounted_gains(*arguments),
    )
    assert len(found) == 100
    require_close(found, expected, np.float64)


@TYPES
@pytest.mark.parametrize("values", [1, 2, 3, 50])
@pytest.mark.parametrize("count", [1, 3, 10, 40])
def test_of_equally_near_items_the_earlier_is_the_nearer(dtype: type, values: int, count: int) -> None:
    cosine_BG = (random_rows(60, 40, seed=values) * 99).astype(np.int64) % values / dtype(values)
    expected = [sorted(range(40), key=lambda place: (-row[place], place))[:count] for row in cosine_BG.tolist()]

    cosine_BG = cosine_BG.astype(dtype)
    assert comparisons_numpy.find_nearest(cosine_BG, count).tolist() == expected
    assert comparisons_torch.find_nearest(torch.from_numpy(cosine_BG), count).tolist() == expected


def test_hits_and_gains_of_tied_embeddings_agree() -> None:
    corners = np.eye(4, dtype=np.float32)[np.arange(ROWS) % 4]  # products of these are exact
    keys = np.arange(ROWS)
    for module in (comparisons_numpy, comparisons_torch):
        hit_QK = module.find_recall_hits(corners, corners, keys, keys)
        assert hit_QK.sum(axis=0).tolist() == [4, 20, 40]
        assert np.flatnonzero(hit_QK[:, 0]).tolist() == [0, 1, 2, 3]
    arguments = (corners, keys, (corners, keys), (corners, keys), 10)
    found, expected = (
        comparisons_numpy.compute_normalised_discounted_gains(*arguments),
        comparisons_torch.compute_normalised_discounted_gains(*arguments),
    )
    require_close(found, expected, np.float64)
    assert 0 < np.count_nonzero(found) <= 40


def test_a_model_that_maps_all_to_one_point_retrieves_at_chance() -> None:
    point = np.full((ROWS, 4), 0.5, np.float32)
    keys = np.arange(ROWS)
    for module in (comparisons_numpy, comparisons_torch):
        assert module.find_recall_hits(point, point, keys, keys).sum(axis=0).tolist() == [1, 5, 10]


def test_clusters_agree() -> None:
    centres = random_rows(5, WIDTH, seed=9)
    rows = np.concatenate([centre + 0.05 * random_rows(30, WIDTH, seed=n) for n, centre in enumerate(centres)])
    found, expected = (
        module.cluster_rows(rows, 5, make_metric_generator(DrawPurpose.CENTROIDS))
        for module in (comparisons_numpy, comparisons_torch)
    )
    assert (found[0] == expected[0]).all()
    assert found[1] == pytest.approx(expected[1], rel=1e-9)


PROGRAM = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, Absent())
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "torch" else find_spec(name, *more)
import numpy, gapctl
rng = numpy.random.default_rng(0)
images = rng.normal(size=(40, 8))
texts = images + rng.normal(size=(40, 8))
for key, value in gapctl.measure(images, texts, numpy.arange(40) % 4, numpy.arange(40) // 20, logit_scale=30).items():
    print(key, repr(value))
gap = gapctl.Gap()
gap.update(images, texts)
print(type(gap).__module__, gapctl.intervene(images, texts).sentence[:3])
"""


def test_every_metric_is_measured_without_torch() -> None:
    import gapctl

    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 8))
    texts = images + rng.normal(size=(40, 8))
    expected = gapctl.measure(images, texts, np.arange(40) % 4, np.arange(40) // 20, logit_scale=30)
    found = {key: float(value) for key, value in (line.split() for line in lines)}
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert value == pytest.approx(expected[key], rel=1e-4, nan_ok=True), key
    assert last.startswith("gapctl.api.accumulators ")
