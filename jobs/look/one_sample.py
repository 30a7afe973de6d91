"""One sample as a page: its text with times and roles in order, each picture at its place with what is known of it.

A picture that stands in several places is drawn at the first. Long documents and many pictures are cut, and say so, unless all is
asked for. Not here: finding the sample (`jobs.inspect`), drawing (`pictures`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.look.lines import shown_line
from jobs.look.pictures import Graphics, decode, draw
from jobs.terminal import count, rows, shown, size
from schemas.sample import Image, ImageSegment, Sample, TextSegment
from schemas.shard_reader import StoredSample

MOST_SEGMENTS = 120
MOST_DRAWN = 12
_LARGE, _SMALL = (56, 20), (28, 8)
_INDENT = 4


@dataclass(slots=True)
class Page:
    """Prints one sample on `on`. everything: nothing is cut. place: where it lies, in words."""

    stored: StoredSample
    on: Console
    graphics: Graphics
    everything: bool = False
    place: str | None = None
    _told: set[int] = field(default_factory=set)
    _drawn: int = 0
    _last_facts: list[str] = field(default_factory=list)

    def print(self, lost: Sequence[dict[str, Any]] = ()) -> None:
        """The whole page; `lost` are the images of the row that were refused."""
        sample = self.stored.sample
        self.on.print(rows(self._head(sample)))
        self.on.print()
        most = None if self.everything else MOST_SEGMENTS
        for segment in sample.segments[:most]:
            self._print_segment(segment)
        if sample.segments[most:] if most else ():
            self._say(f"… and {count(len(sample.segments) - MOST_SEGMENTS)} more segments; --all shows them")
        nowhere = [n for n in range(len(sample.images)) if n not in self._told]
        if nowhere and (most is None or len(sample.segments) <= most):
            self._say("pictures that stand nowhere in the text:")
            for number in nowhere[:most]:
                self._print_picture(number, Text("  "))
        self._print_rest(sample)
        for reject in lost:
            self.on.print(Text(f"lost image {reject['image']}: {reject_line(reject)}", style="yellow"))

    def _head(self, sample: Sample) -> list[tuple[str, str]]:
        pairs = [("key", shown_line(sample.key))]
        origin = sample.source
        if origin.name or origin.file:
            named = ", ".join(part for part in (origin.name, origin.file) if part)
            of = f"{named}, row {count(origin.row)}"
            pairs.append(("from", shown_line(of if origin.id is None else f"{of}, id {origin.id}")))
        if self.place is not None:
            pairs.append(("lies in", shown_line(self.place)))
        if sample.licence is not None:
            pairs.append(("licence", shown_line(sample.licence)))
        others = [name for name in self.stored.media if name not in sample.members]
        if others:
            named = ", ".join(f"{name} ({size(len(self.stored.media[name]))})" for name in others)
            pairs.append(("members", shown_line(named)))
        return pairs

    def _print_segment(self, segment: TextSegment | ImageSegment) -> None:
        prefix = Text("  ")
        if segment.time is not None:
            prefix.append(f"{segment.time:8.2f} s  ", style="cyan")
        if segment.role is not None:
            prefix.append(f"{segment.role}: ", style="magenta")
        if not isinstance(segment, TextSegment):
            self._print_picture(segment.image, prefix)
        elif self.on.is_terminal:
            hanging = Table.grid()
            hanging.add_row(prefix, Text(shown(segment.text)))
            self.on.print(hanging)
        else:
            self.on.print(prefix + Text(shown(segment.text).replace("\n", "\n" + " " * len(prefix))))

    def _print_picture(self, number: int, prefix: Text) -> None:
        image = self.stored.sample.images[number]
        line = prefix.copy().append(f"[image {number}: {sides(image)}]", style="green")
        if number in self._told:
            self.on.print(line)
            return
        self._told.add(number)
        facts = _facts(image, self.stored)
        self.on.print(line.append(f"  {facts[0]}", style="dim"))
        self._draw(image)
        for fact in facts[1:]:
            if fact not in self._last_facts:  # frames of a video, boxes of a sheet: what they share is said once
                self.on.print(Text(" " * _INDENT + fact, style="dim"))
        self._last_facts = facts

    def _draw(self, image: Image) -> None:
        if self.graphics is Graphics.NONE or image.member not in self.stored.media:
            return
        if self._drawn >= MOST_DRAWN and not self.everything:
            return
        self._drawn += 1
        picture = decode(self.stored.media[image.member], box=image.box)
        if picture is None:
            self.on.print(Text(" " * _INDENT + "(cannot be drawn)", style="dim"))
            return
        columns, lines = _LARGE if len(self.stored.sample.images) <= 2 else _SMALL
        draw(picture, on=self.on, graphics=self.graphics, columns=columns, rows=lines, indent=_INDENT)

    def _print_rest(self, sample: Sample) -> None:
        if sample.captions:
            self._heading("captions")
            scores = ["–" if c.similarity is None else format(c.similarity, ".3f") for c in sample.captions]
            self.on.print(rows([(f"  {s}", shown_line(c.text)) for s, c in zip(scores, sample.captions, strict=True)]))
        if sample.attributes:
            self._heading("attributes")
            values = {n: json.dumps(v, ensure_ascii=False) for n, v in sample.attributes.items()}
            self.on.print(rows([(f"  {shown_line(name)}", shown_line(value)) for name, value in values.items()]))

    def _heading(self, words: str) -> None:
        self.on.print()
        self.on.print(Text(words, style="bold"))

    def _say(self, words: str) -> None:
        self.on.print(Text(words, style="dim"))


def reject_line(reject: dict[str, Any]) -> str:
    """Reason, detail and URL of a reject."""
    detail = f" ({reject['detail']})" if reject["detail"] else ""
    url = f" {reject['url']}" if reject["url"] else ""
    return shown_line(f"{reject['reason']}{detail}{url}")


def sides(image: Image) -> str:
    """`640 × 480`, in pixels."""
    return f"{image.width} × {image.height}" if image.width and image.height else "size unknown"


def _facts(image: Image, stored: StoredSample) -> list[str]:
    """What is known of a picture: one line of where it lies, then lines of its own."""
    data = stored.media.get(image.member)
    held = "not in this shard" if data is None else size(len(data))
    place = [f"{shown_line(image.member)}, {held}"]
    if image.box is not None:
        place.append(f"box at {image.box[0]}, {image.box[1]}")
    if image.match is not None:
        place.append(f"matched to sentence {image.match.sentence} at {image.match.similarity:.3f}")
    lines = [" · ".join(place)]
    if image.original is not None:
        was = image.original
        lines.append(f"was {was.width} × {was.height}, {size(was.bytes)}, {shown_line(was.format)}")
    named = (("url", image.url), ("sha256", image.sha256_original), ("phash", image.phash))
    lines += [f"{name} {shown_line(value)}" for name, value in named if value is not None]
    return lines
