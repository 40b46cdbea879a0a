"""Where image-caption pairs come from."""
