"""The pictures of the golden corpus, and their perceptual hashes by an implementation of its own.

Pictures are slopes and waves, drawn once and committed, because encoders and decoders differ between their versions; so are
the hashes, in `pictures/hashes.json`. What is there already is read and never made again.
"""

import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = Path(__file__).with_name("pictures")
SIZES = {"mmc4b.jpg": (32, 48), "sheet0.webp": (160, 54), "sheet1.webp": (160, 9)}


def picture(name: str) -> bytes:
    """The bytes of a picture by its file name, drawn if it is not there yet."""
    path = FOLDER / name
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        path.write_bytes(_draw(name))
    return path.read_bytes()


def phash(name: str, box: list[int] | None = None) -> str:
    """The perceptual hash of a picture, or of a box in it (left, top, width, height), as 16 hex digits."""
    path = FOLDER / "hashes.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    place = name if box is None else f"{name} {box}"
    if place not in known:
        pixels = np.asarray(Image.open(io.BytesIO(picture(name))).convert("RGB"), np.int64)
        left, top, width, height = box or [0, 0, pixels.shape[1], pixels.shape[0]]
        known[place] = hash_of(pixels[top : top + height, left : left + width])
        path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known[place]


def hash_of(rgb: np.ndarray) -> str:
    """`docs/format.md` §3.3 as it stands there, by matrices of whole numbers."""
    luma = (rgb @ np.array([9798, 19235, 3735]) + 16384) >> 15
    height, width = luma.shape
    sums = _overlaps(height) @ luma @ _overlaps(width).T
    means = (16 * sums + (height * width >> 1)) // (height * width)
    u, x = np.mgrid[1:9, 0:32]
    cosines = np.round(2**14 * np.cos(np.pi * u * (2 * x + 1) / 64)).astype(np.int64)
    spectrum = (cosines @ means @ cosines.T).ravel()
    middle = sum(sorted(spectrum.tolist())[31:33])
    return f"{int(''.join('1' if 2 * value > middle else '0' for value in spectrum.tolist()), 2):016x}"


def _overlaps(size: int) -> np.ndarray:
    """[32, size]: how much of each pixel lies in each cell, in 32nds of a pixel."""
    cell, pixel = np.mgrid[0:32, 0:size]
    return np.maximum(0, np.minimum((cell + 1) * size, 32 * (pixel + 1)) - np.maximum(cell * size, 32 * pixel))


def _draw(name: str) -> bytes:
    width, height = SIZES.get(name, (32, 18) if name.startswith("frame") else (48, 32))
    y, x = np.mgrid[0:height, 0:width]
    seed = sum(name.encode())  # each name its own direction and wave
    turn = 2 * np.pi * (seed % 16) / 16
    wave = np.sin((2 + seed % 3) * np.pi * x / width + turn) * np.sin((1 + seed % 5) * np.pi * y / height + 1)
    slope = np.cos(turn) * x / width + np.sin(turn) * y / height + wave
    gray = np.round((slope - slope.min()) / np.ptp(slope) * 255).astype(np.uint8)
    pixels = np.stack([gray, 255 - gray, np.full_like(gray, seed % 256)], axis=-1)
    out = io.BytesIO()
    if name.endswith(".webp"):
        Image.fromarray(pixels).save(out, "WEBP", quality=80)
    else:
        Image.fromarray(pixels).save(out, "JPEG", quality=95)
    return out.getvalue()
