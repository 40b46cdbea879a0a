"""What MAD's images and captions tell of each other: bits, and the least loss that any model can reach.

1. `compute_caption_bits` gives the information of a data section: what captions leave unsaid of images, what images
   leave open of captions, and what both share.
2. `compute_bayes_loss` gives the Bayes loss of a batch: the contrastive loss of the critic that knows the world.
3. `_list_ratios` describes that world: how likely a caption is with its image, against any image.

An image counts by its six factors, all equally likely, whatever `data.share` shows of the source's digits. Batches are
of independent pairs. Nothing here is sampled.

Index letter: W values that the likelihood ratio takes in a group of captions.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations, product
from operator import mul
from typing import Final, NamedTuple

from gapctl.config.trial import FACTOR_VALUES, LOSSES, MadData, TrialConfig, is_table


class MadBits(NamedTuple):
    """Information in bits: H(image | caption), H(caption | image), and I(image; caption).

    What a caption does not tell of its image is left unsaid; what an image does not tell of its caption, such as which
    attributes it names, in which order and by which words, cannot be foreseen.
    """

    image_given_caption: float
    caption_given_image: float
    shared: float


class _Ratio(NamedTuple):
    """A value of p(image, caption) / (p(image) p(caption)), and its `chance` where both are drawn independently."""

    chance: float
    ratio: float


class _Group(NamedTuple):
    """Captions that name the same factors: their share of all captions, and their likelihood ratios."""

    chance: float
    ratios_W: tuple[_Ratio, ...]


def compute_caption_bits(data: MadData, *, with_wording: bool = True) -> MadBits:
    """Return the information of a data section's training captions, or of pictures in their place (`image_image`).

    Without `with_wording`, captions are the values that they name, in no order and without words. With
    `synonym_draw: once`, words count as if drawn at each access, as the six factors do not tell them.
    """
    shared = sum(
        group.chance * chance * ratio * math.log2(ratio)
        for group in _list_ratios(data)
        for chance, ratio in group.ratios_W
        if ratio
    )
    unsaid = round(math.log2(math.prod(FACTOR_VALUES.values())) - shared, 12)
    if data.sides == "image_image":
        return MadBits(unsaid, unsaid, shared)
    captions = data.captions
    subsets = _list_named_factors(data)
    open_bits = math.log2(len(subsets))
    if with_wording and captions.order == "shuffled":
        open_bits += math.log2(math.factorial(1 + captions.attributes))
    if with_wording:
        open_bits += (1 + captions.attributes) * math.log2(captions.synonyms)
    wrong = sum(_count_noise_bits(FACTOR_VALUES[name], captions.noise) for named in subsets for name in named)
    return MadBits(unsaid, open_bits + wrong / len(subsets), shared)


def _list_named_factors(data: MadData) -> list[tuple[str, ...]]:
    """List the sets of factors that a caption may name, all equally likely."""
    others = [name for name in FACTOR_VALUES if name != data.main_factor]
    chosen = [data.captions.fixed] if data.captions.fixed else combinations(others, data.captions.attributes)
    return [(data.main_factor, *names) for names in chosen]


def _count_noise_bits(values: int, noise: float) -> float:
    """Return the entropy of a named value, given the right one of so many."""
    shares = [1 - noise] + [noise / (values - 1)] * (values - 1)
    return -sum(share * math.log2(share) for share in shares if share)


@lru_cache(maxsize=256)
def _list_ratios(data: MadData) -> tuple[_Group, ...]:
    """Return the likelihood ratios of captions, grouped by the factors that they name.

    A caption reveals which factors it names. A picture does not, so all pictures are one group.
    """
    factors = list(FACTOR_VALUES)
    groups = []
    for named in _list_named_factors(data):
        shown = factors if data.sides == "image_image" else list(named)
        chances, ratios = [], []
        for agree in product((True, False), repeat=len(shown)):
            values = [(FACTOR_VALUES[name], right, name in named) for name, right in zip(shown, agree, strict=True)]
            chances.append(math.prod((1 if right else count - 1) / count for count, right, _ in values))
            told = [(count, right) for count, right, tells in values if tells]
            ratios.append(math.prod(_compute_ratio(count, right, data.captions.noise) for count, right in told))
        groups.append((chances, ratios))
    if data.sides == "image_image":
        mean = [sum(each) / len(groups) for each in zip(*(ratios for _, ratios in groups), strict=True)]
        groups = [(groups[0][0], mean)]
    return tuple(_Group(1 / len(groups), _merge_ratios(chances, ratios)) for chances, ratios in groups)


def _compute_ratio(values: int, right: bool, noise: float) -> float:
    """Return how much likelier than by chance a factor's named value is: the image's `right` one, or any other."""
    return (1 - noise) * values if right else noise * values / (values - 1)


def _merge_ratios(chances: Sequence[float], ratios: Sequence[float]) -> tuple[_Ratio, ...]:
    total: dict[float, float] = {}
    for chance, ratio in zip(chances, ratios, strict=True):
        total[ratio] = total.get(ratio, 0.0) + chance
    return tuple(_Ratio(chance, ratio) for ratio, chance in total.items())


def find_caption_bits(config: TrialConfig) -> MadBits | None:
    """Return the information of a training's captions; None for natural captions, of which it is not known.

    A table's rows are captions without order and words.
    """
    if not isinstance(config.data, MadData):
        return None
    return compute_caption_bits(config.data, with_wording=not is_table(config))


def find_bayes_loss(config: TrialConfig) -> float | None:
    """Return the Bayes loss of a training's batches; None where it is not known.

    It assumes equally frequent digits, which a share of the images may lack. Nor is it known of natural captions, of
    other packages' losses, of masked captions, and where no pair ever matches its image.
    """
    if not isinstance(config.data, MadData) or config.data.share < 1 or config.loss.kind not in LOSSES:
        return None
    if config.loss.equal_captions == "masked":  # the best critic depends on which pairs a batch keeps
        return None
    if config.train.mismatched and config.train.mismatched_steps == config.train.steps:
        return None
    return compute_bayes_loss(config.data, config.loss.kind, config.train.batch_size)


@lru_cache(maxsize=1024)
def compute_bayes_loss(data: MadData, kind: str, batch_size: int) -> float:
    """Return the expected loss in nats of the best critic there is, in batches of independent pairs.

    The best critic of InfoNCE is the pointwise mutual information (arXiv 1807.03748, sec. 2.3). SigLIP's is that less
    ln(batch_size - 1), as all other pairs do not match. A model whose cosines cannot take these values stays above
    the loss.
    """
    groups = _list_ratios(data)
    if kind == "siglip":
        return _compute_sigmoid_loss(groups, batch_size - 1)
    everything = tuple(_Ratio(group.chance * chance, ratio) for group in groups for chance, ratio in group.ratios_W)
    of_images = _compute_softmax_loss(everything, batch_size - 1)
    of_texts = sum(group.chance * _compute_softmax_loss(group.ratios_W, batch_size - 1) for group in groups)
    return (of_images + of_texts) / 2


STEP: Final = 0.1
"""The distance of the quadrature's points, in ln t. Half of it changes losses by less than 1e-12."""
VANISHING: Final = 1e-13
"""Where the integrand is smaller than this, the quadrature ends."""
NEGLIGIBLE: Final = 1e-18
"""A pair that is less likely than this adds nothing to a loss."""


@lru_cache(maxsize=1024)
def _compute_softmax_loss(ratios_W: tuple[_Ratio, ...], others: int) -> float:
    """Return the expected -ln of the own candidate's share among `others` independent ones.

    E[ln Z] of a sum Z of independent terms is the integral over t > 0 of (exp(-t) - E[exp(-t Z)]) / t, and the
    expectation is a product over the terms. On ln t the integrand is smooth and falls off on both sides, so that the
    trapezoidal rule is exact to rounding.
    """
    positive = [each for each in ratios_W if each.chance * each.ratio > NEGLIGIBLE]
    largest, smallest = max(each.ratio for each in positive), min(each.ratio for each in positive)
    low = math.log(VANISHING / ((1 + others) * largest))
    high = math.log(-math.log(VANISHING) / min(smallest, 1.0))
    chances, ratios = [each.chance for each in ratios_W], [each.ratio for each in ratios_W]
    weights, expected = [each.chance * each.ratio for each in ratios_W], 0.0
    for place in range(round((high - low) / STEP) + 1):
        t = math.exp(low + STEP * place)
        decays = [math.exp(-t * ratio) for ratio in ratios]
        own, other = sum(map(mul, weights, decays)), sum(map(mul, chances, decays))
        expected += STEP * (math.exp(-t) - own * other**others)
    return expected - sum(each.chance * each.ratio * math.log(each.ratio) for each in positive)


def _compute_sigmoid_loss(groups: Sequence[_Group], others: int) -> float:
    """Return the expected sum of an image's own pair and `others` that do not match, as SigLIP counts them."""
    return sum(
        group.chance
        * chance
        * (ratio * (math.log(ratio + others) - math.log(ratio or 1.0)) + others * math.log1p(ratio / others))
        for group in groups
        for chance, ratio in group.ratios_W
    )
