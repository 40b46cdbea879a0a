"""MAD's images as a folder of shards: memory-mappable arrays or tar files, with a manifest and checksums."""
