"""Headers: formats by their bytes, sizes as displayed, orientation from wherever it stands, and no work without end."""

import io
import struct
import time
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from pipelines.media.headers import read_jpeg, read_png, read_webp
from pipelines.media.image import ImageFormat, read_header, sniff
from schemas.reasons import Refused

_PIXELS = 20_000_000


def encoded(image_format: str, size: tuple[int, int] = (30, 20), **settings: object) -> bytes:
    body = io.BytesIO()
    Image.new("RGB", size, "navy").save(body, image_format, **settings)
    return body.getvalue()


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def a_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def a_segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.parametrize(
    ("pillow_format", "expected"),
    [
        ("JPEG", ImageFormat.JPEG),
        ("PNG", ImageFormat.PNG),
        ("WEBP", ImageFormat.WEBP),
        ("GIF", ImageFormat.GIF),
        ("BMP", ImageFormat.BMP),
        ("TIFF", ImageFormat.TIFF),
        ("AVIF", ImageFormat.AVIF),
        ("ICO", ImageFormat.ICO),
        ("JPEG2000", ImageFormat.JPEG2000),
        ("PPM", ImageFormat.PNM),
    ],
)
def test_formats_are_told_by_their_bytes(pillow_format: str, expected: ImageFormat) -> None:
    body = encoded(pillow_format, (32, 32))
    assert sniff(body) is expected
    header = read_header(body, max_pixels=_PIXELS)
    assert (header.format, header.width, header.height) == (expected, 32, 32)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"<!doctype html><html><img src=x.jpg>", "markup"),
        (b"\xef\xbb\xbf\n <svg xmlns='http://www.w3.org/2000/svg'/>", "markup"),
        (b'  {"error": "not found"}', "json"),
        (b"%PDF-1.7\n", "pdf"),
        (b"PK\x03\x04rest", "zip"),
        (b"\x1f\x8b\x08rest", "gzip"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "heif"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isomavc1", "video"),
        (b"\x1aE\xdf\xa3webm", "video"),
        (b"\xff\x0arest", "jxl"),
        (b"8BPS\0\1", "psd"),
        (b"BMW is a maker of cars and motorcycles", "unknown"),
        (b"Not found", "unknown"),
        (b"\xff\xd8", "unknown"),
        (b"\0", "unknown"),
    ],
)
def test_what_is_no_picture_is_unsupported(body: bytes, name: str) -> None:
    with pytest.raises(Refused, match=rf"^decode\.unsupported {name}$"):
        read_header(body, max_pixels=_PIXELS)


def test_an_empty_body_is_a_reason() -> None:
    with pytest.raises(Refused, match=r"^body\.empty$"):
        read_header(b"", max_pixels=_PIXELS)


def test_an_avif_is_told_from_a_heif_by_any_of_its_brands() -> None:
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1miafavif") is ImageFormat.AVIF


def test_sizes_agree_with_pillow(shared_fixtures: Path) -> None:
    files = sorted((shared_fixtures / "images/good").iterdir())
    assert files
    for file in files:
        body = file.read_bytes()
        witness = ImageOps.exif_transpose(Image.open(io.BytesIO(body)))
        header = read_header(body, max_pixels=_PIXELS)
        assert (header.width, header.height) == witness.size, file.name


@pytest.mark.parametrize("orientation", [0, 1, 3, 6, 8, 9])
@pytest.mark.parametrize("order", ["little", "big"])
def test_exif_is_read_in_both_byte_orders(order: str, orientation: int) -> None:
    mark = "<" if order == "little" else ">"
    entries = [(0x010F, 2, 4, b"Emu\0"), (0x0112, 3, 1, struct.pack(mark + "HH", orientation, 0))]
    directory = b"".join(struct.pack(mark + "HHI", *entry[:3]) + entry[3] for entry in entries)
    tiff = (b"II*\0" if order == "little" else b"MM\0*") + struct.pack(mark + "IH", 8, len(entries)) + directory
    body = encoded("JPEG")
    expected = orientation if 1 <= orientation <= 8 else 1
    with_exif = body[:2] + a_segment(0xE1, b"Exif\0\0" + tiff) + body[2:]
    assert read_jpeg(with_exif).orientation == expected
    png = encoded("PNG")
    assert read_png(png[:-12] + a_chunk(b"eXIf", tiff) + png[-12:]).orientation == expected


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_broken_exif_costs_no_picture(cut: int) -> None:
    body = encoded("JPEG")
    with_exif = body[:2] + a_segment(0xE1, exif_of(6)[:cut]) + body[2:]
    assert read_jpeg(with_exif).orientation in (1, 6)


@pytest.mark.parametrize("xmp", [b'<a tiff:Orientation="6"/>', b"<tiff:Orientation>6</tiff:Orientation>"])
def test_xmp_is_asked_where_exif_says_nothing(xmp: bytes) -> None:
    xmp_segment = a_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    jpeg, png = encoded("JPEG"), encoded("PNG")
    assert read_jpeg(jpeg[:2] + xmp_segment + jpeg[2:]).orientation == 6
    both = jpeg[:2] + xmp_segment + a_segment(0xE1, exif_of(3)) + jpeg[2:]
    assert read_jpeg(both).orientation == 3
    plain = a_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    packed = a_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp))
    for chunk in (plain, packed):
        assert read_png(png[:33] + chunk + png[33:]).orientation == 6
    assert read_webp(encoded("WEBP", xmp=xmp)).orientation == 6


def test_imagemagick_profiles_are_read() -> None:
    png, exif = encoded("PNG"), exif_of(8)
    profile = b"\nexif\n%8d\n" % len(exif) + exif.hex().encode() + b"\n"
    for chunk in (
        a_chunk(b"tEXt", b"Raw profile type exif\0" + profile),
        a_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile)),
    ):
        assert read_png(png[:33] + chunk + png[33:]).orientation == 8
    broken = a_chunk(b"zTXt", b"Raw profile type exif\0\0not zlib")
    assert read_png(png[:33] + broken + png[33:]).orientation == 1


def test_a_text_bomb_is_not_unpacked() -> None:
    png = encoded("PNG")
    bomb = a_chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b" " * 100_000_000 + b'tiff:Orientation="6"')
    )
    started = time.process_time()
    assert read_png(png[:33] + bomb + png[33:]).orientation == 1
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize(
    "filler",
    [
        b"\xff\xfe\x00\x02" * 2_500_000,  # comments of no length
        b"\xff\xd0" * 5_000_000,  # restarts
        b"\xff\x00" * 5_000_000,  # stuffed bytes
        b"\xff" * 10_000_000,
        b"\x00" * 10_000_000,
    ],
)
def test_endless_jpeg_headers_end_soon(filler: bytes) -> None:
    jpeg = encoded("JPEG")
    started = time.process_time()
    with pytest.raises(Refused, match=r"^decode\.corrupt jpeg\.(segments|header)$"):
        read_header(jpeg[:2] + b"\xff" + filler + jpeg[2:], max_pixels=_PIXELS)
    assert time.process_time() - started < 0.3


def test_endless_chunks_end_soon() -> None:
    png = encoded("PNG")
    started = time.process_time()
    with pytest.raises(Refused, match=r"^decode\.corrupt png\.chunks$"):
        read_header(png[:33] + a_chunk(b"teXt", b"") * 800_000, max_pixels=_PIXELS)
    assert time.process_time() - started < 1


def test_header_claims_are_checked() -> None:
    jpeg, png, webp = encoded("JPEG"), encoded("PNG"), encoded("WEBP")
    frame = jpeg.index(b"\xff\xc0")
    cases = {
        jpeg[: frame + 4] + b"\x0c" + jpeg[frame + 5 :]: "decode.unsupported jpeg.precision",
        jpeg[: frame + 1] + b"\xc3" + jpeg[frame + 2 :]: "decode.unsupported jpeg.process",
        jpeg[: frame + 9] + b"\x02" + jpeg[frame + 10 :]: "decode.unsupported jpeg.components",
        jpeg[: frame + 5] + b"\0\0" + jpeg[frame + 7 :]: "decode.corrupt jpeg.size",
        jpeg[:2] + b"\xff\xd9" + jpeg[2:]: "decode.corrupt jpeg.marker",
        jpeg[:2] + b"\xff\xfe\x00\x01" + jpeg[2:]: "decode.corrupt jpeg.segment",
        jpeg[: frame + 3]: "decode.truncated jpeg.header",
        png[:24] + b"\x03" + png[25:]: "decode.corrupt png.header",
        png[:16] + b"\0\0\0\0" + png[20:]: "decode.corrupt png.size",
        png[:8] + a_chunk(b"CgBI", b"\0\0\0\0") + png[8:]: "decode.unsupported png.header",
        png[:33]: "decode.truncated png.pixels",
        png[:33] + a_chunk(b"IEND", b""): "decode.corrupt png.pixels",
        png[:20]: "decode.truncated png.chunk",
        webp[:-8]: "decode.truncated webp",
        b"RIFF\x04\0\0\0WEBP": "decode.corrupt webp.pixels",
    }
    for body, said in cases.items():
        with pytest.raises(Refused) as caught:
            read_header(body, max_pixels=_PIXELS)
        assert str(caught.value) == said


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, which the module silences outside of pytest
def test_reasons_of_headers_are_final(shared_fixtures: Path) -> None:
    """The same bytes would be refused again, so nobody is asked for them twice."""
    reasons = set()
    for file in sorted((shared_fixtures / "images/hostile").iterdir()):
        try:
            read_header(file.read_bytes(), max_pixels=_PIXELS)
        except Refused as refused:
            reasons.add(refused.refusal.reason)
    assert len(reasons) > 3
    assert not any(reason.retryable for reason in reasons)
