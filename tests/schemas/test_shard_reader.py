"""The reader: one ranged read for a sample, a document or a member; few indexes in memory; errors that say where to look."""

from typing import Any

import pytest

from schemas.corpus import SAMPLES, Corpus
from schemas.errors import CorpusError
from schemas.plan import Unit
from schemas.sample import make_key
from schemas.shard_reader import CorpusReader
from schemas.storage import LocalStorage
from tests.small_corpora import ROWS, Builder


class Counting(LocalStorage):
    """Remembers what was read."""

    def __init__(self, builder: Builder) -> None:
        super().__init__(builder.root)
        self.reads: list[str] = []
        self.ranges: list[tuple[str, int, int]] = []

    def read(self, name: str) -> bytes:
        self.reads.append(name)
        return super().read(name)

    def read_range(self, name: str, offset: int, length: int) -> bytes:
        self.ranges.append((name, offset, length))
        return super().read_range(name, offset, length)


@pytest.fixture
def storage(builder: Builder) -> Counting:
    for unit in range(3):
        builder.commit(unit, max_part_bytes=1 if unit == 1 else 1 << 30)
    return Counting(builder)


@pytest.fixture
def reader(builder: Builder, storage: Counting) -> CorpusReader:
    return CorpusReader(Corpus(storage, builder.corpus.manifest))


def test_everything_comes_back_in_order(builder: Builder, reader: CorpusReader) -> None:
    keys = [make_key(unit, row) for unit in range(3) for row in range(ROWS) if row != 2]
    assert list(reader.keys()) == keys
    found = list(reader)
    assert [stored.sample for stored in found] == [builder.sample(key)[0] for key in keys]
    assert [list(stored.media.values()) for stored in found] == [builder.sample(key)[1] for key in keys]
    assert [reader.get(key) for key in keys] == found


@pytest.mark.parametrize("key", [make_key(0, 0), make_key(1, 3)])
def test_a_sample_a_document_or_a_member_is_one_ranged_read(
    builder: Builder, storage: Counting, reader: CorpusReader, key: str
) -> None:
    sample, (picture,) = builder.sample(key)
    assert reader.get(key).media == {"0.jpg": picture}
    assert reader.document(key) == sample
    assert reader.member(key, "0.jpg") == picture
    (whole, document, member) = storage.ranges
    assert whole[1] == document[1]
    assert (document[2], member[2]) == (len(sample.to_json()), len(picture))
    assert whole[2] == member[1] + member[2] - document[1]
    assert not any(name.startswith("plan/") for name in storage.reads)
    assert len(storage.reads) == len(set(storage.reads)), "records and indexes are read once"


def test_few_indexes_are_kept(builder: Builder, storage: Counting) -> None:
    reader = CorpusReader(Corpus(storage, builder.corpus.manifest), max_open_indexes=2)
    for unit in (0, 2, 0, 2, 0):
        reader.get(make_key(unit, 0))
    assert sum(name.endswith(".arrow") for name in storage.reads) == 2
    list(reader)
    assert len(reader._indexes) == 2
    assert len(reader._parts) <= 2


def test_a_retried_row_is_found_by_its_key_of_origin(builder: Builder, reader: CorpusReader) -> None:
    key = make_key(1, 2)
    builder.plan_more(Unit(3, "rejects", "f", 0, None, keys=(key,)))
    builder.commit(3, keys=[key])
    assert reader.get(key).sample == builder.sample(key)[0]
    assert list(reader.keys())[-1] == key


def test_a_key_that_is_not_there_says_where_to_look(reader: CorpusReader) -> None:
    for key in (make_key(0, 2), make_key(7, 0)):
        with pytest.raises(CorpusError, match=rf"no committed unit of samples holds {key}; .*\(see rejects/\)"):
            reader.get(key)
    with pytest.raises(CorpusError, match="'x' is not a key"):
        reader.get("x")


def test_a_member_that_is_not_there_names_those_that_are(reader: CorpusReader) -> None:
    with pytest.raises(CorpusError, match=r"sample 00000000-000000 has no member '1\.jpg'; it has 0\.jpg"):
        reader.member(make_key(0, 0), "1.jpg")


@pytest.mark.parametrize("read", ["get", "document"])
def test_a_tar_that_ends_early_is_named_with_key_and_byte(builder: Builder, reader: CorpusReader, read: str) -> None:
    record = builder.corpus.record(SAMPLES, 0)
    assert record is not None
    name = record.content.parts[0].data.name
    data = (builder.root / name).read_bytes()
    (builder.root / name).write_bytes(data[:600])
    with pytest.raises(
        CorpusError, match=rf"{name}: key 00000000-000000 needs [0-9]+ bytes from 512, the file gives 88"
    ):
        getattr(reader, read)(make_key(0, 0))


def _damaged(data: bytes, kind: str) -> bytes:
    utf8 = data.replace(make_key(0, 1).encode(), b"\xff" * 15)
    return {"empty": b"", "cut": data[: len(data) // 2], "text": b"not arrow", "utf8": utf8}[kind]


@pytest.mark.parametrize("kind", ["empty", "cut", "text", "utf8"])
def test_a_damaged_index_is_named(builder: Builder, reader: CorpusReader, kind: str) -> None:
    record: Any = builder.corpus.record(SAMPLES, 0)
    path = builder.root / record.content.parts[0].index.name
    path.write_bytes(_damaged(path.read_bytes(), kind))
    with pytest.raises(CorpusError, match=rf"{path.name}: not a readable Arrow file .*run `emu validate`"):
        reader.get(make_key(0, 0))
