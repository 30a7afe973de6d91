"""Content codings: the same body however it was cut into packets, and never more than a block at a time."""

import gzip
import itertools
import zlib
from collections.abc import Callable

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.fetch.codings import BLOCK_BYTES, Decoder
from schemas.reasons import Reason, Refused


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    "identity": lambda data: data,
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    "deflate ": raw_deflate,
    "br": brotli.compress,
    "gzip, br": lambda data: brotli.compress(gzip.compress(data)),
    "br, gzip": lambda data: gzip.compress(brotli.compress(data)),
}


def decode(coding: str, data: bytes, *, cuts: list[int] | None = None) -> bytes:
    decoder = Decoder(coding)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts or []), len(data)]
    found = b"".join(block for start, end in itertools.pairwise(places) for block in decoder.feed(data[start:end]))
    decoder.finish()
    return found


@pytest.mark.parametrize("coding", ENCODERS)
@given(data=st.binary(min_size=1, max_size=3_000), cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_what_was_encoded_comes_back_however_it_is_cut(coding: str, data: bytes, cuts: list[int]) -> None:
    assert decode(coding, ENCODERS[coding](data), cuts=cuts) == data


@pytest.mark.parametrize("coding", ENCODERS)
@pytest.mark.parametrize("size", [BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES, 1_000_003])
def test_large_and_well_packed_bodies_come_back(coding: str, size: int) -> None:
    data = bytes(size)
    assert decode(coding, ENCODERS[coding](data)) == data


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, br"])
def test_blocks_are_bounded(coding: str) -> None:
    sizes = [len(block) for block in Decoder(coding).feed(ENCODERS[coding](bytes(20_000_000)))]
    assert sum(sizes) == 20_000_000
    # brotli ends a block at the end of its own buffer
    assert max(sizes) <= 2 * BLOCK_BYTES


@pytest.mark.parametrize("coding", ["gzip", "deflate", "deflate ", "br", "br, gzip"])
def test_truncated_and_corrupt_bodies_are_refused(coding: str) -> None:
    packed = ENCODERS[coding](bytes(range(256)) * 50)
    for broken in (packed[: len(packed) // 2], packed[:1], b"\xff" * 100):
        with pytest.raises(Refused) as caught:
            decode(coding, broken)
        assert caught.value.refusal.reason is Reason.BODY_ENCODING


def test_what_follows_a_compressed_stream() -> None:
    one, two = gzip.compress(b"one"), gzip.compress(b"two")
    for cuts in ([], [len(one)], [len(one) + 1], [len(one) - 4]):
        assert decode("gzip", one + two, cuts=cuts) == b"onetwo"
        assert decode("gzip", one + bytes(100), cuts=cuts) == b"one"
        assert decode("deflate", zlib.compress(b"one") + b"junk", cuts=cuts) == b"one"
    packed = brotli.compress(b"one")
    for cuts in ([], [len(packed)]):
        with pytest.raises(Refused):
            decode("br", packed + b"junk", cuts=cuts)


@pytest.mark.parametrize(
    ("coding", "detail"), [("zstd", "unknown"), ("compress", "unknown"), ("gzip, gzip, gzip", "too_many")]
)
def test_codings_that_are_not_undone(coding: str, detail: str) -> None:
    with pytest.raises(Refused) as caught:
        Decoder(coding)
    assert (caught.value.refusal.reason, caught.value.refusal.detail) == (Reason.BODY_ENCODING, detail)
