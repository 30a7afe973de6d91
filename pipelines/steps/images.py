"""Images: fetched, looked at, and made into what the corpus stores.

`Fetch` brings the bytes, `ProbeImage` reads format and true size from their header, `EncodeImage` decodes, resizes and encodes.
Between the last two stand the filters that need the true size, so that no picture is decoded in vain. An image that fails
leaves its row with a reason; a row that loses its last image falls. Not here: how it is done (`fetch.client`, `media`).
"""

import hashlib
from dataclasses import dataclass, field, replace
from typing import ClassVar

from pipelines.fetch.policy import FetchPolicy
from pipelines.media.image import OutputFormat, RenderSpec, ResizeMode
from pipelines.media.pixels import HARD_MAX_PIXELS
from pipelines.pipeline import Draft, DraftImage, Facet, Step, Work, each_image, run_setting
from pipelines.steps.settings import check_int
from schemas.reasons import Refusal, Refused
from schemas.sample import Original


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Step):
    """Fetches every image of a draft by its URL, all at once.

    contact: who answers for the run, `mailto:` or a URL, put in the user agent; nothing is fetched without one. Not content.
    policy: what may be fetched and kept.
    """

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.URL})
    makes: ClassVar[frozenset[Facet]] = frozenset({Facet.BODY})

    contact: str = run_setting("")
    policy: FetchPolicy = field(default_factory=FetchPolicy)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""

        async def fetch(image: DraftImage) -> DraftImage | Refusal:
            try:
                body = await work.fetch(image.url)
            except Refused as refused:
                return refused.refusal
            return replace(image, body=body.data, sha256_original=hashlib.sha256(body.data).hexdigest())

        return await each_image(draft, work, fetch)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeImage(Step):
    """Reads what an image is from its header, and refuses what is no picture or would unpack to too much.

    max_pixels: width times height; a picture with just as many is kept.
    """

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.BODY})
    makes: ClassVar[frozenset[Facet]] = frozenset({Facet.SIZE})

    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_int(self, "max_pixels", low=1, high=HARD_MAX_PIXELS)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""

        async def probe(image: DraftImage) -> DraftImage | Refusal:
            body = _body(image, self)
            try:
                header = await work.read_header(body, max_pixels=self.max_pixels)
            except Refused as refused:
                return refused.refusal
            original = Original(width=header.width, height=header.height, format=header.format.value, bytes=len(body))
            return replace(image, original=original)

        return await each_image(draft, work, probe)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeImage(Step):
    """Makes the picture that the corpus stores, with its perceptual hash, and lets go of the fetched bytes.

    side_pixels: the size that `mode` goes by, such as the shorter side for `keep_ratio` (`ResizeMode` has them all).
    only_if_bigger: leave a smaller picture as it is, rather than blow it up.
    format: one for the whole corpus. quality: 1 to 100, of JPEG and WebP; PNG has none.
    max_pixels: most pixels of the result. What `ProbeImage` let through is never refused for its own size.
    """

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.BODY})
    makes: ClassVar[frozenset[Facet]] = frozenset({Facet.PAYLOAD})

    side_pixels: int = 384
    mode: ResizeMode = ResizeMode.KEEP_RATIO
    only_if_bigger: bool = True
    format: OutputFormat = OutputFormat.JPEG
    quality: int = 95
    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_int(self, "side_pixels", low=1, high=65_500)
        check_int(self, "quality", low=1, high=100)
        check_int(self, "max_pixels", low=1, high=HARD_MAX_PIXELS)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""

        async def encode(image: DraftImage) -> DraftImage | Refusal:
            body = _body(image, self)
            try:
                rendered = await work.render(body, self._spec(image))
            except Refused as refused:
                return refused.refusal
            return replace(
                image,
                body=None,
                payload=rendered.payload,
                extension=self.format.extension,
                width=rendered.width,
                height=rendered.height,
                phash=rendered.phash,
            )

        return await each_image(draft, work, encode)

    def _spec(self, image: DraftImage) -> RenderSpec:
        probed = image.original.width * image.original.height if image.original else 0
        return RenderSpec(
            mode=self.mode,
            side_pixels=self.side_pixels,
            only_if_bigger=self.only_if_bigger,
            format=self.format,
            quality=self.quality,
            max_pixels=max(self.max_pixels, probed),
        )


def _body(image: DraftImage, step: Step) -> bytes:
    if image.body is None:
        raise ValueError(
            f"{type(step).__name__} needs the bytes of an image: put Fetch before it, and EncodeImage last"
        )
    return image.body
