"""The JSON Schemas are those of the code, take what is right and refuse what is wrong."""

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from schemas.errors import CorpusError
from schemas.json_schema import FOLDER, field_notes, json_schema, schema_bytes
from schemas.record import RunInfo
from schemas.sample import Sample

CORPUS = Path(__file__).parents[1] / "golden" / "corpus"


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def golden_samples() -> list[dict[str, Any]]:
    found = []
    for path in sorted((CORPUS / "samples").glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [json.load(tar.extractfile(info)) for info in tar if info.name.endswith(".json")]  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("name", ["sample", "record", "corpus"])
def test_the_committed_schema_is_that_of_the_code(name: str) -> None:
    assert (FOLDER / f"{name}.schema.json").read_bytes() == schema_bytes(name), "run python -m schemas.json_schema"


def test_golden_files_are_valid() -> None:
    samples = golden_samples()
    assert len(samples) == 10
    for sample in samples:
        validator("sample").validate(sample)
    records = sorted((CORPUS / "records").rglob("*.json"))
    assert len(records) == 9 + 9 + 1 + 9 + 9
    for path in records:
        validator("record").validate(json.loads(path.read_text()))
    validator("corpus").validate(json.loads((CORPUS / "corpus.json").read_text()))


def test_fields_of_a_newer_minor_version_pass() -> None:
    sample = golden_samples()[0]
    sample["mood"] = "calm"
    sample["images"][0]["palette"] = [1, 2, 3]
    validator("sample").validate(sample)
    assert Sample.from_json(json.dumps(sample)).key == sample["key"]


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "no key": lambda s: s.pop("key"),
    "no format": lambda s: s.pop("format"),
    "a newer major": lambda s: s.update(format="emu-sample/2"),
    "a key with a dot": lambda s: s.update(key="00000000.000000"),
    "no segments": lambda s: s.update(segments=[]),
    "an empty text": lambda s: s.update(segments=[{"text": ""}]),
    "a segment of nothing": lambda s: s["segments"].append({"time": 1.0}),
    "a number as text": lambda s: s["segments"].append({"text": 7}),
    "an unknown role": lambda s: s["segments"].append({"text": "a", "role": "narrator"}),
    "an image ordinal below zero": lambda s: s["segments"].append({"image": -1}),
    "an image without a member": lambda s: s["images"][0].pop("member"),
    "a width as string": lambda s: s["images"][0].update(width="48"),
    "a box of three": lambda s: s["images"][0].update(box=[0, 0, 4]),
    "a hash of other letters": lambda s: s["images"][0].update(phash="z" * 16),
    "a short sha256": lambda s: s["images"][0].update(sha256_original="ab"),
    "attributes as a list": lambda s: s.update(attributes=[1]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_samples_are_refused(fault: str) -> None:
    sample = golden_samples()[0]
    assert validator("sample").is_valid(sample)
    WRONG[fault](sample)
    assert not validator("sample").is_valid(sample)


# What the reader accepts although no writer may write it: a default stands in, or a pattern is not its business.
LENIENT = {"no format", "no segments", "an empty text", "a hash of other letters", "a short sha256"}


@pytest.mark.parametrize("fault", sorted(set(WRONG) - LENIENT))
def test_our_reader_refuses_them_too(fault: str) -> None:
    sample = golden_samples()[0]
    WRONG[fault](sample)
    with pytest.raises(CorpusError):
        Sample.from_json(json.dumps(sample))


def test_wrong_records_and_manifests_are_refused() -> None:
    record = json.loads((CORPUS / "records/samples/0000/00000000.json").read_text())
    for fault in ({"format": "emu-record/2"}, {"content": {}}, {"run": None}):
        assert not validator("record").is_valid(record | fault)
    manifest = json.loads((CORPUS / "corpus.json").read_text())
    for fault in ({"name": "a/b"}, {"format": "emu-corpus/2.0"}, {"recipe": []}, {"recipe_hash": ""}):
        assert not validator("corpus").is_valid(manifest | fault)
    assert validator("corpus").is_valid(manifest | {"format": "emu-corpus/1.7"})


def test_fields_are_described_by_the_docstring_of_their_class() -> None:
    notes = field_notes(RunInfo)
    assert notes["seconds"] == notes["started_unix_seconds"] == "when it began and how long it took."
    assert notes["engine"] == "the runner."
    described = json_schema("sample")["properties"]
    assert described["licence"]["description"] == "as the source states it."
    undescribed = [name for name, node in described.items() if "description" not in node]
    assert undescribed == []
