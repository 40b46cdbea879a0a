"""Estimates, intervals and verdicts from a ledger: polars frames in and out, without torch and Ray."""
