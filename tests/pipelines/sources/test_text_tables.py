"""csv, tsv, jsonl and txt through `Table`: every row once whatever the units, compressed alike, and a bad row costs itself."""

import bz2
import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.pipeline import Draft
from pipelines.sources import records, text_files
from pipelines.sources.tables import Kind, PairColumns, Table
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal

NAMES = ["url", "text", "note"]
PAIR = PairColumns(url="url", text="text")
KEEP = {"note": Kind.STRING}
TEXT = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=10) | st.text(
    alphabet='a",;\r\n\té', max_size=8
)
MALFORMED = Reason.SOURCE_MALFORMED
quick = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def compressed(data: bytes, ending: str) -> bytes:
    if ending == ".zst":
        return bytes(pa.compress(data, codec="zstd", asbytes=True))
    return {".gz": gzip.compress, ".bz2": bz2.compress, "": bytes}[ending](data)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def csv_bytes(rows: list[list[Any]], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, **options).writerows(rows)
    return out.getvalue().encode()


def table(path: Path | str, **settings: Any) -> Table:
    return Table((str(path),), **({"columns": PAIR} | settings))


def rows_of(source: Table) -> list[Any]:
    return [row for unit in source.units(first_ordinal=0, planned=[]) for row in source.rows(unit)]


def parsed(source: Table) -> list[Draft | Refusal]:
    return [
        source.parse(row, key=f"{unit.ordinal:08d}-{i:06d}", origin_row=unit.first_row + i, unit=unit)
        for unit in source.units(first_ordinal=0, planned=[])
        for i, row in enumerate(source.rows(unit))
    ]


@quick
@given(
    rows=st.lists(st.lists(TEXT, min_size=3, max_size=3), max_size=20),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from([".csv", ".tsv"]),
    unit_rows=st.integers(1, 7),
    block_bytes=st.integers(1, 50),
    bom=st.booleans(),
)
def test_any_table_of_the_stdlib_writer_is_read_in_any_units(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rows: list[list[str]],
    quoting: int,
    ending: str,
    unit_rows: int,
    block_bytes: int,
    bom: bool,
) -> None:
    monkeypatch.setattr(text_files, "_INDEX_BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(text_files, "_READ_BLOCK_BYTES", block_bytes + 3)
    text_files._inspect.cache_clear()
    delimiter = "," if ending == ".csv" else "\t"
    data = b"\xef\xbb\xbf" * bom + csv_bytes([NAMES, *rows], quoting=quoting, delimiter=delimiter)
    expected = [{name: cell or None for name, cell in zip(NAMES, row, strict=True)} for row in rows]
    source = table(write(tmp_path / f"a{ending}", data), keep=KEEP, rows_per_unit=unit_rows)

    units = source.units(first_ordinal=3, planned=[])

    assert [unit.ordinal for unit in units] == list(range(3, 3 + len(units)))
    assert [(unit.first_row, unit.rows) for unit in units] == [
        (first, min(unit_rows, len(rows) - first)) for first in range(0, len(rows), unit_rows)
    ]
    assert [row for unit in units for row in source.rows(unit)] == expected
    assert rows_of(table(write(tmp_path / f"b{ending}.gz", gzip.compress(data)), keep=KEEP)) == expected


JSON = st.dictionaries(
    st.sampled_from(NAMES) | st.text(max_size=3),
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.lists(st.text()),
)


@quick
@given(rows=st.lists(JSON, max_size=20), unit_rows=st.integers(1, 7), ascii_only=st.booleans(), crlf=st.booleans())
def test_any_json_lines_are_read_in_any_units(
    tmp_path: Path, rows: list[dict[str, Any]], unit_rows: int, ascii_only: bool, crlf: bool
) -> None:
    rows = [{"url": "http://a", "text": "t"}, *rows]
    lines = [json.dumps(row, ensure_ascii=ascii_only).encode() for row in rows]
    data = (b"\r\n" if crlf else b"\n").join(lines)
    expected = [{name: row[name] for name in NAMES if name in row} for row in rows]

    plain = table(write(tmp_path / "a.jsonl", data), keep=KEEP, rows_per_unit=unit_rows)
    zipped = table(write(tmp_path / "b.ndjson.gz", gzip.compress(data)), keep=KEEP)

    assert rows_of(plain) == expected
    assert rows_of(zipped) == expected


@pytest.mark.parametrize("ending", ["", ".gz", ".zst", ".bz2"])
def test_a_list_of_urls_becomes_samples_without_text(tmp_path: Path, ending: str) -> None:
    data = compressed(b'http://a/1\r\n\r\nhttp://a/2?q="1",2\nhttp://a/3', ending)
    source = table(write(tmp_path / f"urls.txt{ending}", data), columns=PairColumns(url="URL", text=None))
    source.check({})

    drafts = parsed(source)

    assert [draft.images[0].url for draft in drafts] == ["http://a/1", 'http://a/2?q="1",2', "http://a/3"]
    assert [len(draft.segments) for draft in drafts] == [1, 1, 1]


def test_a_list_of_urls_with_a_text_column_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"column 'text' is missing.*has URLs only.*source\.columns\.text=null"):
        table(write(tmp_path / "a.txt", b"http://a\n")).check({})


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_a_compressed_file_is_one_unit_whose_rows_only_reading_tells(tmp_path: Path, ending: str) -> None:
    data = csv_bytes([NAMES, *([f"http://a/{i}", "x" * 50, ""] for i in range(5000))])
    source = table(write(tmp_path / f"a.csv{ending}", compressed(data, ending)), rows_per_unit=100)

    (unit,) = source.units(first_ordinal=0, planned=[])

    assert (unit.rows, unit.first_row, unit.byte_offset) == (None, 0, None)
    assert [row["url"] for row in source.rows(unit)] == [f"http://a/{i}" for i in range(5000)]
    part = Unit(0, unit.source, unit.fingerprint, 4990, 7)
    assert [row["url"] for row in source.rows(part)] == [f"http://a/{i}" for i in range(4990, 4997)]


def test_two_gzip_members_are_one_file(tmp_path: Path) -> None:
    data = gzip.compress(b"url,text\nhttp://a/1,x\nhttp://a") + gzip.compress(b"/2,y\n")

    assert [row["url"] for row in rows_of(table(write(tmp_path / "a.csv.gz", data)))] == ["http://a/1", "http://a/2"]


@pytest.mark.parametrize("ending", [".gz", ".zst", ".bz2"])
def test_a_compressed_file_that_breaks_off_stops_its_unit(tmp_path: Path, ending: str) -> None:
    rows = b"".join(b"http://a/%d,%d\n" % (i * i, i**5) for i in range(200_000))
    data = compressed(b"url,text\n" + rows, ending)

    with pytest.raises(UserError, match=r"a\.csv\.\w+ cannot be read to its end .*damaged: fetch it again"):
        rows_of(table(write(tmp_path / f"a.csv{ending}", data[: len(data) * 2 // 3])))


def test_a_header_setting_names_the_columns_of_a_file_without_one(tmp_path: Path) -> None:
    path = write(tmp_path / "cc.tsv", b'a "quoted" caption\thttp://a/1\n"odd\thttp://a/2\n')
    source = table(path, header=("text", "url"), quoted=False)
    source.check({})

    drafts = parsed(source)

    assert [(d.segments[1].text, d.images[0].url) for d in drafts] == [
        ('a "quoted" caption', "http://a/1"),
        ('"odd', "http://a/2"),
    ]


def test_a_bad_first_row_is_no_bad_header_where_the_header_is_a_setting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'http://a/1,"odd\nhttp://a/2,fine\n')
    source = table(path, header=("url", "text"))
    source.check({})

    assert rows_of(source) == [Refusal(MALFORMED, "quotes"), {"url": "http://a/2", "text": "fine"}]
    with pytest.raises(UserError, match="do not begin with a row of column names"):
        table(write(tmp_path / "b.csv", b'url,"text\nhttp://a/2,fine\n')).check({})


def test_headers_that_cannot_be_meant_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"first row is data: name the columns.*source\.header=\[url, text\]"):
        table(write(tmp_path / "a.csv", b"http://a/1,x\nhttp://a/2,y\n")).check({})
    with pytest.raises(UserError, match=r"b\.csv has a row of column names; leave source\.header out"):
        table(write(tmp_path / "b.csv", b"url,text\nhttp://a/2,y\n"), header=("url", "text")).check({})
    with pytest.raises(UserError, match=r"c\.csv: two columns are called 'url'"):
        table(write(tmp_path / "c.csv", b"url,text,url\n1,2,3\n")).check({})
    with pytest.raises(UserError, match=r"column 'url' is missing.*The file has 'URL', 'text'.*columns\.url=URL"):
        table(write(tmp_path / "d.csv", b"URL,text\n1,2\n")).check({})
    with pytest.raises(ValueError, match="a name of its own for every column"):
        Table(header=("url", "url"))


def test_ragged_rows_are_malformed_and_cost_nothing_else(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"url,text\nhttp://a/1,x\nhttp://a/2\nhttp://a/3,x,y\nhttp://a/4,z\n")
    source = table(path, rows_per_unit=2)

    assert [row if isinstance(row, Refusal) else row["url"] for row in rows_of(source)] == [
        "http://a/1",
        Refusal(MALFORMED, "cells"),
        Refusal(MALFORMED, "cells"),
        "http://a/4",
    ]
    assert parsed(source)[1] == Refusal(MALFORMED, "cells")
    assert source.notes() == [f"{path}: 2 of the first 4 rows will be source.malformed (cells)"]


def test_a_file_of_which_no_row_can_be_read_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of the first 3 rows can be read \(3 × source\.malformed cells\)"):
        table(write(tmp_path / "a.csv", b"url,text,\n" + b"http://a,x\n" * 3)).check({})
    with pytest.raises(UserError, match=r"one JSON array, not an object per line; convert it: jq -c"):
        table(write(tmp_path / "a.jsonl", b'[\n{"url": 1}\n]\n')).check({})


def test_json_lines_that_are_no_objects_are_malformed(tmp_path: Path) -> None:
    deep = b"[" * 100_000
    good = b'{"url": "http://a/1", "text": "x"}'
    lines = [good, b'{"url": ', b"[1]", b"  ", deep, b'{"url": "http://a/2", "text": 7}', b'{"url": {}, "text": "x"}']

    first, *others = parsed(table(write(tmp_path / "a.jsonl", b"\n".join([*lines, good]))))

    assert isinstance(first, Draft)
    assert others[:-1] == [Refusal(MALFORMED, "json")] * 4 + [
        Refusal(MALFORMED, "text"),
        Refusal(Reason.URL_INVALID, "empty"),
    ]
    assert isinstance(others[-1], Draft)


def test_nul_bytes_and_lines_of_a_megabyte_are_read(tmp_path: Path) -> None:
    long = "é" * 1_000_000
    rows = [["http://a/1", "a\0b", ""], ["http://a/2", long, "\0"], ["http://a/3", f"x\n{long}", ""]]
    source = table(write(tmp_path / "a.csv", csv_bytes([NAMES, *rows])), rows_per_unit=2)

    assert [row["text"] for row in rows_of(source)] == ["a\0b", long, f"x\n{long}"]


def test_a_first_line_longer_than_the_head_that_is_looked_at_is_read(tmp_path: Path) -> None:
    row = {"url": "http://a", "text": "x" * 3_000_000}
    source = table(write(tmp_path / "a.jsonl", json.dumps(row).encode() + b"\n" + json.dumps(row).encode()))
    source.check({})

    assert [len(row["text"]) for row in rows_of(source)] == [3_000_000] * 2


def test_a_line_without_end_is_refused_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 5_000_000)
    path = write(tmp_path / "a.csv", b"url,text\nhttp://a/1,x\n" + b"z" * 12_000_000 + b"\nhttp://a/2,y\n")

    first, bad, last = rows_of(table(path, rows_per_unit=1))

    assert (first["url"], bad, last["url"]) == ("http://a/1", Refusal(MALFORMED, "too_long"), "http://a/2")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_with_the_command_that_converts_it(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", "url,text\nhttp://a/1,x\n".encode(encoding))

    with pytest.raises(UserError, match=r"a\.csv is in UTF-16 or UTF-32, which is not read; convert it first: iconv"):
        table(path).check({})


def test_a_latin_1_file_is_refused_with_the_setting_that_reads_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"url,text\n" + "http://a/1,café\n".encode("latin-1") * 5)

    with pytest.raises(UserError, match=r"5 of the first 5 rows are not utf-8; .* --set source\.encoding=cp1252"):
        table(path).check({})
    assert [row["text"] for row in rows_of(table(path, encoding="latin-1"))] == ["café"] * 5
    with pytest.raises(UserError, match=r"row of column names is not utf-8"):
        table(write(tmp_path / "b.csv", "url,texté\n".encode("latin-1"))).check({})


def test_single_rows_in_another_encoding_are_malformed_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"url,text\nhttp://a/1,caf\xc3\xa9\nhttp://a/2,caf\xe9\nhttp://a/3,x\n")
    source = table(path)
    source.check({})

    assert [row if isinstance(row, Refusal) else row["text"] for row in rows_of(source)] == [
        "café",
        Refusal(MALFORMED, "encoding"),
        "x",
    ]
    assert source.notes() == [f"{path}: 1 of the first 3 rows will be source.malformed (encoding)"]


def test_encodings_are_checked_and_known_by_one_name(tmp_path: Path) -> None:
    assert Table(encoding="UTF8") == Table(encoding="utf-8")
    for unfit in ("utf-16", "cp037", "hz", "rot13", "nonsense"):
        with pytest.raises(ValueError, match=f"encoding: found '{unfit}', expected an encoding that contains ASCII"):
            Table(encoding=unfit)
    path = write(tmp_path / "a.csv", "url,text\nhttp://a,表示\n".encode("shift_jis"))
    assert rows_of(table(path, encoding="shift_jis"))[0]["text"] == "表示"


def test_old_mac_line_ends_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lines end with CR alone"):
        table(write(tmp_path / "a.csv", b"url,text\rhttp://a/1,x\r")).check({})


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.txt"])
def test_an_empty_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=rf"{name} is empty \(0 bytes\)"):
        table(write(tmp_path / name, b"")).check({})


def test_a_header_alone_is_a_table_without_rows(tmp_path: Path) -> None:
    source = table(write(tmp_path / "a.csv", b"url,text"))
    source.check({})

    assert source.units(first_ordinal=0, planned=[]) == []


def test_a_remote_table_gives_the_rows_of_a_local_one(tmp_path: Path) -> None:
    data = csv_bytes([NAMES, *([f"http://a/{i}", "a\nb", ""] for i in range(300))])
    memory = fsspec.filesystem("memory")
    memory.pipe("/meta/a.csv", data)
    memory.pipe("/meta/b.csv.gz", gzip.compress(data))
    memory.pipe("/meta/_SUCCESS", b"")
    try:
        source = table("memory://meta", rows_per_unit=70)
        source.check({})
        rows = rows_of(source)
        units = source.units(first_ordinal=0, planned=[])
        assert [unit.source for unit in units] == ["memory:///meta/a.csv"] * 5 + ["memory:///meta/b.csv.gz"]
        assert rows == rows_of(table(write(tmp_path / "a.csv", data))) * 2
    finally:
        memory.rm("/meta", recursive=True)


def test_a_changed_file_is_noticed_by_size_time_head_and_tail(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"url,text\nhttp://a/1,x\n")
    source = table(path)
    unit = source.units(first_ordinal=0, planned=[])[0]
    write(path, b"url,text\nhttp://a/2,x\n")

    with pytest.raises(UserError, match="has changed since it was planned"):
        list(source.rows(unit))
    with pytest.raises(UserError, match="has changed since it was planned"):
        source.units(first_ordinal=1, planned=[unit])


def test_rows_that_were_changed_in_place_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b"url,text\nhttp://a/1,x\nhttp://a/2,x\n")
    source = table(path)
    unit = source.units(first_ordinal=0, planned=[])[0]
    lying = Unit(0, unit.source, unit.fingerprint, 0, 3, unit.byte_offset, unit.byte_length)

    with pytest.raises(UserError, match="unit 0 was planned with 3 rows from byte 9 on, and has 2 now"):
        list(source.rows(lying))


def test_a_moved_text_file_is_known_again(tmp_path: Path) -> None:
    unit = table(write(tmp_path / "a.csv", b"url,text\nhttp://a/1,x\n")).units(first_ordinal=0, planned=[])[0]
    (tmp_path / "new").mkdir()
    (tmp_path / "a.csv").rename(tmp_path / "new" / "a.csv")
    moved = table(tmp_path / "new")

    assert moved.units(first_ordinal=1, planned=[unit]) == []
    assert len(list(moved.rows(unit))) == 1
