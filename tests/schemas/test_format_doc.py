"""`docs/format.md` is true: its snippet runs, its examples parse, its tables are those of the code."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from schemas.card import SHARDS_SCHEMA
from schemas.corpus import CORPUS_FORMAT, Corpus, Manifest
from schemas.errors import CorpusError
from schemas.index import INDEX_SCHEMA
from schemas.json_schema import json_schema
from schemas.plan import PLAN_SCHEMA
from schemas.reasons import Reason
from schemas.record import Content, Counts, RunInfo
from schemas.rejects import REJECTS_SCHEMA
from schemas.sample import Image, ImageSegment, Role, Sample
from schemas.shard_reader import CorpusReader
from schemas.tar import header

GOLDEN = Path(__file__).parents[1] / "golden" / "corpus"
DOC = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def block(mark: str) -> str:
    """The fenced block behind a `<!-- test: … -->` mark."""
    found = re.search(rf"<!-- test: {re.escape(mark)} -->\n```\w+\n(.*?)```", DOC, re.DOTALL)
    assert found, mark
    return found[1]


def section(number: str) -> str:
    """From the heading of a section to the next heading of its level or above."""
    level = "##" + "#" * number.count(".")
    after = re.split(rf"\n{level} {re.escape(number)}\.? ", DOC)[1]
    return re.split(rf"\n#{{2,{len(level)}}} \d", after)[0]


def read_sample() -> Callable[..., dict[str, bytes] | None]:
    scope: dict[str, Any] = {}
    exec(block("read_sample"), scope)
    found: Callable[..., dict[str, bytes] | None] = scope["read_sample"]
    return found


def test_the_snippet_is_short_and_knows_nothing_of_ours() -> None:
    code = block("read_sample")
    assert "schemas" not in code
    body = code.split("def read_sample")[1]
    assert len([line for line in body.splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("column", ["samples", "features/tiny.bf16"])
def test_the_snippet_reads_every_sample_of_a_unit(column: str) -> None:
    read = read_sample()
    seen = 0
    for stored in CorpusReader(Corpus.open(str(GOLDEN)), column=column):
        key = stored.sample.key
        if key != "00000000-000003":  # brought in by a retry: it lies in unit 8
            assert read(GOLDEN, key, column) == {"json": stored.sample.to_json(), **stored.media}
            seen += 1
    assert seen == 9
    assert read(GOLDEN, "00000000-000003") is None


def test_the_snippet_reads_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    reads: list[int] = []
    plain = os.pread
    monkeypatch.setattr(os, "pread", lambda *given: reads.append(given[1]) or plain(*given))
    found = read_sample()(GOLDEN, "00000003-000000")
    assert found is not None
    assert len(found) == 9
    assert len(reads) == 1


@pytest.mark.parametrize("recipe", ["pair", "captions", "mmc4", "video", "storyboard", "instruct", "text"])
def test_every_example_is_a_sample(recipe: str) -> None:
    from jsonschema import Draft202012Validator

    plain = json.loads(block(f"sample {recipe}"))
    Draft202012Validator(json_schema("sample")).validate(plain)
    sample = Sample.from_json(json.dumps(plain))
    assert json.loads(sample.to_json()) == plain
    used = {segment.image for segment in sample.segments if isinstance(segment, ImageSegment)}
    assert used == set(range(len(sample.images)))


def test_the_reasons_are_those_of_the_enum() -> None:
    table = DOC.split("<!-- reasons -->\n")[1].split("<!-- /reasons -->")[0]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]
    assert [(reason.strip("`"), kind) for reason, kind, _ in rows] == [
        (reason.value, "retryable" if reason.retryable else "final") for reason in Reason
    ]
    assert all(meaning for *_, meaning in rows)


@pytest.mark.parametrize(
    ("number", "names"),
    [
        ("2.2", INDEX_SCHEMA.names),
        ("3.1", [*Sample.__dataclass_fields__, *Image.__dataclass_fields__, *(role.value for role in Role)]),
        ("4", [*Content.__dataclass_fields__, *RunInfo.__dataclass_fields__]),
        ("4", list(Counts.__dataclass_fields__)),
        ("1", list(Manifest.__dataclass_fields__)),
        ("5", PLAN_SCHEMA.names),
        ("6", REJECTS_SCHEMA.names),
        ("11", SHARDS_SCHEMA.names),
    ],
)
def test_every_field_is_named_in_its_section(number: str, names: list[str]) -> None:
    words = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`\n]+)`", section(number)))))
    assert [name for name in names if name not in words] == []


@pytest.mark.parametrize(("number", "folder"), [("8", "tokens"), ("9", "packs")])
def test_columns_of_arrow_files_are_named_in_their_section(number: str, folder: str) -> None:
    files = sorted((GOLDEN / folder).rglob("*.arrow"))
    assert files
    schema = pa.ipc.open_file(files[0]).schema
    assert schema.metadata[b"format"].decode() in section(number)
    names = [*schema.names, *(field.name for kind in schema.types if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)
                              for field in kind.value_type)]  # fmt: skip
    words = set(re.findall(r"\w+", section(number)))
    assert [name for name in names if name not in words] == []


def test_the_header_table_is_the_header() -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([^|]+) \| ([^|]+) \|$", section("2.1"), re.MULTILINE)
    assert sum(int(length) for _, length, *_ in rows) == 512
    found = header("00000006-000000.json", 1234)
    for offset, length, name, content in rows:
        field = found[int(offset) : int(offset) + int(length)]
        if literal := re.fullmatch(r"`(.+)`", content):
            assert field == literal[1].replace("␀", "\0").encode(), name
        elif content == "zeros":
            assert field == bytes(int(length)), name
    assert found[124:136] == b"%011o\0" % 1234
    checksum = sum(found[:148]) + 8 * 32 + sum(found[156:])
    assert found[148:156] == b"%06o\0 " % checksum


def test_versions_are_those_of_the_code() -> None:
    assert f"Version `{CORPUS_FORMAT}`" in DOC
    named = set(re.findall(r"`(emu-[a-z]+)/", DOC))
    assert named == {
        f"emu-{kind}"
        for kind in [
            "corpus",
            "sample",
            "index",
            "record",
            "records",
            "plan",
            "rejects",
            "features",
            "tokens",
            "packs",
            "view",
            "shards",
        ]
    }


def test_another_major_version_is_refused_whatever_its_fields(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"format":"emu-corpus/2.0","title":"another shape"}')
    with pytest.raises(CorpusError, match=r"'emu-corpus/2\.0'.*reads 'emu-corpus/1\.0'"):
        Corpus.open(str(tmp_path))
    newer = json.loads((GOLDEN / "corpus.json").read_text()) | {"format": "emu-corpus/1.9", "mood": "calm"}
    (tmp_path / "corpus.json").write_text(json.dumps(newer))
    assert Corpus.open(str(tmp_path)).manifest.name == "golden"
