"""The steps and sources that recipes can name. A newcomer is added here, in one line, and nowhere else.

Names are those of the classes, in small letters: `MinSimilarity` is `min_similarity`.
"""

from pipelines.pipeline import Source, Step, step_name
from pipelines.sources.img2dataset import Img2dataset
from pipelines.sources.tables import Table
from pipelines.steps.filters import MaxAspect, MaxUnsafe, MaxWatermark, MinAesthetic, MinSide, MinSimilarity, SafetyTag
from pipelines.steps.hash_image import HashImage
from pipelines.steps.images import EncodeImage, Fetch, ProbeImage
from pipelines.steps.text import CleanText, Language

_SOURCES: tuple[type[Source], ...] = (Table, Img2dataset)

_STEPS: tuple[type[Step], ...] = (
    MinSimilarity,
    MinAesthetic,
    MaxUnsafe,
    MaxWatermark,
    SafetyTag,
    CleanText,
    Language,
    Fetch,
    ProbeImage,
    MinSide,
    MaxAspect,
    EncodeImage,
    HashImage,
)

SOURCES: dict[str, type[Source]] = {step_name(kind): kind for kind in _SOURCES}
"""Sources by their name in recipes."""

STEPS: dict[str, type[Step]] = {step_name(kind): kind for kind in _STEPS}
"""Steps by their name in recipes."""
