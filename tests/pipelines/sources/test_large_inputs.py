"""Inputs far larger than memory should ever be: planned and read at flat memory, in a process of its own that is measured."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

_MEASURED = """
import json, resource, sys, time
from pipelines.sources.tables import PairColumns, Table

source = Table((sys.argv[1],), columns=PairColumns(url="url", text="text"), rows_per_unit=int(sys.argv[2]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source.check({})
started = time.monotonic()
units = source.units(first_ordinal=0, planned=[])
planned = time.monotonic() - started
rows = sum(1 for unit in (units[0], units[len(units) // 2], units[-1]) for row in source.rows(unit))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
all_rows = sum(unit.rows or 0 for unit in units)
print(json.dumps({"units": len(units), "rows": all_rows, "read": rows, "seconds": planned, "grown_kb": grown}))
"""


def measure(path: Path, rows_per_unit: int = 10_000) -> dict[str, float]:
    """Plan a file and read three of its units; how much memory that took beyond the imports, and how long planning did."""
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(path), str(rows_per_unit)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def repeat(path: Path, header: bytes, block: bytes, size: int) -> int:
    """Write `header` and as many blocks as make `size` bytes; return how many."""
    times = size // len(block)
    with path.open("wb") as file:
        file.write(header)
        for _ in range(times):
            file.write(block)
    return times


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["quoted", "newlines", "lines"])
def test_gigabytes_of_text_are_planned_and_read_at_flat_memory(tmp_path: Path, kind: str) -> None:
    rows = [
        f'http://host{i % 97}.example/{i}.jpg,"a caption, with ""quotes"" number {i} {"x" * 60}"' for i in range(20_000)
    ]
    if kind == "newlines":
        rows = [row.replace(" number", "\nnumber") if i % 20 == 0 else row for i, row in enumerate(rows)]
    if kind == "lines":
        rows = [row.replace('"', "").replace(", with", " with") for row in rows]
    gigabytes = 2
    path = tmp_path / "a.csv"
    times = repeat(path, b"url,text\n", "\n".join([*rows, ""]).encode(), gigabytes << 30)

    found = measure(path)
    path.unlink()

    print(
        f"{kind}: {gigabytes} GiB planned in {found['seconds']:.1f} s, {found['grown_kb'] / 1024:.0f} MiB more memory"
    )
    assert found["rows"] == 20_000 * times
    assert found["read"] == 30_000
    assert found["grown_kb"] < 150_000


@pytest.mark.slow
def test_ten_gigabytes_without_a_line_end_are_one_refused_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"url,text\nhttp://a,x\n")
        file.seek(10 << 30)  # a hole, which takes no room on the disk and reads as zeros
        file.write(b"\nhttp://b,y\n")

    found = measure(path)

    print(f"10 GiB of zeros planned in {found['seconds']:.1f} s, {found['grown_kb'] / 1024:.0f} MiB more memory")
    assert (found["rows"], found["read"]) == (3, 9)
    assert found["grown_kb"] < 150_000


@pytest.mark.slow
def test_a_row_group_of_a_million_rows_is_read_at_flat_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts = [f"caption {i} {'x' * 500}" for i in range(1_000_000)]
    table = pa.table({"url": [f"http://a/{i}" for i in range(1_000_000)], "text": texts})
    pq.write_table(table, path, row_group_size=1_000_000, compression="none", use_dictionary=False)

    found = measure(path)

    assert (found["units"], found["read"]) == (100, 30_000)
    assert found["grown_kb"] < 150_000
