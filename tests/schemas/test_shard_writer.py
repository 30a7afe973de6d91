"""The writer: what was spooled is committed whole, in row order, with every row accounted for; or nothing is."""

import errno
import os
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.corpus import SAMPLES
from schemas.errors import AccountingError, CorpusError, DuplicateKeyError, VerifyError
from schemas.index import Index
from schemas.plan import Unit
from schemas.reasons import Reason
from schemas.rejects import Level, Reject
from schemas.sample import Sample, TextSegment, make_key
from schemas.shard_writer import ShardWriter
from schemas.tar import BLOCK, END_OF_TAR
from schemas.validate import validate
from tests.small_corpora import RUN, Builder

SAMPLE_BYTES = 6 * BLOCK  # JSON and one picture of the builder, with headers: 1,024 + 2,048
FIRST_MADE: dict[int, Any] = {}  # what the first order gave, by limit
DATA = ("samples", "rejects", "records")


def assert_nothing_published(builder: Builder) -> None:
    assert builder.files(*DATA) == {}
    assert list(builder.corpus.storage.folders("run/scratch")) == []


def test_a_unit_becomes_a_tar_an_index_rejects_and_a_record(builder: Builder) -> None:
    record = builder.commit(0)
    counts = record.content.counts
    assert (counts.rows, counts.samples, counts.rejected_rows) == (4, 3, 1)
    assert (counts.images_asked, counts.images, counts.rejected_images) == (4, 3, 1)
    assert record.content.reasons == {"row": {"http.404": 1}, "image": {"http.404": 1}}
    assert record.content.attributes == {"similarity": "float", "NSFW": "null"}
    assert (record.content.max_members, record.content.extensions) == (1, ("jpg",))
    assert sorted(builder.files(*DATA)) == sorted(
        [f.name for f in record.content.files] + ["records/samples/0000/00000000.json"]
    )
    assert builder.corpus.record(SAMPLES, 0) == record
    assert list(validate(builder.corpus)) == []


def test_the_tar_holds_each_json_before_its_media_in_row_order(builder: Builder) -> None:
    (part,) = builder.commit(0).content.parts
    with tarfile.open(builder.root / part.data.name) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == [f"{make_key(0, row)}.{end}" for row in (0, 1, 3) for end in ("json", "0.jpg")]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode) for m in members} == {(0, 0, 0, "", "", 0o644)}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(6)), limit=st.sampled_from([1, 2 * SAMPLE_BYTES + 1024, 1 << 30]))
def test_any_order_of_completion_gives_the_same_bytes(
    new_builder: Callable[[str], Builder], order: list[int], limit: int
) -> None:
    builder = new_builder(uuid.uuid4().hex)
    builder.rejected = ()
    with builder.writer(0, max_part_bytes=limit) as writer:
        for row in order:
            writer.write(*builder.sample(make_key(0, row)), row=row)
        content = writer.commit([], rows=6, images_asked=6, run=RUN).content
    found = (content, builder.files("samples"))
    assert found == FIRST_MADE.setdefault(limit, found)


@pytest.mark.parametrize(
    ("limit", "samples_per_part"),
    [(1, [1, 1, 1]), (2 * SAMPLE_BYTES + 1024, [2, 1]), (2 * SAMPLE_BYTES + 1023, [1, 1, 1]), (1 << 30, [3])],
)
def test_parts_end_before_the_limit_unless_one_sample_is_larger(
    builder: Builder, limit: int, samples_per_part: list[int]
) -> None:
    content = builder.commit(0, max_part_bytes=limit).content
    assert [part.samples for part in content.parts] == samples_per_part
    assert sum(part.data.bytes - len(END_OF_TAR) for part in content.parts) == 3 * SAMPLE_BYTES
    assert all(part.data.bytes <= limit or part.samples == 1 for part in content.parts)
    assert list(validate(builder.corpus)) == []


def test_a_unit_without_samples_has_no_parts(builder: Builder) -> None:
    builder.rejected = (0, 1, 2, 3)
    content = builder.commit(0).content
    assert content.parts == ()
    assert content.counts.rejected_rows == 4
    builder.plan_more(Unit(3, "empty.parquet", "f", 0, 0))
    with builder.writer(3) as writer:
        empty = writer.commit([], rows=0, images_asked=0, run=RUN).content
    assert (empty.parts, empty.rejects, empty.files) == ((), None, ())
    assert list(validate(builder.corpus)) == []


def test_a_key_is_written_once(builder: Builder) -> None:
    with builder.writer(0) as writer:
        writer.write(*builder.sample(make_key(0, 0)), row=0)
        with pytest.raises(DuplicateKeyError, match="unit 0 of samples: key 00000000-000000 was written before"):
            writer.write(*builder.sample(make_key(0, 0)), row=1)


def _row_reject(row: int) -> Reject:
    return Reject(make_key(0, row), row, Level.ROW, Reason.DNS)


@pytest.mark.parametrize(
    ("rejects", "rows", "images_asked", "said"),
    [
        ([], 3, 2, "3 rows, but 2 samples \\+ 0 rejected rows"),
        ([_row_reject(2)], 4, 2, "4 rows, but 2 samples \\+ 1 rejected rows"),
        ([_row_reject(2)], 3, 3, "3 images asked for, but 2 kept \\+ 0 rejected images"),
        ([_row_reject(1)], 3, 2, "rows \\[1\\] are accounted for twice"),
        ([_row_reject(7)], 3, 2, "rows lie outside 0…2"),
    ],
)
def test_a_unit_that_does_not_add_up_is_not_committed(
    builder: Builder, rejects: list[Reject], rows: int, images_asked: int, said: str
) -> None:
    with builder.writer(0) as writer:
        for row in (0, 1):
            writer.write(*builder.sample(make_key(0, row)), row=row)
        with pytest.raises(AccountingError, match=f"unit 0 of samples: {said}.*nothing was committed"):
            writer.commit(rejects, rows=rows, images_asked=images_asked, run=RUN)
    assert_nothing_published(builder)


@pytest.mark.parametrize(
    ("before", "said"),
    [
        (b"00000000-000001.json", "key 00000000-000001: byte 3072: no tar header"),
        (b'"pha', "key 00000000-000001: byte 3584: the JSON is not in canonical form"),
        (b'"row":1}}', "key 00000000-000001: byte [0-9]+: the padding behind 00000000-000001.json is not zero"),
        (b"picture of 00000000-000001", "key 00000000-000001: byte [0-9]+: image 0 has xxh3"),
        (b"A sentence about 00000000", "00.tar: the file has sha256"),
    ],
)
def test_what_the_disk_changed_is_not_committed(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, before: bytes, said: str
) -> None:
    real = ShardWriter._assemble

    def assemble(writer: ShardWriter) -> Any:
        parts = real(writer)
        data = bytearray(parts[0].tar.read_bytes())
        data[data.index(before, SAMPLE_BYTES) + len(before)] ^= 1
        parts[0].tar.write_bytes(data)
        return parts

    monkeypatch.setattr(ShardWriter, "_assemble", assemble)
    with pytest.raises(VerifyError, match=rf"unit 0 of samples, {said}.*nothing was committed"):
        builder.commit(0)
    assert_nothing_published(builder)


def test_a_document_that_would_not_come_back_is_not_committed(builder: Builder) -> None:
    builder.rejected = ()
    with builder.writer(0) as writer:
        sample, media = builder.sample(make_key(0, 0))
        writer.write(replace(sample, key="no key at all"), media, row=0)
        with pytest.raises(VerifyError, match="'no key at all' is not a key"):
            writer.commit([], rows=1, images_asked=1, run=RUN)
    assert_nothing_published(builder)


def test_leaving_without_commit_publishes_nothing(builder: Builder) -> None:
    with suppress(KeyboardInterrupt), builder.writer(0) as writer:
        writer.write(*builder.sample(make_key(0, 0)), row=0)
        raise KeyboardInterrupt
    assert_nothing_published(builder)


@pytest.mark.parametrize("step", ["link", "fsync"])
@pytest.mark.parametrize("after", range(8))
def test_a_disk_that_fails_at_any_moment_leaves_no_record_of_missing_files(
    builder: Builder, monkeypatch: pytest.MonkeyPatch, step: str, after: int
) -> None:
    calls: Iterator[int] = iter(range(1000))
    real = getattr(os, step)

    def fail(*given: Any) -> Any:
        if next(calls) == after:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*given)

    monkeypatch.setattr(os, step, fail)
    with suppress(OSError):
        builder.commit(0)
    monkeypatch.undo()
    assert [p for p in validate(builder.corpus) if p.severity == "error"] == []
    assert builder.commit(0) == builder.corpus.record(SAMPLES, 0)
    assert list(validate(builder.corpus)) == []


_LIMITED = """
import resource, signal, sys
from schemas.corpus import Corpus
from tests.small_corpora import Builder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
Builder(Corpus.open(sys.argv[1])).commit(0)
"""


@pytest.mark.parametrize("limit", [100, 5000, 3 * SAMPLE_BYTES])
def test_a_full_disk_publishes_nothing(builder: Builder, limit: int) -> None:
    """A limit on file sizes stands in for the disk: the spool, or later the tar, cannot be written to its end."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(builder.root), str(limit)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert_nothing_published(builder)


_UNPRIVILEGED = """
import os, sys
from schemas.corpus import Corpus, Manifest
from tests.small_corpora import Builder
corpus = Corpus.open(sys.argv[1])
os.setuid(65534) if os.getuid() == 0 else None
Builder(corpus).commit(0)
"""


def test_a_folder_one_may_not_write_to_is_named(builder: Builder) -> None:
    for folder in (builder.root, *builder.root.rglob("*")):
        folder.chmod(0o555 if folder.is_dir() else 0o444)
    done = subprocess.run(
        [sys.executable, "-c", _UNPRIVILEGED, str(builder.root)], capture_output=True, text=True, check=False
    )
    for folder in (builder.root, *builder.root.rglob("*")):
        folder.chmod(0o755)
    assert done.returncode == 1
    assert f"Permission denied: '{builder.root}/run/scratch" in done.stderr
    assert_nothing_published(builder)


def test_media_are_given_for_each_member(builder: Builder) -> None:
    with builder.writer(0) as writer, pytest.raises(CorpusError, match="names 1 media members, but was given 0"):
        writer.write(builder.sample(make_key(0, 0))[0], [], row=0)


def test_samples_larger_than_a_read_are_copied_whole(builder: Builder) -> None:
    sample = Sample(make_key(0, 0), builder.sample(make_key(0, 0))[0].source, (TextSegment("x" * 3_000_000),))
    with builder.writer(0) as writer:
        writer.write(sample, [], row=0)
        record = writer.commit([_row_reject(n) for n in (1, 2, 3)], rows=4, images_asked=0, run=RUN)
    index = Index.parse((builder.root / record.content.parts[0].index.name).read_bytes(), name="index")
    assert index.row(0).text_chars == record.content.counts.text_chars == 3_000_000
    assert list(validate(builder.corpus)) == []
