"""Tar headers are those that Python's own tarfile writes, byte for byte."""

import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tar import header


@given(
    name=st.from_regex(r"[0-9]{8}-[0-9]{6,12}\.[a-zé0-9.-]{1,60}", fullmatch=True), size=st.integers(0, (8 << 30) - 1)
)
def test_headers_are_those_of_tarfile(name: str, size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size

    assert header(name, size) == info.tobuf(format=tarfile.USTAR_FORMAT, encoding="utf-8")


def test_what_no_header_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 100 bytes"):
        header("a" * 101, 1)
    with pytest.raises(ValueError, match="less than 8 GiB"):
        header("a", 8 << 30)
    assert len(header("a" * 100, (8 << 30) - 1)) == 512
