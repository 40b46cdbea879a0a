"""The report of `gapctl measure`: one set of embeddings on a page."""
