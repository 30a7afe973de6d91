"""A pipeline is a source and a list of steps; a `Draft` is the sample in the making that goes through them.

    source.rows(unit) -> source.parse(row) -> Draft -> step -> step -> … -> Sample       (or a Refusal, with its reason)

Steps are frozen settings without state: each maps a draft to a draft, or refuses it. What they may use while they do so (the
web, decoders, the page of the ledger) is handed to them as `Work`. Recipes are these values written down; their hash covers
what decides content. Not here: running (`build`), engines (`runners`), where units begin and end (`plan`).
"""

import asyncio
import dataclasses
import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from typing import Any, ClassVar, Protocol

from pipelines.fetch.client import Body
from pipelines.media.image import ImageHeader, Rendered, RenderSpec
from schemas import canonical
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Refusal
from schemas.sample import Caption, Image, ImageSegment, Match, Origin, Original, Sample, TextSegment


def run_setting(default: Any) -> Any:
    """A field of a step or source that a run may change without changing content: left out of the recipe and its hash."""
    return field(default=default, metadata={"content": False})


@dataclass(frozen=True, slots=True)
class DraftImage:
    """An image on its way: what the metadata says first, then its bytes, then the picture that will be stored.

    ordinal: position among the images that the row asked for; it stays when others are refused. url: empty if there is none.
    body: as fetched. payload: as it will be stored, with `extension`, `width` and `height` in pixels, `phash` unsigned.
    """

    ordinal: int
    url: str
    body: bytes | None = None
    sha256_original: str | None = None
    original: Original | None = None
    payload: bytes | None = None
    extension: str = ""
    width: int = 0
    height: int = 0
    phash: int | None = None
    match: Match | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A sample in the making. `ImageSegment.image` is the `ordinal` of its image until `to_sample` numbers them anew.

    refusal: why the source already knows that it falls; its images fall with it, and no step sees it.
    """

    key: str
    source: Origin
    segments: tuple[TextSegment | ImageSegment, ...]
    images: tuple[DraftImage, ...] = ()
    captions: tuple[Caption, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    licence: str | None = None
    refusal: Refusal | None = None

    def with_images(self, images: Sequence[DraftImage]) -> "Draft":
        """The draft with these images, without the places of those that are gone."""
        kept = {image.ordinal for image in images}
        segments = tuple(s for s in self.segments if isinstance(s, TextSegment) or s.image in kept)
        return replace(self, images=tuple(images), segments=segments)

    def to_sample(self) -> tuple[Sample, list[bytes]]:
        """The finished sample and the bytes of its media members."""
        numbers = {image.ordinal: number for number, image in enumerate(self.images)}
        segments = tuple(
            replace(s, image=numbers[s.image]) if isinstance(s, ImageSegment) else s for s in self.segments
        )
        media = [image.payload for image in self.images if image.payload is not None]
        if len(media) != len(self.images):
            raise ValueError("an image has no payload: the pipeline lacks a step that encodes")
        sample = Sample(
            key=self.key,
            source=self.source,
            segments=segments,
            images=tuple(_finished(image, number) for number, image in enumerate(self.images)),
            captions=self.captions,
            attributes=self.attributes,
            licence=self.licence,
        )
        return sample, media


class Work(Protocol):
    """What one row may use while it goes through the steps."""

    def ask(self, images: int) -> None:
        """Count images that a step adds to the row, beyond those its source named."""

    def refuse_image(self, image: DraftImage, refusal: Refusal) -> None:
        """Put one image into the rejects; the row goes on without it."""

    async def fetch(self, url: str) -> Body:
        """Fetch a URL by the recipe's policy; the bytes count against the worker's budget until the row ends. Raises `Refused`."""

    async def read_header(self, body: bytes, *, max_pixels: int) -> ImageHeader:
        """Format and size of a picture, without decoding it. Raises `Refused`."""

    async def render(self, body: bytes, spec: RenderSpec) -> Rendered:
        """Decode, resize and encode a picture in the decode pool. Raises `Refused`."""


class Facet(StrEnum):
    """What is known of a draft's images at a place in a recipe; steps use and make facets, so that a wrong order is found early."""

    URL = "their URLs"
    BODY = "their bytes as fetched"
    SIZE = "their true size"
    PAYLOAD = "the bytes to store"


class Step(ABC):
    """One thing done to one sample. Subclasses are frozen dataclasses whose fields are their settings.

    `version` grows whenever equal settings begin to give other content; it is part of the recipe's hash. `needs` names the
    source columns that the step reads from `Draft.attributes`. `uses` and `makes` say where in a recipe it can stand.
    """

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    version: ClassVar[int] = 1
    uses: ClassVar[frozenset[Facet]] = frozenset()
    makes: ClassVar[frozenset[Facet]] = frozenset()

    @property
    def needs(self) -> tuple[str, ...]:
        """Source columns that must be there."""
        return ()

    @abstractmethod
    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """Map the draft, or refuse it."""


class PureStep(Step):
    """A step that needs nothing but the draft. Those that open a recipe run before the web is asked for anything."""

    __slots__ = ()

    @abstractmethod
    def map(self, draft: Draft) -> Draft | Refusal:
        """Map the draft, or refuse it."""

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""
        return self.map(draft)


class Filter(PureStep):
    """A step that keeps a draft as it is, or refuses it."""

    __slots__ = ()

    @abstractmethod
    def refuse(self, draft: Draft) -> Refusal | None:
        """Why the draft is not wanted, or None."""

    def map(self, draft: Draft) -> Draft | Refusal:
        """See `PureStep.map`."""
        return self.refuse(draft) or draft


class Source(ABC):
    """Where rows come from: how files are counted into units, read, and turned into drafts. `makes`: what drafts begin with."""

    __slots__ = ()
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}
    version: ClassVar[int] = 1
    makes: ClassVar[frozenset[Facet]] = frozenset({Facet.URL})

    @property
    @abstractmethod
    def kept(self) -> tuple[str, ...]:
        """Names of the source columns that `Draft.attributes` can hold."""

    @abstractmethod
    def check(self, needs: dict[str, str]) -> None:
        """Look at every file before any work; `needs` maps a column to the setting that needs it. Raises `UserError`."""

    def notes(self) -> list[str]:
        """What a person should know of the files before work begins, a line each: harmless differences between them."""
        return []

    @abstractmethod
    def units(self, *, first_ordinal: int, planned: Sequence[Unit]) -> list[Unit]:
        """Units for what is not planned yet. Raises `UserError` where a planned file has changed."""

    @abstractmethod
    def rows(self, unit: Unit) -> Iterator[Any]:
        """The rows of a unit in order. Raises `UserError` if the file is not the one that was planned."""

    @abstractmethod
    def parse(self, row: Any, *, key: str, origin_row: int, unit: Unit) -> Draft | Refusal:
        """The draft of a row, or why it cannot be one."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A recipe as a value: the name of what it makes, a source, and steps in order."""

    name: str
    source: Source
    steps: tuple[Step, ...]

    def recipe(self) -> dict[str, Any]:
        """What decides content, as plain values; `schemas.canonical.sha256_of` it for the recipe hash."""
        return {"source": describe(self.source), "steps": [describe(step) for step in self.steps]}

    @property
    def recipe_hash(self) -> str:
        """Hex sha256 of the recipe."""
        return canonical.sha256_of(self.recipe())

    def check(self) -> None:
        """Check settings against each other and against the source's files, before any work. Raises `UserError`."""
        needs = {column: step_name(type(step)) for step in self.steps for column in step.needs}
        for column, setting in needs.items():
            if column not in self.source.kept:
                raise UserError(
                    f"the step `{setting}` reads the column {column!r}, which the source does not keep; "
                    f"add it to `source.keep`, or leave the step out"
                )
        self._check_order()
        self.source.check(needs)

    def _check_order(self) -> None:
        """Every step finds what it uses, and images end with bytes to store. Raises `UserError`."""
        known = set(self.source.makes)
        for step in self.steps:
            for facet in sorted(step.uses - known):
                raise UserError(
                    f"the step `{step_name(type(step))}` uses {facet.value} of images, which nothing before it finds; "
                    f"move it behind the step that does, as the bundled recipes have it"
                )
            known |= step.makes
        if known and Facet.PAYLOAD not in known:
            raise UserError("no step makes the bytes of images to store; end the recipe with `encode_image`")


def describe(value: Any) -> dict[str, Any]:
    """A step or source as plain values: its name, version and content settings."""
    return {"kind": step_name(type(value)), "version": value.version, **_settings(value)}


def step_name(kind: type) -> str:
    """The name of a step or source in recipes: `MinSimilarity` is `min_similarity`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


async def each_image(
    draft: Draft,
    work: Work,
    function: Callable[[DraftImage], Awaitable[DraftImage | Refusal]],
) -> Draft | Refusal:
    """Apply a function to all images at once; the refused leave the draft, and a draft that loses its last image is refused."""
    kept: list[DraftImage] = []
    first: Refusal | None = None
    if len(draft.images) == 1:
        results = [await function(draft.images[0])]  # without the tasks that `gather` makes: most rows are pairs
    else:
        results = await asyncio.gather(*(function(image) for image in draft.images))
    for image, result in zip(draft.images, results, strict=True):
        if isinstance(result, Refusal):
            work.refuse_image(image, result)
            first = first or result
        else:
            kept.append(result)
    if first is not None and not kept:
        return first
    return draft.with_images(kept)


def _finished(image: DraftImage, number: int) -> Image:
    return Image(
        member=f"{number}.{image.extension}",
        width=image.width,
        height=image.height,
        phash=None if image.phash is None else f"{image.phash:016x}",
        url=image.url or None,
        sha256_original=image.sha256_original,
        original=image.original,
        match=image.match,
    )


def _settings(value: Any) -> dict[str, Any]:
    return {
        item.name: _plain(getattr(value, item.name))
        for item in dataclasses.fields(value)
        if item.metadata.get("content", True)
    }


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _settings(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
