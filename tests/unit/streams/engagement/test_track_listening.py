"""Messages of sessions: never two for one offset, however many rows it has."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.engagement import track_listening
from streams.engagement.track_listening import session_messages


@pytest.fixture(autouse=True, scope="module")
def _small_messages() -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    patch.setattr(track_listening, "MESSAGE_ROWS", 5)
    yield
    patch.undo()


@given(st.lists(st.integers(1, 9), max_size=12))
def test_the_sessions_of_one_offset_are_in_one_message(rows_of_offset: list[int]) -> None:
    offsets = [offset for offset, rows in enumerate(rows_of_offset) for _ in range(rows)]
    sessions = pl.DataFrame({"offset": offsets}, schema={"offset": pl.Int64})
    messages = [message["offset"].to_list() for message in session_messages(sessions)]
    assert [offset for message in messages for offset in message] == offsets
    for before, after in pairwise(messages):
        assert before[-1] < after[0]
        together = len(before) + after.count(after[0])
        assert together > 5, "there was room for more"
    assert all(len(m) <= 5 or len(set(m)) == 1 for m in messages)
