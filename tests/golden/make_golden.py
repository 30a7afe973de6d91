"""Write the golden corpus of format version 1 with plain libraries only: an independent witness of what our code writes and reads.

    python tests/golden/make_golden.py [FOLDER]        (default: `corpus/` beside this file)

Nothing of ours is imported. The result is committed; tests read it with our reader and with plain libraries, and write the
same samples with our writer, which must give the same bytes. It is never made anew to please a test: a reader of today has
to read it for as long as the major version is 1.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import golden_columns
import golden_documents as documents
import pyarrow as pa
from golden_documents import Row
from golden_files import (
    INDEX,
    PLAN,
    arrow_file,
    canonical,
    counts_of,
    files_of,
    index_row,
    members_of,
    parquet_file,
    reasons_of,
    tar_of,
    write,
    write_part,
    write_record,
    write_rejects,
)

RECIPE = {"source": "golden", "steps": [{"name": "Keep", "version": 1, "min_chars": 1}]}
# What one part of a unit may hold; unit 5 shows a unit of two parts.
SMALL_PARTS = {5: 4096}


def rejected(
    key: str, row: int, reason: str, *, image: int | None = None, url: str | None = None, detail: str = ""
) -> Any:
    level = "row" if image is None else "image"
    return {"key": key, "row": row, "level": level, "image": image, "url": url, "reason": reason, "detail": detail}


GONE = "https://images.example.org/gone.jpg"
LATE = "https://images.example.org/pair3.jpg"
# (source, first row, samples, rejects) of units 0 to 7; unit 8 is the retry of a row of unit 0.
UNITS: list[tuple[str, int, list[Row], list[Any]]] = [
    ("part-00000.parquet", 0, documents.laion_2b(), [
        rejected("00000000-000001", 1, "http.404", url=GONE),
        rejected("00000000-000003", 3, "http.503", url=LATE, detail="attempts=3"),
    ]),
    ("part-00000-coco.parquet", 0, documents.laion_coco(), []),
    ("docs_no_face_shard_0_v2.jsonl.zip", 0, documents.mmc4(), [
        rejected("00000002-000000", 0, "filter.similarity", image=2, url=GONE, detail="0.20<0.24"),
    ]),
    ("results_2M_val.csv", 0, documents.webvid(), []),
    ("videos.txt", 0, documents.yt_storyboard(), []),
    ("conversations.json", 0, documents.instruct(), []),
    ("documents.jsonl", 0, documents.text(), [rejected("00000006-000001", 1, "text.too_short", detail="3<5")]),
    ("part-00001.parquet", 0, [], [rejected("00000007-000000", 0, "url.invalid", url="ht!tp:")]),
    ("part-00000.parquet", 3, documents.retried(), []),
]  # fmt: skip
RETRY = 8


def write_samples(corpus: Path, unit: int, rows: list[Row], rejects: list[Any]) -> None:
    parts = []
    for number, group in enumerate(groups(rows, SMALL_PARTS.get(unit, 2 << 30))):
        files = [files_of(row) for row in group]
        tar, offsets = tar_of([file for sample in files for file in sample])
        table = [index_row(row, sample, offsets) for row, sample in zip(group, files, strict=True)]
        metadata = {"format": "emu-index/1", "column": "samples", "unit": str(unit), "part": str(number)}
        data, index = write_part(corpus, "samples", unit, number, tar, arrow_file(table, INDEX, metadata))
        images = sum(len(row["images"]) for row in table)
        parts.append({"data": data, "index": index, "samples": len(group), "images": images})
    types: dict[str, str] = {}
    for row in rows:
        for name, value in row.document.get("attributes", {}).items():
            types[name] = types.get(name, "null") if value is None else TYPES[type(value)]
    content = {
        "column": "samples",
        "unit": unit,
        "recipe_hash": hashlib.sha256(canonical(RECIPE)).hexdigest(),
        "counts": counts_of(rows, rejects, images=sum(part["images"] for part in parts)),
        "parts": parts,
        "rejects": write_rejects(corpus, "samples", unit, rejects),
        "reasons": reasons_of(rejects),
        "max_members": max((len(members_of(row)) for row in rows), default=0),
        "extensions": sorted({name.rsplit(".", 1)[1] for row in rows for name in members_of(row)}),
        "attributes": types,
        "fingerprint": None,
    }
    write_record(corpus, content)


TYPES = {bool: "bool", int: "int", float: "float", str: "string", list: "list<string>"}


def groups(rows: list[Row], part_bytes: int) -> list[list[Row]]:
    found: list[list[Row]] = []
    for row in rows:
        if not found or len(tar_of([f for r in [*found[-1], row] for f in files_of(r)])[0]) > part_bytes:
            found.append([])
        found[-1].append(row)
    return found


def write_plan(corpus: Path) -> None:
    """Two generations: the plan, and one unit that tries a row again which got a retryable answer."""
    rows = [
        {
            "ordinal": unit,
            "source": f"metadata/{source}",
            "fingerprint": hashlib.sha256(source.encode()).hexdigest()[:16],
            "first_row": first_row,
            "rows": len(samples) + sum(reject["level"] == "row" for reject in rejects),
            "byte_offset": 0 if source.endswith(".jsonl") else None,
            "byte_length": 4096 if source.endswith(".jsonl") else None,
            "keys": [row.document["key"] for row in samples] if unit == RETRY else None,
        }
        for unit, (source, first_row, samples, rejects) in enumerate(UNITS)
    ]
    write(corpus, "plan/000000.parquet", parquet_file(rows[:RETRY], PLAN, {"format": "emu-plan/1"}))
    write(corpus, "plan/000001.parquet", parquet_file(rows[RETRY:], PLAN, {"format": "emu-plan/1"}))


def write_view(corpus: Path) -> None:
    """The keys of everything that has a picture."""
    rows = [{"key": row.document["key"]} for _, _, samples, _ in UNITS for row in samples if row.pictures]
    rows.sort(key=lambda row: row["key"])
    metadata = {"format": "emu-view/1", "name": "pictures", "definition": '{"keep":"samples with a picture"}'}
    write(corpus, "views/pictures.parquet", parquet_file(rows, [pa.field("key", pa.string())], metadata))


def main(corpus: Path) -> None:
    manifest = {
        "format": "emu-corpus/1.0",
        "name": "golden",
        "recipe": RECIPE,
        "recipe_hash": hashlib.sha256(canonical(RECIPE)).hexdigest(),
        "licence": "CC0-1.0",
    }
    write(corpus, "corpus.json", canonical(manifest))
    write_plan(corpus)
    write_view(corpus)
    for unit, (_, _, rows, rejects) in enumerate(UNITS):
        write_samples(corpus, unit, rows, rejects)
        golden_columns.write_features(corpus, unit, rows)
        golden_columns.write_tokens_and_packs(corpus, unit, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("corpus"))
