"""Filters: what a row must have for its image to be fetched, and what an image must be to stay.

Score filters read numbers that the metadata brings; none is computed here. They are free, so they open a recipe. A null or
non-finite score is `filter.score_missing`, never taken for good or bad. A value equal to its cut-off is kept, by comparison in
single precision: of the same numbers, some releases hold float32 and some float64, and both must give the same corpus.
Side and aspect are judged on the true size of the fetched image, after EXIF orientation; what metadata claims is often wrong.
"""

import ctypes
import math
from dataclasses import dataclass
from typing import Any, ClassVar

from pipelines.pipeline import Draft, DraftImage, Facet, Filter, Step, Work, each_image
from pipelines.steps.settings import check_column, check_float, check_int, check_words
from schemas.reasons import Reason, Refusal
from schemas.sample import Original


class _CutOff(Filter):
    """Keeps a draft by one score of its metadata: subclasses say which setting is the cut-off and on which side of it to stay.

    bounds: least and greatest sensible cut-off. from_below: whether it cuts small scores, rather than large ones.
    """

    __slots__ = ()
    setting: ClassVar[str]
    reason: ClassVar[Reason]
    bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    from_below: ClassVar[bool]
    column: str

    def __post_init__(self) -> None:
        low, high = self.bounds
        check_float(self, self.setting, low=low, high=high)
        check_column(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (self.column,)

    def refuse(self, draft: Draft) -> Refusal | None:
        """See `Filter.refuse`."""
        score = _score(draft, self.column)
        if score is None:
            return _missing(self.column)
        cut = _single(getattr(self, self.setting))
        is_kept = score >= cut if self.from_below else score <= cut
        return None if is_kept else Refusal(self.reason, self.setting)


@dataclass(frozen=True, slots=True, kw_only=True)
class MinSimilarity(_CutOff):
    """Keeps a pair whose image and text are at least this similar.

    cosine: of CLIP embeddings, -1 to 1. LAION-2B-en was itself cut at 0.28, the others at 0.26, so lower keeps all.
    column: where the score stands.
    """

    setting: ClassVar[str] = "cosine"
    reason: ClassVar[Reason] = Reason.FILTER_SIMILARITY
    bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    from_below: ClassVar[bool] = True

    cosine: float = 0.28
    column: str = "similarity"


@dataclass(frozen=True, slots=True, kw_only=True)
class MinAesthetic(_CutOff):
    """Keeps a pair whose image was found at least this beautiful.

    score: 0 to 10, as LAION's predictors give it; their aesthetic subsets begin at 4.5 to 6.5.
    column: where the score stands.
    """

    setting: ClassVar[str] = "score"
    reason: ClassVar[Reason] = Reason.FILTER_AESTHETIC
    bounds: ClassVar[tuple[float, float]] = (0.0, 10.0)
    from_below: ClassVar[bool] = True

    score: float = 5.0
    column: str = "aesthetic"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxUnsafe(_CutOff):
    """Keeps a pair that is unsafe with at most this probability.

    probability: 0 to 1; LAION suggests 0.5, which drops 2.9 % of LAION-2B-en.
    column: where the score stands.
    """

    setting: ClassVar[str] = "probability"
    reason: ClassVar[Reason] = Reason.FILTER_UNSAFE
    from_below: ClassVar[bool] = False

    probability: float = 0.5
    column: str = "punsafe"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxWatermark(_CutOff):
    """Keeps a pair whose image bears a watermark with at most this probability.

    probability: 0 to 1; LAION suggests 0.8, which drops 6.1 % of LAION-2B-en.
    column: where the score stands.
    """

    setting: ClassVar[str] = "probability"
    reason: ClassVar[Reason] = Reason.FILTER_WATERMARK
    from_below: ClassVar[bool] = False

    probability: float = 0.8
    column: str = "pwatermark"


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyTag(Filter):
    """Keeps a pair by the safety tag that LAION-400M and the first releases of LAION-5B have in place of `punsafe`.

    keep: tags that are kept, as written in the metadata; there are UNLIKELY, UNSURE and NSFW.
    column: where the tag stands.
    """

    keep: tuple[str, ...] = ("UNLIKELY",)
    column: str = "NSFW"

    def __post_init__(self) -> None:
        check_words(self, "keep")
        check_column(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """See `Step.needs`."""
        return (self.column,)

    def refuse(self, draft: Draft) -> Refusal | None:
        """See `Filter.refuse`."""
        tag = draft.attributes.get(self.column)
        if not tag:
            return _missing(self.column)
        return None if tag in self.keep else Refusal(Reason.FILTER_UNSAFE, "keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class MinSide(Step):
    """Keeps images whose shorter side, as displayed, has at least `pixels`; a row that loses its last image falls."""

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.SIZE})

    pixels: int = 150

    def __post_init__(self) -> None:
        check_int(self, "pixels", low=1, high=100_000)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""
        return await each_image(draft, work, self._judge)

    async def _judge(self, image: DraftImage) -> DraftImage | Refusal:
        original = _original(image, self)
        return image if min(original.width, original.height) >= self.pixels else Refusal(Reason.FILTER_SIDE, "pixels")


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAspect(Step):
    """Keeps images whose longer side is at most `ratio` times the shorter, as displayed; a row that loses its last image falls."""

    uses: ClassVar[frozenset[Facet]] = frozenset({Facet.SIZE})

    ratio: float = 3.0

    def __post_init__(self) -> None:
        check_float(self, "ratio", low=1)

    async def apply(self, draft: Draft, work: Work) -> Draft | Refusal:
        """See `Step.apply`."""
        return await each_image(draft, work, self._judge)

    async def _judge(self, image: DraftImage) -> DraftImage | Refusal:
        original = _original(image, self)
        shorter, longer = sorted((original.width, original.height))
        return image if longer <= self.ratio * shorter else Refusal(Reason.FILTER_ASPECT, "ratio")


def _score(draft: Draft, column: str) -> float | None:
    """The score in single precision; None for null, NaN, infinity and whatever is not a number."""
    value: Any = draft.attributes.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    single = _single(value)
    return single if math.isfinite(single) else None


def _single(value: float) -> float:
    """The nearest float32, as a float; numbers beyond its range become infinite."""
    return ctypes.c_float(value).value


def _missing(column: str) -> Refusal:
    """The refusal of a row without a score; names of columns may hold more than a detail can."""
    word = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "_" for c in column)
    return Refusal(Reason.FILTER_SCORE_MISSING, word[:60])


def _original(image: DraftImage, step: Step) -> Original:
    if image.original is None:
        raise ValueError(f"{type(step).__name__} needs the true size of an image: put ProbeImage before it")
    return image.original
