from __future__ import annotations

from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.ingest.core.listings import (
    MISSED_LISTINGS,
    MISSED_S,
    UNSEEN,
    Item,
    Missing,
    digest_of,
    item_of,
    new_and_edited,
    remembered,
    withdrawn,
)

IDS = st.sampled_from([f"rss:{n}" for n in range(12)])
DIGESTS = st.sampled_from([UNSEEN, b"1" * 8, b"2" * 8])


@st.composite
def listings(draw: st.DrawFn) -> dict[str, Item]:
    keys = draw(st.lists(IDS, unique=True))
    return {key: Item(key, draw(DIGESTS), draw(st.integers(0, 9))) for key in keys}


def dated(*days: int) -> dict[str, Item]:
    return {f"rss:{day}": Item(f"rss:{day}", b"1" * 8, day) for day in days}


RECORD: dict[str, Any] = {
    "episode_id": "rss:1",
    "title": "One",
    "published_at": datetime(2026, 1, 2, tzinfo=UTC),
    "transcripts": [{"url": "https://a.example/1.vtt", "type": "text/vtt"}],
}


def test_a_record_as_an_item() -> None:
    item = item_of(RECORD)
    assert (item.episode_id, item.published) == ("rss:1", 1_767_312_000)
    assert len(item.digest) == 8
    assert item_of({**RECORD, "published_at": None}).published == 0
    changed = [
        {**RECORD, "title": "Two"},
        {**RECORD, "published_at": None},
        {**RECORD, "transcripts": []},
    ]
    assert len({digest_of(record) for record in [RECORD, *changed]}) == 4
    assert digest_of(dict(reversed(RECORD.items()))) == item.digest


def test_what_expires_is_no_edit_wherever_it_is_told() -> None:
    def told(token: str, words: str = "about it") -> bytes:
        links = [{"url": f"https://a.example/1.vtt?token={token}", "type": "text/vtt"}]
        text = f"Manage it at https://a.example/me?auth={token}, {words}.\nBye."
        return digest_of({**RECORD, "transcripts": links, "description": text})

    assert told("monday") == told("tuesday")
    assert told("monday") != told("monday", "or not")


@given(listings(), listings())
def test_new_and_edited(known: dict[str, Item], listed: dict[str, Item]) -> None:
    new, edited = new_and_edited(known, listed)
    assert new == {key for key in listed if key not in known}
    for key in edited:
        assert known[key].digest
        assert listed[key].digest
        assert known[key].digest != listed[key].digest
    assert new_and_edited(listed, listed) == (set(), set())
    assert not new & edited


def polls_of(
    known: dict[str, Item], *bodies: dict[str, Item], step_s: float = 300
) -> list[set[str]]:
    """What each of a feed's bodies, a step apart, withdraws."""
    missing: dict[str, Missing] = {}
    gone = []
    for number, listed in enumerate(bodies):
        some, missing = withdrawn(known, missing, listed, number * step_s)
        known = listed or known
        gone.append(some)
    return gone


@given(listings(), st.lists(listings(), max_size=8), st.sampled_from([300, 86_400]))
def test_what_is_withdrawn_was_missing_for_long(
    known: dict[str, Item], bodies: list[dict[str, Item]], step_s: int
) -> None:
    gone = polls_of(known, *bodies, step_s=step_s)
    for number, some in enumerate(gone):
        for key in some:
            listed = [key in body for body in [known, *bodies[: number + 1]] if body]
            absent = len(listed) - max(n for n, there in enumerate(listed) if there) - 1
            assert absent >= 2
            assert absent >= MISSED_LISTINGS or step_s * number >= MISSED_S
            oldest = min(item.published for item in bodies[number].values() if item.published)
            items = [body[key] for body in (known, *bodies) if key in body]
            assert max(item.published for item in items) > oldest


@given(st.integers(1, 12), st.lists(st.integers(1, 3), max_size=9), st.integers(0, 4))
def test_a_feed_that_holds_its_newest_items_withdraws_nothing(
    size: int, coming: list[int], pinned: int
) -> None:
    """However many come and fall off, and with a few kept at the end."""
    pins = min(pinned, size)
    tops = list(accumulate(coming, initial=30))
    bodies = [{**dated(*range(top, top - size, -1)), **dated(*range(1, 1 + pins))} for top in tops]
    assert not set().union(*polls_of(bodies[0], *bodies[1:]))
    last = [bodies[-1]] * 3
    assert not set().union(*polls_of(bodies[0], *bodies[1:], *last, step_s=MISSED_S))


def test_what_was_taken_out_is_withdrawn_when_it_stays_away() -> None:
    whole = dated(*range(1, 11))
    less = without(whole, "rss:6")
    assert polls_of(whole, less, less, less) == [set(), set(), set()]
    assert polls_of(whole, less, less, step_s=MISSED_S) == [set(), {"rss:6"}]
    more = [less | dated(*range(11, 12 + n)) for n in range(3)]
    assert polls_of(whole, *more) == [set(), set(), {"rss:6"}]
    newest = without(whole, "rss:10")
    assert polls_of(whole, newest, newest, step_s=MISSED_S) == [set(), {"rss:10"}]
    # Once is enough.
    assert polls_of(whole, less, less, less, step_s=MISSED_S) == [set(), {"rss:6"}, set()]


def test_an_edge_that_lags_behind_withdraws_nothing() -> None:
    fresh = dated(*range(1, 51))
    stale = without(fresh, "rss:50")
    assert polls_of(fresh, *[stale, fresh] * 40, step_s=3_600) == [set()] * 80
    assert polls_of(fresh, *[stale, stale, fresh] * 9) == [set()] * 27


def test_the_old_end_of_a_small_feed_tells_nothing() -> None:
    for known, listed in (
        (dated(3, 2, 1), dated(3, 1)),
        (dated(3, 2, 1), dated(3, 2)),
        (dated(1, 2, *range(20, 30)), dated(1, 2, *range(21, 31))),
        (dated(5, 4, 3), {}),
    ):
        assert not set().union(*polls_of(known, listed, listed, listed, step_s=MISSED_S))
    assert polls_of(dated(3, 2, 1), dated(2, 1), dated(2, 1), step_s=MISSED_S)[1] == {"rss:3"}


def without(items: dict[str, Item], key: str) -> dict[str, Item]:
    return {name: item for name, item in items.items() if name != key}


@given(listings(), listings(), st.integers(0, 14))
def test_what_is_remembered(known: dict[str, Item], listed: dict[str, Item], most: int) -> None:
    after = remembered(known, listed, most)
    assert len(after) == min(most, len(known.keys() | listed.keys()))
    assert list(after)[: len(listed)] == list(listed)[:most]
    for key, item in after.items():
        now = listed.get(key, Item(key))
        assert item.digest == (now.digest or known.get(key, now).digest)


@given(st.lists(listings(), max_size=8))
def test_who_reads_what_is_announced_knows_what_is_listed(polls: list[dict[str, Item]]) -> None:
    """Whatever a feed lists in turn; a kill in between only tells the same again."""
    told: dict[str, bytes] = {}
    known: dict[str, Item] = {}
    missing: dict[str, Missing] = {}
    for number, listed in enumerate(polls):
        whole = {key: item._replace(digest=item.digest or b"0" * 8) for key, item in listed.items()}
        away = {key: missed.item for key, missed in missing.items()}
        new, edited = new_and_edited({**away, **known}, whole)
        told |= {key: whole[key].digest for key in new | edited}
        gone, missing = withdrawn(known, missing, whole, number * 3_600)
        for key in gone:
            del told[key]
        known = whole or known
        assert told.items() >= {key: item.digest for key, item in known.items()}.items()
        assert told.keys() >= missing.keys()
        assert not missing.keys() & known.keys()
