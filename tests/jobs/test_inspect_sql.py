"""`emu inspect --sql`: six tables that say what the corpus says, and a database that reaches nothing else."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from schemas.corpus import SAMPLES, Corpus, record_name
from schemas.rejects import read_rejects
from schemas.shard_reader import CorpusReader
from tests.emu_process import content_of, emu, emu_here

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "corpus"


def answer(capsys: pytest.CaptureFixture[str], question: str, corpus: Path = GOLDEN, *, code: int = 0) -> list[Any]:
    run = emu_here(capsys, "inspect", corpus, "--sql", question, "--json")
    assert run.returncode == code, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_rejects_are_those_of_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = Corpus.open(str(GOLDEN))
    expected: Counter[str] = Counter()
    for column in corpus.columns():
        for record in corpus.records(column):
            if record.content.rejects is not None:
                name = record.content.rejects.name
                expected.update(read_rejects(corpus.storage.read(name), name=name).column("reason").to_pylist())
    assert expected
    found = answer(capsys, "select reason, count(*) as n from rejects group by reason")
    assert {row["reason"]: row["n"] for row in found} == expected


def test_samples_are_those_of_the_tars(capsys: pytest.CaptureFixture[str]) -> None:
    stored = {found.sample.key: found for found in CorpusReader(Corpus.open(str(GOLDEN)))}
    rows = answer(capsys, "select *, attributes->>'language' as language, len(images) as pictures from samples")
    assert {row["key"] for row in rows} == stored.keys()
    for row in rows:
        sample = stored[row["key"]].sample
        assert row["pictures"] == len(sample.images)
        assert row["text_chars"] == sample.text_chars
        assert row["language"] == sample.attributes.get("language")
        assert json.loads(row["attributes"]) == sample.attributes
        assert [i["bytes"] for i in row["images"]] == [len(stored[row["key"]].media[i.member]) for i in sample.images]
        assert [i["box"] for i in row["images"]] == [i.box and list(i.box) for i in sample.images]


def test_records_shards_plan_and_index_agree(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = Corpus.open(str(GOLDEN))
    totals = corpus.totals()
    of = f"column_name = '{SAMPLES}'"
    assert answer(capsys, f"select sum(rows) r, sum(samples) s, sum(bytes) b from records where {of}") == [
        {"r": totals.counts.rows, "s": totals.counts.samples, "b": totals.data_bytes}
    ]
    assert answer(capsys, f"select count(*) n, sum(bytes) b from shards where {of}") == [
        {"n": totals.parts, "b": totals.data_bytes}
    ]
    assert answer(capsys, "select count(*) n from plan") == [{"n": len(corpus.plan())}]
    assert answer(capsys, f"select count(*) n, sum(text_chars) t, sum(images) i from index where {of}") == [
        {"n": 10, "t": totals.counts.text_chars, "i": totals.counts.images}
    ]


def test_a_table_is_scanned_as_often_as_a_question_needs(capsys: pytest.CaptureFixture[str]) -> None:
    question = "select count(*) n from samples a join samples b using (key) join rejects c on c.row = a.row or true"
    assert answer(capsys, question) == [{"n": 10 * 6}]
    assert answer(capsys, "select domain(url) d, count(*) n from rejects where url like 'http%' group by d") == [
        {"d": "example.org", "n": 3}
    ]


def test_values_without_json_are_null_or_text(capsys: pytest.CaptureFixture[str]) -> None:
    question = "select 'nan'::double a, date '2024-02-03' b, [1, 2] c, {'x': 'inf'::double} d, 3::hugeint e"
    assert answer(capsys, question) == [{"a": None, "b": "2024-02-03", "c": [1, 2], "d": {"x": None}, "e": 3}]


@pytest.mark.parametrize(
    "question",
    [
        "copy (select 1) to '{outside}/x.csv'",
        "create table x as select 1",
        "attach '{outside}/x.db'",
        "install httpfs",
        "load httpfs",
        "set enable_external_access = true",
        "pragma database_list",
        "export database '{outside}/x'",
        "delete from samples",
        "select 1; copy (select 1) to '{outside}/x.csv'",
        "select * from read_text('{outside}/secret.txt')",
        "select * from read_csv('{outside}/secret.txt')",
        "select * from '{outside}/secret.csv'",
        "select * from read_parquet('{corpus}/plan/000000.parquet')",
        "select * from glob('{outside}/*')",
        "select * from '{outside}/.tmp/secret.csv'",
        "select * from '.tmp/secret.csv'",
        "select * from read_text('https://example.org/')",
        "select * from stream",
        "selec nonsense",
        "select nothing from samples",
        "",
    ],
)
def test_a_question_can_only_read_the_tables(
    question: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus, outside = Path(shutil.copytree(GOLDEN, tmp_path / "corpus")), tmp_path / "outside"
    (outside / ".tmp").mkdir(parents=True)  # where the database would spill, and so might read
    for name in ("secret.txt", "secret.csv", ".tmp/secret.csv"):
        (outside / name).write_text("a secret")
    before = content_of(corpus), content_of(outside)
    monkeypatch.chdir(outside)
    run = emu_here(capsys, "inspect", corpus, "--sql", question.format(outside=outside, corpus=corpus))
    assert run.returncode == 2, run.stdout
    assert run.stderr.startswith("error: --sql")
    assert "a secret" not in run.stdout + run.stderr
    assert "fault of emu" not in run.stderr
    assert (content_of(corpus), content_of(outside)) == before


def test_nothing_is_spilled_to_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jobs.look.sql.MEMORY_LIMIT", "20MB")
    run = emu_here(capsys, "inspect", GOLDEN, "--sql", "select hash(i), i from range(20000000) t(i) order by 1")
    assert run.returncode == 2
    assert "memory" in run.stderr.lower()
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_noted_and_the_rest_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = Path(shutil.copytree(GOLDEN, tmp_path / "corpus"))
    next(iter(sorted((corpus / "rejects" / "samples").iterdir()))).write_bytes(b"PAR1")
    next((corpus / "samples").glob("00000003-*.arrow")).unlink()
    run = emu_here(capsys, "inspect", corpus, "--sql", "select count(*) n from rejects where column_name = 'samples'")
    assert (run.returncode, run.stdout.split()) == (1, ["n", "3"])
    assert "rejects/samples/00000000" in run.stderr
    assert answer(capsys, "select count(*) n from samples", corpus, code=1) == [{"n": 9}]
    (corpus / record_name(SAMPLES, 5)).write_text("{}")
    broken = emu_here(capsys, "inspect", corpus, "--sql", "select count(*) n from records")
    assert (broken.returncode, broken.stdout) == (2, "")
    assert broken.stderr.startswith(f"error: {record_name(SAMPLES, 5)}: content")


def test_people_see_a_table_and_scripts_all_rows(capsys: pytest.CaptureFixture[str]) -> None:
    question = "select i, 'x' || i as name from range(2500) t(i)"
    assert len(answer(capsys, question)) == 2500
    run = emu_here(capsys, "inspect", GOLDEN, "--sql", question)
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["i", "name"]
    assert lines[-1] == "… cut after 1,000 rows; --json prints all"
    assert len(lines) == 1_002


def test_a_process_of_its_own_ends_quietly() -> None:
    for question, code in (("select count(*) n from samples", 0), ("select x", 2)):
        run = emu("inspect", GOLDEN, "--sql", question)
        assert run.returncode == code
        assert "leaked" not in run.stderr
        assert "Traceback" not in run.stderr
