"""Rows go from real Delta tables, and the tables know how far they have got with that."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake

from jobs import forgetting
from jobs.core.facts import MadeFrom
from jobs.core.forgetting import Forgotten
from jobs.fencing import FencedError, WriterEpoch
from jobs.forgetting import ForgettingTable, noted
from streams.kafka.forgetting import Forgetting
from streams.kafka.message import Message

MADE_FROM = MadeFrom("source_partition", "source_offset", "updated_at")
DAYS = 4
QUOTED = "o'neill \\' OR 1=1 --"


def at(hour: int) -> datetime:
    return datetime(2026, 3, 1, hour, tzinfo=UTC)


def told(*records: tuple[str, int], start: int = 0, hour: int = 12) -> Forgotten:
    """Listeners, each with the last offset that is forgotten, in partition 1."""
    known = Forgotten()
    requested_ms = int(at(hour).timestamp() * 1000)
    messages = [
        Message(
            "forgotten-listeners",
            1,
            start + number,
            user.encode(),
            b"",
            headers=tuple(Forgetting(user, 0, up_to, requested_ms).headers().items()),
        )
        for number, (user, up_to) in enumerate(records)
    ]
    known.take(1, messages, start + len(records))
    return known


def rows(path: Path) -> list[tuple[Any, ...]]:
    """Listener, offset and day of each row."""
    frame = pl.DataFrame(pl.from_arrow(DeltaTable(path).to_pyarrow_table()))
    return frame.select("user_id", "source_offset", "day").sort(pl.all()).rows()


def files(path: Path) -> set[str]:
    return set(DeltaTable(path).file_uris())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A row a listener and offset, in a file a day; the newest days have the highest offsets."""
    where = tmp_path / "table"
    for day in range(DAYS):
        frame = pl.DataFrame(
            {
                "user_id": ["ada", "dan", QUOTED],
                "source_partition": [1, 1, 1],
                "source_offset": [3 * day, 3 * day + 1, 3 * day + 2],
                "updated_at": [at(day)] * 3,
                "day": [day] * 3,
            },
            schema_overrides={"source_partition": pl.Int32, "day": pl.Int32},
        )
        write_deltalake(where, frame.to_arrow(), mode="append", partition_by=["day"])
    return where


def forgetting_table(path: Path) -> ForgettingTable:
    return ForgettingTable(str(path), MADE_FROM, WriterEpoch(str(path)), 3)


def test_rows_of_before_go_and_only_their_files_are_written_again(path: Path) -> None:
    before, held = rows(path), files(path)
    table = forgetting_table(path)
    assert table.forget(told(("ada", 3))) == 1
    assert rows(path) == [row for row in before if row[0] != "ada" or row[1] > 3]
    assert len(files(path) & held) == DAYS - 2
    assert noted(str(path), range(3)) == {1: 1}


def test_a_name_may_have_quotes(path: Path) -> None:
    before = rows(path)
    assert forgetting_table(path).forget(told((QUOTED, 99))) == 1
    assert rows(path) == [row for row in before if row[0] != QUOTED]


def test_what_was_done_is_not_done_again_and_what_is_new_is(path: Path) -> None:
    table, known = forgetting_table(path), told(("ada", 3))
    table.forget(known)
    version, before = DeltaTable(path).version(), rows(path)
    assert table.forget(known) == 0
    assert DeltaTable(path).version() == version
    restarted = forgetting_table(path)
    assert restarted.forget(known) == 0
    known.take(1, [], 5)  # what is compacted leaves a hole
    assert restarted.forget(known) == 0
    assert rows(path) == before
    assert restarted.forget(told(("ada", 3), ("dan", 99))) == 1
    assert rows(path) == [row for row in before if row[0] != "dan"]


def test_it_is_noted_also_where_there_was_nothing_to_remove(path: Path) -> None:
    before, held = rows(path), files(path)
    assert forgetting_table(path).forget(told(("nobody", 99), start=6)) == 1
    assert (rows(path), files(path)) == (before, held)
    assert noted(str(path), range(3)) == {1: 7}
    assert forgetting_table(path).forget(told(("nobody", 99), start=6)) == 0


def test_many_take_several_commits_each_with_what_is_done(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "MOST_AT_ONCE", 2)
    known = told(("x", 5), ("ada", 5), ("dan", 5), ("y", 5), (QUOTED, 5))
    table = forgetting_table(path)
    assert table.forget(known) == 3
    assert {row[1] for row in rows(path)} == set(range(6, 3 * DAYS))
    assert noted(str(path), range(3)) == {1: 5}


def test_rows_of_an_older_release_go_by_time(path: Path) -> None:
    before = rows(path)
    old = pl.DataFrame(
        {
            "user_id": ["ada", "ada", "dan"],
            "source_partition": None,
            "source_offset": None,
            "updated_at": [at(12), at(13), at(12)],
            "day": [7, 8, 7],
        },
        schema_overrides={
            "source_partition": pl.Int32,
            "source_offset": pl.Int64,
            "day": pl.Int32,
        },
    )
    write_deltalake(path, old.to_arrow(), mode="append")
    forgetting_table(path).forget(told(("ada", 99), hour=12))
    left = [(user, day) for user, offset, day in rows(path) if offset is None]
    assert left == [("ada", 8), ("dan", 7)]
    others = [row for row in rows(path) if row[1] is not None]
    assert others == [row for row in before if row[0] != "ada"]


def test_who_has_been_followed_removes_nothing(path: Path) -> None:
    earlier = forgetting_table(path)
    later = forgetting_table(path)
    before = rows(path)
    with pytest.raises(FencedError, match="has taken over"):
        earlier.forget(told(("ada", 99)))
    assert rows(path) == before
    assert noted(str(path), range(3)) == {}
    assert later.forget(told(("ada", 99))) == 1
