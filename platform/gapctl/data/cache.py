"""Where gapctl keeps what it made of its data and can make again."""

import os
from pathlib import Path


def cache_root(cache: Path | None = None) -> Path:
    """Return `cache`, or `$GAPCTL_CACHE`, or `~/.cache/gapctl`."""
    return (cache or Path(os.environ.get("GAPCTL_CACHE") or Path.home() / ".cache" / "gapctl")).expanduser()
