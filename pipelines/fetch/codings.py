"""Undo `Content-Encoding` while the body arrives, with the cap on decompressed bytes applied block by block.

A bomb is stopped one block past the cap, whatever its ratio: no call to a decompressor may return more than a block. At most
two codings are undone (some servers compress twice by mistake; more is an attack). Bytes after the end of a gzip or deflate
stream are dropped, as browsers drop them, except that a further gzip member is part of the body; after a brotli stream
they are an error, because the decoder cannot say where it ended. Nothing depends on how the body was cut into packets.
"""

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli

from schemas.reasons import Reason, Refused

BLOCK_BYTES = 256 * 1024
"""Largest piece that zlib returns at a time; brotli rounds it up to its own buffer, to less than twice this."""

_MAX_CODINGS = 2


class Coding(Protocol):
    """One content coding being undone."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Blocks that `data` yields."""

    def finish(self) -> None:
        """Raises `Refused(body.encoding)` if the stream is not complete."""


class Decoder:
    """The codings of one body, undone in turn."""

    def __init__(self, content_encoding: str) -> None:
        names = [name for part in content_encoding.split(",") if (name := part.strip().lower()) not in ("", "identity")]
        if len(names) > _MAX_CODINGS:
            raise Refused(Reason.BODY_ENCODING, "too_many")
        self._codings = [_coding(name) for name in reversed(names)]

    @property
    def is_identity(self) -> bool:
        """Whether bytes pass through unchanged."""
        return not self._codings

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decoded blocks of at most `BLOCK_BYTES` each (a body without codings passes as it is)."""
        blocks: Iterator[bytes] = iter((data,))
        for coding in self._codings:
            blocks = _through(coding, blocks)
        return blocks

    def finish(self) -> None:
        """Raises `Refused(body.encoding)` if a coding ended too early."""
        for coding in self._codings:
            coding.finish()


def _through(coding: Coding, blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        yield from coding.feed(block)


def _coding(name: str) -> Coding:
    if name in ("gzip", "x-gzip"):
        return _Gzip()
    if name == "deflate":
        return _Deflate()
    if name == "br":
        return _Brotli()
    raise Refused(Reason.BODY_ENCODING, "unknown")


class _Gzip:
    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._member.eof:
                if not data.startswith(b"\x1f"):
                    return  # padding after the last member
                self._member = zlib.decompressobj(wbits=31)
            yield from _inflate(self._member, data)
            data = self._member.unused_data

    def finish(self) -> None:
        if not self._member.eof:
            raise Refused(Reason.BODY_ENCODING, "truncated")


class _Deflate:
    """RFC 9110 says zlib; some servers send raw deflate. The first two bytes tell."""

    def __init__(self) -> None:
        self._head = b""
        self._stream = zlib.decompressobj()
        self._started = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not self._started:
            self._head += data
            if len(self._head) < 2:
                return
            is_zlib = self._head[0] & 0x0F == 8 and int.from_bytes(self._head[:2]) % 31 == 0
            self._stream = zlib.decompressobj(wbits=15 if is_zlib else -15)
            self._started, data, self._head = True, self._head, b""
        if not self._stream.eof:
            yield from _inflate(self._stream, data)

    def finish(self) -> None:
        if not self._stream.eof:
            raise Refused(Reason.BODY_ENCODING, "truncated")


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if not data:
            return
        if self._stream.is_finished():
            raise Refused(Reason.BODY_ENCODING, "corrupt")
        try:
            block = self._stream.process(data, output_buffer_limit=BLOCK_BYTES)
            while block or not self._stream.can_accept_more_data():
                yield block
                if self._stream.is_finished():
                    return
                block = self._stream.process(b"", output_buffer_limit=BLOCK_BYTES)
        except brotli.error:
            raise Refused(Reason.BODY_ENCODING, "corrupt") from None

    def finish(self) -> None:
        if not self._stream.is_finished():
            raise Refused(Reason.BODY_ENCODING, "truncated")


def _inflate(stream: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    try:
        while not stream.eof:
            block = stream.decompress(data, BLOCK_BYTES)
            data = stream.unconsumed_tail
            if block:
                yield block
            if not data and len(block) < BLOCK_BYTES:  # a full block may leave output inside although all input is used
                return
    except zlib.error:
        raise Refused(Reason.BODY_ENCODING, "corrupt") from None
