"""Decode a JPEG, a PNG or a WebP to 8-bit RGB as stored, before orientation: every pixel there, or a reason.

Libraries forgive: libjpeg paints what is missing gray, Pillow skips checksums. Here a picture counts only if its library had
nothing to say, so JPEG is decoded in simplejpeg's strict mode (which decodes to the end, then raises the first warning). What
cameras and websites get wrong *around* the pixels is mended first and decoded strictly again: garbage between segments,
parameters of a scan that a baseline file must ignore, padding before the end marker, the end marker itself.

Colour profiles and gamma are ignored. Samples of 16 bits keep their high byte, which is exact for what was 8 bits once and
less than one level low for the rest. Alpha is composited on white, of animations the first frame is taken.
Not here: where things lie (`headers`), other formats (`exotic`), sizes and orientation (`image`). Importing it silences
OpenCV's log and Pillow's warnings, which tell the terminal of broken files, keeps OpenCV to the calling thread, and sets
Pillow's limits, for the whole process.
"""

import math
import re
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, PngImagePlugin

from pipelines.media.headers import JpegLayout, Layout, PngLayout, WebpLayout
from schemas.reasons import Reason, Refused

RGB: TypeAlias = npt.NDArray[np.uint8]  # [height, width, 3], contiguous

HARD_MAX_PIXELS = 1 << 29
"""No setting may allow more pixels than this. Pillow's own guard, which stands behind ours, is set to the same."""

_MAX_SCANNED_PIXELS = 2_000_000_000
"""Pixels times scans of a JPEG: 100 megapixels in 20 scans. An empty scan costs 0.4 ns a pixel and eight bytes of body."""

_BAND_ROWS = 64
_JFIF = b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_JPEG_NEEDED = b"\xc0\xc1\xc2\xc9\xca\xc4\xcc\xdb\xdd"  # markers: frames, tables for codes and quanta, restarts
_JPEG_START = b"\xff\xd8"
_JPEG_END = b"\xff\xd9"
_JPEG_PADDING = re.compile(r"(\d+) extraneous bytes before marker 0xd9$")
_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"

cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
cv2.setNumThreads(1)
Image.MAX_IMAGE_PIXELS = HARD_MAX_PIXELS
PngImagePlugin.MAX_TEXT_CHUNK = 1 << 20  # bytes; none reaches Pillow from here, but icons and others may hold a PNG
PngImagePlugin.MAX_TEXT_MEMORY = 1 << 24  # bytes
warnings.filterwarnings("ignore", module=r"PIL\.")  # what matters arrives as a reason


def decode(body: bytes, layout: Layout, *, min_width: int, min_height: int) -> tuple[RGB, float]:
    """The pixels and their scale: 1 but for a JPEG of which less suffices for `min_width` by `min_height` stored pixels.

    A scaled picture has its sides rounded up: its last row and column may reach over the edge of what is stored.
    """
    match layout:
        case JpegLayout():
            return _decode_jpeg(body, layout, _jpeg_scale(layout, min_width, min_height))
        case PngLayout():
            return _decode_png(body, layout), 1.0
        case WebpLayout():
            return _decode_webp(body, layout), 1.0
    raise TypeError(f"no decoder here for {type(layout).__name__}; expected the layout of a JPEG, a PNG or a WebP")


def on_white(pixels: npt.NDArray[np.uint8], *, conversion: int = cv2.COLOR_RGBA2RGB) -> RGB:
    """Composite `[height, width, 4]` on white: 255 - (255 - c) * a / 255, rounded to the nearest, which no tie disturbs.

    In bands, so that no more than the picture and its result is held. `conversion` is OpenCV's, from the order of `pixels`.
    """
    rgb: RGB = np.asarray(cv2.cvtColor(pixels, conversion), np.uint8)
    if pixels[:, :, 3].min() == 255:
        return rgb
    for top in range(0, len(rgb), _BAND_ROWS):
        band, alpha = rgb[top : top + _BAND_ROWS], pixels[top : top + _BAND_ROWS, :, 3]
        cv2.bitwise_not(band, dst=band)
        cv2.multiply(band, cv2.merge((alpha, alpha, alpha)), dst=band, scale=1 / 255)
        cv2.bitwise_not(band, dst=band)
    return rgb


def gray_to_rgb(gray: npt.NDArray[np.uint8]) -> RGB:
    """`[height, width]` in three equal channels."""
    return np.asarray(cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB))


def rgba_of(image: Image.Image) -> npt.NDArray[np.uint8]:
    """`[height, width, 4]`, without Pillow's copy of what is RGBA already."""
    return np.asarray(image if image.mode == "RGBA" else image.convert("RGBA"))


def by_pillow(body: bytes, pillow_format: str, *, load: bool = True) -> Image.Image:
    """Open `body` as nothing but `pillow_format`, and decode it. Whatever its parsers raise becomes a reason."""
    try:
        image = Image.open(BytesIO(body), formats=(pillow_format,))
        if load:
            image.load()
    except MemoryError:  # says more of this process than of the picture
        raise
    except Image.DecompressionBombError as error:
        raise Refused(Reason.DECODE_BOMB, pillow_format.lower()) from error
    except Exception as error:  # Pillow's parsers raise a dozen types, from KeyError to SyntaxError
        if "memory" in str(error):
            raise MemoryError(str(error)) from error
        is_cut = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise Refused(Reason.DECODE_TRUNCATED if is_cut else Reason.DECODE_CORRUPT, pillow_format.lower()) from error
    return image


def _jpeg_scale(layout: JpegLayout, min_width: int, min_height: int) -> float:
    """The smallest of libjpeg's scales that suffices, without the row and column that may reach over the edge.

    Scales between a half and one lack SIMD code, so they lose time; pictures smaller than two blocks would lose their shape.
    """
    for eighths in (1, 2, 3, 4):
        is_enough = layout.width * eighths >= 8 * min_width and layout.height * eighths >= 8 * min_height
        if is_enough and min(layout.width, layout.height) >= 16:
            return eighths / 8
    return 1.0


def _decode_jpeg(body: bytes, layout: JpegLayout, scale: float) -> tuple[RGB, float]:
    """Strictly as it came, then with a clean header, then with a clean end."""
    if layout.scans * layout.width * layout.height > _MAX_SCANNED_PIXELS:
        raise Refused(Reason.DECODE_BOMB, "jpeg.scans")
    with suppress(ValueError):
        return _jpeg_strictly(body, layout, scale), scale
    header, scans = _clean_header(body, layout), body[layout.segments[-1].end :]
    try:
        return _jpeg_strictly(header + scans, layout, scale), scale
    except ValueError as error:
        complaint = str(error)
    if "subsampling" in complaint:  # TurboJPEG refuses what is none of its seven kinds, libjpeg behind Pillow takes all
        return np.asarray(by_pillow(header + scans, "JPEG").convert("RGB")), 1.0
    try:
        return _jpeg_strictly(header + _clean_end(scans, layout, complaint), layout, scale), scale
    except ValueError as error:
        raise _jpeg_refusal(scans, str(error)) from error


def _jpeg_strictly(body: bytes, layout: JpegLayout, scale: float) -> RGB:
    """Decode; `ValueError` if libjpeg has anything to say."""
    height, width, *_ = simplejpeg.decode_jpeg_header(body)
    if (width, height) != (layout.width, layout.height):  # the limits were judged on our own reading
        raise Refused(Reason.DECODE_CORRUPT, "jpeg.size")
    is_cmyk = layout.components == 4
    pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(
        body,
        "CMYK" if is_cmyk else "RGB",
        min_width=math.ceil(width * scale),
        min_height=math.ceil(height * scale),
        min_factor=2,
    )
    if not is_cmyk:
        return pixels
    # Inks are stored inverted, as Adobe does and every browser assumes. simplejpeg's own conversion is one level off.
    black = pixels[:, :, 3]
    return np.asarray(cv2.multiply(pixels[:, :, :3].copy(), cv2.merge((black, black, black)), scale=1 / 255))


def _clean_header(body: bytes, layout: JpegLayout) -> bytes:
    """Nothing but what decodes the scans behind it, and JFIF's and Adobe's marks, which say what its colours are."""
    *segments, scan = layout.segments
    parts = [_JPEG_START]
    for segment in segments:
        content = body[segment.start : segment.end]
        if segment.kind == b"\xe0" and content[4:9] == b"JFIF\0":
            parts.append(_JFIF)
        elif segment.kind in _JPEG_NEEDED or _is_adobe(content):
            parts.append(content)
    head = body[scan.start : scan.end]
    if not layout.is_progressive and len(head) >= 10:
        head = head[:-3] + b"\x00\x3f\x00"  # some cameras write zeros here, though one pass has but one way to go
    return b"".join((*parts, head))


def _is_adobe(content: bytes) -> bool:
    return content[:2] == b"\xff\xee" and content[4:9] == b"Adobe" and len(content) >= 16


def _clean_end(scans: bytes, layout: JpegLayout, complaint: str) -> bytes:
    """Without padding before the end marker; with that marker, where a file of one pass lacks no more."""
    padding = _JPEG_PADDING.search(complaint)
    if padding:
        end = scans.find(_JPEG_END)
        start = end - int(padding[1])
        if start >= 0 and len(set(scans[start:end])) == 1:
            return scans[:start] + _JPEG_END
    elif complaint.startswith("Premature end of JPEG file") and layout.scans == 1:
        return scans + _JPEG_END
    raise _jpeg_refusal(scans, complaint)


def _jpeg_refusal(scans: bytes, complaint: str) -> Refused:
    if "memory" in complaint.lower():
        raise MemoryError(complaint)
    is_cut = "premature end" in complaint.lower() or _JPEG_END not in scans
    return Refused(Reason.DECODE_TRUNCATED if is_cut else Reason.DECODE_CORRUPT, "jpeg")


def _decode_png(body: bytes, layout: PngLayout) -> RGB:
    """Pillow sees only the chunks that make the picture, their checksums tested: it would skip those of the pixels."""
    for chunk in layout.chunks:
        data_end = chunk.end - 4
        checksum = int.from_bytes(body[data_end : chunk.end], "big")
        if zlib.crc32(memoryview(body)[chunk.start + 4 : data_end]) != checksum:
            raise Refused(Reason.DECODE_CORRUPT, "png.checksum")
    clean = b"".join((_PNG_START, *(body[chunk.start : chunk.end] for chunk in layout.chunks), _PNG_END))
    image = by_pillow(clean, "PNG")
    key = image.info.pop("transparency", None)
    match layout.color_type:
        case 0:
            return _png_gray(image, layout.bit_depth, key)
        case 2:
            return _png_color(image, layout.bit_depth, key)
        case 3 if key is None:
            return np.asarray(image.convert("RGB"))
        case 3:
            image.info["transparency"] = key  # a table of alphas, which Pillow reads right
    return on_white(rgba_of(image))


def _png_gray(image: Image.Image, bit_depth: int, key: int | None) -> RGB:
    """`key` is the sample that is transparent, in the file's own depth, which Pillow forgets when it scales to 8 bits."""
    if bit_depth == 16:
        samples = np.asarray(image)
        gray = (samples >> 8).astype(np.uint8)
        return gray_to_rgb(gray if key is None else np.where(samples == key, np.uint8(255), gray))
    gray = np.asarray(image.convert("L"))
    key = None if key is None else key * 255 // ((1 << bit_depth) - 1)
    return gray_to_rgb(gray if key is None else np.where(gray == key, np.uint8(255), gray))


def _png_color(image: Image.Image, bit_depth: int, key: tuple[int, int, int] | None) -> RGB:
    """`key` is the transparent colour; of 16-bit samples Pillow keeps the high byte, so the same is done to the key."""
    rgb = np.asarray(image)
    if key is None:
        return rgb
    shown = np.array([sample >> (bit_depth - 8) for sample in key])
    return np.where((rgb == shown).all(axis=2, keepdims=True), np.uint8(255), rgb)


def _decode_webp(body: bytes, layout: WebpLayout) -> RGB:
    """OpenCV takes half the time of Pillow, which goes through the decoder for animations in any case."""
    pixels = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.shape[:2] != (layout.height, layout.width):
        raise Refused(Reason.DECODE_CORRUPT, "webp")
    if pixels.shape[2] == 4:
        return on_white(np.asarray(pixels), conversion=cv2.COLOR_BGRA2RGB)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
