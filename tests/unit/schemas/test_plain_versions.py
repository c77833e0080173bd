"""State without a frame stays readable when its schema gets a field."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from schemas.codec import from_plain, to_plain

LINKS = st.lists(st.fixed_dictionaries({"url": st.text(), "type": st.text()}), max_size=20)
TIMES = st.integers(0, 10**9).map(lambda s: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(0, s))
RETRIES = st.fixed_dictionaries(
    {
        "episode_id": st.text(),
        "language": st.text(),
        "transcripts": LINKS,
        "attempt": st.integers(1, 100),
        "due_at": TIMES,
    }
)


@given(RETRIES)
def test_a_retry_of_the_first_version_is_read(retry: dict[str, Any]) -> None:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, files.parsed("transcript_retry", 1), retry)
    links = [{**link, "language": ""} for link in retry["transcripts"]]
    newer = {"transcripts": links, "first_at": None}
    assert from_plain("transcript_retry", buffer.getvalue()) == {**retry, **newer}


@given(RETRIES, st.text(), st.none() | TIMES)
def test_a_retry_keeps_what_is_new(
    retry: dict[str, Any], language: str, first_at: datetime | None
) -> None:
    links = [{**link, "language": language} for link in retry["transcripts"]]
    record = {**retry, "transcripts": links, "first_at": first_at}
    assert from_plain("transcript_retry", to_plain("transcript_retry", record)) == record
