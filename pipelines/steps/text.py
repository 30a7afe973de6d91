"""Text: repaired, made uniform, kept within bounds, and in the languages that are wanted.

What `clean` does, over and over until nothing changes, so that cleaning twice is cleaning once:

    HTML entities -> surrogates -> mojibake (ftfy) -> invisible characters -> NFC -> white space

It repairs and never restyles: curly quotes, ligatures, full-width letters, case and punctuation stay as they were written. An
identifier of languages is not part of this package: `Language` is given one by its dotted path.
"""

import importlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import ftfy
from ftfy import fixes

from pipelines.pipeline import Draft, Filter, PureStep
from pipelines.steps.settings import check_float, check_int, check_words
from schemas.errors import UserError
from schemas.reasons import Reason, Refusal
from schemas.sample import TextSegment

Identifier = Callable[..., tuple[str, float]]

_ENCODING = ftfy.TextFixerConfig(explain=False)
# Real text is stable after two rounds; escapes can be nested so deep that peeling them costs the square of the length.
_MAX_ROUNDS = 8
_MAX_RAW_PER_CHAR = 16  # bounds the work spent on a text that will be too long anyway

_ESCAPED_AMPERSAND = re.compile(r"&(?:(?:amp|AMP|#0*38|#[xX]0*26);)+", re.ASCII)
_INVISIBLE = re.compile(
    # The tags of a flag such as Scotland's are spared; all other tags are hidden text.
    "(\U0001f3f4[\U000e0020-\U000e007e]{1,8}\U000e007f)"
    # Controls that are no white space; soft hyphens; zero-width space, marks and overrides of direction, word joiner,
    # byte order mark, anchors of annotations and of objects.
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffc]"
    "|[\U000e0000-\U000e007f]"
    # Joiners shape letters and emoji (Persian, Malayalam, families) when they follow one; anywhere else nobody sees them.
    "|(?<![^\x00-\x7f\\s\u200c\u200d])[\u200c\u200d]+"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanText(PureStep):
    """Cleans text segments and captions. A segment out of bounds refuses the row; captions that end empty are dropped.

    min_chars, max_chars: fewest and most characters (code points) of a segment, after cleaning; both are kept themselves.
    A segment or caption of over 16 times `max_chars` as it came is not even cleaned: the row is refused (`text.too_long raw`).
    """

    min_chars: int = 5
    max_chars: int = 10_000

    def __post_init__(self) -> None:
        check_int(self, "min_chars", low=1, high=1_000_000)
        check_int(self, "max_chars", low=self.min_chars, high=1_000_000)

    def map(self, draft: Draft) -> Draft | Refusal:
        """See `PureStep.map`."""
        segments = []
        for segment in draft.segments:
            if isinstance(segment, TextSegment):
                text = self._bounded(segment.text)
                if isinstance(text, Refusal):
                    return text
                segment = replace(segment, text=text)
            segments.append(segment)
        captions = []
        for caption in draft.captions:
            text = self._clean(caption.text)
            if isinstance(text, Refusal):
                return text
            if text:
                captions.append(replace(caption, text=text))
        return replace(draft, segments=tuple(segments), captions=tuple(captions))

    def _bounded(self, raw: str) -> str | Refusal:
        text = self._clean(raw)
        if isinstance(text, Refusal):
            return text
        if not text:
            return Refusal(Reason.TEXT_EMPTY)
        if len(text) < self.min_chars:
            return Refusal(Reason.TEXT_TOO_SHORT, "min_chars")
        if len(text) > self.max_chars:
            return Refusal(Reason.TEXT_TOO_LONG, "max_chars")
        return text

    def _clean(self, raw: str) -> str | Refusal:
        if len(raw) > self.max_chars * _MAX_RAW_PER_CHAR:
            return Refusal(Reason.TEXT_TOO_LONG, "raw")
        text = clean(raw)
        return Refusal(Reason.SOURCE_MALFORMED, "escapes") if text is None else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Language(Filter):
    """Keeps a draft whose text is in one of the wanted languages. Put it after `CleanText`.

    identifier: `module:function` that maps (text, **options) to (language code, probability). It runs in threads, and equal
    text must give equal answers. Its path and options are part of the recipe; its version is the user's to pin.
    keep: codes that are kept, as the identifier spells them.
    min_probability: least probability of the code, 0 to 1; a probability equal to it is kept.
    options: keyword arguments for the identifier, such as the path of a model.
    """

    identifier: str
    keep: tuple[str, ...] = ("en",)
    min_probability: float = 0.5
    options: dict[str, str | int | float | bool] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_words(self, "keep")
        check_float(self, "min_probability", low=0, high=1)
        load_identifier(self.identifier)

    def refuse(self, draft: Draft) -> Refusal | None:
        """See `Filter.refuse`."""
        text = "\n".join(segment.text for segment in draft.segments if isinstance(segment, TextSegment))
        if not text:
            return Refusal(Reason.TEXT_EMPTY)
        code, probability = load_identifier(self.identifier)(text, **self.options)
        if code not in self.keep:
            return Refusal(Reason.TEXT_LANGUAGE, "keep")
        return None if probability >= self.min_probability else Refusal(Reason.TEXT_LANGUAGE, "min_probability")


def clean(text: str) -> str | None:
    """The text, repaired and made uniform; empty if nothing visible is left, None if it is escaped or garbled too deep to end."""
    for _ in range(_MAX_ROUNDS):
        cleaned = _clean_once(text)
        if cleaned == text:
            return cleaned
        text = cleaned
    return None


@lru_cache
def load_identifier(path: str) -> Identifier:
    """Import `module:function`, once per process. Raises `UserError` saying which half is not there."""
    module_name, colon, function_name = path.partition(":")
    if not colon or not module_name or not function_name:
        raise UserError(f"identifier: {path!r} is not a path such as 'package.module:function'")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may raise anything while it is imported; the user has to see what
        raise UserError(
            f"identifier: the module of {path!r} cannot be imported ({type(error).__name__}: {error}); "
            f"install it, or put its folder on PYTHONPATH"
        ) from error
    function: Any = module
    for part in function_name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        raise UserError(f"identifier: {module_name} has no function {function_name!r}; check the path {path!r}")
    identifier: Identifier = function
    return identifier


def _clean_once(text: str) -> str:
    if "&" in text:
        text = fixes.unescape_html(_ESCAPED_AMPERSAND.sub("&", text))
    if not text.isascii():
        text = ftfy.fix_encoding(fixes.fix_surrogates(text), _ENCODING)
    text = _INVISIBLE.sub(r"\1", fixes.remove_terminal_escapes(text))
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return " ".join(text.split())
