"""img2dataset's words for failures become ours, whatever text they hold; the page shows the map that the code has."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.sources.img2dataset_reasons import REASONS, refusal
from schemas.reasons import Refusal

PAGE = Path(__file__).resolve().parents[3] / "docs" / "import.md"

D, R = "failed_to_download", "failed_to_resize"


@pytest.mark.parametrize(
    ("status", "message", "reason"),
    [
        (D, "HTTP Error 404: Not Found", "http.404"),
        (D, "HTTP Error 403: Forbidden", "http.403"),
        (D, "HTTP Error 418: I'm a teapot", "http.4xx"),
        (D, "HTTP Error 520: Web server is returning an unknown error", "http.5xx"),
        (D, "HTTP Error 504: Gateway Timed Out", "http.504"),
        (D, "HTTP Error 302: The HTTP server returned a redirect error that would lead to an infinite loop.\nThe last 30x "
            "error message was:\nFound", "redirect.too_many"),
        (D, "HTTP Error 302: Found - Redirection to url 'file:///x' is not allowed", "redirect.invalid"),
        (D, "<urlopen error [Errno -2] Name or service not known>", "dns"),
        (D, "<urlopen error [Errno -3] Temporary failure in name resolution>", "dns"),
        (D, "<urlopen error [Errno -5] No address associated with hostname>", "dns"),
        (D, "<urlopen error [Errno 111] Connection refused>", "connect"),
        (D, "<urlopen error [Errno 113] No route to host>", "connect"),
        (D, "<urlopen error timed out>", "connect"),
        (D, "<urlopen error _ssl.c:990: The handshake operation timed out>", "connect"),
        (D, "timed out", "first_byte"),
        (D, "The read operation timed out", "first_byte"),
        (D, "<urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired>", "tls"),
        (D, "<urlopen error EOF occurred in violation of protocol (_ssl.c:992)>", "tls"),
        (D, "[Errno 104] Connection reset by peer", "reset"),
        (D, "Remote end closed connection without response", "reset"),
        (D, "IncompleteRead(1024 bytes read, 5120 more expected)", "length_mismatch"),
        (D, "Use of image disallowed by X-Robots-Tag directive", "policy.opt_out"),
        (D, "hash mismatch", "source.malformed"),
        (D, "<urlopen error unknown url type: ftp2>", "url.invalid"),
        (D, "unknown url type: 'unlikely'", "url.invalid"),
        (D, "URL can't contain control characters. '/a b' (found at least ' ')", "url.invalid"),
        (D, "'ascii' codec can't encode characters in position 10-12: ordinal not in range(128)", "url.invalid"),
        (D, "got more than 100 headers", "http.malformed"),
        (D, "something nobody thought of", "connect"),
        (D, None, "connect"),
        (R, "Image decoding error", "decode.corrupt"),
        (R, "image too small", "filter.side"),
        (R, "image area too large", "decode.bomb"),
        (R, "aspect ratio too large", "filter.aspect"),
        (R, "OpenCV(4.8.1) /io/opencv/modules/imgcodecs/src/loadsave.cpp:94: error: (-215:Assertion failed) pixels <= "
            "CV_IO_MAX_IMAGE_PIXELS in function 'validateInputImageSize'", "decode.bomb"),
        (R, "'NoneType' object has no attribute 'shape'", "decode.corrupt"),
        ("half_done", "x", "source.malformed"),
    ],
)  # fmt: skip
def test_messages_of_img2dataset_have_reasons(status: str, message: str | None, reason: str) -> None:
    found = refusal(status, message)
    assert found is not None
    assert found.reason == reason


@pytest.mark.parametrize("status", [None, "success"])
def test_success_has_none(status: str | None) -> None:
    assert refusal(status, None) is None


STATUSES = st.one_of(st.none(), st.sampled_from([D, R, "x"]), st.integers())


@given(status=STATUSES, message=st.one_of(st.none(), st.text(), st.integers()))
def test_whatever_the_message_the_detail_is_a_word_of_ours(status: object, message: object) -> None:
    found = refusal(status, message)
    words = {line.detail for lines in REASONS.values() for line in lines} | {"img2dataset.status"}
    assert found is None or (isinstance(found, Refusal) and found.detail in words)


def test_every_status_ends_with_a_line_that_takes_the_rest() -> None:
    assert [lines[-1].pattern for lines in REASONS.values()] == ["", ""]


def test_the_page_has_the_map() -> None:
    shown = re.findall(r"^\| `(failed_\w+)` \| .* \| `([\w.]+)` \| `([\w.]+)`.*\|$", PAGE.read_text(), re.MULTILINE)
    told = [(status, line.reason.value, line.detail) for status, lines in REASONS.items() for line in lines]
    assert len(told) > 10
    assert [line for line in shown if line[1] != "http.404"] == told
    assert (D, "http.404", "img2dataset") in shown
