"""Several files as one table: harmless differences are told, harmful ones refused by name, other files passed over."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.sources.files import find_files
from pipelines.sources.formats import ENDINGS, Compression, FileType, Format, file_type
from pipelines.sources.tables import Kind, PairColumns, Table
from schemas.errors import UserError

PAIR = PairColumns(url="url", text="text")


def pairs(path: Path, rows: int = 2, **columns: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    table = {"url": [f"http://a/{i}" for i in range(rows)], "text": ["t"] * rows}
    pq.write_table(pa.table(table | columns), path)
    return path


def source(folder: Path, **keep: Kind) -> Table:
    return Table((str(folder),), columns=PAIR, keep=keep)


def test_harmless_differences_are_told_with_their_files(tmp_path: Path) -> None:
    for i in range(5):
        pairs(tmp_path / f"{i}.parquet", width=pa.array([1, 2], pa.int32() if i else pa.float64()))
    pairs(tmp_path / "old.parquet", score=[0.5, 0.6])
    table = source(tmp_path, width=Kind.INT, score=Kind.FLOAT, nowhere=Kind.FLOAT)
    table.check({})

    assert table.notes() == [
        "column 'width': absent in 1 of 6 files: old.parquet; samples from there lack it",
        "column 'width': int32 in 4 files, double in 1 (0.parquet); kept as int from all of them",
        "column 'score': absent in 5 of 6 files: 0.parquet, 1.parquet, 2.parquet and 2 more; samples from there lack it",
    ]


def test_equal_files_have_nothing_to_tell(tmp_path: Path) -> None:
    pairs(tmp_path / "a.parquet", unasked=[1, 2])
    pairs(tmp_path / "b.parquet", unasked=["x", "y"])

    assert source(tmp_path).notes() == []


def test_a_column_that_is_needed_and_missing_somewhere_names_these_files(tmp_path: Path) -> None:
    pairs(tmp_path / "a.parquet", score=[0.5, 0.6])
    pairs(tmp_path / "b.parquet")
    pq.write_table(pa.table({"url": ["http://a"], "caption": ["t"]}), tmp_path / "c.parquet")

    with pytest.raises(
        UserError,
        match=r"b\.parquet: column 'score' is missing \(absent in 2 of 3 files: b\.parquet, c\.parquet\); the step `max_unsafe`",
    ):
        Table(
            (str(tmp_path / "[ab].parquet"), str(tmp_path / "c.parquet")), columns=PairColumns(url="url", text=None)
        ).check({"score": "max_unsafe"})
    with pytest.raises(
        UserError, match=r"c\.parquet: column 'text' is missing .*1 of 3 files: c\.parquet.*columns\.text="
    ):
        source(tmp_path).check({})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Kind.FLOAT, pa.array([[0.5]])),
        (Kind.STRING, pa.array([b"x"])),
        (Kind.LIST_STRING, pa.array([1])),
        (Kind.BOXES, pa.array([0.5])),
        (Kind.ID, pa.array([{"a": 1}])),
    ],
)
def test_a_type_that_cannot_serve_is_refused_by_file_and_column(tmp_path: Path, kind: Kind, values: pa.Array) -> None:
    pairs(tmp_path / "a.parquet", rows=1)
    pairs(tmp_path / "b.parquet", rows=1, score=values)

    with pytest.raises(UserError, match=rf"b\.parquet: column 'score' holds .*, expected {kind}; change its type"):
        source(tmp_path, score=kind).check({})


def test_a_text_column_of_numbers_in_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"url": "http://a", "text": 5}\n' * 3)

    with pytest.raises(UserError, match=r"a\.jsonl: column 'text' holds int64, expected text"):
        source(tmp_path).check({})


def test_several_formats_are_one_table_and_told(tmp_path: Path) -> None:
    pairs(tmp_path / "a.parquet", score=[0.5, 0.25])
    (tmp_path / "b.csv").write_text("url,text,score\nhttp://a/3,t,0.125\n")
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(b'{"url": "http://a/4", "text": "t", "score": 1}\n'))
    table = source(tmp_path, score=Kind.FLOAT)
    table.check({})

    units = table.units(first_ordinal=0, planned=[])
    scores = [
        table.parse(row, key="", origin_row=0, unit=u).attributes["score"] for u in units for row in table.rows(u)
    ]

    assert scores == [0.5, 0.25, 0.125, 1.0]
    assert table.notes() == [
        "files of several formats are read as one table: parquet in 1 file, csv in 1 (b.csv), jsonl in 1 (c.jsonl.gz)"
    ]


def test_spark_output_folders_are_read_without_their_marks(tmp_path: Path) -> None:
    pairs(tmp_path / "out.parquet" / "part-0.snappy.parquet")
    for name in ("_SUCCESS", "_metadata.parquet", ".part-0.snappy.parquet.crc", ".hidden.parquet"):
        (tmp_path / "out.parquet" / name).write_bytes(b"")
    expected = [str(tmp_path / "out.parquet" / "part-0.snappy.parquet")]

    assert find_files((str(tmp_path / "out.parquet"),), endings=ENDINGS) == expected
    assert find_files((str(tmp_path / "*" / "*.parquet"),), endings=ENDINGS) == expected


def test_a_folder_of_folders_is_told_from_an_empty_one(tmp_path: Path) -> None:
    pairs(tmp_path / "deep" / "a.parquet")

    with pytest.raises(UserError, match=r"it has folders of its own: name them by a pattern"):
        find_files((str(tmp_path),), endings=ENDINGS)


def test_a_txt_file_beside_tables_is_no_list_of_urls_unless_named(tmp_path: Path) -> None:
    pairs(tmp_path / "a.parquet")
    (tmp_path / "README.txt").write_text("read me\n")
    columns = PairColumns(url="url", text=None)
    beside = Table((str(tmp_path),), columns=columns)
    named = Table((str(tmp_path), str(tmp_path / "README.txt")), columns=columns)

    assert len(beside.units(first_ordinal=0, planned=[])) == 1
    assert beside.notes() == ["txt files beside tables are not read as lists of URLs: README.txt"]
    assert len(named.units(first_ordinal=0, planned=[])) == 2


def test_a_table_beside_its_compressed_self_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("url,text\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"url,text\n"))

    with pytest.raises(UserError, match=r"a\.csv\.gz and a\.csv are one table twice"):
        source(tmp_path).check({})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.snappy.parquet", FileType(Format.PARQUET, Compression.NONE)),
        ("a.csv", FileType(Format.CSV, Compression.NONE)),
        ("s3://b/a.tsv.gz", FileType(Format.TSV, Compression.GZIP)),
        ("a.ndjson.zst", FileType(Format.JSONL, Compression.ZSTD)),
        ("a.txt.bz2", FileType(Format.TXT, Compression.BZIP2)),
    ],
)
def test_a_name_tells_the_format(name: str, expected: FileType) -> None:
    assert file_type(name) == expected
    assert name.endswith(ENDINGS)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.json", "a", "csv.gz"])
def test_other_names_are_refused(name: str) -> None:
    assert not name.endswith(ENDINGS)
    with pytest.raises(UserError, match="its name tells no format"):
        file_type(name)
