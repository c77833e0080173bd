from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from streams.serving.core import documents
from streams.serving.core.day_documents import day_id

MINUTE = datetime(2026, 1, 31, 12, 5, tzinfo=UTC)


PLACES = st.tuples(
    st.lists(st.sampled_from(["a", "|", ":", "2026-01-31", "T12:05Z"])).map("".join),
    st.integers(0, 3).map(lambda minutes: MINUTE + timedelta(minutes=minutes)),
)


@given(PLACES, PLACES)
def test_no_two_episodes_and_times_have_one_id(
    one: tuple[str, datetime], other: tuple[str, datetime]
) -> None:
    same = documents.minute_id(*one) == documents.minute_id(*other)
    assert same == (one == other)
    days = [(episode_id, at.date()) for episode_id, at in (one, other)]
    assert (day_id(*days[0]) == day_id(*days[1])) == (days[0] == days[1])


def window_rows(*rows: tuple[str, int, int, int, int]) -> pl.DataFrame:
    """Rows of (episode_id, minute, source_partition, offset, plays)."""
    return pl.DataFrame(
        [
            {
                "episode_id": episode,
                "bucket": MINUTE + timedelta(minutes=minute),
                "source_partition": partition,
                "offset": offset,
                "impressions": 0,
                "clicks": 0,
                "plays": plays,
                "completes": 0,
                "heard_ms": plays * 1000,
                "streams": plays // 2,
                "listeners": plays,
                "engaged": 0,
                "new_listeners": plays,
            }
            for episode, minute, partition, offset, plays in rows
        ],
        schema=columnar.columns("engagement_window"),
    )


def apply(stored: dict[str, Any], rows: pl.DataFrame) -> dict[str, Any]:
    changed = documents.merge_windows(stored, documents.newest_rows(rows))
    return stored | {document["_id"]: document for document in changed}


def test_a_recommendation_document_has_exactly_the_public_fields() -> None:
    record = {
        "user_id": "u",
        "generation": "20260131T120000Z",
        "updated_at": MINUTE,
        "caused_by": "e1",
        "source_partition": 0,
        "offset": 7,
        "items": [
            {
                "episode_id": "a",
                "title": "A",
                "show": "S",
                "score": 0.9,
                "parts": {"als": 1.0, "content": 0.5, "trending": 0.0, "ranked": None},
                "reason": "new",
            }
        ],
    }
    document = documents.recommendation_document(record)
    assert set(document) == {"_id", "items", "generation", "updated_at", "caused_by"}
    assert document["_id"] == "u"
    assert document["items"] == record["items"]


def test_ids_of_windows_agree_between_rows_and_the_function() -> None:
    row = documents.newest_rows(window_rows(("a", 1, 0, 1, 1)))
    assert row["_id"].to_list() == [documents.minute_id("a", MINUTE + timedelta(minutes=1))]
    assert row["_id"].to_list() == ["a|2026-01-31T12:06Z"]


def test_source_partitions_add_up_and_newer_rows_replace() -> None:
    stored = apply({}, window_rows(("a", 0, 0, 5, 2), ("a", 0, 1, 9, 3)))
    stored = apply(stored, window_rows(("a", 0, 0, 6, 4)))
    (document,) = stored.values()
    assert (document["plays"], document["heard_ms"]) == (7, 7000)
    assert (document["listeners"], document["streams"]) == (7, 3)
    assert document["parts"]["0"]["offset"] == 6


def test_what_an_earlier_release_stored_counts_on() -> None:
    (document,) = apply({}, window_rows(("a", 0, 1, 9, 3))).values()
    del document["parts"]["1"]["listeners"]
    (merged,) = apply({document["_id"]: document}, window_rows(("a", 0, 0, 5, 2))).values()
    assert (merged["plays"], merged["listeners"]) == (5, 2)


def test_a_repeated_or_older_row_changes_no_document() -> None:
    stored = apply({}, window_rows(("a", 0, 0, 5, 2)))
    rows = documents.newest_rows(window_rows(("a", 0, 0, 5, 2), ("a", 0, 0, 3, 1)))
    assert documents.merge_windows(stored, rows) == []


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 1), st.integers(0, 2), st.integers(0, 9)),
        max_size=30,
    ),
    st.data(),
)
def test_any_order_any_cut_and_any_repeat_give_the_same_documents(keys: Any, data: Any) -> None:
    # the count is a function of the offset, as in the log: the same row never says two things
    rows = [(*key, key[3] * 10) for key in keys]
    whole = apply({}, window_rows(*rows))
    shuffled = data.draw(st.permutations(rows + rows[: len(rows) // 2]))
    cut = data.draw(st.integers(0, len(shuffled)))
    parts = apply(apply({}, window_rows(*shuffled[:cut])), window_rows(*shuffled[cut:]))
    simple = {key: (d["plays"], d["heard_ms"]) for key, d in whole.items()}
    assert {key: (d["plays"], d["heard_ms"]) for key, d in parts.items()} == simple
    newest = {(e, m, p): plays for e, m, p, _, plays in sorted(rows, key=lambda r: r[3])}
    assert sum(d["plays"] for d in whole.values()) == sum(newest.values())


def test_anomalies_and_progress_have_ids_that_tell_them_apart() -> None:
    anomaly = {"episode_id": "a", "at": MINUTE, "direction": "rise", "plays": 9}
    assert documents.anomaly_document(anomaly)["_id"] == "a|2026-01-31T12:05Z"
    progress = {"stage": "track_engagement", "source_partition": 3, "late": 1}
    assert documents.progress_document(progress)["_id"] == "track_engagement|3"


def test_newest_keeps_the_last_document_of_an_id() -> None:
    given_documents = [{"_id": 1, "v": "a"}, {"_id": 2, "v": "b"}, {"_id": 1, "v": "c"}]
    assert documents.newest(given_documents) == [{"_id": 1, "v": "c"}, {"_id": 2, "v": "b"}]


def ranking(partition: int, *places: tuple[str, float], scope: str = "all") -> dict[str, Any]:
    return {
        "scope": scope,
        "source_partition": partition,
        "at": MINUTE,
        "episodes": [{"episode_id": e, "score": s, "plays": 1} for e, s in places],
    }


def test_trending_merges_partitions_across_batches_and_replaces_a_partition() -> None:
    first = documents.merge_trending({}, [ranking(0, ("a", 3.0)), ranking(1, ("b", 5.0))])
    (document,) = first
    assert [place["episode_id"] for place in document["episodes"]] == ["b", "a"]
    stored = {"all": document}
    (document,) = documents.merge_trending(stored, [ranking(1, ("c", 1.0))])
    assert [place["episode_id"] for place in document["episodes"]] == ["a", "c"]
    assert [place["episode_id"] for place in stored["all"]["episodes"]] == ["b", "a"]


def test_titles_are_empty_until_the_episode_is_known() -> None:
    (document,) = documents.merge_trending({}, [ranking(0, ("a", 3.0), ("b", 2.0))])
    titled = documents.with_titles(document, {"a": {"title": "A", "show_title": "S"}})
    assert [(p["title"], p["show"]) for p in titled["episodes"]] == [("A", "S"), ("", "")]
