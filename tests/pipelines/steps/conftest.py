"""Drafts of pairs, and a `Work` whose web and decoders are tables."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from pipelines.fetch.client import Body
from pipelines.media.image import ImageFormat, ImageHeader, Rendered, RenderSpec
from pipelines.pipeline import Draft, DraftImage, Step
from schemas.reasons import Refusal, Refused
from schemas.sample import Caption, ImageSegment, Origin, Original, TextSegment


@dataclass
class FakeWork:
    """Answers from tables: bytes by URL, sizes by bytes; a `Refusal` as answer is raised. Remembers what it was asked."""

    bodies: dict[str, bytes | Refusal] = field(default_factory=dict)
    sizes: dict[bytes, tuple[int, int] | Refusal] = field(default_factory=dict)
    renders: dict[bytes, Refusal] = field(default_factory=dict)
    lost: list[tuple[int, Refusal]] = field(default_factory=list)
    max_pixels: list[int] = field(default_factory=list)
    specs: list[RenderSpec] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0

    def ask(self, images: int) -> None:
        raise AssertionError("no step here adds images")

    def refuse_image(self, image: DraftImage, refusal: Refusal) -> None:
        self.lost.append((image.ordinal, refusal))

    async def fetch(self, url: str) -> Body:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return Body(data=_answer(self.bodies[url]), url=url, status=200, content_type="image/jpeg")

    async def read_header(self, body: bytes, *, max_pixels: int) -> ImageHeader:
        self.max_pixels.append(max_pixels)
        return ImageHeader(ImageFormat.PNG, *_answer(self.sizes[body]))

    async def render(self, body: bytes, spec: RenderSpec) -> Rendered:
        self.specs.append(spec)
        _answer(self.renders.get(body, b""))
        return Rendered(payload=b"picture of " + body, width=40, height=30, phash=len(body))


def _answer(answer: Any) -> Any:
    if isinstance(answer, Refusal):
        raise Refused(answer.reason, answer.detail)
    return answer


@pytest.fixture
def work() -> FakeWork:
    return FakeWork()


@pytest.fixture
def apply() -> Callable[[Step, Draft, FakeWork], Draft | Refusal]:
    def run(step: Step, draft: Draft, work: FakeWork) -> Draft | Refusal:
        return asyncio.run(step.apply(draft, work))

    return run


@pytest.fixture(scope="session")
def pair() -> Callable[..., Draft]:
    """Make `[image, text]`, with a size where the image is already probed."""

    def make(
        text: str = "a dog", *, size: tuple[int, int] | None = None, captions: tuple[str, ...] = (), **scores: Any
    ) -> Draft:
        original = Original(*size, format="png", bytes=5) if size else None
        return Draft(
            key="00000000-000000",
            source=Origin("test", file="a.parquet", row=0),
            segments=(ImageSegment(0), TextSegment(text)),
            images=(DraftImage(0, "http://a.example/0", original=original),),
            captions=tuple(Caption(caption, 0.3) for caption in captions),
            attributes=scores,
        )

    return make


@pytest.fixture(scope="session")
def document() -> Callable[..., Draft]:
    """Make an image before each of `a`, `b`, …; sizes where they are probed."""

    def make(*sizes: tuple[int, int] | None) -> Draft:
        segments = [
            segment
            for number in range(len(sizes))
            for segment in (ImageSegment(number), TextSegment(f"sentence {number}"))
        ]
        images = tuple(
            DraftImage(
                number, f"http://a.example/{number}", original=Original(*size, format="png", bytes=1) if size else None
            )
            for number, size in enumerate(sizes)
        )
        return Draft("00000000-000000", Origin("test", file="a", row=0), segments=tuple(segments), images=images)

    return make
