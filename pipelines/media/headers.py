"""What stands in the headers of JPEG, PNG and WebP: stored size, orientation, and where the pixels lie.

Each format is walked by a small parser of our own, because headers of fetched bodies are read inside the worker, before
anything is known of them: no allocation depends on what a header claims, no loop runs longer than a limit below. The walk keeps
the place of what a decoder needs, so that `pixels` need not hand profiles, texts or thumbnails to a library.

Orientation is what Pillow's `ImageOps.exif_transpose` would apply: EXIF tag 274, else `tiff:Orientation` in XMP.
Not here: decoding (`pixels`), limits on size (`image`), the other formats (Pillow's own parsers, in the helper).
"""

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from schemas.reasons import Reason, Refused

_MAX_JPEG_SEGMENTS = 4_096  # real files hold some dozen; four-byte ones without end would hold up the caller
_MAX_JPEG_GARBAGE_BYTES = 65_536  # between segments, in all; what lies inside them is skipped by its length
_MAX_CHUNKS = 65_536  # 8 KiB each, the habit of libpng, makes 512 MiB
_MAX_TEXT_BYTES = 1 << 20  # what a compressed text may grow to: an EXIF block is at most 64 KiB, twice that in hex

_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)  # as libjpeg looks for it: over fill bytes and garbage
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # what libjpeg decodes: the last two are arithmetic, 2 and A progressive
_JPEG_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless and hierarchical

_PNG_BIT_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_PNG_EXIF_TEXT = b"Raw profile type exif\0"  # how ImageMagick wrote EXIF before PNG had a chunk for it
_PNG_XMP_TEXT = b"XML:com.adobe.xmp\0"

_EXIF_PREFIX = b"Exif\0\0"
_JPEG_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
_TIFF_MAGICS = (b"II*\0", b"MM\0*")
_TIFF_INTEGERS = {1: 1, 3: 2, 4: 4}  # BYTE, SHORT and LONG, with their sizes in bytes
_TIFF_ORIENTATION = 0x0112
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


@dataclass(frozen=True, slots=True)
class Segment:
    """A JPEG segment, a PNG or a WebP chunk: what it is, and the bytes of the body that hold all of it."""

    kind: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What every header says. Sizes in pixels as stored, before orientation (1 to 8, as EXIF counts)."""

    width: int
    height: int
    orientation: int

    @property
    def displayed(self) -> tuple[int, int]:
        """Width and height as a viewer shows them."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def memory_pixels(self) -> int:
        """What decoding holds at its peak, in pixels of three bytes."""
        return 4 * self.width * self.height  # Pillow's picture, numpy's copy of it, and RGB: up to 12 bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class JpegLayout(Layout):
    """A JPEG up to its first scan, the last of `segments`. `scans` is 1 if one pass decodes all, else what there is at most."""

    components: int
    is_progressive: bool
    scans: int
    segments: tuple[Segment, ...]

    @property
    def memory_pixels(self) -> int:
        """The picture, from inks with copies of them; where one pass is not enough, two bytes for every coefficient, too."""
        is_cmyk = self.components == 4
        of_picture, of_coefficients = (4, 3) if is_cmyk else (1, 2)
        return self.width * self.height * (of_picture + (of_coefficients if self.scans > 1 else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class PngLayout(Layout):
    """A PNG. `chunks` are those that make its first picture, in order: IHDR, PLTE, tRNS, the first run of IDAT."""

    bit_depth: int
    color_type: int
    chunks: tuple[Segment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WebpLayout(Layout):
    """A WebP. The size is that of the canvas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExoticLayout(Layout):
    """Any other format, by the name that Pillow gives it; `exotic` reads it."""

    pillow_format: str


def read_jpeg(body: bytes) -> JpegLayout:
    """Walk the segments to the first scan, stepping over garbage between them as libjpeg does."""
    segments: list[Segment] = []
    position, garbage_end = 2, 2 + _MAX_JPEG_GARBAGE_BYTES
    for _ in range(_MAX_JPEG_SEGMENTS):
        found = _JPEG_MARKER.search(body, position, garbage_end)
        if found is None:
            is_cut = garbage_end >= len(body)
            raise Refused(Reason.DECODE_TRUNCATED if is_cut else Reason.DECODE_CORRUPT, "jpeg.header")
        start, marker = found.start(), found[1][0]
        position = start + 2
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # TEM and stray restarts stand alone
            continue
        segments.append(_jpeg_segment(body, start, marker))
        if marker == 0xDA:
            return _jpeg_layout(body, segments)
        garbage_end += segments[-1].end - start
        position = segments[-1].end
    raise Refused(Reason.DECODE_CORRUPT, "jpeg.segments")


def read_png(body: bytes) -> PngLayout:
    """Walk all chunks, for orientation may stand behind the pixels. Checksums are left to `pixels`."""
    chunks = _png_chunks(body)
    before = list(takewhile(lambda chunk: chunk.kind != b"IDAT", chunks))
    pixels = list(takewhile(lambda chunk: chunk.kind == b"IDAT", chunks[len(before) :]))
    if not pixels:
        is_whole = bool(chunks) and chunks[-1].kind == b"IEND"
        raise Refused(Reason.DECODE_CORRUPT if is_whole else Reason.DECODE_TRUNCATED, "png.pixels")
    width, height, bit_depth, color_type = _png_header(body, before)
    palette = [chunk for chunk in before if chunk.kind == b"PLTE"][:1]
    if color_type == 3 and not palette:
        raise Refused(Reason.DECODE_CORRUPT, "png.palette")
    return PngLayout(
        width=width,
        height=height,
        orientation=_png_orientation(body, chunks),
        bit_depth=bit_depth,
        color_type=color_type,
        chunks=(before[0], *palette, *[chunk for chunk in before if chunk.kind == b"tRNS"][:1], *pixels),
    )


def read_webp(body: bytes) -> WebpLayout:
    """Walk the chunks of the RIFF container; only files of the extended kind carry EXIF or XMP."""
    if 8 + int.from_bytes(body[4:8], "little") > len(body):
        raise Refused(Reason.DECODE_TRUNCATED, "webp")
    chunks = {chunk.kind: chunk for chunk in reversed(_webp_chunks(body))}  # of each kind the first
    is_extended = b"VP8X" in chunks
    first = next((chunks[kind] for kind in (b"VP8X", b"VP8 ", b"VP8L") if kind in chunks), None)
    if first is None or not chunks.keys() & {b"VP8 ", b"VP8L", b"ANMF"}:
        raise Refused(Reason.DECODE_CORRUPT, "webp.pixels")
    width, height = _webp_size(first.kind, body[first.start + 8 : first.start + 18])
    noted = {kind: body[chunk.start + 8 : chunk.end] for kind, chunk in chunks.items() if kind in (b"EXIF", b"XMP ")}
    exif, xmp = (noted.get(kind, b"") if is_extended else b"" for kind in (b"EXIF", b"XMP "))
    return WebpLayout(width=width, height=height, orientation=_orientation(exif, xmp))


def _jpeg_segment(body: bytes, start: int, marker: int) -> Segment:
    if marker in (0xD8, 0xD9):  # a second beginning, or an end before any pixels
        raise Refused(Reason.DECODE_CORRUPT, "jpeg.marker")
    length = int.from_bytes(body[start + 2 : start + 4], "big")
    if start + 4 > len(body) or start + 2 + length > len(body):
        raise Refused(Reason.DECODE_TRUNCATED, "jpeg.header")
    if length < 2:
        raise Refused(Reason.DECODE_CORRUPT, "jpeg.segment")
    return Segment(bytes((marker,)), start, start + 2 + length)


def _jpeg_layout(body: bytes, segments: list[Segment]) -> JpegLayout:
    frame = next((s for s in segments if s.kind[0] in _JPEG_FRAMES | _JPEG_OTHER_FRAMES), None)
    scan = segments[-1]
    if frame is None or frame.end < frame.start + 10 or scan.end < scan.start + 5:
        raise Refused(Reason.DECODE_CORRUPT, "jpeg.frame")
    precision, components = body[frame.start + 4], body[frame.start + 9]
    height, width = (int.from_bytes(body[frame.start + at : frame.start + at + 2], "big") for at in (5, 7))
    if frame.kind[0] in _JPEG_OTHER_FRAMES:
        raise Refused(Reason.DECODE_UNSUPPORTED, "jpeg.process")
    if precision != 8:
        raise Refused(Reason.DECODE_UNSUPPORTED, "jpeg.precision")
    if components not in (1, 3, 4):
        raise Refused(Reason.DECODE_UNSUPPORTED, "jpeg.components")
    is_progressive = frame.kind in (b"\xc2", b"\xca")
    is_one_pass = not is_progressive and body[scan.start + 4] == components
    return JpegLayout(
        width=width,
        height=height,
        orientation=_orientation(_app1(body, segments, _EXIF_PREFIX), _app1(body, segments, _JPEG_XMP_PREFIX)),
        components=components,
        is_progressive=is_progressive,
        scans=1 if is_one_pass else max(2, body.count(b"\xff\xda", scan.start)),
        segments=tuple(segments),
    )


def _app1(body: bytes, segments: list[Segment], prefix: bytes) -> bytes:
    """The content of the first APP1 segment that opens with `prefix`."""
    for segment in segments:
        if segment.kind == b"\xe1" and body.startswith(prefix, segment.start + 4):
            return body[segment.start + 4 + len(prefix) : segment.end]
    return b""


def _png_chunks(body: bytes) -> list[Segment]:
    """All chunks up to IEND. A tail cut or broken behind the first pixels is left out: the pixels are judged on their own."""
    chunks: list[Segment] = []
    position = 8
    has_pixels = False
    while position < len(body):
        length, kind = int.from_bytes(body[position : position + 4], "big"), body[position + 4 : position + 8]
        is_cut = position + 12 + length > len(body)
        if is_cut or not kind.isalpha():
            if has_pixels and kind != b"IDAT":
                break
            is_truncated = is_cut and (len(kind) < 4 or kind.isalpha())
            raise Refused(Reason.DECODE_TRUNCATED if is_truncated else Reason.DECODE_CORRUPT, "png.chunk")
        chunks.append(Segment(kind, position, position + 12 + length))
        position = chunks[-1].end
        has_pixels = has_pixels or kind == b"IDAT"
        if kind == b"IEND":
            break
        if len(chunks) > _MAX_CHUNKS:
            raise Refused(Reason.DECODE_CORRUPT, "png.chunks")
    return chunks


def _png_header(body: bytes, before: list[Segment]) -> tuple[int, int, int, int]:
    """Width, height, bit depth and colour type, of a header that the PNG standard allows."""
    if not before or before[0].kind != b"IHDR" or before[0].end != 33:
        is_apple = bool(before) and before[0].kind == b"CgBI"  # Xcode's own dialect, which nothing but iOS reads
        raise Refused(Reason.DECODE_UNSUPPORTED if is_apple else Reason.DECODE_CORRUPT, "png.header")
    width, height = int.from_bytes(body[16:20], "big"), int.from_bytes(body[20:24], "big")
    bit_depth, color_type, compression, filtering, interlace = body[24:29]
    is_known = compression == 0 and filtering == 0 and interlace <= 1 and max(width, height) < 1 << 31
    if not is_known or bit_depth not in _PNG_BIT_DEPTHS.get(color_type, ()):
        raise Refused(Reason.DECODE_CORRUPT, "png.header")
    return width, height, bit_depth, color_type


def _png_orientation(body: bytes, chunks: Iterable[Segment]) -> int:
    exif = profile = xmp = b""
    for chunk in chunks:
        start, end = chunk.start + 8, chunk.end - 4
        if chunk.kind == b"eXIf":
            exif = exif or body[start:end]
        elif chunk.kind in (b"tEXt", b"zTXt", b"iTXt"):
            if body.startswith(_PNG_EXIF_TEXT, start):
                profile = profile or _png_text(chunk.kind, body[start + len(_PNG_EXIF_TEXT) : end])
            elif body.startswith(_PNG_XMP_TEXT, start):
                xmp = xmp or _png_text(chunk.kind, body[start + len(_PNG_XMP_TEXT) : end])
    return _orientation(exif or _unhex(profile), xmp)


def _png_text(kind: bytes, data: bytes) -> bytes:
    """The text behind a chunk's keyword; empty if it is broken or grows beyond what an orientation needs."""
    is_compressed = kind == b"zTXt"
    if kind == b"iTXt":
        is_compressed, data = data[:1] == b"\1", b"".join(data[2:].split(b"\0", 2)[2:])
    elif is_compressed:
        data = data[1:]
    if not is_compressed:
        return data[:_MAX_TEXT_BYTES]
    try:
        return zlib.decompressobj().decompress(data, _MAX_TEXT_BYTES)
    except zlib.error:
        return b""


def _unhex(profile: bytes) -> bytes:
    """The bytes of an ImageMagick profile: an empty line, its name, its length, then lines of hex."""
    try:
        return bytes.fromhex(b"".join(profile.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


def _webp_chunks(body: bytes) -> list[Segment]:
    chunks: list[Segment] = []
    position, file_end = 12, 8 + int.from_bytes(body[4:8], "little")
    while position + 8 <= file_end and len(chunks) < _MAX_CHUNKS:
        end = position + 8 + int.from_bytes(body[position + 4 : position + 8], "little")
        if end > file_end:
            raise Refused(Reason.DECODE_TRUNCATED, "webp.chunk")
        chunks.append(Segment(body[position : position + 4], position, end))
        position = end + end % 2
    return chunks


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int]:
    """Width and height from the first ten bytes of a chunk: the canvas, a lossy picture or a lossless one."""
    if kind == b"VP8X" and len(head) == 10:
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if kind == b"VP8 " and len(head) == 10 and head[3:6] == b"\x9d\x01\x2a":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    if kind == b"VP8L" and len(head) >= 5 and head[0] == 0x2F:
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    raise Refused(Reason.DECODE_CORRUPT, "webp.header")


def _orientation(exif: bytes, xmp: bytes) -> int:
    """EXIF's word on orientation, else that of XMP; 1, as stored, where neither says anything that is defined."""
    value = _exif_orientation(exif)
    if value is None and (found := _XMP_ORIENTATION.search(xmp)):
        value = int(found[1])
    return value if value is not None and 1 <= value <= 8 else 1


def _exif_orientation(exif: bytes) -> int | None:
    """Tag 274 of the first directory of an EXIF block, or None where there is none to be found."""
    while exif.startswith(_EXIF_PREFIX):  # some writers repeat it inside chunks that need none
        exif = exif[len(_EXIF_PREFIX) :]
    if exif[:4] not in _TIFF_MAGICS:
        return None
    order: Literal["little", "big"] = "little" if exif[:1] == b"I" else "big"
    start = int.from_bytes(exif[4:8], order)
    end = start + 2 + 12 * int.from_bytes(exif[start : start + 2], order)
    for at in range(start + 2, min(end, len(exif) - 11), 12):
        tag, kind = int.from_bytes(exif[at : at + 2], order), int.from_bytes(exif[at + 2 : at + 4], order)
        if tag == _TIFF_ORIENTATION and kind in _TIFF_INTEGERS:
            return int.from_bytes(exif[at + 8 : at + 8 + _TIFF_INTEGERS[kind]], order)
    return None
