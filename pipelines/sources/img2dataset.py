"""A finished img2dataset output, or any WebDataset tar of pictures and texts, as a source: nothing is fetched or encoded again.

One shard file is one unit. A row becomes `[image, text]` with the picture byte for byte as it lies there, or is refused: for the
reason that img2dataset wrote down (`img2dataset_reasons`), or because what it names cannot be had or is no picture. Keys of others
are kept as `source.id`; ours go by unit and row, so theirs may repeat. `original` says what was found in the shard; the size
before img2dataset's resizing is in attributes. Not here: layouts (`foreign_shards`), members (`foreign_rows`), cut-offs (steps).
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from pipelines.media.image import ImageFormat, read_header, sniff
from pipelines.media.pixels import HARD_MAX_PIXELS
from pipelines.pipeline import Draft, DraftImage, Facet, Source, run_setting
from pipelines.sources.columns import Kind, can_hold, cast, word
from pipelines.sources.files import base_name, check_unchanged, is_same_file
from pipelines.sources.foreign_rows import ForeignRow, Limits
from pipelines.sources.foreign_shards import Shard, find_shards, open_shard
from pipelines.sources.img2dataset_reasons import refusal
from schemas import canonical
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal, Refused
from schemas.sample import ImageSegment, Origin, Original, TextSegment

_SPENT = frozenset({"key", "status", "error_message", "width", "height"})
_SHA256 = re.compile(r"[0-9a-f]{64}")
_EXTENSIONS = {ImageFormat.JPEG: "jpg", ImageFormat.PNG: "png", ImageFormat.WEBP: "webp"}
_EXACT = 1 << 53
_MAX_DEPTH = 32  # of lists and objects in metadata
_LEFT_OUT = "left_out"


@dataclass(frozen=True, slots=True)
class Img2dataset(Source):
    """Shards that img2dataset, or another maker of WebDataset tars, left behind.

    paths: tars, tables, folders or patterns; a corpus may grow by more of them. name: of the data set, written into every sample.
    keep: attributes to keep, with their types. keep_others: whether other metadata is kept too, with the types it has.
    text, url: names that the caption and the URL have in metadata, the first that is there counts; a text file beside the picture
    is the caption before all of them. pictures: names that a column of pictures has in a table.
    max_pixels: width times height of a picture; max_picture_bytes: of its file. What is larger is refused.
    """

    version: ClassVar[int] = 1
    makes: ClassVar[frozenset[Facet]] = frozenset({Facet.BODY, Facet.SIZE, Facet.PAYLOAD})

    paths: tuple[str, ...] = run_setting(())
    name: str = field(default="imported", kw_only=True)
    keep: dict[str, Kind] = field(default_factory=dict, kw_only=True, hash=False)
    keep_others: bool = field(default=True, kw_only=True)
    text: tuple[str, ...] = field(default=("caption", "text", "TEXT", "txt"), kw_only=True)
    url: tuple[str, ...] = field(default=("url", "URL"), kw_only=True)
    pictures: tuple[str, ...] = field(
        default=("jpg", "jpeg", "png", "webp", "image", "images", "image_bytes", "bytes"), kw_only=True
    )
    max_pixels: int = field(default=50_000_000, kw_only=True)
    max_picture_bytes: int = field(default=100_000_000, kw_only=True)

    def __post_init__(self) -> None:
        if not 1 <= self.max_pixels <= HARD_MAX_PIXELS:
            raise ValueError(f"max_pixels is {self.max_pixels}, expected 1 to {HARD_MAX_PIXELS:,}")
        if not 1 <= self.max_picture_bytes <= 1 << 30:
            raise ValueError(f"max_picture_bytes is {self.max_picture_bytes}, expected 1 to {1 << 30:,}")

    @property
    def kept(self) -> tuple[str, ...]:
        """See `Source.kept`."""
        return tuple(self.keep)

    def check(self, needs: dict[str, str]) -> None:
        """See `Source.check`. Tables are held against `keep` and `needs`; what JSON members have shows when they are read."""
        for shard in self._shards():
            if shard.schema is None:
                continue
            for column, step in needs.items():
                if column not in shard.schema.names:
                    raise UserError(
                        f"{shard.path}: column {column!r} is missing in its metadata; the step `{step}` reads it. "
                        f"The metadata has {', '.join(map(repr, shard.schema.names))}. Next: leave the step out"
                    )
            for column, kind in self.keep.items():
                if column in shard.schema.names and not can_hold(kind, shard.schema.field(column).type):
                    raise UserError(
                        f"{shard.path}: column {column!r} holds {shard.schema.field(column).type}, expected {kind.value}; "
                        f"change its type under `source.keep`"
                    )

    def units(self, *, first_ordinal: int, planned: Sequence[Unit]) -> list[Unit]:
        """See `Source.units`: one for each shard."""
        known = {unit.source: unit.fingerprint for unit in planned}
        units: list[Unit] = []
        for shard in self._shards():
            path, now = shard.path, shard.fingerprint
            if path in known:
                check_unchanged(path, now=now, planned=known[path])
            elif not any(is_same_file(path, now=now, source=old, planned=print_) for old, print_ in known.items()):
                units.append(Unit(first_ordinal + len(units), path, now, 0, shard.rows))
                known[path] = now
        return units

    def rows(self, unit: Unit) -> Iterator[ForeignRow]:
        """See `Source.rows`."""
        yield from self._shard(unit).read(Limits(self.max_picture_bytes))

    def parse(self, row: ForeignRow, *, key: str, origin_row: int, unit: Unit) -> Draft | Refusal:
        """See `Source.parse`. A row that fell at its maker's is a draft that is refused at once: its URL goes into the rejects."""
        facts = _facts(row)
        if isinstance(facts, Refusal):
            return facts
        url = next((facts[name] for name in self.url if isinstance(facts.get(name), str)), "")
        foreign_key = row.key or facts.get("key")
        origin = Origin(
            self.name, base_name(unit.source), origin_row, id=None if foreign_key is None else str(foreign_key) or None
        )
        try:
            images = self._images(row, facts, url)
            text, spent = self._text(row, facts)
            attributes = self._attributes(row, facts, spent={*spent, *(n for n in self.url if facts.get(n) == url)})
        except Refused as refused:
            if not facts and not row.pictures:
                return refused.refusal
            lost = tuple(DraftImage(ordinal, url) for ordinal in range(max(1, len(row.pictures))))
            return Draft(key, origin, (), lost, refusal=refused.refusal)
        pictures = tuple(ImageSegment(image.ordinal) for image in images)
        segments: tuple[ImageSegment | TextSegment, ...] = (*pictures, TextSegment(text)) if text else pictures
        return Draft(key, origin, segments, images, attributes=attributes)

    def _images(self, row: ForeignRow, facts: dict[str, Any], url: str) -> tuple[DraftImage, ...]:
        failure = None if row.pictures else refusal(facts.get("status"), facts.get("error_message"))
        if failure is not None:
            raise Refused(failure.reason, failure.detail)
        if row.too_large:
            raise Refused(Reason.BODY_TOO_LARGE, word(row.too_large))
        if row.lack:
            raise Refused(Reason.SOURCE_MALFORMED, row.lack)
        known = facts.get("sha256")
        sha256 = known if isinstance(known, str) and _SHA256.fullmatch(known) else None
        return tuple(self._image(ordinal, body, url, sha256) for ordinal, body in enumerate(row.pictures))

    def _image(self, ordinal: int, body: bytes, url: str, sha256: str | None) -> DraftImage:
        """A picture as it is: its header alone is looked at."""
        format = sniff(body)
        if format not in _EXTENSIONS:
            raise Refused(Reason.DECODE_UNSUPPORTED, format.value)
        header = read_header(body, max_pixels=self.max_pixels)
        return DraftImage(
            ordinal,
            url,
            body=body,
            sha256_original=sha256,
            original=Original(header.width, header.height, format.value, len(body)),
            payload=body,
            extension=_EXTENSIONS[format],
            width=header.width,
            height=header.height,
        )

    def _text(self, row: ForeignRow, facts: dict[str, Any]) -> tuple[str, set[str]]:
        """The caption, and the names in the metadata that say just that."""
        told = {name: facts[name] for name in self.text if isinstance(facts.get(name), str)}
        if row.text is None:
            text = next(iter(told.values()), "")
        else:
            try:
                text = row.text.decode("utf-8")
            except UnicodeDecodeError:
                raise Refused(Reason.SOURCE_MALFORMED, "txt.encoding") from None
        return text, {name for name in self.text if (facts.get(name) or "") == text}

    def _attributes(self, row: ForeignRow, facts: dict[str, Any], *, spent: set[str]) -> dict[str, Any]:
        attributes: dict[str, Any] = {_LEFT_OUT: list(row.left_out)} if row.left_out else {}
        for name, value in facts.items():
            if name in self.keep:
                try:
                    attributes[name] = cast(value, self.keep[name])
                except (ValueError, TypeError, OverflowError, RecursionError):
                    raise Refused(Reason.SOURCE_MALFORMED, word(name)) from None
            elif self.keep_others and name not in _SPENT and name not in spent and not _is_sha256(name, value):
                attributes[name] = _plain(value, depth=0)
        return attributes

    def _shards(self) -> Iterator[Shard]:
        for path in find_shards(self.paths, pictures=self.pictures):
            yield open_shard(path, pictures=self.pictures)

    def _shard(self, unit: Unit) -> Shard:
        """The shard of a unit, where it was planned or where it lies now. Raises `UserError` if it has changed or is gone."""
        for path in (unit.source, *self._same_name(unit)):
            try:
                shard = open_shard(path, pictures=self.pictures)
            except FileNotFoundError:
                continue
            elsewhere = path != unit.source
            if elsewhere and not is_same_file(
                path, now=shard.fingerprint, source=unit.source, planned=unit.fingerprint
            ):
                continue
            check_unchanged(path, now=shard.fingerprint, planned=unit.fingerprint, moved=elsewhere)
            return shard
        raise UserError(
            f"{unit.source}: the shard of unit {unit.ordinal} is gone; put it back, or name the folder it has moved to as input"
        )

    def _same_name(self, unit: Unit) -> Iterator[str]:
        """Shards of the same name elsewhere, looked for only if the planned one is gone."""
        name = base_name(unit.source)
        found = find_shards(self.paths, pictures=self.pictures)
        yield from (path for path in found if path != unit.source and base_name(path) == name)


def _facts(row: ForeignRow) -> dict[str, Any] | Refusal:
    """What the metadata of a row says, wherever it stands."""
    if row.facts is not None:
        return row.facts
    if row.document is None:
        return {}
    try:
        facts = json.loads(row.document)
    except (ValueError, RecursionError):
        facts = None
    return facts if isinstance(facts, dict) else Refusal(Reason.SOURCE_MALFORMED, "json")


def _is_sha256(name: str, value: Any) -> bool:
    """Whether it stands in the sample already, as `sha256_original`."""
    return name == "sha256" and (value is None or (isinstance(value, str) and bool(_SHA256.fullmatch(value))))


def _plain(value: Any, *, depth: int) -> Any:
    """A value of no declared type as an attribute can have it: JSON, whole numbers beyond 53 bits and what is no JSON as text."""
    if depth > _MAX_DEPTH:  # whoever reads it would run out of stack
        raise Refused(Reason.SOURCE_MALFORMED, "json.depth")
    match value:
        case None | bool() | str():
            return value
        case int():
            return value if -_EXACT <= value <= _EXACT else str(value)
        case float():
            return value if math.isfinite(value) else None
        case list() | tuple():
            return [_plain(item, depth=depth + 1) for item in value]
        case dict():
            plain = {str(key): _plain(item, depth=depth + 1) for key, item in value.items()}
            return canonical.dumps(plain).decode()
        case bytes():
            return f"{len(value)} bytes"
    return str(value)
