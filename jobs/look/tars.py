"""Any WebDataset tar, whoever wrote it, at flat memory: its samples in order, and their members by place.

A tar that breaks off, or is damaged in the middle, gives the whole samples before that and a note. Not here: where members
begin and which of them make a sample (`schemas.foreign_tar`), what they mean (`foreign`), corpora (`corpora`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from jobs.look.foreign import MOST_PICTURE_BYTES, sample_of
from jobs.look.notes import Notes
from schemas.errors import CorpusError
from schemas.foreign_tar import AFTER_END, DAMAGED, NO_END, TRUNCATED, TarMember, TarScan, split_name, tar_samples
from schemas.sample import Sample
from schemas.shard_reader import StoredSample
from schemas.tar import BLOCK

_BROKEN = {
    TRUNCATED: "the tar breaks off inside a member or a header",
    DAMAGED: "no member header stands where one is due",
    NO_END: "the tar ends without its end mark, so members may be missing",
    AFTER_END: "something stands behind the end mark",
}


@dataclass(frozen=True, slots=True)
class Group:
    """The members of one key, by the name behind `KEY.`. row: ordinal of the group in the tar."""

    key: str
    row: int
    members: dict[str, TarMember]

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each member."""
        return {name: member.bytes for name, member in self.members.items()}


class TarShard:
    """An opened tar. `groups` walks it once, reading headers; `read` fetches a member of a group, by its place."""

    def __init__(self, path: Path, file: BinaryIO, notes: Notes) -> None:
        self.path = path
        self._file = file
        self._notes = notes
        self._scan = _CountingScan(file)

    @property
    def file_bytes(self) -> int:
        """Of the whole file."""
        return self._scan.file_bytes

    @property
    def walked_bytes(self) -> int:
        """How far `groups` has come."""
        return self._scan.walked_bytes

    @property
    def loose_members(self) -> int:
        """Members walked over that belong to no key."""
        return self._scan.loose_members

    def groups(self) -> Iterator[Group]:
        """Every whole group, in the order of the tar. Raises `CorpusError` for a file that is no tar."""
        for row, sample in enumerate(tar_samples(self._scan)):
            if not sample.broken:
                yield Group(sample.key, row, sample.members)
        broken, byte = self._scan.broken, self._scan.walked_bytes
        if broken and byte == 0:
            raise CorpusError(f"{self.path}: not a tar; a compressed one has to be unpacked first, as with gunzip")
        if broken:
            finding = f"byte {byte}: {_BROKEN.get(broken, broken)}; shown is what is whole before it"
            self._notes.add(self.path.name, f"{finding}. Restore it from a copy")

    def read(self, group: Group, name: str) -> bytes:
        """The bytes of a member. Raises `CorpusError` if it is larger than anything we show, or the tar ends in it."""
        member = group.members[name]
        number_bytes = member.bytes
        if number_bytes > MOST_PICTURE_BYTES:
            raise CorpusError(f"{self.path}: key {group.key}: the member {name!r} has {number_bytes} bytes; not read")
        self._file.seek(member.offset)
        data = self._file.read(number_bytes)
        if len(data) != number_bytes:
            raise CorpusError(f"{self.path}: key {group.key}: the tar ends inside the member {name!r}")
        return data

    def sample(self, group: Group) -> Sample:
        """A group as a sample; what of it cannot be read is noted."""
        try:
            return sample_of(
                group.key,
                group.sizes,
                lambda name: self.read(group, name),
                file=self.path.name,
                row=group.row,
                notes=self._notes,
            )
        except CorpusError as error:
            self._notes.add(self.path.name, str(error).removeprefix(f"{self.path}: "))
            return sample_of(
                group.key, {}, lambda _: b"", file=self.path.name, row=group.row, notes=self._notes, values={}
            )

    def stored(self, group: Group) -> StoredSample:
        """A group with the bytes of its members."""
        sample = self.sample(group)
        media = {name: self.read(group, name) for name in group.members}
        return StoredSample(sample, media)

    def find(self, key: str) -> Group | None:
        """The first group of a key, by walking."""
        return next((group for group in self.groups() if group.key == key), None)


class _CountingScan(TarScan):
    """A scan that knows how far it came, and what it passed over."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.file_bytes = self._size
        self.walked_bytes = 0
        self.loose_members = 0

    def __iter__(self) -> Iterator[TarMember]:
        for member in super().__iter__():
            self.walked_bytes = -(-(member.offset + member.bytes) // BLOCK) * BLOCK
            self.loose_members += split_name(member.name) is None
            yield member


@contextmanager
def open_tar(path: Path, notes: Notes) -> Iterator[TarShard]:
    """A tar to walk. Raises `CorpusError` if there is no such file, or it may not be read."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None
    with file:
        yield TarShard(path, file, notes)
