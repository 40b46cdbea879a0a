"""Fits every intervention on one half of a gallery and judges it on the other, against no intervention."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gapctl.errors import InputError
from gapctl.interventions.bootstrap import Resampled, resampled, simultaneous
from gapctl.interventions.candidates import Candidate, Family
from gapctl.interventions.fitted import Clouds, Fitted, nothing
from gapctl.interventions.measures import statistics_of
from gapctl.interventions.split import Dealt, split_images, take, take_questions
from gapctl.interventions.statistic import Statistic
from gapctl.interventions.units import units_of
from gapctl.interventions.verdict import GAP, Change, unseen, verdict_of
from gapctl.metrics.class_prompts import ZeroShot
from gapctl.metrics.embedding_set import Embeddings, unit_rows


@dataclass(frozen=True)
class Judged:
    """One intervention: what each measure is after it, by name, or why it could not be applied."""

    name: str
    family: Family
    amount: float | None
    changes: Mapping[str, Change]
    impossible: str = ""


@dataclass(frozen=True)
class Judgement:
    """All interventions on one held-out half; `before` are its measures with nothing done to it.

    `held_out_captions` counts different captions where images share some; else it is 0.
    """

    before: Mapping[str, float]
    judged: tuple[Judged, ...]
    calibration_images: int
    held_out_images: int
    held_out_captions: int
    dealt: Dealt
    seed: int


def judge(
    embeddings: Embeddings, zero_shot: ZeroShot, tried: Sequence[Candidate], share: float, seed: int
) -> Judgement:
    """Fits on `share` of the images and judges on the rest; equal arguments give equal numbers.

    Raises InputError where the images cannot be split or an intervention cannot be fitted.
    """
    split = split_images(embeddings, share, seed)
    calibration, held_out = take(embeddings, split.calibration_S), take(embeddings, split.held_out_S)
    questions = take_questions(zero_shot, split.held_out_S)
    clouds = Clouds(unit_rows(calibration.image_ND), unit_rows(calibration.text_MD))
    unchanged = statistics_of(held_out, questions, nothing(clouds.image_ND.shape[1]))
    states = [_state(candidate.fit(*clouds), held_out, questions) for candidate in tried]
    possible = [state for state in states if not isinstance(state, InputError)]
    units = units_of(held_out)
    before, *after = resampled([unchanged, *possible], units.images, units.captions, seed)
    drawn = {key: count for statistic in unchanged for key, count in statistic.drawn().items()}
    changes = iter(_changes(before, after, drawn))
    return Judgement(
        before={key: found.value for key, found in before.items()},
        judged=tuple(_judged(candidate, state, changes) for candidate, state in zip(tried, states, strict=True)),
        calibration_images=len(split.calibration_S),
        held_out_images=len(split.held_out_S),
        held_out_captions=units.captions,
        dealt=split.dealt,
        seed=seed,
    )


def _state(fitted: Fitted, held_out: Embeddings, questions: ZeroShot) -> tuple[Statistic, ...] | InputError:
    """The measures after an intervention, or the error that says why there are none."""
    try:
        return statistics_of(held_out, questions, fitted)
    except InputError as error:
        return error


def _judged(
    candidate: Candidate, state: tuple[Statistic, ...] | InputError, changes: Iterator[dict[str, Change]]
) -> Judged:
    named = partial(Judged, candidate.name, candidate.family, candidate.amount)
    return named({}, str(state)) if isinstance(state, InputError) else named(next(changes))


def _changes(
    before: Mapping[str, Resampled], after: Sequence[Mapping[str, Resampled]], drawn: Mapping[str, int]
) -> list[dict[str, Change]]:
    """Each intervention's changes by measure; intervals are simultaneous over the interventions of one measure."""
    moved_J = np.array([not np.array_equal(found[GAP].value_R, before[GAP].value_R) for found in after])
    by_key = {
        key: simultaneous(before[key], [found[key] for found in after], moved_J * unseen(key, drawn[key]))
        for key in before
    }
    return [
        {key: Change(found[key].value, *by_key[key][place], verdict_of(key, *by_key[key][place][1:])) for key in before}
        for place, found in enumerate(after)
    ]
