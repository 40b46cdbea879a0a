"""`Gap`, `ObjectBias` and `Entropy`: batches, merging and ranks give what `gapctl.measure` gives of all rows."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

import gapctl
from forked import PROCESSES
from gapctl.api import accumulators

MODULES = pytest.mark.parametrize("module", [accumulators, gapctl], ids=["plain", "torchmetrics"])
ROWS, WIDTH = 70, 6
RNG = np.random.default_rng(5)
IMAGES = RNG.normal(size=(ROWS, WIDTH))
TEXTS = IMAGES + RNG.normal(size=(ROWS, WIDTH)) + 0.4
LABELS = RNG.integers(0, 4, ROWS)
ATTRIBUTES = np.stack([RNG.integers(0, 3, ROWS), RNG.integers(2, 9, ROWS)], axis=1)
SCALE = 20.0
EXPECTED = gapctl.measure(IMAGES, TEXTS, LABELS, ATTRIBUTES, logit_scale=SCALE)

Arguments = Callable[[slice], tuple[Any, ...]]
KINDS: dict[str, tuple[dict[str, Any], Arguments]] = {
    "Gap": ({}, lambda rows: (IMAGES[rows], TEXTS[rows])),
    "ObjectBias": ({}, lambda rows: (IMAGES[rows], LABELS[rows], ATTRIBUTES[rows])),
    "Entropy": ({"logit_scale": SCALE}, lambda rows: (IMAGES[rows], TEXTS[rows])),
}
EACH_KIND = pytest.mark.parametrize("kind", KINDS)


def require_expected(found: dict[str, float]) -> None:
    """Require every metric to be that of all rows; entropies are computed in float32."""
    assert len(found) >= 4
    for key, value in found.items():
        assert value == pytest.approx(EXPECTED[key], rel=1e-5 if key.startswith("entropy/") else 1e-9), key


@MODULES
@EACH_KIND
def test_batches_add_up_to_all_rows(module: Any, kind: str) -> None:
    options, arguments = KINDS[kind]
    metric = getattr(module, kind)(**options)
    for rows in (slice(0, 1), slice(1, 33), slice(33, 70)):
        metric.update(*arguments(rows))
    require_expected(metric.compute())


@MODULES
@EACH_KIND
def test_merging_two_is_as_one_that_saw_all(module: Any, kind: str) -> None:
    options, arguments = KINDS[kind]
    one, other, empty = (getattr(module, kind)(**options) for _ in range(3))
    one.update(*arguments(slice(0, 20)))
    other.update(*arguments(slice(20, 70)))
    one.merge(other)
    one.merge(empty)
    empty.merge(one)
    require_expected(one.compute())
    require_expected(empty.compute())


@MODULES
@EACH_KIND
def test_a_reset_forgets_all_batches(module: Any, kind: str) -> None:
    options, arguments = KINDS[kind]
    metric = getattr(module, kind)(**options)
    metric.update(*(argument[::-1].copy() for argument in arguments(slice(0, 30))))
    metric.reset()
    metric.update(*arguments(slice(0, 70)))
    require_expected(metric.compute())


def test_with_torchmetrics_the_public_classes_are_its_metrics() -> None:
    import torchmetrics

    for kind, (options, arguments) in KINDS.items():
        metric = getattr(gapctl, kind)(**options)
        assert isinstance(metric, torchmetrics.Metric)
        assert repr(metric) == f"{kind}()"
        require_expected(metric(*arguments(slice(0, 70))))
        require_expected(metric.compute())
        require_expected(pickle.loads(pickle.dumps(metric)).compute())


def test_torch_in_bfloat16_with_a_gradient_is_taken_as_it_is() -> None:
    images = torch.from_numpy(IMAGES).bfloat16().requires_grad_()
    metric = gapctl.Gap()
    metric.update(images * 1, TEXTS)
    assert metric.compute()["gap/rmg"] == pytest.approx(gapctl.rmg(images, TEXTS), rel=1e-12)


def test_captions_of_one_image_belong_to_it_within_their_batch() -> None:
    five = np.repeat(np.arange(10), 5)
    texts = IMAGES[five] + RNG.normal(size=(50, WIDTH))
    metric = gapctl.Gap()
    metric.update(IMAGES[:4], texts[:20], five[:20])
    metric.update(IMAGES[4:10], texts[20:], five[20:] - 4)
    assert metric.compute()["gap/rmg"] == pytest.approx(gapctl.rmg(IMAGES[:10], texts, five), rel=1e-9)


def test_object_bias_is_named_by_its_side() -> None:
    metric = gapctl.ObjectBias("text")
    metric.update(TEXTS, LABELS, ATTRIBUTES)
    assert metric.compute()["bias/moad_text"] == pytest.approx(EXPECTED["bias/moad_text"], rel=1e-9)


@pytest.mark.parametrize("compute_groups", [True, False])
def test_one_call_serves_a_collection_of_all_accumulators(compute_groups: bool) -> None:
    collection = MetricCollection(
        {
            "gap": gapctl.Gap(),
            "images": gapctl.ObjectBias("image"),
            "texts": gapctl.ObjectBias("text"),
            "entropy": gapctl.Entropy(SCALE),
        },
        compute_groups=compute_groups,
    )
    for call, rows in ((collection, slice(0, 30)), (collection.update, slice(30, 50)), (collection, slice(50, 70))):
        call(
            image_features=torch.from_numpy(IMAGES[rows]),
            text_features=torch.from_numpy(TEXTS[rows]),
            labels=LABELS[rows],
            attributes=ATTRIBUTES[rows],
        )
    found = collection.compute()

    assert {"gap/rmg", "bias/moad_image", "bias/moad_text", "entropy/i2t_nats"} <= found.keys()
    require_expected(found)


def test_a_first_batch_of_equal_images_and_texts_does_not_tie_both_sides_together() -> None:
    collection = MetricCollection({"images": gapctl.ObjectBias("image"), "texts": gapctl.ObjectBias("text")})
    for rows, texts in ((slice(0, 30), IMAGES), (slice(30, 70), TEXTS)):
        collection.update(
            image_features=IMAGES[rows], text_features=texts[rows], labels=LABELS[rows], attributes=ATTRIBUTES[rows]
        )
    found = collection.compute()

    texts = np.concatenate([IMAGES[:30], TEXTS[30:]])
    expected = gapctl.measure(IMAGES, texts, LABELS, ATTRIBUTES)
    assert found["bias/moad_image"] == pytest.approx(expected["bias/moad_image"], rel=1e-9)
    assert found["bias/moad_text"] == pytest.approx(expected["bias/moad_text"], rel=1e-9)


@MODULES
@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"image_features": IMAGES}, "`features` or `text_features`: not given"),
        ({"features": TEXTS, "text_features": TEXTS}, "`features`: given beside `text_features`; expected one of the"),
        ({"features": TEXTS, "labels": None}, "`labels`: not given"),
        ({"text_features": TEXTS, "attributes": None}, "`attributes`: not given"),
    ],
)
def test_a_batch_that_lacks_an_array_names_it(module: Any, named: dict[str, Any], message: str) -> None:
    with pytest.raises(gapctl.InputError, match=message):
        module.ObjectBias("text").update(**{"labels": LABELS, "attributes": ATTRIBUTES, **named})


@EACH_KIND
def test_a_checkpoint_has_the_batches_once_that_is_asked_for_as_with_torchmetrics(kind: str) -> None:
    options, arguments = KINDS[kind]
    metric, resumed = (getattr(gapctl, kind)(**options) for _ in range(2))
    metric.update(*arguments(slice(0, 30)))
    assert not metric.state_dict()

    metric.persistent(True)
    resumed.persistent(True)
    resumed.load_state_dict(metric.state_dict())
    resumed.update(*arguments(slice(30, 70)))

    require_expected(resumed.compute())


@MODULES
@EACH_KIND
def test_a_pickled_accumulator_has_its_batches(module: Any, kind: str) -> None:
    options, arguments = KINDS[kind]
    metric = getattr(module, kind)(**options)
    metric.update(*arguments(slice(0, 30)))
    resumed = pickle.loads(pickle.dumps(metric))
    resumed.update(*arguments(slice(30, 70)))
    require_expected(resumed.compute())


SHARES = {"uneven": ((0, 25), (25, 70)), "one rank is idle": ((0, 70), (70, 70))}
"""The first and the last row of each of two ranks."""


def run_rank(rank: int, port: int, answers: Any) -> None:
    """Measure a rank's share of the rows, and report the metrics of all ranks."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    try:
        for shares in SHARES.values():
            for kind, (options, arguments) in KINDS.items():
                metric = getattr(gapctl, kind)(**options)
                first, last = shares[rank]
                if first < last:
                    metric.update(*arguments(slice(first, last)))
                answers.put(metric.compute())
    finally:
        torch.distributed.destroy_process_group()


def test_two_ranks_equal_one_process_even_where_one_saw_nothing(free_port: int) -> None:
    answers = PROCESSES.SimpleQueue()
    other = PROCESSES.Process(target=run_rank, args=(0, free_port, answers))
    other.start()
    run_rank(1, free_port, answers)
    other.join()
    assert other.exitcode == 0
    for _ in range(2 * len(SHARES) * len(KINDS)):
        require_expected(answers.get())


@pytest.fixture
def free_port() -> int:
    """Find a port that nobody listens on."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@MODULES
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_wrong_batches_get_one_message(module: Any) -> None:
    gap, bias = module.Gap(), module.ObjectBias()
    with pytest.raises(gapctl.InputError, match="0 rows were added; expected at least 2"):
        gap.compute()
    gap.update(IMAGES, TEXTS)
    with pytest.raises(gapctl.InputError, match="`embeddings`: 4 wide; expected 6, as in the batches before"):
        gap.update(IMAGES[:, :4], TEXTS[:, :4])
    with pytest.raises(gapctl.InputError, match=r"merge: found a .*ObjectBias.*; expected another gapctl\.Gap"):
        gap.merge(bias)
    with pytest.raises(gapctl.InputError, match="`labels`: words; expected class numbers"):
        bias.update(IMAGES, np.array(["cat"] * ROWS), ATTRIBUTES)
    with pytest.raises(gapctl.InputError, match="`attributes`: -1 in row 0; expected 0 to 99999"):
        bias.update(IMAGES, LABELS, np.full(ROWS, -1))
    with pytest.raises(gapctl.InputError, match="`side`: found 'both'"):
        module.ObjectBias("both")
    with pytest.raises(gapctl.InputError, match="`logit_scale`: found 0"):
        module.Entropy(0)
    require_expected(gap.compute())


@MODULES
def test_labels_that_batches_would_number_apart_are_refused(module: Any) -> None:
    bias = module.ObjectBias()
    bias.update(IMAGES, LABELS, ATTRIBUTES)
    with pytest.raises(gapctl.InputError, match="`attributes`: a dict; expected an array of class numbers"):
        bias.update(IMAGES, LABELS, {"colour": ["red"] * ROWS})
    with pytest.raises(gapctl.InputError, match="`attributes`: 1 factors; expected 2, as in the batches before"):
        bias.update(IMAGES, LABELS, ATTRIBUTES[:, 0])
    with pytest.raises(gapctl.InputError, match="found a ObjectBias of side text; expected another"):
        bias.merge(module.ObjectBias("text"))
    require_expected(bias.compute())


@MODULES
def test_entropy_takes_more_images_than_texts(module: Any) -> None:
    metric = module.Entropy(SCALE)
    metric.update(IMAGES, TEXTS[:10])
    found = metric.compute()
    assert found["entropy/i2t_nats"] == pytest.approx(gapctl.entropy(IMAGES, TEXTS[:10], SCALE), rel=1e-4)
    assert found["entropy/t2i_nats"] == pytest.approx(gapctl.entropy(IMAGES, TEXTS[:10], SCALE, "t2i"), rel=1e-4)


def test_a_last_batch_of_one_row_is_added_and_has_no_metrics_of_its_own() -> None:
    gap = gapctl.Gap()
    assert gap(IMAGES[:-1], TEXTS[:-1])["gap/rmg"] == pytest.approx(gapctl.rmg(IMAGES[:-1], TEXTS[:-1]), rel=1e-9)
    assert gap(IMAGES[-1:], TEXTS[-1:]) == {}
    require_expected(gap.compute())
