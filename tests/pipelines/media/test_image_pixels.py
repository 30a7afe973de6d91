"""Decoders: exact samples of every kind of file, and the strictness that libraries lack."""

import io
import struct
import zlib
from itertools import product
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from PIL import Image

from pipelines.media import exotic, pixels
from pipelines.media.headers import ExoticLayout, Layout, read_jpeg, read_png, read_webp
from schemas.reasons import Refused

Pixels = npt.NDArray[np.uint8]
_READERS = {b"\xff\xd8": read_jpeg, b"\x89P": read_png, b"RI": read_webp}


def layout_of(body: bytes) -> Layout:
    return _READERS[body[:2]](body)


def decoded(body: bytes) -> Pixels:
    layout = layout_of(body)
    rgb, scale = pixels.decode(body, layout, min_width=layout.width, min_height=layout.height)
    assert scale == 1
    return rgb


def attempted(body: bytes) -> Pixels | str:
    """The picture, or the reason against it."""
    try:
        return decoded(body)
    except Refused as refused:
        return str(refused)


def encoded(image: Image.Image, image_format: str, **settings: object) -> bytes:
    body = io.BytesIO()
    image.save(body, image_format, **settings)
    return body.getvalue()


def a_photo(size: tuple[int, int] = (96, 64)) -> Image.Image:
    noise = np.random.default_rng(7).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def a_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunk(png: bytes, kind: bytes, data: bytes) -> bytes:
    """`png` with a chunk right before its pixels."""
    at = png.index(b"IDAT") - 4
    return png[:at] + a_chunk(kind, data) + png[at:]


def gray_png(samples: npt.NDArray[np.integer], bit_depth: int) -> bytes:
    """A gray PNG of any depth, unfiltered."""
    height, width = samples.shape
    bits = np.unpackbits(samples.astype(">u2").view(np.uint8).reshape(height, width, 2), axis=2)[:, :, -bit_depth:]
    rows = np.packbits(bits.reshape(height, -1), axis=1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", width, height, bit_depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + a_chunk(b"IHDR", head) + a_chunk(b"IDAT", zlib.compress(raw)) + a_chunk(b"IEND", b"")


# JPEG


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 2}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_jpegs_decode_as_libjpeg_does(mode: str, settings: dict[str, object]) -> None:
    body = encoded(a_photo().convert(mode), "JPEG", quality=90, **settings)
    assert np.array_equal(decoded(body), np.asarray(Image.open(io.BytesIO(body)).convert("RGB")))


def test_inverted_inks_are_multiplied_exactly() -> None:
    body = encoded(a_photo().convert("CMYK"), "JPEG", quality=95)
    inks = simplejpeg.decode_jpeg(body, "CMYK").astype(int)
    assert np.array_equal(decoded(body), (2 * inks[:, :, :3] * inks[:, :, 3:] + 255) // 510)
    assert np.abs(decoded(body).astype(int) - np.asarray(a_photo())).mean() < 3


def test_a_cmyk_fixture_looks_as_pillow_shows_it(shared_fixtures: Path) -> None:
    body = (shared_fixtures / "images/good/pillow_pil_sample_cmyk.jpg").read_bytes()
    witness = np.asarray(Image.open(io.BytesIO(body)).convert("RGB")).astype(int)
    assert np.abs(decoded(body) - witness).max() <= 1


def test_a_scale_is_the_smallest_that_suffices() -> None:
    body = encoded(a_photo((801, 400)), "JPEG", quality=90)
    layout = layout_of(body)
    for wanted, expected in [
        (1, 101),
        (100, 101),
        (101, 201),
        (200, 201),
        (300, 301),
        (400, 401),
        (401, 801),
        (801, 801),
    ]:
        rgb, scale = pixels.decode(body, layout, min_width=wanted, min_height=1)
        assert rgb.shape[1] == expected == -(-801 * scale // 1)
        assert 801 * scale >= wanted


@pytest.mark.parametrize("side", [1, 2, 7, 15])
def test_small_jpegs_are_decoded_in_full(side: int) -> None:
    """Made smaller by its header alone, so that its blocks do not average to what is seen of them."""
    blocks = 8 if side <= 8 else 16
    body = encoded(a_photo((16, 16)).crop((0, 0, blocks, blocks)), "JPEG", quality=95, subsampling=0)
    frame = body.index(b"\xff\xc0")
    small = body[: frame + 5] + struct.pack(">HH", side, side) + body[frame + 9 :]
    rgb, scale = pixels.decode(small, layout_of(small), min_width=1, min_height=1)
    assert scale == 1
    assert np.array_equal(rgb, decoded(body)[:side, :side])


@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_a_cut_jpeg_is_refused_or_whole(settings: dict[str, object]) -> None:
    body = encoded(a_photo(), "JPEG", quality=90, **settings)
    whole = decoded(body)
    for end, tail in product(range(3, len(body), 3), (b"", b"\xff\xd9", bytes(64))):
        outcome = attempted(body[:end] + tail)
        if isinstance(outcome, str):
            assert outcome.startswith(("decode.truncated jpeg", "decode.corrupt jpeg")), (end, tail)
            assert tail or outcome.startswith("decode.truncated"), end
        elif not ("progressive" in settings and tail == b"\xff\xd9"):  # a marker after a whole scan makes a whole file
            assert np.array_equal(outcome, whole), (end, tail)


def test_a_cut_scan_is_truncated_even_behind_an_end_marker() -> None:
    for settings in ({}, {"progressive": True}):
        body = encoded(a_photo(), "JPEG", quality=90, **settings)
        for tail in (b"", b"\xff\xd9"):
            with pytest.raises(Refused, match=r"^decode\.truncated jpeg$"):
                decoded(body[: -len(body) // 3] + tail)


def test_a_progressive_jpeg_without_its_last_scan_is_refused() -> None:
    body = encoded(a_photo(), "JPEG", quality=90, progressive=True)
    with pytest.raises(Refused, match=r"^decode\.truncated jpeg$"):
        decoded(body[: body.rindex(b"\xff\xda")])


def test_what_stands_around_the_pixels_is_mended() -> None:
    body = encoded(a_photo(), "JPEG", quality=90)
    whole = decoded(body)
    scan = body.index(b"\xff\xda")
    scan_end = scan + 2 + int.from_bytes(body[scan + 2 : scan + 4], "big")
    mended = {
        "no end marker": body[:-2],
        "half an end marker": body[:-1],
        "padding before the end": body[:-2] + bytes(500) + b"\xff\xd9",
        "garbage between segments": body[:2] + b"junk" + body[2:],
        "stuffed garbage": body[:20] + b"\xff\x00\xff\x00" + body[20:],
        "scan parameters of zero": body[: scan_end - 3] + b"\0\0\0" + body[scan_end:],
        "a broken profile": body[:20] + b"\xff\xe2\x00\x12ICC_PROFILE\0\x05\x01ab" + body[20:],
        "garbage behind the end": body + b"\xff\xd8\xff trailing" * 9,
        "garbage and no end": body[:2] + b"junk" + body[2:-2],
    }
    for name, variant in mended.items():
        assert variant != body
        assert np.array_equal(decoded(variant), whole), name


def test_arithmetic_codes_are_kept_when_a_header_is_cleaned(shared_fixtures: Path) -> None:
    body = (shared_fixtures / "images/hostile/small_jpeg.jpg").read_bytes()
    assert b"\xff\xc9" in body
    assert np.array_equal(decoded(body[:2] + b"junk" + body[2:]), decoded(body))


def test_padding_that_is_data_is_not_dropped() -> None:
    body = encoded(a_photo(), "JPEG", quality=90)
    with pytest.raises(Refused, match=r"^decode\.corrupt jpeg$"):
        decoded(body[:-2] + bytes(range(1, 200)) + b"\xff\xd9")


def test_restarts_out_of_order_are_corrupt() -> None:
    body = encoded(a_photo(), "JPEG", quality=90, restart_marker_blocks=2)
    at = body.index(b"\xff\xd1")
    with pytest.raises(Refused, match=r"^decode\.corrupt jpeg$"):
        decoded(body[:at] + b"\xff\xd5" + body[at + 2 :])


def test_rare_subsampling_falls_to_pillow() -> None:
    """Chroma of 2x1 and 1x1 beside luma of 2x2: one MCU of six flat blocks and one, whose codes are all zeros and 1010."""
    body = encoded(Image.new("RGB", (16, 16), (128, 128, 128)), "JPEG", subsampling=2)
    frame = body.index(b"\xff\xc0")
    scan = body.index(b"\xff\xda")
    scan_end = scan + 2 + int.from_bytes(body[scan + 2 : scan + 4], "big")
    bits = "001010" * 4 + "0000" * 3 + "1111"
    flat = int(bits, 2).to_bytes(len(bits) // 8, "big")
    rare = body[: frame + 14] + b"\x21" + body[frame + 15 : scan_end] + flat + b"\xff\xd9"
    with pytest.raises(ValueError, match="subsampling"):
        simplejpeg.decode_jpeg(rare)
    assert (decoded(rare) == 128).all()


def test_a_bomb_of_scans_is_refused_before_it_is_decoded() -> None:
    body = encoded(Image.new("RGB", (2000, 2000)), "JPEG", progressive=True)
    last = body[body.rindex(b"\xff\xda") : -2]
    with pytest.raises(Refused, match=r"^decode\.bomb jpeg\.scans$"):
        decoded(body[:-2] + last * 600 + b"\xff\xd9")


def test_scans_of_one_component_each_count_and_decode(shared_fixtures: Path) -> None:
    progressive = [
        file
        for file in sorted((shared_fixtures / "images/good").glob("*.jpg"))
        if (layout := read_jpeg(file.read_bytes())).is_progressive and layout.scans > 1
    ]
    assert len(progressive) > 5
    assert all(read_jpeg(file.read_bytes()).scans < 20 for file in progressive)


# PNG


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8, 16])
def test_gray_of_every_depth_fills_eight_bits(bit_depth: int) -> None:
    most = (1 << bit_depth) - 1
    samples = np.linspace(0, most, 16).round().astype(int).reshape(2, 8)
    expected = samples >> 8 if bit_depth == 16 else samples * 255 // most
    assert np.array_equal(decoded(gray_png(samples, bit_depth)), np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("bit_depth", [1, 2, 4, 8, 16])
def test_a_transparent_gray_is_white_in_every_depth(bit_depth: int) -> None:
    samples = np.arange(16).reshape(2, 8) % (1 << bit_depth)
    body = with_chunk(gray_png(samples, bit_depth), b"tRNS", struct.pack(">H", 1))
    opaque = decoded(gray_png(samples, bit_depth))
    assert np.array_equal(decoded(body), np.where((samples == 1)[:, :, None], 255, opaque))


@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bits_keep_their_high_byte(channels: int) -> None:
    samples = np.random.default_rng(3).integers(0, 1 << 16, (9, 11, channels), dtype=np.uint16)
    if channels == 4:
        samples[:, :, 3] = 0xFFFF
    body = cv2.imencode(".png", samples)[1].tobytes()
    assert np.array_equal(decoded(body), (samples[:, :, 2::-1] >> 8).astype(np.uint8))


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_a_transparent_colour_is_white(bit_depth: int) -> None:
    samples = np.full((4, 5, 3), 40, np.uint8)
    samples[1, 2] = (3, 2, 1)  # OpenCV's order: blue first
    stored = samples if bit_depth == 8 else samples.astype(np.uint16) * 257
    key = [1, 2, 3] if bit_depth == 8 else [257, 514, 771]
    body = with_chunk(cv2.imencode(".png", stored)[1].tobytes(), b"tRNS", struct.pack(">HHH", *key))
    expected = np.full((4, 5, 3), 40)
    expected[1, 2] = 255
    assert np.array_equal(decoded(body), expected)


def test_alpha_is_composited_on_white_exactly() -> None:
    """Every colour with every alpha, against whole numbers."""
    colour, alpha = np.meshgrid(np.arange(256), np.arange(256))
    rgba = np.dstack([colour, 255 - colour, colour, alpha]).astype(np.uint8)
    expected = (2 * (colour * alpha + 255 * (255 - alpha)) + 255) // 510
    for body in (
        encoded(Image.fromarray(rgba), "PNG"),
        cv2.imencode(".png", cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))[1],
    ):
        rgb = decoded(bytes(body))
        assert np.array_equal(rgb[:, :, 0], expected)
        assert np.array_equal(rgb[:, :, 1], expected[:, ::-1])


@pytest.mark.parametrize("transparency", [None, 0, bytes([0, 128, 255])])
def test_palettes_and_their_alphas(transparency: int | bytes | None) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    settings = {} if transparency is None else {"transparency": transparency}
    red, green = {None: ((255, 0, 0), (0, 255, 0)), 0: ((255,) * 3, (0, 255, 0))}.get(
        transparency if not isinstance(transparency, bytes) else -1, ((255,) * 3, (127, 255, 127))
    )
    assert decoded(encoded(image, "PNG", **settings)).tolist() == [[list(red), list(green), [0, 0, 255]]]


def test_interlaced_and_gray_with_alpha() -> None:
    image = a_photo().convert("LA")
    image.putalpha(a_photo().convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    gray, alpha = (np.asarray(band).astype(int) for band in image.split())
    expected = (2 * (gray * alpha + 255 * (255 - alpha)) + 255) // 510
    assert np.array_equal(decoded(encoded(image, "PNG"))[:, :, 1], expected)


def test_any_changed_bit_of_the_picture_is_found() -> None:
    body = encoded(a_photo((24, 16)), "PNG")
    start, end = body.index(b"IDAT"), len(body) - 12
    for at, bit in product(range(start, end), (0, 5)):
        broken = body[:at] + bytes((body[at] ^ 1 << bit,)) + body[at + 1 :]
        with pytest.raises(Refused, match=r"^decode\.(corrupt|truncated) png"):
            decoded(broken)


def test_a_cut_png_is_truncated() -> None:
    body = encoded(a_photo(), "PNG")
    whole = decoded(body)
    for end in range(33, len(body), 7):
        outcome = attempted(body[:end])
        if isinstance(outcome, str):
            assert outcome.startswith("decode.truncated png")
        else:
            assert np.array_equal(outcome, whole)
            assert end >= len(body) - 12
    short = zlib.compress(b"\0" * 100)
    at = body.index(b"IDAT") - 4
    with pytest.raises(Refused, match=r"^decode\.truncated png$"):
        decoded(body[:at] + a_chunk(b"IDAT", short) + body[-12:])


def test_what_follows_the_pixels_is_of_no_account() -> None:
    body = encoded(a_photo(), "PNG")
    whole = decoded(body)
    for tail in (b"", b"\0", b"\0\0\0\0IE", b"\0\0\xff\xfftEXt cut", b"\r\n<html>not a chunk</html>"):
        assert np.array_equal(decoded(body[:-12] + tail), whole)


def test_texts_and_profiles_never_reach_pillow() -> None:
    body = encoded(a_photo(), "PNG")
    whole = decoded(body)
    for kind, data in {
        b"zTXt": b"x\0\0" + zlib.compress(bytes(200_000_000)),
        b"iCCP": b"icc\0\x07junk",
        b"tEXt": b"broken checksum",
        b"acTL": b"\0",
    }.items():
        spoiled = with_chunk(body, kind, data)
        at = spoiled.index(kind) + 4 + len(data)
        assert np.array_equal(decoded(spoiled), whole)
        assert np.array_equal(decoded(spoiled[:at] + b"\0\0\0\0" + spoiled[at + 4 :]), whole)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGBA", (40, 30), colour) for colour in ((200, 10, 10, 255), (10, 200, 10, 255))]
    for image_format, settings in {"PNG": {}, "WEBP": {"lossless": True}}.items():
        body = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], duration=100, **settings)
        assert Image.open(io.BytesIO(body)).n_frames == 2  # type: ignore[attr-defined]
        assert (decoded(body) == (200, 10, 10)).all()


# WebP


@pytest.mark.parametrize("settings", [{"lossless": True}, {"quality": 80}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_decodes_as_pillow_does(mode: str, settings: dict[str, object]) -> None:
    image = a_photo().convert(mode)
    if mode == "RGBA":
        image.putalpha(a_photo().convert("L"))
    body = encoded(image, "WEBP", **settings)
    rgba = Image.open(io.BytesIO(body)).convert("RGBA")
    witness = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    assert np.abs(decoded(body).astype(int) - np.asarray(witness)).max() <= 1


@pytest.mark.parametrize("settings", [{"lossless": True}, {"quality": 80}, {"quality": 80, "exif": b"Exif\0\0II*\0"}])
def test_a_cut_webp_is_truncated(settings: dict[str, object], capfd: pytest.CaptureFixture[str]) -> None:
    body = encoded(a_photo(), "WEBP", **settings)
    whole = decoded(body)
    for end in range(12, len(body), 5):
        with pytest.raises(Refused, match=r"^decode\.truncated webp"):
            decoded(body[:end])
        outcome = attempted(body[:4] + struct.pack("<I", end - 8) + body[8:end])  # as if the server knew no better
        if isinstance(outcome, str):
            assert outcome.startswith(("decode.truncated webp", "decode.corrupt webp"))
        else:
            assert np.array_equal(outcome, whole)
            assert end > len(body) - 24  # nothing but EXIF is missing
    assert capfd.readouterr().err == ""


# The others


def test_a_picture_that_is_not_the_size_it_was_judged_by_is_refused() -> None:
    layout = ExoticLayout(width=95, height=64, orientation=1, pillow_format="GIF")
    with pytest.raises(Refused, match=r"^decode\.corrupt gif\.size$"):
        exotic.decode_exotic(encoded(a_photo(), "GIF"), layout)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_samples_without_an_agreed_white_are_refused(mode: str) -> None:
    body = encoded(a_photo().convert("L").convert(mode), "TIFF")
    with pytest.raises(Refused, match=rf"^decode\.unsupported mode={mode}$"):
        exotic.decode_exotic(body, exotic.read_exotic(body, "TIFF"))


def test_pnm_of_sixteen_bits_keeps_the_high_byte() -> None:
    samples = np.arange(0, 1 << 16, 4096, dtype=">u2").reshape(2, 8)
    body = b"P5 8 2 65535\n" + samples.tobytes()
    rgb = exotic.decode_exotic(body, exotic.read_exotic(body, "PPM"))
    assert np.array_equal(rgb[:, :, 0], samples >> 8)
