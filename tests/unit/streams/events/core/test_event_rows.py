"""Whose events are listening, and which rows of a batch are new."""

from __future__ import annotations

import polars as pl
import pytest

from schemas import columnar
from streams.events.core import event_rows as module
from streams.events.core.event_rows import event_rows

CRAWLER = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
AGENTS = ["AppleCoreMedia/1.0", CRAWLER, None, "Overcast/3.0 (+http://overcast.fm/; podcast app)"]
LISTENING = [True, False, True, True]


def plays(agents: list[str | None]) -> pl.DataFrame:
    """A play each, at offsets from 0 on."""
    rows = {
        "partition": 0,
        "offset": range(len(agents)),
        "logged_at": 0,
        "user_id": "ada",
        "episode_id": "pi:1",
        "kind": "play",
        "occurred_at": 0,
        "heard_ms": 0,
        "position_ms": 0,
        "user_agent": agents,
    }
    schema = columnar.columns("user_event")
    return pl.DataFrame(rows | {n: None for n in schema if n not in rows}, schema_overrides=schema)


@pytest.mark.parametrize("few", [0, 1_000])
def test_a_crawler_listens_to_nothing_however_many_rows_there_are(
    monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    assert event_rows([plays(AGENTS)], -1).listening.tolist() == LISTENING
    assert event_rows([plays(AGENTS[2:])], -1).listening.tolist() == LISTENING[2:]
    assert event_rows([plays([None] * 3)], -1).listening.all()


def test_rows_that_were_applied_or_come_twice_are_passed_over() -> None:
    batch = plays(AGENTS)
    rows = event_rows([batch, batch[1:3]], 0)
    assert rows.offsets.tolist() == [1, 2, 3]
    assert rows.listening.tolist() == LISTENING[1:]
