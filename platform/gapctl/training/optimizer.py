"""AdamW as open_clip sets it up: no weight decay on gains, biases and the temperature."""

import torch

from gapctl.spec.trial import Train
from gapctl.training.masters import Masters

BETAS = (0.9, 0.98)
EPSILON = 1e-6


def build_optimizer(masters: Masters, train: Train) -> torch.optim.AdamW:
    """An optimiser over the masters, whose gradients stay where they are; its rate is set anew before every step."""
    groups = [
        {"params": [masters.matrices.exact], "weight_decay": train.weight_decay},
        {"params": [masters.vectors.exact], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.lr, betas=BETAS, eps=EPSILON, fused=True)
