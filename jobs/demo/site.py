"""What stands on the demo web, and what LAION-style metadata says about it: one list of pages, the same on every machine.

Most pages are pictures; the others are what the real web does to a crawler: dead links, a page in place of a picture, pictures
cut off, slow and busy servers, site owners who say no, and metadata that names an address nobody should fetch. Not here: serving
(`web`), the pictures (`pictures`).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from jobs.demo.pictures import PHOTOGRAPHS, Picture, size_of

DOMAIN = "demo.test"  # reserved for tests: no such name exists on the internet
UNREACHABLE_HOST = f"closed.{DOMAIN}"
PRIVATE_ROBOTS = "User-agent: *\nDisallow: /private/\n"

_HOSTS = ("archive", "blog", "cats", "gallery", "garden", "lab", "museum", "news", "photos", "shop", "sky", "travel")
_PICTURES_PER_PHOTOGRAPH = 18
_ROWS_PER_FILE = 120

_SCHEMA = pa.schema(
    [
        pa.field("URL", pa.string()),
        pa.field("TEXT", pa.string()),
        pa.field("WIDTH", pa.int32()),
        pa.field("HEIGHT", pa.int32()),
        pa.field("similarity", pa.float64()),
        pa.field("hash", pa.int64()),
        pa.field("punsafe", pa.float32()),
        pa.field("pwatermark", pa.float32()),
    ]
)


class Behaviour(Enum):
    """How the server answers."""

    SERVE = auto()
    NOT_FOUND = auto()
    HTML = auto()
    CUT_OFF = auto()
    LATE = auto()
    STALL = auto()
    BUSY_ONCE = auto()
    BROKEN_SERVER = auto()
    OPT_OUT = auto()


@dataclass(frozen=True, slots=True)
class Page:
    """One address of the web, and its row of metadata."""

    host: str
    path: str
    picture: Picture
    text: str
    behaviour: Behaviour = Behaviour.SERVE
    similarity: float = 0.31
    punsafe: float | None = 0.01
    pwatermark: float = 0.05
    url_override: str | None = None

    @property
    def url(self) -> str:
        """What the metadata names."""
        return self.url_override or f"http://{self.host}{self.path}"


def pages() -> list[Page]:
    """Every page, in the order of the metadata."""
    draw = random.Random(20231221)
    good = [page for name in PHOTOGRAPHS for page in _pictures_of(name, draw)]
    odd = list(_odd_ones(good, draw))
    mixed = good + odd
    draw.shuffle(mixed)
    return mixed


def write_metadata(folder: Path) -> list[Path]:
    """Write the metadata of all pages, as LAION releases it."""
    every, files = pages(), []
    for number, first in enumerate(range(0, len(every), _ROWS_PER_FILE)):
        files.append(folder / f"part-{number:05d}-demo-c000.snappy.parquet")
        write_rows(files[-1], every[first : first + _ROWS_PER_FILE])
    return files


def write_rows(path: Path, rows: list[Page]) -> None:
    """Write one file of metadata; if it is there with the same bytes, it stays as it is."""
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([_row(page) for page in rows], schema=_SCHEMA), sink, compression="snappy")
    data = bytes(sink.getvalue())
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != data:  # a new modification time would be a changed source
        path.write_bytes(data)


def _row(page: Page) -> dict[str, Any]:
    digest = xxhash.xxh3_64_intdigest(f"{page.url} {page.text}".encode())
    return {
        "URL": page.url,
        "TEXT": page.text,
        "WIDTH": page.picture.width_pixels,
        "HEIGHT": page.picture.height_pixels,
        "similarity": page.similarity,
        "hash": digest - (1 << 63),  # LAION's are signed
        "punsafe": page.punsafe,
        "pwatermark": page.pwatermark,
    }


def _pictures_of(photograph: str, draw: random.Random) -> Iterator[Page]:
    width, height = size_of(photograph)
    for number in range(_PICTURES_PER_PHOTOGRAPH):
        share = draw.uniform(0.55, 1.0)
        box = (draw.uniform(0, 1 - share), draw.uniform(0, 1 - share), share, share)
        scale = draw.randrange(220, 720) / min(width, height)
        extension = draw.choices(("jpg", "png", "webp"), weights=(16, 2, 3))[0]
        mirrored = draw.random() < 0.5
        picture = Picture(photograph, box, mirrored, round(width * scale), round(height * scale), extension)
        manner = "seen up close" if share < 0.7 else "in detail" if share < 0.85 else "in full"
        stem = Path(photograph).stem.replace("_", "-")
        yield Page(
            host=f"{draw.choice(_HOSTS)}.{DOMAIN}",
            path=f"/{stem}/{number:02d}.{extension}",
            picture=picture,
            text=f"{PHOTOGRAPHS[photograph]}, {manner}{', mirrored' if mirrored else ''}",
            similarity=round(draw.uniform(0.28, 0.42), 4),
            punsafe=round(draw.uniform(0.0, 0.2), 4),
            pwatermark=round(draw.uniform(0.0, 0.6), 4),
        )


def _odd_ones(good: list[Page], draw: random.Random) -> Iterator[Page]:
    """What goes wrong on the web, a few times each; and some rows that come twice."""

    def some(count: int, name: str, **changes: Any) -> Iterator[Page]:
        for number in range(count):
            page = draw.choice(good)
            yield replace(page, **{"path": f"/{name}/{number:02d}.jpg", **changes})

    def sized(width: int, height: int) -> Picture:
        return Picture("coffee.png", (0.1, 0.1, 0.8, 0.8), False, width, height)

    yield from some(14, "gone", behaviour=Behaviour.NOT_FOUND)
    yield from some(5, "moved", behaviour=Behaviour.HTML)
    yield from some(4, "cut-off", behaviour=Behaviour.CUT_OFF, picture=sized(640, 480))
    yield from some(2, "late", behaviour=Behaviour.LATE)
    yield from some(2, "stall", behaviour=Behaviour.STALL)
    yield from some(1, "busy", behaviour=Behaviour.BUSY_ONCE, host=f"busy.{DOMAIN}")
    yield from some(1, "broken", behaviour=Behaviour.BROKEN_SERVER, host=f"broken.{DOMAIN}")
    yield from some(2, "opted-out", behaviour=Behaviour.OPT_OUT)
    yield from some(4, "private")
    yield from some(2, "closed", host=UNREACHABLE_HOST)
    yield from some(1, "inside", url_override="http://192.168.0.1/camera.jpg")
    yield from some(1, "nowhere", url_override="//no-scheme-here")
    yield from some(6, "thumbnails", picture=sized(120, 90))
    yield from some(4, "banners", picture=sized(900, 160))
    yield from some(8, "unalike", similarity=0.12)
    yield from some(5, "unsafe", punsafe=0.93)
    yield from some(4, "watermarked", pwatermark=0.97)
    yield from some(2, "unscored", punsafe=None)
    yield from some(3, "untitled", text="IMG")
    yield from (draw.choice(good) for _ in range(5))
