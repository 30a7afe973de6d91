"""The rule of thumb of `emu plan`: bytes for each stored pixel, measured on the demo's photographs."""

import cv2
import numpy as np
import pytest

from jobs.demo.site import pages
from jobs.plan import BYTES_PER_PIXEL
from pipelines.media.image import OutputFormat

SIDE_PIXELS = 384
ENCODER = {
    OutputFormat.JPEG: (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95]),
    OutputFormat.WEBP: (".webp", [cv2.IMWRITE_WEBP_QUALITY, 95]),
    OutputFormat.PNG: (".png", []),
}


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Every fourth photograph, as the corpus would store it."""
    found = []
    for page in pages()[::4]:
        picture = cv2.imdecode(np.frombuffer(page.picture.encode(), np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
        scale = min(1.0, SIDE_PIXELS / min(picture.shape[:2]))
        found.append(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
    assert len(found) > 80
    return found


@pytest.mark.parametrize("encoding", list(OutputFormat))
def test_bytes_per_pixel_are_those_of_photographs(encoding: OutputFormat, pictures: list[np.ndarray]) -> None:
    ending, settings = ENCODER[encoding]
    held = sum(len(cv2.imencode(ending, picture, settings)[1]) for picture in pictures)
    pixels = sum(picture.shape[0] * picture.shape[1] for picture in pictures)
    assert held / pixels == pytest.approx(BYTES_PER_PIXEL[encoding], rel=0.05)
