"""One interleaved document: an ordered list of text and image segments, and the images they point at.

A pair, an MMC4 document, a video, a storyboard, a conversation and a plain text are all this one shape (`docs/format.md` §3).
A `Sample` describes; its pictures are members of the tar beside it. Not here: offsets (`index`), bytes (`shard_writer`).
"""

import json
import math
import re
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, ClassVar, Literal

from schemas import canonical
from schemas.errors import CorpusError

SAMPLE_FORMAT: Literal["emu-sample/1"] = "emu-sample/1"

_KEY = re.compile(r"([0-9]{8})-([0-9]{6}|[1-9][0-9]{6,11})")


# Fields that are read back as floats, so that a step may give `time=3`: 3 and 3.0 are different bytes.
_FLOATS = frozenset({"time", "similarity"})


def make_key(unit: int, row: int) -> str:
    """Name row `row` of unit `unit`, both counted from 0: `00000042-000017`. It holds no dot, so every reader splits it alike."""
    return f"{unit:08d}-{row:06d}"


def split_key(key: str) -> tuple[int, int]:
    """The unit of origin and the row in it. Raises `CorpusError` for anything `make_key` does not make."""
    match = _KEY.fullmatch(key)
    if match is None:
        raise CorpusError(f"{key!r} is not a key: expected eight digits, a hyphen and at least six digits")
    return int(match[1]), int(match[2])


class _Strict:
    """Numbers are not read from strings when pydantic parses one of these; fields of a newer minor version are passed over."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"strict": True}


class Role(StrEnum):
    """Who speaks a segment of a conversation."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"


@dataclass(frozen=True, slots=True)
class TextSegment(_Strict):
    """A stretch of text; sentences of a document are segments of their own.

    text: Unicode, never empty.
    time: seconds from the start of the video at which it is said, for timed text.
    role: who says it, for conversations.
    """

    text: str
    time: float | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class ImageSegment(_Strict):
    """The place of a picture in the document.

    image: ordinal in `Sample.images`, counted from 0; one image may stand in several places.
    time: seconds from the start of the video at which the picture is shown, for frames.
    role: whose turn it stands in, for conversations; a picture may open, end or be a turn, so its neighbours cannot tell.
    """

    image: int
    time: float | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Original(_Strict):
    """The picture as it was found: pixels as displayed (after EXIF orientation), format by its bytes, size in bytes."""

    width: int
    height: int
    format: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Match(_Strict):
    """The sentence an image was assigned to: ordinal among the text segments, counted from 0, and their cosine similarity."""

    sentence: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Image(_Strict):
    """A picture: a media member of the tar, or a box in one.

    member: the member's name behind `KEY.`, as WebDataset splits it: `0.jpg`.
    width, height: pixels of the picture (of the box, where there is one).
    box: left, top, width, height in pixels of the member; absent when the picture is the whole member.
    phash: perceptual hash of the stored picture, 16 hex digits (`docs/format.md` §3.3).
    url: where it was asked for, as the metadata had it.
    sha256_original: hex digest of the bytes as fetched, before decoding.
    """

    member: str
    width: int
    height: int
    box: tuple[int, int, int, int] | None = None
    phash: str | None = None
    url: str | None = None
    sha256_original: str | None = None
    original: Original | None = None
    match: Match | None = None


@dataclass(frozen=True, slots=True)
class Caption(_Strict):
    """One candidate caption with its image–text similarity; which one is used is drawn when packs are made."""

    text: str
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class Origin(_Strict):
    """Where a sample comes from: name of the data set, base name of the metadata file, row in that file, id the source gives it."""

    name: str
    file: str
    row: int
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Sample(_Strict):
    """One document of a corpus.

    key: `make_key` of the unit of origin, unique in the corpus.
    source: where it comes from.
    segments: the document in reading order.
    images: the pictures, in the order of their members.
    captions: every candidate caption, where a source has several.
    attributes: source columns kept as they were, by name; JSON scalars and lists.
    licence: as the source states it.
    format: name and major version of this shape; readers refuse any other.
    """

    key: str
    source: Origin
    segments: tuple[TextSegment | ImageSegment, ...]
    images: tuple[Image, ...] = ()
    captions: tuple[Caption, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    format: Literal["emu-sample/1"] = SAMPLE_FORMAT

    def to_json(self) -> bytes:
        """The member `KEY.json`: canonical bytes (`schemas.canonical`), absent values left out."""
        return canonical.dumps(_plain(self))

    @classmethod
    def from_json(cls, data: bytes | str) -> "Sample":
        """Parse and check a member `KEY.json`. Raises `CorpusError` naming the key and the field that is off."""
        return _parse(data)

    @property
    def text_chars(self) -> int:
        """Characters (code points) over all text segments."""
        return sum(len(segment.text) for segment in self.segments if isinstance(segment, TextSegment))

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the media members in order, each once: several boxes may share one."""
        return tuple(dict.fromkeys(image.member for image in self.images))


@cache
def sample_adapter() -> Any:
    """The pydantic adapter of `Sample`: parses strictly, and generates the JSON Schema."""
    from pydantic import TypeAdapter

    return TypeAdapter(Sample)


def _plain(value: Any) -> Any:
    """Dataclasses to dicts without their absent fields, tuples to lists; attributes go through untouched.

    A time or score that is no number is no time or score: `null` would not come back as the same bytes.
    """
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    plain: dict[str, Any] = {}
    kind: Any = type(value)  # mypy takes a class for unhashable
    for name in (names := _field_names(kind)) or ():
        item = getattr(value, name)
        if item is None or (name in _FLOATS and not math.isfinite(item)):
            continue
        item = float(item) if name in _FLOATS else _plain(item)
        if name == "segments" or item not in ([], {}):  # segments are required, even of a document that holds nothing
            plain[name] = item
    return value if names is None else plain


@cache
def _field_names(kind: type) -> tuple[str, ...] | None:
    return tuple(item.name for item in fields(kind)) if is_dataclass(kind) else None


def _parse(data: bytes | str) -> Sample:
    from pydantic import ValidationError

    try:
        sample: Sample = sample_adapter().validate_json(data)
    except ValidationError as error:
        first = min(error.errors(), key=lambda found: found["loc"] != ("format",))
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CorpusError(f"sample {_key_of(data)}: {place}: {first['msg']}, found {first['input']!r:.80}") from None
    _check_references(sample)
    return sample


def _key_of(data: bytes | str) -> str:
    """The key of a document that does not parse as a sample, for its error message."""
    try:
        return str(json.loads(data)["key"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return "(no key)"


def _check_references(sample: Sample) -> None:
    split_key(sample.key)
    texts = sum(isinstance(segment, TextSegment) for segment in sample.segments)
    for segment in sample.segments:
        if isinstance(segment, ImageSegment) and not 0 <= segment.image < len(sample.images):
            raise CorpusError(
                f"sample {sample.key}: a segment points at image {segment.image}, but there are {len(sample.images)}"
            )
    for image in sample.images:
        if image.match is not None and not 0 <= image.match.sentence < texts:
            raise CorpusError(
                f"sample {sample.key}: image {image.member} is matched to sentence {image.match.sentence} of {texts}"
            )
