"""Runs a plan on Ray Tune: what is left of it, with reused processes, and nothing twice."""
