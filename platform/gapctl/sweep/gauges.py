"""How fast and how far the running trials are, as Prometheus metrics that Ray exports (`ray_gapctl_...`).

`dashboards/grafana.json` is a board that shows them beside Ray's own and those of the sweep (`sweep_gauges.py`).
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from ray.util.metrics import Gauge

from gapctl.plan.trials import Trial

TAGS: Final = ("gapctl_trial", "treatment")


class TrialGauges:
    """One set per process; the tags say which trial the process trains now."""

    def __init__(self) -> None:
        self._samples = Gauge("gapctl_samples_seen", "Pairs that the trial was trained on so far", TAGS)
        self._rate = Gauge("gapctl_samples_per_second", "Pairs trained on per second of work", TAGS)
        self._loss = Gauge("gapctl_train_loss", "Contrastive loss of the latest batch, nats", TAGS)
        self._rmg = Gauge("gapctl_gap_rmg", "Relative modality gap at the latest evaluation", TAGS)

    def show(self, trial: Trial, report: Mapping[str, Any]) -> None:
        """Takes over what a report says."""
        tags = _tags(trial)
        self._samples.set(report["samples_seen"], tags)
        self._rate.set(0.0 if report["done"] else report["samples_per_second"], tags)
        if math.isfinite(report["loss"]):
            self._loss.set(report["loss"], tags)
        if report["rows"]:
            self._rmg.set(report["rows"][-1]["gap/rmg"], tags)

    def rest(self, trial: Trial) -> None:
        """The trial is not trained here any more."""
        self._rate.set(0.0, _tags(trial))


def _tags(trial: Trial) -> dict[str, str]:
    return {"gapctl_trial": trial.id, "treatment": trial.label}
