"""JSON Schema of the three JSON files of a corpus, generated from the classes that read them; the words are their docstrings'.

`python -m schemas.json_schema` rewrites `schemas/json/`; a test keeps it current. A schema states what a writer must produce,
so it is stricter in one way than our reader (patterns of keys and hashes), and open in another: unknown fields are those of a
newer minor version and pass. Not here: what one file cannot show by itself (references between fields, sums: `validate`).
"""

import inspect
import json
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from schemas import corpus, record, sample

FOLDER = Path(__file__).with_name("json")

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ROOTS = {"sample": sample.Sample, "record": record.Record, "corpus": corpus.Manifest}
_SHA256 = "^[0-9a-f]{64}$"
_LIMITS: dict[tuple[str, str], dict[str, Any]] = {
    ("Sample", "key"): {"pattern": "^[0-9]{8}-([0-9]{6}|[1-9][0-9]{6,11})$"},
    ("Sample", "segments"): {"minItems": 1},
    ("TextSegment", "text"): {"minLength": 1},
    ("ImageSegment", "image"): {"minimum": 0},
    ("Image", "member"): {"pattern": "^[^./]+[.][^/]+$"},
    ("Image", "width"): {"minimum": 1},
    ("Image", "height"): {"minimum": 1},
    ("Image", "phash"): {"pattern": "^[0-9a-f]{16}$"},
    ("Image", "sha256_original"): {"pattern": _SHA256},
    ("Match", "sentence"): {"minimum": 0},
    ("PublishedFile", "sha256"): {"pattern": _SHA256},
    ("PublishedFile", "bytes"): {"minimum": 0},
    ("Manifest", "name"): {"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"},
    ("Manifest", "recipe_hash"): {"pattern": _SHA256},
    ("Manifest", "format"): {"pattern": "^emu-corpus/1[.][0-9]+$"},
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema of `sample`, `record` or `corpus`."""
    root = _ROOTS[name]
    plain = TypeAdapter(root).json_schema(mode="validation")
    definitions: dict[str, Any] = plain.setdefault("$defs", {})
    for title, definition in [(root.__name__, plain), *definitions.items()]:
        _refine(title, definition)
    if not definitions:
        del plain["$defs"]
    return {"$schema": _DIALECT, "$id": f"{name}.schema.json", **plain}


def schema_bytes(name: str) -> bytes:
    """The committed file of a schema."""
    return json.dumps(json_schema(name), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def main() -> None:
    """Rewrite `schemas/json/`."""
    FOLDER.mkdir(exist_ok=True)
    for name in _ROOTS:
        (FOLDER / f"{name}.schema.json").write_bytes(schema_bytes(name))


def field_notes(cls: type) -> dict[str, str]:
    """What a dataclass's docstring says of each field (`name: words`, `one, other: words`); absent where it says nothing."""
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").split())
    names = "|".join(re.escape(item.name) for item in fields(cls))
    starts = list(re.finditer(rf"(?:^|(?<=[.!?] ))((?:{names})(?:, (?:{names}))*): ", text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    notes: dict[str, str] = {}
    for start, end in zip(starts, ends, strict=False):  # no field named: no start, but one end
        notes.update(dict.fromkeys(start[1].split(", "), text[start.end() : end].strip()))
    return notes


def _refine(title: str, definition: dict[str, Any]) -> None:
    """Give a definition the words of its class, one description a field, and the limits its type cannot say."""
    cls = _class_of(title)
    if cls is None:
        return
    notes = field_notes(cls)
    definition["description"] = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    for name, node in definition.get("properties", {}).items():
        node.pop("title", None)
        if name in notes:
            node["description"] = notes[name]
        _string_or_only(node).update(_LIMITS.get((title, name), {}))
    # A default may be left out of a file; not so what readers decide by.
    for name in {"format", "recipe_hash"} & definition.get("properties", {}).keys():
        definition["properties"][name].pop("default", None)
        definition["required"] = sorted({*definition.get("required", []), name})


def _class_of(title: str) -> type | None:
    """The dataclass of that name, or None: an enum says all it has to say by its values."""
    for module in (sample, record, corpus):
        found = getattr(module, title, None)
        if isinstance(found, type) and is_dataclass(found):
            return found
    return None


def _string_or_only(node: dict[str, Any]) -> dict[str, Any]:
    """Where the limit of an optional value belongs: the branch of its union that is not null."""
    branches = [branch for branch in node.get("anyOf", []) if branch.get("type") != "null"]
    return branches[0] if branches else node


if __name__ == "__main__":
    main()
