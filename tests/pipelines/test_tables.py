"""Parquet tables of pairs: the range of rows that was asked for, types by the column map, and files that are not what they were."""

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.pipeline import Draft
from pipelines.sources.files import find_files
from pipelines.sources.parquet import inspect
from pipelines.sources.tables import Kind, PairColumns, Table, cast
from schemas.errors import UserError
from schemas.plan import Unit
from schemas.reasons import Reason, Refusal


def write_pairs(path: Path, *, rows: int, **columns: list[object]) -> Path:
    table = {"URL": [f"http://a.example/{i}.jpg" for i in range(rows)], "TEXT": [f"caption {i}" for i in range(rows)]}
    pq.write_table(pa.table(table | columns), path)
    return path


def only_unit(source: Table) -> Unit:
    (unit,) = source.units(first_ordinal=0, planned=[])
    return unit


def parse_all(source: Table) -> list[Draft | Refusal]:
    return [
        source.parse(row, key=f"{unit.ordinal:08d}-{i:06d}", origin_row=unit.first_row + i, unit=unit)
        for unit in source.units(first_ordinal=0, planned=[])
        for i, row in enumerate(source.rows(unit))
    ]


@settings(max_examples=60, deadline=None)
@given(rows=st.integers(0, 90), group=st.integers(1, 40), unit_rows=st.integers(1, 50))
def test_units_hold_every_row_once_whatever_the_row_groups(
    tmp_path_factory: pytest.TempPathFactory, rows: int, group: int, unit_rows: int
) -> None:
    path = tmp_path_factory.mktemp("t") / "a.parquet"
    table = pa.table({"URL": [f"u{i}" for i in range(rows)], "TEXT": ["t"] * rows})
    pq.write_table(table, path, row_group_size=group)
    source = Table((str(path),), rows_per_unit=unit_rows)

    units = source.units(first_ordinal=7, planned=[])

    assert [unit.ordinal for unit in units] == list(range(7, 7 + len(units)))
    assert [row["URL"] for unit in units for row in source.rows(unit)] == [f"u{i}" for i in range(rows)]


def test_a_range_beyond_the_first_batch_of_a_large_row_group_is_read(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=5000)

    rows = list(inspect(str(path)).rows_of(3000, 4, columns=("URL",)))

    assert [row["URL"] for row in rows] == [f"http://a.example/{i}.jpg" for i in range(3000, 3004)]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (Kind.FLOAT, np.float32(0.5).item(), 0.5),
        (Kind.FLOAT, float("nan"), None),
        (Kind.INT, 640.0, 640),
        (Kind.INT, None, None),
        (Kind.ID, -9_013_204_586_720_451_231, "-9013204586720451231"),
        (Kind.ID, 12.0, "12"),
        (Kind.STRING, "UNLIKELY", "UNLIKELY"),
        (Kind.LIST_FLOAT, [1, None], [1.0, None]),
    ],
)
def test_values_take_the_type_of_the_column_map(kind: Kind, value: object, expected: object) -> None:
    assert cast(value, kind) == expected


@pytest.mark.parametrize("width_type", [pa.int32(), pa.int64(), pa.float64()])
def test_laion_widths_of_any_release_become_one_type(tmp_path: Path, width_type: pa.DataType) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2, WIDTH=pa.array([640, None], width_type))
    source = Table((str(path),), keep={"WIDTH": Kind.INT})

    drafts = parse_all(source)

    assert [draft.attributes for draft in drafts] == [{"WIDTH": 640}, {"WIDTH": None}]


def test_a_row_becomes_an_image_and_its_caption(tmp_path: Path) -> None:
    source = Table((str(write_pairs(tmp_path / "a.parquet", rows=3)),), name="laion-2b", rows_per_unit=2)

    drafts = parse_all(source)

    assert [(d.source.name, d.source.file, d.source.row) for d in drafts] == [
        ("laion-2b", "a.parquet", i) for i in range(3)
    ]
    assert [d.images[0].url for d in drafts] == [f"http://a.example/{i}.jpg" for i in range(3)]
    assert drafts[2].key == "00000001-000000"


def test_rows_without_url_or_text_and_values_of_wrong_type_have_reasons(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = {
        "URL": [None, "", "http://a/1", "http://a/2"],
        "TEXT": ["x", "x", None, "x"],
        "similarity": ["", "", "", "high"],
    }
    pq.write_table(pa.table(table), path)

    refusals = parse_all(Table((str(path),), keep={"similarity": Kind.FLOAT}))

    assert refusals == [
        Refusal(Reason.URL_INVALID, "empty"),
        Refusal(Reason.URL_INVALID, "empty"),
        Refusal(Reason.TEXT_EMPTY),
        Refusal(Reason.SOURCE_MALFORMED, "similarity"),
    ]


def test_laion_coco_keeps_every_caption_with_its_similarity(tmp_path: Path) -> None:
    path = write_pairs(
        tmp_path / "a.parquet",
        rows=2,
        all_captions=[["a dog", "a brown dog"], ["one"]],
        all_similarities=[[0.3, 0.4], [0.1, 0.2]],
    )
    columns = PairColumns(captions="all_captions", captions_similarity="all_similarities")

    good, bad = parse_all(Table((str(path),), columns=columns))

    assert [(c.text, c.similarity) for c in good.captions] == [("a dog", 0.3), ("a brown dog", 0.4)]
    assert bad == Refusal(Reason.SOURCE_MALFORMED, "all_similarities")


def test_a_missing_column_names_file_column_and_next_step(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=1)
    source = Table((str(path),), keep={"punsafe": Kind.FLOAT})

    with pytest.raises(
        UserError, match=r"a\.parquet: column 'punsafe' is missing; the step `max_unsafe` reads it.*max_unsafe=null"
    ):
        source.check({"punsafe": "max_unsafe"})
    with pytest.raises(UserError, match=r"column 'link' is missing.*source\.columns\.url"):
        Table((str(path),), columns=PairColumns(url="link")).check({})
    source.check({})


def test_a_url_column_of_numbers_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"URL": [1], "TEXT": ["x"]}), path)

    with pytest.raises(UserError, match=r"column 'URL' holds int64, expected text"):
        Table((str(path),)).check({})


@pytest.mark.parametrize("content", [b"", b"PAR1", b"URL,TEXT\nhttp://a,b\n" * 10])
def test_files_that_are_no_parquet_are_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(content)

    with pytest.raises(UserError, match=r"a\.parquet is (empty|not a readable parquet file)"):
        Table((str(path),)).check({})


def test_a_damaged_page_names_file_and_rows(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2000)
    source = Table((str(path),))
    data = bytearray(path.read_bytes())
    data[40:400] = bytes(360)
    stat = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

    with pytest.raises(UserError, match=r"a\.parquet: rows 0 to 1999 cannot be read"):
        list(source.rows(only_unit(source)))


def test_a_changed_file_stops_planning_and_reading(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2)
    source = Table((str(path),))
    unit = only_unit(source)
    write_pairs(path, rows=3)

    with pytest.raises(UserError, match="has changed since it was planned"):
        source.units(first_ordinal=1, planned=[unit])
    with pytest.raises(UserError, match="has changed since it was planned"):
        list(source.rows(unit))


def test_a_moved_file_is_known_again_and_not_planned_twice(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2)
    unit = only_unit(Table((str(path),)))
    (tmp_path / "new").mkdir()
    shutil.move(path, tmp_path / "new" / "a.parquet")
    os.utime(tmp_path / "new" / "a.parquet")
    moved = Table((str(tmp_path / "new"),))

    assert moved.units(first_ordinal=1, planned=[unit]) == []
    assert len(list(moved.rows(unit))) == 2


def test_a_copy_or_another_path_of_a_planned_file_does_not_double_its_rows(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2)
    unit = only_unit(Table((str(path),)))
    (tmp_path / "copy").mkdir()
    shutil.copy(path, tmp_path / "copy" / "a.parquet")
    (tmp_path / "link").symlink_to(tmp_path / "copy")

    for folder in ("copy", "link"):
        assert Table((str(tmp_path / folder),)).units(first_ordinal=1, planned=[unit]) == []
    both = Table((str(path), str(tmp_path / "copy")))
    assert len(both.units(first_ordinal=0, planned=[])) == 1


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    path = write_pairs(tmp_path / "a.parquet", rows=2)
    write_pairs(tmp_path / "b.parquet", rows=2)
    unit = only_unit(Table((str(path),)))
    path.unlink()

    with pytest.raises(UserError, match=r"a\.parquet: the file of unit 0 is gone"):
        list(Table((str(tmp_path),)).rows(unit))


def test_folders_and_patterns_give_each_file_once_in_order(tmp_path: Path) -> None:
    for name in ("b.parquet", "a.parquet", "c.txt"):
        write_pairs(tmp_path / name, rows=1)

    found = find_files((str(tmp_path / "*.parquet"), str(tmp_path)), endings=(".parquet",))

    assert found == [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    with pytest.raises(UserError, match=r"c\.txt: this source reads files that end in \.parquet"):
        find_files((str(tmp_path / "c.txt"),), endings=(".parquet",))
    with pytest.raises(UserError, match=r"nothing: no file there"):
        find_files((str(tmp_path / "nothing"),), endings=(".parquet",))


def test_every_real_laion_file_is_planned_and_parsed(shared_fixtures: Path) -> None:
    for name, columns in {
        "img2dataset_test_1000": PairColumns(),
        "img2dataset_sample_image": PairColumns(url="url", text="txt"),
        "img2dataset_test_bbox": PairColumns(url="url", text="txt"),
    }.items():
        path = shared_fixtures / "laion" / f"{name}.parquet"
        source = Table((str(path),), columns=columns, rows_per_unit=300)
        source.check({})
        parsed = parse_all(source)
        assert len(parsed) == pq.ParquetFile(path).metadata.num_rows
        assert all(isinstance(draft, Draft) for draft in parsed)
