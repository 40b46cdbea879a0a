"""Metrics of a pair of embedding clouds: pure functions, and accumulators for those that reduce to sums."""
