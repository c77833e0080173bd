"""Who is forgotten, up to where, and which rows are of before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.facts import FACTS, LISTENER, MadeFrom
from jobs.core.forgetting import Forgotten, ForgottenRows
from streams.kafka.forgetting import Forgetting
from streams.kafka.message import Message
from topology.graph import build_graph

MADE_FROM = MadeFrom("partition", "offset")


def record(offset: int, user: str, up_to: int, partition: int = 0) -> Message:
    headers = tuple(Forgetting(user, 0, up_to, 1_000 + offset).headers().items())
    return Message("forgotten-listeners", partition, offset, user.encode(), b"", headers=headers)


def known(*messages: Message) -> Forgotten:
    found = Forgotten()
    for message in messages:
        found.take(message.partition, [message], message.offset + 1)
    return found


def names(found: Forgotten, noted: dict[int, int]) -> list[tuple[str, int]]:
    return [(one.user_id, one.up_to) for one in found.since(noted)]


def test_whoever_is_named_since_is_to_be_removed_in_the_order_of_the_log() -> None:
    found = known(record(0, "ada", 5), record(2, "dan", 7, 1), record(3, "eve", 9))
    assert names(found, {}) == [("ada", 5), ("eve", 9), ("dan", 7)]
    assert names(found, {0: 1}) == [("eve", 9), ("dan", 7)]
    assert names(found, {0: 4, 1: 2}) == [("dan", 7)]
    assert names(found, {0: 4, 1: 3}) == []


def test_the_newest_record_of_a_listener_counts_and_never_takes_back() -> None:
    found = known(record(0, "ada", 9), record(4, "ada", 5))
    assert names(found, {0: 4}) == [("ada", 9)]
    assert found.up_to == {("ada", 0): 9}


def test_nothing_is_to_be_removed_of_who_had_done_nothing() -> None:
    found = known(record(0, "ada", -1))
    assert names(found, {}) == []


def test_records_that_name_nobody_and_holes_are_passed_over() -> None:
    found = Forgotten()
    found.take(0, [Message("forgotten-listeners", 0, 3, b"x", b"")], 8)
    assert (found.ends, found.since({})) == ({0: 8}, [])
    found.take(0, [], 8)
    assert found.ends == {0: 8}


CELLS = st.tuples(st.sampled_from(["ada", "dan", "eve"]), st.integers(0, 2), st.integers(0, 9))


@given(st.lists(CELLS, max_size=12), st.lists(CELLS, max_size=4))
def test_rows_of_before_are_dropped_and_no_others(rows: list[Any], told: list[Any]) -> None:
    up_to = {(user, partition): offset for user, partition, offset in told}

    def stays(user: str, partition: int, offset: int) -> bool:
        return (user, partition) not in up_to or offset > up_to[user, partition]

    columns: Iterator[Any] = zip(*rows, strict=True) if rows else iter(((), (), ()))
    kinds = (pa.string(), pa.int32(), pa.int64())
    cells = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    table = pa.table(dict(zip((LISTENER, "partition", "offset"), cells, strict=True)))
    kept = ForgottenRows(up_to).without(table, MADE_FROM).to_pylist()
    assert [tuple(row.values()) for row in kept] == [row for row in rows if stays(*row)]
    assert ForgottenRows(up_to).without(table, None) is table


def test_every_table_that_names_a_listener_says_what_its_rows_are_made_of() -> None:
    tables = {facts.table: facts.made_from for facts in FACTS.values()}
    for name, table in build_graph(1).delta_tables.items():
        columns = {column.name: column.type for column in table.columns}
        made_from = tables[name]
        assert (LISTENER in columns) == (made_from is not None), name
        if made_from is not None:
            assert columns[made_from.partition] == "int"
            assert columns[made_from.offset] == "bigint"
            assert made_from.time is None or columns[made_from.time] == "timestamp"
