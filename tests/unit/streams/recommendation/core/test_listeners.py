"""The state of a listener: any batching, any duplicate delivery, the same state."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import files
from streams.recommendation.core import listeners
from streams.recommendation.core.listeners import (
    ListenerEvent,
    ListenerState,
    ListeningTotals,
    changes,
    fold,
    wants_list,
)

KINDS = files.load("user_event")["fields"][3]["type"]["symbols"]


def event(offset: Any, kind: Any, episode: str = "e:1", at: int = 0, heard_ms: int = 0) -> Any:
    return ListenerEvent(offset, f"event-{offset}", "ann", episode, kind, at, heard_ms)


rows = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(["e:1", "e:2", "e:3"]),
        st.integers(0, 10_000),
        st.sampled_from([0, 0, 500]),
    ),
    max_size=30,
).map(
    lambda drawn: [
        event(offset, kind, episode, at, heard)
        for offset, (kind, episode, at, heard) in enumerate(drawn)
    ]
)


@given(rows, st.lists(st.integers(0, 30), max_size=6), st.integers(0, 30))
def test_the_state_does_not_depend_on_cuts_and_repeats(events: Any, cuts: Any, back: Any) -> None:
    whole = fold(None, events)
    state = None
    edges = [0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]
    for start, end in pairwise(edges):
        # each delivery begins with some rows that came before
        state = fold(state, events[max(0, start - back) : end])
        state = listeners.decode(listeners.encode(state))
    assert state is not None
    assert whole is not None
    assert state.offset == whole.offset
    assert state.last_event_id == whole.last_event_id
    assert state.episodes == whole.episodes


@given(rows)
def test_encoding_loses_nothing_and_its_head_can_be_read_alone(events: Any) -> None:
    state = ListenerState(9, "x", "20260101T000000Z", fold(None, events).episodes)
    value = listeners.encode(state)
    assert listeners.decode(value) == state
    assert listeners.peek(value) == (9, "20260101T000000Z")


def test_totals_of_an_episode() -> None:
    state = fold(
        None,
        [
            event(0, "play", at=5),
            event(1, "progress", at=9, heard_ms=60_000),
            event(2, "pause", at=7, heard_ms=5_000),
            event(3, "complete", at=8),
            event(4, "like", at=8),
            event(5, "dislike", at=8),
            event(6, "dislike", at=8),
        ],
    )
    assert state.episodes == {"e:1": ListeningTotals(65_000, 1, 1, -1, 9)}


def test_what_was_opened_only_is_not_settled_but_what_was_heard_or_disliked_is() -> None:
    state = fold(
        None,
        [event(0, "click", "opened"), event(1, "play", "heard"), event(2, "dislike", "bad")],
    )
    assert {e: h.settled for e, h in state.episodes.items()} == {
        "opened": False,
        "heard": True,
        "bad": True,
    }


def test_an_impression_makes_a_stranger_known_and_changes_nothing_later() -> None:
    stranger = fold(None, [event(3, "impression")])
    assert (stranger.offset, stranger.episodes) == (3, {})
    assert fold(stranger, [event(4, "impression")]) == stranger


def test_a_list_is_due_for_strangers_changes_and_repeats() -> None:
    shown = event(7, "impression")
    assert wants_list(None, [shown])
    assert not wants_list(3, [shown])
    assert wants_list(7, [shown])
    assert wants_list(3, [shown, event(8, "play")])


def test_audio_heard_counts_whatever_the_kind() -> None:
    assert changes(event(0, "pause", heard_ms=1))
    assert not changes(event(0, "pause"))


def test_the_least_recently_touched_episode_is_forgotten_beyond_the_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listeners, "MAX_EPISODES", 2)
    state = fold(
        None,
        [event(0, "play", "b", at=1), event(1, "play", "a", at=2), event(2, "play", "c", at=3)],
    )
    assert set(state.episodes) == {"a", "c"}
