"""`emu validate`: what is broken is named by file, unit, key and byte; what no record names is swept when asked for."""

import json
import shutil
from pathlib import Path

import pytest

from schemas.corpus import Corpus
from schemas.shard_reader import CorpusReader
from tests.emu_process import content_of, emu, emu_here


@pytest.fixture
def copy(tmp_path: Path, corpus: Path) -> Path:
    return Path(shutil.copytree(corpus, tmp_path / "copy"))


def test_a_sound_corpus_holds(corpus: Path) -> None:
    before = content_of(corpus)
    run = emu("validate", corpus)
    assert (run.returncode, run.stderr) == (0, "")
    assert "holds (every promise of the format; 6 of 6 planned units" in run.stdout
    assert content_of(corpus) == before


def test_a_damaged_picture_is_named_by_shard_key_and_byte(copy: Path) -> None:
    reader = CorpusReader(Corpus.open(str(copy)))
    part = next(iter(reader.parts()))
    row = next(iter(reader.index(part).rows()))
    byte = row.members[0].offset + 1000
    shard = copy / part.data.name
    with shard.open("r+b") as file:
        file.seek(byte)
        old = file.read(1)
        file.seek(byte)
        file.write(bytes([old[0] ^ 0xFF]))

    run = emu("validate", copy)
    assert run.returncode == 1
    assert part.data.name in run.stdout
    assert f"key {row.key}" in run.stdout
    assert f"byte {row.members[0].offset}" in run.stdout

    told = json.loads(emu("validate", copy, "--json").stdout)
    assert told["holds"] is False
    assert {"file": part.data.name, "key": row.key, "unit": 0}.items() <= told["problems"][0].items()
    assert emu("validate", copy, "--quick").returncode == 0  # sizes and layout are as they were


def test_a_missing_shard_is_an_error_even_when_quick(copy: Path) -> None:
    shard = next((copy / "samples").glob("*.tar"))
    shard.unlink()
    run = emu("validate", copy, "--quick")
    assert run.returncode == 1
    assert shard.name in run.stdout
    assert "missing" in run.stdout


def test_fix_deletes_what_no_record_names_and_nothing_else(copy: Path) -> None:
    before = content_of(copy)
    orphan = copy / "samples" / "00000000-00-00000000.tar"
    orphan.write_bytes(b"of an attempt that lost")
    run = emu("validate", copy)
    assert run.returncode == 0  # it breaks no promise
    assert "orphan" in run.stdout
    assert orphan.name in run.stdout
    told = json.loads(emu("validate", copy, "--fix", "--json").stdout)
    assert (told["deleted"], told["orphans"]) == ([f"samples/{orphan.name}"], 0)
    assert content_of(copy) == before


def test_fix_leaves_unfinished_units_alone_unless_asked(copy: Path) -> None:
    unfinished = copy / "samples" / "00000099-00-00000000.tar"
    unfinished.write_bytes(b"in the making")
    emu("validate", copy, "--fix")
    assert unfinished.exists()
    run = emu("validate", copy, "--fix", "--abandoned-after", "0")
    assert run.returncode == 0
    assert not unfinished.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere is not a corpus: it has no corpus.json"),
        (["{corpus}", "--column", "features/none"], "no column 'features/none'"),
        (["{corpus}", "--abandoned-after", "5"], "--abandoned-after says which files --fix may delete"),
    ],
)
def test_what_cannot_be_checked_is_refused(
    arguments: list[str], words: str, corpus: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = emu_here(capsys, "validate", *[argument.format(corpus=corpus) for argument in arguments])
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr
