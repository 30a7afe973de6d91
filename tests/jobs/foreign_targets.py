"""Targets that are no corpus, made on the spot: WebDataset tars, and folders as img2dataset leaves them, in its three layouts."""

import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

FAILURES = ("HTTP Error 404: Not Found", "<urlopen error timed out>")


def jpeg(width: int = 32, height: int = 24, colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(buffer, "JPEG")
    return buffer.getvalue()


def write_tar(path: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def row_of(shard: int, row: int) -> dict[str, Any]:
    """Every fourth row fails; hosts differ in how often."""
    failed = row % 4 == 3
    host = "good.example.co.uk" if row % 2 == 0 else "www.poor.example.com"
    return {
        "url": f"https://{host}/{shard}/{row}.jpg",
        "caption": f"Row {row} of shard {shard}",
        "key": f"{shard:05d}{row:04d}",
        "status": "failed_to_download" if failed else "success",
        "error_message": FAILURES[row % 8 == 7] if failed else None,
        "width": None if failed else 32,
        "height": None if failed else 24,
        "LANGUAGE": "en" if row % 2 else "de",
    }


def write_img2dataset(folder: Path, layout: str, *, shards: int = 2, rows: int = 16) -> Path:
    """Shards of so many rows, a quarter of them failed, in `webdataset`, `files` or `parquet`."""
    folder.mkdir(parents=True)
    for shard in range(shards):
        made = [row_of(shard, row) for row in range(rows)]
        stem = folder / f"{shard:05d}"
        kept = {row["key"]: _members(row) for row in made if row["status"] == "success"}
        if layout == "webdataset":
            members = ((f"{key}.{name}", data) for key, held in kept.items() for name, data in held.items())
            write_tar(stem.with_suffix(".tar"), members)
        elif layout == "files":
            stem.mkdir()
            for key, held in kept.items():
                for name, data in held.items():
                    (stem / f"{key}.{name}").write_bytes(data)
        else:
            made = [row | {"jpg": kept.get(row["key"], {}).get("jpg"), "txt": row["caption"]} for row in made]
        pq.write_table(pa.Table.from_pylist(made), f"{stem}.parquet")
        Path(f"{stem}_stats.json").write_text(json.dumps(_stats(made)))
    return folder


def _members(row: Mapping[str, Any]) -> dict[str, bytes]:
    return {"jpg": jpeg(), "txt": row["caption"].encode(), "json": json.dumps(row, indent=4).encode()}


def _stats(rows: list[dict[str, Any]]) -> dict[str, Any]:
    messages = [row["error_message"] or "success" for row in rows]
    successes = messages.count("success")
    return {
        "count": len(rows),
        "successes": successes,
        "failed_to_download": len(rows) - successes,
        "failed_to_resize": 0,
        "status_dict": {message: messages.count(message) for message in set(messages)},
    }
