from __future__ import annotations

from datetime import UTC, datetime, timedelta

from rich.console import Console

from topology.hosts import newest_hosts
from topology.showcase import hosts_table

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def record(host: str, **values: object) -> dict:
    return {
        "worker": "box/ingest",
        "host": host,
        "requests": 10,
        "failures": 0,
        "rejected": 0,
        "circuit": "closed",
        "next_at": None,
        "rate": 0.45,
        "last_error": "",
        "at": NOW - timedelta(seconds=5),
        **values,
    }


def test_the_newest_word_of_each_worker_counts_and_the_dead_are_left_out() -> None:
    records = [
        record("a", requests=1),
        record("b", at=NOW - timedelta(minutes=2)),
        record("c", circuit="open", next_at=NOW + timedelta(seconds=30), last_error="HTTP 503"),
        record("a", requests=2),
        record("a", worker="box/other", requests=3, next_at=NOW - timedelta(seconds=1)),
    ]
    found = newest_hosts(records, NOW)
    assert [(h.host, h.worker, h.requests) for h in found] == [
        ("c", "box/ingest", 10),
        ("a", "box/ingest", 2),
        ("a", "box/other", 3),
    ]
    assert [h.next_at for h in found] == ["2026-11-23T12:00:30+00:00", "", ""]


def test_the_table_shows_what_a_stranger_wrote_as_text() -> None:
    hosts = newest_hosts(
        [record("evil[bold].example", circuit="open", last_error="[red]boo", rate=None)], NOW
    )
    console = Console(width=200, record=True, force_terminal=False)
    console.print(hosts_table(hosts))
    shown = console.export_text()
    assert "evil[bold].example" in shown
    assert "[red]boo" in shown
    assert "circuit open" in shown
