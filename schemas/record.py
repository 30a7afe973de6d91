"""The record of a unit in one column: its creation commits the shard, and it is all a reader needs to find and trust the files.

`content` is what every run of the same plan must reproduce; `run` is what this run was like (when, on what, how often tried)
and is never compared. Not here: creating it exactly once (`corpus`), adding many of them up (`totals`).
"""

import json
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from typing import Any, Literal

from schemas import canonical
from schemas.errors import CorpusError

RECORD_FORMAT: Literal["emu-record/1"] = "emu-record/1"


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that the record vouches for: name in the corpus, size in bytes, hex sha256 of its bytes."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Part:
    """One tar with its index, or one Arrow file of a column that has no tar.

    samples, images: how many it holds. index: absent for columns that are their own index.
    """

    data: PublishedFile
    index: PublishedFile | None
    samples: int
    images: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Both ledgers of a unit: `rows = samples + rejected_rows` and `images_asked = images + rejected_images`."""

    rows: int = 0
    samples: int = 0
    rejected_rows: int = 0
    images_asked: int = 0
    images: int = 0
    rejected_images: int = 0
    text_chars: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def imbalance(self) -> str | None:
        """What does not add up, in words, or None."""
        if self.rows != self.samples + self.rejected_rows:
            return f"{self.rows} rows, but {self.samples} samples + {self.rejected_rows} rejected rows"
        if self.images_asked != self.images + self.rejected_images:
            return (
                f"{self.images_asked} images asked for, but {self.images} kept + {self.rejected_images} rejected images"
            )
        return None


@dataclass(frozen=True, slots=True)
class Content:
    """What a unit became; equal in every run of the same plan, responses and toolchain.

    recipe_hash: of the recipe (samples) or of the settings that made the column.
    reasons: level (`row`, `image`) to reason to number of rejects.
    rejects: the parquet file that lists them, absent if there are none.
    max_members: most media members that one sample has; what a reader of tars must declare.
    extensions: endings of the media members, sorted: `jpg`; storyboard sheets may have several.
    attributes: kept source column to the JSON type of its values in this unit.
    fingerprint: of a column made by a model: weights, layer, preprocessing, dtype, by name.
    """

    column: str
    unit: int
    recipe_hash: str
    counts: Counts
    parts: tuple[Part, ...]
    rejects: PublishedFile | None
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    max_members: int = 0
    extensions: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)
    fingerprint: dict[str, str] | None = None

    @property
    def files(self) -> tuple[PublishedFile, ...]:
        """Every file the record names, in the order of publication."""
        parts = [file for part in self.parts for file in (part.data, part.index) if file is not None]
        return (*parts, self.rejects) if self.rejects is not None else tuple(parts)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What the attempt that committed was like; never compared.

    started_unix_seconds, seconds: when it began and how long it took. engine: the runner. attempt: 1 for the first try.
    machine: where it ran. toolchain: versions of what decides bytes, by package.
    """

    started_unix_seconds: float
    seconds: float
    engine: str
    attempt: int = 1
    machine: str = ""
    toolchain: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """One committed unit of one column."""

    content: Content
    run: RunInfo
    format: Literal["emu-record/1"] = RECORD_FORMAT

    def to_json(self) -> bytes:
        """Canonical bytes of the record file."""
        return canonical.dumps(asdict(self))

    @classmethod
    def from_json(cls, data: bytes | str, *, name: str) -> "Record":
        """Parse the record file `name`. Raises `CorpusError` naming it and the field that is off."""
        from pydantic import ValidationError

        try:
            record: Record = record_adapter().validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CorpusError(
                f"{name}: {place}: {first['msg']}; this version reads {RECORD_FORMAT!r}: "
                f"update emu-corpus, or restore the record"
            ) from None
        return record


@cache
def record_adapter() -> Any:
    """The pydantic adapter of `Record`: checks types, passes over fields of newer minor versions, generates the JSON Schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(Record)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over records: what a driver keeps instead of the records themselves."""

    units: int = 0
    counts: Counts = Counts()
    reasons: dict[str, dict[str, int]] = field(default_factory=dict)
    data_bytes: int = 0
    parts: int = 0
    max_members: int = 0
    extensions: tuple[str, ...] = ()
    attributes: dict[str, str] = field(default_factory=dict)

    def add(self, content: Content) -> "Totals":
        """These totals and one more unit."""
        return replace(
            self,
            units=self.units + 1,
            counts=self.counts + content.counts,
            reasons=_merge_reasons(self.reasons, content.reasons),
            data_bytes=self.data_bytes + sum(part.data.bytes for part in content.parts),
            parts=self.parts + len(content.parts),
            max_members=max(self.max_members, content.max_members),
            extensions=tuple(sorted({*self.extensions, *content.extensions})),
            attributes=merge_types(self.attributes, content.attributes),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        plain: dict[str, Any] = json.loads(canonical.dumps(asdict(self)))
        return plain


def merge_types(one: dict[str, str], other: dict[str, str]) -> dict[str, str]:
    """JSON types of attributes seen in two places: null yields, int widens to float, anything else that differs is `mixed`."""
    merged = dict(one)
    for name, kind in other.items():
        merged[name] = _widest(merged.get(name, "null"), kind)
    return dict(sorted(merged.items()))


def json_type(value: Any) -> str:
    """The JSON type of an attribute: null, bool, int, float, string, `list<…>` or mixed."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int():
            return "int"
        case float():
            return "float"
        case str():
            return "string"
        case list() | tuple():
            inner = "null"
            for item in value:
                inner = _widest(inner, json_type(item))
            return f"list<{inner}>"
    return "mixed"


def _widest(one: str, other: str) -> str:
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    if {one, other} == {"int", "float"}:
        return "float"
    if one.startswith("list<") and other.startswith("list<"):
        return f"list<{_widest(one[5:-1], other[5:-1])}>"
    return "mixed"


def _merge_reasons(one: dict[str, dict[str, int]], other: dict[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    merged = {level: dict(reasons) for level, reasons in one.items()}
    for level, reasons in other.items():
        mine = merged.setdefault(level, {})
        for reason, count in reasons.items():
            mine[reason] = mine.get(reason, 0) + count
    return merged
