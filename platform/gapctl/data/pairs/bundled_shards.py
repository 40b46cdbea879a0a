"""The bundled pairs as shards with their manifest, unpacked once into the cache."""

import hashlib
import lzma
import shutil
import tempfile
from pathlib import Path
from typing import Final

from gapctl.errors import InputError, WorkError
from gapctl.folders import cache_root

BUNDLED: Final = "bundled"
FOLDER: Final = Path(__file__).parent / "bundled"
QUESTIONS: Final = FOLDER / "questions.txt"
"""Zero-shot questions that the bundled pairs answer."""


def bundle_fingerprint() -> str:
    """16 hex digits that stand for the packed files; raises WorkError where the installation is damaged."""
    digest = hashlib.sha256()
    for path in (*_packed(), QUESTIONS):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def bundled_manifest() -> Path:
    """The manifest of the unpacked pairs; raises InputError where the cache cannot be written."""
    folder = cache_root() / "pairs" / f"openmoji-{bundle_fingerprint()}"
    manifest = folder / "manifest.parquet"
    if not manifest.exists():
        _unpack(folder)
    return manifest


def _packed() -> list[Path]:
    found = sorted(FOLDER.glob("*.tar.xz"))
    if not found:
        raise WorkError(f"{FOLDER}: the bundled pairs are missing. Install gapctl again")
    return found


def _unpack(folder: Path) -> None:
    from gapctl.data.pairs.index import look_at
    from gapctl.data.pairs.manifest import write_manifest
    from gapctl.data.pairs.spread import Workers
    from gapctl.data.pairs.stored import stored_shards

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whoever unpacks at the same time makes the same shards: the first folder that gets the name stays.
        scratch = Path(tempfile.mkdtemp(prefix=".openmoji-", dir=folder.parent))
        try:
            for path in _packed():
                (scratch / path.name.removesuffix(".xz")).write_bytes(lzma.decompress(path.read_bytes()))
            write_manifest(scratch / "manifest.parquet", look_at(stored_shards([str(scratch)]), Workers(1)))
            scratch.chmod(0o755)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except (OSError, lzma.LZMAError) as error:
        if not (folder / "manifest.parquet").exists():
            raise InputError(
                f"{folder}: the bundled pairs cannot be unpacked there ({error}). "
                "Set GAPCTL_CACHE to a folder that can be written to"
            ) from error
