"""Rendering against a witness: Pillow turns, composites and converts; numpy averages areas exactly, in floats."""

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from pipelines.media.image import OutputFormat, Rendered, RenderSpec, ResizeMode, read_header, render
from schemas.reasons import Reason, Refused

Pixels = npt.NDArray[np.uint8]


def a_spec(mode: ResizeMode = ResizeMode.KEEP_RATIO, side: int = 384, **changes: object) -> RenderSpec:
    settings: dict[str, object] = {
        "mode": mode,
        "side_pixels": side,
        "only_if_bigger": True,
        "format": OutputFormat.PNG,
        "quality": 95,
        "max_pixels": 20_000_000,
    }
    return RenderSpec(**(settings | changes))  # type: ignore[arg-type]


AS_IT_IS = a_spec(ResizeMode.NONE)


def pixels_of(rendered: Rendered) -> Pixels:
    image = Image.open(io.BytesIO(rendered.payload))
    assert image.mode == "RGB"
    assert image.size == (rendered.width, rendered.height)
    return np.asarray(image)


def encoded(image: Image.Image, image_format: str = "PNG", **settings: object) -> bytes:
    body = io.BytesIO()
    image.save(body, image_format, **settings)
    return body.getvalue()


def seen_by_pillow(body: bytes) -> Pixels:
    """The first frame as displayed, on white, in 8-bit RGB."""
    image = Image.open(io.BytesIO(body))
    image.load()
    image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":  # Pillow's own conversion clips at 255
        samples = np.asarray(image)
        gray = (samples >> 8).astype(np.uint8)
        if "transparency" in image.info:
            gray[samples == image.info["transparency"]] = 255
        image = Image.fromarray(gray)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(image.convert("RGB"))


def averaged(pixels: Pixels, width: int, height: int) -> npt.NDArray[np.float64]:
    """The mean colour of the area that each new pixel covers: differences of running sums, between pixels by parts."""

    def along(axis: int, new: int, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        values = np.moveaxis(values, axis, 0)
        edges = np.arange(new + 1) * len(values) / new
        whole = np.minimum(edges.astype(int), len(values) - 1)
        running = np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])
        at_edges = running[whole] + (edges - whole)[:, None, None] * values[whole]
        return np.moveaxis(np.diff(at_edges, axis=0) * new / len(values), 0, axis)

    return along(1, width, along(0, height, pixels.astype(float)))


def bodies_in(folder: Path) -> Iterable[tuple[str, bytes]]:
    files = sorted(folder.iterdir())
    assert len(files) > 60
    return [(file.name, file.read_bytes()) for file in files]


def test_every_good_file_has_its_pixels_as_displayed(shared_fixtures: Path) -> None:
    for name, body in bodies_in(shared_fixtures / "images/good"):
        witness = seen_by_pillow(body)
        header = read_header(body, max_pixels=20_000_000)
        assert (header.height, header.width) == witness.shape[:2], name
        difference = np.abs(pixels_of(render(body, AS_IT_IS)).astype(int) - witness)
        assert difference.max() <= 2, name
        assert difference.mean() < 0.1, name


def test_every_good_file_shrinks_to_the_average_of_its_areas(shared_fixtures: Path) -> None:
    for name, body in bodies_in(shared_fixtures / "images/good"):
        witness = seen_by_pillow(body)
        rendered = render(body, a_spec(side=100))
        if min(witness.shape[:2]) <= 100:
            assert (rendered.height, rendered.width) == witness.shape[:2], name
            continue
        assert min(rendered.width, rendered.height) == 100, name
        made = pixels_of(rendered)
        difference = np.abs(made - averaged(witness, rendered.width, rendered.height))
        if body[:2] != b"\xff\xd8":
            assert difference.max() <= 0.51, name
            continue
        # A JPEG decoded at an eighth to a half is filtered otherwise by libjpeg, but no detail may move: seen from
        # further away nothing differs.
        assert difference.mean() < 4.5, name
        far = rendered.width // 4, rendered.height // 4
        assert np.abs(averaged(made, *far) - averaged(witness, *far)).mean() < 1.6, name


@pytest.mark.filterwarnings("ignore::UserWarning")  # the witness'
def test_hostile_files_give_a_reason_or_the_picture_that_pillow_sees(shared_fixtures: Path) -> None:
    refused: dict[str, Reason] = {}
    for name, body in bodies_in(shared_fixtures / "images/hostile"):
        try:
            rendered = render(body, AS_IT_IS)
        except Refused as refusal:
            refused[name] = refusal.refusal.reason
            continue
        try:
            witness = seen_by_pillow(body)
        except Exception:  # what Pillow does not like about them stands beside the pixels
            assert name in {"pillow_apng_chunk_no_fctl.png", "pillow_png_decompression_dos.png"} | {
                "pillow_unknown_compression_method.png"
            }
            continue
        assert np.abs(pixels_of(rendered).astype(int) - witness).max() <= 2, name
    assert refused["moviepy_empty_0_bytes.webm"] is Reason.BODY_EMPTY
    assert refused["pillow_truncated_jpeg.jpg"] is Reason.DECODE_TRUNCATED
    assert refused["pillow_ultrahdr.jpg"] is Reason.DECODE_TRUNCATED
    assert refused["pillow_decompression_bomb.gif"] is Reason.DECODE_BOMB
    assert refused["pillow_bmpsuite_reallybig.bmp"] is Reason.DECODE_BOMB
    assert refused["small_pdf.pdf"] is refused["small_zip.zip"] is Reason.DECODE_UNSUPPORTED
    assert set(refused.values()) <= {
        Reason.BODY_EMPTY,
        Reason.DECODE_BOMB,
        Reason.DECODE_CORRUPT,
        Reason.DECODE_TRUNCATED,
        Reason.DECODE_UNSUPPORTED,
    }
    assert len(refused) < 35  # most of them are pictures after all


# The peak that the kernel keeps, once it was reset: getrusage's starts with that of the parent.
PEAK = """
def peak_kib():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
"""


def test_hostile_files_stay_within_memory_and_say_nothing(shared_fixtures: Path) -> None:
    script = """
import pathlib, sys
from pipelines.media.image import *
from schemas.reasons import Refused
spec = RenderSpec(mode=ResizeMode.KEEP_RATIO, side_pixels=384, only_if_bigger=True,
                  format=OutputFormat.JPEG, quality=95, max_pixels=20_000_000)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before_kib = peak_kib()
for file in pathlib.Path(sys.argv[1]).iterdir():
    if not file.name.endswith(".tif"):  # libtiff writes to the terminal: the helper has none
        try:
            render(file.read_bytes(), spec)
        except Refused:
            pass
print(peak_kib() - before_kib)
"""
    run = subprocess.run(
        [sys.executable, "-c", PEAK + script, shared_fixtures / "images/hostile"],
        capture_output=True,
        text=True,
        check=True,
    )
    grown_kib = int(run.stdout)
    assert grown_kib < 200_000  # the largest, 4.8 megapixels, takes some 60 MB
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("mode", "image_format", "settings"),
    [
        ("RGBA", "PNG", {"compress_level": 1}),
        ("RGBA", "WEBP", {"quality": 20, "method": 0}),
        ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
        ("CMYK", "JPEG", {"progressive": True}),
    ],
)
def test_decoding_holds_what_the_header_lets_expect(
    mode: str, image_format: str, settings: dict[str, object], tmp_path: Path
) -> None:
    """The decoder's budget is kept in these numbers."""
    body = encoded(Image.linear_gradient("L").resize((4000, 3000)).convert(mode), image_format, **settings)
    (tmp_path / "body").write_bytes(body)
    script = """
import pathlib, sys
from pipelines.media.image import *
spec = RenderSpec(mode=ResizeMode.NONE, side_pixels=1, only_if_bigger=True, format=OutputFormat.JPEG, quality=80,
                  max_pixels=20_000_000)
body = pathlib.Path(sys.argv[1]).read_bytes()
pathlib.Path("/proc/self/clear_refs").write_text("5")
before_kib = peak_kib()
render(body, spec)
grown = 1024 * (peak_kib() - before_kib)
print(grown / (3 * read_layout(body, max_pixels=20_000_000)[1].memory_pixels))
"""
    run = subprocess.run(
        [sys.executable, "-c", PEAK + script, tmp_path / "body"], capture_output=True, text=True, check=True
    )
    assert 0.5 < float(run.stdout) < 1.2


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_undone(image_format: str, orientation: int) -> None:
    stored = Image.new("RGB", (96, 64), "white")
    stored.paste("red", (0, 0, 48, 32))
    stored.paste("blue", (48, 0, 96, 32))
    stored.paste("black", (0, 32, 48, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    body = encoded(stored, image_format, exif=exif, **({"quality": 100} if image_format != "PNG" else {}))
    witness = seen_by_pillow(body)
    header = read_header(body, max_pixels=10_000)
    assert (header.width, header.height) == ((64, 96) if orientation >= 5 else (96, 64))
    assert np.abs(pixels_of(render(body, AS_IT_IS)).astype(int) - witness).max() < 24  # the codecs' own edges
    cropped = pixels_of(render(body, a_spec(ResizeMode.CENTER_CROP, 40)))
    corners = [tuple(witness[y, x] > 128) for y in (4, -4) for x in (4, -4)]
    assert [tuple(cropped[y, x] > 128) for y in (4, -4) for x in (4, -4)] == corners


@pytest.mark.parametrize(
    ("mode", "side", "expected"),
    [
        (ResizeMode.KEEP_RATIO, 600, (600, 825)),
        (ResizeMode.CENTER_CROP, 600, (600, 600)),
        (ResizeMode.BORDER, 600, (600, 600)),
        (ResizeMode.STRETCH, 600, (600, 600)),
        (ResizeMode.NONE, 600, (389, 535)),
        (ResizeMode.KEEP_RATIO, 100, (100, 138)),
        (ResizeMode.CENTER_CROP, 100, (100, 100)),
        (ResizeMode.STRETCH, 450, (450, 450)),
    ],
)
def test_modes_give_the_sizes_that_img2dataset_gives(mode: ResizeMode, side: int, expected: tuple[int, int]) -> None:
    body = encoded(Image.new("RGB", (389, 535), "green"))
    rendered = render(body, a_spec(mode, side, only_if_bigger=False))
    assert (rendered.width, rendered.height) == expected
    colours = {tuple(colour) for colour in pixels_of(rendered).reshape(-1, 3)[::7].tolist()}
    assert colours == ({(0, 128, 0), (255, 255, 255)} if mode is ResizeMode.BORDER else {(0, 128, 0)})


def test_modes_look_as_img2dataset_made_them(shared_fixtures: Path) -> None:
    """Its expected pictures have a blurred box each; the rest agrees."""
    folder = shared_fixtures / "images/good"
    body = (folder / "img2dataset_blur_original.png").read_bytes()
    for mode in (ResizeMode.KEEP_RATIO, ResizeMode.CENTER_CROP, ResizeMode.BORDER):
        expected = np.asarray(Image.open(folder / f"img2dataset_expected_resize_{mode}.jpg").convert("RGB")).astype(int)
        made = pixels_of(render(body, a_spec(mode, 600, only_if_bigger=False)))
        assert made.shape == expected.shape
        assert np.median(np.abs(made - expected)) <= 4, mode


def test_border_centres_the_picture_and_crop_takes_its_middle() -> None:
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("red", (30, 0, 60, 30))
    padded = pixels_of(render(encoded(wide), a_spec(ResizeMode.BORDER, 45)))
    assert (padded[:15] == 255).all()
    assert (padded[30:] == 255).all()
    assert (padded[15:30, 20:25] == (255, 0, 0)).all()
    cropped = pixels_of(render(encoded(wide), a_spec(ResizeMode.CENTER_CROP, 15)))
    assert (cropped[:, 1:-1] == (255, 0, 0)).all()


@pytest.mark.parametrize("mode", list(ResizeMode))
def test_only_if_bigger_leaves_smaller_pictures_alone(mode: ResizeMode) -> None:
    body = encoded(Image.new("RGB", (60, 40), "teal"))
    rendered = render(body, a_spec(mode, 60))
    assert (rendered.width, rendered.height) == (60, 40)


def test_enlarging_keeps_a_gradient_smooth_and_straight() -> None:
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (16, 1, 3))
    body = encoded(Image.fromarray(ramp))
    enlarged = pixels_of(render(body, a_spec(side=48, only_if_bigger=False))).astype(int)
    assert enlarged.shape == (48, 192, 3)
    expected = np.linspace(0, 255, 192)
    assert np.abs(enlarged[24, 8:-8, 0] - expected[8:-8]).max() < 4


def test_stretching_averages_the_side_that_shrinks() -> None:
    stripes = np.zeros((10, 300, 3), np.uint8)
    stripes[:, ::2] = 200
    made = pixels_of(render(encoded(Image.fromarray(stripes)), a_spec(ResizeMode.STRETCH, 30)))
    assert made.shape == (30, 30, 3)
    assert (made == 100).all()


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(ResizeMode),
    side=st.integers(1, 40),
    only_if_bigger=st.booleans(),
)
def test_any_size_and_mode_fits(width: int, height: int, mode: ResizeMode, side: int, only_if_bigger: bool) -> None:
    body = encoded(Image.new("RGB", (width, height), (10, 200, 90)))
    rendered = render(body, a_spec(mode, side, only_if_bigger=only_if_bigger))
    pixels = pixels_of(rendered)
    assert pixels.shape == (rendered.height, rendered.width, 3)
    by_longer = mode in (ResizeMode.BORDER, ResizeMode.STRETCH)
    measured = (max if by_longer else min)(width, height)
    if mode is ResizeMode.NONE or (only_if_bigger and measured <= side):
        assert (rendered.width, rendered.height) == (width, height)
    elif mode is ResizeMode.KEEP_RATIO:
        assert min(rendered.width, rendered.height) == side
        assert abs(rendered.width * height - rendered.height * width) <= max(width, height)
    else:
        assert (rendered.width, rendered.height) == (side, side)


def test_a_line_does_not_grow_to_a_bomb() -> None:
    line = encoded(Image.new("RGB", (1, 60_000)))
    with pytest.raises(Refused, match=r"^decode\.bomb output\.pixels>20000000$"):
        render(line, a_spec(side=1000, only_if_bigger=False))


@pytest.mark.parametrize(("output", "limit"), [(OutputFormat.JPEG, 65_500), (OutputFormat.WEBP, 16_383)])
def test_what_the_encoder_cannot_hold_is_refused(output: OutputFormat, limit: int) -> None:
    longest, longer = (encoded(Image.new("L", (side, 1))) for side in (limit, limit + 1))
    assert render(longest, a_spec(ResizeMode.NONE, format=output)).width == limit
    with pytest.raises(Refused, match=rf"^decode\.unsupported output\.side>{limit}$"):
        render(longer, a_spec(ResizeMode.NONE, format=output))


def test_the_pixel_cap_is_judged_before_anything_is_decoded() -> None:
    body = encoded(Image.new("L", (1000, 1000)))
    assert read_header(body, max_pixels=1_000_000).width == 1000
    headless = body[:33] + b"\0\0\0\0IDAT\0\0\0\0" + body[-12:]
    for ask in (
        lambda: read_header(headless, max_pixels=999_999),
        lambda: render(headless, a_spec(max_pixels=999_999)),
    ):
        with pytest.raises(Refused, match=r"^decode\.bomb pixels>999999$"):
            ask()


@pytest.mark.parametrize("output", list(OutputFormat))
def test_payloads_hold_pixels_and_nothing_else(output: OutputFormat, shared_fixtures: Path) -> None:
    body = (shared_fixtures / "images/good/pillow_hopper_orientation_6.jpg").read_bytes()
    rendered = render(body, a_spec(format=output))
    image = Image.open(io.BytesIO(rendered.payload))
    assert not image.getexif()
    assert set(image.info) <= {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
        "loop",
        "background",
        "timestamp",
        "duration",
    }
    witness = seen_by_pillow(body).astype(int)
    assert np.abs(np.asarray(image).astype(int) - witness).mean() < 3
    if output is OutputFormat.JPEG:
        assert image.layer[0][1:3] == (2, 2)  # type: ignore[attr-defined]


def test_lower_quality_is_fewer_bytes(shared_fixtures: Path) -> None:
    body = (shared_fixtures / "images/good/pillow_flower.jpg").read_bytes()
    for output in (OutputFormat.JPEG, OutputFormat.WEBP):
        good, poor = (len(render(body, a_spec(format=output, quality=quality)).payload) for quality in (95, 40))
        assert poor < good / 2


def test_threads_and_cpus_do_not_change_a_byte(shared_fixtures: Path) -> None:
    """libjpeg-turbo and OpenCV are told by their environment to do without SIMD code, which stands for other CPUs."""
    names = ("llava_waterview.jpg", "pillow_pil123rgba.png", "pillow_flower.webp", "pillow_pil_sample_cmyk.jpg")
    bodies = [(shared_fixtures / "images/good" / name).read_bytes() for name in names]
    specs = [a_spec(side=side, only_if_bigger=False, format=output) for side in (90, 500) for output in OutputFormat]

    def digest() -> str:
        rendered = [render(body, spec) for body in bodies for spec in specs]
        return hashlib.sha256(b"".join(r.payload + r.phash.to_bytes(8, "big") for r in rendered)).hexdigest()

    expected = digest()
    with ThreadPoolExecutor(3) as pool:
        assert set(pool.map(lambda _: digest(), range(3))) == {expected}
    script = f"""
import hashlib, pathlib, sys
from pipelines.media.image import *
bodies = [pathlib.Path(name).read_bytes() for name in sys.argv[1:]]
specs = [RenderSpec(mode=ResizeMode.KEEP_RATIO, side_pixels=side, only_if_bigger=False, format=output, quality=95,
                    max_pixels=20_000_000) for side in (90, 500) for output in OutputFormat]
rendered = [render(body, spec) for body in bodies for spec in specs]
digest = hashlib.sha256(b"".join(r.payload + r.phash.to_bytes(8, "big") for r in rendered)).hexdigest()
print(digest == {expected!r})
"""
    plain = {
        "JSIMD_FORCENONE": "1",
        "OPENCV_IPP": "disabled",
        "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,AVX,SSE4.2,SSE4.1",
    }
    paths = [str(shared_fixtures / "images/good" / name) for name in names]
    run = subprocess.run(
        [sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True, env=os.environ | plain
    )
    assert run.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"side": 0}, "side_pixels is 0; expected 1 to 65500"),
        ({"quality": 101}, "quality is 101; expected 1 to 100"),
        ({"max_pixels": 1 << 30}, "max_pixels is 1073741824; expected 1 to 536870912"),
    ],
)
def test_settings_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        a_spec(**change)


def test_opencv_keeps_to_one_thread() -> None:
    assert cv2.getNumThreads() == 1
