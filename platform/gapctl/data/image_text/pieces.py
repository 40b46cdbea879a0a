"""Fetch large pieces of shards from object stores, several at once, each of them once for all workers of a node.

1. `plan_pieces` joins neighbouring samples of a chunk into `Piece`s; workers of one node plan the same ones.
2. `PieceFetcher` sends the requests, several at a time, before the samples are needed.
3. `NodeCache` is a folder in memory through which the workers of one training on one node share pieces.

Whichever worker comes first fetches a piece, under a lock that the kernel releases if it is killed. A piece is deleted
when every worker of the node has read it, and the oldest ones where the folder is full. So the folder costs nothing but
time if it is missing, full or deleted: then each worker fetches for itself.

Index letters: N samples of a chunk.
"""

import fcntl
import os
import shutil
import socket
import stat
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gapctl.data.image_text.storage import REMOTE_GAP_BYTES, REMOTE_READ_BYTES, ShardReader
from gapctl.io.locks import is_same_file

if TYPE_CHECKING:
    from gapctl.data.image_text.manifest import PairTable

LOCAL_GAP_BYTES: Final = 1 << 16
"""Largest gap between samples of a local shard that is read along, since another read would take longer."""
LOCAL_READ_BYTES: Final = 1 << 24
"""Most bytes of one read of a local shard."""
REQUESTS_AT_ONCE: Final = 8
"""Requests that one process has under way; clients of S3 keep ten connections."""
NODE_CACHE_BYTES: Final = 1 << 31
"""Most bytes that a training's workers keep on a node. Ten chunks of CC12M at 256 pixels have 0.6 GB."""
SHARED_PARENTS: Final = ("/dev/shm", tempfile.gettempdir())
"""Where a node's processes may share files: in memory, else on a disk."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
PATIENCE_SECONDS: Final = 60.0
"""How long a worker waits for a piece that another fetches, which may be frozen, before it fetches for itself."""
POLL_SECONDS: Final = 0.005
ROOM_SECONDS: Final = 10.0
"""How long a worker waits to look for room, which takes microseconds unless the one before is frozen."""
IDLE_SECONDS: Final = 60.0
"""How long a folder that nobody uses is left alone by other trainings: tasks of Ray Data come and go."""
RELEASE_SECONDS: Final = 5.0
"""How long the end of a session waits for tasks that have returned their samples and are about to close its folder."""
ROOM: Final = "room"
ALIVE: Final = "alive"
"""The file that each worker locks as long as it uses the folder."""
UNFINISHED: Final = ".part"
READ_BY: Final = ".read"
"""The ending of a file that has a byte for each worker that has read the piece."""

ByteRange = tuple[int, int]


class Piece(NamedTuple):
    """Neighbouring samples of a shard that are read at once: `size` bytes from `start` on.

    `place_N` are the places of those that this worker wants. `position` is that of the chunk, and `readers` the number
    of the node's workers that want samples of it.
    """

    place_N: Sequence[int]
    address: str
    start: int
    size: int
    position: int = 0
    readers: int = 1

    @property
    def is_remote(self) -> bool:
        """Whether the shard lies in an object store."""
        return "://" in self.address

    def cut(self, content: bytes, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the content of each (start, size) of the shard from that of the piece."""
        return [content[start - self.start : start - self.start + size] for start, size in ranges]


def plan_pieces(
    table: "PairTable", wanted_N: NDArray[np.int64], others: Sequence[NDArray[np.int64]] = (), position: int = 0
) -> Iterator[Piece]:
    """Yield the pieces that hold the samples at these places, in the order of the shards.

    In object stores they also hold what `others`, the node's other workers, want of the same chunk, so that each of
    them plans the same pieces. Each byte is in one piece at most.
    """
    wanted_N = np.unique(wanted_N)
    sorted_others = [np.unique(each) for each in others]
    for group in _group_neighbours(table, np.unique(np.concatenate([wanted_N, *sorted_others]))):
        mine_N, *theirs = (_select_between(each, group[0], group[-1]) for each in (wanted_N, *sorted_others))
        if len(mine_N):
            address = table.addresses[table.shard_N[group[0]]]
            start = int(table.whole_N2[group[0], 0])
            end = int(table.whole_N2[group].sum(axis=1).max())
            readers = 1 + sum(map(bool, map(len, theirs)))
            yield Piece(mine_N.tolist(), address, start, end - start, position, readers)


def _select_between(place_N: NDArray[np.int64], first: int, last: int) -> NDArray[np.int64]:
    """Return those of these places, in ascending order, that lie between two places, both included."""
    begin, end = np.searchsorted(place_N, [first, last + 1])
    return place_N[begin:end]


def _group_neighbours(table: "PairTable", place_N: NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield groups of samples that are worth one read, by their places in ascending order."""
    group: list[int] = []
    first = end = gap = most = 0
    for place, shard, (start, size) in zip(
        place_N.tolist(), table.shard_N[place_N].tolist(), table.whole_N2[place_N].tolist(), strict=True
    ):
        near = group and shard == table.shard_N[group[-1]] and end <= start <= end + gap
        if group and not (near and start + size - first <= most):
            yield group
            group = []
        if not group:
            first = start
            remote = "://" in table.addresses[shard]
            gap, most = (REMOTE_GAP_BYTES, REMOTE_READ_BYTES) if remote else (LOCAL_GAP_BYTES, LOCAL_READ_BYTES)
        group.append(place)
        end = start + size
    if group:
        yield group


class NodeWorkers(NamedTuple):
    """The workers of one training on one node: their ranks, and the folder of its own in which they share pieces."""

    ranks: tuple[int, ...]
    folder: Path


class PieceFetcher:
    """Sends the requests of one process for pieces, `REQUESTS_AT_ONCE` at a time; `cache` shares them with others."""

    def __init__(self, cache: "NodeCache | None" = None) -> None:
        self._cache = cache
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, "gapctl-fetch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        if self._cache is not None:
            self._cache.close()

    def start(self, piece: Piece) -> "FetchedPiece":
        """Queue the request for a piece, and return where its content will be."""
        if self._cache is not None and piece.readers > 1:
            return FetchedPiece(piece, self._pool.submit(self._cache.fetch, piece), self._cache)
        return FetchedPiece(piece, self._pool.submit(request_piece, piece), None)


class FetchedPiece:
    """A piece that is being fetched."""

    def __init__(self, piece: Piece, fetching: "Future[bytes | None]", cache: "NodeCache | None") -> None:
        self._piece, self._fetching, self._cache = piece, fetching, cache

    def read(self, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the content of each (start, size), once. Raise OSError as `ShardReader.read`."""
        if self._cache is None:
            content = self._fetching.result()
            assert content is not None  # without a cache the request's own result
            return self._piece.cut(content, ranges)
        unstored = None if self._fetching.cancel() else self._fetching.result()
        return self._cache.read(self._piece, ranges, unstored)


def request_piece(piece: Piece) -> bytes:
    """Fetch a piece by one request. Raise OSError as `ShardReader.read`."""
    with ShardReader() as opened:
        return opened.read(piece.address, piece.start, piece.size)


def find_shared_folder() -> Path | None:
    """Return a folder of this user's that all processes of the node see, or None where none has room."""
    for folder in _list_shared_folders():
        with suppress(OSError):
            if shutil.disk_usage(folder).free > 2 * NODE_CACHE_BYTES:
                return folder
    return None


def _list_shared_folders() -> Iterator[Path]:
    """Iterate over the folders of this user's own that all processes of the node see.

    None else may own them or write to them, as everybody may write beside them.
    """
    for parent in SHARED_PARENTS:
        folder = Path(parent) / f"gapctl-{os.getuid()}"
        with suppress(OSError):
            folder.mkdir(mode=0o700, exist_ok=True)
            about = folder.lstat()
            if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o022:
                yield folder


def identify_folder(folder: Path) -> int:
    """Return 63 bits that differ for other folders and other nodes, also where containers name theirs alike."""
    try:
        node = BOOT_ID.read_text(encoding="ascii")
    except OSError:
        node = f"{socket.gethostname()} {uuid.getnode():x}"
    about = folder.stat()
    digest = blake2b(f"{node}\n{about.st_dev}\n{about.st_ino}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


class NodeCache:
    """A folder of one training's own, in which its workers on this node share pieces; at most `limit` bytes.

    The folders of trainings that have ended are deleted when another is opened, this one when its last worker closes
    it. `keeps` leaves it there, for tasks that come and go. Raise OSError where it cannot be made.
    """

    def __init__(self, folder: Path, limit: int = NODE_CACHE_BYTES, *, keeps: bool = False) -> None:
        self.folder, self._limit, self._keeps = folder, limit, keeps
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._alive = _lock_alive(folder)
        for other in folder.parent.iterdir():
            if other != folder:
                delete_unused_folder(other, IDLE_SECONDS)

    def close(self) -> None:
        """Release the folder, and delete it if no other worker uses it."""
        self._alive.close()
        if not self._keeps:
            delete_unused_folder(self.folder)

    def fetch(self, piece: Piece) -> bytes | None:
        """Fetch a piece into the folder, unless it is there or another worker is fetching it.

        Return its content where the folder has no room for it.
        """
        content = self._fetch_unless_locked(piece)
        return None if self._find_path(piece).exists() else content

    def read(self, piece: Piece, ranges: Sequence[ByteRange], content: bytes | None = None) -> list[bytes]:
        """Return the content of each (start, size) of a piece, and note that this worker has read it.

        `content` is what `fetch` returned. Wait for another worker that is fetching the piece. Raise OSError as
        `ShardReader.read`.
        """
        deadline, found = time.monotonic() + PATIENCE_SECONDS, list[bytes]()
        while content is None and not (found := self._read_file(piece, ranges)):
            content = self._fetch_unless_locked(piece)
            if content is None and time.monotonic() > deadline:
                content = request_piece(piece)
            elif content is None:
                time.sleep(POLL_SECONDS)
        self._count_reader(piece)
        return found if content is None else piece.cut(content, ranges)

    def _find_path(self, piece: Piece) -> Path:
        """Return a piece's file. A chunk is read once in a training, so no name ever stands for other bytes."""
        words = f"{piece.position}\n{piece.address}\n{piece.start}\n{piece.size}"
        return self.folder / blake2b(words.encode(), digest_size=16).hexdigest()

    def _read_file(self, piece: Piece, ranges: Sequence[ByteRange]) -> list[bytes]:
        """Return the content of each (start, size) from the folder; nothing if it does not have the whole piece."""
        try:
            file = os.open(self._find_path(piece), os.O_RDONLY)
        except OSError:
            return []
        try:
            found = [os.pread(file, size, start - piece.start) for start, size in ranges]
        finally:
            os.close(file)
        whole = all(len(content) == size for content, (_, size) in zip(found, ranges, strict=True))
        return found if whole else []

    def _fetch_unless_locked(self, piece: Piece) -> bytes | None:
        """Fetch a piece and store it; None if it is there, or another worker is fetching it."""
        path = self._find_path(piece)
        unfinished = path.with_suffix(UNFINISHED)
        if path.exists():
            return None
        try:
            file = os.fdopen(os.open(unfinished, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        except OSError:  # a folder that is gone, or a full disk
            return request_piece(piece)
        with file:
            if not _lock_within(file, 0.0) or not is_same_file(file, unfinished):
                return None
            try:
                if path.exists():  # since it was looked for
                    return None
                content = request_piece(piece)
                self._store(file, content, path)
            finally:
                if is_same_file(file, unfinished):  # not another worker's, which may fetch the piece anew by now
                    unfinished.unlink(missing_ok=True)
        return content

    def _store(self, file: IO[bytes], content: bytes, path: Path) -> None:
        """Write a piece into its unfinished file, which is locked, and name that `path`, where there is room."""
        with suppress(OSError):
            if self._reserve_room(file, len(content)):
                file.seek(0)
                if file.write(content) == len(content):
                    path.with_suffix(UNFINISHED).rename(path)

    def _reserve_room(self, file: IO[bytes], size: int) -> bool:
        """Give a file its size, and delete the oldest pieces for it. Return whether there is room."""
        file.truncate(0)  # what a killed worker left
        with (self.folder / ROOM).open("ab") as room:
            if size > self._limit or not _lock_within(room, ROOM_SECONDS):
                return False
            # First, so that a piece that is finished meanwhile is counted twice and not left out.
            held = size + self._clean_up_unfinished()
            pieces = [each for each in self.folder.iterdir() if not each.suffix and each.name not in (ROOM, ALIVE)]
            ages = sorted((about.st_mtime_ns, about.st_size, each) for each in pieces if (about := _get_status(each)))
            if held > self._limit:
                return False
            held += sum(freed for _, freed, _ in ages)
            for _, freed, oldest in ages:
                if held <= self._limit:
                    break
                oldest.unlink(missing_ok=True)
                held -= freed
            file.truncate(size)
            return True

    def _clean_up_unfinished(self) -> int:
        """Delete the unfinished pieces of killed workers, and return the bytes of those that are being fetched."""
        held = 0
        for unfinished in self.folder.glob(f"*{UNFINISHED}"):
            with suppress(FileNotFoundError), unfinished.open("r+b") as file:
                if not _lock_within(file, 0.0):
                    held += os.fstat(file.fileno()).st_size
                elif is_same_file(file, unfinished):
                    unfinished.unlink()
        return held

    def _count_reader(self, piece: Piece) -> None:
        """Note that this worker has read a piece; the last of its readers deletes it."""
        path = self._find_path(piece)
        with suppress(OSError), path.with_suffix(READ_BY).open("ab", buffering=0) as read_by:
            read_by.write(b".")
            if os.fstat(read_by.fileno()).st_size >= piece.readers:
                path.unlink(missing_ok=True)
                path.with_suffix(READ_BY).unlink(missing_ok=True)


def open_node_cache(node: NodeWorkers | None) -> NodeCache | None:
    """Return the cache of these workers, or None for a worker alone and where the folder cannot be made."""
    with suppress(OSError):
        return None if node is None else NodeCache(node.folder)
    return None


def open_task_cache(session: str) -> NodeCache | None:
    """Return the cache of a task of a training's session on this node; None without a session or a folder for it."""
    with suppress(OSError):
        if session and (parent := find_shared_folder()) is not None:
            return NodeCache(parent / session, keeps=True)
    return None


def delete_task_cache(session: str) -> None:
    """Delete what tasks of a session share on this node, within `RELEASE_SECONDS` unless another task still uses it."""
    deadline = time.monotonic() + RELEASE_SECONDS
    for folder in [parent / session for parent in _list_shared_folders()]:  # also where the pieces have taken the room
        delete_unused_folder(folder)
        while folder.exists() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            delete_unused_folder(folder)


def delete_unused_folder(folder: Path, idle_seconds: float = 0.0) -> None:
    """Delete the folder of a training that no worker has used for so long; the file that tells so goes last."""
    with suppress(OSError), (folder / ALIVE).open("r+b") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(alive.fileno()).st_mtime < idle_seconds:
            return
        for path in folder.iterdir():
            if path.name != ALIVE:
                path.unlink(missing_ok=True)
        (folder / ALIVE).unlink()
        folder.rmdir()


def _lock_alive(folder: Path) -> IO[bytes]:
    """Make a folder, and return its file `alive`, locked as by all who use it."""
    while True:
        folder.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # another has deleted the folder meanwhile
            alive = (folder / ALIVE).open("ab")
            fcntl.flock(alive, fcntl.LOCK_SH)
            if is_same_file(alive, folder / ALIVE):
                os.utime(alive.fileno())
                return alive
            alive.close()


def _lock_within(file: IO[bytes], seconds: float) -> bool:
    """Lock a file for this process alone, and return whether that succeeded within so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(POLL_SECONDS)


def _get_status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None
