"""Fetch, probe, encode: what each leaves in the draft, and that a refused image leaves its row, not the unit."""

import hashlib

import pytest

from pipelines.fetch.policy import FetchPolicy
from pipelines.media.image import OutputFormat, RenderSpec, ResizeMode
from pipelines.pipeline import describe
from pipelines.steps.images import EncodeImage, Fetch, ProbeImage
from schemas.reasons import Reason, Refusal
from schemas.sample import ImageSegment, Original, TextSegment

DEAD = Refusal(Reason.HTTP_404)


def test_fetch_leaves_the_bytes_and_their_hash(pair, work, apply):
    work.bodies = {"http://a.example/0": b"bytes"}
    [image] = apply(Fetch(), pair(), work).images
    assert (image.body, image.sha256_original) == (b"bytes", hashlib.sha256(b"bytes").hexdigest())


def test_fetch_asks_for_all_images_at_once_and_loses_only_the_dead(document, work, apply):
    work.bodies = {"http://a.example/0": b"0", "http://a.example/1": DEAD, "http://a.example/2": b"2"}
    result = apply(Fetch(), document(None, None, None), work)
    assert [(image.ordinal, image.body) for image in result.images] == [(0, b"0"), (2, b"2")]
    assert ImageSegment(1) not in result.segments
    assert TextSegment("sentence 1") in result.segments
    assert work.lost == [(1, DEAD)]
    assert work.most_at_once == 3


def test_a_row_without_a_living_image_falls_for_the_reason_of_the_first(document, work, apply):
    gone = Refusal(Reason.HTTP_410)
    work.bodies = {"http://a.example/0": gone, "http://a.example/1": DEAD}
    assert apply(Fetch(), document(None, None), work) == gone
    assert work.lost == [(0, gone), (1, DEAD)]


def test_the_policy_is_content_and_the_contact_is_not():
    described = describe(Fetch(contact="mailto:me@a.example", policy=FetchPolicy(allowed_networks=("10.0.0.0/8",))))
    assert "contact" not in described
    assert described["policy"]["allowed_networks"] == ["10.0.0.0/8"]
    assert described["policy"]["respect_robots"] is True
    assert describe(Fetch(contact="mailto:me@a.example")) == describe(Fetch(contact="https://b.example"))


def test_probe_leaves_the_true_size(pair, work, apply):
    work.bodies, work.sizes = {"http://a.example/0": b"bytes"}, {b"bytes": (300, 200)}
    fetched = apply(Fetch(), pair(), work)
    [image] = apply(ProbeImage(max_pixels=1234), fetched, work).images
    assert image.original == Original(width=300, height=200, format="png", bytes=5)
    assert (image.body, work.max_pixels) == (b"bytes", [1234])


def test_what_is_no_picture_leaves_the_row(document, work, apply):
    page = Refusal(Reason.DECODE_UNSUPPORTED, "markup")
    work.bodies = {"http://a.example/0": b"<html>", "http://a.example/1": b"1"}
    work.sizes = {b"<html>": page, b"1": (9, 9)}
    result = apply(ProbeImage(), apply(Fetch(), document(None, None), work), work)
    assert [image.ordinal for image in result.images] == [1]
    assert work.lost == [(0, page)]


def test_encode_leaves_the_picture_and_lets_go_of_the_bytes(document, work, apply):
    crash = Refusal(Reason.DECODE_TRUNCATED)
    work.bodies = {"http://a.example/0": b"zero", "http://a.example/1": b"1"}
    work.sizes, work.renders = {b"zero": (900, 600), b"1": (9, 9)}, {b"1": crash}
    probed = apply(ProbeImage(), apply(Fetch(), document(None, None), work), work)
    step = EncodeImage(side_pixels=100, mode=ResizeMode.BORDER, format=OutputFormat.WEBP, quality=80, max_pixels=20_000)
    [image] = apply(step, probed, work).images
    assert (image.payload, image.extension, image.width, image.height, image.phash) == (
        b"picture of zero",
        "webp",
        40,
        30,
        4,
    )
    assert image.body is None
    assert image.original == Original(900, 600, "png", 4)
    assert work.lost == [(1, crash)]
    assert work.specs[0] == RenderSpec(
        mode=ResizeMode.BORDER,
        side_pixels=100,
        only_if_bigger=True,
        format=OutputFormat.WEBP,
        quality=80,
        max_pixels=900 * 600,  # what was let through is not refused for its own size
    )
    assert work.specs[1].max_pixels == 20_000  # and a small one may not grow beyond the cap


@pytest.mark.parametrize(("kind", "extension"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_members_have_the_usual_extension(kind, extension, pair, work, apply):
    work.bodies, work.sizes = {"http://a.example/0": b"bytes"}, {b"bytes": (300, 200)}
    draft = apply(ProbeImage(), apply(Fetch(), pair(), work), work)
    sample, media = apply(EncodeImage(format=OutputFormat(kind)), draft, work).to_sample()
    assert sample.images[0].member == f"0.{extension}"
    assert media == [b"picture of bytes"]


@pytest.mark.parametrize("step", [ProbeImage(), EncodeImage()])
def test_a_recipe_that_forgot_to_fetch_is_told_so(step, pair, work, apply):
    with pytest.raises(ValueError, match="needs the bytes of an image: put Fetch before it"):
        apply(step, pair(), work)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProbeImage(max_pixels=0), "max_pixels: found 0, expected a whole number from 1 to"),
        (lambda: EncodeImage(side_pixels=0), "side_pixels: found 0"),
        (lambda: EncodeImage(side_pixels=65_501), "side_pixels: found 65501"),
        (lambda: EncodeImage(quality=101), "quality: found 101, expected a whole number from 1 to 100"),
        (lambda: EncodeImage(max_pixels=1 << 30), "max_pixels: found 1073741824"),
    ],
)
def test_settings_out_of_bounds_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
