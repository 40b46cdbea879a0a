"""Image-text pairs in the img2dataset layout: tar shards of `key.jpg`, `key.txt` and `key.json`."""
