"""One picture of any origin: what its header says, and its pixels turned, sized and encoded as a recipe wants them.

`render`, in order: sniff the magic bytes, read the header, refuse what is too large, decode at a sufficient scale, resize, turn
by orientation, cut or pad, hash, encode. It runs in the calling thread; decoders, resizers and encoders let go of the GIL.

Equal bytes and settings give equal results, whatever the thread, process or CPU: of OpenCV's resizers those are taken whose
results do not depend on its SIMD code (INTER_AREA down; INTER_LANCZOS4 up, as img2dataset has it, where INTER_CUBIC would), and
libjpeg's exact integer transforms. Results are 8-bit RGB without EXIF, profile or time. ICC profiles of the input are ignored.

Not here: containers (`headers`), decoders (`pixels`, `exotic`), processes and their limits (`decoder`), what to do with small
or narrow pictures (the steps).
"""

import re
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np
import simplejpeg

from pipelines.media import exotic, headers, pixels
from pipelines.media.headers import ExoticLayout, Layout
from pipelines.media.phash import perceptual_hash
from pipelines.media.pixels import RGB
from schemas.reasons import Reason, Refused


class ImageFormat(StrEnum):
    """What is decoded, recognized by its first bytes."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    BMP = "bmp"
    TIFF = "tiff"
    AVIF = "avif"
    ICO = "ico"
    JPEG2000 = "jp2"
    PNM = "pnm"

    @property
    def is_common(self) -> bool:
        """Whether this process may decode it: its parsers are ours and its library is in every browser."""
        return self in (ImageFormat.JPEG, ImageFormat.PNG, ImageFormat.WEBP)


class OutputFormat(StrEnum):
    """What is encoded."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"

    @property
    def extension(self) -> str:
        """The ending of a member that holds it, without a dot."""
        return "jpg" if self is OutputFormat.JPEG else self.value


class ResizeMode(StrEnum):
    """How a picture gets its size, by the names that img2dataset's users know; `fixed` and `no` are said in words here.

    `only_if_bigger` leaves a picture as it is, neither cut nor padded, unless the side that the mode goes by exceeds the target.
    """

    KEEP_RATIO = "keep_ratio"  # the shorter side becomes the target
    CENTER_CROP = "center_crop"  # the same, then the square in the middle is cut out
    BORDER = "border"  # the longer side becomes the target, then white fills up a square
    STRETCH = "stretch"  # both sides become the target; goes by the longer one
    NONE = "none"  # only turned and encoded


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a picture is before it is decoded. Sizes in pixels as displayed, that is, after orientation."""

    format: ImageFormat
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderSpec:
    """How pictures are rendered."""

    mode: ResizeMode
    side_pixels: int
    """The target of `mode`, 1 to 65,500."""
    only_if_bigger: bool
    """Never enlarge; see `ResizeMode`."""
    format: OutputFormat
    quality: int
    """1 to 100 for JPEG and WebP, which is lossy here at 100, too. PNG has none: it is compressed at zlib's level 6."""
    max_pixels: int
    """What a header, or the resized picture, may have at most; the limit of limits is 2^29."""

    def __post_init__(self) -> None:
        bounds = {"side_pixels": _MAX_SIDE[OutputFormat.JPEG], "quality": 100, "max_pixels": pixels.HARD_MAX_PIXELS}
        for name, most in bounds.items():
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 to {most}")


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered picture: the encoded bytes, their size in pixels, and the unsigned 64-bit hash of what was encoded."""

    payload: bytes
    width: int
    height: int
    phash: int


def sniff(body: bytes) -> ImageFormat:
    """What the first bytes say. Raises `Refused`, with the name of what else was recognized."""
    if not body:
        raise Refused(Reason.BODY_EMPTY)
    for image_format, magic in _MAGIC.items():
        if magic.match(body):
            return image_format
    other = next((name for name, magic in _OTHER_MAGIC.items() if magic.match(body)), "unknown")
    raise Refused(Reason.DECODE_UNSUPPORTED, other)


def read_header(body: bytes, *, max_pixels: int) -> ImageHeader:
    """Format and displayed size. Raises `Refused`: unsupported, truncated, corrupt, or more pixels than allowed (bomb)."""
    image_format, layout = read_layout(body, max_pixels=max_pixels)
    return ImageHeader(image_format, *layout.displayed)


def read_layout(body: bytes, *, max_pixels: int) -> tuple[ImageFormat, Layout]:
    """Format and layout, for callers that go on to decode. Raises `Refused` as `read_header` does."""
    image_format = sniff(body)
    match image_format:
        case ImageFormat.JPEG:
            layout: Layout = headers.read_jpeg(body)
        case ImageFormat.PNG:
            layout = headers.read_png(body)
        case ImageFormat.WEBP:
            layout = headers.read_webp(body)
        case _:
            layout = exotic.read_exotic(body, _PILLOW_NAMES[image_format])
    if layout.width < 1 or layout.height < 1:
        raise Refused(Reason.DECODE_CORRUPT, f"{image_format}.size")
    if layout.width * layout.height > max_pixels:
        raise Refused(Reason.DECODE_BOMB, f"pixels>{max_pixels}")
    return image_format, layout


def render(body: bytes, spec: RenderSpec, *, layout: Layout | None = None) -> Rendered:
    """Decode, resize, turn, hash and encode one picture in this thread; `layout`, if the caller has read it already.

    Raises `Refused`, and for no bytes anything else but `MemoryError`, which says something of this process.
    """
    if layout is None:
        _, layout = read_layout(body, max_pixels=spec.max_pixels)
    plan = _plan(*layout.displayed, spec)
    is_turned = layout.orientation >= 5  # stored and displayed sides change places
    width, height = plan.resized[::-1] if is_turned else plan.resized
    if isinstance(layout, ExoticLayout):
        rgb, scale = exotic.decode_exotic(body, layout), 1.0
    else:
        rgb, scale = pixels.decode(body, layout, min_width=width, min_height=height)
    rgb = _shrink(rgb, width, height, covered=(layout.width * scale, layout.height * scale))
    rgb = _fit(_turn(_enlarge(rgb, width, height), layout.orientation), *plan.final)
    return Rendered(_encode(rgb, spec), *plan.final, perceptual_hash(rgb))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Width and height in pixels as displayed: what the picture is resized to, and what it is then cut or padded to."""

    resized: tuple[int, int]
    final: tuple[int, int]


def _plan(width: int, height: int, spec: RenderSpec) -> _Plan:
    side = spec.side_pixels
    goes_by_longer = spec.mode in (ResizeMode.BORDER, ResizeMode.STRETCH)
    measured = max(width, height) if goes_by_longer else min(width, height)
    if spec.mode is ResizeMode.NONE or (spec.only_if_bigger and measured <= side):
        resized = final = width, height
    elif spec.mode is ResizeMode.STRETCH:
        resized = final = side, side
    else:
        resized = _scaled(width, side, measured), _scaled(height, side, measured)
        final = resized if spec.mode is ResizeMode.KEEP_RATIO else (side, side)
    for shape in (resized, final):  # a line of 1 by 10,000 pixels would grow to a bomb of its own
        if shape[0] * shape[1] > spec.max_pixels:
            raise Refused(Reason.DECODE_BOMB, f"output.pixels>{spec.max_pixels}")
    if max(final) > _MAX_SIDE[spec.format]:
        raise Refused(Reason.DECODE_UNSUPPORTED, f"output.side>{_MAX_SIDE[spec.format]}")
    return _Plan(resized, final)


def _scaled(length: int, target: int, measured: int) -> int:
    """`length` times `target / measured`, halves rounded up, at least 1."""
    return max(1, (2 * length * target + measured) // (2 * measured))


def _shrink(rgb: RGB, width: int, height: int, *, covered: tuple[float, float]) -> RGB:
    """Average areas along the sides that shrink; the others keep their length, for INTER_AREA averages only if neither grows.

    `covered` says how many columns and rows of `rgb` the picture takes up: the last ones of a scaled JPEG may reach over its
    edge. OpenCV is given the exact factors, so that this stretches nothing, and what comes of the overhang is cut off.
    """
    factors = min(1.0, width / covered[0]), min(1.0, height / covered[1])
    if factors != (1.0, 1.0):
        rgb = np.asarray(cv2.resize(rgb, None, fx=factors[0], fy=factors[1], interpolation=cv2.INTER_AREA), np.uint8)
    return rgb[:height, :width]


def _enlarge(rgb: RGB, width: int, height: int) -> RGB:
    if (rgb.shape[1], rgb.shape[0]) == (width, height):
        return rgb
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_LANCZOS4), np.uint8)


def _turn(rgb: RGB, orientation: int) -> RGB:
    """Undo what EXIF's `orientation` says was done: 1 is upright, 6 was stored a quarter turn to the left."""
    if orientation in (5, 7):  # mirrored along a diagonal
        rgb = np.asarray(cv2.transpose(rgb), np.uint8)
    match orientation:
        case 2:
            return np.asarray(cv2.flip(rgb, 1), np.uint8)
        case 3 | 7:
            return np.asarray(cv2.rotate(rgb, cv2.ROTATE_180), np.uint8)
        case 4:
            return np.asarray(cv2.flip(rgb, 0), np.uint8)
        case 6:
            return np.asarray(cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE), np.uint8)
        case 8:
            return np.asarray(cv2.rotate(rgb, cv2.ROTATE_90_COUNTERCLOCKWISE), np.uint8)
    return rgb


def _fit(rgb: RGB, width: int, height: int) -> RGB:
    """Cut what exceeds `width` by `height` and pad what lacks with white, both around the middle."""
    top, left = (max(0, rgb.shape[0] - height) // 2, max(0, rgb.shape[1] - width) // 2)
    rgb = np.ascontiguousarray(rgb[top : top + height, left : left + width])
    lack_y, lack_x = height - rgb.shape[0], width - rgb.shape[1]
    if not lack_y and not lack_x:
        return rgb
    edges = lack_y // 2, lack_y - lack_y // 2, lack_x // 2, lack_x - lack_x // 2
    return np.asarray(cv2.copyMakeBorder(rgb, *edges, cv2.BORDER_CONSTANT, value=(255, 255, 255)), np.uint8)


def _encode(rgb: RGB, spec: RenderSpec) -> bytes:
    """JPEG halves the resolution of colour (4:2:0), as nearly all its sources did and OpenCV, so img2dataset, does.

    Full resolution (4:4:4) takes a seventh more bytes and 1.6 times the time at quality 95, and gives most sources nothing back.
    """
    if spec.format is OutputFormat.JPEG:
        return bytes(simplejpeg.encode_jpeg(rgb, quality=spec.quality, colorspace="RGB", colorsubsampling="420"))
    settings = {
        OutputFormat.PNG: [cv2.IMWRITE_PNG_COMPRESSION, 6],
        OutputFormat.WEBP: [cv2.IMWRITE_WEBP_QUALITY, spec.quality],
    }[spec.format]
    is_encoded, payload = cv2.imencode(f".{spec.format}", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)
    if not is_encoded:
        raise ValueError(f"OpenCV did not encode {rgb.shape[1]} by {rgb.shape[0]} pixels as {spec.format}")
    return payload.tobytes()


# What the encoders take: libjpeg's and libwebp's own limits in pixels, and the one that libpng sets for itself.
_MAX_SIDE = {OutputFormat.JPEG: 65_500, OutputFormat.WEBP: 16_383, OutputFormat.PNG: 1_000_000}

_BMP_HEADER_BYTES = (
    rb"[\x0c\x10\x28\x34\x38\x40\x6c\x7c]\0\0\0"  # two letters alone would take many a text for a picture
)
_MAGIC = {
    image_format: re.compile(magic, re.DOTALL)
    for image_format, magic in {
        ImageFormat.JPEG: rb"\xff\xd8\xff",
        ImageFormat.PNG: rb"\x89PNG\r\n\x1a\n",
        ImageFormat.WEBP: rb"RIFF....WEBP",
        ImageFormat.GIF: rb"GIF8[79]a",
        ImageFormat.BMP: rb"BM.{12}" + _BMP_HEADER_BYTES,
        ImageFormat.TIFF: rb"II[*+]\0|MM\0[*+]",
        ImageFormat.AVIF: rb"....ftyp(?:avi[fs]|.{8}(?:.{4}){0,15}?avi[fs])",
        ImageFormat.ICO: rb"\x00\x00\x01\x00",
        ImageFormat.JPEG2000: rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
        ImageFormat.PNM: rb"P[1-6][\s#]",
    }.items()
}
_OTHER_MAGIC = {
    name: re.compile(magic, re.DOTALL)
    for name, magic in {
        "markup": rb"(?:\xef\xbb\xbf)?\s*<",  # HTML, XML, SVG
        "json": rb"(?:\xef\xbb\xbf)?\s*[{\[]",
        "pdf": rb"%PDF",
        "zip": rb"PK[\x03\x05]",
        "gzip": rb"\x1f\x8b",
        "heif": rb"....ftyp(?:hei|hev|mif1|msf1)",
        "video": rb"....ftyp|\x1aE\xdf\xa3|RIFF....AVI ",
        "jxl": rb"\xff\x0a|\0\0\0\x0cJXL ",
        "psd": rb"8BPS",
    }.items()
}
_PILLOW_NAMES = {
    ImageFormat.GIF: "GIF",
    ImageFormat.BMP: "BMP",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.AVIF: "AVIF",
    ImageFormat.ICO: "ICO",
    ImageFormat.JPEG2000: "JPEG2000",
    ImageFormat.PNM: "PPM",
}
