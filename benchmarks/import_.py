"""Import an img2dataset output as fast as it can be copied: `emu import` beside `webdataset`'s reader and writer.

The output is made by img2dataset itself on a local web (by this benchmark in the same format where the peers' venv is missing):
10,000 pictures with their captions and metadata, shorter side 256. A copy is the least that anybody could do with it; ours
checks every picture's header besides, maps metadata, hashes, writes an index, reads the tar again, and syncs.

    python benchmarks/import_.py [--quick] [--save]
"""

import itertools
import json
import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import bare_loop
import fetch
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash
from harness import (
    EMU,
    Goal,
    Report,
    arguments,
    median,
    peers_missing,
    shown,
    take_turns,
    versions_of,
    work_folder,
)
from usage import Usage, run
from web import PictureWeb

NUM_PICTURES = 10_000
NUM_SHARDS = 8
COPY, IMPORT = "webdataset copy", "emu import"
RATE, MS, MEMORY = "pictures/s", "CPU ms", "MB"


def main() -> None:
    asked = arguments(__doc__).parse_args()
    count = NUM_PICTURES // 10 if asked.quick else NUM_PICTURES
    missing = peers_missing("img2dataset")
    with work_folder(asked.folder) as folder:
        files = pictures.web_pictures(folder / "pictures")
        shards = _made_here(files, folder, count) if missing else _made_by_img2dataset(folder, count)
        size = sum(path.stat().st_size for path in shards.glob("*.tar"))
        wanted = _pictures_of(shards)
        contestants = {
            COPY: lambda: _copy(shards, folder / "copy", wanted),
            IMPORT: lambda: _import(shards, folder / "corpus", wanted),
        }
        found = take_turns(asked.rounds or (1 if asked.quick else 5), contestants)
    maker = f"this benchmark, for {missing}" if missing else "img2dataset"
    report = _report(found, f"{count:,} pictures in {NUM_SHARDS} tars of {size / 1e6:,.0f} MB, made by {maker}", asked)
    report.finish(save=asked.save)


def _made_by_img2dataset(folder: Path, count: int) -> Path:
    table = fetch.write_table(folder / "urls.parquet", count, num_hosts=count)
    with PictureWeb(folder / "pictures") as web:
        race = fetch.Race(web, folder / "pictures", table, folder, count, threads=64, concurrency=None)
        race.img2dataset()
    return (folder / "out").rename(folder / "shards")


def _made_here(files: list[Path], folder: Path, count: int) -> Path:
    """The same members and columns as img2dataset writes, without fetching."""
    import webdataset

    shards = folder / "shards"
    shards.mkdir()
    rendered = itertools.cycle([bare_loop.render(path.read_bytes()) for path in files])
    per_shard = count // NUM_SHARDS
    for number in range(NUM_SHARDS):
        metadata = [_metadata(number, row) for row in range(per_shard)]
        with webdataset.TarWriter(str(shards / f"{number:05d}.tar")) as writer:
            for found in metadata:
                document = json.dumps(found, indent=4)
                writer.write(
                    {"__key__": found["key"], "jpg": next(rendered), "txt": found["caption"], "json": document}
                )
        pq.write_table(pa.Table.from_pylist(metadata), shards / f"{number:05d}.parquet")
    return shards


def _metadata(shard: int, row: int) -> dict[str, object]:
    return {
        "url": f"http://host{row}.example/pictures/{row}",
        "caption": f"a photograph of something worth a look, number {row}",
        "key": f"{shard:05d}{row:04d}",
        "status": "success",
        "error_message": None,
        "width": 384,
        "height": 256,
        "original_width": 1024,
        "original_height": 683,
        "sha256": "0" * 64,
    }


def _copy(shards: Path, out: Path, wanted: Counter[str]) -> Mapping[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    return _numbers(run([sys.executable, Path(__file__).with_name("copy_tars.py"), shards, out]), out, wanted)


def _import(shards: Path, out: Path, wanted: Counter[str]) -> Mapping[str, float]:
    shutil.rmtree(out, ignore_errors=True)
    return _numbers(run([EMU, "import", shards, "--output", out, "--workers", "1", "--json"]), out, wanted)


def _pictures_of(folder: Path) -> Counter[str]:
    return Counter(xxhash.xxh3_128_hexdigest(picture) for picture in fetch.stored_pictures(folder))


def _numbers(used: Usage, out: Path, wanted: Counter[str]) -> Mapping[str, float]:
    if _pictures_of(out) != wanted:
        raise SystemExit(f"{out}: not the pictures of the shards, byte for byte; it printed:\n{used.output}")
    count = wanted.total()
    return {
        RATE: count / used.wall_seconds,
        MS: 1e3 * used.cpu_seconds / count,
        MEMORY: used.peak_tree_bytes / 1e6,
    }


def _report(found: Mapping[str, Mapping[str, list[float]]], title: str, asked: Namespace) -> Report:
    rows = [["", "pictures/s", "CPU ms for each picture", "peak MB of the tree"]]
    for name, numbers in found.items():
        rows.append([name, shown(numbers[RATE], digits=0), shown(numbers[MS]), shown(numbers[MEMORY], digits=0)])
    share = median([ours / copy for ours, copy in zip(found[IMPORT][RATE], found[COPY][RATE], strict=True)])
    report = Report("import_", tables=[(title, rows)])
    report.goals = [Goal("rate of emu import, as a share of a copy's", 100 * share, "%", 80, "higher")]
    report.notes = [
        "Rates by the clock, start-up of both included; one worker process each (ours has a driver besides). "
        "Both kept every picture byte for byte; ours is synced to disk when it ends, the copy is not.",
    ]
    report.versions = versions_of(None, ["webdataset", "pyarrow"])
    return report


if __name__ == "__main__":
    main()
