"""Metrics of a pair of embedding clouds: pure functions, and accumulators for those that reduce to sums.

`gapctl.metrics.register` adds a metric of one's own (docs/extending.md).
"""

from gapctl.extensions import register_metric as register

__all__ = ["register"]
