"""The softmax temperature: tau = 1 / exp(logit_scale), never below 1/100 when it is learned."""

import math

import torch
from open_clip.model import CLIP

MAX_LOG_SCALE = math.log(100.0)
"""CLIP's clamp (arXiv 2103.00020, sec. 2.5)."""


@torch.no_grad()
def set_temperature(model: CLIP, temperature: float) -> None:
    """For one that is scheduled; ValueError where it is learned, since the optimiser would move it from there."""
    if model.logit_scale.requires_grad:
        raise ValueError("a learned temperature cannot be set: build the model with one that is not learned")
    model.logit_scale.fill_(-math.log(temperature))


@torch.no_grad()
def clamp_temperature(model: CLIP) -> None:
    """Keeps a learned logit scale within [1, 100]; a fixed one is left as it is."""
    if model.logit_scale.requires_grad:
        model.logit_scale.clamp_(0.0, MAX_LOG_SCALE)


def temperature_metrics(model: CLIP) -> dict[str, float]:
    """The temperature as the model has it; the bias is there for SigLIP alone."""
    scale = math.exp(float(model.logit_scale.detach()))
    found = {"temperature/tau": 1 / scale, "temperature/logit_scale": scale}
    if model.logit_bias is not None:
        found["temperature/bias"] = float(model.logit_bias.detach())
    return found
