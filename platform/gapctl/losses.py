"""Register contrastive losses of one's own: `gapctl.losses.register` (docs/extending.md)."""

from gapctl.extensions import register_loss as register

__all__ = ["register"]
