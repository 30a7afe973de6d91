"""LAION: one row of the released parquet becomes one sample, `[image, text]`.

Free steps come first, then text, then the web, and no picture is decoded that a filter would drop. Scores are read from the
metadata, never computed; WIDTH and HEIGHT there are claims, so sides are judged on what was fetched. `jobs/recipes` has the same
recipes as YAML. Not here: exact duplicates (a global step), retries and politeness (`Fetch`).
"""

from pipelines.pipeline import Pipeline
from pipelines.sources.tables import Kind, PairColumns, Table
from pipelines.steps.filters import MaxAspect, MaxUnsafe, MaxWatermark, MinSide, MinSimilarity
from pipelines.steps.images import EncodeImage, Fetch, ProbeImage
from pipelines.steps.text import CleanText

LAION_2B_COLUMNS = {
    "similarity": Kind.FLOAT,
    "punsafe": Kind.FLOAT,
    "pwatermark": Kind.FLOAT,
    "aesthetic": Kind.FLOAT,  # aesthetic subsets
    "WIDTH": Kind.INT,
    "HEIGHT": Kind.INT,
    "LANGUAGE": Kind.STRING,  # LAION-2B-multi
    "NSFW": Kind.STRING,  # this and the next two: LAION-400M, and LAION-5B before it was joined
    "LICENSE": Kind.STRING,
    "SAMPLE_ID": Kind.ID,
    "hash": Kind.ID,  # of URL and text; joins LAION's own tables
    "md5": Kind.STRING,  # of the image as LAION saw it
}
"""Columns of LAION-2B and its kin that samples keep; a release lacks some, and samples lack them with it."""

LAION_COCO_COLUMNS = {
    "TEXT": Kind.STRING,  # the alt text, which `top_caption` stands in for
    "similarity": Kind.FLOAT,
    "punsafe": Kind.FLOAT,
    "pwatermark": Kind.FLOAT,
    "WIDTH": Kind.INT,
    "HEIGHT": Kind.INT,
    "hash": Kind.ID,
}
"""Columns of LAION-COCO that samples keep beside its captions."""


def laion_2b(parquet: str, *, contact: str) -> Pipeline:
    """English alt text with its image. `contact` is put in the user agent; without one nothing is fetched."""
    return Pipeline(
        name="laion-2b",
        source=Table(
            (parquet,),
            name="laion-2b",
            columns=PairColumns(url="URL", text="TEXT"),
            keep=LAION_2B_COLUMNS,
            rows_per_unit=10_000,
        ),
        steps=(
            MinSimilarity(cosine=0.28),
            MaxUnsafe(probability=0.5),
            MaxWatermark(probability=0.8),
            CleanText(min_chars=5),
            Fetch(contact=contact),
            ProbeImage(max_pixels=50_000_000),
            MinSide(pixels=150),
            MaxAspect(ratio=3.0),
            EncodeImage(side_pixels=384, only_if_bigger=True, quality=95),
        ),
    )


def laion_coco(parquet: str, *, contact: str) -> Pipeline:
    """Generated captions, all of them with their similarities; which one is used is drawn when packs are made.

    `similarity` is that of the alt text, by which LAION-2B was cut; the candidates bring their own.
    """
    return Pipeline(
        name="laion-coco",
        source=Table(
            (parquet,),
            name="laion-coco",
            columns=PairColumns(
                url="URL", text="top_caption", captions="all_captions", captions_similarity="all_similarities"
            ),
            keep=LAION_COCO_COLUMNS,
            rows_per_unit=10_000,
        ),
        steps=(
            MinSimilarity(cosine=0.28),
            MaxUnsafe(probability=0.5),
            MaxWatermark(probability=0.8),
            CleanText(min_chars=5),
            Fetch(contact=contact),
            ProbeImage(max_pixels=50_000_000),
            MinSide(pixels=150),
            MaxAspect(ratio=3.0),
            EncodeImage(side_pixels=384, only_if_bigger=True, quality=95),
        ),
    )
