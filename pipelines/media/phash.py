"""The perceptual hash of a picture: 64 bits that stay nearly the same when it is scaled, re-encoded or slightly retouched.

Every step is exact in integers, so that a hash is the same on every machine and in every version of this toolchain:

1. Luma, rounded: `Y = (9798 R + 19235 G + 3735 B + 16384) >> 15`, 0 to 255 for each pixel.
2. Area average over a grid of 32 by 32 cells of equal size; a pixel on a border counts by the fractions that lie on either
   side of it. With `D` the sum over a cell in units of 1/32 pixel by 1/32 pixel, and a picture of `h` by `w` pixels,
   `g = (16 D + (h w >> 1)) // (h w)`: the mean luma of the cell in sixteenths, 0 to 4080.
3. DCT-II, frequencies 1 to 8 each way: `F = C g C^T` with `C[u, x] = round(2^14 cos(pi u (2 x + 1) / 64))`, u from 1 to 8,
   x from 0 to 31. Frequency 0, the brightness, is left out.
4. `m` is the sum of the 32nd and the 33rd smallest of the 64 values, twice their median. Bit `F[u, v]` is 1 where
   `2 F[u, v] > m`. Bits are written row by row (u vertical, v horizontal), the first one highest: an unsigned number.

Two hashes are compared by `hamming`. Not here: what distance makes two pictures near duplicates (a setting of the steps).
"""

import math
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

_CELLS = 32
_FREQUENCIES = np.array(
    [[round(2**14 * math.cos(math.pi * u * (2 * x + 1) / (2 * _CELLS))) for x in range(_CELLS)] for u in range(1, 9)],
    dtype=np.int64,
)


def perceptual_hash(rgb: npt.NDArray[np.uint8]) -> int:
    """The hash of `[height, width, 3]`, an unsigned 64-bit number."""
    luma: npt.NDArray[np.uint8] = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    for axis in (0, 1):
        if luma.shape[axis] < _CELLS:  # no cell may lie within one pixel; repeated pixels change no mean
            luma = np.repeat(luma, _CELLS, axis=axis)
    height, width = luma.shape
    cells = _cell_sums(luma)
    means = (16 * cells + (height * width >> 1)) // (height * width)
    spectrum = (_FREQUENCIES @ means @ _FREQUENCIES.T).reshape(-1)
    ordered = np.sort(spectrum)
    bits = 2 * spectrum > ordered[31] + ordered[32]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def hamming(one: int, other: int) -> int:
    """In how many of their 64 bits two hashes differ."""
    return (one ^ other).bit_count()


def _cell_sums(luma: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The sum over each cell, in units of 1/32 pixel by 1/32 pixel: differences of running sums at the borders."""
    height, width = luma.shape
    whole, following, part = _borders(height)
    if 255 * luma.size < 1 << 31:  # fits 32 bits; a larger picture would take 8 bytes a pixel, and goes by bands
        sums = cv2.integral(luma, sdepth=cv2.CV_32S)
        above, below = sums[whole].astype(np.int64), sums[following].astype(np.int64)
    else:
        above = _sums_above(luma, whole)
        below = above + np.pad(np.cumsum(luma[np.minimum(whole, height - 1)], axis=1, dtype=np.int64), ((0, 0), (1, 0)))
    rows = above * _CELLS + (below - above) * part[:, None]
    whole, following, part = _borders(width)
    corners = rows[:, whole] * _CELLS + (rows[:, following] - rows[:, whole]) * part
    return np.diff(np.diff(corners, axis=0), axis=1)


def _sums_above(luma: npt.NDArray[np.uint8], borders: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[33, width + 1]: what an integral holds in the rows of `borders`, from column sums of the bands between them."""
    bands = [cv2.reduce(luma[top:bottom], 0, cv2.REDUCE_SUM, dtype=cv2.CV_32S) for top, bottom in pairwise(borders)]
    above = np.zeros((len(borders), luma.shape[1] + 1), np.int64)
    np.cumsum(np.cumsum(np.concatenate(bands), axis=0, dtype=np.int64), axis=1, out=above[1:, 1:])
    return above


@lru_cache(maxsize=1024)
def _borders(length: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The pixel that each of 33 borders lies in, the one behind it, and how far into it in 32nds."""
    whole, part = np.divmod(np.arange(_CELLS + 1) * length, _CELLS)
    return whole, np.minimum(whole + 1, length), part
