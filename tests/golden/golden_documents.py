"""The hand-written samples of the golden corpus, one recipe after the other, as the plain dicts that `KEY.json` holds.

They say what the format can hold, not what a pipeline would make of some input. Nothing here is anybody's: names, words and
addresses are invented, pictures are gradients, and hashes of originals are hashes of their invented names.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any

from golden_pictures import phash

FORMAT = "emu-sample/1"
TILE_WIDTH, TILE_HEIGHT, COLUMNS, FRAMES = 16, 9, 10, 70


@dataclass
class Row:
    """A row that became a sample: its ordinal in the unit, the document, and the pictures its members hold."""

    row: int
    document: dict[str, Any]
    pictures: list[str] = field(default_factory=list)


def image(name: str, width: int, height: int, **more: Any) -> dict[str, Any]:
    """What every golden image says of itself; `name` is a file of `pictures/`, from which the original's hash is invented."""
    return {
        "width": width,
        "height": height,
        "phash": phash(name, more.get("box")),
        "url": f"https://images.example.org/{name}",
        "sha256_original": hashlib.sha256(f"original of {name}".encode()).hexdigest(),
        **more,
    }


def origin(name: str, file: str, row: int, **more: str) -> dict[str, Any]:
    return {"name": name, "file": file, "row": row, **more}


def pair(row: int, key: str, text: str, picture: str, similarity: float | None) -> Row:
    """LAION-2B: a picture and its alt text. Signed 64-bit hashes are strings: JSON readers round large integers."""
    original = {"width": 480, "height": 320, "format": "jpeg", "bytes": 20480 + row}
    document = {
        "format": FORMAT,
        "key": key,
        "source": origin("laion-2b", "part-00000.parquet", row),
        "segments": [{"image": 0}, {"text": text}],
        "images": [image(picture, 48, 32, member="0.jpg", original=original)],
        "attributes": {"hash": str(-7000000000000000123 + row), "punsafe": 0.0625, "similarity": similarity},
    }
    return Row(row, document, [picture])


def laion_2b() -> list[Row]:
    return [
        pair(0, "00000000-000000", "A slope from dark to light", "pair0.jpg", None),
        pair(2, "00000000-000002", "Grüße an die Welt, 世界 🌍", "pair2.jpg", 0.34375),
    ]


def retried() -> list[Row]:
    """The retry of a row that got `http.503` at first: a new unit, the old key, and row 0 of the new unit's list."""
    kept = pair(3, "00000000-000003", "Late but here", "pair3.jpg", 0.3125)
    return [Row(0, kept.document, kept.pictures)]


def laion_coco() -> list[Row]:
    document = {
        "format": FORMAT,
        "key": "00000001-000000",
        "source": origin("laion-coco", "part-00000-coco.parquet", 0),
        "segments": [{"image": 0}, {"text": "gradient.jpg 800x600"}],
        "images": [image("coco.jpg", 48, 32, member="0.jpg")],
        "captions": [
            {"text": "a smooth gradient", "similarity": 0.40625},
            {"text": "a wall in the evening", "similarity": 0.28125},
            {"text": "something grey"},
        ],
        "attributes": {"similarity": 0.25, "top_caption": "a smooth gradient"},
        "licence": "CC0-1.0",
    }
    return [Row(0, document, ["coco.jpg"])]


def mmc4() -> list[Row]:
    """A page of four sentences; two of its three images are kept, each before the sentence it is matched to."""
    matches = [{"sentence": 1, "similarity": 0.3125}, {"sentence": 3, "similarity": 0.28125}]
    document = {
        "format": FORMAT,
        "key": "00000002-000000",
        "source": origin("mmc4", "docs_no_face_shard_0_v2.jsonl.zip", 0, id="https://pages.example.org/slopes"),
        "segments": [
            {"text": "How to draw a slope."},
            {"image": 0},
            {"text": "Begin with the dark side."},
            {"text": "Go on to the light."},
            {"image": 1},
            {"text": "Now it is done."},
        ],
        "images": [
            image("mmc4a.jpg", 48, 32, member="0.jpg", match=matches[0]),
            image("mmc4b.jpg", 32, 48, member="1.jpg", match=matches[1]),
        ],
        "attributes": {"could_have_url_duplicate": 0},
    }
    return [Row(0, document, ["mmc4a.jpg", "mmc4b.jpg"])]


def webvid() -> list[Row]:
    """Eight frames at their true times, then the caption; the frames share url, hash and description of the video file."""
    names = [f"frame{number}.jpg" for number in range(8)]
    original = {"width": 1280, "height": 720, "format": "mp4", "bytes": 1048576}
    video = image("frame0.jpg", 32, 18, original=original) | {"url": "https://images.example.org/clip.mp4"}
    document = {
        "format": FORMAT,
        "key": "00000003-000000",
        "source": origin("webvid", "results_2M_val.csv", 0, id="1234567"),
        "segments": [
            *({"image": number, "time": 0.75 + 1.5 * number} for number in range(8)),
            {"text": "Light moves over a wall"},
        ],
        "images": [{**video, "member": f"{number}.jpg", "phash": phash(name)} for number, name in enumerate(names)],
        "attributes": {"duration": "PT00H00M12S", "page_dir": "006001_006050", "tags": ["light", "wall"]},
    }
    return [Row(0, document, names)]


def yt_storyboard() -> list[Row]:
    """Seventy frames as boxes on two sheets kept verbatim, and timed text; where times are equal the frame comes first."""
    said = {0.5: "hello", 4.0: "this is a wall", 31.25: "it gets lighter", 64.0: "and lighter", 120.5: "goodbye"}
    frames: list[tuple[float, int, dict[str, Any]]] = [
        (2.0 * number, 0, {"image": number, "time": 2.0 * number}) for number in range(FRAMES)
    ]
    texts: list[tuple[float, int, dict[str, Any]]] = [
        (time, 1, {"text": text, "time": time}) for time, text in said.items()
    ]
    document = {
        "format": FORMAT,
        "key": "00000004-000000",
        "source": origin("yt-storyboard", "videos.txt", 0, id="-abcdefghi_"),
        "segments": [segment for *_, segment in sorted(frames + texts, key=lambda event: event[:2])],
        "images": [_tile(number) for number in range(FRAMES)],
        "attributes": {"duration_seconds": 140.0, "frame_interval_rule": "spec", "language": "en"},
    }
    return [Row(0, document, ["sheet0.webp", "sheet1.webp"])]


def _tile(number: int) -> dict[str, Any]:
    """Sheets hold 10 x 6 tiles, row by row; the last one is cropped to the row it needs."""
    sheet, place = divmod(number, 60)
    box = [place % COLUMNS * TILE_WIDTH, place // COLUMNS * TILE_HEIGHT, TILE_WIDTH, TILE_HEIGHT]
    original = {"width": 160, "height": 54 if sheet == 0 else 9, "format": "webp", "bytes": 4096}
    return image(f"sheet{sheet}.webp", TILE_WIDTH, TILE_HEIGHT, member=f"{sheet}.webp", box=box, original=original)


def instruct() -> list[Row]:
    """A conversation about a picture, and one that calls a function; every segment says whose turn it stands in."""
    seen = {
        "format": FORMAT,
        "key": "00000005-000000",
        "source": origin("llava", "conversations.json", 0, id="000000123"),
        "segments": [
            {"text": "You are a helpful assistant.", "role": "system"},
            {"image": 0, "role": "user"},
            {"text": "What is to be seen?", "role": "user"},
            {"text": "A slope of grey.", "role": "assistant"},
            {"text": "Which side is dark?", "role": "user"},
            {"text": "The left one.", "role": "assistant"},
        ],
        "images": [image("seen.jpg", 48, 32, member="0.jpg")],
    }
    called = {
        "format": FORMAT,
        "key": "00000005-000001",
        "source": origin("sharegpt", "conversations.json", 1, id="fc-1"),
        "segments": [
            {"text": "How many pixels has it?", "role": "user"},
            {"text": '{"name": "count_pixels", "arguments": {}}', "role": "tool_call"},
            {"text": "1536", "role": "tool_result"},
            {"text": "It has 1,536 pixels.", "role": "assistant"},
        ],
        "attributes": {"tools": '[{"name": "count_pixels"}]'},
    }
    return [Row(0, seen, ["seen.jpg"]), Row(1, called)]


def text() -> list[Row]:
    document = {
        "format": FORMAT,
        "key": "00000006-000000",
        "source": origin("text", "documents.jsonl", 0),
        "segments": [{"text": 'A first paragraph, with "quotes" and a \\ in it.\n\nA second one: “à bientôt”.'}],
        "attributes": {"language": "en", "score": 1e-05, "count": 3},
    }
    return [Row(0, document)]
