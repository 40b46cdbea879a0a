"""Schedule the learning rate and the temperature over a training.

The learning rate rises linearly in a warm-up and then follows a cosine to zero. Warm-up is a share of all steps: the
10,000 of 316,000 in arXiv 2404.07983's CC12M trainings are 0.0317.
"""

import math

from gapctl.config.trial import Temperature, Train


def count_mismatched_steps(train: Train) -> int:
    """Return the number of first steps whose texts go with other images."""
    return round(train.mismatched * count_training_steps(train))


def count_training_steps(train: Train) -> int:
    """Return the number of whole batches in the samples; a remainder smaller than a batch is not trained on."""
    return train.steps


def compute_learning_rate(train: Train, step: int) -> float:
    """Return the rate of the 0-based `step`; as a pure function it needs no state in a checkpoint."""
    steps = count_training_steps(train)
    warmup = train.warmup_steps
    if step < warmup:
        return train.lr * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return train.lr * 0.5 * (1 + math.cos(math.pi * progress))


def compute_temperature(temperature: Temperature, step: int, steps: int) -> float | None:
    """Return the temperature of the 0-based `step`, or None if it follows no schedule.

    It goes from `init` to `final` over `steps` by equal factors.
    """
    if temperature.mode != "schedule" or temperature.final is None:
        return None
    share = step / max(1, steps - 1)
    return math.exp((1 - share) * math.log(temperature.init) + share * math.log(temperature.final))
