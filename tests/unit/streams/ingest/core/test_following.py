from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from schemas.codec import from_plain
from streams.ingest.core.following import (
    DAY_S,
    HOUR_S,
    JITTER,
    SOON_S,
    Cursor,
    Followed,
    decode,
    due_at_start,
    encode,
    poll_delay,
    polled,
    put_off,
    subscribed,
)
from streams.ingest.core.listings import Item, Missing

URL = "https://pods.example/feed.xml"
TEXT = st.text(max_size=20)
INSTANTS = st.integers(0, 4 * 10**12).map(lambda ms: ms / 1000)
ITEMS = st.builds(Item, TEXT, st.binary(max_size=8), st.integers(0, 2**40))
CURSORS = st.builds(
    Cursor,
    TEXT,
    TEXT,
    st.dictionaries(TEXT, st.integers(0, 2**40), max_size=4),
    st.lists(ITEMS, max_size=4).map(lambda items: {item.episode_id: item for item in items}),
    st.lists(st.builds(Missing, ITEMS, st.integers(0, 2**40), st.integers(0, 9)), max_size=4).map(
        lambda found: {missing.item.episode_id: missing for missing in found}
    ),
)
STATES = st.builds(
    Followed, st.binary(), st.integers(0, 9), CURSORS, INSTANTS, st.integers(0, 99), st.booleans()
)


@given(STATES)
def test_a_state_is_read_as_it_was_written(state: Followed) -> None:
    again = decode(encode(state))
    assert abs(again.next_poll_at - state.next_poll_at) < 0.002
    assert replace(again, next_poll_at=state.next_poll_at) == state
    assert list(again.cursor.listed) == list(state.cursor.listed)


@given(STATES)
def test_a_state_of_before_anything_was_missing_is_read(state: Followed) -> None:
    newest = from_plain("feed_cursor", encode(state))
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, files.parsed("feed_cursor", 1), newest)
    assert decode(buffer.getvalue()) == decode(
        encode(replace(state, cursor=replace(state.cursor, missing={})))
    )


@given(STATES, st.binary(), st.integers(0, 9))
def test_a_subscription_that_comes_twice_counts_once(
    before: Followed, value: bytes, revision: int
) -> None:
    once = subscribed(before, value, revision)
    assert subscribed(once, value, revision) == once
    assert subscribed(subscribed(None, value, revision), value, revision).revision == revision
    assert once.cursor == before.cursor
    if revision > before.revision:
        assert not once.gone
        assert once.failures == 0
        news = before.gone or before.failures or value != before.subscription
        assert once.next_poll_at == (0 if news else before.next_poll_at)
    else:
        assert once == before


@given(st.text(), st.floats(1, 10 * DAY_S), st.integers(0, 200), st.sampled_from([HOUR_S, DAY_S]))
def test_polls_grow_apart_with_failures_but_there_is_a_most(
    url: str, interval_s: float, failures: int, most_s: float
) -> None:
    delay = poll_delay(url, interval_s, failures, most_s)
    assert delay == poll_delay(url, interval_s, failures, most_s)
    assert (1 - JITTER) * interval_s <= delay <= max(most_s, interval_s)
    if failures:
        assert delay >= min(2 * interval_s, most_s) * (1 - JITTER) * 0.999
    assert poll_delay(url, interval_s, failures + 1, most_s) >= delay * (1 - JITTER)


def test_feeds_that_failed_together_do_not_come_again_together() -> None:
    delays = [poll_delay(f"https://pods.example/{n}", 300, 3) for n in range(1_000)]
    assert min(delays) < 300 * 8 * 0.91
    assert max(delays) > 300 * 8 * 0.99
    assert len({round(delay) for delay in delays}) > 150


def test_a_poll_sets_the_next_one() -> None:
    before = Followed(b"", 1, failures=3)
    cursor = Cursor(etag="x")
    good = polled(before, cursor, url=URL, now=1_000, interval_s=60, failed=False)
    assert (good.failures, good.cursor) == (0, cursor)
    assert 1_054 <= good.next_poll_at <= 1_060
    bad = polled(before, cursor, url=URL, now=1_000, interval_s=60, failed=True)
    assert bad.failures == 4
    assert bad.next_poll_at - 1_000 == poll_delay(URL, 60, 4)
    often = replace(before, failures=30)
    down = polled(often, cursor, url=URL, now=0, interval_s=60, failed=True, transient=True)
    assert 0.9 * HOUR_S <= down.next_poll_at <= HOUR_S


@given(STATES, st.text(), st.floats(1, 10 * DAY_S))
def test_a_poll_that_was_put_off_is_no_failure(
    before: Followed, url: str, interval_s: float
) -> None:
    after = put_off(before, Cursor(etag="x"), url=url, until=1_000, interval_s=interval_s)
    assert after == replace(before, cursor=Cursor(etag="x"), next_poll_at=after.next_poll_at)
    assert 0 < after.next_poll_at - 1_000 <= min(interval_s, SOON_S)


@given(STATES, st.text())
def test_a_start_brings_polls_that_failed_forward_and_no_others(state: Followed, url: str) -> None:
    due = due_at_start(state, url=url, now=1_000)
    assert due <= state.next_poll_at
    assert due == state.next_poll_at if not state.failures else due <= 1_000 + SOON_S
