"""AdamW as open_clip sets it up: no weight decay on gains, biases and the temperature."""

import torch
from torch import nn

from gapctl.spec.trial import Train

BETAS = (0.9, 0.98)
EPSILON = 1e-6


def build_optimizer(model: nn.Module, train: Train) -> torch.optim.AdamW:
    """An optimiser over the trainable parameters; its rate is set anew before every step."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": train.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.lr, betas=BETAS, eps=EPSILON, fused=True)
