"""Where a corpus lies, behind two verbs that make commits safe: `publish` a finished file, `create` a name only if it is absent.

Everything else reads, lists or replaces what is derived. Names are relative, with `/`. A name that a reader can see is
always whole: it appears by a link or a conditional write, never by writing in place. Here: local folders. Object stores
implement the same class (publish = multipart upload, create = conditional PUT). Not here: which names exist and what they
mean (`corpus`).
"""

import os
import shutil
import tempfile
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from schemas.errors import CorpusError, UserError

SCRATCH = "run/scratch"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of a listing: its name, its size in bytes, and when it appeared, in Unix seconds."""

    name: str
    bytes: int
    modified_unix_seconds: float


class Storage(ABC):
    """A folder-like place that holds one corpus. Every method may be called from any thread."""

    url: str

    @abstractmethod
    def publish(self, local_file: Path, name: str) -> None:
        """Put a finished local file in place under `name`, whole or not at all, safe against power loss.

        The name carries the hash of its content, so a file that is there already is the same one and is left alone;
        raises `CorpusError` if its size says otherwise.
        """

    @abstractmethod
    def create(self, name: str, data: bytes) -> None:
        """Write a small file that must not exist yet. Raises `FileExistsError` if it does, whoever made it."""

    @abstractmethod
    def create_from(self, local_file: Path, name: str) -> None:
        """As `create`, from a small file in `scratch`. Raises `FileNotFoundError`, and creates nothing, if a sweep has taken it."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Write or overwrite a file whole. Only for what is derived (the card) or advisory (`run/`)."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The whole file. Raises `FileNotFoundError`."""

    @abstractmethod
    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`, in one request; fewer where the file ends. Raises `FileNotFoundError`."""

    @abstractmethod
    def list(self, folder: str) -> Iterator[Entry]:
        """Files directly in `folder`, sorted by name; none if there is no such folder."""

    @abstractmethod
    def folders(self, folder: str) -> Iterator[str]:
        """Names of the folders directly in `folder`, sorted, with their path."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Size in bytes, or None where there is no such file."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Remove a file; nothing happens if it is gone already."""

    @abstractmethod
    def remove_empty_folder(self, folder: str) -> None:
        """Remove a folder that holds nothing; nothing happens where it does, or where folders are only parts of names."""

    @abstractmethod
    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A local folder to assemble files in, removed at the end; cheap to publish from."""


def open_storage(url: str) -> Storage:
    """The storage for a path or URL. Raises `UserError` for a scheme that this version does not write."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStorage(Path(url))
    if scheme in ("file", "local"):
        return LocalStorage(Path(rest))
    raise UserError(f"{url}: corpora on {scheme}:// are not supported; give a local folder")


class LocalStorage(Storage):
    """A folder on a local or shared POSIX file system that has hard links."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.url = str(self._root)

    def publish(self, local_file: Path, name: str) -> None:
        """See `Storage.publish`: synced, then linked; copied first if the file lies on another file system."""
        target = self._path(name)
        _make_folder(target.parent)
        _sync(local_file)
        try:
            os.link(local_file, target)
        except FileExistsError:
            self._check_same_size(local_file, target)
            # An attempt needs it now: a sweep of abandoned files goes by age. Another user's file keeps its own.
            with suppress(PermissionError, FileNotFoundError):
                os.utime(target)
        except OSError as error:
            if error.errno not in _LINK_IMPOSSIBLE:
                raise
            self._publish_copy(local_file, target)
        _sync(target.parent)

    def create(self, name: str, data: bytes) -> None:
        """See `Storage.create`: a synced temporary file, hard-linked to its name; the link fails if the name is taken."""
        with self._temporary(data) as temporary:
            self.create_from(temporary, name)

    def create_from(self, local_file: Path, name: str) -> None:
        """See `Storage.create_from`: one link, so that it either finds the file or does not."""
        target = self._path(name)
        _make_folder(target.parent)
        _sync(local_file)
        os.link(local_file, target)
        _sync(target.parent)

    def replace(self, name: str, data: bytes) -> None:
        """See `Storage.replace`: a temporary file renamed over the name."""
        target = self._path(name)
        _make_folder(target.parent)
        with self._temporary(data) as temporary:
            temporary.replace(target)

    def read(self, name: str) -> bytes:
        """See `Storage.read`."""
        return self._path(name).read_bytes()

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        """See `Storage.read_range`: one `pread`, repeated only if the system returns early."""
        file = os.open(self._path(name), os.O_RDONLY)
        try:
            data = os.pread(file, length, offset)
            while len(data) < length and (more := os.pread(file, length - len(data), offset + len(data))):
                data += more
            return data
        finally:
            os.close(file)

    def list(self, folder: str) -> Iterator[Entry]:
        """See `Storage.list`."""
        try:
            found = sorted(os.scandir(self._path(folder)), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in found:
            # A file may go between the listing and the question; then it is not there.
            with suppress(FileNotFoundError):
                if entry.is_file():
                    stat = entry.stat()
                    yield Entry(f"{folder}/{entry.name}".lstrip("/"), stat.st_size, stat.st_mtime)

    def folders(self, folder: str) -> Iterator[str]:
        """See `Storage.folders`."""
        with suppress(FileNotFoundError):
            yield from sorted(
                f"{folder}/{entry.name}".lstrip("/") for entry in os.scandir(self._path(folder)) if entry.is_dir()
            )

    def size(self, name: str) -> int | None:
        """See `Storage.size`."""
        try:
            return self._path(name).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def delete(self, name: str) -> None:
        """See `Storage.delete`."""
        self._path(name).unlink(missing_ok=True)

    def remove_empty_folder(self, folder: str) -> None:
        """See `Storage.remove_empty_folder`."""
        with suppress(OSError):
            self._path(folder).rmdir()

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Storage.scratch`: inside the corpus, so that publishing is a link; `validate --fix` sweeps what crashes leave."""
        parent = self._path(SCRATCH)
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise CorpusError(f"{self.url}: {name!r} does not lie inside the corpus")
        return self._root / parts

    @contextmanager
    def _temporary(self, data: bytes) -> Iterator[Path]:
        parent = self._path(SCRATCH)
        parent.mkdir(parents=True, exist_ok=True)
        temporary = parent / uuid.uuid4().hex
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    def _publish_copy(self, local_file: Path, target: Path) -> None:
        with self.scratch() as folder:
            copy = folder / target.name
            shutil.copyfile(local_file, copy)
            _sync(copy)
            try:
                os.link(copy, target)
            except FileExistsError:
                self._check_same_size(local_file, target)

    def _check_same_size(self, local_file: Path, target: Path) -> None:
        found, expected = target.stat().st_size, local_file.stat().st_size
        if found != expected:
            raise CorpusError(
                f"{target}: holds {found} bytes, but the file of that content hash has {expected}; "
                f"the file is damaged: run `emu validate` on the corpus"
            )


# EXDEV, EPERM, EMLINK, ENOTSUP, EACCES: the source lies elsewhere, or its file system has no (more) hard links.
_LINK_IMPOSSIBLE = frozenset({18, 1, 31, 95, 13})


def _make_folder(folder: Path) -> None:
    """Each new folder is synced into the one above: else a power loss could take it with all the synced files in it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
