"""Estimates, intervals and verdicts from a ledger: polars in, polars out; no torch, no ray."""
