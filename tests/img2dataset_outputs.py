"""Outputs as img2dataset 1.47 writes them, in its three layouts, without a web: same columns, keys, members and order."""

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

LAYOUTS = ("webdataset", "parquet", "files")

SCHEMA = pa.schema(
    [
        ("similarity", pa.float64()),
        ("hash", pa.int64()),
        ("flagged", pa.bool_()),
        ("caption", pa.string()),
        ("url", pa.string()),
        ("key", pa.string()),
        ("status", pa.string()),
        ("error_message", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("original_width", pa.int32()),
        ("original_height", pa.int32()),
        ("exif", pa.string()),
        ("sha256", pa.string()),
    ]
)

FAILURES = (
    ("failed_to_download", "HTTP Error 404: Not Found"),
    ("failed_to_download", "<urlopen error [Errno -2] Name or service not known>"),
    ("failed_to_resize", "Image decoding error"),
    ("failed_to_download", "<urlopen error [Errno 111] Connection refused>"),
)


@dataclass(frozen=True)
class Row:
    """A row of the metadata, and its picture if it has one."""

    facts: dict[str, Any]
    picture: bytes | None

    @property
    def key(self) -> str:
        return str(self.facts["key"])


def picture(number: int, ending: str = "jpg", *, side: int = 40) -> bytes:
    """A small picture, each number another one."""
    pixels = np.random.default_rng(number).integers(0, 255, (side + number % 5, side, 3), np.uint8)
    return bytes(cv2.imencode(f".{ending}", cv2.GaussianBlur(pixels, (5, 5), 3))[1].tobytes())


def rows(shard: int, count: int, *, ending: str = "jpg", every_failure: int = 4) -> list[Row]:
    """Rows of one shard: every fourth fails."""
    made = []
    for number in range(count):
        key = f"{shard * 10_000 + number:09d}"
        failure = FAILURES[number // every_failure % len(FAILURES)] if number % every_failure == 3 else None
        body = None if failure else picture(shard * 100 + number, ending)
        facts = {
            "similarity": 0.25 + number / 100,
            "hash": -(2**62) + number,
            "flagged": number % 2 == 0,
            "caption": None if number == 1 else f'caption {number} of {shard}: ☃ & "quotes"',
            "url": f"http://h{number}.example/{key}.jpg",
            "key": key,
            "status": failure[0] if failure else "success",
            "error_message": failure[1] if failure else None,
            "width": None if failure else 40,
            "height": None if failure else 40 + (shard * 100 + number) % 5,
            "original_width": None if failure else 800,
            "original_height": None if failure else 600,
            "exif": None if failure else '{"Image Orientation": "Horizontal (normal)"}',
            "sha256": None if body is None else hashlib.sha256(b"as fetched" + body).hexdigest(),
        }
        made.append(Row(facts, body))
    return made


def write(folder: Path, layout: str, shard: int, made: Sequence[Row], *, ending: str = "jpg") -> None:
    """One shard of an output, with its statistics."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{shard:05d}"
    table, schema = [row.facts for row in made], SCHEMA
    if layout == "webdataset":
        (folder / f"{name}.tar").write_bytes(tar_of(made, ending=ending))
    elif layout == "files":
        (folder / name).mkdir()
        for row in made:
            for member, data in members(row, ending=ending).items():
                (folder / name / f"{row.key}.{member}").write_bytes(data)
    else:
        schema = SCHEMA.append(pa.field(ending, pa.binary()))
        table = [row.facts | {ending: row.picture} for row in made]
    pq.write_table(pa.Table.from_pylist(table, schema=schema), folder / f"{name}.parquet", row_group_size=100)
    stats = {"count": len(made), "successes": sum(row.picture is not None for row in made)}
    (folder / f"{name}_stats.json").write_text(json.dumps(stats))


def members(row: Row, *, ending: str = "jpg") -> dict[str, bytes]:
    """What img2dataset writes for a row that succeeded, by ending; nothing for another."""
    if row.picture is None:
        return {}
    document = json.dumps(row.facts, indent=4).encode()
    return {ending: row.picture, "json": document, "txt": (row.facts["caption"] or "").encode()}


def tar_of(made: Sequence[Row], *, ending: str = "jpg") -> bytes:
    """A tar as webdataset's writer makes it: members of a sample by name, a time with a fraction, so an extended header each."""
    return tar([(f"{row.key}.{name}", data) for row in made for name, data in members(row, ending=ending).items()])


def tar(files: Sequence[tuple[str, bytes]], *, format: int = tarfile.PAX_FORMAT) -> bytes:
    """A tar of these files."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=format) as out:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(data), 1_700_000_000.25, "bigdata"  # type: ignore[assignment]
            out.addfile(info, io.BytesIO(data))
    return sink.getvalue()
