"""Whoever is forgotten is so up to one offset, whatever is read when, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import BadRecordError
from streams.events.core.batching import Batch, Chunk, PartitionBatcher
from streams.events.core.origins import tally_of
from streams.events.core.requests import forgotten_record, problem, requested
from streams.kafka.forgetting import Forgetting, forgetting_of
from streams.operations.core.recount import Seen, without_left_out
from tests.unit.streams.events.core.test_batching import DECODER, NOW, SOURCE, event

USERS = ("ada", "dan")
"""Both belong to partition 1."""


@dataclass(frozen=True)
class Asked:
    """A request that came when the log had so many events, and is read after so many more."""

    user: str
    end: int
    later: int


events = st.lists(st.sampled_from(USERS), max_size=12)
requests = st.lists(
    st.builds(Asked, st.sampled_from(USERS), st.integers(0, 12), st.integers(-3, 3)), max_size=4
)


def batcher_at(
    at: int, tally: bytes, log: list[bytes], forgotten: list[Forgetting]
) -> PartitionBatcher:
    batcher = PartitionBatcher(
        1, at, 100, DECODER, SOURCE, tally_of([("tally", tally)] if tally else []), forgotten
    )
    batcher.warm(Chunk(list(range(at)), [NOW] * at, log[:at]))
    return batcher


def run(users: list[str], asked: list[Asked], restarts: set[int]) -> list[Batch]:
    """One event a batch, and each request read in its turn; begun anew before some offsets."""
    log = [event(f"e{number}", user_id=user) for number, user in enumerate(users)]
    forgotten: list[Forgetting] = []
    made: list[Batch] = []
    waiting = sorted(enumerate(asked), key=lambda one: one[1].end + one[1].later)
    batcher = batcher_at(0, b"", log, [])
    for offset in range(len(log) + 1):
        if offset in restarts:
            batcher = batcher_at(offset, batcher.tally.header(), log, forgotten)
        while waiting and (waiting[0][1].end + waiting[0][1].later <= offset or offset == len(log)):
            number, one = waiting.pop(0)
            forgetting = batcher.forgetting(one.user, min(one.end, len(log)), NOW)
            forgotten.append(forgetting)
            made.append(batcher.forget(forgetting, number))
        if offset < len(log):
            made.append(batcher.batch(Chunk([offset], [NOW], [log[offset]])))
    return made


@given(events, requests, st.sets(st.integers(0, 12)))
@settings(max_examples=150, deadline=None)
def test_nothing_of_a_listener_up_to_there_comes_after_the_answer(
    users: list[str], asked: list[Asked], restarts: set[int]
) -> None:
    forgotten = dict.fromkeys(USERS, -1)
    kept: dict[int, str] = {}
    left_out = 0
    for batch in run(users, asked, restarts):
        told = forgetting_of(list(batch.headers().items()))
        if told is not None:
            assert not batch.events.height
            assert batch.last_offset + 1 == batch.first_offset == told.batched_to
            assert told.up_to >= told.batched_to - 1, "all that was batched is forgotten"
            forgotten[told.user_id] = max(forgotten[told.user_id], told.up_to)
            continue
        (offset, user) = batch.last_offset, users[batch.last_offset]
        assert batch.events["offset"].to_list() == ([] if offset <= forgotten[user] else [offset])
        assert batch.forgotten == (offset <= forgotten[user])
        left_out += batch.forgotten
        kept |= dict(batch.events.select("offset", "user_id").iter_rows())
    never = [o for o, user in enumerate(users) if o > forgotten[user] and o not in kept]
    assert never == [], "who is not forgotten any more counts"
    for one in asked:
        assert forgotten[one.user] >= min(one.end, len(users)) - 1, "all before the request is"


@given(events, requests, st.sets(st.integers(0, 12)))
@settings(max_examples=100, deadline=None)
def test_a_restart_changes_nothing(
    users: list[str], asked: list[Asked], restarts: set[int]
) -> None:
    def told(batches: list[Batch]) -> list[tuple[object, ...]]:
        return [
            (b.first_offset, b.last_offset, b.events.rows(), b.forgetting, b.tally) for b in batches
        ]

    assert told(run(users, asked, restarts)) == told(run(users, asked, set()))


def test_an_event_that_is_left_out_is_still_known_as_one_that_came_before() -> None:
    batcher = PartitionBatcher(1, 0, 100, DECODER, SOURCE)
    batcher.forget(batcher.forgetting("ada", 1, NOW), 0)
    batch = batcher.batch(Chunk([0, 1], [NOW] * 2, [event("a"), event("a")]))
    assert (batch.events.height, batch.forgotten, batch.repeats) == (0, 1, 1)
    assert (batcher.tally.forgotten, batcher.tally.repeated, batcher.tally.requests) == (1, 1, 1)


def test_a_replay_leaves_out_what_is_on_record_as_forgotten() -> None:
    record = Forgetting("ada", 0, 2, NOW)
    batcher = PartitionBatcher(1, 0, 100, DECODER, SOURCE, None, [record])
    log = [event(f"e{n}", user_id=user) for n, user in enumerate(("ada", "dan", "ada", "ada"))]
    assert batcher.batch(Chunk([0, 1], [NOW] * 2, log[:2])).events["offset"].to_list() == [1]
    again = batcher.forgetting("ada", 0, NOW)
    assert (again.batched_to, again.up_to) == (2, 2), "what is on record is not taken back"
    assert batcher.batch(Chunk([2, 3], [NOW] * 2, log[2:])).events["offset"].to_list() == [3]


def test_a_rebuild_counts_what_was_in_batches_when_its_listener_was_forgotten() -> None:
    record = Forgetting("ada", 1, 2, NOW)
    batcher = PartitionBatcher(1, 0, 100, DECODER, SOURCE, None, [record])
    log = [event(f"e{n}") for n in range(4)]
    batch = batcher.batch(Chunk(list(range(4)), [NOW] * 4, log))
    assert batch.events["offset"].to_list() == [0, 3]
    seen = [Seen(n, datetime.fromtimestamp(0, UTC), {"user_id": "ada"}) for n in range(4)]
    assert [one.offset for one in without_left_out(seen, [record])] == [0, 3]


def test_headers_say_what_was_said_and_others_say_nothing() -> None:
    forgetting = Forgetting("Zoë", 3, 7, NOW)
    assert forgetting_of(list(forgetting.headers().items())) == forgetting
    assert forgetting_of([("first_offset", b"0")]) is None
    assert forgetting_of(None) is None
    record = forgotten_record(1, forgetting)
    assert (record["user_id"], record["source_partition"], record["up_to"]) == ("Zoë", 1, 7)
    assert record["requested_at"].timestamp() * 1000 == NOW


@pytest.mark.parametrize(
    ("user_id", "why"),
    [
        ("", "user_id is empty"),
        ("a" * 1025, "user_id has over 1024 bytes"),
        ("a\nb", "user_id has control characters"),
    ],
)
def test_a_request_for_nobody_is_refused(user_id: str, why: str) -> None:
    assert problem(user_id) == why
    with pytest.raises(BadRecordError, match=why):
        requested({"user_id": user_id}, 1, 2)


def test_a_request_counts_where_its_listener_belongs() -> None:
    assert requested({"user_id": "ada"}, 1, 2) == "ada"
    with pytest.raises(BadRecordError, match="the listener belongs to partition 1"):
        requested({"user_id": "ada"}, 0, 2)
