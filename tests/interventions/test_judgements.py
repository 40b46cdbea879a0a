"""Changes are judged on held-out images, paired with doing nothing, by intervals that hold for all interventions."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gap_galleries import gallery, rng
from gapctl.interventions.bootstrap import (
    BootstrapValues,
    ClusterStatistic,
    GapStatistic,
    ItemMeans,
    ItemValues,
    bootstrap_measures,
    compute_simultaneous_intervals,
    derive_resampling_units,
)
from gapctl.interventions.fit import FittedIntervention, InterventionCandidate, list_candidates, nothing
from gapctl.interventions.judge import (
    InterventionReport,
    build_statistics,
    judge_change,
    judge_interventions,
    split_images,
)
from gapctl.metrics.classification import ClassPrompts, ZeroShotTasks, measure_accuracies
from gapctl.metrics.clustering import v_measure
from gapctl.metrics.embedding_set import Embeddings
from gapctl.metrics.gap import Array
from gapctl.metrics.suite import measure_embeddings

NO_QUESTIONS = ZeroShotTasks()


def values(embeddings: Embeddings, asked: ZeroShotTasks = NO_QUESTIONS) -> dict[str, float]:
    statistics = build_statistics(embeddings, asked, nothing(embeddings.image_ND.shape[1]))
    ones_BU = np.ones((1, derive_resampling_units(embeddings).total))
    return {key: float(value_B[0]) for each in statistics for key, value_B in each.values(ones_BU).items()}


def several_captions(images: int = 30, texts: int = 80) -> Embeddings:
    image_of_text_M = np.concatenate([np.arange(images), rng(3).integers(0, images, texts - images)])
    found = gallery(texts)
    return Embeddings(found.image_ND[:images], found.text_MD, text_to_image_M=image_of_text_M)


@pytest.mark.parametrize(
    "embeddings",
    [
        gallery(),
        several_captions(),
        replace(gallery(), text_group_M=np.arange(200) // 3),
        replace(gallery(), labels_N=np.arange(200) % 7),
        replace(several_captions(), labels_N=np.arange(30) % 4),
        Embeddings(gallery(40).image_ND, gallery(5, gap=2.0).text_MD, prompt_of_N=np.arange(40) % 5),
    ],
    ids=["rows", "several captions", "equal captions", "labels", "labels and captions", "class prompts"],
)
def test_what_nothing_is_done_to_has_the_values_that_measure_gives(embeddings: Embeddings) -> None:
    expected, found = measure_embeddings(embeddings), values(embeddings)

    assert set(found) <= set(expected)
    assert set(found) > {"gap/l2m", "gap/rmg"}
    if embeddings.prompt_of_N is None:
        assert set(found) > {"gap/linear_separability", "quality/i2t_recall_1", "quality/mixed_ndcg_10"}
    assert ("quality/v_measure" in found) == (embeddings.labels_N is not None)
    assert found == pytest.approx({key: expected[key] for key in found}, rel=1e-9)


def test_zero_shot_accuracies_are_those_that_measure_gives() -> None:
    found = gallery(60)
    questions = {
        name: ClassPrompts(rng(classes).normal(size=(classes, 12)), np.arange(60) % classes) for name, classes in ASKED
    }
    asked = ZeroShotTasks(questions, "digit")

    expected = measure_accuracies(found.image_ND, asked)
    for key in ("quality/object_accuracy", "quality/attribute_accuracy"):
        assert values(found, asked)[key] == pytest.approx(expected[key])


ASKED = (("digit", 4), ("colour", 3), ("scale", 2))


def test_prompts_are_moved_as_texts_are() -> None:
    found = gallery(60, gap=2.0)
    asked = ZeroShotTasks({"digit": ClassPrompts(7 * found.text_MD[:4], np.arange(60) % 4)}, "digit")
    fitted = list_candidates((), ())[0].fit(found.image_ND, found.text_MD)
    moved = fitted.apply(found.image_ND, found.text_MD)
    expected = measure_accuracies(
        moved.image_ND, ZeroShotTasks({"digit": ClassPrompts(moved.text_MD[:4], np.arange(60) % 4)})
    )

    items = build_statistics(found, asked, fitted)[1].values(np.ones((1, 60)))
    assert items["quality/object_accuracy"][0] == pytest.approx(expected["quality/accuracy_digit"])


@given(st.integers(0, 2**32))
@settings(max_examples=30)
def test_drawing_each_image_as_often_as_its_weight_gives_the_weighted_values(seed: int) -> None:
    found = several_captions()
    drawn_N = rng(seed).integers(0, 30, 30)
    weight_N = np.bincount(drawn_N, minlength=30)
    clouds = nothing(12).apply(found.image_ND, found.text_MD)
    weighted = GapStatistic.of(clouds, found.text_to_image_M, None).values(weight_N[None, :].astype(float))

    image, text, text_weight = found.image_ND, found.text_MD, weight_N[found.text_to_image_M]
    matched = np.average(np.einsum("md,md->m", image[found.text_to_image_M], text), weights=text_weight)
    between = (1 - matched) / 2
    within = ((1 - off_diagonal(image, weight_N)) / 2 + (1 - off_diagonal(text, text_weight)) / 2) / 2
    difference = np.average(image, axis=0, weights=weight_N) - np.average(text, axis=0, weights=text_weight)
    assert weighted["gap/rmg"][0] == pytest.approx(between / (between + within))
    assert weighted["gap/l2m"][0] == pytest.approx(float(np.linalg.norm(difference)))


def off_diagonal(row_RD: Array, weight_R: Array) -> float:
    pair_RR = np.outer(weight_R, weight_R) * (1 - np.eye(len(weight_R)))
    return float((pair_RR * (row_RD @ row_RD.T)).sum() / pair_RR.sum())


@given(st.integers(0, 2**32), st.integers(2, 5))
@settings(max_examples=30)
def test_a_weighted_v_measure_is_that_of_the_rows_drawn(seed: int, kinds: int) -> None:
    drawn = rng(seed)
    cluster_R, label_R, image_R = (drawn.integers(0, kinds, 40), drawn.integers(0, kinds, 40), np.arange(40) // 2)
    weight_N = np.bincount(drawn.integers(0, 20, 20), minlength=20)
    found = ClusterStatistic.of(cluster_R, label_R, image_R).values(weight_N[None, :].astype(float))

    row_R = np.repeat(np.arange(40), weight_N[image_R])
    expected = v_measure(cluster_R[row_R], label_R[row_R])
    assert found["quality/v_measure"][0] == pytest.approx(0 if np.isnan(expected) else expected, abs=1e-12)


def one_mean(item_N: Array) -> list[ItemMeans]:
    return [ItemMeans.of({"quality/x": ItemValues(item_N, np.arange(len(item_N)))}, len(item_N))]


def test_the_standard_error_of_a_paired_change_is_that_of_its_differences() -> None:
    drawn = rng(1)
    before_N = drawn.normal(size=400)
    after_N = before_N + 0.3 + 0.1 * drawn.normal(size=400)
    before, after = bootstrap_measures([one_mean(before_N), one_mean(after_N)], 400, 0, seed=0, resamples=4000)
    found = compute_simultaneous_intervals(before["quality/x"], [after["quality/x"]], np.zeros(1))[0]

    half = 1.96 * float((after_N - before_N).std()) / np.sqrt(400)
    assert found.change == pytest.approx(float((after_N - before_N).mean()))
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.06)


def test_intervals_hold_for_all_interventions_at_once_in_about_their_share_of_samples() -> None:
    drawn = rng(2)
    held = 0
    for sample in range(200):
        difference_JN = drawn.normal(size=(6, 60))
        states = [one_mean(np.zeros(60)), *(one_mean(item_N) for item_N in difference_JN)]
        before, *after = (found["quality/x"] for found in bootstrap_measures(states, 60, 0, seed=sample, resamples=400))
        held += all(
            found.low <= 0 <= found.high for found in compute_simultaneous_intervals(before, after, np.zeros(6))
        )

    assert 0.88 <= held / 200 <= 0.99


def test_a_change_that_every_resample_agrees_on_is_as_uncertain_as_what_no_image_shows() -> None:
    same = BootstrapValues(0.5, np.full(100, 0.5))
    moving = BootstrapValues(0.6, 0.6 + 0.01 * rng(0).normal(size=100))
    still, other = compute_simultaneous_intervals(same, [same, moving], np.array([0.03, 0.03]))

    assert still == (0, -0.03, 0.03)
    assert other.high - other.low == pytest.approx(2 * 2 * 0.01, rel=0.3)


@pytest.mark.parametrize(("images", "verdict"), [(100, "inconclusive"), (400, "no difference that counts")])
def test_few_images_that_all_stay_right_do_not_show_that_nothing_changes(images: int, verdict: str) -> None:
    clear = gallery(2 * images, 64, gap=0.3, noise=0.001)
    found = judged(clear)

    change = next(each for each in found.judged if each.name == "shift 1").changes["quality/i2t_recall_10"]
    assert (change.value, change.change, change.verdict) == (1, 0, verdict)
    assert change.high == pytest.approx(3 / images)


def test_a_few_captions_that_many_images_share_count_as_few_queries() -> None:
    found = gallery(400, noise=0.3)
    caption_M = np.arange(400) % 8
    shared = replace(found, text_MD=found.text_MD[caption_M], text_group_M=caption_M)
    change = next(each for each in judged(shared).judged if each.name == "remove 1").changes["quality/t2i_recall_1"]

    assert judged(shared).held_out_captions == 8
    assert change.high - change.change > 3 / 8 - 0.01
    assert change.verdict == "inconclusive"


def test_captions_that_no_two_images_share_are_drawn_with_their_images() -> None:
    own = derive_resampling_units(replace(gallery(40), text_group_M=np.arange(40)[::-1].copy()))
    shared = derive_resampling_units(replace(gallery(40), text_group_M=np.arange(40) // 2))

    assert (own.captions, own.unit_of_text_M.tolist()) == (0, list(range(40)))
    assert (shared.captions, shared.unit_of_text_M[:4].tolist()) == (20, [40, 40, 41, 41])


VERDICTS = [
    ("quality/i2t_recall_1", 0.02, 0.05, "helps"),
    ("quality/i2t_recall_1", 0.005, 0.05, "inconclusive"),
    ("quality/i2t_recall_1", -0.005, 0.005, "no difference that counts"),
    ("quality/i2t_recall_1", -0.05, -0.02, "harms"),
    ("quality/i2t_recall_1", -0.05, 0.05, "inconclusive"),
    ("quality/object_accuracy", 0.02, 0.05, "no difference that counts"),
    ("quality/object_accuracy", 1.5, 5, "helps"),
    ("quality/flip_rate", -0.05, -0.02, "helps"),
    ("gap/l2m", -0.8, -0.6, "helps"),
    ("gap/l2m", 0.06, 0.08, "harms"),
    ("gap/rmg", -0.015, 0.015, "no difference that counts"),
]


@pytest.mark.parametrize(("key", "low", "high", "verdict"), VERDICTS)
def test_a_verdict_compares_the_interval_with_what_counts(key: str, low: float, high: float, verdict: str) -> None:
    assert judge_change(key, low, high) == verdict


def judged(embeddings: Embeddings, asked: ZeroShotTasks = NO_QUESTIONS, seed: int = 0) -> InterventionReport:
    return judge_interventions(embeddings, asked, list_candidates((0.0, 1.0), (1,)), 0.5, seed)


def changes(found: InterventionReport, name: str, key: str) -> tuple[float, ...]:
    return next(each for each in found.judged if each.name == name).changes[key][:4]


def test_a_shift_by_zero_changes_no_measure_at_all() -> None:
    found = judged(gallery())

    for key, before in found.before.items():
        assert changes(found, "shift 0", key) == (before, 0, 0, 0)


@pytest.mark.parametrize("name", ["shift 1", "centre", "orthogonal"])
def test_closing_a_wide_gap_is_seen_to_close_it_on_images_that_were_not_fitted(name: str) -> None:
    found = judged(gallery(600, gap=2.0))

    value, _, _, high = changes(found, name, "gap/l2m")
    assert found.before["gap/l2m"] > 1.2
    assert value < 0.2
    assert high < -1


def test_equal_arguments_give_equal_judgements_and_another_seed_another_split() -> None:
    one, again, other = (judged(gallery(), seed=seed) for seed in (1, 1, 2))

    assert one == again
    assert one.before != other.before


def test_an_intervention_that_leaves_nothing_of_a_row_says_so_and_the_others_are_judged() -> None:
    found = gallery(40)
    alike = judged(replace(found, text_MD=np.tile(found.text_MD[:1], (40, 1))))

    impossible = {each.name: each.impossible for each in alike.judged if each.impossible}
    assert set(impossible) == {"centre", "standardise"}
    assert all(reason.startswith("text row 0 has no length left") for reason in impossible.values())
    assert set(next(each for each in alike.judged if each.name == "shift 1").changes) == set(alike.before)


def test_what_is_fitted_never_sees_the_held_out_images() -> None:
    found = gallery(200)
    seen: list[Array] = []

    def fit(image_ND: Array, _: Array) -> FittedIntervention:
        seen.append(image_ND)
        return nothing(image_ND.shape[1])

    one = judge_interventions(found, NO_QUESTIONS, [InterventionCandidate("centre", None, fit)], 0.25, 0)
    split = split_images(found, 0.25, 0)
    assert seen[0] == pytest.approx(found.image_ND[split.calibration_S])
    assert (one.calibration_images, one.held_out_images) == (len(seen[0]), len(split.held_out_S)) == (50, 150)
