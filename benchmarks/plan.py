"""Plan 2.3 billion rows: 128 parquet files as large as LAION-2B-en's, by their footers, in a process of its own.

The files hold one row over and over, which encodes to almost nothing: their footers say 17,968,750 rows each, and all of them
together take 92 MB of disk. Each differs from the others by a word in its footer. Two ways are measured, start-up included:
`prepare`, which checks the files, begins a corpus and writes its plan (the first thing that `emu build` does), and `emu plan`.

    python benchmarks/plan.py [--quick] [--save]
"""

import json
import shutil
import sys
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from harness import EMU, Goal, Report, arguments, median, shown, take_turns, versions_of, work_folder
from usage import Usage, run

NUM_FILES = 128
NUM_ROWS = 2_300_000_000
ROW_GROUP_ROWS = 1_000_000
SECONDS, MEMORY = "wall s", "MB"

_MARK = b"part-00000"
_PREPARE = """
import json, sys
from pipelines.laion import laion_2b
from pipelines.run import prepare
from pipelines.worker import RunSettings
pipeline = laion_2b(sys.argv[1], contact="mailto:bench@example.org")
corpus, units = prepare(pipeline, sys.argv[2], name=None, settings=RunSettings())
print(json.dumps({"units_missing": len(units), "rows_missing": sum(unit.rows for unit in units)}))
"""


def main() -> None:
    asked = arguments(__doc__).parse_args()
    num_rows = NUM_FILES * 100_000 if asked.quick else NUM_ROWS
    with work_folder(asked.folder) as folder:
        tables = write_tables(folder / "tables", num_files=NUM_FILES, num_rows=num_rows)
        contestants = {
            "prepare: checked, planned, written": lambda: _prepare(tables, folder / "corpus", num_rows),
            "emu plan": lambda: _emu_plan(tables, num_rows),
        }
        found = take_turns(asked.rounds or (1 if asked.quick else 3), contestants)
    report = _report(found, num_rows, asked)
    report.finish(save=asked.save)


def write_tables(folder: Path, *, num_files: int, num_rows: int) -> Path:
    """The files: one is written, the others are copies of it with another word in the footer."""
    folder.mkdir(parents=True, exist_ok=True)
    first = folder / "part-00000.parquet"
    rows_left = num_rows // num_files
    with pq.ParquetWriter(first, _schema()) as writer:
        while rows_left:
            rows = min(rows_left, ROW_GROUP_ROWS)
            writer.write_table(_rows(rows), row_group_size=rows)
            rows_left -= rows
    template = first.read_bytes()
    if template.count(_MARK) == 0:
        raise SystemExit(
            "the footer does not hold its mark as plain text any more; find another way to tell files apart"
        )
    for number in range(1, num_files):
        name = f"part-{number:05d}"
        (folder / f"{name}.parquet").write_bytes(template.replace(_MARK, name.encode()))
    return folder


def _schema() -> pa.Schema:
    """Columns of LAION-2B-en, joined."""
    fields = [
        ("SAMPLE_ID", pa.int64()),
        ("URL", pa.string()),
        ("TEXT", pa.string()),
        ("WIDTH", pa.int64()),
        ("HEIGHT", pa.int64()),
        ("LICENSE", pa.string()),
        ("NSFW", pa.string()),
        ("similarity", pa.float64()),
        ("hash", pa.int64()),
        ("punsafe", pa.float32()),
        ("pwatermark", pa.float32()),
    ]
    return pa.schema(fields, metadata={"part": _MARK.decode()})


def _rows(count: int) -> pa.Table:
    row = {
        "SAMPLE_ID": 1,
        "URL": "https://host.example/a.jpg",
        "TEXT": "a photograph",
        "WIDTH": 640,
        "HEIGHT": 480,
        "LICENSE": "?",
        "NSFW": "UNLIKELY",
        "similarity": 0.31,
        "hash": -1,
        "punsafe": 0.1,
        "pwatermark": 0.1,
    }
    schema = _schema()
    arrays = [pa.repeat(pa.scalar(row[field.name], type=field.type), count) for field in schema]
    return pa.table(arrays, schema=schema)


def _prepare(tables: Path, corpus: Path, num_rows: int) -> Mapping[str, float]:
    shutil.rmtree(corpus, ignore_errors=True)
    return _numbers(run([sys.executable, "-c", _PREPARE, tables, corpus]), num_rows)


def _emu_plan(tables: Path, num_rows: int) -> Mapping[str, float]:
    return _numbers(run([EMU, "plan", "laion-2b", "--input", tables, "--json"]), num_rows)


def _numbers(used: Usage, num_rows: int) -> Mapping[str, float]:
    found = json.loads(used.output[used.output.index("{") :])
    if found["rows_missing"] != num_rows:
        raise SystemExit(f"{found['rows_missing']:,} rows were planned, expected {num_rows:,}")
    return {
        SECONDS: used.wall_seconds,
        "CPU s": used.cpu_seconds,
        MEMORY: used.peak_process_bytes / 1e6,
        "units": found["units_missing"],
    }


def _report(found: Mapping[str, Mapping[str, list[float]]], num_rows: int, asked: Namespace) -> Report:
    rows = [["", "wall s", "CPU s", "peak MB", "units"]]
    for name, numbers in found.items():
        cells = [shown(numbers[SECONDS]), shown(numbers["CPU s"]), shown(numbers[MEMORY], digits=0)]
        rows.append([name, *cells, f"{numbers['units'][0]:,.0f}"])
    report = Report("plan", tables=[(f"{NUM_FILES} files, {num_rows:,} rows", rows)])
    for name, numbers in found.items():
        what = name.partition(":")[0]
        report.goals += [
            Goal(f"{what}: time", median(numbers[SECONDS]), "s", 10, "lower"),
            Goal(f"{what}: peak memory of its process", median(numbers[MEMORY]), "MB", 500, "lower"),
        ]
    report.notes = [
        f"Files of {num_rows // NUM_FILES:,} rows in groups of {ROW_GROUP_ROWS:,}; one row over and over. "
        "Each command is a fresh process, its start-up counted; the files are in the page cache.",
    ]
    report.versions = versions_of(None, ["pyarrow"])
    return report


if __name__ == "__main__":
    main()
