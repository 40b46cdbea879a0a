"""An evaluation of what an intervention on a model's embeddings makes of them.

The intervention is fitted on training pairs, each time anew, so that nothing held out has a part in it.
"""

from open_clip.model import CLIP

from gapctl.interventions.applied import embeddings_after, questions_after
from gapctl.interventions.candidates import named
from gapctl.interventions.fitted import Fitted
from gapctl.metrics.embedding_set import unit_rows
from gapctl.spec.trial import Evaluate
from gapctl.training.evaluated import Encoded, FittingEvaluation, TrainingPairs


class Intervened:
    """Shows a model the gallery and gives its embeddings after the intervention that `evaluate` asks for."""

    def __init__(self, evaluation: FittingEvaluation, evaluate: Evaluate) -> None:
        self._evaluation = evaluation
        self._intervention = named(evaluate.intervention)
        self._strength = evaluate.strength

    def encode(self, model: CLIP) -> Encoded:
        """What the metrics are computed from; raises InputError where a row is left without length."""
        fitted = self._fitted(self._evaluation.training_pairs(model))
        found = self._evaluation.encode(model)
        after = embeddings_after(fitted, found.embeddings)
        return Encoded(after, questions_after(fitted, found.zero_shot), found.temperature)

    def _fitted(self, pairs: TrainingPairs) -> Fitted:
        return self._intervention.fit(unit_rows(pairs.image_ND), unit_rows(pairs.text_ND)).partly(self._strength)
