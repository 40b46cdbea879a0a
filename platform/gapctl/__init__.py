"""gapctl: experiments on the modality gap, object bias and entropy of CLIP models."""

__version__ = "0.1.0"
