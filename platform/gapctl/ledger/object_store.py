"""Small files below an address of an object store, or of whatever else fsspec knows."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class ObjectStore:
    """Every method raises OSError where the store does not give what is asked."""

    at_once: Final = 32
    """Requests under way at a time: what one takes is waiting for its answer."""

    def __init__(self, files: "AbstractFileSystem", root: str) -> None:
        self._files, self._root = files, root.rstrip("/")

    def exists(self, name: str) -> bool:
        """Whether the file or folder is there."""
        return bool(self._files.exists(self._at(name)))

    def read(self, name: str) -> bytes:
        """The file's content."""
        return bytes(self._files.cat_file(self._at(name)))

    def write(self, name: str, content: bytes) -> None:
        """Puts the file in place, whole."""
        self._files.pipe_file(self._at(name), content)

    def remove(self, name: str) -> None:
        """Deletes the file."""
        if not self.exists(name):
            raise FileNotFoundError(name)
        self._files.rm(self._at(name))

    def modified(self, name: str) -> float:
        """When the file was last written, in seconds since 1970; raises NotImplementedError where that is not known."""
        return float(self._files.modified(self._at(name)).timestamp())

    def names(self, under: str) -> list[str]:
        """What lies directly in a folder."""
        self._files.invalidate_cache()
        return [str(entry).rsplit("/", 1)[-1] for entry in self._files.ls(self._at(under), detail=False)]

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root
