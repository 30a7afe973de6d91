"""The physical limit of `fetch`: decode, resize, encode, one picture after the other in one thread, and nothing else.

The libraries and their settings are ours: JPEG at the smallest DCT scale that suffices, OpenCV's INTER_AREA, JPEG 95 with 4:2:0.
No network, header checks, hashes, JSON, tar or disk. As a program: FOLDER COUNT, prints the CPU seconds of the loop alone.
"""

import itertools
import json
import sys
import time
from pathlib import Path

import cv2
import simplejpeg

SIDE_PIXELS = 256
QUALITY = 95
_SCALES = (1, 2, 3, 4)  # eighths; those above a half lack SIMD code


def render(body: bytes) -> bytes:
    """The picture with its shorter side at 256 pixels."""
    height, width, *_ = simplejpeg.decode_jpeg_header(body)
    factor = SIDE_PIXELS / min(height, width)
    target = round(width * factor), round(height * factor)
    scale = next((s / 8 for s in _SCALES if min(height, width) * s / 8 >= SIDE_PIXELS), 1.0)
    rgb = simplejpeg.decode_jpeg(
        body, "RGB", min_height=int(height * scale), min_width=int(width * scale), min_factor=2 if scale < 1 else 9
    )
    rgb = cv2.resize(rgb, target, interpolation=cv2.INTER_AREA)
    return bytes(simplejpeg.encode_jpeg(rgb, quality=QUALITY, colorspace="RGB", colorsubsampling="420"))


def main(folder: Path, count: int) -> None:
    cv2.setNumThreads(1)
    bodies = [path.read_bytes() for path in sorted(folder.glob("*.jpg"))]
    started = time.process_time()
    size = sum(len(render(body)) for body in itertools.islice(itertools.cycle(bodies), count))
    print(json.dumps({"cpu_seconds": time.process_time() - started, "bytes": size}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
