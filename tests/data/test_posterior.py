"""The entropy of a model that knows MAD's world, over a gallery: against a sum over pairs, and where it is known."""

import math
from typing import Any

import numpy as np
import pytest

from gapctl.config.trial import FACTOR_VALUES, MadData
from gapctl.data.mad.posterior import measure_posterior_entropies
from gapctl.data.mad.sampler import MadSamples, parse_captions, sample_gallery

LABELS = np.arange(60) % 10
BOTH = ("entropy/i2t_posterior_nats", "entropy/t2i_posterior_nats")


def gallery(size: int = 150, **captions: Any) -> tuple[MadData, MadSamples]:
    about = MadData.model_validate({"captions": captions})
    return about, sample_gallery(LABELS, size, about)


def entropies_by_hand(about: MadData, drawn: MadSamples) -> list[float]:
    """Pair by pair: a caption's chance with an image is a product over what it names."""
    named_N6, noise = parse_captions(drawn.tokens_BL), about.captions.noise
    scores = np.zeros((len(named_N6),) * 2)
    for row, labels in enumerate(drawn.labels_B6):
        for column, named in enumerate(named_N6):
            told = [
                (count, label == value)
                for count, label, value in zip(FACTOR_VALUES.values(), labels, named, strict=True)
                if value >= 0
            ]
            scores[row, column] = math.prod(
                count * (1 - noise) if same else count * noise / (count - 1) for count, same in told
            )
    found = []
    for table in (scores, scores.T):
        shares = table / table.sum(axis=1, keepdims=True)
        found.append(
            float(-np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(axis=1).mean())
        )
    return found


@pytest.mark.parametrize(
    "captions",
    [
        {"attributes": 0},
        {"attributes": 2},
        {"fixed": ["colour"]},
        {"attributes": 1, "held_out": "full"},
        {"attributes": 3, "noise": 0.2},
    ],
    ids=str,
)
def test_it_is_the_entropy_over_all_pairs(captions: dict[str, Any]) -> None:
    about, drawn = gallery(**captions)
    found = measure_posterior_entropies(about, drawn.labels_B6, drawn.tokens_BL)

    assert [found[key] for key in BOTH] == pytest.approx(entropies_by_hand(about, drawn), rel=1e-9)


def test_captions_of_the_digit_alone_leave_the_tenth_of_a_gallery_that_shows_it() -> None:
    about, drawn = gallery(600, attributes=0)
    found = measure_posterior_entropies(about, drawn.labels_B6, drawn.tokens_BL)

    assert [found[key] for key in BOTH] == pytest.approx([math.log(60)] * 2)


def test_words_and_order_change_nothing() -> None:
    plain, worded = (
        gallery(attributes=3, order=order, synonyms=words) for order, words in (("canonical", 1), ("shuffled", 3))
    )
    one, other = (
        measure_posterior_entropies(about, drawn.labels_B6, drawn.tokens_BL) for about, drawn in (plain, worded)
    )

    assert one == pytest.approx(other)


def test_pictures_do_not_show_what_they_share() -> None:
    _, drawn = gallery(attributes=2)

    assert measure_posterior_entropies(MadData(sides="image_image"), drawn.labels_B6, drawn.tokens_BL) == {}
