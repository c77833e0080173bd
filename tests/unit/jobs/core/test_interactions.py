"""From totals to arrays, and the split in time."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from jobs.core.interactions import from_totals, time_split, trainable

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def totals(*rows: tuple[str, str, int, int]) -> pl.DataFrame:
    """Rows of (listener, episode, plays, day); a negative number of plays is a dislike."""
    return pl.DataFrame(
        [
            {
                "user_id": user,
                "episode_id": episode,
                "heard_ms": 0,
                "plays": max(plays, 0),
                "completes": 0,
                "likes": 0,
                "dislikes": int(plays < 0),
                "last_at": START + dt.timedelta(days=day),
            }
            for user, episode, plays, day in rows
        ],
        schema_overrides={"last_at": pl.Datetime("us", "UTC")},
    )


def test_ids_are_sorted_and_pairs_that_say_nothing_left_out() -> None:
    pairs = from_totals(totals(("v", "b", 1, 0), ("u", "c", 0, 0), ("u", "a", -1, 1)))
    assert pairs.users.tolist() == ["u", "v"]
    assert pairs.items.tolist() == ["a", "b"]
    assert pairs.user.tolist() == [0, 1]
    assert pairs.strength[0] == -1
    assert pairs.strength[1] > 0
    assert pairs.at[0] == (START + dt.timedelta(days=1)).timestamp() * 1000


def test_ids_are_taken_as_they_are_whatever_their_length() -> None:
    ids = ["a", "a\0", "b" * 1024, "é", "\U0001f399", "z"]
    pairs = from_totals(totals(*((user, f"{user}\0", 1, 0) for user in reversed(ids))))
    assert pairs.users.tolist() == sorted(ids)
    assert pairs.items.tolist() == sorted(f"{user}\0" for user in ids)
    assert pairs.user.tolist() == pairs.item.tolist() == list(range(len(ids)))
    assert pairs.users.nbytes < 1_000


def test_the_order_of_rows_does_not_matter() -> None:
    rows = [(user, episode, 1, 0) for user in "zyx" for episode in "cab"]
    one, other = from_totals(totals(*rows)), from_totals(totals(*reversed(rows)))
    assert one.user.tolist() == other.user.tolist()
    assert one.item.tolist() == other.item.tolist()


@given(
    st.dictionaries(
        st.tuples(st.sampled_from("uvw"), st.sampled_from("abcdefghij")),
        st.tuples(st.sampled_from([-1, 1, 3]), st.integers(0, 5)),
        min_size=1,
    )
)
def test_the_test_is_the_last_fifth_of_what_each_listener_liked(cells: Any) -> None:
    rows = [(*pair, plays, day) for pair, (plays, day) in cells.items()]
    pairs = from_totals(totals(*rows))
    train, test = time_split(pairs)
    assert len(train) + len(test) == len(pairs)
    for user in range(len(pairs.users)):
        strengths = pairs.strength[(pairs.user == user) & (pairs.strength > 0)]
        bar = float(strengths.astype(float).mean()) * (1 - 1e-6) if len(strengths) else 1.0
        mine = train.at[(train.user == user) & (train.strength >= bar)]
        assert (test.strength[test.user == user] >= bar).all()
        held = test.at[test.user == user]
        total = len(mine) + len(held)
        assert len(held) == (max(1, total // 5) if total >= 3 else 0)
        assert not len(held) or held.min() >= mine.max()


def test_a_mask_keeps_the_ids() -> None:
    pairs = from_totals(totals(("u", "a", 1, 0), ("v", "b", 1, 0)))
    part = pairs.where(np.array([False, True]))
    assert len(part) == 1
    assert part.users is pairs.users


def test_only_pairs_of_listeners_and_episodes_with_a_positive_pair_are_trained_on() -> None:
    """User v only dislikes; without v, nobody likes b; without b, nothing else changes."""
    pairs = from_totals(totals(("u", "a", 1, 0), ("u", "b", -1, 0), ("v", "a", -1, 0)))
    kept = trainable(pairs)
    assert [(kept.users[u], kept.items[i]) for u, i in zip(kept.user, kept.item, strict=True)] == [
        ("u", "a")
    ]
    assert kept.users is pairs.users
