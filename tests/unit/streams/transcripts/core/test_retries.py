from __future__ import annotations

from datetime import UTC, datetime
from io import BytesIO

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from schemas.codec import BadRecordError
from streams.http.retries import due_ms
from streams.transcripts.core.retries import (
    GIVE_UP_AFTER,
    TranscriptOutcome,
    decode_retry,
    encode_retry,
    first_tried_at,
    next_try,
    retry_record,
)

NOW = 1_790_000_000.0
INTERVALS = (60.0, 600.0, 3600.0)
LINK = {"url": "http://a/b.vtt", "type": "text/vtt", "language": "de"}
EPISODE = {"episode_id": "pi:1", "transcripts": [LINK]}


def test_what_waits_is_read_as_it_was_written() -> None:
    record = retry_record(EPISODE | {"title": "x", "language": None}, 2, NOW + 0.5, NOW)
    assert decode_retry(encode_retry(record)) == {
        **EPISODE,
        "language": "",
        "attempt": 2,
        "due_at": datetime.fromtimestamp(NOW + 0.5, UTC),
        "first_at": datetime.fromtimestamp(NOW, UTC),
    }


def test_what_an_older_release_put_aside_is_read() -> None:
    record = retry_record(EPISODE, 2, NOW, NOW - 9)
    old = BytesIO()
    fastavro.schemaless_writer(old, files.parsed("transcript_retry", 1), record)
    value = encode_retry(record)[:8] + old.getvalue()
    links = [link | {"language": ""} for link in record["transcripts"]]
    assert decode_retry(value) == record | {"first_at": None, "transcripts": links}
    assert first_tried_at(decode_retry(value), NOW) == NOW
    assert first_tried_at(record, NOW) == NOW - 9
    assert due_ms(value) == NOW * 1000
    with pytest.raises(BadRecordError):
        decode_retry(value[:-3])


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 2))
def test_tries_end_and_only_those_that_asked_count(asked: list[bool], step: float) -> None:
    attempt, now, due = 0, NOW, 0.0
    for n, was in enumerate(asked):
        outcome = TranscriptOutcome({}, transient=True, asked=was)
        attempt, after = next_try(outcome, attempt, NOW, now, "pi:1", INTERVALS)
        assert attempt == sum(asked[: n + 1])
        if after is None:
            assert attempt > len(INTERVALS) or now - NOW > GIVE_UP_AFTER * sum(INTERVALS)
            return
        assert after > now
        due, now = after, after + step * 600
    assert due == 0.0 or due - NOW < 1.2 * sum(INTERVALS) + 60 * (1.2 * 60 + 1200) + 1200


def test_what_lasts_is_not_tried_again() -> None:
    assert next_try(TranscriptOutcome({}), 0, NOW, NOW, "pi:1", INTERVALS) == (1, None)
