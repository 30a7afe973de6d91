"""`emu inspect` on corpora: what is counted is what is there, in bounded work; damage is named; nothing from the web acts."""

import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from jobs.look.corpora import look_at_corpus
from jobs.look.notes import Notes
from schemas.corpus import SAMPLES, Corpus, Manifest, record_name
from schemas.plan import Unit
from schemas.record import Record
from schemas.sample import Caption, Image, ImageSegment, Origin, Sample, TextSegment
from schemas.shard_reader import CorpusReader
from schemas.storage import LocalStorage
from tests.emu_process import emu_here
from tests.small_corpora import RUN, Builder

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "corpus"
HOSTILE = "\x1b]0;gone\x07\x1b[2J\x9b31m\u202egnp.exe [bold]x[/] [/no] \ud800 \r\x08 end"
ACTIVE = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x08")


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    run = emu_here(capsys, "inspect", *arguments, "--json")
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(Corpus.create(str(tmp_path / "c"), Manifest("small", {"steps": []})))


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "golden"))


def test_distributions_are_those_of_the_samples(capsys: pytest.CaptureFixture[str]) -> None:
    samples = list(CorpusReader(Corpus.open(str(GOLDEN))))
    images = [image for stored in samples for image in stored.sample.images]
    assert len(images) == 85
    whole = told(capsys, GOLDEN)
    spreads = whole["distributions"]
    for name, values in {
        "shorter_side": [min(i.width, i.height) for i in images],
        "longer_side": [max(i.width, i.height) for i in images],
        "aspect": [round(1000 * i.width / i.height) for i in images],
        "bytes_of_a_media_member": [len(data) for stored in samples for data in stored.media.values()],
        "text_of_a_sample": [stored.sample.text_chars for stored in samples],
        "images_of_a_sample": [len(stored.sample.images) for stored in samples],
    }.items():
        held = {(made["from"], made["below"]): made["count"] for made in spreads[name]["bins"]}
        assert sum(held.values()) == len(values) == spreads[name]["count"]
        for (low, high), number in held.items():
            assert number == sum((low is None or low <= v) and (high is None or v < high) for v in values)
    assert whole["languages"] == {"en": 2}
    assert whole["domains"][0] == {"domain": "example.org", "kept": 10, "lost": 2}
    assert whole["looked_at"] == {"samples": 10, "images": 85, "words": None}


def test_the_schema_tells_what_is_declared_and_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    schema = {field["field"]: field for field in told(capsys, GOLDEN)["schema"]}
    assert schema["attributes.tags"] == {
        "field": "attributes.tags",
        "declared": "list<string>",
        "seen": "list<string>",
        "samples": 1,
    }
    assert (schema["images[].box"]["declared"], schema["images[].box"]["samples"]) == ("array", 1)
    assert (schema["segments[].time"]["declared"], schema["segments[].time"]["samples"]) == ("number", 2)
    assert all(field["declared"] != "–" for field in schema.values())


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        (
            "00000002-000000",
            ["  How to draw a slope.", "  [image 0: 48 × 32]  0.jpg, 1.17 kB · matched to sentence 1 at 0.312"],
        ),
        ("00000003-000000", ["      0.75 s  [image 0: 32 × 18]  0.jpg, 949 bytes", "  Light moves over a wall"]),
        (
            "00000004-000000",
            ["      0.50 s  hello", "      2.00 s  [image 1: 16 × 9]  0.webp, 756 bytes · box at 16, 0"],
        ),
        ("00000005-000000", ["  user: [image 0: 48 × 32]  0.jpg, 1.19 kB", "  user: What is to be seen?"]),
        ("00000005-000001", ["  tool_result: 1536"]),
        ("00000006-000000", ["  A second one: “à bientôt”."]),
    ],
)
def test_every_kind_of_sample_reads_in_order(key: str, lines: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    printed = iter(emu_here(capsys, "inspect", GOLDEN, key).stdout.splitlines())
    for line in lines:
        assert line in printed, line


def test_one_shard_of_a_corpus_of_any_column(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tars = sorted(golden.rglob("*.tar"))
    assert len(tars) > 10
    for path in tars:
        run = emu_here(capsys, "inspect", path)
        assert (run.returncode, run.stderr) == (0, "")
        assert "samples of a corpus (emu-sample/1)" in run.stdout
        assert f"golden in {golden}; its record names it" in run.stdout
    shard = next((golden / "samples").glob("00000004-*.tar"))
    one = emu_here(capsys, "inspect", shard, "00000004-000000").stdout
    assert "box at 16, 0" in one
    assert told(capsys, shard, "00000004-000000")["sample"] == told(capsys, golden, "00000004-000000")["sample"]
    orphan = Path(shutil.copy(shard, shard.with_stem("00000004-00-00000000")))
    shutil.copy(shard.with_suffix(".arrow"), orphan.with_suffix(".arrow"))
    assert "no record names it" in emu_here(capsys, "inspect", orphan).stdout


def test_damage_is_named_and_the_rest_is_shown(golden: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def only(pattern: str) -> Path:
        return next(iter(sorted(golden.glob(pattern))))

    only("samples/00000001-*.tar").unlink()
    only("samples/00000002-*.arrow").write_bytes(b"ARROW1")
    only("rejects/samples/00000007-*").write_bytes(b"PAR1")
    cut = only("samples/00000003-*.tar")
    cut.write_bytes(cut.read_bytes()[:1024])
    broken = only("samples/00000005-*.tar")
    broken.write_bytes(broken.read_bytes().replace(b'"format":"emu-sample/1"', b'"format":"emu-sample/9"', 1))
    whole = told(capsys, golden, code=1)
    assert whole["looked_at"]["samples"] == 6
    named = {line.partition("-")[0] for line in whole["problems"]}
    assert named == {f"samples/{n:08d}" for n in (1, 2, 3, 5)} | {"rejects/samples/00000007"}
    assert any("key 00000005-000000, byte 512" in line for line in whole["problems"])
    run = emu_here(capsys, "inspect", golden, "--urls", "kept")
    assert run.returncode == 1
    assert len(run.stdout.split()) == 5
    assert "it is missing" in run.stderr
    gone = emu_here(capsys, "inspect", golden, "00000001-000000")
    assert (gone.returncode, "emu validate" in gone.stderr, "fault of emu" in gone.stderr) == (2, True, False)


@pytest.fixture
def huge(builder: Builder) -> Corpus:
    """2,000 units in records and plan, which share the files of two."""
    builder.plan(2)
    records = [builder.commit(0), builder.commit(1)]
    builder.plan_more(*[Unit(n, "metadata.parquet", "f", 4 * n, 4) for n in range(2, 2_000)])
    for unit in range(2, 2_000):
        data = records[unit % 2].to_json().replace(b'"unit":%d' % (unit % 2), b'"unit":%d' % unit)
        path = builder.root / record_name(SAMPLES, unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return builder.corpus


def test_a_huge_corpus_is_seen_by_bounded_work_at_flat_memory(huge: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[str] = []
    read_range = LocalStorage.read_range

    def counted(self: LocalStorage, name: str, offset: int, length: int) -> bytes:
        ranges.append(name)
        return read_range(self, name, offset, length)

    monkeypatch.setattr(LocalStorage, "read_range", counted)
    look_at_corpus(huge, Notes(), units=2)  # imports, caches
    ranges.clear()
    tracemalloc.start()
    look = look_at_corpus(huge, Notes(), units=20, samples=30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert look.columns[SAMPLES].counts.samples == 6_000
    assert look.planned_units == 2_000
    assert (look.looked_into_units, look.stride) == (20, 2)
    assert look.tally.samples == len(ranges) == 40
    assert peak < 6_000_000
    assert look_at_corpus(huge, Notes(), units=20, samples=30).tally.text_chars.counts == look.tally.text_chars.counts


def test_a_part_is_said_to_be_one(huge: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    words = told(capsys, huge.url)["looked_at"]["words"]
    assert words == "over 144 of 6,000 samples (2.4 %), from 48 of 2,000 units; --all looks at all"


def test_all_means_all(builder: Builder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    builder.plan(5)
    for unit in range(5):
        builder.commit(unit)
    monkeypatch.setattr(
        "jobs.look.corpora.look_at_corpus.__kwdefaults__", {"everything": False, "units": 2, "samples": 3}
    )
    assert told(capsys, builder.root)["looked_at"]["samples"] == 4
    whole = told(capsys, builder.root, "--all")
    assert whole["looked_at"] == {"samples": 15, "images": 15, "words": None}
    assert whole["domains"] == [{"domain": "example.com", "kept": 0, "lost": 5}]


def _hostile_sample() -> Sample:
    return Sample(
        key="00000000-000000",
        source=Origin(name=HOSTILE, file=HOSTILE, row=0, id=HOSTILE),
        segments=(ImageSegment(0), TextSegment(HOSTILE)),
        images=(Image(member="0.jpg", width=4, height=3, url="https://" + HOSTILE, phash=HOSTILE),),
        captions=(Caption(HOSTILE),),
        attributes={HOSTILE: HOSTILE, "language": HOSTILE, "list": [HOSTILE]},
        licence=HOSTILE,
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--json"],
        ["00000000-000000"],
        ["00000000-000000", "--json"],
        ["--urls", "kept"],
        ["--urls", "kept", "--json"],
        ["--sql", "select * from samples"],
        ["--sql", "select * from samples", "--json"],
        ["--sql", f'select 1 as "{HOSTILE.replace(chr(0xD800), "")}"'],
    ],
)
def test_nothing_from_the_web_acts_on_the_terminal(
    arguments: list[str], builder: Builder, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.plan(1)
    with builder.writer(0) as writer:
        writer.write(_hostile_sample(), [b"no picture"], row=0)
        writer.commit([], rows=1, images_asked=1, run=RUN)
    run = emu_here(capsys, "inspect", builder.root, *arguments)
    assert run.returncode == 0, run.stderr
    assert "gone" in run.stdout
    assert [mark for mark in ACTIVE if mark in run.stdout + run.stderr] == []
    if "--json" in arguments:
        found = json.dumps([json.loads(line) for line in run.stdout.splitlines()], ensure_ascii=False)
        assert "\u202egnp.exe [bold]x[/] [/no]" in found  # the value is what it was


def test_hostile_file_names_and_members_do_not_act(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tests.jobs.foreign_targets import write_tar

    name = "x\x1b[2J\u202e.tar"
    path = write_tar(
        tmp_path / name, [("k\x1b[31m\x9b.txt", HOSTILE.encode("utf-8", "replace")), ("k\x1b[31m\x9b.jpg\x1b", b"")]
    )
    for arguments in ([], ["k\x1b[31m\x9b"], ["--json"], ["unknown"]):
        run = emu_here(capsys, "inspect", path, *arguments)
        assert run.returncode in (0, 2)
        assert [mark for mark in ACTIVE if mark in run.stdout + run.stderr] == []


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [([], set()), (["00000002-000000"], set()), (["--urls", "kept"], set()), (["--sql", "select 1"], {"duckdb"})],
)
def test_only_what_is_needed_is_imported(arguments: list[str], allowed: set[str]) -> None:
    program = (
        "import sys\nfrom jobs.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print('\\n' + ' '.join(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, "inspect", str(GOLDEN), *arguments],
        cwd=GOLDEN.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    heavy = {"torch", "ray", "cv2", "PIL", "duckdb", "aiohttp", "pipelines", "emu_model", "numpy", "scipy", "pandas"}
    assert heavy & set(run.stdout.splitlines()[-1].split()) - {"numpy"} == allowed


def test_three_questions_are_asked_one_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    run = emu_here(capsys, "inspect", GOLDEN, "00000000-000000", "--urls", "kept")
    assert (run.returncode, "ask one at a time" in run.stderr) == (2, True)


def test_urls_by_reason_and_family(capsys: pytest.CaptureFixture[str]) -> None:
    def listed(wanted: str) -> list[str]:
        return emu_here(capsys, "inspect", GOLDEN, "--urls", wanted).stdout.split()

    rejected = listed("rejected")
    assert len(rejected) == 4
    assert listed("http") == [*listed("http.404"), *listed("http.503")] == rejected[:1] + rejected[1:2]
    samples = [stored.sample for stored in CorpusReader(Corpus.open(str(GOLDEN)))]
    assert len(listed("kept")) == sum(len({image.url for image in sample.images}) for sample in samples) == 10
    run = emu_here(capsys, "inspect", GOLDEN, "--urls", "nonsense")
    assert (run.returncode, "expected kept, rejected, a reason" in run.stderr) == (2, True)


def test_a_record_of_the_golden_corpus_is_read_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    totals = Corpus.open(str(GOLDEN)).totals()
    assert told(capsys, GOLDEN)["columns"][SAMPLES] == totals.to_dict()
    assert isinstance(Corpus.open(str(GOLDEN)).record(SAMPLES, 0), Record)
