"""Rankings depend on what was counted and on event time, not on the order of arrival."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.engagement import MINUTE_MS
from streams.core.trending import (
    ALL,
    HALF_LIFE_MS,
    HORIZON_MS,
    PLACES,
    apply,
    bucket_from_bytes,
    bucket_to_bytes,
    merge_scopes,
    newest,
    rankings,
    scores,
    summary,
)

AT = 1_767_225_600_000
TYPES = {
    "episode_id": pl.String(),
    "bucket": pl.Int64(),
    "source_partition": pl.Int32(),
    "offset": pl.Int64(),
    "plays": pl.Int64(),
    "completes": pl.Int64(),
}


def windows(*rows: tuple) -> pl.DataFrame:
    frame = pl.DataFrame(list(rows), schema=TYPES, orient="row")
    return frame.cast({"bucket": pl.Datetime("ms", "UTC")})


def scored(buckets: dict) -> dict[str, tuple[float, int]]:
    return scores([summary(bucket, parts) for bucket, parts in buckets.items()], AT)


def record(partition: int, at: int, *places: tuple[str, float, int]) -> dict:
    return {
        "scope": ALL,
        "source_partition": partition,
        "at": datetime.fromtimestamp(at / 1000, UTC),
        "episodes": [
            dict(zip(("episode_id", "score", "plays"), place, strict=True)) for place in places
        ],
    }


rows = st.builds(
    lambda episode, minute, source, offset: (
        episode,
        AT - minute * MINUTE_MS,
        source,
        offset,
        offset // 2,
        offset // 3,
    ),
    st.sampled_from(["pi:1", "pi:2", "pi:3"]),
    st.integers(0, 3),
    st.integers(0, 1),
    st.integers(0, 20),
)


@given(st.lists(rows, min_size=1, max_size=20), st.randoms(), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_order_cut_and_repeats_do_not_matter(log: list[tuple], random, size: int) -> None:
    shuffled = [*log, *random.sample(log, len(log) // 2)]
    random.shuffle(shuffled)
    buckets: dict[int, dict] = {}
    for start in range(0, len(shuffled), size):
        buckets |= apply(buckets, windows(*shuffled[start : start + size]))
    stored = {
        bucket: bucket_from_bytes(bucket_to_bytes(parts)) for bucket, parts in buckets.items()
    }
    assert stored == buckets
    highest: dict[tuple, tuple] = {}
    for episode, bucket, source, *seen in log:
        highest[episode, bucket, source] = max(
            tuple(seen), highest.get((episode, bucket, source), ())
        )
    flat = {
        (episode, bucket, source): seen
        for bucket, parts in buckets.items()
        for (episode, source), seen in parts.items()
    }
    assert flat == highest
    one_go = apply({}, windows(*log))
    assert scored(buckets) == scored(one_go)


def test_a_score_halves_in_half_an_hour_and_ends_at_the_horizon() -> None:
    def score(age_ms: int) -> float:
        buckets = apply({}, windows(("pi:1", AT - age_ms, 0, 9, 3, 2)))
        return scored(buckets).get("pi:1", (0.0, 0))[0]

    assert score(0) == 7.0
    assert score(HALF_LIFE_MS) == 3.5
    assert score(HORIZON_MS) == 0.0


def test_source_partitions_add_up() -> None:
    buckets = apply({}, windows(("pi:1", AT, 0, 9, 3, 0), ("pi:1", AT, 1, 2, 4, 0)))
    assert scored(buckets) == {"pi:1": (7.0, 7)}


def test_impressions_alone_are_no_trend() -> None:
    assert scored(apply({}, windows(("pi:1", AT, 0, 9, 0, 0)))) == {}


def test_a_clock_that_is_fast_moves_nobody_else() -> None:
    ahead = windows(("pi:1", AT + HORIZON_MS, 0, 1, 1, 0))
    both = pl.concat([ahead, windows(("pi:2", AT, 0, 2, 1, 0))])
    assert newest(ahead, 7, log_ms=AT + 1) == 7
    assert newest(both, 7, log_ms=AT + 1) == AT
    assert newest(both, 7, log_ms=0) == AT + HORIZON_MS
    # It counts as if it had just happened.
    assert scored(apply({}, ahead))["pi:1"][0] == 1.0


def test_every_scope_has_its_best_places() -> None:
    totals = {f"pi:{n:03}": (float(n), n) for n in range(PLACES + 10)}
    ranked = rankings(totals, {"pi:003": ["Tv", "News"], "pi:004": ["Tv"], "pi:999": ["Tv"]})
    assert set(ranked) == {ALL, "category:Tv", "category:News"}
    assert len(ranked[ALL]) == PLACES and ranked[ALL][0]["episode_id"] == "pi:059"
    assert [place["episode_id"] for place in ranked["category:Tv"]] == ["pi:004", "pi:003"]
    assert ranked["category:News"] == [{"episode_id": "pi:003", "score": 3.0, "plays": 3}]


def test_merging_brings_partitions_to_one_time() -> None:
    merged = merge_scopes(
        [
            record(0, AT - HALF_LIFE_MS, ("pi:old", 10.0, 10)),
            record(1, AT - MINUTE_MS, ("pi:gone", 99.0, 99)),
            record(1, AT, ("pi:new", 6.0, 6), ("pi:low", 1.0, 1)),
        ]
    )
    assert [(p["episode_id"], p["plays"]) for p in merged] == [
        ("pi:new", 6),
        ("pi:old", 10),
        ("pi:low", 1),
    ]
    assert merged[1]["score"] == pytest.approx(5.0)
    assert merge_scopes([]) == []
