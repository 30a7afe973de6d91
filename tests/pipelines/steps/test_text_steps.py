"""Cleaning repairs and never restyles, is done once for all, and keeps its bounds; languages come from a given identifier."""

import math
import time
import unicodedata
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipelines.pipeline import describe
from pipelines.steps.text import CleanText, Language, clean
from schemas.errors import UserError
from schemas.reasons import Reason, Refusal
from schemas.sample import Caption, ImageSegment, TextSegment

FLAG_OF_SCOTLAND = "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"


@pytest.mark.parametrize(
    ("dirty", "cleaned"),
    [
        ("cafÃ© â€œquotedâ€\x9d", "café “quoted”"),
        ("voilÃ  le travail", "voilà le travail"),
        ("Ã¢â‚¬Å“twice", "“twice"),
        ("Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "привет"),
        ("it\x92s 5 \x80", "it’s 5 €"),
        ("&quot;Keep Calm&quot; &#34;x&#x22;", '"Keep Calm" "x"'),
        ("a &amp;amp;lt;b&amp;gt; &amp;#38;#38;amp; c", "a <b> & c"),
        ("a &" + "amp;" * 30 + "lt; b", "a < b"),
        ("1 < 2 &amp; 3", "1 < 2 & 3"),
        ("日本\x85ж", "日本…ж"),
        ("Caf&amp;eacute; P&EACUTE;REZ", "Café PÉREZ"),
        ("e\u0301", "é"),
        ("a\x00b\x07c\x7fd\x1be", "abcde"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\tb\r\nc\x0bd\x1ce\xa0f\u2028g\u3000h", "a b c d e f g h"),
        ("  two  spaces\n", "two spaces"),
        ("zero\u200bwidth \ufeffmark soft\xadhyphen \u202eright\u202c", "zerowidth mark softhyphen right"),
        ("a \u200b b", "a b"),
        ("foo\u200cbar \u200dbaz", "foobar baz"),
        ("hid\U000e0068\U000e0069den", "hidden"),
        ("\ud83d\ude00 \ud800", "😀 \ufffd"),
        ("&nbsp;\u200b&zwj;", ""),
    ],
)
def test_what_is_broken_is_repaired(dirty, cleaned):
    assert clean(dirty) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "naïve café – “ok” ‘it’s’ … ™ № ½ 10³ µm",
        "Ångström, Łódź, Þórr, Ã…land",
        "ﬁne Ｆｕｌｌ ｶﾀｶﾅ",
        "AT&T this&not that &copy no semicolon",
        "<b>bold</b> 3 < 4",
        "پنج\u200cشنبه",
        "അവന\u0d4d\u200d",
        "👨\u200d👩\u200d👧 ❤\ufe0f",
        FLAG_OF_SCOTLAND,
        "日本語、中文 한국어 ภูเก็ต",
    ],
)
def test_what_is_meant_stays(text):
    assert clean(text) == text


def _texts():
    pieces = [
        "&amp;",
        "&",
        "lt;",
        "#38;",
        "Ã",
        "©",
        "â",
        "€",
        "\x9d",
        "\x85",
        "\u200d",
        "\u200b",
        "e",
        "\u0301",
        "é",
        "ж",
    ]
    pieces += [
        "Ã©",
        " ",
        "\xa0",
        "\U0001f3f4",
        "\U000e0067",
        "\U000e007f",
        "\x1b[",
        "\ud83d",
        "\ude00",
        ";",
        "\n",
        "&nbsp;",
    ]
    return st.one_of(st.text(), st.lists(st.sampled_from(pieces), max_size=30).map("".join))


@settings(max_examples=500)
@example("ക\u200b\u200d").via("a joiner that follows what is removed")
@example("&\u200bamp;").via("an entity that only appears when something else is removed")
@given(_texts())
def test_cleaning_twice_is_cleaning_once_and_leaves_nothing_invisible(text):
    cleaned = clean(text)
    if cleaned is None:
        return
    assert clean(cleaned) == cleaned
    assert unicodedata.is_normalized("NFC", cleaned)
    assert cleaned == " ".join(cleaned.split())
    assert not any(unicodedata.category(char) in ("Cc", "Cs") for char in cleaned)
    assert not set(cleaned) & set("\u200b\ufeff\xad\u200e\u202e\u2060")


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&")))
def test_plain_ascii_loses_only_white_space(text):
    assert clean(text) == " ".join(text.split())


def test_escapes_nested_too_deep_are_refused_not_half_undone(pair):
    def nest(char, depth):
        code = str(ord(char))
        return f"&#{code[:-1]}{nest(code[-1], depth - 1)};" if depth else char

    assert clean(nest("a", 5)) == "a"
    assert clean(nest("a", 50)) is None
    assert CleanText().map(pair(nest("a", 50))) == Refusal(Reason.SOURCE_MALFORMED, "escapes")


@pytest.mark.parametrize(
    "piece", ["&amp;", "&", "\u200d", "Ã©", "—Ã© ж", "\x1b[", "\U0001f3f4", "&#3", "a\u0301\u0316", " \u200d"]
)
def test_the_cost_of_a_text_is_bounded(piece, pair):
    """Within the cap, cleaning takes a part of a second; beyond it, nothing is cleaned."""
    text = piece * (160_000 // len(piece))
    start = time.process_time()
    clean(text)
    assert time.process_time() - start < 5
    assert CleanText(max_chars=1_000).map(pair(text)) == Refusal(Reason.TEXT_TOO_LONG, "raw")


def test_bounds_count_characters_after_cleaning_and_include_themselves(pair):
    step = CleanText(min_chars=3, max_chars=5)
    assert step.map(pair("  a&amp;b  ")).segments[1] == TextSegment("a&b")
    assert step.map(pair("é" * 5)).segments[1] == TextSegment("é" * 5)
    assert step.map(pair("a&amp;")) == Refusal(Reason.TEXT_TOO_SHORT, "min_chars")
    assert step.map(pair("é" * 6)) == Refusal(Reason.TEXT_TOO_LONG, "max_chars")
    assert step.map(pair(" \u200b&nbsp;")) == Refusal(Reason.TEXT_EMPTY)


def test_captions_are_cleaned_and_those_that_end_empty_dropped(pair):
    draft = pair("a  dog", captions=("one &amp; two", " \u200b", "b"), punsafe=0.1)
    result = CleanText().map(draft)
    assert result.captions == (Caption("one & two", 0.3), Caption("b", 0.3))
    assert result.segments == (ImageSegment(0), TextSegment("a dog"))
    assert (result.key, result.images, result.attributes) == (draft.key, draft.images, draft.attributes)


def test_every_segment_of_a_document_is_cleaned_with_its_time_and_place(document):
    draft = document(None, None)
    timed = (TextSegment("in  time", time=1.5), *draft.segments)
    result = CleanText().map(replace(draft, segments=timed))
    assert result.segments == (TextSegment("in time", time=1.5), *draft.segments)
    assert CleanText().map(replace(draft, segments=(*timed, TextSegment(" ")))) == Refusal(Reason.TEXT_EMPTY)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"min_chars": 0}, "min_chars: found 0, expected a whole number from 1"),
        ({"min_chars": 9, "max_chars": 8}, "max_chars: found 8, expected a whole number from 9"),
        ({"min_chars": True}, "min_chars: found True"),
    ],
)
def test_bounds_that_leave_nothing_are_refused(bounds, message):
    with pytest.raises(ValueError, match=message):
        CleanText(**bounds)


def test_real_captions(shared_fixtures, pair):
    """A thousand captions of LAION: all are kept, no entity or double space is left, and most stay as they were."""
    captions = pq.read_table(shared_fixtures / "laion/img2dataset_test_1000.parquet")["TEXT"].to_pylist()
    step = CleanText()
    cleaned = [step.map(pair(caption)).segments[1].text for caption in captions]
    assert len(cleaned) == 1000
    assert not [text for text in cleaned if "&quot;" in text or "&lt;" in text or "  " in text or "\xa0" in text]
    assert 0.9 < sum(a == b for a, b in zip(captions, cleaned, strict=True)) / 1000 < 1
    assert {
        '"Keep Calm" - Blue Canvas',
        "Hartford Slim-Fit Linen Trousers",
        "Bappi Lahrri Records for New Film by Govind Sakariya",
    } <= set(cleaned)


def test_real_captions_come_back_from_mojibake(shared_fixtures):
    """Read as the wrong code page, most captions are repaired exactly; those that are not do not look garbled enough."""
    captions = pq.read_table(shared_fixtures / "laion/img2dataset_test_1000.parquet")["TEXT"].to_pylist()
    captions = [clean(caption) for caption in captions if not caption.isascii()]
    repaired = [clean(caption.encode().decode("sloppy-windows-1252")) for caption in captions]
    assert len(captions) > 50
    assert sum(a == b for a, b in zip(captions, repaired, strict=True)) / len(captions) > 0.9


@pytest.fixture
def identifier(tmp_path, monkeypatch):
    """An identifier that takes the first word for the code, and how sure it is from its options."""
    (tmp_path / "first_word.py").write_text(
        "def identify(text, probability=0.9):\n    return text.split()[0], probability\nnot_a_function = 3\n"
    )
    (tmp_path / "broken_identifier.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return "first_word:identify"


def test_language_keeps_what_is_wanted_and_sure(identifier, pair):
    step = Language(identifier=identifier, keep=("en", "de"), min_probability=0.9)
    assert step.refuse(pair("en hello")) is None
    assert step.refuse(pair("de hallo")) is None
    assert step.refuse(pair("fr salut")) == Refusal(Reason.TEXT_LANGUAGE, "keep")
    unsure = Language(identifier=identifier, options={"probability": 0.89}, min_probability=0.9)
    assert unsure.refuse(pair("en hello")) == Refusal(Reason.TEXT_LANGUAGE, "min_probability")
    nan = Language(identifier=identifier, options={"probability": math.nan})
    assert nan.refuse(pair("en hello")) == Refusal(Reason.TEXT_LANGUAGE, "min_probability")


def test_language_sees_all_text_of_a_document(identifier, document):
    assert Language(identifier=identifier, keep=("sentence",)).refuse(document(None, None)) is None
    assert Language(identifier=identifier).refuse(document()) == Refusal(Reason.TEXT_EMPTY)


def test_the_identifier_and_its_options_are_part_of_the_recipe(identifier):
    assert describe(Language(identifier=identifier, options={"probability": 0.5})) == {
        "kind": "language",
        "version": 1,
        "identifier": identifier,
        "keep": ["en"],
        "min_probability": 0.5,
        "options": {"probability": 0.5},
    }


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("first_word", "'first_word' is not a path such as 'package.module:function'"),
        ("no_such_module_here:f", "cannot be imported .ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("broken_identifier:f", "cannot be imported .ZeroDivisionError: division by zero"),
        ("first_word:idenify", "first_word has no function 'idenify'; check the path"),
        ("first_word:not_a_function", "first_word has no function 'not_a_function'"),
    ],
)
def test_an_identifier_that_is_not_there_is_said_when_the_step_is_made(identifier, path, message):
    with pytest.raises(UserError, match=message):
        Language(identifier=path)
