"""One sample as tar blocks: `KEY.json` first, then its media members, adjacent, every header fixed (`docs/format.md` §2).

Headers are plain USTAR with modification time 0, user and group 0 and without names, mode 0644, so that equal samples are equal
bytes whoever wrote them. Not here: files and their order (`shard_writer`, `shard_reader`).
"""

import tarfile
from collections.abc import Sequence
from typing import BinaryIO

import xxhash

from schemas.errors import CorpusError, DamagedSampleError
from schemas.index import ImageRange, IndexRow, MemberRange
from schemas.sample import Sample

BLOCK = 512
END_OF_TAR = bytes(2 * BLOCK)

# A header without name, size and checksum; the sum counts the checksum's own eight bytes as spaces.
_HEADER = tarfile.TarInfo("").tobuf(format=tarfile.USTAR_FORMAT)
_HEADER_SUM = sum(_HEADER[:124]) + sum(_HEADER[136:148]) + 8 * ord(" ") + sum(_HEADER[156:])


def header(name: str, size: int) -> bytes:
    """The 512-byte header of a member of `size` bytes. Raises `ValueError` for names over 100 bytes or sizes over 8 GiB.

    What `tarfile` writes, filled into a template: it takes 20 µs for each of two members of every sample, this 2.
    """
    encoded, digits = name.encode(), b"%011o" % size
    if len(encoded) > 100 or len(digits) > 11:
        raise ValueError(
            f"{name}: a tar member has a name of at most 100 bytes and less than 8 GiB, found {size} bytes"
        )
    block = bytearray(_HEADER)
    block[: len(encoded)] = encoded
    block[124:135] = digits
    block[148:156] = b"%06o\0 " % (_HEADER_SUM + sum(encoded) + sum(digits))
    return bytes(block)


def padding(size: int) -> bytes:
    """The zeros behind a member's content, up to the next block."""
    return bytes(-size % BLOCK)


def pack_sample(sample: Sample, media: Sequence[bytes], *, row: int) -> tuple[list[bytes], IndexRow]:
    """The blocks of a sample, and its index row counted from their start; `media` goes with `sample.members`."""
    names = sample.members
    if len(media) != len(names):
        raise CorpusError(f"sample {sample.key} names {len(names)} media members, but was given {len(media)}")
    document = sample.to_json()
    blocks = [header(f"{sample.key}.json", len(document)), document, padding(len(document))]
    members: list[MemberRange] = []
    offset = sum(map(len, blocks))
    for name, data in zip(names, media, strict=True):
        blocks += [header(f"{sample.key}.{name}", len(data)), data, padding(len(data))]
        members.append(MemberRange(name, offset + BLOCK, len(data)))
        offset += BLOCK + len(data) + len(blocks[-1])
    return blocks, IndexRow(
        key=sample.key,
        row=row,
        json_offset=BLOCK,
        json_bytes=len(document),
        members=tuple(members),
        images=_image_ranges(sample, members, media),
        text_chars=sample.text_chars,
    )


def verify_sample(tar: BinaryIO, row: IndexRow) -> str | None:
    """What is wrong with a sample in a tar, with the byte offset, or None: see `parse_sample`."""
    start, length = extent(row)
    tar.seek(start)
    try:
        parse_sample(tar.read(length), row)
    except DamagedSampleError as error:
        return str(error)
    return None


def extent(row: IndexRow) -> tuple[int, int]:
    """Offset and length of all blocks of a sample: its first header to its last padding."""
    offset, size = row.span
    return offset - BLOCK, BLOCK + size + -(offset + size) % BLOCK


def parse_sample(blocks: bytes, row: IndexRow, *, own_media: bool = True) -> Sample:
    """Check the blocks of a sample (those of `extent`) against its index row, byte by byte, and return the document.

    own_media: the members are those that the document names; not so where another column repeats the document.
    Raises `DamagedSampleError` for a header, padding, JSON or payload that is not what it must be.
    """
    start, length = extent(row)
    if len(blocks) != length:
        raise DamagedSampleError(
            start + len(blocks), f"the tar ends after {len(blocks)} of {length} bytes of this sample"
        )
    data = memoryview(blocks)
    _check_blocks(data, row, start)
    sample = _check_document(bytes(data[BLOCK : BLOCK + row.json_bytes]), row)
    _check_index(sample, row, own_media=own_media)
    _check_payloads(data, row, start)
    return sample


def _check_blocks(data: memoryview, row: IndexRow, start: int) -> None:
    wanted = [(f"{row.key}.json", row.json_offset, row.json_bytes)]
    wanted += [(f"{row.key}.{member.name}", member.offset, member.bytes) for member in row.members]
    for name, offset, size in wanted:
        begin, end = offset - start, offset - start + size
        if bytes(data[begin - BLOCK : begin]) != _header_or_none(name, size):
            raise DamagedSampleError(offset - BLOCK, f"no tar header of {name} with {size} bytes")
        if data[end : end + -size % BLOCK] != padding(size):
            raise DamagedSampleError(offset + size, f"the padding behind {name} is not zero")


def _header_or_none(name: str, size: int) -> bytes | None:
    """A damaged index may have names and sizes that no header can hold."""
    try:
        return header(name, size)
    except ValueError:
        return None


def _check_document(document: bytes, row: IndexRow) -> Sample:
    try:
        sample = Sample.from_json(document)
    except CorpusError as error:
        raise DamagedSampleError(row.json_offset, str(error)) from None
    if sample.key != row.key:
        raise DamagedSampleError(row.json_offset, f"the JSON member holds key {sample.key}")
    if sample.to_json() != document:
        finding = "the JSON is not in canonical form, or has fields that format version 1 does not know"
        raise DamagedSampleError(row.json_offset, finding)
    return sample


def _check_index(sample: Sample, row: IndexRow, *, own_media: bool) -> None:
    found, expected = (row.text_chars, len(row.images)), (sample.text_chars, len(sample.images))
    if found != expected:
        finding = "the index says {} text characters and {} images, the JSON holds {} and {}".format(*found, *expected)
        raise DamagedSampleError(row.json_offset, finding)
    members = {member.name: (member.offset, member.bytes) for member in row.members}
    if not own_media:
        return
    if tuple(members) != sample.members or len(members) != len(row.members):
        names = [member.name for member in row.members]
        raise DamagedSampleError(row.json_offset, f"the index has members {names}, the JSON {list(sample.members)}")
    for ordinal, (image, told) in enumerate(zip(sample.images, row.images, strict=True)):
        if members[image.member] != (told.offset, told.bytes):
            finding = f"image {ordinal}: the index says {told.bytes} bytes from here, but {image.member} is {members[image.member]}"
            raise DamagedSampleError(told.offset, finding)


def _check_payloads(data: memoryview, row: IndexRow, start: int) -> None:
    ranges = [(member.offset, member.offset + member.bytes) for member in row.members]
    for ordinal, image in enumerate(row.images):
        if not image.valid:
            continue
        begin, end = image.offset, image.offset + image.bytes
        if image.bytes < 0 or not any(first <= begin and end <= last for first, last in ranges):
            raise DamagedSampleError(
                begin, f"image {ordinal}: {image.bytes} bytes from here lie in no member of the sample"
            )
        found = xxhash.xxh3_64_intdigest(data[begin - start : end - start])
        if found != image.xxh3:
            raise DamagedSampleError(begin, f"image {ordinal} has xxh3 {found:016x}, the index says {image.xxh3:016x}")


def _image_ranges(sample: Sample, members: Sequence[MemberRange], media: Sequence[bytes]) -> tuple[ImageRange, ...]:
    ranges = {
        member.name: ImageRange(member.offset, member.bytes, xxhash.xxh3_64_intdigest(data))
        for member, data in zip(members, media, strict=True)
    }
    return tuple(ranges[image.member] for image in sample.images)
