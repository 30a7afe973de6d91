"""Reasons: each is retryable or final, and a refusal says nothing that the web could have said."""

import pickle

import pytest

from schemas.reasons import Reason, Refusal, Refused


def test_what_may_answer_differently_tomorrow_is_retried_and_nothing_else() -> None:
    by_the_network = {"dns", "connect", "reset", "first_byte", "slow", "deadline", "proxy", "host.backoff"}
    by_the_server = {"http.408", "http.425", "http.429", "http.500", "http.502", "http.503", "http.504", "http.5xx"}
    assert {reason for reason in Reason if reason.retryable} == by_the_network | by_the_server | {
        "length_mismatch",
        "internal",
    }


@pytest.mark.parametrize("reason", list(Reason))
def test_a_reason_is_its_own_word(reason: Reason) -> None:
    assert Reason(reason.value) is reason
    assert reason.value.startswith(reason.family)
    assert Refusal(reason).detail == ""


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (404, "http.404"),
        (418, "http.4xx"),
        (503, "http.503"),
        (599, "http.5xx"),
        (300, "http.other"),
        (999, "http.other"),
    ],
)
def test_a_status_has_its_own_reason_or_that_of_its_hundred(status: int, reason: str) -> None:
    assert Reason.of_status(status) == reason


@pytest.mark.parametrize("detail", ["", "similarity<0.28", "steps.images:41", "a" * 120])
def test_a_detail_is_a_word_of_this_code(detail: str) -> None:
    assert Refusal(Reason.INTERNAL, detail).detail == detail


@pytest.mark.parametrize("detail", ["two words", "a" * 121, "<script>!", "é", "line\n", "http://x/?q=1"])
def test_text_from_the_web_is_no_detail(detail: str) -> None:
    with pytest.raises(ValueError, match="is not a word of this code"):
        Refusal(Reason.INTERNAL, detail)


def test_a_refusal_crosses_processes() -> None:
    refused = pickle.loads(pickle.dumps(Refused(Reason.DNS, "resolver")))
    assert refused.refusal == Refusal(Reason.DNS, "resolver")
