"""Tests that share one Ray: it and its workers take many seconds to start."""
