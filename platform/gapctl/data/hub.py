"""Download data sets from a hub of Hugging Face, with huggingface_hub's own resuming downloads.

1. `HubDataset` lists the files of a data set, and brings each, checked by the hub's own digest.
2. `download_evaluation_set` brings a set of CLIP_benchmark: it reads `nshards.txt`, and downloads the shards of a split
  and the files of classes.
3. `explain_missing_shards` says which shards such a folder lacks, whoever filled it.

CLIP_benchmark's layout: `SPLIT/nshards.txt`, `SPLIT/0.tar` and so on, with `classnames.txt`,
`zeroshot_classification_templates.txt` and `dataset_type.txt` in the folder above. The endpoint is `HF_ENDPOINT`, or
else https://huggingface.co.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Final, NamedTuple

from gapctl.data.image_text.tar_layouts import CLASS_NAMES, CLASS_TEMPLATES
from gapctl.errors import GapctlError, InputError, WorkError
from gapctl.io.atomic import hash_file
from gapctl.io.hub import DATASETS, describe_hub_failure, find_hub_endpoint

SHARD_COUNT: Final = "nshards.txt"
BESIDE: Final = (CLASS_NAMES, CLASS_TEMPLATES, "dataset_type.txt")
"""Files that lie beside the shards of some sets."""
MAX_SHARDS: Final = 10_000
SHA256_DIGITS: Final = 64
OnProgress = Callable[[str, int, int | None], None]


class FetchedSet(NamedTuple):
    """A folder with the files of a set, of which `fetched` were not there before."""

    folder: Path
    shards: int
    fetched: int
    bytes: int


def download_evaluation_set(
    page: str, split: str, folder: Path, on_progress: OnProgress, endpoint: str | None = None
) -> FetchedSet:
    """Download a data set of a hub into a folder; what is there and whole is not downloaded again.

    `page` is its page at the hub, `endpoint` another hub with the same data. `on_progress` gets a text, the files done
    and all. Raise InputError for a data set that is missing or asks for more rights, and for a folder that cannot be
    written, WorkError where the network fails: the same call then goes on.
    """
    hub = HubDataset(page, folder, endpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: cannot be written ({error.strerror}); expected a folder that can") from error
    count_path = hub.fetch(f"{split}/{SHARD_COUNT}")
    count = read_shard_count(count_path)
    names = [f"{split}/{number}.tar" for number in range(count)]
    for done, name in enumerate(names):
        on_progress("shards", done, count)
        hub.fetch(name)
    on_progress("shards", count, count)
    for name in BESIDE:
        hub.fetch(name, required=False)
    size = sum((folder / name).stat().st_size for name in names)
    return FetchedSet(folder, count, hub.fetched, size)


def read_shard_count(path: Path) -> int:
    """Return the number in a set's `nshards.txt`; raise InputError for anything else than a number from 1 on."""
    text = path.read_text(encoding="utf-8", errors="replace").strip()
    if not (text.isdigit() and 1 <= int(text) <= MAX_SHARDS):
        raise InputError(f"{path}: found {text[:40]!r}; expected the number of shards, 1 to {MAX_SHARDS:,}")
    return int(text)


class HubFile(NamedTuple):
    """A file's size, and the sha256 of its bytes; empty for small files, which the hub does not store apart."""

    bytes: int
    sha256: str


class HubDataset:
    """One data set of a hub, and the folder that it is downloaded to."""

    def __init__(self, page: str, folder: Path, endpoint: str | None = None, *, pinned: bool = False) -> None:
        """Ask nobody yet; if `pinned`, all files are of the commit that is the newest at the first request."""
        self._repository = page.partition(DATASETS)[2].strip("/")
        self._endpoint = endpoint.rstrip("/") if endpoint else find_hub_endpoint()
        self.page = f"{self._endpoint}{DATASETS}{self._repository}"
        self._folder = folder
        self._pinned = pinned
        self.fetched = 0

    @cached_property
    def _revision(self) -> str | None:
        from huggingface_hub import HfApi

        if not self._pinned:
            return None
        try:
            return HfApi(endpoint=self._endpoint).dataset_info(self._repository).sha
        except Exception as error:
            raise self._explain("its description", error) from error

    def list_files(self) -> dict[str, HubFile]:
        """Return the files in the data set's own folder, by name. Raise InputError or WorkError as the hub answers."""
        from huggingface_hub import HfApi, RepoFile

        tree = HfApi(endpoint=self._endpoint).list_repo_tree
        try:
            entries = list(tree(self._repository, repo_type="dataset", revision=self._revision))
        except GapctlError:
            raise
        except Exception as error:
            raise self._explain("its list of files", error) from error
        return {
            entry.path: HubFile(entry.size, entry.lfs.sha256 if entry.lfs else "")
            for entry in entries
            if isinstance(entry, RepoFile)
        }

    def read(self, name: str) -> bytes:
        """Return the content of a small file, which is kept in the client's own cache."""
        from huggingface_hub import hf_hub_download

        try:
            return Path(
                hf_hub_download(
                    self._repository, name, repo_type="dataset", revision=self._revision, endpoint=self._endpoint
                )
            ).read_bytes()
        except Exception as error:
            raise self._explain(name, error) from error

    def fetch(self, name: str, *, required: bool = True, sha256: str | None = None) -> Path:
        """Download a file if it is not there, and check its content by `sha256`, or else by the hub's own digest."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()  # gapctl has its own, and its own words for what goes wrong
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        path = self._folder / name
        hub, repository, revision = self._endpoint, self._repository, self._revision
        try:
            before = path.stat().st_mtime_ns if path.exists() else None
            hf_hub_download(
                repository, name, repo_type="dataset", revision=revision, local_dir=self._folder, endpoint=hub
            )
            if sha256 is None:
                url = hf_hub_url(repository, name, repo_type="dataset", revision=revision, endpoint=hub)
                sha256 = get_hf_file_metadata(url, endpoint=hub).etag or ""
        except Exception as error:
            absent = isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError)
            if absent and not required:
                return path
            raise self._explain(name, error) from error
        if len(sha256) == SHA256_DIGITS and (found := hash_file(path)) != sha256:
            with suppress(OSError):
                path.unlink()
            raise WorkError(
                f"{self._url(name)}: arrived with sha256 {found}, expected {sha256}; it was deleted. Run the same "
                "command again"
            )
        self.fetched += path.stat().st_mtime_ns != before
        return path

    def _url(self, name: str) -> str:
        return f"{self.page}/resolve/main/{name}"

    def _explain(self, name: str, error: BaseException) -> InputError | WorkError:
        """Return the error for what the hub, the network or the disk answered."""
        if isinstance(error, OSError) and error.errno is not None and error.filename:
            return InputError(f"--out {self._folder}: cannot be written ({error.strerror}); expected a folder that can")
        by_hand = (
            f"What has arrived is kept. Without a network, bring the files of {self.page} into a folder here, and "
            "name it as the set's source"
        )
        problem = describe_hub_failure(error, name, self._endpoint, self.page, by_hand)
        if problem.status == 404 and not self._pinned:
            return InputError(f"{self._url(name)}: answered 404; expected {SHARD_COUNT} and the shards that it counts")
        kind = InputError if problem.wrong_name or problem.status in (401, 403) else WorkError
        return kind(problem.format(self.page))


def explain_missing_shards(folder: Path) -> str:
    """Return which shards a folder in CLIP_benchmark's layout lacks; an empty text if none, or for other layouts."""
    count_path = folder / SHARD_COUNT
    if not count_path.is_file():
        return ""
    count = read_shard_count(count_path)
    missing = [f"{number}.tar" for number in range(count) if not (folder / f"{number}.tar").is_file()]
    if not missing:
        return ""
    return f"{count_path} counts {count} shards, and {missing[0]} is missing ({len(missing)} such)"
