"""Rows of shards that others made, as they were found: pictures, texts and metadata of one key, put together and not yet judged.

A pile is where pictures lie that a table names by key: a tar, or a folder of files. Each is passed over once; places are
remembered, bytes are not. Of several pictures of one key the first by `PICTURE_ENDINGS` is taken; where no ending says
picture, the first member that is one by its bytes. Members that nobody looked at are named, never opened: no pickle is loaded.
Not here: which shards there are (`foreign_shards`), what a row becomes (`img2dataset`).
"""

import os
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO, Any, Protocol

import fsspec

from pipelines.media.image import sniff
from pipelines.sources.files import base_name, is_remote, open_binary
from schemas.errors import UserError
from schemas.foreign_tar import TarMember, TarSample, TarScan, split_name, tar_samples
from schemas.reasons import Refused

PICTURE_ENDINGS = ("jpg", "jpeg", "png", "webp")
TEXT_ENDINGS = ("txt", "caption")
JSON_ENDING = "json"
LOST = "img2dataset.lost"
"""A row that img2dataset counted and wrote nowhere."""
_SNIFFED_BYTES = 32

Read = Callable[[str, int], bytes]
"""The member of an ending, up to so many bytes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most bytes of a picture, and of a text or JSON member; what is larger is not read."""

    picture_bytes: int
    text_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class ForeignRow:
    """A row as it was found.

    key: the name that its maker gave it. facts: its metadata, from a table; document: from a JSON member, not yet parsed.
    pictures: their bytes, at most one outside parquet. left_out: endings of members that nobody looked at.
    lack: why the row is not whole, a word. too_large: what of it is over its limit, a word.
    """

    key: str = ""
    facts: dict[str, Any] | None = None
    document: bytes | None = None
    text: bytes | None = None
    pictures: tuple[bytes, ...] = ()
    left_out: tuple[str, ...] = ()
    lack: str = ""
    too_large: str = ""


class Pile(Protocol):
    """Pictures that a table names by key, each to be taken once."""

    @property
    def lack(self) -> str:
        """Why something may be missing, a word."""

    def take(self, key: str) -> ForeignRow | None:
        """What lies there under a key, without its JSON; None if nothing does (any more)."""

    def rest(self) -> Iterator[ForeignRow]:
        """What nobody has taken, with its JSON."""


class TarPile:
    """Samples of a tar, read where the scan is; those that a table wants later are remembered by their places."""

    def __init__(self, file: IO[bytes], *, path: str, limits: Limits) -> None:
        self._file = file
        self._path = path
        self._limits = limits
        self._scan = TarScan(file)
        self._samples = tar_samples(self._scan)
        self._passed: defaultdict[str, deque[TarSample]] = defaultdict(deque)

    def rows(self) -> Iterator[ForeignRow]:
        """Every sample in order; where the tar breaks off, a row that says so."""
        return (self._row(sample, with_document=True) for sample in self._samples)

    @property
    def lack(self) -> str:
        """See `Pile`."""
        return self._scan.broken or "tar.missing"

    def take(self, key: str) -> ForeignRow | None:
        """See `Pile`. Folders in a tar are no part of the keys that tables have."""
        if self._passed.get(key):
            return self._row(self._passed[key].popleft(), with_document=False)
        for sample in self._samples:
            if sample.broken:
                break
            if base_name(sample.key) == key:
                return self._row(sample, with_document=False)
            self._passed[base_name(sample.key)].append(sample)
        return None

    def rest(self) -> Iterator[ForeignRow]:
        """See `Pile`."""
        left = [sample for samples in self._passed.values() for sample in samples]
        left += [sample for sample in self._samples if not sample.broken]
        for sample in sorted(left, key=lambda sample: min(member.offset for member in sample.members.values())):
            yield self._row(sample, with_document=True)

    def _row(self, sample: TarSample, *, with_document: bool) -> ForeignRow:
        if sample.broken:
            return ForeignRow(sample.key, lack=sample.broken)
        sizes = {ending: member.bytes for ending, member in sample.members.items()}

        def read(ending: str, most: int) -> bytes:
            return self._bytes(sample.members[ending], most)

        return _assembled(sample.key, sizes, read, limits=self._limits, with_document=with_document)

    def _bytes(self, member: TarMember, most: int) -> bytes:
        wanted = min(member.bytes, most)
        self._file.seek(member.offset)
        data = self._file.read(wanted)
        if len(data) != wanted:
            raise UserError(f"{self._path}: {member.name} cannot be read to its end; was the file changed just now?")
        return data


class FolderPile:
    """Files of one folder by key, in the order of their names."""

    lack = "file.missing"

    def __init__(self, folder: str, *, limits: Limits) -> None:
        self._limits = limits
        self._files: dict[str, dict[str, tuple[str, int]]] = {}
        for name, size in sorted(listing(folder)):
            split = split_name(base_name(name))
            if split is not None:
                self._files.setdefault(split[0], {})[split[1]] = (name, size)

    def rows(self) -> Iterator[ForeignRow]:
        """Every sample in order of key."""
        return self.rest()

    def take(self, key: str) -> ForeignRow | None:
        """See `Pile`."""
        files = self._files.pop(key, None)
        return None if files is None else self._row(key, files, with_document=False)

    def rest(self) -> Iterator[ForeignRow]:
        """See `Pile`."""
        return (self._row(key, files, with_document=True) for key, files in sorted(self._files.items()))

    def _row(self, key: str, files: dict[str, tuple[str, int]], *, with_document: bool) -> ForeignRow:
        sizes = {ending: size for ending, (_, size) in files.items()}

        def read(ending: str, most: int) -> bytes:
            with open_binary(files[ending][0]) as file:
                return file.read(most)

        return _assembled(key, sizes, read, limits=self._limits, with_document=with_document)


def joined_rows(facts_of: Iterator[Any], pile: Pile, *, expected: int, names: tuple[str, str]) -> Iterator[ForeignRow]:
    """The rows of a table with what the pile has for them; then those that their maker lost, found again or not.

    expected: how many rows there are in all. names: of the pile and of the table, for the message where the pile holds more.
    """
    for facts in facts_of:
        expected -= 1
        if not isinstance(facts, dict):
            yield ForeignRow(lack="encoding")
            continue
        key = str(facts.get("key") or "")
        found = pile.take(key) if facts.get("status") in (None, "success") else ForeignRow(key)
        if found is None:
            yield ForeignRow(key, facts, lack=pile.lack)
        else:
            yield replace(found, key=key, facts=facts)
    strangers = 0
    for stranger in pile.rest():
        strangers += 1
        if strangers > expected:
            raise UserError(
                f"{names[0]} holds samples that {base_name(names[1])} does not name, such as {stranger.key!r}; "
                f"move the table away to import what is there without it"
            )
        yield stranger
    yield from (ForeignRow(lack=LOST) for _ in range(expected - strangers))


def listing(folder: str) -> list[tuple[str, int]]:
    """The files in a folder with their sizes in bytes; hidden ones are passed over."""
    if is_remote(folder):
        system, root = fsspec.core.url_to_fs(folder)
        found = [entry for entry in system.ls(root, detail=True) if entry["type"] == "file"]
        files = [(str(system.unstrip_protocol(entry["name"])), int(entry["size"] or 0)) for entry in found]
    else:
        with os.scandir(folder) as entries:
            files = [(entry.path, entry.stat().st_size) for entry in entries if entry.is_file()]
    return [(name, size) for name, size in files if not base_name(name).startswith((".", "_"))]


def _assembled(key: str, sizes: dict[str, int], read: Read, *, limits: Limits, with_document: bool) -> ForeignRow:
    """A row of the members of one key: their sizes by ending, and how to read them."""
    texts = [ending for ending in TEXT_ENDINGS if ending in sizes]
    known = {*texts[:1], JSON_ENDING}
    picture = _picture(sizes.keys() - known, sizes, read)
    wanted = {ending: limits.text_bytes for ending in (*texts[:1], JSON_ENDING) if ending in sizes}
    wanted |= {picture: limits.picture_bytes} if picture else {}
    left_out = tuple(sorted(sizes.keys() - known - {picture}))
    over = next((ending for ending, most in wanted.items() if sizes[ending] > most), "")
    if over:
        return ForeignRow(key, left_out=left_out, too_large="picture" if over == picture else over)
    return ForeignRow(
        key,
        document=read(JSON_ENDING, limits.text_bytes) if with_document and JSON_ENDING in sizes else None,
        text=read(texts[0], limits.text_bytes) if texts else None,
        pictures=(read(picture, limits.picture_bytes),) if picture else (),
        left_out=left_out,
        lack="" if picture else "no_picture",
    )


def _picture(endings: set[str], sizes: dict[str, int], read: Read) -> str:
    """The ending of the member that is the picture, or nothing: a JPEG may be called `.mp4`."""
    for known in PICTURE_ENDINGS:
        for ending in sizes:
            if ending in endings and ending.rpartition(".")[2] == known:
                return ending
    return next((ending for ending in sizes if ending in endings and _is_common(read(ending, _SNIFFED_BYTES))), "")


def _is_common(head: bytes) -> bool:
    try:
        return sniff(head).is_common
    except Refused:
        return False
