"""Tars of others: what the scan finds is what `tarfile` finds; every sample before a break is given, and the break is told."""

import io
import tarfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.foreign_tar import AFTER_END, DAMAGED, NO_END, TRUNCATED, TarScan, split_name, tar_samples
from tests.img2dataset_outputs import rows, tar, tar_of

MADE = rows(0, 9)
WHOLE = tar_of(MADE)
KEPT = [row for row in MADE if row.picture is not None]


def samples(data: bytes) -> list[tuple[str, dict[str, bytes], str]]:
    found = tar_samples(TarScan(io.BytesIO(data)))
    return [(s.key, {e: data[m.offset : m.offset + m.bytes] for e, m in s.members.items()}, s.broken) for s in found]


def witness(data: bytes) -> list[tuple[str, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        return [(m.name, m.offset_data, m.size) for m in opened if m.isreg()]


def ends_of_samples(data: bytes) -> list[int]:
    """Where the content of the last member of every sample ends."""
    found = witness(data)
    return [offset + size for (name, offset, size) in found if name.endswith(".txt")]


@given(
    files=st.lists(
        st.tuples(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=150).filter(
                lambda name: not name.endswith("/")
            ),
            st.binary(max_size=1200),
        ),
        max_size=6,
    ),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
@settings(deadline=None)
def test_the_scan_finds_what_tarfile_finds(files: list[tuple[str, bytes]], format: int) -> None:
    data = tar(files, format=format)
    scan = TarScan(io.BytesIO(data))
    assert [(m.name, m.offset, m.bytes) for m in scan] == [
        (name, offset, size) for (_, offset, size), (name, _) in zip(witness(data), files, strict=True)
    ]
    assert scan.broken == ""


def test_long_prefixes_of_ustar_are_read() -> None:
    name = f"{'folder/' * 20}000.jpg"
    data = tar([(name, b"x")], format=tarfile.USTAR_FORMAT)
    assert [m.name for m in TarScan(io.BytesIO(data))] == [name]


def test_folders_links_and_devices_are_stepped_over() -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as out:
        for kind in (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo("a.jpg")
            info.type, info.linkname = kind, "/etc/passwd"
            out.addfile(info)
        info = tarfile.TarInfo("b.jpg")
        info.size = 1
        out.addfile(info, io.BytesIO(b"x"))
    assert samples(sink.getvalue()) == [("b", {"jpg": b"x"}, "")]


def edges(data: bytes) -> list[int]:
    """Where headers, contents and paddings begin and end, and a byte before and behind each."""
    found = [edge for _, o, s in witness(data) for edge in (o - 1536, o - 1024, o - 512, o, o + s, o + s + -s % 512)]
    return sorted({edge + by for edge in found for by in (-1, 0, 1) if edge + by >= 0})


@example(cut=0)
@given(cut=st.one_of(st.integers(0, len(WHOLE)), st.sampled_from(edges(WHOLE))))
@settings(max_examples=400, deadline=None)
def test_a_cut_tar_gives_every_whole_sample_and_says_that_it_is_cut(cut: int) -> None:
    found = samples(WHOLE[:cut])
    ends = ends_of_samples(WHOLE)
    whole = [s for s in found if not s[2]]
    expected = sum(end <= cut for end in ends)
    # Nothing tells whether the first sample is whole until the second one begins.
    assert len(whole) == expected or (expected == 1 and cut < ends[0] + 3000 and found[0][2])
    assert whole == samples(WHOLE)[: len(whole)]
    end_mark = ends[-1] + -ends[-1] % 512
    broken = [s[2] for s in found if s[2]]
    if cut < end_mark + 512:
        assert broken in ([TRUNCATED], [NO_END])
    else:
        assert broken == []


def test_a_sample_cut_between_its_members_is_not_taken_for_whole() -> None:
    _, offset, size = witness(WHOLE)[-2]
    found = samples(WHOLE[: offset + size + -size % 512])
    assert found[-1][0] == KEPT[-1].key
    assert found[-1][2] == NO_END
    assert len(found) == len(KEPT)


@given(at=st.integers(0, len(WHOLE) - 1), byte=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_damaged_byte_never_raises_and_never_invents_members(at: int, byte: int) -> None:
    data = bytearray(WHOLE)
    data[at] = byte
    scan = TarScan(io.BytesIO(bytes(data)))
    for member in scan:
        assert member.offset + member.bytes <= len(data)


def test_damage_ends_the_tar_and_is_told() -> None:
    header = witness(WHOLE)[6][1] - 512
    data = WHOLE[:header] + b"\xff" * 512 + WHOLE[header + 512 :]
    assert samples(data)[-1][2] == DAMAGED
    assert [s[0] for s in samples(data)] == [KEPT[0].key, KEPT[1].key, ""]


def test_a_second_tar_behind_the_first_is_told() -> None:
    found = samples(WHOLE + WHOLE)
    assert [s[0] for s in found] == [*[row.key for row in KEPT], ""]
    assert found[-1][2] == AFTER_END


def test_a_key_that_comes_again_is_another_sample_and_is_never_merged() -> None:
    files = [("a.jpg", b"1"), ("a.txt", b"one"), ("b.jpg", b"2"), ("a.jpg", b"3"), ("a.jpg", b"4"), ("a.txt", b"four")]
    assert samples(tar(files)) == [
        ("a", {"jpg": b"1", "txt": b"one"}, ""),
        ("b", {"jpg": b"2"}, ""),
        ("a", {"jpg": b"3"}, ""),
        ("a", {"jpg": b"4", "txt": b"four"}, ""),
    ]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("000.jpg", ("000", "jpg")),
        ("./a/b.c.JPG", ("a/b", "c.jpg")),
        ("../../etc/passwd.jpg", ("../../etc/passwd", "jpg")),
        ("/etc/x.jpg", ("/etc/x", "jpg")),
        ("a.b/c", None),
        ("._000.jpg", None),
        ("README", None),
        ("a.", None),
        ("", None),
    ],
)
def test_names_are_split_as_webdataset_splits_them(name: str, expected: tuple[str, str] | None) -> None:
    assert split_name(name) == expected


def test_what_headers_claim_is_held_against_the_file() -> None:
    info = tarfile.TarInfo("a.jpg")
    info.size = 1 << 40
    assert samples(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)) == [("a", {}, TRUNCATED)]
    long_name = tarfile.TarInfo("x")
    long_name.size, long_name.type = 1 << 33, tarfile.XHDTYPE
    assert samples(long_name.tobuf(tarfile.GNU_FORMAT) + bytes(1024)) == [("", {}, DAMAGED)]


@pytest.mark.parametrize("data", [b"", b"no tar at all", bytes(100), b"\xff" * 2000])
def test_what_is_no_tar_says_so(data: bytes) -> None:
    found = samples(data)
    assert len(found) == 1
    assert found[0][2]
