"""Columns of the golden corpus: features by a tower of 3 tokens of 4 numbers, tokens that are UTF-8 bytes, packs made by hand.

The layouts are the real ones (`docs/format.md` §7 to §9); only the dimensions are small. Every number can be told without a
model: `feature_values` says what an encoder would, and bytes are their own token ids.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash
from golden_documents import Row
from golden_files import (
    INDEX,
    RANGE,
    arrow_file,
    canonical,
    counts_of,
    index_row,
    reasons_of,
    tar_of,
    text_chars,
    write,
    write_part,
    write_record,
    write_rejects,
)

HEADER_BYTES = 1024
IMAGES_PER_MEMBER = 64
TOKENS, DIM = 3, 4
# (unit, image ordinal) that the tower could not encode.
UNREADABLE = {(2, 1)}

BF16, INT8 = "features/tiny.bf16", "features/tiny.int8"
TOKENIZER = "tokens/utf8-bytes"
PACKS_SETTINGS = {"tokens": TOKENIZER, "features": BF16, "length": 2048, "view": None, "phases": 4}
PACKS = f"packs/utf8-bytes.tiny.bf16.2048.{hashlib.sha256(canonical(PACKS_SETTINGS)).hexdigest()[:8]}"
BLOCK = 34  # [IMG], 32 slots, [/IMG]

SCALE = pa.struct([*RANGE, pa.field("xxh3", pa.uint64(), nullable=False)])
SCALES = pa.field("scales", pa.list_(pa.field("item", SCALE, nullable=False)), nullable=False)
IDS = pa.list_(pa.field("item", pa.int32(), nullable=False))
TOKENS_FIELDS = [
    pa.field("key", pa.string(), nullable=False),
    pa.field("row", pa.int64(), nullable=False),
    *(
        pa.field(name, IDS, nullable=False)
        for name in ("segment_lengths", "segment_ids", "caption_lengths", "caption_ids")
    ),
]
DOCUMENT = pa.struct(
    [
        pa.field("row", pa.int64(), nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("first_segment", "end_segment", "first_token")),
        pa.field("end_token", pa.int32()),
        pa.field("caption", pa.int32()),
        pa.field("images", IDS, nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("positions", "text_rows")),
    ]
)
PACKS_FIELDS = [
    pa.field("phase", pa.int8(), nullable=False),
    pa.field("held_out", pa.bool_(), nullable=False),
    *(pa.field(name, pa.int32(), nullable=False) for name in ("positions", "text_rows", "images")),
    pa.field("documents", pa.list_(pa.field("item", DOCUMENT, nullable=False)), nullable=False),
]


def feature_values(image: int) -> np.ndarray:
    """What the tower says of image `image` of any sample, float32 [tokens, dim]: small enough to be exact in bf16."""
    return ((np.arange(TOKENS * DIM, dtype=np.float32) + image) % 97).reshape(TOKENS, DIM) / 8


def as_bf16(values: np.ndarray) -> bytes:
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def safetensors_file(images: list[int], *, int8: bool) -> bytes:
    """One member: the header padded with spaces to a constant size, `scale` before `tokens`, images in order."""
    values = np.stack([feature_values(image) for image in images])
    tensors: dict[str, tuple[str, list[int], bytes]] = {}
    if int8:
        scale = np.abs(values).max(axis=(1, 2), keepdims=True).astype("<f4") / 127
        tensors["scale"] = ("F32", list(scale.shape), scale.tobytes())
        tensors["tokens"] = ("I8", list(values.shape), np.round(values / scale).astype(np.int8).tobytes())
    else:
        tensors["tokens"] = ("BF16", list(values.shape), as_bf16(values))
    header: dict[str, Any] = {"__metadata__": {"format": "emu-features/1"}}
    offset = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode().ljust(HEADER_BYTES - 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data for *_, data in tensors.values())


def write_features(corpus: Path, unit: int, rows: list[Row]) -> None:
    _write_features(corpus, BF16, unit, rows)
    if unit == 4:  # a column may lag behind: this one knows a single unit
        _write_features(corpus, INT8, unit, rows)


def _write_features(corpus: Path, column: str, unit: int, rows: list[Row]) -> None:
    int8 = column == INT8
    kept = [[image for image in range(len(images_of(row))) if (unit, image) not in UNREADABLE] for row in rows]
    files = [_feature_files(row, images, int8=int8) for row, images in zip(rows, kept, strict=True)]
    parts = []
    if rows:
        tar, offsets = tar_of([file for sample in files for file in sample])
        table = [
            _feature_index_row(row, images, sample, offsets, tar, int8=int8)
            for row, images, sample in zip(rows, kept, files, strict=True)
        ]
        metadata = {"format": "emu-index/1", "column": column, "unit": str(unit), "part": "0"}
        index = arrow_file(table, [*INDEX, SCALES] if int8 else INDEX, metadata)
        data, index_file = write_part(corpus, column, unit, 0, tar, index)
        parts = [{"data": data, "index": index_file, "samples": len(rows), "images": sum(map(len, kept))}]
    rejects = [
        {"key": row.document["key"], "row": row.row, "level": "image", "image": image, "url": None,
         "reason": "decode.truncated", "detail": ""}
        for row in rows for image in range(len(images_of(row))) if (unit, image) in UNREADABLE
    ]  # fmt: skip
    names = [name for sample in files for name, _ in sample if name.endswith(".safetensors")]
    fingerprint = {"dtype": "int8" if int8 else "bf16", "layer": "golden", "preprocessing": "none", "weights": "none"}
    write_record(corpus, {
        **_content(column, unit, rows, fingerprint, images=sum(map(len, kept)), rejects=rejects),
        "parts": parts,
        "rejects": write_rejects(corpus, column, unit, rejects),
        "reasons": reasons_of(rejects),
        "max_members": max((sum(name.startswith(row.document["key"]) for name in names) for row in rows), default=0),
        "extensions": ["safetensors"] if names else [],
    })  # fmt: skip


def _feature_files(row: Row, images: list[int], *, int8: bool) -> list[tuple[str, bytes]]:
    key = row.document["key"]
    starts = range(0, len(images), IMAGES_PER_MEMBER)
    members = [
        (
            f"{key}.features-{number:04d}.safetensors",
            safetensors_file(images[start : start + IMAGES_PER_MEMBER], int8=int8),
        )
        for number, start in enumerate(starts)
    ]
    return [(f"{key}.json", canonical(row.document)), *members]


def _feature_index_row(
    row: Row, images: list[int], files: list[tuple[str, bytes]], offsets: dict[str, int], tar: bytes, *, int8: bool
) -> dict[str, Any]:
    """As of samples, but members hold features, and each image has a range of its own; one that is missing has an empty one."""
    key = row.document["key"]
    absent = {"offset": 0, "bytes": 0, "xxh3": 0}
    tokens = [{**absent, "valid": False} for _ in images_of(row)]
    scales = [dict(absent) for _ in images_of(row)]
    token_bytes = TOKENS * DIM * (1 if int8 else 2)
    for place, image in enumerate(images):
        member, at = divmod(place, IMAGES_PER_MEMBER)
        held = min(IMAGES_PER_MEMBER, len(images) - member * IMAGES_PER_MEMBER)
        start = offsets[files[1 + member][0]] + HEADER_BYTES
        if int8:
            scales[image] = _range(tar, start + 4 * at, 4)
            start += 4 * held
        tokens[image] = {**_range(tar, start + token_bytes * at, token_bytes), "valid": True}
    plain = index_row(Row(row.row, {**row.document, "images": []}), files[:1], offsets)
    members = [
        {"name": name.removeprefix(f"{key}."), "offset": offsets[name], "bytes": len(data)} for name, data in files[1:]
    ]
    return {**plain, "members": members, "images": tokens, **({"scales": scales} if int8 else {})}


def _range(tar: bytes, offset: int, size: int) -> dict[str, int]:
    return {"offset": offset, "bytes": size, "xxh3": xxhash.xxh3_64_intdigest(tar[offset : offset + size])}


def write_tokens_and_packs(corpus: Path, unit: int, rows: list[Row]) -> None:
    _write_arrow(corpus, TOKENIZER, unit, rows, [token_row(row) for row in rows], TOKENS_FIELDS, {"model": "none"})
    packs = [pack for phase in range(4) for pack in packs_of(unit, rows, phase)]
    fingerprint = {name: str(value) for name, value in PACKS_SETTINGS.items()}
    _write_arrow(corpus, PACKS, unit, rows, packs, PACKS_FIELDS, fingerprint)


def token_row(row: Row) -> dict[str, Any]:
    segments = [list(segment.get("text", "").encode()) for segment in row.document["segments"]]
    captions = [list(caption["text"].encode()) for caption in row.document.get("captions", [])]
    return {
        "key": row.document["key"],
        "row": row.row,
        "segment_lengths": [len(ids) for ids in segments],
        "segment_ids": [token for ids in segments for token in ids],
        "caption_lengths": [len(ids) for ids in captions],
        "caption_ids": [token for ids in captions for token in ids],
    }


def packs_of(unit: int, rows: list[Row], phase: int) -> list[dict[str, Any]]:
    """Every document whole and all of a unit in one pack; the storyboard, too long for that, in two windows whose border moves."""
    if unit == 4:
        segments = len(rows[0].document["segments"])
        border = 40 - phase
        windows = [window(unit, rows[0], 0, border), window(unit, rows[0], border, segments)]
        return [pack_of(phase, [part], held_out=True) for part in windows]
    caption = phase % 3 if unit == 1 else None
    return (
        [pack_of(phase, [window(unit, row, 0, None, caption=caption) for row in rows], held_out=False)] if rows else []
    )


def window(unit: int, row: Row, first: int, end: int | None, *, caption: int | None = None) -> dict[str, Any]:
    """Segments `first` to `end` of a document: <s>, an image block for each image that has features, text, </s>."""
    segments = row.document["segments"][first:end]
    images = [s["image"] for s in segments if "image" in s and (unit, s["image"]) not in UNREADABLE]
    texts = [s["text"] for s in segments if "text" in s]
    if caption is not None:
        texts = [row.document["captions"][caption]["text"]]
    text_tokens = sum(len(text.encode()) for text in texts)
    return {
        "row": row.row,
        "first_segment": first,
        "end_segment": first + len(segments),
        "first_token": 0,
        "end_token": None,
        "caption": caption,
        "images": images,
        "positions": 2 + text_tokens + BLOCK * len(images),
        "text_rows": 1 + text_tokens,
    }


def pack_of(phase: int, parts: list[dict[str, Any]], *, held_out: bool) -> dict[str, Any]:
    sums = {name: sum(part[name] for part in parts) for name in ("positions", "text_rows")}
    images = sum(len(part["images"]) for part in parts)
    assert sums["positions"] <= PACKS_SETTINGS["length"]
    return {"phase": phase, "held_out": held_out, **sums, "images": images, "documents": parts}


def _write_arrow(
    corpus: Path, column: str, unit: int, rows: list[Row], table: list[Any], fields: list[pa.Field], fingerprint: Any
) -> None:
    kind = column.split("/")[0]
    parts = []
    if table:
        data = arrow_file(table, fields, {"format": f"emu-{kind}/1", "column": column, "unit": str(unit), "part": "0"})
        name = f"{column}/{unit:08d}-00-{hashlib.sha256(data).hexdigest()[:8]}.arrow"
        parts = [{"data": write(corpus, name, data), "index": None, "samples": len(rows), "images": 0}]
    nothing = {"parts": parts, "rejects": None, "reasons": {}, "max_members": 0, "extensions": []}
    write_record(corpus, {**_content(column, unit, rows, fingerprint, images=0, rejects=[]), **nothing})


def _content(column: str, unit: int, rows: list[Row], fingerprint: Any, *, images: int, rejects: Any) -> dict[str, Any]:
    return {
        "column": column,
        "unit": unit,
        "recipe_hash": hashlib.sha256(canonical(fingerprint)).hexdigest(),
        "counts": counts_of(rows, rejects, images=images) | {"text_chars": sum(map(text_chars, rows))},
        "attributes": {},
        "fingerprint": fingerprint,
    }


def images_of(row: Row) -> list[Any]:
    return list(row.document.get("images", []))
