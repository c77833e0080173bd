from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from streams.http.circuit import (
    FAILURES_TO_OPEN,
    FIRST_OPEN_S,
    LONGEST_ASKED_S,
    LONGEST_OPEN_S,
    HostState,
    host_record,
    jitter,
    retry_after_s,
)

NOW = 1_790_000_000.0


def failing(times: int, now: float = NOW) -> HostState:
    state = HostState("h")
    for _ in range(times):
        state.begin(now)
        state.failed(now, "HTTP 503")
    return state


def test_a_circuit_opens_after_failures_in_a_row_and_not_before() -> None:
    state = failing(FAILURES_TO_OPEN - 1)
    assert (state.circuit(NOW), state.refusal(NOW)) == ("closed", None)
    state.succeeded()
    for _ in range(FAILURES_TO_OPEN - 1):
        state.failed(NOW, "HTTP 503")
    assert state.refusal(NOW) is None
    state.failed(NOW, "HTTP 502")
    refusal = state.refusal(NOW)
    assert refusal is not None
    assert refusal.startswith("circuit open until 2026-09-21 ")
    assert refusal.endswith("after 5 failures in a row of h, the last: HTTP 502")


def test_one_probe_at_a_time_and_the_first_success_closes() -> None:
    state = failing(FAILURES_TO_OPEN)
    later = state.open_until
    assert state.circuit(later) == "probing"
    assert state.refusal(later) is None
    state.begin(later)
    assert "a probe of h succeeds" in str(state.refusal(later))
    state.cancelled()
    assert state.refusal(later) is None
    state.begin(later)
    state.succeeded()
    assert (state.circuit(later), state.refusal(later)) == ("closed", None)


def test_each_failed_probe_doubles_the_rest_up_to_a_limit() -> None:
    state, rests = failing(FAILURES_TO_OPEN), []
    now = NOW
    for _ in range(12):
        rests.append(state.open_until - now)
        now = state.open_until
        state.begin(now)
        state.failed(now, "timeout")
    assert 0.8 * FIRST_OPEN_S <= rests[0] <= 1.2 * FIRST_OPEN_S
    assert all(later > 1.2 * earlier for earlier, later in pairwise(rests[:6]))
    assert max(rests) <= 1.2 * LONGEST_OPEN_S


def test_what_was_under_way_when_the_circuit_opened_does_not_lengthen_it() -> None:
    state = failing(FAILURES_TO_OPEN)
    before = state.open_until
    for _ in range(4):
        state.failed(NOW + 1, "HTTP 503")
    assert (state.open_until, state.in_a_row) == (before, FAILURES_TO_OPEN)
    assert state.failures == FAILURES_TO_OPEN + 4


@given(st.lists(st.tuples(st.sampled_from("sfla"), st.floats(0, 5000)), max_size=60))
def test_a_host_can_always_be_asked_again_some_day(steps: list[tuple[str, float]]) -> None:
    state, now = HostState("h"), NOW
    for step, after in steps:
        now += after
        if state.refusal(now) is None:
            state.begin(now)
        if step == "s":
            state.succeeded()
        elif step == "f":
            state.failed(now, "x")
        elif step == "a":
            state.asked(now, after)
        else:
            state.cancelled()
        assert state.next_at() <= now + max(1.2 * LONGEST_OPEN_S, LONGEST_ASKED_S)
    state.cancelled()
    assert state.refusal(max(now, state.next_at())) is None


def test_retry_after_is_a_number_or_a_date() -> None:
    at = datetime.fromtimestamp(NOW + 90, UTC)
    assert retry_after_s("120", NOW) == 120
    assert retry_after_s(" 5 ", NOW) == 5
    assert retry_after_s(format_datetime(at, usegmt=True), NOW) == 90
    assert retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT", NOW) == 0
    for nothing in (None, "", "soon", "-5", "1.5", "²", "Mon, 99 Foo 2026"):
        assert retry_after_s(nothing, NOW) is None


@given(
    st.text(max_size=40)
    | st.integers(0, 10**20).map(str)
    | st.datetimes(timezones=st.just(UTC)).map(lambda at: format_datetime(at, usegmt=True))
)
@example("Fri, 31 Dec 9999 23:59:59 GMT")
@example("999999999999")
def test_no_retry_after_raises_or_asks_for_more_than_a_day(value: str) -> None:
    wait_s = retry_after_s(value, NOW)
    assert wait_s is None or 0 <= wait_s <= LONGEST_ASKED_S
    state = HostState("h")
    state.asked(NOW, wait_s or 0)
    assert state.next_at() <= NOW + LONGEST_ASKED_S


def test_a_wait_that_was_asked_for_is_not_shortened_by_a_later_answer() -> None:
    state = HostState("h")
    state.asked(NOW, 100)
    state.asked(NOW, 1)
    assert "asked to be left alone until" in str(state.refusal(NOW + 99))
    assert state.refusal(NOW + 100) is None


def test_jitter_is_within_a_fifth_and_the_same_at_each_look() -> None:
    seen = {jitter(f"rss:{n}", 1) for n in range(500)}
    assert min(seen) >= 0.8
    assert max(seen) <= 1.2
    assert max(seen) - min(seen) > 0.35
    assert jitter("a", 1) == jitter("a", 1) != jitter("a", 2)


def test_the_record_tells_trouble_only_while_it_lasts() -> None:
    state = failing(FAILURES_TO_OPEN)
    record = host_record(state, "w", 0.5, NOW)
    assert (record["circuit"], record["last_error"], record["failures"]) == ("open", "HTTP 503", 5)
    assert record["next_at"].timestamp() == state.open_until
    state.succeeded()
    record = host_record(state, "w", None, NOW)
    assert (record["circuit"], record["last_error"], record["next_at"]) == ("closed", "", None)
