"""A keyed table comes back as it was flushed, whoever else wrote to its log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.message import Message
from streams.runtime.in_memory import MemoryLog, MemoryStateLog
from streams.state import keyed_table
from streams.state.faust_changelog import ChangelogFold
from streams.state.keyed_table import KeyedState, StateTable
from streams.state.store import FencedError, LogStates, Origin
from topology.graph import build_graph, state_topic

GRAPH = build_graph(2)
STAGE = GRAPH.stages["recommend"]
TOPIC = state_topic(STAGE, STAGE.tables[0]).name
NEVER = 1 << 60

STEPS = st.lists(
    st.tuples(st.sampled_from([b"a", b"b", b"", b"\xff"]), st.none() | st.binary(max_size=4)),
    max_size=30,
)


@given(STEPS, st.integers(0, 30))
def test_a_state_is_what_changes_or_a_snapshot_say(
    steps: list[tuple[bytes, bytes | None]], told_at: int
) -> None:
    state, copy, rows = KeyedState(), KeyedState(), dict[bytes, bytes]()
    for number, (key, value) in enumerate(steps):
        if number == told_at:
            copy.load_changes(state.changes())
        if value is None:
            state.delete(key)
            rows.pop(key, None)
        else:
            state.put(key, value)
            rows[key] = value
    copy.load_changes(state.changes())
    whole = KeyedState()
    whole.load_snapshot(list(state.snapshot()))
    assert dict(state.items()) == dict(copy.items()) == dict(whole.items()) == rows


def test_what_changes_nothing_is_no_change() -> None:
    state = KeyedState()
    state.put(b"a", b"1")
    before = state.applied
    state.put(b"a", b"1")
    state.delete(b"b")
    assert state.applied == before
    state.delete(b"a")
    assert state.applied == before + 1


def test_a_snapshot_is_cut_into_pieces_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_table, "PIECE_BYTES", 1_000)
    state = KeyedState()
    for number in range(100):
        state.put(b"%d" % number, b"x" * 90)
    state.put(b"large", b"x" * 5_000)
    pieces = list(state.snapshot())
    assert len(pieces) > 9
    assert sorted(map(len, pieces))[-2] < 1_200
    copy = KeyedState()
    copy.load_snapshot(pieces)
    assert copy.items() == state.items()


class Worker:
    """An owner of partition 0, or one that believes it is."""

    def __init__(
        self,
        log: MemoryLog,
        snapshot_bytes: int = NEVER,
        origin: Origin[KeyedState] | None = None,
    ):
        self.pending: list[asyncio.Future[Any]] = []
        state_log = MemoryStateLog(log, TOPIC)
        self.states = LogStates(
            state_log, lambda _: KeyedState(), self._track, snapshot_bytes, origin
        )
        self.states.assign([0])
        self.table = StateTable(self.states)

    def _track(self, delivery: Awaitable[Any]) -> None:
        self.pending.append(asyncio.ensure_future(delivery))

    async def flush(self) -> None:
        await self.table.save()
        pending, self.pending = self.pending, []
        for outcome in await asyncio.gather(*pending, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def put(self, **rows: str) -> None:
        """Put rows as a handler does; FencedError if they do not count."""
        await self.table.restore([0])
        for key, value in rows.items():
            self.table.put(0, key.encode(), value.encode())
        self.table.check_owned([0])
        await self.flush()


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog(GRAPH)


async def contents(log: MemoryLog) -> dict[str, str]:
    worker = Worker(log)
    await worker.states.restore()
    return {key.decode(): value.decode() for key, value in worker.table.items(0)}


async def test_what_was_flushed_comes_back(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.put(a="1", b="2")
    worker.table.delete(0, b"a")
    await worker.flush()
    worker.table.put(0, b"c", b"never flushed")
    assert await contents(log) == {"b": "2"}


async def test_a_put_costs_its_own_row_whatever_the_table_holds(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.put(**{f"key{number}": "x" * 100 for number in range(10_000)})
    await worker.put(key1="y" * 100)
    assert len(log.records(TOPIC)[-1].value or b"") < 150
    assert (await contents(log))["key1"] == "y" * 100


async def test_what_another_writes_while_a_handler_ends_is_no_fault_of_the_handler(
    log: MemoryLog,
) -> None:
    """Handlers and timers share a table: what is new since the flush is the next one's."""
    worker = Worker(log)
    await worker.table.restore([0])
    worker.table.put(0, b"a", b"1")
    worker.table.check_owned([0])
    await worker.table.save()
    worker.table.put(0, b"b", b"2")
    worker.table.check_owned([0])
    await worker.flush()
    assert await contents(log) == {"a": "1", "b": "2"}


async def test_nothing_is_appended_where_nothing_changed(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.put(a="1")
    await worker.put(a="1")
    assert log.bounds(TOPIC, 0) == (0, 1)


async def test_of_two_owners_one_counts_and_the_other_knows(log: MemoryLog) -> None:
    one, other = Worker(log), Worker(log)
    await one.put(a="1")
    await other.put(b="2")
    with pytest.raises(FencedError):
        await one.put(a="lost", c="lost")
    assert await contents(log) == {"a": "1", "b": "2"}
    with pytest.raises(FencedError):
        await other.put(b="3")
    # It counts, though its writer was told of the other's record: it follows what counted.
    assert await contents(log) == {"a": "1", "b": "3"}


async def test_a_snapshot_of_a_fenced_owner_undoes_nothing(log: MemoryLog) -> None:
    """The number of its changes is no less than that of the owner whose changes count."""
    one, other = Worker(log, snapshot_bytes=1), Worker(log)
    await one.put(a="1")
    await other.put(b="2")
    with pytest.raises(FencedError):
        await one.put(a="lost", b="lost", c="lost")
    assert await contents(log) == {"a": "1", "b": "2"}


async def test_the_log_stays_short_and_whole(log: MemoryLog) -> None:
    worker = Worker(log, snapshot_bytes=500)
    for number in range(300):
        await worker.put(**{f"key{number % 7}": str(number)})
    start, end = log.bounds(TOPIC, 0)
    assert start > 100
    assert end - start < 100
    assert await contents(log) == {f"key{n % 7}": str(n) for n in range(293, 300)}


async def test_what_is_written_while_partitions_move_counts_only_if_they_stay(
    log: MemoryLog,
) -> None:
    worker = Worker(log)
    await worker.put(a="1")
    worker.states.revoke()
    assert worker.table.partitions() == set()
    worker.table.put(0, b"late", b"2")
    await worker.flush()
    assert await contents(log) == {"a": "1"}
    worker.states.assign([0])
    await worker.states.restore()
    await worker.flush()
    assert await contents(log) == {"a": "1", "late": "2"}

    worker.states.revoke()
    worker.table.put(0, b"later", b"3")
    worker.states.assign([1])
    assert worker.table.get(0, b"a") is None
    worker.table.put(0, b"latest", b"4")
    await worker.flush()
    with pytest.raises(FencedError, match="left while they were worked on"):
        worker.table.check_owned([0])
    assert await contents(log) == {"a": "1", "late": "2"}


async def test_a_partition_that_comes_back_is_read_anew_where_others_wrote(log: MemoryLog) -> None:
    worker = Worker(log)
    await worker.put(a="1")
    worker.states.revoke()
    worker.table.put(0, b"a", b"stale")
    await Worker(log).put(a="2")
    worker.states.assign([0])
    await worker.put(b="3")
    assert await contents(log) == {"a": "2", "b": "3"}


@given(st.integers(0, 2**32))
def test_rivals_with_changes_of_their_own_lose_nothing_acknowledged(seed: int) -> None:
    """Values grow, so an old one that counts again is seen; three act in any order."""
    asyncio.run(_rivals(random.Random(seed)))


async def _rivals(chance: random.Random) -> None:
    log = MemoryLog(GRAPH)
    limit = chance.choice([50, 400, NEVER])
    workers = [Worker(log, limit) for _ in range(3)]
    acknowledged: dict[str, int] = {}
    for number in range(60):
        place = chance.randrange(3)
        rows = {chance.choice("abc"): str(number) for _ in range(chance.randint(1, 3))}
        try:
            await workers[place].put(**rows)
            acknowledged |= dict.fromkeys(rows, number)
            seen = {key.decode(): value.decode() for key, value in workers[place].table.items(0)}
            assert seen == await contents(log)
        except FencedError:
            workers[place] = Worker(log, limit)
        if chance.random() < 0.1:
            workers[place].states.revoke()
            workers[place].states.assign([0])
        held = await contents(log)
        # What was not acknowledged may count as well, but nothing older than what was.
        assert all(int(held[key]) >= least for key, least in acknowledged.items())


async def test_a_new_log_goes_on_from_where_the_table_was_kept_before(log: MemoryLog) -> None:
    asked = []

    async def origin(partition: int, state: KeyedState) -> bool:
        asked.append(partition)
        state.load_rows({b"a": b"1", b"b": b"2"})
        return True

    first = Worker(log, origin=origin)
    await first.put(b="3")
    assert await contents(log) == {"a": "1", "b": "3"}
    again = Worker(log, origin=origin)
    await again.put(a="4")
    assert await contents(log) == {"a": "4", "b": "3"}
    assert asked == [0]


async def test_of_two_that_take_over_at_once_one_counts(log: MemoryLog) -> None:
    async def origin(_: int, state: KeyedState) -> bool:
        await asyncio.sleep(0)
        state.load_rows({b"a": b"1"})
        return True

    one, other = Worker(log, origin=origin), Worker(log, origin=origin)
    ends = await asyncio.gather(one.put(b="2"), other.put(c="3"), return_exceptions=True)
    assert [type(end) for end in ends] == [type(None), FencedError]
    assert await contents(log) == {"a": "1", "b": "2"}


async def test_nothing_is_written_where_there_was_nothing_before(log: MemoryLog) -> None:
    async def origin(_: int, __: KeyedState) -> bool:
        return False

    worker = Worker(log, origin=origin)
    await worker.states.restore()
    await worker.flush()
    assert log.bounds(TOPIC, 0) == (0, 0)


def record(key: bytes, value: bytes | None, offset: int = 0) -> Message:
    return Message("t", 3, offset, key, value, 0, ())


def test_a_changelog_of_old_is_folded_by_key() -> None:
    fold = ChangelogFold(3)
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"a", None), (b"", b"3")):
        fold.apply(record((3).to_bytes(4, "big") + key, value))
    assert fold.rows == {b"b": b"2", b"": b"3"}
    with pytest.raises(ValueError, match="none of a table's partition 3"):
        fold.apply(record((2).to_bytes(4, "big") + b"a", b"1"))
