"""What refusals mean, from their parts alone; `test_openai_provider` has them over a socket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_worker.provider import RemoteState, state_of
from api_worker.refusals import Refusal, cause_of, error_of
from queue_app.errors import Permanent, Transient
from queue_app.lifecycle import Cause
from settings.addresses import is_on_this_machine


@given(st.one_of(st.none(), st.integers(400, 599)), st.text(max_size=20), st.one_of(st.none(), st.text(max_size=40)))
def test_every_refusal_means_something_and_keeps_the_words(status: int | None, code: str, header: str | None) -> None:
    error = error_of("acme", Refusal("so it is", status, code or None, header))
    assert isinstance(error, Permanent | Transient)
    assert "so it is" in str(error)


def test_a_date_to_retry_after_is_counted_from_now() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    seconds = Refusal("later", 503, retry_after=date).retry_after_seconds
    assert seconds is not None
    assert 80 < seconds <= 90


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None), ("", None), (None, None)]
)
def test_a_number_to_retry_after_is_taken_and_nonsense_is_not(header: str | None, seconds: float | None) -> None:
    assert Refusal("later", 429, retry_after=header).retry_after_seconds == seconds


@pytest.mark.parametrize("header", ["inf", "nan", "1e400"])
def test_a_wait_without_end_is_no_advice(header: str) -> None:
    assert Refusal("later", 429, retry_after=header).retry_after_seconds is None


@pytest.mark.parametrize(
    ("code", "parameter", "cause"),
    [
        ("invalid_file_format", None, Cause.DATA),
        ("anything", "validation_file", Cause.DATA),
        ("exceeded_quota", None, Cause.QUOTA),
        ("server_error", None, Cause.PROVIDER),
        (None, None, Cause.PROVIDER),
    ],
)
def test_a_failure_is_laid_where_it_belongs(code: str | None, parameter: str | None, cause: Cause) -> None:
    assert cause_of(code, parameter) == cause


@pytest.mark.parametrize("word", ["paused_for_lunch", "", None])
def test_a_status_word_that_is_not_known_is_unknown_and_no_end(word: str | None) -> None:
    state = state_of(word, {"running": RemoteState.RUNNING})
    assert state == RemoteState.UNKNOWN
    assert not state.is_final


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://127.0.0.1:8791/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:80/v1", True),
        ("https://api.openai.com/v1", False),
        ("https://127.evil.example/v1", False),
    ],
)
def test_a_server_on_this_machine_is_recognised(url: str, here: bool) -> None:
    assert is_on_this_machine(url) == here
