"""`podstream model`: the table of generations."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from streams.cli.commands.model import shown, table_of
from streams.recommendation.core.listing import listed


def record(number: int, **more: Any) -> dict[str, Any]:
    return {
        "generation": f"2026010{number}T000000Z", "model": "als", "users": 1_200, "items": 40,
        "trained_at": datetime(2026, 1, number, tzinfo=UTC), "train_seconds": 2.5,
        "interactions": 34_567, **more,
    }  # fmt: skip


def test_the_table_shows_figures_and_states() -> None:
    judged = {
        "model": "als", "listeners": 40, "ndcg_at_10": 0.3, "error": 0.01, "popularity": 0.125,
    }  # fmt: skip
    found = listed(
        [record(1), record(2, judged=judged), record(3, refused_because="bad")], [], None, 3
    )
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table_of(found))
    text = captured.get()
    for expected in ("34,567", "0.3000 ± 0.0100", "0.1250", "serving", "refused", "n/a"):
        assert expected in text


def test_what_serves_is_shown_however_old_it_is() -> None:
    refused = [record(number, refused_because="worse") for number in range(3, 9)]
    found = listed([record(1), record(2, slot=1), *refused], [], None, 3)
    assert [one.state for one in shown(found, 2)] == ["refused", "refused", "serving", "kept"]
    assert len(shown(found, 20)) == 8
