"""Pictures on a terminal: as the terminal's own graphics where its environment says it has them, else as blocks of two colours.

Nothing is asked of the terminal: an answer may never come, or end up in the shell. kitty, iTerm2 and sixel terminals are
known by what they set in the environment; inside tmux and screen, which pass no pictures on, blocks are drawn. Formats are
those that browsers show, decoded by Pillow under a cap on pixels. Not here: sixel itself (`sixel`).
"""

import base64
import io
import warnings
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_PIXELS = 64_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
_KITTY_CHUNK_CHARS = 4096
_CELL_PIXELS = (10, 20)


class Graphics(StrEnum):
    """How pictures are drawn."""

    KITTY = "kitty"
    ITERM2 = "iterm2"
    SIXEL = "sixel"
    BLOCKS = "blocks"
    NONE = "none"


def graphics_of(environment: Mapping[str, str], *, is_terminal: bool) -> Graphics:
    """What the terminal can, by what it set in the environment."""
    term = environment.get("TERM", "")
    program = environment.get("TERM_PROGRAM", "") or environment.get("LC_TERMINAL", "")
    if not is_terminal or term == "dumb" or "NO_COLOR" in environment:
        return Graphics.NONE
    if "TMUX" in environment or term.startswith(("screen", "tmux")):
        return Graphics.BLOCKS
    if "KITTY_WINDOW_ID" in environment or "kitty" in term or "ghostty" in (program + term).lower():
        return Graphics.KITTY
    if program in ("iTerm.app", "iTerm2", "WezTerm", "mintty"):
        return Graphics.ITERM2
    if "sixel" in term or term.partition("-")[0] in ("foot", "mlterm", "contour", "yaft"):
        return Graphics.SIXEL
    return Graphics.BLOCKS


def sides(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels as displayed, from the header; None where Pillow knows no picture in it."""
    image = _open(data)
    if image is None:
        return None
    try:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    except Exception:  # EXIF of any origin: the sides are known without it
        turned = False
    return (image.height, image.width) if turned else (image.width, image.height)


def decode(data: bytes, *, box: tuple[int, int, int, int] | None = None) -> "Image | None":
    """The picture in RGB, as stored, or the box in it (left, top, width, height); None where it cannot be decoded or cut."""
    image = _open(data)
    if image is None or image.width * image.height > MOST_PIXELS:
        return None
    try:
        if box is not None:
            left, top, width, height = box
            if min(left, top) < 0 or min(width, height) < 1:
                return None
            if left + width > image.width or top + height > image.height:
                return None
            image = image.crop((left, top, left + width, top + height))
        return image.convert("RGB")
    except Exception:  # whatever a decoder throws at bytes of any origin
        return None


def draw(picture: "Image", *, on: Console, graphics: Graphics, columns: int, rows: int, indent: int = 0) -> None:
    """Draw within so many cells, as large as its shape allows; nothing for `Graphics.NONE`."""
    if graphics is Graphics.NONE:
        return
    columns, rows = _cells(picture, columns=min(columns, max(4, on.width - indent)), rows=rows)
    if graphics is Graphics.BLOCKS:
        for line in _blocks(picture, columns=columns, rows=rows):
            on.print(Text(" " * indent).append(line), no_wrap=True, crop=True)
        return
    on.file.write(" " * indent + _sequence(picture, graphics, columns=columns, rows=rows) + "\n")
    on.file.flush()


def _open(data: bytes) -> "Image | None":
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Image.open(io.BytesIO(data), formats=_FORMATS)
    except Exception:  # whatever a parser throws at bytes of any origin
        return None


def _cells(picture: "Image", *, columns: int, rows: int) -> tuple[int, int]:
    """Cells that keep the picture's shape; a cell is twice as high as wide."""
    scale = min(columns / picture.width, 2 * rows / picture.height)
    return max(1, round(picture.width * scale)), max(1, round(picture.height * scale / 2))


def _blocks(picture: "Image", *, columns: int, rows: int) -> list[Text]:
    """Half blocks: the upper pixel in the foreground, the lower one in the background."""
    small = picture.resize((columns, 2 * rows))
    pixels = small.tobytes()
    lines = []
    for row in range(rows):
        line = Text(no_wrap=True)
        for column in range(columns):
            upper, lower = (3 * ((2 * row + below) * columns + column) for below in (0, 1))
            colours = ("#" + pixels[at : at + 3].hex() for at in (upper, lower))
            line.append("▀", style=" on ".join(colours))
        lines.append(line)
    return lines


def _sequence(picture: "Image", graphics: Graphics, *, columns: int, rows: int) -> str:
    small = picture.resize((columns * _CELL_PIXELS[0], rows * _CELL_PIXELS[1]))
    if graphics is Graphics.SIXEL:
        from jobs.look.sixel import sixel

        return sixel(small)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    encoded = base64.b64encode(buffer.getvalue()).decode()
    if graphics is Graphics.ITERM2:
        place = f"inline=1;width={columns};height={rows};preserveAspectRatio=1"
        return f"\x1b]1337;File={place};size={len(buffer.getvalue())}:{encoded}\x07"
    chunks = [encoded[at : at + _KITTY_CHUNK_CHARS] for at in range(0, len(encoded), _KITTY_CHUNK_CHARS)]
    first = f"a=T,f=100,q=2,c={columns},r={rows},"
    return "".join(
        f"\x1b_G{first if number == 0 else ''}m={int(number < len(chunks) - 1)};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )
