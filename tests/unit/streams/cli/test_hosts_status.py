from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from streams.cli.hosts import HostStatus, newest_hosts
from streams.cli.showcase import hosts_table

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def record(host: str, **values: object) -> dict[str, Any]:
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


def printed(hosts: list[HostStatus], width: int) -> str:
    console = Console(width=width, record=True, force_terminal=False)
    console.print(hosts_table(hosts))
    return console.export_text()


def test_the_table_shows_what_a_stranger_wrote_as_text() -> None:
    hosts = newest_hosts(
        [record("evil[bold].example", circuit="open", last_error="[red]boo", rate=None)], NOW
    )
    shown = printed(hosts, 200)
    assert "evil[bold].example" in shown
    assert "box/ingest: circuit open, [red]boo" in shown


def first_column(shown: str) -> list[str]:
    return [line.split("│")[1].strip() for line in shown.splitlines() if line.startswith("│")]


@pytest.mark.parametrize("width", [80, 60, 200])
def test_names_of_hosts_are_whole_and_numbers_on_one_line(width: int) -> None:
    long = "media.rss.some-very-long-publisher-name.example.com:8443"
    names = [long, *(f"feeds{number}.megaphone.example" for number in range(11))]
    hosts = newest_hosts(
        [
            record(name, worker=f"machine-{worker}.internal/ingest", requests=12_345, rejected=7)
            for name in names
            for worker in range(3)
        ],
        NOW,
    )
    shown = printed(hosts, width)
    assert max(map(len, shown.splitlines())) <= width
    assert "".join(first_column(shown)) == "".join(sorted(names))
    assert shown.count(" 37,035 ") == shown.count(" 21 ") == shown.count(" 1.4 ") == len(names)
    if width == 80:
        assert len(first_column(shown)) == len(names) + 1
    assert all(f"┃ {title} " in shown for title in ("requests", "failures", "429", "per s"))


def test_below_a_host_stands_who_has_trouble_with_it() -> None:
    name = "feeds.publisher.example"
    error = f"HTTP 503 from https://{name}/a: " + "no " * 200
    hosts = newest_hosts(
        [
            record(name, worker="a/ingest"),
            record(
                name,
                worker="b/ingest",
                circuit="open",
                next_at=NOW + timedelta(seconds=30),
                last_error=error,
                failures=5,
            ),
        ],
        NOW,
    )
    lines = first_column(printed(hosts, 80))
    assert lines[:4] == [
        name,
        "b/ingest: circuit open, again at",
        "2026-11-23 12:00:30Z, HTTP 503 from",
        "https://…/a: no no no no no no no no",
    ]
    assert lines[-1].endswith("no …")
    assert len(lines) < 8
