"""`emu demo`: every kind of page becomes what it should, a second run does nothing, other runs make the same bytes."""

from collections import Counter
from pathlib import Path

import pytest

from jobs.demo.pictures import PHOTOGRAPHS, Picture
from jobs.demo.site import Behaviour, pages, write_metadata
from schemas.corpus import Corpus
from tests.emu_process import content_of, emu


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo, run once."""
    folder = tmp_path_factory.mktemp("demo")
    run = emu("demo", "--workers", "2", cwd=folder, timeout=110)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "The corpus holds" in run.stdout
    assert "Traceback" not in run.stderr
    assert "Task was destroyed" not in run.stderr
    return folder


def test_what_the_web_did_is_what_the_ledger_says(folder: Path) -> None:
    totals = Corpus.open(str(folder / "emu-demo" / "corpus")).totals()
    served = Counter(page.behaviour for page in pages())
    reasons = totals.reasons["row"]
    assert totals.counts.rows == len(pages())
    assert totals.counts.samples > 250
    assert totals.units == 3
    for reason, behaviour in {
        "http.404": Behaviour.NOT_FOUND,
        "decode.unsupported": Behaviour.HTML,
        "decode.truncated": Behaviour.CUT_OFF,
        "slow": Behaviour.STALL,
        "http.500": Behaviour.BROKEN_SERVER,
        "policy.opt_out": Behaviour.OPT_OUT,
    }.items():
        assert reasons[reason] == served[behaviour], reason
    assert {
        "policy.robots": 4,
        "connect": 2,
        "policy.private_address": 1,
        "url.invalid": 1,
        "filter.side": 6,
        "filter.aspect": 4,
        "filter.similarity": 8,
        "filter.unsafe": 5,
        "filter.watermark": 4,
        "filter.score_missing": 2,
        "text.too_short": 3,
    }.items() <= reasons.items()


def test_a_second_run_does_nothing(folder: Path) -> None:
    corpus = folder / "emu-demo" / "corpus"
    before = content_of(corpus)
    run = emu("demo", cwd=folder)
    assert run.returncode == 0, run.stderr
    assert "Nothing is left to build" in run.stdout
    assert content_of(corpus) == before


@pytest.mark.slow
def test_another_run_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    run = emu("demo", "--workers", "1", "--output", "elsewhere", cwd=tmp_path, timeout=110)
    assert run.returncode == 0, run.stderr
    first, second = (content_of(root / "corpus") for root in (folder / "emu-demo", tmp_path / "elsewhere"))
    plan = "plan/000000.parquet"  # names the metadata by its place
    assert first.keys() == second.keys()
    assert {name for name in first if first[name] != second[name]} <= {plan}


def test_metadata_is_the_same_on_every_machine_and_left_alone_when_it_is_there(tmp_path: Path) -> None:
    first = write_metadata(tmp_path / "a")
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first}
    assert write_metadata(tmp_path / "a") == first
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in first} == before
    second = write_metadata(tmp_path / "b")
    assert [path.read_bytes() for path in second] == [data for data, _ in before.values()]


def test_every_photograph_lies_in_the_wheel() -> None:
    for name in PHOTOGRAPHS:
        data = Picture(name, (0.0, 0.0, 1.0, 1.0), False, 64, 64).encode()
        assert data.startswith(b"\xff\xd8\xff")
