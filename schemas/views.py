"""Views: lists of keys that a global decision keeps (content duplicates, filters, splits). Shards are never rewritten for one.

`views/NAME.parquet` holds one column, `key`, by unit and row, and how the list was decided. It is created once and never
changes; another decision is another view. Not here: deciding (`pipelines.views`).
"""

import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from schemas import canonical
from schemas.corpus import Corpus
from schemas.errors import CorpusError, UserError

VIEW_FORMAT = "emu-view/1"
VIEWS = "views"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KEY = r"^[0-9]{8}-([0-9]{6}|[1-9][0-9]{6,11})$"


@dataclass(frozen=True, slots=True)
class View:
    """A view read whole. keys: an Arrow array of strings, by unit and row. definition: how they were decided."""

    name: str
    definition: dict[str, Any]
    keys: pa.ChunkedArray

    def as_set(self) -> frozenset[str]:
        """The keys, for asking whether one is in."""
        return frozenset(self.keys.to_pylist())


def write_view(
    corpus: Corpus, name: str, keys: Iterable[str] | pa.Array | pa.ChunkedArray, *, definition: dict[str, Any]
) -> str:
    """Create a view from keys in any order; return the name of its file.

    Raises `UserError` if the name is taken or may not be one, or if a key is none or comes twice.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"view {name!r}: use letters, digits and . _ - (at most 100, no leading mark)")
    table = pa.table({"key": _sorted_keys(keys, view=name)})
    metadata = {"format": VIEW_FORMAT, "name": name, "definition": canonical.dumps(definition).decode()}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
    try:
        corpus.storage.create(view_name(name), sink.getvalue())
    except FileExistsError:
        raise UserError(
            f"{corpus.url}: there is a view {name!r} already, and views never change; choose another name"
        ) from None
    return view_name(name)


def read_view(corpus: Corpus, name: str) -> View:
    """Read a view. Raises `UserError` naming those that exist if there is none of this name, `CorpusError` if it is damaged."""
    try:
        data = corpus.storage.read(view_name(name))
    except FileNotFoundError:
        there = ", ".join(list_views(corpus)) or "none"
        raise UserError(f"{corpus.url} has no view {name!r}; there are: {there}") from None
    file = open_view(io.BytesIO(data), name=name)
    try:
        keys = file.read(columns=["key"]).column("key")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{view_name(name)}: not a readable view ({error}); restore it from a copy") from None
    return View(name, json.loads(file.schema_arrow.metadata[b"definition"]), keys)


def list_views(corpus: Corpus) -> list[str]:
    """Names of the views, sorted."""
    names = [PurePosixPath(entry.name) for entry in corpus.storage.list(VIEWS)]
    return [name.stem for name in names if name.suffix == ".parquet"]


def view_name(name: str) -> str:
    """The file of a view."""
    return f"{VIEWS}/{name}.parquet"


def open_view(file: io.IOBase, *, name: str) -> pq.ParquetFile:
    """A view's file, its metadata checked, its keys not yet read. Raises `CorpusError` if it is damaged or of another version."""
    try:
        parquet = pq.ParquetFile(file)
        metadata = parquet.schema_arrow.metadata or {}
    except (pa.ArrowException, OSError, ValueError) as error:
        raise CorpusError(f"{view_name(name)}: not a readable view ({error}); restore it from a copy") from None
    found = metadata.get(b"format", b"").decode("utf-8", "replace")
    if found.partition(".")[0] != VIEW_FORMAT:
        raise CorpusError(f"{view_name(name)}: format {found!r}, this version reads {VIEW_FORMAT!r}")
    if "key" not in parquet.schema_arrow.names or parquet.schema_arrow.field("key").type != pa.string():
        raise CorpusError(f"{view_name(name)}: no column `key` of strings; restore it from a copy")
    try:
        definition = json.loads(metadata[b"definition"])
    except (KeyError, ValueError, RecursionError) as error:
        raise CorpusError(f"{view_name(name)}: its definition is no JSON ({error!r}); restore it from a copy") from None
    if metadata.get(b"name", b"").decode("utf-8", "replace") != name or not isinstance(definition, dict):
        raise CorpusError(f"{view_name(name)}: it is not the view {name!r} that its file says; restore it from a copy")
    return parquet


def _sorted_keys(keys: Iterable[str] | pa.Array | pa.ChunkedArray, *, view: str) -> pa.Array:
    """By unit and row as numbers: rows above 999,999 have longer keys, which plain string order would put too early."""
    array = keys if isinstance(keys, pa.Array | pa.ChunkedArray) else pa.array(keys, pa.string())
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    bad = array.filter(pc.invert(pc.fill_null(pc.match_substring_regex(array, _KEY), False)))
    if len(bad):
        raise UserError(f"view {view!r}: {bad[0].as_py()!r} is not a key such as 00000042-000017")
    table = pa.table({"unit": pc.utf8_slice_codeunits(array, 0, 8), "length": pc.utf8_length(array), "key": array})
    ordered = table.sort_by([("unit", "ascending"), ("length", "ascending"), ("key", "ascending")]).column("key")
    ordered = ordered.combine_chunks()
    twice = ordered[1:].filter(pc.equal(ordered[1:], ordered[:-1])) if len(ordered) > 1 else []
    if len(twice):
        raise UserError(f"view {view!r}: key {twice[0].as_py()} is given twice")
    return ordered
