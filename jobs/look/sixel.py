"""A picture as sixels: bands of six rows, each colour of the palette drawn over the band in runs (DEC VT340)."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

_COLOURS = 128
_BAND_ROWS = 6


def sixel(picture: "Image") -> str:
    """The control sequence that draws an RGB picture where the cursor stands, one sixel pixel for each of its pixels."""
    paletted = picture.quantize(_COLOURS)
    palette = paletted.getpalette() or []
    width, height = paletted.size
    pixels = paletted.tobytes()
    colours = [palette[at : at + 3] for at in range(0, len(palette), 3)]
    parts = [f'\x1bPq"1;1;{width};{height}']
    parts += [f"#{n};2;{r * 100 // 255};{g * 100 // 255};{b * 100 // 255}" for n, (r, g, b) in enumerate(colours)]
    for top in range(0, height, _BAND_ROWS):
        band = [pixels[row * width : (row + 1) * width] for row in range(top, min(top + _BAND_ROWS, height))]
        parts.append("$".join(f"#{colour}{_runs(band, colour, width)}" for colour in sorted(set(b"".join(band)))) + "-")
    return "".join(parts) + "\x1b\\"


def _runs(band: list[bytes], colour: int, width: int) -> str:
    """One colour of one band: a character for each column, whose six bits are its rows; repeats are counted."""
    bits = [sum(1 << row for row, line in enumerate(band) if line[column] == colour) for column in range(width)]
    out, start = [], 0
    for column in range(1, width + 1):
        if column == width or bits[column] != bits[start]:
            mark, run = chr(63 + bits[start]), column - start
            out.append(f"!{run}{mark}" if run > 3 else mark * run)
            start = column
    return "".join(out)
