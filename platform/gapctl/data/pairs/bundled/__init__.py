"""A small set of image-text pairs that comes with gapctl: OpenMoji's pictures with their keywords."""
