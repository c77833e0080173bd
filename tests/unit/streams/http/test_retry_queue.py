"""`RetryQueue` against the plain way: look at everything, sort it, take what is due."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from streams.http.retries import due_ms
from streams.http.retry_queue import RetryQueue
from streams.runtime.in_memory import MemoryContext, MemoryRuntime
from streams.runtime.keyed import EntryKey
from streams.state.keyed_table import StateTable
from streams.transcripts.core.retries import decode_retry, encode_retry, retry_record
from topology.graph import build_graph
from topology.settings import Settings
from topology.tables import TRANSCRIPT_RETRIES

NOW = 1_790_000_000.0


def entry(due_s: int) -> bytes:
    episode = {"episode_id": "e", "transcripts": []}
    return encode_retry(retry_record(episode, 1, NOW + due_s, NOW))


def made() -> tuple[RetryQueue, StateTable, MemoryContext]:
    flow = MemoryRuntime(build_graph(2), Settings())
    context = flow.start("fetch_transcripts")
    queue = RetryQueue(context, TRANSCRIPT_RETRIES)
    return queue, context.table(TRANSCRIPT_RETRIES), context


def rows(table: StateTable) -> list[tuple[EntryKey, bytes]]:
    return [((p, key), value) for p in table.partitions() for key, value in table.items(p)]


PLACES = st.tuples(st.integers(0, 1), st.sampled_from([b"a", b"b", b"c", b"d"]))
STEPS = st.lists(st.tuples(PLACES, st.none() | st.integers(-50, 50)), max_size=30)


@given(STEPS, st.integers(0, 30))
def test_what_is_due_is_given_once_the_longest_waiting_first(
    steps: list[tuple[tuple[int, bytes], int | None]], loaded_after: int
) -> None:
    queue, table, _ = made()
    for n, (place, due_s) in enumerate(steps):
        if n == loaded_after:
            assert queue.pop_due(NOW - 1000) is None
        queue.replace(place, None if due_s is None else entry(due_s))
    due = sorted((due_ms(value), place, value) for place, value in rows(table))
    expected = [(place, value) for at, place, value in due if at <= NOW * 1000]
    found = list(iter(lambda: queue.pop_due(NOW), None))
    assert [value for _, value in found] == [value for _, value in expected]
    assert {place for place, _ in found} == {place for place, _ in expected}
    for place, _ in found:
        queue.requeue(place)
    assert list(iter(lambda: queue.pop_due(NOW), None)) == found


@given(st.lists(st.integers(-100, 100), max_size=30), st.integers(1, 40))
def test_those_due_come_first_and_no_others(offsets: list[int], limit: int) -> None:
    queue, _, _ = made()
    for n, due_s in enumerate(offsets):
        queue.replace((0, b"%d" % n), entry(due_s))
    found = list(islice(iter(lambda: queue.pop_due(NOW), None), limit))
    dues = [decode_retry(value)["due_at"].timestamp() - NOW for _, value in found]
    assert dues == sorted(s for s in offsets if s <= 0)[:limit]


def test_a_look_does_not_go_through_everything(monkeypatch: object) -> None:
    queue, table, _ = made()
    for n in range(1000):
        table.put(0, b"%d" % n, entry(10 + n))
    assert queue.pop_due(NOW) is None
    looked: list[int] = []
    listed = StateTable.items

    def counted(self: StateTable, partition: int) -> Iterator[tuple[bytes, bytes]]:
        looked.append(partition)
        return listed(self, partition)

    monkeypatch.setattr(StateTable, "items", counted)  # type: ignore[attr-defined]
    queue.replace((1, b"new"), entry(0))
    assert queue.pop_due(NOW + 1) == ((1, b"new"), entry(0))
    assert queue.pop_due(NOW + 1) is None
    assert queue.pop_due(NOW + 10) is not None
    assert looked == []
