"""The hash is what its definition says, bit for bit, and near for pictures that look alike."""

import io
import math
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipelines.media.phash import hamming, perceptual_hash

Pixels = npt.NDArray[np.uint8]


def by_definition(rgb: Pixels) -> int:
    """The module's docstring, in fractions and slowly."""
    height, width = rgb.shape[:2]
    red, green, blue = (rgb[:, :, channel].astype(int) for channel in range(3))
    luma = (9798 * red + 19235 * green + 3735 * blue + 16384) >> 15

    def shares(length: int) -> list[list[tuple[int, Fraction]]]:
        cells = []
        for cell in range(32):
            start, end = Fraction(cell * length, 32), Fraction((cell + 1) * length, 32)
            pixels = range(int(start), math.ceil(end))
            cells.append([(pixel, min(end, Fraction(pixel + 1)) - max(start, Fraction(pixel))) for pixel in pixels])
        return cells

    columns = shares(width)
    means = [
        [
            sum(int(luma[y, x]) * tall * wide for y, tall in row for x, wide in column) / Fraction(height * width, 1024)
            for column in columns
        ]
        for row in shares(height)
    ]
    grid = [[math.floor(16 * mean + Fraction(height * width >> 1, height * width)) for mean in line] for line in means]
    cosines = [[round(2**14 * math.cos(math.pi * u * (2 * x + 1) / 64)) for x in range(32)] for u in range(1, 9)]
    spectrum = [
        sum(cosines[u][y] * cosines[v][x] * grid[y][x] for y in range(32) for x in range(32))
        for u in range(8)
        for v in range(8)
    ]
    ordered = sorted(spectrum)
    return int("".join("1" if 2 * value > ordered[31] + ordered[32] else "0" for value in spectrum), 2)


@settings(max_examples=12, deadline=None)
@given(height=st.integers(1, 80), width=st.integers(1, 80), seed=st.integers(0, 2**32 - 1))
def test_the_hash_is_its_definition(height: int, width: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    assert perceptual_hash(rgb) == by_definition(rgb)


def test_no_cosine_is_near_a_half() -> None:
    """So that no machine's `cos` rounds one to another whole number."""
    values = [2**14 * math.cos(math.pi * u * (2 * x + 1) / 64) for u in range(1, 9) for x in range(32)]
    assert min(abs(value - math.floor(value) - 0.5) for value in values) > 1e-4


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (500, 1), (31, 33), (32, 32), (2000, 3)])
def test_flat_pictures_of_any_shape_hash_to_nothing(shape: tuple[int, int]) -> None:
    for level in (0, 77, 255):
        assert perceptual_hash(np.full((*shape, 3), level, np.uint8)) == 0


@pytest.fixture(scope="module")
def photos(shared_fixtures: Path) -> dict[str, Image.Image]:
    names = ("askanything_bear", "datajuicer_blip", "datajuicer_img2", "datajuicer_img9", "emu2_dog", "llava_waterview")
    opened = {name: Image.open(shared_fixtures / f"images/good/{name}.jpg").convert("RGB") for name in names}
    return {name: image.resize((600, 600 * image.height // image.width)) for name, image in opened.items()}


def hash_of(image: Image.Image) -> int:
    return perceptual_hash(np.asarray(image))


def again_as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    body = io.BytesIO()
    image.save(body, "JPEG", quality=quality)
    return Image.open(body).convert("RGB")


def test_near_pictures_have_near_hashes(photos: dict[str, Image.Image]) -> None:
    for name, image in photos.items():
        original = hash_of(image)
        variants = {
            "half the size": image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS),
            "odd size": image.resize((351, 229), Image.Resampling.BICUBIC),
            "double the size": image.resize((image.width * 2, image.height * 2), Image.Resampling.BICUBIC),
            "poor JPEG": again_as_jpeg(image, 20),
            "darker": ImageEnhance.Brightness(image).enhance(0.85),
            "less contrast": ImageEnhance.Contrast(image).enhance(0.8),
            "gray": image.convert("L").convert("RGB"),
        }
        for what, variant in variants.items():
            assert hamming(original, hash_of(variant)) <= 4, (name, what)


def test_other_pictures_have_far_hashes(photos: dict[str, Image.Image]) -> None:
    hashes = {name: hash_of(image) for name, image in photos.items()}
    hashes |= {
        f"{name} mirrored": hash_of(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) for name, image in photos.items()
    }
    assert all(hamming(one, other) >= 16 for one, other in combinations(hashes.values(), 2))
    assert all(24 <= value.bit_count() <= 40 for value in hashes.values())  # half of the values exceed their median


def test_pictures_too_large_for_sums_of_32_bits_have_the_same_hash() -> None:
    rng = np.random.default_rng(3)
    rgb = np.repeat(np.repeat(rng.integers(0, 256, (300, 301, 3), np.uint8), 10, axis=0), 10, axis=1)
    assert 255 * rgb.shape[0] * rgb.shape[1] >= 1 << 31

    # Every pixel ten times over each way has the same means, computed the other way.
    assert perceptual_hash(rgb) == perceptual_hash(rgb[::10, ::10].copy())
