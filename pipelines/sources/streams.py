"""Bytes of a text file in order, decompressed, from a place on. A file that breaks off or is damaged is a `UserError` naming it."""

import bz2
import gzip
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from pipelines.sources.files import open_binary
from pipelines.sources.formats import Compression
from schemas.errors import UserError

Read = Callable[[int], bytes]
"""Gives at most that many bytes; none at the end only."""


@contextmanager
def opened(path: str, compression: Compression, *, offset: int = 0, length: int | None = None) -> Iterator[Read]:
    """Read from `offset` on, up to `length` bytes, both counted after decompression."""
    with ExitStack() as stack:
        file = stack.enter_context(open_binary(path))
        read: Read
        match compression:
            case Compression.NONE:
                file.seek(offset)
                read = file.read
            case Compression.GZIP:
                read = stack.enter_context(gzip.GzipFile(fileobj=file, mode="rb")).read
            case Compression.BZIP2:
                read = stack.enter_context(bz2.BZ2File(file)).read
            case Compression.ZSTD:
                read = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")).read
        read = _named(read, path)
        if compression is not Compression.NONE:
            _skip(read, offset)
        yield read if length is None else _limited(read, length)


def _named(read: Read, path: str) -> Read:
    def read_or_name(count: int) -> bytes:
        try:
            return read(count)
        except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
            raise UserError(f"{path} cannot be read to its end ({error}); it is damaged: fetch it again") from None

    return read_or_name


def _skip(read: Read, count: int) -> None:
    while count > 0 and (got := len(read(min(count, 1 << 20)))):
        count -= got


def _limited(read: Read, length: int) -> Read:
    left = length

    def read_within(count: int) -> bytes:
        nonlocal left
        got = read(min(count, left)) if left > 0 else b""
        left -= len(got)
        return got

    return read_within
