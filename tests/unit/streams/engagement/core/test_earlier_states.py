"""States that an earlier release wrote into its logs are read, and go on as if it were still there.

`earlier_states.json` has, for each state, the bytes of a snapshot and of the changes after it (by
zlib and Base64), written of the logs below, by messages, by the release before the four states were
written alike: anomalies and trending in a form of their own, engagement and listening as now.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from schemas import columnar
from streams.engagement.core.anomaly_state import AnomalyState
from streams.engagement.core.engagement import Engagement
from streams.engagement.core.listening_state import Listening
from streams.engagement.core.trending_state import TrendingState
from streams.engagement.core.window_rows import WindowMessage
from streams.engagement.core.windows import minutes_of, window_rows
from streams.events.core.event_rows import event_rows

WRITTEN = json.loads((Path(__file__).parent / "earlier_states.json").read_text())
SNAPSHOT_AT, CHANGES_UNTIL = 30, 40
"""Messages in the snapshot, and in the changes after it."""

START = 29_453_760
MINUTE_MS = 60_000
LATENESS_S = 900
MESSAGES = 60

State = AnomalyState | TrendingState | Engagement | Listening


def windows_log() -> list[WindowMessage]:
    """Five minutes a message, by two source partitions in turn: one episode is heard steadily and
    then much more, others come and go."""
    schema = {
        "episode_id": pl.String(),
        "bucket": pl.Int64(),
        "source_partition": pl.Int32(),
        "offset": pl.Int64(),
        "plays": pl.Int64(),
        "new_listeners": pl.Int64(),
    }
    log = []
    for number in range(MESSAGES):
        minute, source = START + 5 * (number // 2), number % 2
        often = 80 if number >= 44 else 20
        rows = [
            ("pi:steady", minute, source, number, often, often // 2),
            (f"pi:{number // 7}", minute + 1, source, number, 3, 2),
        ]
        frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
            (pl.col("bucket") * MINUTE_MS).cast(pl.Datetime("ms", "UTC"))
        )
        log_ms = (minute + 5) * MINUTE_MS
        log.append(WindowMessage(number, log_ms, frame, {source: minute + 4}))
    return log


def events_log() -> list[pl.DataFrame]:
    """Three events a message, twenty minutes apart, of listeners who come and go."""
    columns = columnar.columns("user_event")
    log = []
    for number in range(MESSAGES):
        at = (START + 20 * number) * MINUTE_MS
        rows = [
            {
                "partition": 2,
                "offset": 3 * number + place,
                "logged_at": at + place,
                "user_id": f"u{(number + place) // 9}",
                "episode_id": f"pi:{number // 5}",
                "kind": ("play", "progress", "complete")[place],
                "occurred_at": at + place - 1000 * (number % 3),
                "heard_ms": 90_000 * place,
                "position_ms": 90_000 * place,
                "duration_ms": 600_000,
            }
            for place in range(3)
        ]
        times = dict.fromkeys(("logged_at", "occurred_at"), pl.Int64())
        log.append(pl.DataFrame(rows, schema={**columns, **times}).cast(columns))
    return log


def anomalies(state: AnomalyState, log: Sequence[WindowMessage]) -> list[Any]:
    return [state.fold([message]) for message in log]


def trending(state: TrendingState, log: Sequence[WindowMessage]) -> dict[str, tuple[float, ...]]:
    state.fold(log)
    totals = state.totals()
    columns = (totals.scores, totals.plays, totals.recent, totals.usual)
    figures = zip(*(column.round(9).tolist() for column in columns), strict=True)
    named = zip(state.names.all(), figures, strict=True)
    return {name: figure for name, figure in named if any(figure)}


def engagement(state: Engagement, log: Sequence[pl.DataFrame]) -> list[tuple[object, ...]]:
    for frame in log:
        state.apply(event_rows([frame], state.applied))
        state.close_minutes()
    rows = window_rows([minutes_of(state, 2, np.arange(len(state.minutes)))])
    figures = [(getattr(state, name),) for name in Engagement.FIGURES]
    return figures + sorted(rows.filter(pl.col("offset") >= 3 * CHANGES_UNTIL).rows())


def listening(state: Listening, log: Sequence[pl.DataFrame]) -> list[tuple[object, ...]]:
    told = [state.apply(event_rows([frame], state.applied)) for frame in log]
    return [(sorted(news.sessions.rows()), sorted(news.streaks.rows())) for news in told]


STATES: dict[str, tuple[Callable[[], State], Callable[..., Any], Callable[[], list[Any]]]] = {
    "anomalies": (lambda: AnomalyState(2), anomalies, windows_log),
    "trending": (lambda: TrendingState(LATENESS_S), trending, windows_log),
    "engagement": (lambda: Engagement(LATENESS_S * 1000), engagement, events_log),
    "listening": (lambda: Listening(2, LATENESS_S * 1000), listening, events_log),
}


def written(name: str, kind: str) -> list[bytes]:
    return [zlib.decompress(b64decode(value)) for value in WRITTEN[name][kind]]


@pytest.mark.parametrize("name", STATES)
def test_a_state_goes_on_from_what_an_earlier_release_wrote(name: str) -> None:
    make, fold, log = STATES[name]
    whole, restored = make(), make()
    fold(whole, log()[:CHANGES_UNTIL])
    restored.load_snapshot(written(name, "snapshot"))
    for value in written(name, "changes"):
        restored.load_changes(value)
    assert restored.applied == whole.applied
    assert fold(restored, log()[CHANGES_UNTIL:]) == fold(whole, log()[CHANGES_UNTIL:])


@pytest.mark.parametrize("name", STATES)
def test_changes_of_today_go_over_what_an_earlier_release_wrote(name: str) -> None:
    make, fold, log = STATES[name]

    def restored(*more: bytes) -> State:
        state = make()
        for value in (*written(name, "snapshot"), *written(name, "changes"), *more):
            state.load_changes(value)
        return state

    writer = restored()
    fold(writer, log()[CHANGES_UNTIL:50])
    values = [writer.changes()]
    fold(writer, log()[50:55])
    values.append(writer.changes())
    reader = restored(*values)
    assert reader.applied == writer.applied
    assert fold(reader, log()[55:]) == fold(writer, log()[55:])
