"""Arrow messages hold exactly the declared columns, readable by polars and pyarrow alike."""

from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from schemas.codec import BadRecordError

ROWS = {
    "partition": [0, 0],
    "offset": [7, 8],
    "logged_at": [datetime(2026, 1, 3, tzinfo=UTC), None],
    "event_id": ["a", "b"],
    "user_id": ["anna", "ben"],
    "episode_id": ["pi:1", "pi:2"],
    "kind": ["play", "complete"],
    "occurred_at": [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)],
    "heard_ms": [0, 60_000],
    "position_ms": [0, 60_000],
    **{name: [None, None] for name in ("session_id", "surface", "arm", "user_agent")},
    "rank": [1, None],
    "generation": [None, "g"],
    "duration_ms": [None, 1_800_000],
}


def test_rows_survive_a_message_in_any_column_order() -> None:
    frame = pl.DataFrame(ROWS)
    shuffled = frame.select(sorted(frame.columns))
    back = columnar.from_message(columnar.to_message(shuffled, "user_event"), "user_event")
    assert back.schema == columnar.columns("user_event")
    assert back.cast({"kind": pl.String}).to_dicts() == frame.to_dicts()


def test_pyarrow_reads_a_message_without_polars() -> None:
    message = columnar.to_message(pl.DataFrame(ROWS), "user_event")
    table = pa.ipc.open_stream(BytesIO(message)).read_all()
    assert table.column("heard_ms").to_pylist() == [0, 60_000]
    assert table.column("kind").cast(pa.string()).to_pylist() == ["play", "complete"]


def test_an_unknown_kind_is_refused() -> None:
    frame = pl.DataFrame(ROWS).with_columns(kind=pl.lit("sneeze"))
    message = BytesIO()
    frame.write_ipc_stream(message)
    with pytest.raises(BadRecordError):
        columnar.from_message(message.getvalue(), "user_event")


def test_a_missing_column_is_refused() -> None:
    message = BytesIO()
    pl.DataFrame(ROWS).drop("episode_id").write_ipc_stream(message)
    with pytest.raises(BadRecordError, match="episode_id"):
        columnar.from_message(message.getvalue(), "user_event")


def test_what_older_messages_did_not_have_yet_is_its_default() -> None:
    message = BytesIO()
    pl.DataFrame(ROWS).drop("logged_at", "duration_ms").write_ipc_stream(message)
    rows = columnar.from_message(message.getvalue(), "user_event")
    assert rows.schema == columnar.columns("user_event")
    assert rows["duration_ms"].to_list() == rows["logged_at"].to_list() == [None, None]


@given(st.none() | st.binary(max_size=300))
def test_garbage_is_refused_and_never_raises_anything_else(value: Any) -> None:
    with pytest.raises(BadRecordError):
        columnar.from_message(value, "user_event")
