"""Distributions of samples at flat memory: however many are added, what is held stays under a bound.

A `Spread` counts whole numbers, exact below 1,024 and to one part in 512 above. `TopCounts` keeps the largest of many names. A
`Tally` holds those of one target. Not here: reading samples (`corpora`, `tars`, `folders`), drawing (`charts`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from jobs.look.domains import domain_of
from jobs.look.foreign import is_description
from schemas.record import json_type, merge_types
from schemas.sample import Sample, TextSegment

MOST_NAMES = 20_000
MOST_FIELDS = 400
_EXACT_BITS = 10
_LANGUAGE_NAMES = ("language", "LANGUAGE", "lang")


class Spread:
    """How often each whole number came; at most 512 places for each doubling above 1,024."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.total = 0

    def add(self, value: int) -> None:
        """Count one value; below 0 counts as 0."""
        value = max(0, value)
        shift = max(0, value.bit_length() - _EXACT_BITS)
        self.counts[value >> shift << shift] += 1
        self.total += value

    def __len__(self) -> int:
        return self.counts.total()

    @property
    def mean(self) -> float:
        """0 where nothing was counted."""
        return self.total / max(1, len(self))

    def quantile(self, fraction: float) -> int:
        """The least value that at least this fraction of all does not exceed; 0 where nothing was counted."""
        wanted, passed = fraction * len(self), 0
        for value, number in sorted(self.counts.items()):
            passed += number
            if passed >= wanted:
                return value
        return 0


class TopCounts:
    """The names that came most often, each with how often it was kept and lost.

    Holds 20,000 to 40,000 names; when there are more, the rarest are added to `rest`, so sums stay true and a name near the top
    may have lost only what it counted while it was rare.
    """

    def __init__(self, most: int = MOST_NAMES) -> None:
        self.rest = [0, 0]
        self._most = most
        self._counts: dict[str, list[int]] = {}

    def add(self, name: str, *, kept: int = 0, lost: int = 0) -> None:
        """Count a name."""
        held = self._counts.get(name)
        if held is None:
            if len(self._counts) >= 2 * self._most:
                self._prune()
            held = self._counts[name] = [0, 0]
        held[0] += kept
        held[1] += lost

    def __len__(self) -> int:
        return len(self._counts)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Name, kept, lost; the most frequent first, then by name."""
        for name, (kept, lost) in sorted(self._counts.items(), key=lambda item: (-sum(item[1]), item[0])):
            yield name, kept, lost

    @property
    def sums(self) -> tuple[int, int]:
        """Kept and lost over all names, those no longer held too."""
        kept, lost = zip(*self._counts.values(), self.rest, strict=True)
        return sum(kept), sum(lost)

    def _prune(self) -> None:
        ordered = list(self)
        self._counts = {name: [kept, lost] for name, kept, lost in ordered[: self._most]}
        for _, kept, lost in ordered[self._most :]:
            self.rest[0] += kept
            self.rest[1] += lost


class Fields:
    """Which fields samples have, of which JSON type, in how many of them; beyond `MOST_FIELDS` names only that there are more."""

    def __init__(self) -> None:
        self.types: dict[str, str] = {}
        self.samples: Counter[str] = Counter()
        self.more = False

    def add(self, values: Mapping[str, Any]) -> None:
        """The fields of one sample."""
        for name, value in values.items():
            kind = json_type(value) if not isinstance(value, dict) else "object"
            if name not in self.types and len(self.types) >= MOST_FIELDS:
                self.more = True
                continue
            if self.types.get(name) != kind:
                self.types |= merge_types({name: self.types.get(name, "null")}, {name: kind})
            self.samples[name] += value is not None


@dataclass
class Tally:
    """The distributions of a target.

    sides in pixels; aspect: width by height, in thousandths; media_bytes: of a media member; text_chars: of a sample, code points.
    parts: which optional parts of `emu-sample/1` samples have. members: endings of members to samples that have one.
    domains: URLs asked for, each once for a sample (frames of a video share theirs), kept and lost.
    """

    samples: int = 0
    images: int = 0
    shorter_side: Spread = field(default_factory=Spread)
    longer_side: Spread = field(default_factory=Spread)
    aspect: Spread = field(default_factory=Spread)
    media_bytes: Spread = field(default_factory=Spread)
    text_chars: Spread = field(default_factory=Spread)
    images_a_sample: Spread = field(default_factory=Spread)
    languages: TopCounts = field(default_factory=TopCounts)
    domains: TopCounts = field(default_factory=TopCounts)
    attributes: Fields = field(default_factory=Fields)
    parts: Counter[str] = field(default_factory=Counter)
    members: TopCounts = field(default_factory=lambda: TopCounts(200))

    def add(self, sample: Sample, member_bytes: Mapping[str, int], *, count_domains: bool = True) -> None:
        """One sample with the sizes of its members. count_domains: not where a ledger beside it has all URLs, kept ones too."""
        self.samples += 1
        self.images += len(sample.images)
        self.images_a_sample.add(len(sample.images))
        self.text_chars.add(sample.text_chars)
        for image in sample.images:
            if image.width > 0 and image.height > 0:
                self.shorter_side.add(min(image.width, image.height))
                self.longer_side.add(max(image.width, image.height))
                self.aspect.add(round(1000 * image.width / image.height))
        for url in {image.url for image in sample.images} if count_domains else ():
            if url is not None:
                self.domains.add(domain_of(url), kept=1)
        for name, number_bytes in member_bytes.items():
            if not is_description(name):
                self.media_bytes.add(number_bytes)
        for ending in {name.rpartition(".")[2] for name in member_bytes}:
            self.members.add(ending, kept=1)
        language = next((sample.attributes[name] for name in _LANGUAGE_NAMES if sample.attributes.get(name)), None)
        if isinstance(language, str):
            self.languages.add(language[:40], kept=1)
        self.attributes.add(sample.attributes)
        self.parts.update(parts_of(sample))


def parts_of(sample: Sample) -> set[str]:
    """Which optional parts of the format a sample has, by their path: `images[].box`."""
    found = {f"segments[].{'text' if isinstance(segment, TextSegment) else 'image'}" for segment in sample.segments}
    for segment in sample.segments:
        found |= {f"segments[].{name}" for name in ("time", "role") if getattr(segment, name) is not None}
    for image in sample.images:
        optional = ("box", "phash", "url", "sha256_original", "original", "match")
        found |= {f"images[].{name}" for name in optional if getattr(image, name) is not None}
    if sample.captions:
        found.add("captions[].text")
    if sample.licence is not None:
        found.add("licence")
    if sample.source.id is not None:
        found.add("source.id")
    return found
