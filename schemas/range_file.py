"""A file of a corpus as a seekable stream over ranged reads, which hashes in passing what is read in order.

Checking a tar needs every sample and the hash of the whole: read front to back, each byte is fetched once. Memory holds one
block and what was asked for. Not here: what the bytes must be (`tar`, `check_unit`).
"""

import hashlib
import io
import os
from typing import Any

from schemas.storage import Storage

BLOCK_BYTES = 1 << 20


class RangeFile(io.RawIOBase):
    """Reads are filled up to what was asked for, as far as the file goes. Raises `FileNotFoundError` if it does not exist."""

    def __init__(self, storage: Storage, name: str) -> None:
        size = storage.size(name)
        if size is None:
            raise FileNotFoundError(name)
        self.bytes = size
        self._storage = storage
        self._name = name
        self._position = 0
        self._last: tuple[int, bytes] = (-1, b"")
        self._hashed_blocks = 0
        self._digest = hashlib.sha256()

    def read_at(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`; fewer where the file ends."""
        end = min(offset + length, self.bytes)
        if offset < 0 or end <= offset:
            return b""
        first, last = offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        return data[offset - first * BLOCK_BYTES : end - first * BLOCK_BYTES]

    def sha256(self) -> Any:
        """The hash over the whole file, as an object to go on with; reads what has not been read in order."""
        self._last = (-1, b"")
        for number in range(self._hashed_blocks, -(-self.bytes // BLOCK_BYTES)):
            self._block(number)
        return self._digest.copy()

    def read(self, size: int | None = -1) -> bytes:
        """From the position, up to the end where no size is given."""
        length = self.bytes - self._position if size is None or size < 0 else size
        data = self.read_at(self._position, length)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """As for any file."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.bytes}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position of the next `read`."""
        return self._position

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def _block(self, number: int) -> bytes:
        if self._last[0] != number:
            data = self._storage.read_range(self._name, number * BLOCK_BYTES, BLOCK_BYTES)
            if number == self._hashed_blocks:
                self._digest.update(data)
                self._hashed_blocks += 1
            self._last = (number, data)
        return self._last[1]
