"""Models that exist, made to show their embeddings: a finished trial's, and any open_clip model's."""
