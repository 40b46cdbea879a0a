"""Replace texts by sums of ideal words: one of the object, and one of each attribute (arXiv 2302.14383).

1. `fit_ideal_words` takes the mean over all pairs of an object with an attribute apart into words.
2. `IdealWords.compose` adds the words of an object and its attributes up again.
3. `replace_by_ideal_words` does so for all texts and prompts of a set of embeddings.
4. `average_pair_texts` makes the pairs of labelled texts, where no prompts of pairs are at hand.

Index letters: N images, M texts, O objects, A values of an attribute, F attributes, D embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gapctl.errors import InputError
from gapctl.interventions.fit import normalise_moved_rows
from gapctl.metrics.checks import Integers, Rows
from gapctl.metrics.classification import ClassPrompts, PairQuestion, ZeroShotTasks
from gapctl.metrics.embedding_set import Embeddings, normalise_rows
from gapctl.metrics.gap import Array


@dataclass(frozen=True)
class IdealWords:
    """The mean of all pairs (D,), the ideal word of each object (O, D), and of each value of an attribute (A, D)."""

    mean_D: Array
    object_OD: Array
    value_AD: Mapping[str, Array]

    def compose(self, object_R: Integers, value_R: Mapping[str, Array | Integers]) -> Array:
        """Return the mean, the words of these objects (R,) and those of the named attributes' values, added up (R, D).

        A value of -1 adds no word.
        """
        sum_RD: Array = self.mean_D + self.object_OD[object_R]
        for name, number_R in value_R.items():
            sum_RD = sum_RD + np.where((number_R >= 0)[:, None], self.value_AD[name][number_R], 0.0)
        return sum_RD


def fit_ideal_words(pair_OAD: Mapping[str, Array]) -> IdealWords:
    """Return the ideal words of the embeddings of all pairs, by attribute; rows are taken as they are.

    The word of an object is the mean over the attribute's values of its pairs, less the mean of all pairs; that of a
    value is the mean over objects, less the same. With several attributes, the mean and the words of objects are
    averaged over them.
    """
    means = {name: each_OAD.mean(axis=(0, 1)) for name, each_OAD in pair_OAD.items()}
    return IdealWords(
        np.mean(list(means.values()), axis=0),
        np.mean([each_OAD.mean(axis=1) - means[name] for name, each_OAD in pair_OAD.items()], axis=0),
        {name: each_OAD.mean(axis=0) - means[name] for name, each_OAD in pair_OAD.items()},
    )


def replace_by_ideal_words(
    embeddings: Embeddings, zero_shot: ZeroShotTasks, share: float = 1.0
) -> tuple[Embeddings, ZeroShotTasks]:
    """Replace texts and prompts by sums of ideal words, `share` of the way; images stay as they are.

    A text becomes the sum of the words that it names, the prompt of an object the mean and its word, that of a value
    likewise. Rows keep their number format. Raise InputError where there are no pairs, and if a row is left without
    length.
    """
    pairs = zero_shot.pairs
    if not pairs:
        raise InputError(
            "ideal words: no prompts of an object with an attribute are known; expected an evaluation set of kind "
            "composition, a trial on MAD, or embeddings with labels and attributes"
        )
    words = fit_ideal_words({name: _normalise_pairs(question.prompt_OAD) for name, question in pairs.items()})
    first = next(iter(pairs.values()))
    named = {name: question.value_N for name, question in pairs.items()}
    if zero_shot.named_NF is not None:
        columns = zip(named.items(), zero_shot.named_NF.T, strict=True)
        named = {name: np.where(named_N, value_N, -1) for (name, value_N), named_N in columns}
    text_ND = words.compose(first.object_N, named)
    owner_M = embeddings.text_to_image_M
    object_OD = words.compose(np.arange(len(words.object_OD)), {})
    questions = dict(zero_shot.questions)
    for name, question in questions.items():
        if name == zero_shot.main or name in pairs:
            sum_CD = object_OD if name == zero_shot.main else words.mean_D + words.value_AD[name]
            questions[name] = question._replace(prompt_CD=_move_rows(question.prompt_CD, sum_CD, share))
    moved = {name: _move_pairs(name, question, words, share) for name, question in pairs.items()}
    classes = embeddings.class_CD
    return (
        replace(
            embeddings,
            text_MD=_move_rows(embeddings.text_MD, text_ND if owner_M is None else text_ND[owner_M], share),
            class_CD=None if classes is None else _move_rows(classes, object_OD, share),
        ),
        replace(zero_shot, questions=questions, pairs=moved),
    )


def _normalise_pairs(prompt_OAD: Rows) -> Array:
    return normalise_rows(prompt_OAD.reshape(-1, prompt_OAD.shape[-1]), "pair").reshape(prompt_OAD.shape)


def _move_pairs(name: str, question: PairQuestion, words: IdealWords, share: float) -> PairQuestion:
    objects, values, width = question.prompt_OAD.shape
    object_P, value_P = np.divmod(np.arange(objects * values), values)
    sum_PD = words.compose(object_P, {name: value_P})
    moved_PD = _move_rows(question.prompt_OAD.reshape(-1, width), sum_PD, share)
    return question._replace(prompt_OAD=moved_PD.reshape(objects, values, width))


def _move_rows(row_RD: Rows, sum_RD: Array, share: float) -> Rows:
    """Return rows on their way to sums of ideal words, of length 1 and in the rows' format."""
    unit_RD = normalise_rows(row_RD)
    moved_RD: Rows = normalise_moved_rows("text", unit_RD + share * (sum_RD - unit_RD)).astype(row_RD.dtype)
    return moved_RD


def average_pair_texts(embeddings: Embeddings, zero_shot: ZeroShotTasks) -> dict[str, PairQuestion]:
    """Return pairs of which each has the mean of its texts, those of all images; by the names of the questions, if any.

    Raise InputError for embeddings without labels or attributes, for an object or an attribute with a single value, and
    for a pair that no text has.
    """
    given = {"labels": embeddings.labels_N, "attributes": embeddings.attributes_NF}
    lacking = [f"`{name}`" for name, numbers in given.items() if numbers is None]
    if embeddings.labels_N is None or embeddings.attributes_NF is None or embeddings.prompt_of_N is not None:
        found = f"no {' and no '.join(lacking)}" if lacking else "texts that are prompts of classes"
        raise InputError(
            f"ideal words: found {found}; expected the object and the attribute of each image, whose texts name both. "
            "Trials on MAD and evaluation sets of kind composition have them"
        )
    columns = embeddings.attributes_NF.reshape(len(embeddings.labels_N), -1).T
    names = [name for name in zero_shot.questions if name != zero_shot.main]
    if len(names) != len(columns):
        names = ["attribute"] if len(columns) == 1 else [f"attribute {place}" for place in range(len(columns))]
    main = None if zero_shot.main is None else zero_shot.questions.get(zero_shot.main)
    label_O, object_N = _number_labels("labels", embeddings.labels_N, main)
    text_MD, owner_M = normalise_rows(embeddings.text_MD), embeddings.text_to_image_M
    image_M = np.arange(len(text_MD)) if owner_M is None else owner_M
    pairs = {}
    for name, column_N in zip(names, columns, strict=True):
        value_A, value_N = _number_labels(name, column_N, zero_shot.questions.get(name))
        cell_M = object_N[image_M] * len(value_A) + value_N[image_M]
        count_P = np.bincount(cell_M, minlength=len(label_O) * len(value_A))
        missing = np.flatnonzero(count_P == 0)
        if len(missing):
            label, value = label_O[missing[0] // len(value_A)], value_A[missing[0] % len(value_A)]
            raise InputError(
                f"ideal words: no image has object {label} with {name} {value} ({len(missing):,} of {len(count_P):,} "
                "pairs are missing); expected every object with every value, as a word is the mean over all of its "
                "partners. Leave out the objects or values that lack some"
            )
        sum_PD = np.zeros((len(count_P), text_MD.shape[1]))
        np.add.at(sum_PD, cell_M, text_MD)
        mean_OAD = (sum_PD / count_P[:, None]).reshape(len(label_O), len(value_A), -1)
        pairs[name] = PairQuestion(mean_OAD, object_N, value_N, np.ones(mean_OAD.shape[:2], bool))
    return pairs


def _number_labels(name: str, label_N: Integers, question: ClassPrompts | None) -> tuple[Integers, Integers]:
    """Return the labels that there are, and the place of each image's among them (N,).

    They are those of the question, where there is one. Raise InputError for a single one.
    """
    label_A, place_N = np.unique(label_N, return_inverse=True)
    if question is not None:
        label_A, place_N = np.arange(len(question.prompt_CD)), label_N
    if len(label_A) < 2:
        raise InputError(
            f"ideal words: {name} has one value, {label_A[0]}; expected at least 2, as a word is what tells them apart"
        )
    return label_A, place_N
