"""The metadata files behind a source: found by path, folder or pattern, opened, and known again by their fingerprint.

Local paths are kept absolute, URLs as they are; the order is by name, so that every launcher sees the same list. In folders and
patterns, names that begin with `_` or `.` are passed over, as Spark does: `_SUCCESS`, `.part-0.crc`. A fingerprint is
`size-modification-content`: bytes, the file system's word for the time or version, a hash of a part that tells files apart.
Not here: what is inside (`parquet`, `text_files`).
"""

import glob
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

import fsspec
import xxhash

from schemas.errors import UserError

_TAGS = ("ETag", "etag", "mtime", "LastModified", "Last-Modified", "updated", "last_modified", "created")


def find_files(paths: Iterable[str], *, endings: tuple[str, ...]) -> list[str]:
    """Files for paths, folders (their files with one of `endings`, not deeper) and patterns, each once, in order of name.

    Raises `UserError` for a path that is not there, a folder or pattern without a match, or a file of another ending.
    """
    found: dict[str, None] = {}
    for path in paths:
        for file in _expand(path, endings=endings):
            found.setdefault(file)
    if not found:
        raise UserError(
            "no input was given: name metadata files, a folder of them, or a pattern such as 'meta/*.parquet'"
        )
    return sorted(found)


def is_remote(path: str) -> bool:
    """Whether fsspec is needed to read it."""
    return "://" in path


def open_binary(path: str) -> IO[bytes]:
    """The file, for reading from any place; a remote one is fetched range by range."""
    if not is_remote(path):
        return Path(path).open("rb")
    file: IO[bytes] = fsspec.open(path, "rb").open()
    return file


def stat(path: str) -> tuple[int, str]:
    """Size in bytes, and what the file system says of its version. Raises `FileNotFoundError` if it is gone."""
    if not is_remote(path):
        local = Path(path).stat()
        return local.st_size, str(local.st_mtime_ns)
    system, name = fsspec.core.url_to_fs(path)
    facts = system.info(name)
    if facts.get("size") is None:
        raise UserError(f"{path}: the server does not say how large it is; copy the file to a disk or an object store")
    tag = next((str(facts[key]) for key in _TAGS if facts.get(key)), "")
    return int(facts["size"]), xxhash.xxh3_64_hexdigest(tag.encode())


def check_unchanged(path: str, *, now: str, planned: str, moved: bool = False) -> None:
    """Raise `UserError` unless fingerprint `now` is the `planned` one; a moved file may have another modification time."""
    if _content(now) != _content(planned) if moved else now != planned:
        raise UserError(
            f"{path} has changed since it was planned (fingerprint {planned} then, {now} now); "
            f"put the old file back, or build into a new folder"
        )


def is_same_file(path: str, *, now: str, source: str, planned: str) -> bool:
    """Whether the file at `path` is the planned file `source`, moved, copied or mounted elsewhere: same name and content.

    Its rows are in the corpus already, under the keys of the plan; planning them again would double them.
    """
    return base_name(path) == base_name(source) and _content(now) == _content(planned)


def base_name(path: str) -> str:
    """The last part of a path or URL."""
    return PurePosixPath(path).name


def _expand(path: str, *, endings: tuple[str, ...]) -> list[str]:
    system, root = fsspec.core.url_to_fs(path if is_remote(path) else str(Path(path).expanduser().absolute()))
    if root.endswith(endings) and system.isfile(root):  # asked first: over HTTP, `isdir` would fetch the whole file
        names = [root]
    elif system.isdir(root):
        names = [
            name
            for name in system.ls(root, detail=False)
            if name.endswith(endings) and not _is_hidden(name) and system.isfile(name)
        ]
    elif system.exists(root):
        names = [root]
    elif glob.has_magic(root):
        names = [name for name in system.glob(root) if not _is_hidden(name) and system.isfile(name)]
    else:
        names = []
    if not names:
        raise UserError(_nothing(path, system, root, endings))
    for name in names:
        if not name.endswith(endings):
            raise UserError(f"{name}: this source reads files that end in {_either(endings)}")
    return [system.unstrip_protocol(name) if is_remote(path) else str(name) for name in names]


def _is_hidden(name: str) -> bool:
    return base_name(name).startswith(("_", "."))


def _nothing(path: str, system: Any, root: str, endings: tuple[str, ...]) -> str:
    deeper = system.isdir(root) and any(system.isdir(name) for name in system.ls(root, detail=False))
    advice = (
        f"it has folders of its own: name them by a pattern, '{path.rstrip('/')}/*/*'" if deeper else "check the path"
    )
    return f"{path}: no file there that ends in {_either(endings)}; {advice}"


def _either(endings: tuple[str, ...]) -> str:
    return " or ".join([", ".join(endings[:-1]), endings[-1]] if len(endings) > 1 else endings)


def _content(fingerprint: str) -> tuple[str, str]:
    size, _, content = fingerprint.split("-")
    return size, content
