"""`emu inspect`: the whole, one sample, a rejected row; and text from the web that wants to be more than text."""

import json
from pathlib import Path

import pytest

from jobs.inspect import extract_sample
from jobs.terminal import duration, shown, size
from schemas.corpus import SAMPLES, Corpus, Manifest
from schemas.errors import CorpusError
from schemas.rejects import read_rejects
from schemas.sample import ImageSegment, Origin, Sample, TextSegment
from schemas.shard_reader import CorpusReader, StoredSample
from tests.emu_process import emu, emu_here
from tests.small_corpora import Builder

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "corpus"


def test_the_whole_tells_ledgers_reasons_and_attributes(corpus: Path) -> None:
    run = emu("inspect", corpus)
    assert (run.returncode, run.stderr) == (0, "")
    totals = Corpus.open(str(corpus)).totals()
    counts = totals.counts
    assert f"{counts.rows} = {counts.samples} samples + {counts.rejected_rows} rejected" in run.stdout
    assert f"{counts.images_asked} = {counts.images} kept + {counts.rejected_images} rejected" in run.stdout
    assert any(line.split()[:3] == ["attributes.similarity", "float", "float"] for line in run.stdout.splitlines())
    for reason, number in totals.reasons["row"].items():
        assert any(line.split()[:2] == [reason, str(number)] for line in run.stdout.splitlines())


def test_the_whole_as_json_is_what_records_say(corpus: Path) -> None:
    told = json.loads(emu("inspect", corpus, "--json").stdout)
    assert told["columns"][SAMPLES] == Corpus.open(str(corpus)).totals().to_dict()
    assert (told["name"], told["units_planned"]) == ("laion-2b", 6)


def test_one_sample_by_key_with_text_and_sizes(corpus: Path) -> None:
    stored = next(iter(CorpusReader(Corpus.open(str(corpus)))))
    run = emu("inspect", corpus, stored.sample.key)
    image = stored.sample.images[0]
    text = next(segment.text for segment in stored.sample.segments if isinstance(segment, TextSegment))
    for words in (text, f"{image.width} × {image.height}", image.url or "", image.sha256_original or ""):
        assert words in run.stdout
    told = json.loads(emu("inspect", corpus, stored.sample.key, "--json").stdout)
    assert told["sample"] == json.loads(stored.sample.to_json())
    assert told["member_bytes"] == {name: len(data) for name, data in stored.media.items()}


def test_every_kind_of_sample_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    keys = list(CorpusReader(Corpus.open(str(GOLDEN))).keys())
    assert len(keys) == 10
    for key in keys:
        run = emu_here(capsys, "inspect", GOLDEN, key)
        assert (run.returncode, run.stderr) == (0, "")
        assert key in run.stdout


def test_extract_writes_the_sample_as_the_tar_has_it(corpus: Path, tmp_path: Path) -> None:
    stored = next(iter(CorpusReader(Corpus.open(str(corpus)))))
    key = stored.sample.key
    assert emu("inspect", corpus, key, "--extract", tmp_path / "out").returncode == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {
        f"{key}.json": stored.sample.to_json(),
        f"{key}.0.jpg": stored.media["0.jpg"],
    }


def test_a_rejected_row_gives_its_reason(corpus: Path) -> None:
    opened = Corpus.open(str(corpus))
    rejects = next(r.content.rejects for r in opened.records() if r.content.rejects is not None)
    reject = read_rejects(opened.storage.read(rejects.name), name=rejects.name).to_pylist()[0]
    run = emu("inspect", corpus, reject["key"])
    assert run.returncode == 0
    assert f"the row: {reject['reason']}" in run.stdout
    told = json.loads(emu("inspect", corpus, reject["key"], "--json").stdout)
    assert told["rejected"][0] == reject


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "is not a corpus"),
        (["{corpus}", "no-key"], "'no-key' is not a key"),
        (["{corpus}", "00000099-000000"], "no committed unit of samples holds 00000099-000000"),
        (["{corpus}", "--extract", "x"], "name its KEY"),
    ],
)
def test_what_is_not_there_is_said(
    arguments: list[str], words: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = emu_here(capsys, "inspect", *[argument.format(corpus=corpus) for argument in arguments])
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_a_corpus_without_units_is_shown(tmp_path: Path) -> None:
    builder = Builder(Corpus.create(str(tmp_path / "c"), Manifest("small", {"steps": []})))
    builder.plan(2)
    run = emu("inspect", tmp_path / "c")
    assert run.returncode == 0
    assert "2 planned, none committed yet" in run.stdout


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain – Ünïcode 写真 👩‍👩‍👧", "plain – Ünïcode 写真 👩‍👩‍👧"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("a\rb\x9b31m", "a\\rb\\x9b31m"),
        ("abc\u202ecod.exe", "abc\\u202ecod.exe"),
        ("lone \ud800", "lone \\ud800"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_text_from_the_web_stays_text(text: str, seen: str) -> None:
    assert shown(text) == seen


def test_markup_in_a_caption_is_printed_as_it_stands(tmp_path: Path) -> None:
    builder = Builder(Corpus.create(str(tmp_path / "c"), Manifest("small", {"steps": []})))
    builder.plan(1)
    builder.commit(0, salt=" [bold]x[/] [/nothing] \x1b[31m")
    run = emu("inspect", tmp_path / "c", "00000000-000000")
    assert run.returncode == 0, run.stderr
    assert "A sentence about 00000000-000000 [bold]x[/] [/nothing] \\x1b[31m" in run.stdout


def test_a_member_that_is_a_path_is_not_written(tmp_path: Path) -> None:
    sample = Sample(key="00000000-000000", source=Origin(name="x", file="x", row=0), segments=(ImageSegment(0),))
    out = tmp_path / "deep" / "out"
    with pytest.raises(CorpusError, match=r"the member .* is no plain name; nothing was written"):
        extract_sample(StoredSample(sample, {"0.jpg": b"fine", "/../../../evil": b"not"}), out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (55_400_000, "55.4 MB"), (3e15, "3,000.0 TB")],
)
def test_sizes(number: float, words: str) -> None:
    assert size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(12, "12 s"), (240, "4 min"), (12_000, "3 h 20 min"), (187_200, "2 days 4 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
