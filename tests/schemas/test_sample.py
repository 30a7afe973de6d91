"""Samples: any of them comes back from its JSON as it went in, and its bytes are the canonical ones."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import canonical
from schemas.errors import CorpusError
from schemas.sample import (
    Caption,
    Image,
    ImageSegment,
    Match,
    Origin,
    Original,
    Role,
    Sample,
    TextSegment,
    make_key,
    split_key,
)

ORIGIN = Origin(name="test", file="metadata.parquet", row=0)

text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
number = st.floats(allow_nan=False, allow_infinity=False)
count = st.integers(0, 10**12)
optional_text = st.none() | text
scalars = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | number | text
attributes = st.dictionaries(text, scalars | st.lists(scalars, max_size=3), max_size=4)
boxes = st.none() | st.tuples(count, count, count, count)
originals = st.none() | st.builds(Original, width=count, height=count, format=text, bytes=count)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    texts = draw(
        st.lists(st.builds(TextSegment, text, st.none() | number, st.none() | st.sampled_from(Role)), max_size=4)
    )
    matches = st.none() | st.builds(Match, st.integers(0, len(texts) - 1), number) if texts else st.none()
    image = st.builds(
        Image,
        member=st.sampled_from(["0.jpg", "1.jpg", "2.webp"]),
        width=count,
        height=count,
        box=boxes,
        phash=optional_text,
        url=optional_text,
        sha256_original=optional_text,
        original=originals,
        match=matches,
    )
    images = draw(st.lists(image, max_size=3))
    places = [draw(st.builds(ImageSegment, st.just(n), st.none() | number)) for n in range(len(images))]
    return Sample(
        key=make_key(draw(st.integers(0, 10**8 - 1)), draw(st.integers(0, 10**12 - 1))),
        source=draw(st.builds(Origin, text, text, count, optional_text)),
        segments=tuple(draw(st.permutations([*texts, *places]))),
        images=tuple(images),
        captions=tuple(draw(st.lists(st.builds(Caption, text, st.none() | number), max_size=3))),
        attributes=draw(attributes),
        licence=draw(optional_text),
    )


@settings(max_examples=300, deadline=None)
@given(samples())
def test_a_sample_comes_back_as_it_was(sample: Sample) -> None:
    back = Sample.from_json(sample.to_json())
    assert back == sample
    assert back.to_json() == sample.to_json()


@settings(max_examples=100, deadline=None)
@given(samples())
def test_the_bytes_are_the_canonical_ones_of_any_json_library(sample: Sample) -> None:
    plain = json.loads(sample.to_json())
    again = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    assert again == sample.to_json()


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(categories=["Cs", "Lu", "Zs"]), min_size=1))
def test_lone_surrogates_become_replacement_characters_of_the_same_count(dirty: str) -> None:
    sample = Sample(make_key(0, 0), ORIGIN, (TextSegment(dirty),), attributes={dirty: dirty})
    back = Sample.from_json(sample.to_json())
    assert back.text_chars == sample.text_chars == len(dirty)
    assert not any("\ud800" <= c <= "\udfff" for segment in back.segments for c in getattr(segment, "text", ""))
    assert back.to_json() == sample.to_json()


def test_what_is_not_a_number_is_null_in_attributes_and_absent_in_fields() -> None:
    sample = Sample(
        make_key(0, 0),
        ORIGIN,
        (TextSegment("a", time=math.nan),),
        captions=(Caption("b", similarity=math.inf),),
        attributes={"punsafe": math.nan, "scores": [1.0, -math.inf]},
    )
    plain = json.loads(sample.to_json())
    assert plain["attributes"] == {"punsafe": None, "scores": [1.0, None]}
    assert plain["segments"] == [{"text": "a"}]
    assert plain["captions"] == [{"text": "b"}]
    assert Sample.from_json(sample.to_json()).to_json() == sample.to_json()


def test_whole_seconds_are_written_as_they_are_read_back() -> None:
    sample = Sample(make_key(0, 0), ORIGIN, (TextSegment("a", time=3),))
    assert json.loads(sample.to_json())["segments"][0]["time"] == 3.0
    assert Sample.from_json(sample.to_json()).to_json() == sample.to_json()


def test_a_megabyte_of_text_in_many_scripts_comes_back() -> None:
    long = "ab\u2028c\x00é漢字😀\n" * 100_000
    sample = Sample(make_key(0, 0), ORIGIN, (TextSegment(long),))
    back = Sample.from_json(sample.to_json())
    assert back == sample
    assert back.text_chars == len(long)


@pytest.mark.parametrize("unit", [0, 42, 99_999_999])
@pytest.mark.parametrize("row", [0, 17, 999_999, 1_000_000, 10**12 - 1])
def test_a_key_is_split_into_what_made_it(unit: int, row: int) -> None:
    assert split_key(make_key(unit, row)) == (unit, row)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "0-0",
        "00000042-00017",
        "00000042_000017",
        "00000042-0000017",
        "00000042-000017 ",
        "00000042-000017\n",
        "00000042-٠٠٠٠١٧",
        "0000004x-000017",
        "00000042-000017.0",
        "-0000042-000017",
        "00000042-1234567890123",
    ],
)
def test_nothing_else_is_a_key(bad: str) -> None:
    with pytest.raises(CorpusError, match="is not a key: expected eight digits, a hyphen and at least six digits"):
        split_key(bad)


def _document(**changes: Any) -> bytes:
    plain = json.loads(Sample(make_key(1, 2), ORIGIN, (TextSegment("a"),)).to_json())
    return canonical.dumps(plain | changes)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (_document(format="emu-sample/2"), r"sample 00000001-000002: format: .*emu-sample/1"),
        (_document(segments=[{"image": 0}]), "a segment points at image 0, but there are 0"),
        (_document(segments=[{"text": 3}]), "sample 00000001-000002: segments.0"),
        (_document(key=None), "sample None: key"),
        (_document(key="x"), "'x' is not a key"),
        (_document(images=[{"member": "0.jpg", "width": "4", "height": 3}]), "images.0.width"),
        (
            _document(
                images=[{"member": "0.jpg", "width": 4, "height": 3, "match": {"sentence": 1, "similarity": 0.5}}]
            ),
            "image 0.jpg is matched to sentence 1 of 1",
        ),
        (b"", r"sample \(no key\)"),
        (b"[" * 100_000, r"sample \(no key\)"),
        (b"\xff", r"sample \(no key\)"),
    ],
)
def test_a_document_that_is_none_names_its_key_and_field(document: bytes, said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        Sample.from_json(document)


def test_fields_of_a_newer_minor_version_are_passed_over() -> None:
    assert Sample.from_json(_document(mood="serene")).key == make_key(1, 2)


def test_members_are_named_once_each_in_order() -> None:
    boxes = tuple(Image("0.jpg", 1, 1, box=(n, 0, 1, 1)) for n in range(3))
    assert Sample(make_key(0, 0), ORIGIN, (), images=(*boxes, Image("1.jpg", 1, 1))).members == ("0.jpg", "1.jpg")
