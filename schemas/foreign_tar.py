"""Tars that others wrote, as WebDataset reads them: members in order, and the samples that neighbouring members make.

    header -> header -> … -> end mark        512 bytes each; contents are stepped over, read only where somebody asks

Names are split as WebDataset splits them: key up to the first dot of the last part, ending behind it. Members of one key that
stand side by side are one sample; a key that comes again later, or an ending that comes again at once, begins another sample.
A tar may break off or be damaged: every sample before the break is given, and what comes last says so. Nothing is unpacked,
a name is never a path, and what a header claims is held against the size of the file before anything is read.
Not here: what members mean (`pipelines.sources`), indexes (`foreign`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_BLOCK = 512
_MAX_NAME_BYTES = 1 << 20  # of an extended header: names of people's files are no longer than some hundred bytes
_ZERO = bytes(_BLOCK)
_BLANKS_SUM = 8 * ord(" ")  # the checksum counts its own field as blanks
_FILES = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
_EXTENDED = (b"x", b"g", b"L", b"K")  # pax, of one member and of all; GNU's long names and links

TRUNCATED = "tar.truncated"
"""The file ends inside a member or a header."""
DAMAGED = "tar.damaged"
"""What stands where a header is due is none."""
NO_END = "tar.no_end"
"""The file ends behind a whole member, without the mark that ends a tar: nobody can tell whether more was there."""
AFTER_END = "tar.after_end"
"""Something stands behind the end mark, such as a second tar; readers of tars do not look there."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar: its name, where its content begins and how long it is, in bytes."""

    name: str
    offset: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TarSample:
    """Neighbouring members of one key, by ending (lower case, without the first dot), in the order of the tar.

    broken: why the tar broke off at this sample, empty if the sample is whole. The last sample of a tar that broke is the one
    it broke in, or, where it broke between samples, an empty one that stands for what is lost.
    """

    key: str
    members: dict[str, TarMember]
    broken: str = ""


class TarScan:
    """The members of a tar, in one pass. After it, `broken` is empty or why the tar ends early, and `cut` the member it ends in."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self.broken = ""
        self.cut: TarMember | None = None

    def __iter__(self) -> Iterator[TarMember]:
        position = 0
        told: dict[str, bytes] = {}  # by extended headers, of the member that follows
        while (header := self._header(position)) is not None:
            content = position + _BLOCK
            if header.kind in _EXTENDED:
                extended = self._extended(content, header.size)
                if extended is None:
                    return
                told |= _told(header.kind, extended)
                position = content + _padded(header.size)
                continue
            member = _member(header, content, told)
            told = {}
            is_file = header.kind in _FILES
            if member.offset + member.bytes > self._size:
                self.broken, self.cut = TRUNCATED, member if is_file else None
                return
            if is_file:
                yield member
            position = content + _padded(member.bytes)
        if told and self.broken == NO_END:
            self.broken = TRUNCATED

    def _header(self, position: int) -> "_Header | None":
        """The header at `position`; None at the end, be it the mark or a break."""
        self._file.seek(position)
        block = self._file.read(_BLOCK)
        if len(block) < _BLOCK:
            self.broken = NO_END if not block.strip(b"\0") else TRUNCATED
            return None
        if block == _ZERO:
            self.broken = AFTER_END if self._goes_on() else ""
            return None
        header = _parse(block)
        if header is None:
            self.broken = DAMAGED
        return header

    def _extended(self, content: int, size: int) -> bytes | None:
        """What an extended header holds; None if it is cut off or out of all proportion."""
        if size > _MAX_NAME_BYTES:
            self.broken = DAMAGED
            return None
        self._file.seek(content)
        data = self._file.read(size)
        if len(data) < size:
            self.broken = TRUNCATED
            return None
        return data

    def _goes_on(self) -> bool:
        while data := self._file.read(1 << 16):
            if data.count(0) != len(data):
                return True
        return False


def tar_samples(scan: TarScan) -> Iterator[TarSample]:
    """The samples of a tar in order; members that WebDataset passes over (no ending, a hidden name) belong to none."""
    key: str | None = None
    members: dict[str, TarMember] = {}
    before: set[str] = set()
    for member in scan:
        split = split_name(member.name)
        if split is None:
            continue
        if key is not None and (split[0] != key or split[1] in members):
            yield TarSample(key, members)
            key, members, before = None, {}, set(members)
        key = split[0]
        members[split[1]] = member
    if not scan.broken:
        if key is not None:
            yield TarSample(key, members)
        return
    yield from _last_samples(scan, key, members, before)


def split_name(name: str) -> tuple[str, str] | None:
    """Key and ending of a member's name; None for one that is no part of a sample."""
    folder, slash, base = name.removeprefix("./").rpartition("/")
    stem, dot, ending = base.partition(".")
    return (folder + slash + stem, ending.lower()) if stem and dot and ending else None


def _last_samples(
    scan: TarScan, key: str | None, members: dict[str, TarMember], before: set[str]
) -> Iterator[TarSample]:
    """How a broken tar ends: the sample in hand if it is whole, and the one that is not."""
    cut = split_name(scan.cut.name) if scan.cut is not None else None
    is_cut = cut is not None and cut[0] == key and cut[1] not in members
    # Cut between two members, a sample looks whole; the one before it tells what is still due. The first one has none before it.
    is_like_others = bool(before) and before <= members.keys()
    is_whole = not is_cut and (cut is not None or scan.broken == AFTER_END or is_like_others)
    if key is not None and not is_whole:
        yield TarSample(key, members, scan.broken)
        return
    if key is not None:
        yield TarSample(key, members)
    yield TarSample(cut[0] if cut is not None else "", {}, scan.broken)


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    size: int
    kind: bytes


def _parse(block: bytes) -> _Header | None:
    """A header, or None for a block that is none."""
    told, size = _number(block[148:156]), _number(block[124:136])
    if told is None or size is None or told != sum(block) - sum(block[148:156]) + _BLANKS_SUM:
        return None
    kind = block[156:157]
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:  # GNU's own magic keeps times there
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    if kind == b"S":  # sparse files scatter their content: none of our business
        return None
    return _Header(_text(name), size, kind)


def _member(header: _Header, content: int, told: dict[str, bytes]) -> TarMember:
    """What a header describes, by its own words or by those of extended headers before it."""
    size = 0 if header.kind in _WITHOUT_CONTENT else header.size
    if header.kind in _FILES and told.get("size", b"").isdigit():
        size = int(told["size"][:20])
    return TarMember(_text(told["path"]) if "path" in told else header.name, content, size)


def _told(kind: bytes, data: bytes) -> dict[str, bytes]:
    """What an extended header says of the member that follows: `path`, `size` and others."""
    if kind == b"x":
        return _pax(data)
    return {"path": data.rstrip(b"\0")} if kind == b"L" else {}


def _number(field: bytes) -> int | None:
    """Octal digits, or GNU's big-endian bytes behind 0x80; None for anything else."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    try:
        return int(digits or b"0", 8) if digits.isdigit() or not digits else None
    except ValueError:
        return None


def _pax(data: bytes) -> dict[str, bytes]:
    """The records `LENGTH KEY=VALUE` of an extended header, as far as they can be read."""
    told: dict[str, bytes] = {}
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or len(length) > 9 or not len(length) < int(length) <= len(data):
            break
        record, data = data[len(length) + 1 : int(length)], data[int(length) :]
        key, _, value = record.removesuffix(b"\n").partition(b"=")
        told[key.decode("ascii", "replace")] = value
    return told


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def _padded(size: int) -> int:
    return size + -size % _BLOCK
