"""Samples that others wrote, as ours: the members of one WebDataset key become a `Sample` and its media.

The picture comes first, then its caption; every field of the JSON member becomes an attribute. Where the JSON member is
an `emu-sample/1`, it is taken as it is. Sizes of pictures come from the JSON, else from the header of the picture. Not here:
finding the members (`tars`, `folders`).
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from jobs.look.notes import Notes
from schemas.errors import CorpusError
from schemas.sample import SAMPLE_FORMAT, Image, ImageSegment, Origin, Sample, TextSegment

PICTURE_ENDINGS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif"})
TEXT_ENDINGS = ("txt", "text", "caption")
MOST_TEXT_BYTES = 16 << 20
MOST_PICTURE_BYTES = 256 << 20
_URL_NAMES = ("url", "URL", "image_url", "img_url", "source_url")
_TEXT_NAMES = ("caption", "text", "TEXT", "alt_text", "alt")


def is_description(name: str) -> bool:
    """Whether a member describes rather than is a medium."""
    return name == "json" or name.rpartition(".")[2] in TEXT_ENDINGS


def is_picture(name: str) -> bool:
    """Whether a member's ending is that of a picture."""
    return name.rpartition(".")[2].lower() in PICTURE_ENDINGS


def sample_of(
    key: str,
    sizes: Mapping[str, int],
    read: Callable[[str], bytes],
    *,
    file: str,
    row: int,
    notes: Notes,
    values: Mapping[str, Any] | None = None,
) -> Sample:
    """The members of one key as a sample.

    sizes: of all members, in bytes, by the name behind `KEY.`. read: the bytes of one. values: its fields, where they do not
    stand in a JSON member. What cannot be read is noted and left out.
    """
    found = dict(values) if values is not None else _read_json(key, sizes, read, file=file, notes=notes)
    if values is None and found.get("format") == SAMPLE_FORMAT:
        try:
            return Sample.from_json(read("json"))
        except CorpusError as error:
            notes.add(file, f"{error}; it is shown as any other JSON")
    url = _first_text(found, _URL_NAMES)
    pictures = [name for name in sizes if is_picture(name)]
    images = []
    for name in pictures:
        claimed = _claimed_sides(found) if len(pictures) == 1 else None
        width, height = claimed or _sides(read, name, sizes[name])
        images.append(Image(member=name, width=width, height=height, url=url))
    caption = _caption(sizes, read, found)
    segments: list[TextSegment | ImageSegment] = [ImageSegment(number) for number in range(len(images))]
    if caption:
        segments.append(TextSegment(caption))
    return Sample(key, Origin(name="", file=file, row=row), tuple(segments), tuple(images), attributes=found)


def _read_json(
    key: str, sizes: Mapping[str, int], read: Callable[[str], bytes], *, file: str, notes: Notes
) -> dict[str, Any]:
    if "json" not in sizes:
        return {}
    if sizes["json"] > MOST_TEXT_BYTES:
        notes.add(file, f"key {key}: a JSON member of {sizes['json']} bytes was not read")
        return {}
    try:
        found = json.loads(read("json"))
    except (ValueError, RecursionError):
        notes.add(file, f"key {key}: the JSON member is not JSON; its fields are not shown")
        return {}
    if not isinstance(found, dict):
        notes.add(file, f"key {key}: the JSON member is no object; its fields are not shown")
        return {}
    return found


def _caption(sizes: Mapping[str, int], read: Callable[[str], bytes], found: Mapping[str, Any]) -> str:
    for name, number_bytes in sizes.items():
        if name.rpartition(".")[2] in TEXT_ENDINGS and number_bytes <= MOST_TEXT_BYTES:
            return read(name).decode("utf-8", "replace")
    return _first_text(found, _TEXT_NAMES) or ""


def _first_text(found: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    return next((found[name] for name in names if isinstance(found.get(name), str)), None)


def _claimed_sides(found: Mapping[str, Any]) -> tuple[int, int] | None:
    """Sides that the JSON states and that are sides."""
    sides = found.get("width"), found.get("height")
    if all(isinstance(side, int | float) and 0 < side < 1 << 20 for side in sides):
        return int(sides[0] or 0), int(sides[1] or 0)
    return None


def _sides(read: Callable[[str], bytes], name: str, number_bytes: int) -> tuple[int, int]:
    """From the picture's header; 0 by 0 where it has none that can be read."""
    if number_bytes > MOST_PICTURE_BYTES:
        return 0, 0
    from jobs.look.pictures import sides

    return sides(read(name)) or (0, 0)
