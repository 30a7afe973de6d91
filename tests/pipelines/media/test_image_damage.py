"""Whatever is done to a file: a reason or a picture of the size that its header says, and never anything else."""

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.media.image import OutputFormat, RenderSpec, ResizeMode, read_header, render, sniff
from schemas.reasons import Reason, Refused

_SPEC = RenderSpec(
    mode=ResizeMode.KEEP_RATIO,
    side_pixels=48,
    only_if_bigger=True,
    format=OutputFormat.JPEG,
    quality=80,
    max_pixels=4_000_000,
)
_REASONS = {
    Reason.BODY_EMPTY,
    Reason.DECODE_BOMB,
    Reason.DECODE_CORRUPT,
    Reason.DECODE_TRUNCATED,
    Reason.DECODE_UNSUPPORTED,
}


def outcome_of(body: bytes) -> Reason | None:
    """The reason against `body`, or None for a picture, having looked at it."""
    try:
        header = read_header(body, max_pixels=_SPEC.max_pixels)
        rendered = render(body, _SPEC)
    except Refused as refused:
        return refused.refusal.reason
    image = Image.open(io.BytesIO(rendered.payload))
    image.load()
    assert image.size == (rendered.width, rendered.height)
    assert min(rendered.width, rendered.height) == min(48, header.width, header.height)
    assert 0 <= rendered.phash < 1 << 64
    return None


@pytest.fixture(scope="module")
def good_bodies(shared_fixtures: Path) -> list[bytes]:
    """Of the formats that this process decodes; the helper's tests have the others."""
    bodies = [file.read_bytes() for file in sorted((shared_fixtures / "images/good").iterdir())]
    common = [body for body in bodies if sniff(body).is_common and len(body) < 120_000]
    assert len(common) > 50
    assert {outcome_of(body) for body in common} == {None}
    return common


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_cutting_gives_a_reason_or_a_picture(good_bodies: list[bytes], data: st.DataObject) -> None:
    body = good_bodies[data.draw(st.integers(0, len(good_bodies) - 1), "file")]
    outcome = outcome_of(body[: data.draw(st.integers(0, len(body) - 1), "end")])
    assert outcome is None or outcome in _REASONS - {Reason.DECODE_BOMB}


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changing_bytes_gives_a_reason_or_a_picture(good_bodies: list[bytes], data: st.DataObject) -> None:
    body = bytearray(good_bodies[data.draw(st.integers(0, len(good_bodies) - 1), "file")])
    within = data.draw(st.sampled_from([64, 600, len(body)]), "within")
    for _ in range(data.draw(st.integers(1, 4), "changes")):
        at = data.draw(st.integers(0, min(within, len(body)) - 1), "at")
        body[at] = data.draw(st.integers(0, 255), "byte")
    outcome = outcome_of(bytes(body))
    assert outcome is None or outcome in _REASONS


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_moving_pieces_gives_a_reason_or_a_picture(good_bodies: list[bytes], data: st.DataObject) -> None:
    body = good_bodies[data.draw(st.integers(0, len(good_bodies) - 1), "file")]
    one, other, length = (data.draw(st.integers(0, len(body)), name) for name in ("from", "to", "length"))
    piece = body[one : one + length % 2000]
    outcome = outcome_of(body[:other] + piece + body[other + data.draw(st.sampled_from([0, len(piece)]), "over") :])
    assert outcome is None or outcome in _REASONS


@settings(max_examples=300, deadline=None)
@given(
    magic=st.sampled_from(
        [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP", b"RIFF\x40\0\0\0WEBPVP8X"]
    ),
    rest=st.binary(max_size=300),
)
def test_noise_gives_a_reason(magic: bytes, rest: bytes) -> None:
    assert outcome_of(magic + rest) in _REASONS
