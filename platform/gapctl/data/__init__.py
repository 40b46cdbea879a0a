"""Data sets of image-caption pairs: MAD and image-text shards, with caption treatments."""
