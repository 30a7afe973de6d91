"""`emu inspect` on what others made: WebDataset tars of any hand, damaged ones, and img2dataset's three layouts."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from PIL import Image

from tests.emu_process import emu_here
from tests.jobs.foreign_targets import FAILURES, jpeg, row_of, write_img2dataset, write_tar

LAYOUTS = ("webdataset", "files", "parquet")


def told(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    run = emu_here(capsys, "inspect", *arguments, "--json")
    assert run.returncode == code, run.stderr
    return json.loads(run.stdout)


def test_tars_of_clip_retrieval(shared_fixtures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tars = sorted((shared_fixtures / "laion").glob("*.tar"))
    assert len(tars) == 3
    for path in tars:
        with tarfile.open(path) as tar:
            sizes = [Image.open(io.BytesIO(tar.extractfile(member).read())).size for member in tar.getmembers()]
        whole = told(capsys, path)
        assert whole["looked_at"]["samples"] == len(sizes)
        assert whole["members"] == {"jpg": len(sizes)}
        shorter = {made["from"]: made["count"] for made in whole["distributions"]["shorter_side"]["bins"]}
        assert shorter == {min(size): [min(s) for s in sizes].count(min(size)) for size in sizes}
        assert told(capsys, path, whole["first_key"])["sample"]["images"][0]["member"] == "jpg"


def test_files_of_video2dataset_in_a_tar(
    shared_fixtures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = sorted((shared_fixtures / "laion").glob("video2dataset_laion_*"))
    assert len(files) == 9
    path = write_tar(tmp_path / "v.tar", ((file.name.split("_")[-1], file.read_bytes()) for file in files))
    whole = told(capsys, path)
    assert whole["members"] == {"jpg": 3, "txt": 3, "json": 3}
    assert {field["field"] for field in whole["schema"]} >= {"url", "status"}
    text = next(file for file in files if file.suffix == ".txt").read_text()
    assert text.strip() in emu_here(capsys, "inspect", path, whole["first_key"]).stdout


def test_keys_and_members_are_those_that_webdataset_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = [
        ("a/b.c/one.jpg", jpeg()),
        ("a/b.c/one.seg.png", jpeg()),
        ("a/b.c/one.JSON", b'{"caption": "hi", "width": "no"}'),
        ("two.cls", b"7"),
        ("two.txt", b"caption"),
        ("one.jpg", jpeg(10, 20)),
        ("README", b"no key"),
    ]
    path = write_tar(tmp_path / "x.tar", members)
    expected = {
        s["__key__"]: {n for n in s if n[0] != "_"} for s in webdataset.WebDataset(str(path), shardshuffle=False)
    }
    assert set(expected) == {"a/b.c/one", "two", "one"}
    for key, names in expected.items():
        found = told(capsys, path, key)
        assert (found["sample"]["key"], set(found["member_bytes"])) == (key, names)
    assert "1 members that belong to no key" in emu_here(capsys, "inspect", path).stdout


def test_only_so_many_samples_are_read_unless_all_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_tar(tmp_path / "x.tar", ((f"{n:03d}.txt", b"words") for n in range(40)))
    monkeypatch.setattr("jobs.look.targets.MOST_SAMPLES", 10)
    whole = told(capsys, path)
    assert whole["looked_at"]["samples"] == 10
    assert whole["looked_at"]["words"].startswith("over the first 10 samples (")
    assert told(capsys, path, "--all")["looked_at"] == {"samples": 40, "images": 0, "words": None}


def _inside_header(data: bytes) -> bytes:
    return data[: 4 * 1024 + 100]


def _inside_content(data: bytes) -> bytes:
    return data[: 4 * 1024 + 514]


def _at_a_boundary(data: bytes) -> bytes:
    return data[: 4 * 1024]


def _garbage_header(data: bytes) -> bytes:
    return data[:4096] + b"\x07" * 512 + data[4608:]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_inside_header, "breaks off inside"),
        (_inside_content, "breaks off inside"),
        (_at_a_boundary, "ends without its end mark"),
        (_garbage_header, "no member header stands where one is due"),
    ],
)
def test_a_damaged_tar_gives_what_stands_before(
    damage: Any, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_tar(tmp_path / "x.tar", ((f"{n:03d}.txt", b"words") for n in range(20)))
    path.write_bytes(damage(path.read_bytes()))
    whole = told(capsys, path, code=1)
    assert whole["looked_at"]["samples"] == 4
    assert len(whole["problems"]) == 1
    assert "x.tar: byte 4" in whole["problems"][0]
    assert words in whole["problems"][0]
    printed = emu_here(capsys, "inspect", path)
    assert (printed.returncode, words in printed.stderr) == (1, True)


@pytest.mark.parametrize("content", [b"", b"no tar", b"\x1f\x8b" + b"x" * 600], ids=["empty", "text", "gzip"])
def test_a_file_that_is_no_tar_is_refused(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(content)
    run = emu_here(capsys, "inspect", path)
    assert run.returncode == 2
    assert "not a tar" in run.stderr


def test_members_that_cannot_be_read_are_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tar(
        tmp_path / "x.tar", [("a.json", b"{no"), ("b.json", b"[1]"), ("c.jpg", b"no picture"), ("d.txt", b"x")]
    )
    whole = told(capsys, path, code=1)
    assert whole["looked_at"]["samples"] == 4
    assert [line.partition(";")[0] for line in whole["problems"]] == [
        "x.tar: key a: the JSON member is not JSON",
        "x.tar: key b: the JSON member is no object",
    ]
    assert "size unknown" in emu_here(capsys, "inspect", path, "c").stdout


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_img2dataset_folder_tells_its_ledger(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_img2dataset(tmp_path / "out", layout)
    whole = told(capsys, folder)
    assert (whole["layout"], whole["shards"], whole["rows"], whole["samples"]) == (layout, 2, 32, 24)
    assert whole["reasons"] == dict.fromkeys(FAILURES, 4)
    assert whole["domains"] == [
        {"domain": "example.co.uk", "kept": 16, "lost": 0},
        {"domain": "example.com", "kept": 8, "lost": 8},
    ]
    assert whole["distributions"]["longer_side"]["bins"] == [{"from": 32, "below": 33, "count": 24}]
    assert whole["languages"] == {"de": 16, "en": 8}
    schema = {field["field"]: field for field in whole["schema"]}
    assert schema["url"] == {"field": "url", "declared": "string", "seen": "string", "samples": 24}
    assert schema["width"]["seen"] == "int"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_sample_one_failed_row_and_the_urls(
    layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_img2dataset(tmp_path / "out", layout)
    one = emu_here(capsys, "inspect", folder, "000010002")
    assert one.returncode == 0
    for words in ("Row 2 of shard 1", "32 × 24", "https://good.example.co.uk/1/2.jpg"):
        assert words in one.stdout
    failed = emu_here(capsys, "inspect", folder, "000010003")
    assert failed.stdout.splitlines() == [
        "000010003 is not in the folder:",
        f"  the row: failed_to_download ({FAILURES[0]}) https://www.poor.example.com/1/3.jpg",
    ]
    unknown = emu_here(capsys, "inspect", folder, "7")
    assert (unknown.returncode, "no sample has the key '7'; its first key is '000000000'" in unknown.stderr) == (
        2,
        True,
    )
    rows = [row_of(shard, row) for shard in range(2) for row in range(16)]
    for wanted, keep in {
        "kept": lambda row: row["status"] == "success",
        "rejected": lambda row: row["status"] != "success",
        FAILURES[1]: lambda row: row["error_message"] == FAILURES[1],
    }.items():
        listed = emu_here(capsys, "inspect", folder, "--urls", wanted).stdout.split()
        assert listed == [row["url"] for row in rows if keep(row)]


def test_extract_of_a_foreign_sample_is_its_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    members = {"jpg": jpeg(), "json": b'{ "caption":"hi" }', "seg.png": b"x"}
    path = write_tar(tmp_path / "x.tar", ((f"../up/.k y.{name}", data) for name, data in members.items()))
    path_of = write_tar(tmp_path / "y.tar", ((f"../up/k y.{name}", data) for name, data in members.items()))
    assert told(capsys, path)["looked_at"]["samples"] == 0  # a name that begins with a dot has no key
    assert told(capsys, path_of, "../up/k y", "--extract", tmp_path / "out")["extracted"]
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {
        f"___up_k_y.{name}": data for name, data in members.items()
    }


def test_a_damaged_shard_of_a_folder_is_named_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_img2dataset(tmp_path / "out", "webdataset", shards=3)
    (folder / "00001.tar").write_bytes(b"nothing of a tar")
    (folder / "00002.parquet").write_bytes(b"PAR1")
    (folder / "00000_stats.json").write_text("{}")
    whole = told(capsys, folder, code=1)
    assert whole["looked_at"]["samples"] == 24
    assert sorted(line.partition(":")[0] for line in whole["problems"]) == [
        "00000_stats.json",
        "00001.tar",
        "00002.parquet",
    ]


def test_a_folder_of_tars_alone_is_enough(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in range(3):
        write_tar(tmp_path / f"{shard}.tar", [(f"{shard}.jpg", jpeg()), (f"{shard}.json", b'{"url": "http://a.de/x"}')])
    whole = told(capsys, tmp_path)
    assert (whole["layout"], whole["looked_at"]["samples"], whole["rows"]) == ("webdataset", 3, 0)
    assert whole["domains"] == [{"domain": "a.de", "kept": 3, "lost": 0}]
    assert emu_here(capsys, "inspect", tmp_path, "--urls", "kept").stdout == "http://a.de/x\n" * 3


def test_only_some_shards_of_a_large_folder_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for shard in range(12):
        write_tar(tmp_path / f"{shard:02d}.tar", ((f"{shard:02d}{n}.txt", b"words") for n in range(9)))
    monkeypatch.setattr("jobs.look.targets.MOST_SHARDS", 4)
    monkeypatch.setattr("jobs.look.targets.MOST_SAMPLES", 8)
    looked = told(capsys, tmp_path)["looked_at"]
    assert looked["samples"] == 8
    assert looked["words"] == "over 8 samples, the first of each of 4 of 12 shards; --all reads all"
    assert told(capsys, tmp_path, "--all")["looked_at"]["samples"] == 108


def test_what_cannot_be_shown_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.tfrecord").write_bytes(b"")
    run = emu_here(capsys, "inspect", tmp_path)
    assert run.returncode == 2
    assert "is not a corpus (no corpus.json)" in run.stderr
    assert "tfrecord output cannot be read" in run.stderr
    path = write_tar(tmp_path / "x.tar", [("a.txt", b"x")])
    for option, words in (
        ("--sql=select 1", "make one of this with emu import"),
        ("--urls=rejected", "holds what was kept"),
    ):
        refused = emu_here(capsys, "inspect", path, option)
        assert (refused.returncode, words in refused.stderr) == (2, True)
