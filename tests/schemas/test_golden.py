"""The golden corpus, made by plain libraries (`tests/golden/make_golden.py`): we read it, and write the same bytes."""

import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from schemas.corpus import Corpus
from schemas.index import Index, IndexRow
from schemas.plan import read_plan
from schemas.reasons import Reason
from schemas.record import Record
from schemas.rejects import Level, Reject
from schemas.sample import ImageSegment, Role, Sample, TextSegment
from schemas.shard_reader import CorpusReader, StoredSample
from schemas.shard_writer import ShardWriter
from schemas.tar import verify_sample
from schemas.validate import validate
from schemas.views import read_view

GOLDEN = Path(__file__).parents[1] / "golden"
BF16, INT8 = "features/tiny.bf16", "features/tiny.int8"
# Where each recipe's sample lies.
KEYS = {
    "pair": "00000000-000000",
    "captions": "00000001-000000",
    "mmc4": "00000002-000000",
    "video": "00000003-000000",
    "storyboard": "00000004-000000",
    "instruct": "00000005-000000",
    "text": "00000006-000000",
    "retried": "00000000-000003",
}


@pytest.fixture(scope="module")
def golden() -> Corpus:
    return Corpus.open(str(GOLDEN / "corpus"))


def get(golden: Corpus, name: str) -> StoredSample:
    return CorpusReader(golden).get(KEYS[name])


def test_each_recipe_reads_as_what_it_is(golden: Corpus) -> None:
    pair = get(golden, "pair").sample
    assert pair.segments == (ImageSegment(0), TextSegment("A slope from dark to light"))
    assert pair.attributes["similarity"] is None
    assert pair.attributes["hash"] == "-7000000000000000123"
    captions = get(golden, "captions").sample.captions
    assert [caption.similarity for caption in captions] == [0.40625, 0.28125, None]
    document = get(golden, "mmc4").sample
    assert [image.match.sentence for image in document.images if image.match] == [1, 3]
    video = get(golden, "video").sample
    assert [s.time for s in video.segments if isinstance(s, ImageSegment)] == [0.75 + 1.5 * n for n in range(8)]
    talk = get(golden, "instruct").sample
    assert talk.segments[1] == ImageSegment(0, role=Role.USER)
    called = CorpusReader(golden).get("00000005-000001").sample
    assert [s.role for s in called.segments] == [Role.USER, Role.TOOL_CALL, Role.TOOL_RESULT, Role.ASSISTANT]
    assert "“à bientôt”" in get(golden, "text").sample.segments[0].text
    assert get(golden, "retried").sample.source.row == 3


def test_a_storyboard_keeps_its_sheets_and_has_its_frames_as_boxes(golden: Corpus) -> None:
    stored = get(golden, "storyboard")
    assert list(stored.media) == ["0.webp", "1.webp"]
    assert stored.media["0.webp"] == (GOLDEN / "pictures" / "sheet0.webp").read_bytes()
    images = stored.sample.images
    assert len(images) == 70
    assert len({(image.member, image.box) for image in images}) == 70
    times = [segment.time for segment in stored.sample.segments]
    assert times == sorted(times)
    at_four = [segment for segment in stored.sample.segments if segment.time == 4.0]
    assert [type(segment) for segment in at_four] == [ImageSegment, TextSegment]


def test_every_key_is_read_alike_in_order_by_key_and_in_pieces(golden: Corpus) -> None:
    reader = CorpusReader(golden)
    in_order = list(reader)
    assert sorted(KEYS.values()) == sorted({s.sample.key for s in in_order} & set(KEYS.values()))
    assert len(in_order) == golden.totals().counts.samples == 10
    for stored in in_order:
        key = stored.sample.key
        assert CorpusReader(golden).get(key) == stored
        assert reader.document(key) == stored.sample
        assert {name: reader.member(key, name) for name in stored.sample.members} == stored.media


def test_plain_tarfile_finds_every_member_where_the_index_says(golden: Corpus) -> None:
    members = 0
    for column in ("samples", BF16, INT8):
        for record in golden.records(column):
            for part in record.content.parts:
                assert part.index is not None
                index = Index.parse((GOLDEN / "corpus" / part.index.name).read_bytes(), name=part.index.name)
                with tarfile.open(GOLDEN / "corpus" / part.data.name) as tar:
                    found = [(info.name, info.offset_data, info.size) for info in tar]
                told = []
                for row in index.rows():
                    told.append((f"{row.key}.json", row.json_offset, row.json_bytes))
                    told += [(f"{row.key}.{m.name}", m.offset, m.bytes) for m in row.members]
                assert told == found
                members += len(found)
    assert members == 27 + 19 + 3


def test_samples_verify_byte_by_byte(golden: Corpus) -> None:
    rows = 0
    reader = CorpusReader(golden)
    for part in reader.parts():
        with (GOLDEN / "corpus" / part.data.name).open("rb") as tar:
            for row in reader.index(part).rows():
                assert verify_sample(tar, row) is None
                rows += 1
    assert rows == 10


def test_validate_finds_nothing(golden: Corpus) -> None:
    assert list(validate(golden)) == []


def test_our_writer_writes_the_same_bytes(golden: Corpus, tmp_path: Path) -> None:
    written = Corpus.create(str(tmp_path / "ours"), golden.manifest)
    units = {unit.ordinal: unit for unit in golden.plan()}
    for record in golden.records():
        content = record.content
        made = write_again(golden, written, record, rows=units[content.unit].rows or 0)
        if same_pyarrow():
            assert made.content == content, f"unit {content.unit}"
        assert replace(made.content, rejects=None) == replace(content, rejects=None), f"unit {content.unit}"
        for file in content.files:
            ours = tmp_path / "ours" / file.name
            if ours.suffix != ".parquet" or same_pyarrow():
                assert ours.read_bytes() == (GOLDEN / "corpus" / file.name).read_bytes(), file.name
    assert written.totals() == golden.totals()


def write_again(golden: Corpus, written: Corpus, record: Record, *, rows: int) -> Record:
    """One unit through our writer, its samples in reverse: the order of completion must not show."""
    content = record.content
    part_bytes = 4096 if content.unit == 5 else 2 << 30
    with ShardWriter(
        written, column="samples", unit=content.unit, recipe_hash=content.recipe_hash, max_part_bytes=part_bytes
    ) as writer:
        reader = CorpusReader(golden)
        numbered = [(row.row, reader.get(row.key)) for part in content.parts for row in reader.index(part).rows()]
        for row, stored in reversed(numbered):
            media = [stored.media[name] for name in stored.sample.members]
            writer.write(Sample.from_json(stored.sample.to_json()), media, row=row)
        return writer.commit(
            read_rejects(content.rejects.name if content.rejects else None),
            rows=rows,
            images_asked=content.counts.images_asked,
            run=replace(record.run, machine="another"),
        )


def read_rejects(name: str | None) -> list[Reject]:
    if name is None:
        return []
    plain = pq.read_table(GOLDEN / "corpus" / name).to_pylist()
    return [Reject(**row | {"level": Level(row["level"]), "reason": Reason(row["reason"])}) for row in plain]


def same_pyarrow() -> bool:
    """Parquet files name the version that wrote them; with another one only their content can be the same."""
    return f"version {pa.__version__}" in pq.ParquetFile(GOLDEN / "corpus/plan/000000.parquet").metadata.created_by


def test_plan_and_view_read(golden: Corpus) -> None:
    units = read_plan(golden.storage)
    assert [unit.ordinal for unit in units] == list(range(9))
    assert units[8].keys == ("00000000-000003",)
    assert (units[6].byte_offset, units[6].byte_length) == (0, 4096)
    assert read_view(golden, "pictures").as_set() == {s.sample.key for s in CorpusReader(golden) if s.media}


def test_a_unit_that_kept_nothing_has_no_parts(golden: Corpus) -> None:
    record = golden.record("samples", 7)
    assert record is not None
    assert record.content.parts == ()
    assert record.content.counts.rejected_rows == record.content.counts.rows == 1


@pytest.mark.parametrize("column", [BF16, INT8])
def test_features_are_ranges_of_the_tar_whose_hash_and_values_are_right(golden: Corpus, column: str) -> None:
    images = 0
    reader = CorpusReader(golden, column=column)
    for part in reader.parts():
        assert part.index is not None
        table = pa.ipc.open_file(GOLDEN / "corpus" / part.index.name).read_all()
        tar = (GOLDEN / "corpus" / part.data.name).read_bytes()
        for row in table.to_pylist():
            for number, image in enumerate(row["images"]):
                if image["valid"]:
                    scale = row["scales"][number] if column == INT8 else None
                    assert np.abs(values_of(tar, image, scale) - expected_values(number)).max() < 0.05
                    images += 1
                else:
                    assert image == {"offset": 0, "bytes": 0, "xxh3": 0, "valid": False}
    assert images == {BF16: 84, INT8: 70}[column]


def values_of(tar: bytes, tokens: dict[str, Any], scale: dict[str, Any] | None) -> np.ndarray:
    """[3, 4] in float32 from the ranges that an index gives, by their bytes alone."""
    for told in [tokens, *([scale] if scale else [])]:
        payload = tar[told["offset"] : told["offset"] + told["bytes"]]
        assert xxhash.xxh3_64_intdigest(payload) == told["xxh3"]
    payload = tar[tokens["offset"] : tokens["offset"] + tokens["bytes"]]
    if scale is None:
        return (np.frombuffer(payload, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(3, 4)
    factor = np.frombuffer(tar[scale["offset"] : scale["offset"] + scale["bytes"]], "<f4")
    return np.frombuffer(payload, np.int8).astype(np.float32).reshape(3, 4) * factor


def expected_values(image: int) -> np.ndarray:
    return ((np.arange(12, dtype=np.float32) + image) % 97).reshape(3, 4) / 8


def test_seventy_images_make_two_members_with_headers_of_one_size(golden: Corpus) -> None:
    for column, names in ((BF16, ["tokens"]), (INT8, ["scale", "tokens"])):
        media = CorpusReader(golden, column=column).get(KEYS["storyboard"]).media
        assert list(media) == ["features-0000.safetensors", "features-0001.safetensors"]
        for data, count in zip(media.values(), (64, 6), strict=True):
            assert int.from_bytes(data[:8], "little") == 1024 - 8
            header = json.loads(data[8:1024])
            assert header.pop("__metadata__") == {"format": "emu-features/1"}
            assert sorted(header, key=lambda name: header[name]["data_offsets"]) == names
            assert header["tokens"]["shape"] == [count, 3, 4]
            assert header["tokens"]["data_offsets"][1] + 1024 == len(data)


def test_columns_hold_the_same_keys_in_the_same_order_and_repeat_the_document(golden: Corpus) -> None:
    documents = {stored.sample.key: stored.sample for stored in CorpusReader(golden)}
    assert list(CorpusReader(golden, column=BF16).keys()) == list(documents)
    assert all(stored.sample == documents[stored.sample.key] for stored in CorpusReader(golden, column=BF16))
    tokens = [row for record in golden.records("tokens/utf8-bytes") for row in arrow_rows(record)]
    assert [row["key"] for row in tokens] == list(documents)


def arrow_rows(record: Record) -> list[dict[str, Any]]:
    return [
        row
        for p in record.content.parts
        for row in pa.ipc.open_file(GOLDEN / "corpus" / p.data.name).read_all().to_pylist()
    ]


def test_tokens_are_those_of_each_segment_and_caption(golden: Corpus) -> None:
    reader = CorpusReader(golden)
    for record in golden.records("tokens/utf8-bytes"):
        for row in arrow_rows(record):
            sample = reader.document(row["key"])
            texts = [getattr(segment, "text", "") for segment in sample.segments]
            assert split(row["segment_ids"], row["segment_lengths"]) == texts
            assert split(row["caption_ids"], row["caption_lengths"]) == [c.text for c in sample.captions]


def split(ids: list[int], lengths: list[int]) -> list[str]:
    ends = np.cumsum(lengths).tolist()
    assert not ends or ends[-1] == len(ids)
    return [bytes(ids[end - length : end]).decode() for end, length in zip(ends, lengths, strict=True)]


def test_packs_fit_and_hold_every_segment_of_a_phase_once(golden: Corpus) -> None:
    column = next(name for name in golden.columns() if name.startswith("packs/"))
    packs = {record.content.unit: arrow_rows(record) for record in golden.records(column)}
    assert sorted({pack["phase"] for pack in packs[4]}) == [0, 1, 2, 3]
    for unit, rows in packs.items():
        segments = {row.row: len(CorpusReader(golden).document(row.key).segments) for row in index_rows(golden, unit)}
        for phase in range(4) if rows else ():
            of_phase = [pack for pack in rows if pack["phase"] == phase]
            for pack in of_phase:
                for name in ("positions", "text_rows"):
                    assert pack[name] == sum(document[name] for document in pack["documents"])
                assert pack["images"] == sum(len(document["images"]) for document in pack["documents"])
                assert pack["positions"] <= 2048
            held = sorted(
                (document["row"], number)
                for pack in of_phase
                for document in pack["documents"]
                for number in range(document["first_segment"], document["end_segment"])
            )
            assert held == sorted((row, number) for row, count in segments.items() for number in range(count))
    assert [document["images"] for pack in packs[2] for document in pack["documents"]] == [
        [0]
    ] * 4  # image 1 has no features


def index_rows(golden: Corpus, unit: int) -> list[IndexRow]:
    record = golden.record("samples", unit)
    assert record is not None
    return [row for part in record.content.parts for row in CorpusReader(golden).index(part).rows()]


def test_perceptual_hashes_are_those_of_the_stored_pictures(golden: Corpus) -> None:
    perceptual_hash = pytest.importorskip("pipelines.media.phash").perceptual_hash
    from io import BytesIO

    from PIL import Image

    seen = 0
    for stored in CorpusReader(golden):
        for image in stored.sample.images:
            left, top, width, height = image.box or (0, 0, image.width, image.height)
            pixels = np.asarray(Image.open(BytesIO(stored.media[image.member])).convert("RGB"))
            part = np.ascontiguousarray(pixels[top : top + height, left : left + width])
            assert part.shape == (image.height, image.width, 3)
            assert f"{perceptual_hash(part):016x}" == image.phash
            seen += 1
    assert seen == 85


def test_the_script_that_made_it_still_makes_it(tmp_path: Path) -> None:
    script = shutil.copytree(GOLDEN, tmp_path / "golden", ignore=shutil.ignore_patterns("corpus", "__pycache__"))
    subprocess.run([sys.executable, str(script / "make_golden.py"), str(tmp_path / "again")], check=True, timeout=120)
    made, kept = files_below(tmp_path / "again"), files_below(GOLDEN / "corpus")
    if same_pyarrow():
        assert made == kept
    else:
        plain = [name for name in kept if name.suffix in (".tar", ".arrow")]
        assert [made.get(name) for name in plain] == [kept[name] for name in plain]


def files_below(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
