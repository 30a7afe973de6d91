"""The demo's pictures: crops, mirrorings and sizes of the photographs that scikit-image brings inside its wheel.

A `Picture` is a value; its bytes are made when somebody asks for them, and are the same each time. Only files of the wheel are
named: the others that scikit-image knows would be downloaded. Not here: who asks (`web`), what the alt text says (`site`).
"""

import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from schemas.errors import UserError

PHOTOGRAPHS: dict[str, str] = {
    "astronaut.png": "Portrait of an astronaut in an orange flight suit",
    "brick.png": "A wall of old bricks",
    "camera.png": "A photographer looks through a camera on a tripod",
    "cell.png": "A living cell under the microscope",
    "chelsea.png": "A tabby cat looks past the camera",
    "coffee.png": "A cup of coffee on a saucer, with a spoon",
    "coins.png": "Ancient coins laid out in rows",
    "grass.png": "Blades of grass seen from above",
    "gravel.png": "Small grey stones lying close together",
    "hubble_deep_field.jpg": "Galaxies of every shape in a deep field, seen by a space telescope",
    "ihc.png": "Stained tissue under the microscope, brown and blue",
    "moon.png": "Craters on the surface of the moon",
    "motorcycle_left.png": "A motorcycle in a workshop, between tools",
    "retina.jpg": "The retina of a human eye with its blood vessels",
    "rocket.jpg": "A rocket on its launch pad before dawn",
}
"""File in the wheel, and what it shows."""

_ENCODER = {
    "jpg": [cv2.IMWRITE_JPEG_QUALITY, 90],
    "png": [cv2.IMWRITE_PNG_COMPRESSION, 4],
    "webp": [cv2.IMWRITE_WEBP_QUALITY, 85],
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A part of a photograph: `left`, `top`, `width`, `height` as fractions of it; then mirrored; then scaled.

    width_pixels, height_pixels: of the result. extension: `jpg`, `png` or `webp`.
    """

    photograph: str
    box: tuple[float, float, float, float]
    mirrored: bool
    width_pixels: int
    height_pixels: int
    extension: str = "jpg"

    def encode(self) -> bytes:
        """The file that the web serves."""
        photograph = _photograph(self.photograph)
        left, top, width, height = self.box
        rows, columns = photograph.shape[:2]
        crop = photograph[
            round(top * rows) : round((top + height) * rows), round(left * columns) : round((left + width) * columns)
        ]
        crop = cv2.flip(crop, 1) if self.mirrored else crop
        scaled = cv2.resize(crop, (self.width_pixels, self.height_pixels), interpolation=cv2.INTER_AREA)
        _, data = cv2.imencode(f".{self.extension}", scaled, _ENCODER[self.extension])
        return bytes(data)


def size_of(photograph: str) -> tuple[int, int]:
    """Width and height of a photograph in pixels."""
    rows, columns = _photograph(photograph).shape[:2]
    return columns, rows


@cache
def _photograph(name: str) -> np.ndarray:
    picture = cv2.imread(str(_folder() / name), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(
            f"{_folder() / name}: the photograph is missing; install the demo again: pip install -e '.[demo]'"
        )
    return picture


def _folder() -> Path:
    # Found without importing it: `skimage.data` would look for its download cache.
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise UserError("the demo's photographs come with scikit-image; install it: pip install 'emu-corpus[demo]'")
    return Path(found.origin).parent / "data"
