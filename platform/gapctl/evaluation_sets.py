"""Register evaluation sets of one's own: `gapctl.evaluation_sets.register` (docs/extending.md)."""

from gapctl.extensions import register_evaluation_set as register

__all__ = ["register"]
