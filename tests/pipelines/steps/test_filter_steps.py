"""Filters: both sides of every cut-off, missing scores, equal values in single precision, and what images do to their rows."""

import ctypes
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.steps.filters import MaxAspect, MaxUnsafe, MaxWatermark, MinSide, MinSimilarity, SafetyTag
from schemas.reasons import Reason, Refusal
from schemas.sample import ImageSegment, TextSegment

SCORE_FILTERS = [
    (MinSimilarity(cosine=0.28), "similarity", 0.28, -1, Refusal(Reason.FILTER_SIMILARITY, "cosine")),
    (MaxUnsafe(probability=0.5), "punsafe", 0.5, 1, Refusal(Reason.FILTER_UNSAFE, "probability")),
    (MaxWatermark(probability=0.8), "pwatermark", 0.8, 1, Refusal(Reason.FILTER_WATERMARK, "probability")),
]


def _single(value):
    return ctypes.c_float(value).value


@pytest.mark.parametrize(("step", "column", "cut", "bad", "refusal"), SCORE_FILTERS)
def test_a_score_beyond_its_cut_off_is_refused_and_an_equal_one_kept(step, column, cut, bad, refusal, pair):
    draft = pair(**{column: cut - bad * 0.01})
    assert step.needs == (column,)
    assert step.map(draft) is draft
    assert step.refuse(pair(**{column: cut})) is None
    assert step.refuse(pair(**{column: _single(cut)})) is None  # float32 0.8 is 0.800000012
    assert step.refuse(pair(**{column: cut + bad * 1e-6})) == refusal
    assert step.refuse(pair(**{column: cut + bad * 0.1})) == refusal


@given(score=st.floats(-1, 1), cut=st.floats(0, 1))
def test_float32_and_float64_releases_give_the_same_corpus(pair, score, cut):
    for step, column in [
        (MinSimilarity(cosine=cut), "similarity"),
        (MaxUnsafe(probability=cut), "punsafe"),
        (MaxWatermark(probability=cut), "pwatermark"),
    ]:
        assert step.refuse(pair(**{column: score})) == step.refuse(pair(**{column: _single(score)}))


@pytest.mark.parametrize(("step", "column", "cut", "bad", "refusal"), SCORE_FILTERS)
@pytest.mark.parametrize("score", [None, math.nan, math.inf, -math.inf, 1e300, "0.1", True])
def test_what_is_no_score_is_missing_never_good_or_bad(step, column, cut, bad, refusal, score, pair):
    assert step.refuse(pair(**{column: score})) == Refusal(Reason.FILTER_SCORE_MISSING, column)


def test_an_absent_column_is_a_missing_score_under_its_own_name(pair):
    step = MinSimilarity(cosine=0.2, column="clip score (ÜÖ)")
    assert step.needs == ("clip score (ÜÖ)",)
    assert step.refuse(pair(similarity=0.9)) == Refusal(Reason.FILTER_SCORE_MISSING, "clip_score_____")
    assert step.refuse(pair(**{"clip score (ÜÖ)": 0.9})) is None


def test_safety_tags_of_laion_400m(pair):
    step = SafetyTag()
    assert step.refuse(pair(NSFW="UNLIKELY")) is None
    assert step.refuse(pair(NSFW="UNSURE")) == Refusal(Reason.FILTER_UNSAFE, "keep")
    assert step.refuse(pair(NSFW=None)) == Refusal(Reason.FILTER_SCORE_MISSING, "NSFW")
    assert step.refuse(pair(NSFW="")) == Refusal(Reason.FILTER_SCORE_MISSING, "NSFW")
    assert SafetyTag(keep=("UNSURE", "UNLIKELY", "UNSURE")) == SafetyTag(keep=("UNLIKELY", "UNSURE"))


@pytest.mark.parametrize(
    ("size", "kept"), [((150, 900), True), ((900, 150), True), ((149, 900), False), ((900, 149), False)]
)
def test_the_shorter_side_decides(size, kept, pair, work, apply):
    result = apply(MinSide(pixels=150), pair(size=size), work)
    refusal = Refusal(Reason.FILTER_SIDE, "pixels")
    assert (result == pair(size=size), work.lost) == ((True, []) if kept else (False, [(0, refusal)]))
    assert kept or result == refusal


@pytest.mark.parametrize(
    ("size", "kept"), [((300, 100), True), ((100, 300), True), ((301, 100), False), ((100, 301), False)]
)
def test_the_ratio_of_sides_decides_whichever_is_longer(size, kept, pair, work, apply):
    result = apply(MaxAspect(ratio=3), pair(size=size), work)
    refusal = Refusal(Reason.FILTER_ASPECT, "ratio")
    assert (result == pair(size=size), work.lost) == ((True, []) if kept else (False, [(0, refusal)]))
    assert kept or result == refusal


def test_a_document_survives_losing_some_images_and_falls_with_its_last(document, work, apply):
    result = apply(MinSide(pixels=150), document((10, 10), (200, 200), (20, 20)), work)
    assert [image.ordinal for image in result.images] == [1]
    assert result.segments == (
        TextSegment("sentence 0"),
        ImageSegment(1),
        TextSegment("sentence 1"),
        TextSegment("sentence 2"),
    )
    assert [ordinal for ordinal, _ in work.lost] == [0, 2]
    assert apply(MinSide(pixels=150), document((10, 10), (10, 10)), work) == Refusal(Reason.FILTER_SIDE, "pixels")


def test_sides_are_judged_only_after_probing(pair, work, apply):
    with pytest.raises(ValueError, match="MinSide needs the true size of an image: put ProbeImage before it"):
        apply(MinSide(), pair(), work)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MinSimilarity(cosine=28), r"cosine: found 28, expected -1 to 1"),
        (lambda: MinSimilarity(cosine=math.nan), "cosine: found nan, expected a finite number"),
        (lambda: MaxUnsafe(probability=-0.1), r"probability: found -0.1, expected 0 to 1"),
        (lambda: MaxWatermark(column=""), "column: found an empty string, expected the name of a source column"),
        (lambda: MaxAspect(ratio=0.5), r"ratio: found 0.5, expected at least 1"),
        (lambda: MinSide(pixels=0), "pixels: found 0, expected a whole number from 1 to 100,000"),
        (lambda: SafetyTag(keep=()), r"keep: found \(\), expected a list of at least one word"),
        (lambda: SafetyTag(keep="UNSURE"), "keep: found 'UNSURE', expected a list of at least one word"),
    ],
)
def test_settings_out_of_bounds_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_whole_numbers_are_the_same_setting_as_floats():
    assert repr(MaxAspect(ratio=3)) == repr(MaxAspect(ratio=3.0))
    assert pickle.loads(pickle.dumps(MaxAspect(ratio=3))) == MaxAspect(ratio=3.0)
