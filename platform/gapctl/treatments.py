"""Register caption treatments of one's own: `gapctl.treatments.register` (docs/extending.md)."""

from gapctl.extensions import register_treatment as register

__all__ = ["register"]
