"""Decode what the web shows seldom: GIF, BMP, TIFF, AVIF, ICO, JPEG 2000 and PNM, all by Pillow.

Their parsers are where crashes, endless loops and blown memory are found, so `decoder` calls this module in a helper process
only; nothing here knows of it. The picture is the first frame, the largest of an icon. Samples of 16 bits keep their high
byte; those of 32 bits and floats have no agreed white, so they are refused.
"""

import numpy as np
from PIL import AvifImagePlugin, Image, ImageCms

from pipelines.media.headers import ExoticLayout
from pipelines.media.pixels import RGB, by_pillow, gray_to_rgb, on_white, rgba_of
from schemas.reasons import Reason, Refused

_ORIENTATION_TAG = 0x0112

AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # the helper is one of many processes on its machine


def read_exotic(body: bytes, pillow_format: str) -> ExoticLayout:
    """What Pillow's parser says of size and orientation. A TIFF's size is as displayed: Pillow turns it while decoding."""
    image = by_pillow(body, pillow_format, load=False)
    orientation = 1 if pillow_format == "TIFF" else _orientation(image)
    return ExoticLayout(width=image.width, height=image.height, orientation=orientation, pillow_format=pillow_format)


def decode_exotic(body: bytes, layout: ExoticLayout) -> RGB:
    """The pixels as stored, of the size that `layout` says."""
    image = by_pillow(body, layout.pillow_format)
    if image.size != (layout.width, layout.height):  # an icon whose directory belies its picture
        raise Refused(Reason.DECODE_CORRUPT, f"{layout.pillow_format.lower()}.size")
    return _to_rgb(image)


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # Pillow's parsers raise a dozen types; a broken note on the side costs no picture
        return 1
    return value if value in range(1, 9) else 1


def _to_rgb(image: Image.Image) -> RGB:
    mode = image.mode
    if mode.startswith("I;16"):
        return gray_to_rgb((np.asarray(image) >> 8).astype(np.uint8))
    if mode == "I" and image.format == "PPM":  # Pillow scales what exceeds 8 bits to 16
        return gray_to_rgb((np.asarray(image) >> 8).astype(np.uint8))
    if mode in ("I", "F"):
        raise Refused(Reason.DECODE_UNSUPPORTED, f"mode={mode}")
    if mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB") or image
    if image.has_transparency_data:
        return on_white(rgba_of(image))
    return np.asarray(image.convert("RGB"))
