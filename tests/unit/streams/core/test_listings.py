from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.core.listings import (
    UNSEEN,
    Item,
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


@given(listings(), listings())
def test_new_and_edited(known: dict[str, Item], listed: dict[str, Item]) -> None:
    new, edited = new_and_edited(known, listed)
    assert new == {key for key in listed if key not in known}
    for key in edited:
        assert known[key].digest and listed[key].digest
        assert known[key].digest != listed[key].digest
    assert new_and_edited(listed, listed) == (set(), set())
    assert not new & edited


@given(listings(), listings())
def test_only_what_is_missing_and_not_at_the_old_end_is_withdrawn(
    known: dict[str, Item], listed: dict[str, Item]
) -> None:
    gone = withdrawn(known, listed)
    assert gone <= known.keys() - listed.keys()
    for key in gone:
        assert any(0 < item.published < known[key].published for item in listed.values())
    oldest = min((item.published for item in listed.values() if item.published), default=None)
    for key, item in known.items():
        if key not in gone and key not in listed and item.published and oldest is not None:
            # What is left alone may have been pushed out: at the old end, but for one older item.
            older = [i for i in listed.values() if 0 < i.published < item.published]
            assert len(older) < (2 if listed.keys() - known.keys() else 1)


@given(listings(), st.integers(0, 12), st.integers(0, 6), st.booleans())
def test_a_feed_that_holds_its_newest_items_withdraws_nothing(
    known: dict[str, Item], size: int, coming: int, trailer: bool
) -> None:
    """However many come and fall off, and with a trailer kept at the end."""
    before = dated(*range(20, 20 - size, -1)) | (dated(1) if trailer else {})
    after = dated(*range(20 + coming, 20 + coming - size, -1)) | (dated(1) if trailer else {})
    assert withdrawn(before, after) == set()
    assert withdrawn(known, {}) == set()
    assert withdrawn({}, known) == set()


def test_what_was_taken_out_is_withdrawn() -> None:
    assert withdrawn(dated(3, 2, 1), dated(3, 1)) == {"rss:2"}
    assert withdrawn(dated(3, 2, 1), dated(1)) == {"rss:3", "rss:2"}
    assert withdrawn(dated(3, 2, 1), dated(3, 2)) == set()
    assert withdrawn(dated(5, 4, 3, 2, 1), dated(6, 5, 3, 2, 1)) == {"rss:4"}
    # It may have been pushed out by the new one, and the other be a trailer.
    assert withdrawn(dated(3, 2, 1), dated(4, 3, 1)) == set()


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
    for listed in polls:
        whole = {key: item._replace(digest=item.digest or b"0" * 8) for key, item in listed.items()}
        new, edited = new_and_edited(known, whole)
        told |= {key: whole[key].digest for key in new | edited}
        for key in withdrawn(known, whole):
            del told[key]
        known = whole or known
        assert told.items() >= {key: item.digest for key, item in known.items()}.items()
