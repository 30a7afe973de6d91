"""The pictures of the benchmarks: JPEGs made from scikit-image's bundled photographs, the same in every run.

A picture is a mosaic of crops at about their own size (what is blown up is smooth, which no camera makes), with noise such as a
sensor leaves. `web_pictures` are like those of LAION, 0.1 to 1.7 megapixels and 86 kB in the mean; `camera_pictures` have 3 to
6 megapixels and at least 0.8 MB. Not here: who serves them (`web`).
"""

import importlib.util
from functools import cache
from pathlib import Path

import cv2
import numpy as np

_PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)
_TILE_PIXELS = 480
_MIN_SIDE_PIXELS = 272  # above 256, so that every contestant shrinks every picture


def web_pictures(folder: Path, *, count: int = 400) -> list[Path]:
    """0.1 to 1.7 megapixels, evenly over their logarithm."""
    rng = np.random.default_rng(1)
    return [
        _written(folder / f"{number:04d}.jpg", rng, pixels=1e6 * 0.1 * 17 ** rng.random(), noise=2.0, quality=76)
        for number in range(count)
    ]


def camera_pictures(folder: Path, *, count: int = 64) -> list[Path]:
    """3 to 6 megapixels."""
    rng = np.random.default_rng(2)
    return [
        _written(folder / f"{number:04d}.jpg", rng, pixels=1e6 * (3 + 3 * rng.random()), noise=7.0, quality=88)
        for number in range(count)
    ]


def _written(path: Path, rng: np.random.Generator, *, pixels: float, noise: float, quality: int) -> Path:
    """One picture. noise: standard deviation in levels of 255."""
    aspect = float(rng.choice((2 / 3, 3 / 4, 1.0, 4 / 3, 3 / 2)))
    height, width = round((pixels / aspect) ** 0.5), round((pixels * aspect) ** 0.5)
    canvas = _mosaic(rng, max(height, _MIN_SIDE_PIXELS), max(width, _MIN_SIDE_PIXELS)).astype(np.int16)
    canvas += (rng.standard_normal(canvas.shape, dtype=np.float32) * noise).astype(np.int16)
    picture = np.clip(canvas, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    return path


def _mosaic(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    canvas = np.zeros((height, width, 3), np.uint8)
    for top in range(0, height, _TILE_PIXELS):
        for left in range(0, width, _TILE_PIXELS):
            space = canvas[top : top + _TILE_PIXELS, left : left + _TILE_PIXELS]
            space[:] = _crop(rng, *space.shape[:2])
    return canvas


def _crop(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A part of a photograph, mirrored or not; of one that is smaller, a slight enlargement."""
    photograph = _photograph(_PHOTOGRAPHS[rng.integers(len(_PHOTOGRAPHS))])
    scale = max(height / photograph.shape[0], width / photograph.shape[1], 1.0)
    if scale > 1.0:
        photograph = cv2.resize(photograph, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    top = rng.integers(max(1, photograph.shape[0] - height + 1))
    left = rng.integers(max(1, photograph.shape[1] - width + 1))
    crop = cv2.resize(photograph[top : top + height, left : left + width], (width, height))
    return cv2.flip(crop, 1) if rng.random() < 0.5 else crop


@cache
def _photograph(name: str) -> np.ndarray:
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise SystemExit("scikit-image is missing, whose photographs are needed: pip install 'emu-corpus[demo]'")
    picture = cv2.imread(str(Path(found.origin).parent / "data" / name), cv2.IMREAD_COLOR)
    if picture is None:
        raise SystemExit(f"scikit-image has no {name} any more; name another photograph in benchmarks/pictures.py")
    return picture
