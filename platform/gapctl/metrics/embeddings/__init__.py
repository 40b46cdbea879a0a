"""Saved embeddings: one module per format, and the checks that all of them go through."""
