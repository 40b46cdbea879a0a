"""Image-text pairs in tar shards of the img2dataset layout: indexing, reading, feeding and tools."""
