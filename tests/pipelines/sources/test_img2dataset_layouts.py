"""Outputs of img2dataset in its three layouts become corpora: same pictures byte for byte, every row a sample or a reject."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.arguments import load_pipeline
from pipelines.pipeline import Draft, Pipeline
from pipelines.run import RunResult
from pipelines.sources.img2dataset import Img2dataset
from pipelines.worker import RunSettings
from schemas.corpus import Corpus
from schemas.errors import UserError
from schemas.rejects import read_rejects
from schemas.sample import TextSegment
from schemas.shard_reader import CorpusReader, StoredSample
from schemas.validate import validate
from tests.img2dataset_outputs import FAILURES, LAYOUTS, Row, members, picture, rows, tar, tar_of, write
from tests.small_runs import build, contents

REASONS = ("http.404", "dns", "decode.corrupt", "connect")


def importing(*paths: Path, overrides: tuple[str, ...] = ()) -> Pipeline:
    return load_pipeline("import", inputs=[str(path) for path in paths], overrides=overrides)


def imported(corpus: Path, *paths: Path, overrides: tuple[str, ...] = (), workers: int = 0) -> RunResult:
    run_settings = RunSettings(workers=workers, units_per_worker=1)
    result = build(importing(*paths, overrides=overrides), corpus, run_settings)
    assert result.pending == 0, result.failures
    assert list(validate(Corpus.open(str(corpus)))) == []
    return result


def samples(corpus: Path) -> list[StoredSample]:
    return list(CorpusReader(Corpus.open(str(corpus))))


def rejects(corpus: Path, level: str = "row") -> list[tuple[str, str, str | None]]:
    opened = Corpus.open(str(corpus))
    files = [record.content.rejects for record in opened.records() if record.content.rejects]
    found = [row for f in files for row in read_rejects(opened.storage.read(f.name), name=f.name).to_pylist()]
    return [(row["reason"], row["detail"], row["url"]) for row in found if row["level"] == level]


@pytest.fixture
def two_shards(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, list[Row]]:
    layout, ending = request.param
    made = [rows(0, 13, ending=ending), rows(1, 9, ending=ending)]
    for shard, of_it in enumerate(made):
        write(tmp_path / "out", layout, shard, of_it, ending=ending)
    return tmp_path / "out", made[0] + made[1]


every_layout = pytest.mark.parametrize(
    "two_shards", [(layout, "jpg") for layout in LAYOUTS] + [("webdataset", "png"), ("parquet", "webp")], indirect=True
)


@every_layout
def test_rows_are_samples_and_rejects_with_everything_kept(two_shards: tuple[Path, list[Row]], tmp_path: Path) -> None:
    output, made = two_shards
    totals = imported(tmp_path / "corpus", output).totals.counts
    kept = [row for row in made if row.picture is not None]
    assert (totals.rows, totals.samples, totals.rejected_rows) == (22, len(kept), 22 - len(kept))
    assert (totals.images_asked, totals.images, totals.rejected_images) == (22, len(kept), 22 - len(kept))
    found = samples(tmp_path / "corpus")
    assert [stored.sample.source.id for stored in found] == [row.key for row in kept]
    for stored, row in zip(found, kept, strict=True):
        [(name, data)] = stored.media.items()
        image = stored.sample.images[0]
        assert data == row.picture
        assert (image.url, image.sha256_original) == (row.facts["url"], row.facts["sha256"])
        assert (image.width, image.height, image.phash) == (row.facts["width"], row.facts["height"], None)
        assert image.original is not None
        assert (image.original.width, image.original.height) == (image.width, image.height)
        assert (image.original.format, image.original.bytes) == ({"jpg": "jpeg"}.get(name[2:], name[2:]), len(data))
        texts = [segment.text for segment in stored.sample.segments if isinstance(segment, TextSegment)]
        assert texts == ([row.facts["caption"]] if row.facts["caption"] else [])
        assert stored.sample.attributes == {
            "similarity": row.facts["similarity"],
            "hash": str(row.facts["hash"]),
            "flagged": row.facts["flagged"],
            "original_width": 800,
            "original_height": 600,
            "exif": row.facts["exif"],
        }
    failed = [row for row in made if row.picture is None]
    assert rejects(tmp_path / "corpus") == rejects(tmp_path / "corpus", "image")
    assert rejects(tmp_path / "corpus") == [
        (REASONS[FAILURES.index((row.facts["status"], row.facts["error_message"]))], "img2dataset", row.facts["url"])
        for row in failed
    ]


def test_layouts_and_numbers_of_workers_make_no_difference(tmp_path: Path) -> None:
    made = {shard: rows(shard, 10) for shard in range(3)}
    digests = []
    for layout in LAYOUTS:
        for shard, of_it in made.items():
            write(tmp_path / layout, layout, shard, of_it)
        imported(tmp_path / f"{layout}-0", tmp_path / layout)
        digests.append([stored.sample.to_json() for stored in samples(tmp_path / f"{layout}-0")])
    as_tar = [json.loads(sample) | {"source": None} for sample in digests[0]]
    for others in digests[1:]:
        assert [json.loads(sample) | {"source": None} for sample in others] == as_tar
    imported(tmp_path / "webdataset-2", tmp_path / "webdataset", workers=2)
    assert contents(tmp_path / "webdataset-2") == contents(tmp_path / "webdataset-0")


def test_a_tar_without_its_table_is_its_samples(tmp_path: Path) -> None:
    made = rows(0, 9)
    write(tmp_path / "out", "webdataset", 0, made)
    imported(tmp_path / "with", tmp_path / "out")
    (tmp_path / "out" / "00000.parquet").unlink()
    result = imported(tmp_path / "without", tmp_path / "out")
    assert result.totals.counts.rejected_rows == 0

    def told(corpus: str) -> list[dict[str, Any]]:
        return [json.loads(s.sample.to_json()) | {"key": 0, "source": 0} for s in samples(tmp_path / corpus)]

    assert told("without") == told("with")


@pytest.mark.parametrize("with_table", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.55, 0.9])
def test_a_truncated_tar_loses_nothing_before_the_break_and_tells_the_rest(
    tmp_path: Path, share: float, with_table: bool
) -> None:
    made = rows(0, 12)
    write(tmp_path / "out", "webdataset", 0, made)
    tar_file = tmp_path / "out" / "00000.tar"
    tar_file.write_bytes(tar_file.read_bytes()[: int(share * tar_file.stat().st_size)])
    if not with_table:
        (tmp_path / "out" / "00000.parquet").unlink()
    result = imported(tmp_path / "corpus", tmp_path / "out")
    found = samples(tmp_path / "corpus")
    kept = [row for row in made if row.picture is not None]
    assert [next(iter(s.media.values())) for s in found] == [row.picture for row in kept[: len(found)]]
    lost = [r for r in rejects(tmp_path / "corpus") if r[0] == "source.malformed"]
    assert {detail for _, detail, _ in lost} <= {"tar.truncated", "tar.no_end"}
    assert len(lost) == (len(kept) - len(found) if with_table else 1)
    assert result.totals.counts.rows == (12 if with_table else len(found) + 1)
    if with_table:
        assert all(url for _, _, url in lost)


@pytest.fixture(scope="module")
def output_to_cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cut")
    write(folder, "webdataset", 0, rows(0, 12))
    return folder


CUT = tar_of(rows(0, 12))


@given(cut=st.integers(0, len(CUT) // 512).flatmap(lambda block: st.integers(-1, 1).map(lambda by: 512 * block + by)))
@settings(max_examples=150, deadline=None)
def test_wherever_a_tar_is_cut_every_row_of_its_table_is_one_sample_or_one_reject(
    output_to_cut: Path, cut: int
) -> None:
    (output_to_cut / "00000.tar").write_bytes(CUT[: max(0, cut)])
    source = Img2dataset((str(output_to_cut),))
    unit = source.units(first_ordinal=0, planned=[])[0]
    made = rows(0, 12)
    parsed = [source.parse(r, key="k", origin_row=n, unit=unit) for n, r in enumerate(source.rows(unit))]
    assert len(parsed) == unit.rows == len(made)
    is_over = False
    for row, draft in zip(made, parsed, strict=True):
        assert isinstance(draft, Draft)
        assert [image.url for image in draft.images] == [row.facts["url"]]
        if row.picture is None:
            assert draft.refusal is not None
            assert draft.refusal.reason in REASONS
            continue
        is_over = is_over or draft.refusal is not None
        if is_over:
            assert draft.refusal is not None
            assert draft.refusal.detail in ("tar.truncated", "tar.no_end")
        else:
            assert draft.images[0].payload == row.picture


def test_foreign_keys_may_repeat_within_and_across_shards(tmp_path: Path) -> None:
    write(tmp_path / "a", "webdataset", 0, rows(0, 5))
    write(tmp_path / "b", "webdataset", 1, rows(0, 5))
    write(tmp_path / "c", "webdataset", 7, [*rows(0, 3), *rows(0, 3)])
    result = imported(tmp_path / "corpus", tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert result.totals.counts.samples == 4 + 4 + 6
    keys = [s.sample.key for s in samples(tmp_path / "corpus")]
    assert len(set(keys)) == len(keys)
    assert [s.sample.source.id for s in samples(tmp_path / "corpus")][-6:] == [r.key for r in rows(0, 3)] * 2


def test_a_tar_in_another_order_than_its_table_is_joined_by_key(tmp_path: Path) -> None:
    made = rows(0, 12)
    write(tmp_path / "out", "webdataset", 0, made)
    (tmp_path / "out" / "00000.tar").write_bytes(tar_of(made[::-1]))
    imported(tmp_path / "corpus", tmp_path / "out")
    kept = [row for row in made if row.picture is not None]
    assert [s.sample.source.id for s in samples(tmp_path / "corpus")] == [row.key for row in kept]
    assert [next(iter(s.media.values())) for s in samples(tmp_path / "corpus")] == [row.picture for row in kept]


def test_rows_that_img2dataset_lost_are_counted_and_what_it_wrote_of_them_is_found(tmp_path: Path) -> None:
    made = rows(0, 9)
    write(tmp_path / "out", "webdataset", 0, made[:6])
    (tmp_path / "out" / "00000.tar").write_bytes(tar_of(made[:7]))  # the seventh is in the tar alone
    (tmp_path / "out" / "00000_stats.json").write_text(json.dumps({"count": 9}))
    result = imported(tmp_path / "corpus", tmp_path / "out")
    assert result.totals.counts.rows == 9
    assert [s.sample.source.id for s in samples(tmp_path / "corpus")] == [r.key for r in made[:7] if r.picture]
    assert [r[:2] for r in rejects(tmp_path / "corpus")[1:]] == [("source.malformed", "img2dataset.lost")] * 2


def test_pictures_that_no_row_names_stop_the_unit_with_a_way_out(tmp_path: Path) -> None:
    made = rows(0, 9)
    write(tmp_path / "out", "webdataset", 0, made)
    (tmp_path / "out" / "00000.tar").write_bytes(tar_of([*made, *rows(3, 2)]))
    result = build(importing(tmp_path / "out"), tmp_path / "corpus", RunSettings(workers=0))
    assert result.pending == 1
    assert "holds samples that 00000.parquet does not name, such as '000030000'" in result.failures[0].cause
    assert "move the table away" in result.failures[0].cause


HOSTILE = [
    ("../../escape.jpg", picture(1)),
    ("../../escape.txt", b"up and away"),
    ("x.pkl", b"cos\nsystem\n(S'touch pwned'\ntR."),
    ("x.jpg", picture(2)),
    ("y.mp4", picture(3)),
    ("y.json", b'{"caption": "called a film", "deep": {"a": [1, NaN]}, "big": 123456789012345678901}'),
    ("z.jpg", b"<html>"),
    ("t.txt", b"text alone"),
    ("j.jpg", picture(4)),
    ("j.json", b"[" * 100_000),
    ("e.jpg", picture(5)),
    ("e.txt", b"\xff\xfe"),
    ("g.jpg", b"GIF89a" + bytes(40)),
    ("h.jpg", picture(8)),
    ("h.json", b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}"),
    ("k.jpg", picture(6)),
    ("k.txt", b""),
    ("n\udce9.png".encode("utf-8", "surrogateescape").decode("latin-1"), picture(7, "png")),
]


def test_hostile_and_odd_members_are_harmless_and_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "odd.tar").write_bytes(tar(HOSTILE))
    monkeypatch.chdir(tmp_path)
    before = {p for p in tmp_path.parent.rglob("*") if "corpus" not in p.parts}
    imported(tmp_path / "corpus", tmp_path / "in")
    assert {p for p in tmp_path.parent.rglob("*") if "corpus" not in p.parts} == before
    found = {s.sample.source.id: s for s in samples(tmp_path / "corpus")}
    assert list(found)[:4] == ["../../escape", "x", "y", "k"]
    assert found["x"].sample.attributes == {"left_out": ["pkl"]}
    assert found["y"].media == {"0.jpg": picture(3)}
    assert found["y"].sample.attributes == {"deep": '{"a":[1,null]}', "big": "123456789012345678901"}
    assert [r[:2] for r in rejects(tmp_path / "corpus")] == [
        ("decode.unsupported", "markup"),
        ("source.malformed", "no_picture"),
        ("source.malformed", "json"),
        ("source.malformed", "txt.encoding"),
        ("decode.unsupported", "gif"),
        ("source.malformed", "json.depth"),
    ]


def test_sizes_are_bounded_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.tar").write_bytes(tar([("a.jpg", picture(1)), ("b.jpg", picture(2, side=400))]))
    bound = f"source.max_picture_bytes={len(picture(1))}"
    imported(tmp_path / "corpus", tmp_path / "in", overrides=(bound,))
    assert [s.sample.source.id for s in samples(tmp_path / "corpus")] == ["a"]
    assert [r[:2] for r in rejects(tmp_path / "corpus")] == [("body.too_large", "picture")]
    imported(tmp_path / "pixels", tmp_path / "in", overrides=("source.max_pixels=100000",))
    assert [r[:2] for r in rejects(tmp_path / "pixels")] == [("decode.bomb", "pixels>100000")]


def test_files_that_are_gone_are_rejects_and_a_folder_alone_is_enough(tmp_path: Path) -> None:
    made = rows(0, 6)
    write(tmp_path / "out", "files", 0, made)
    (tmp_path / "out" / "00000" / f"{made[2].key}.jpg").unlink()
    (tmp_path / "out" / "00000" / f"{made[4].key}.jpg").unlink()
    (tmp_path / "out" / "00000" / f"{made[4].key}.json").unlink()
    (tmp_path / "out" / "00000" / f"{made[4].key}.txt").unlink()
    imported(tmp_path / "corpus", tmp_path / "out")
    assert [r[:2] for r in rejects(tmp_path / "corpus")] == [
        ("source.malformed", "no_picture"),
        ("http.404", "img2dataset"),
        ("source.malformed", "file.missing"),
    ]
    (tmp_path / "out" / "00000.parquet").rename(tmp_path / "kept.parquet")
    alone = imported(tmp_path / "alone", tmp_path / "out" / "00000")
    assert (alone.totals.counts.samples, alone.totals.counts.rejected_rows) == (3, 1)


def test_tables_of_hugging_face_and_of_several_pictures(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    one, two = picture(1), picture(2, "webp")
    held = [{"bytes": one, "path": "1.jpg"}, {"bytes": None, "path": "gone.jpg"}, None]
    pq.write_table(pa.table({"image": held, "text": ["a", "b", "c"]}), tmp_path / "in" / "a.parquet")
    lists = [[one, two], [one, None], []]
    pq.write_table(pa.table({"pixels": lists, "text": ["d", "e", "f"]}), tmp_path / "in" / "b.parquet")
    result = imported(tmp_path / "corpus", tmp_path / "in", overrides=("source.pictures=[image, pixels]",))
    assert [list(s.media.items()) for s in samples(tmp_path / "corpus")] == [
        [("0.jpg", one)],
        [("0.jpg", one), ("1.webp", two)],
    ]
    assert [r[:2] for r in rejects(tmp_path / "corpus")] == [("source.malformed", "no_picture")] * 4
    assert result.totals.counts.images_asked == 3 + 4


def test_steps_behind_an_import_filter_clean_hash_and_encode(tmp_path: Path) -> None:
    write(tmp_path / "out", "webdataset", 0, rows(0, 12))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "name: mine\nsource: {kind: img2dataset, keep: {similarity: float}}\n"
        "steps:\n  - min_similarity: {cosine: 0.26}\n  - min_side: {pixels: 40}\n  - max_aspect: {ratio: 1.05}\n  - hash_image\n"
    )
    pipeline = load_pipeline(str(recipe), inputs=[str(tmp_path / "out")])
    result = build(pipeline, tmp_path / "corpus", RunSettings(workers=0))
    assert result.pending == 0, result.failures
    assert list(validate(Corpus.open(str(tmp_path / "corpus")))) == []
    reasons = result.totals.reasons["row"]
    assert reasons["filter.similarity"] == 1
    assert reasons["filter.aspect"] > 0
    found = samples(tmp_path / "corpus")
    pictures = {row.picture for row in rows(0, 12)}
    assert found
    assert all(s.sample.images[0].phash and next(iter(s.media.values())) in pictures for s in found)
    encoded = load_pipeline(str(recipe), inputs=[str(tmp_path / "out")], overrides=("hash_image=null",))
    recipe.write_text(recipe.read_text().replace("hash_image", "encode_image: {side_pixels: 16, format: webp}"))
    encoded = load_pipeline(str(recipe), inputs=[str(tmp_path / "out")])
    assert build(encoded, tmp_path / "small", RunSettings(workers=0)).pending == 0
    assert {name for s in samples(tmp_path / "small") for name in s.media} == {"0.webp"}


def test_a_corpus_grows_by_more_shards_and_refuses_changed_ones(tmp_path: Path) -> None:
    write(tmp_path / "out", "webdataset", 0, rows(0, 5))
    imported(tmp_path / "corpus", tmp_path / "out")
    write(tmp_path / "out", "files", 1, rows(1, 5))
    assert imported(tmp_path / "corpus", tmp_path / "out").totals.counts.rows == 10
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert imported(tmp_path / "corpus", moved).totals.counts.rows == 10
    write(moved, "webdataset", 0, rows(0, 6))
    moved.rename(tmp_path / "out")
    with pytest.raises(UserError, match=r"00000\.tar has changed since it was planned"):
        imported(tmp_path / "corpus", tmp_path / "out")


def test_what_belongs_to_no_picture_is_refused_with_the_next_step(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"url": ["http://a.example/"], "key": ["1"]}), tmp_path / "in" / "00000.parquet")
    with pytest.raises(UserError, match=r"neither 00000\.tar nor a folder 00000 stands beside it.*use emu build"):
        imported(tmp_path / "corpus", tmp_path / "in")
    (tmp_path / "in" / "00000.tar").write_bytes(tar([("1.jpg", picture(1))]))
    pq.write_table(pa.table({"url": ["http://a.example/"]}), tmp_path / "in" / "00000.parquet")
    with pytest.raises(UserError, match=r"has no column 'key'.*move it away"):
        imported(tmp_path / "corpus", tmp_path / "in")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no file there that ends in \.tar or \.parquet"):
        imported(tmp_path / "corpus", tmp_path / "empty")


def test_columns_are_checked_before_any_work(tmp_path: Path) -> None:
    write(tmp_path / "out", "webdataset", 0, rows(0, 5))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("name: m\nsource: {kind: img2dataset, keep: {punsafe: float}}\nsteps: [max_unsafe]\n")
    with pytest.raises(
        UserError, match=r"00000\.tar: column 'punsafe' is missing in its metadata; the step `max_unsafe`"
    ):
        load_pipeline(str(recipe), inputs=[str(tmp_path / "out")]).check()
    with pytest.raises(UserError, match=r"column 'flagged' holds bool, expected float"):
        importing(tmp_path / "out", overrides=("source.keep={flagged: float}",)).check()


def test_nothing_is_written_beside_the_input(tmp_path: Path) -> None:
    write(tmp_path / "out", "files", 0, rows(0, 5))
    before = {p: hashlib.sha256(p.read_bytes()).digest() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    imported(tmp_path / "corpus", tmp_path / "out")
    assert {p: hashlib.sha256(p.read_bytes()).digest() for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    assert members(rows(0, 4)[3]) == {}
