"""The image-text pairs that come with gapctl."""
