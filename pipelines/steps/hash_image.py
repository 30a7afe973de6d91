"""The perceptual hash of pictures that are kept byte for byte: `EncodeImage` makes it in passing, here it costs a decode."""

from dataclasses import dataclass, replace
from typing import ClassVar

from pipelines.media.image import OutputFormat, RenderSpec, ResizeMode
from pipelines.media.pixels import HARD_MAX_PIXELS
from pipelines.pipeline import Draft, DraftImage, Facet, Step, Work, each_image
from pipelines.steps.settings import check_int
from schemas.reasons import Refusal, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class HashImage(Step):
    """Decodes every picture once for its perceptual hash, and refuses those that do not decode. The bytes stay as they are.

    max_pixels: width times height; a picture with just as many is kept.
    """

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.BODY, Facet.PAYLOAD})

    max_pixels: int = 50_000_000

    def __post_init__(self) -> None:
        check_int(self, "max_pixels", low=1, high=HARD_MAX_PIXELS)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""
        # The decode pool hashes what it renders; rendered as small as a JPEG can be, for it is thrown away.
        spec = RenderSpec(
            mode=ResizeMode.NONE,
            side_pixels=1,
            only_if_bigger=True,
            format=OutputFormat.JPEG,
            quality=1,
            max_pixels=self.max_pixels,
        )

        async def hashed(image: DraftImage) -> DraftImage | Refusal:
            if image.body is None:
                raise ValueError("HashImage needs the bytes of an image")
            try:
                rendered = await work.render(image.body, spec)
            except Refused as refused:
                return refused.refusal
            return replace(image, phash=rendered.phash)

        return await each_image(draft, work, hashed)
