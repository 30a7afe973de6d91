"""Recipes as values: what is in the hash and what is not, and drafts that lose images."""

import asyncio
from dataclasses import dataclass, replace

import pytest

from pipelines.fetch.policy import FetchPolicy
from pipelines.pipeline import Draft, DraftImage, Pipeline, Step, describe, each_image
from pipelines.sources.tables import Kind, Table
from pipelines.steps.filters import MinSide, MinSimilarity
from pipelines.steps.images import EncodeImage, Fetch, ProbeImage
from schemas.errors import UserError
from schemas.reasons import Reason, Refusal
from schemas.sample import ImageSegment, Origin, TextSegment


def draft(images: int = 2) -> Draft:
    return Draft(
        key="00000000-000000",
        source=Origin("x", "x.parquet", 0),
        segments=tuple(s for i in range(images) for s in (ImageSegment(i), TextSegment(f"sentence {i}"))),
        images=tuple(DraftImage(i, f"http://a/{i}") for i in range(images)),
    )


@dataclass
class Page:
    """The part of `Work` that steps write to."""

    lost: list[tuple[int, Reason]]

    def refuse_image(self, image: DraftImage, refusal: Refusal) -> None:
        self.lost.append((image.ordinal, refusal.reason))


def test_paths_and_contact_are_not_content_but_policy_and_unit_size_are() -> None:
    one = Pipeline("a", Table(("x",)), (Fetch(contact="mailto:a@b.c"),))

    assert one.recipe_hash == Pipeline("b", Table(("y", "z")), (Fetch(contact="https://d.e"),)).recipe_hash
    assert one.recipe_hash != Pipeline("a", Table(("x",), rows_per_unit=5), one.steps).recipe_hash
    assert one.recipe_hash != replace(one, steps=(Fetch(policy=FetchPolicy(max_body_bytes=1)),)).recipe_hash


def test_a_step_is_described_by_name_version_and_settings() -> None:
    described = describe(EncodeImage(side_pixels=384))

    assert described["kind"] == "encode_image"
    assert described["version"] == 1
    assert described["format"] == "jpeg"


def test_a_filter_on_a_column_that_is_not_kept_is_an_error_that_names_both() -> None:
    pipeline = Pipeline("a", Table(("x",), keep={"WIDTH": Kind.INT}), (MinSimilarity(cosine=0.3),))

    with pytest.raises(UserError, match=r"step `min_similarity` reads the column 'similarity'.*source\.keep"):
        pipeline.check()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((MinSide(), Fetch(), ProbeImage(), EncodeImage()), r"`min_side` uses their true size of images"),
        ((ProbeImage(), EncodeImage()), r"`probe_image` uses their bytes as fetched"),
        ((Fetch(), ProbeImage()), r"end the recipe with `encode_image`"),
    ],
)
def test_steps_in_an_order_that_cannot_work_are_refused_before_any_work(steps: tuple[Step, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Pipeline("a", Table(("x",)), steps).check()


def test_an_image_that_falls_takes_its_place_along_and_the_others_keep_theirs() -> None:
    async def refuse_first(image: DraftImage) -> DraftImage | Refusal:
        return Refusal(Reason.DNS) if image.ordinal == 0 else replace(image, payload=b"x", extension="jpg")

    page = Page([])
    result = asyncio.run(each_image(draft(), page, refuse_first))  # type: ignore[arg-type]

    assert isinstance(result, Draft)
    assert page.lost == [(0, Reason.DNS)]
    sample, media = result.to_sample()
    assert sample.segments == (TextSegment("sentence 0"), ImageSegment(0), TextSegment("sentence 1"))
    assert [image.url for image in sample.images] == ["http://a/1"]
    assert (sample.images[0].member, media) == ("0.jpg", [b"x"])


def test_a_draft_that_loses_its_last_image_falls_for_the_first_reason() -> None:
    async def refuse(image: DraftImage) -> DraftImage | Refusal:
        return Refusal([Reason.DNS, Reason.HTTP_404][image.ordinal])

    assert asyncio.run(each_image(draft(), Page([]), refuse)) == Refusal(Reason.DNS)  # type: ignore[arg-type]


def test_a_draft_without_images_passes_untouched() -> None:
    async def never(image: DraftImage) -> DraftImage | Refusal:
        raise AssertionError(image)

    text_only = Draft("00000000-000000", Origin("x", "x", 0), (TextSegment("only text"),))

    assert asyncio.run(each_image(text_only, Page([]), never)) == text_only  # type: ignore[arg-type]
