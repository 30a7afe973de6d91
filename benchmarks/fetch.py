"""Milliseconds of CPU for each picture fetched, resized and stored: img2dataset, `emu build`, and the bare work of it.

One web on this machine, the same pictures, the same output (shorter side 256, JPEG 95, webdataset), the same number of worker
processes; what is counted is the CPU of the whole process tree, start-up included, that of the web excluded. The contestants
take turns. Two sets: pictures as on the web (0.1 to 1.7 megapixels, 86 kB in the mean), and as from cameras (3 to 6 megapixels).

    python benchmarks/fetch.py [--quick] [--save] [--set web|camera]      (`make bench` makes the venv of img2dataset)
"""

import json
import shutil
import sys
import tarfile
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from harness import (
    EMU,
    PEERS_PYTHON,
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

WORKERS = 2
PEER, OURS, BARE = "img2dataset", "emu build", "bare loop"
MS, RATE, MEMORY = "CPU ms", "pictures/s", "MB"

_RECIPE = """
name: bench
source: {kind: table, name: bench, columns: {url: URL, text: TEXT}, rows_per_unit: %d}
steps:
  - fetch: {policy: {respect_robots: false}}
  - probe_image
  - encode_image: {side_pixels: 256, mode: keep_ratio, only_if_bigger: true, format: jpeg, quality: 95}
"""


@dataclass(frozen=True, slots=True)
class PictureSet:
    """What is fetched. times_fewer: our goal beside img2dataset. of_bare: our goal as a multiple of the bare loop, if any."""

    name: str
    make: Callable[[Path], list[Path]]
    num_urls: int
    num_urls_quick: int
    times_fewer: float
    of_bare: float | None


SETS = (
    PictureSet("web", pictures.web_pictures, 16_000, 1_600, times_fewer=1.6, of_bare=1.5),
    PictureSet("camera", pictures.camera_pictures, 2_000, 400, times_fewer=2.2, of_bare=None),
)


@dataclass(frozen=True, slots=True)
class Race:
    """One set on its web. table: the URLs. folder: what a contestant writes lies there until it is counted."""

    web: PictureWeb
    pictures: Path
    table: Path
    folder: Path
    num_urls: int
    threads: int
    concurrency: int | None

    @property
    def rows_per_shard(self) -> int:
        """Eight shards, so that both workers end at about the same time."""
        return self.num_urls // 8

    def img2dataset(self) -> Mapping[str, float]:
        """Its release, with what its users set for such a run, and nothing that we do not do: EXIF is left out."""
        out = self._fresh_folder()
        options = {
            "url_list": self.table,
            "input_format": "parquet",
            "url_col": "URL",
            "caption_col": "TEXT",
            "output_folder": out,
            "output_format": "webdataset",
            "image_size": 256,
            "resize_mode": "keep_ratio",
            "resize_only_if_bigger": True,
            "encode_quality": 95,
            "processes_count": WORKERS,
            "thread_count": self.threads,
            "number_sample_per_shard": self.rows_per_shard,
            "extract_exif": False,
        }
        command = [PEERS_PYTHON.with_name("img2dataset"), *(f"--{name}={value}" for name, value in options.items())]
        # Its library for transforms would else ask the internet for a newer release of itself at every start.
        env = {"http_proxy": self.web.proxy, "no_proxy": "", "NO_ALBUMENTATIONS_UPDATE": "1"}
        return self._numbers(run(command, env=env), out)

    def emu(self) -> Mapping[str, float]:
        """`emu build` with local workers, as a user runs it."""
        out = self._fresh_folder()
        recipe = self.folder / "recipe.yaml"
        recipe.write_text(_RECIPE % self.rows_per_shard)
        command = [
            EMU,
            "build",
            recipe,
            "--input",
            self.table,
            "--output",
            out,
            "--contact",
            "mailto:bench@example.org",
        ]
        command += ["--workers", str(WORKERS), "--connect-to", self.web.connect_to, "--json"]
        # One host may be asked as often as one likes: it is ours.
        command += ["--fetch", "requests_per_second_per_host=100000", "--fetch", "connections_per_host=256"]
        if self.concurrency is not None:
            command += ["--concurrency", str(self.concurrency)]
        return self._numbers(run(command), out)

    def bare(self) -> Mapping[str, float]:
        """The work that nobody can leave out, in one thread; the loop alone is counted."""
        program = Path(__file__).with_name("bare_loop.py")
        used = run([sys.executable, program, self.pictures, str(self.num_urls)])
        cpu_seconds = json.loads(used.output)["cpu_seconds"]
        return {MS: 1e3 * cpu_seconds / self.num_urls, RATE: self.num_urls / cpu_seconds}

    def _fresh_folder(self) -> Path:
        out = self.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        return out

    def _numbers(self, used: Usage, out: Path) -> Mapping[str, float]:
        num_stored = sum(1 for _ in stored_pictures(out))
        if num_stored != self.num_urls:
            raise SystemExit(
                f"{num_stored} of {self.num_urls} pictures were stored, expected all; it printed:\n{used.output}"
            )
        return {
            MS: 1e3 * used.cpu_seconds / num_stored,
            RATE: num_stored / used.wall_seconds,
            MEMORY: used.peak_tree_bytes / 1e6,
        }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--set", choices=[each.name for each in SETS], help="one set of pictures only")
    parser.add_argument(
        "--hosts", type=float, default=0.663, help="host names for each URL; LAION has 663 in 1,000 rows"
    )
    parser.add_argument("--threads", type=int, default=64, help="of img2dataset, for each process")
    parser.add_argument("--concurrency", type=int, help="of ours: requests in flight of one process")
    asked = parser.parse_args()
    report = Report("fetch", notes=_notes(asked.hosts, asked.threads))
    with work_folder(asked.folder) as folder:
        for chosen in SETS:
            if asked.set in (None, chosen.name):
                _race(report, chosen, asked, folder / chosen.name)
    report.versions = {
        **versions_of(None, ["aiohttp", "uvloop", "simplejpeg", "opencv-python-headless"]),
        **({} if peers_missing("img2dataset") else versions_of(PEERS_PYTHON, ["img2dataset", "albumentations"])),
    }
    report.finish(save=asked.save)


def _race(report: Report, chosen: PictureSet, asked: Namespace, folder: Path) -> None:
    num_urls = chosen.num_urls_quick if asked.quick else chosen.num_urls
    files = chosen.make(folder / "pictures")
    table = write_table(folder / "urls.parquet", num_urls, num_hosts=max(1, round(asked.hosts * num_urls)))
    missing = peers_missing("img2dataset")
    with PictureWeb(folder / "pictures") as web:
        race = Race(web, folder / "pictures", table, folder, num_urls, asked.threads, asked.concurrency)
        contestants = {PEER: race.img2dataset, OURS: race.emu, BARE: race.bare}
        if missing:
            del contestants[PEER]
        found = take_turns(asked.rounds or (1 if asked.quick else 3), contestants)
    mean_kb = sum(path.stat().st_size for path in files) / len(files) / 1e3
    title = f"{chosen.name}: {num_urls:,} URLs of {len(files)} pictures, {mean_kb:,.0f} kB in the mean"
    report.tables.append((title, _cells(found, missing)))
    report.goals += _goals(chosen, found, missing)


def _cells(found: Mapping[str, Mapping[str, list[float]]], missing: str | None) -> list[list[str]]:
    rows = [["", "CPU ms for each picture", "pictures/s", "peak MB of the tree"]]
    for name, numbers in found.items():
        memory = shown(numbers[MEMORY], digits=0) if MEMORY in numbers else ""
        rows.append([name, shown(numbers[MS]), shown(numbers[RATE], digits=0), memory])
    if missing:
        rows.append([PEER, f"not raced: {missing}", "", ""])
    return rows


def _goals(chosen: PictureSet, found: Mapping[str, Mapping[str, list[float]]], missing: str | None) -> list[Goal]:
    fewer = None if missing else _ratio(found[PEER][MS], found[OURS][MS])
    name = f"{chosen.name}: CPU of img2dataset, as a multiple of ours"
    goals = [Goal(name, fewer, "times", chosen.times_fewer, "higher", why_not=missing or "")]
    if chosen.of_bare is not None:
        of_bare = _ratio(found[OURS][MS], found[BARE][MS])
        goals.append(
            Goal(f"{chosen.name}: our CPU, as a multiple of the bare loop", of_bare, "times", chosen.of_bare, "lower")
        )
    return goals


def _ratio(above: list[float], below: list[float]) -> float:
    """The median of the ratios of each round: what slows a whole round down slows both."""
    return median([one / other for one, other in zip(above, below, strict=True)])


def write_table(path: Path, num_urls: int, *, num_hosts: int) -> Path:
    """URLs, all different, on so many hosts, and a caption each."""
    urls = [f"http://host{number % num_hosts}.example/pictures/{number}" for number in range(num_urls)]
    texts = [f"a photograph of something worth a look, number {number}" for number in range(num_urls)]
    pq.write_table(pa.table({"URL": urls, "TEXT": texts}), path)
    return path


def stored_pictures(out: Path) -> Iterator[bytes]:
    """The pictures in the tars below a folder. Raises `SystemExit` for one that has not the size asked for."""
    for path in sorted(out.rglob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.endswith(".jpg") or (file := tar.extractfile(member)) is None:
                    continue
                picture = file.read()
                height, width, *_ = simplejpeg.decode_jpeg_header(picture)
                if min(height, width) != 256:
                    raise SystemExit(f"{path}: {member.name} is {width} by {height}, expected a shorter side of 256")
                yield picture


def _notes(hosts: float, threads: int) -> list[str]:
    return [
        f"Every contestant stored every picture, with a shorter side of 256. {WORKERS} worker processes each, "
        "start-up counted; the web's CPU is not.",
        f"{hosts:g} host names for each URL, so most requests open a connection of their own, as on the real web. "
        "All lead to one local server: ours by `connect_to`, img2dataset by `http_proxy`, and nobody asks a name server.",
        "Limits for each host are out of play (100,000 requests/s, 256 connections); `robots.txt` is off, for "
        "img2dataset asks for none. Both look at `X-Robots-Tag`, and both hash what they fetched with SHA-256.",
        "Ours besides: perceptual hash, xxh3 of each payload, an index, the tar read again and verified, fsync. "
        "img2dataset besides: a parquet of its metadata. Its EXIF reading is off, for we do none here.",
        f"img2dataset with {threads} threads for each process; from 16 to 256 its CPU stays the same.",
    ]


if __name__ == "__main__":
    main()
