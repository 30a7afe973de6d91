"""Validation of tars, indexes and rejects: each kind of damage gives a problem that names file, key and byte."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.corpus import SAMPLES, record_name
from schemas.sample import make_key
from schemas.tar import BLOCK
from tests.damage import edit_index, flip, found, only, path_of, record_of, reject_table, rename_rejects, rewrite
from tests.small_corpora import Builder

# Tars


def test_a_truncated_tar(built: Builder) -> None:
    tar = path_of(built, 1, "tar")
    tar.write_bytes(tar.read_bytes()[:4000])
    size, *samples, hashed = found(built, column=SAMPLES)
    name = str(tar.relative_to(built.root))
    assert {problem.file for problem in (size, *samples, hashed)} == {name}
    assert (size.byte, size.message) == (4000, "it has 4000 bytes, the record says 10240")
    assert [(p.key, p.byte) for p in samples[:2]] == [(make_key(1, 1), 4000), (make_key(1, 3), 6144)]
    assert "the tar ends after 928 of 3072 bytes of this sample" in samples[0].message
    assert "its sha256 is" in hashed.message
    assert f"Restore the file from a copy; or delete it and {record_name(SAMPLES, 1)}" in size.todo


@pytest.mark.parametrize(
    ("before", "where", "said"),
    [
        (b"picture of 00000001-000001", "start", "image 0 has xxh3"),
        (b"00000001-000001.json", 3 * 1024, "no tar header of 00000001-000001.json with"),
        (b'{"attri', 3 * 1024 + BLOCK, "the JSON is not in canonical form"),
        (b'"format":', 3 * 1024 + BLOCK, "Invalid JSON: expected value at line 1 column 55"),
        (b'"row":1}}', "here", "the padding behind 00000001-000001.json is not zero"),
    ],
)
def test_a_flipped_byte_in_a_tar(built: Builder, before: bytes, where: Any, said: str) -> None:
    tar = path_of(built, 1, "tar")
    byte = flip(tar, before, start=3072)
    sample, hashed = found(built, column=SAMPLES)
    assert (sample.file, sample.unit, sample.key) == (str(tar.relative_to(built.root)), 1, make_key(1, 1))
    start = tar.read_bytes().index(b"picture of 00000001-000001")
    assert sample.byte == {"start": start, "here": byte}.get(where, where)
    assert said in sample.message
    assert hashed.message.startswith("its sha256 is")


def test_a_flipped_letter_of_a_text_is_known_by_the_hash_alone(built: Builder) -> None:
    flip(path_of(built, 1, "tar"), b"A sentence ab")
    assert only(found(built, column=SAMPLES)).message.startswith("its sha256 is")


def test_a_flipped_byte_behind_the_last_sample(built: Builder) -> None:
    tar = path_of(built, 1, "tar")
    data = tar.read_bytes()
    tar.write_bytes(data[:-100] + b"x" + data[-99:])
    end, _ = found(built, column=SAMPLES)
    assert (end.byte, end.message) == (len(data) - 1024, "no end of tar here: 1024 zero bytes are due")


def test_swapped_parts_on_disk(built: Builder) -> None:
    one, two = path_of(built, 1, "tar"), path_of(built, 2, "tar")
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    problems = found(built, column=SAMPLES)
    assert [(p.key, p.byte) for p in problems if p.key] == [
        (make_key(unit, row), byte) for unit in (1, 2) for row, byte in ((0, 0), (1, 3072), (3, 6144))
    ]
    assert all(f"no tar header of {p.key}.json" in p.message for p in problems if p.key)


def test_swapped_parts_in_the_record(built: Builder) -> None:
    rewrite(built, 0, lambda content: replace(content, parts=content.parts[::-1]))
    problems = found(built, column=SAMPLES)
    assert "as part 0, expected samples/00000000-00-HASH.tar" in problems[0].message
    assert any("row 0 comes after row 3: samples lie in row order" in p.message for p in problems)


@pytest.mark.parametrize("kind", ["tar", "index", "rejects"])
def test_a_missing_file(built: Builder, kind: str) -> None:
    path = path_of(built, 1, kind)
    name = str(path.relative_to(built.root))
    path.unlink()
    for quick in (False, True):
        problem = only(found(built, column=SAMPLES, quick=quick))
        assert (problem.file, problem.unit) == (name, 1)
        assert problem.message == "the record names this file, but it is missing"


def test_a_name_that_is_not_the_hash_of_its_content(built: Builder) -> None:
    content = record_of(built, 1).content
    (part,) = content.parts
    stem = f"{SAMPLES}/00000001-00-00000000"
    for file, end in ((part.data, "tar"), (part.index, "arrow")):
        (built.root / file.name).rename(built.root / f"{stem}.{end}")
    files = {"data": replace(part.data, name=f"{stem}.tar"), "index": replace(part.index, name=f"{stem}.arrow")}
    rewrite(built, 1, lambda content: replace(content, parts=(replace(part, **files),)))
    problem = only(found(built, column=SAMPLES))
    assert problem.file == f"{stem}.tar"
    assert problem.message == f"its name must end in the hash of tar and index, {part.data.name[-12:-4]}"


# Indexes


def _shift(rows: list[dict[str, Any]]) -> None:
    rows[1]["json_offset"] += BLOCK
    for place in rows[1]["members"] + rows[1]["images"]:
        place["offset"] += BLOCK


def test_a_gap_in_the_index(built: Builder) -> None:
    stem = edit_index(built, 2, _shift)
    gap, damaged, *_ = found(built, column=SAMPLES)
    assert (gap.file, gap.key, gap.byte) == (f"{stem}.tar", make_key(2, 1), 3072)
    assert gap.message == "the index puts this sample at byte 3584: gap of 512 bytes"
    assert (damaged.key, damaged.byte) == (make_key(2, 1), 3584)


def _alter(column: str, value: Any, *path: Any) -> Callable[[list[dict[str, Any]]], None]:
    def edit(rows: list[dict[str, Any]]) -> None:
        place: Any = rows[1]
        for step in (column, *path)[:-1]:
            place = place[step]
        place[(column, *path)[-1]] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_alter("key", "00000002-000009"), "row 1 of the unit is planned as key 00000002-000001"),
        (_alter("row", 0), "row 0 comes after row 0: samples lie in row order"),
        (_alter("text_chars", 7), "the index says 7 text characters and 1 images, the JSON holds 32 and 1"),
        (_alter("json_bytes", -1), "the index puts member 0.jpg at byte"),
        (_alter("json_bytes", 2**62), "the index puts member 0.jpg at byte"),
        (_alter("members", 2**62, 0, "bytes"), "the index puts the sample at bytes 3072 to"),
        (_alter("members", "1.jpg", 0, "name"), "no tar header of 00000002-000001.1.jpg"),
        (_alter("members", "x" * 200, 0, "name"), "no tar header of"),
        (_alter("images", 5, 0, "xxh3"), "image 0 has xxh3"),
        (_alter("images", -5, 0, "offset"), "image 0: the index says"),
        (_alter("images", []), "and 0 images, the JSON holds 32 and 1"),
        (lambda rows: rows.pop(1), "gap of 3072 bytes"),
        (lambda rows: rows.insert(1, rows[1]), "overlap of 3072 bytes"),
        (lambda rows: rows.clear(), "the last sample ends at byte 0 of 10240"),
    ],
)
def test_an_index_that_says_what_is_not_so(
    built: Builder, edit: Callable[[list[dict[str, Any]]], None], said: str
) -> None:
    edit_index(built, 2, edit)
    problems = found(built, column=SAMPLES)
    assert any(said in problem.message for problem in problems), [p.message for p in problems]
    assert {problem.unit for problem in problems} == {2}
    assert not any("cannot be read" in problem.message for problem in problems)


def test_a_flipped_byte_in_an_index(built: Builder) -> None:
    index = path_of(built, 1, "index")
    flip(index, make_key(1, 1)[:-1].encode())
    problems = found(built, column=SAMPLES)
    assert {p.file for p in problems} == {
        str(index.relative_to(built.root)),
        str(path_of(built, 1, "tar").relative_to(built.root)),
    }
    assert problems[0].message.startswith("its sha256 is")
    assert any(
        p.key == make_key(1, 1) and "row 0 of the unit is planned as key 00000001-000000" in p.message for p in problems
    )


def test_the_index_of_another_unit(built: Builder) -> None:
    shutil.copy(path_of(built, 2, "index"), path_of(built, 1, "index"))
    problems = found(built, column=SAMPLES)
    assert any("'unit': '2'" in p.message and "expected" in p.message for p in problems)


# Rejects


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"key": ["00000001-000002", "00000001-000003"]}, "row 2 of the unit is planned as key 00000001-000002"),
        ({"reason": ["http.404", "no.reason"]}, "'no.reason' is not a valid Reason"),
        ({"detail": ["", "text from the web!"]}, "is not a word of this code"),
        ({"level": ["row", "row"], "image": [None, None]}, "rejects lie in order, each once"),
        ({"level": ["image", "image"], "image": [0, 0]}, "rejects lie in order, each once"),
        ({"level": ["row", "sheet"]}, "level 'sheet' with image 0: expected `row` with none or `image`"),
        ({"image": [None, None]}, "level 'image' with image None"),
        ({"reason": ["http.404", "dns"]}, "reasons is"),
        ({"row": [1, 1], "key": ["00000001-000001"] * 2}, "rows [1] are accounted for twice"),
    ],
)
def test_rejects_that_cannot_be(built: Builder, columns: dict[str, Any], said: str) -> None:
    rename_rejects(built, 1, reject_table(built, 1, **columns))
    problems = found(built, column=SAMPLES)
    assert any(said in problem.message for problem in problems), [p.message for p in problems]
    assert {problem.unit for problem in problems} == {1}


@pytest.mark.parametrize("damage", [b"", b"PAR1", b"flip"])
def test_damaged_rejects(built: Builder, damage: bytes) -> None:
    path = path_of(built, 1, "rejects")
    data = path.read_bytes()
    path.write_bytes(data[:60] + bytes(40) + data[100:] if damage == b"flip" else damage)
    problems = found(built, column=SAMPLES)
    assert {problem.file for problem in problems} == {str(path.relative_to(built.root))}
