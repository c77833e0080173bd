from datetime import UTC, date, datetime
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from schemas.metrics import DAY_METRICS
from streams.serving.core import day_documents
from streams.serving.core.documents import Document

DAY = date(2026, 1, 31)


def day_rows(*rows: tuple[str, int, int, int], final: bool = False) -> pl.DataFrame:
    """Rows of (episode, source partition, offset, downloads)."""
    return pl.DataFrame(
        [
            {
                **dict.fromkeys(DAY_METRICS, 2 * downloads),
                "episode_id": episode,
                "day": DAY,
                "source_partition": partition,
                "offset": offset,
                "final": final,
                "downloads": downloads,
            }
            for episode, partition, offset, downloads in rows
        ],
        schema=columnar.columns("episode_day"),
    )


def curve_rows(episode: str, partition: int, offset: int, curve: dict[int, int]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "episode_id": episode,
                "day": DAY,
                "minute": minute,
                "source_partition": partition,
                "offset": offset,
                "final": False,
                "listeners": listeners,
            }
            for minute, listeners in curve.items()
        ],
        schema=columnar.columns("episode_retention"),
    )


def written(stored: dict[str, Document], changes: dict[str, Document]) -> dict[str, Document]:
    """The documents after the server has set the fields."""
    after = dict(stored)
    for key, fields in changes.items():
        document = dict(after.get(key, {"_id": key}))
        for path, value in fields.items():
            field, _, place = path.partition(".")
            document[field] = {**document.get(field, {}), place: value} if place else value
        after[key] = document
    return after


def with_counts(stored: dict[str, Document], rows: pl.DataFrame) -> dict[str, Document]:
    parts = day_documents.count_parts(rows)
    after = written(stored, day_documents.count_changes(stored, parts))
    assert day_documents.count_changes(after, parts) == {}
    return after


def with_curves(stored: dict[str, Document], *frames: pl.DataFrame) -> dict[str, Document]:
    parts = day_documents.retention_parts(pl.concat(frames))
    after = written(stored, day_documents.retention_changes(stored, parts))
    assert day_documents.retention_changes(after, parts) == {}
    return after


def test_source_partitions_add_up() -> None:
    stored = with_counts({}, day_rows(("a", 0, 5, 2), ("a", 1, 9, 3), ("b", 0, 5, 1)))
    assert set(stored) == {"a|2026-01-31", "b|2026-01-31"}
    document = stored["a|2026-01-31"]
    assert (document["downloads"], document["streams"]) == (5, 10)
    assert document["day"] == datetime(2026, 1, 31, tzinfo=UTC)


def test_a_newer_part_replaces_and_a_repeat_changes_nothing() -> None:
    stored = with_counts({}, day_rows(("a", 0, 5, 2), ("a", 1, 9, 3)))
    assert with_counts(stored, day_rows(("a", 0, 5, 2), ("a", 1, 8, 1))) == stored
    newer = with_counts(stored, day_rows(("a", 0, 6, 4)))
    assert newer["a|2026-01-31"]["downloads"] == 7
    assert stored["a|2026-01-31"]["downloads"] == 5


def test_sums_that_lack_a_part_another_worker_wrote_are_written_again() -> None:
    mine, other = day_rows(("a", 0, 5, 2)), day_rows(("a", 1, 9, 3))
    nothing: dict[str, Document] = {}
    of_mine = day_documents.count_changes(nothing, day_documents.count_parts(mine))
    of_other = day_documents.count_changes(nothing, day_documents.count_parts(other))
    both = written(written(nothing, of_mine), of_other)
    assert both["a|2026-01-31"]["downloads"] == 3
    assert with_counts(both, other)["a|2026-01-31"]["downloads"] == 5


def test_a_day_is_final_once_every_partition_says_so() -> None:
    stored = with_counts({}, day_rows(("a", 0, 5, 2), ("a", 1, 9, 3)))
    stored = with_counts(stored, day_rows(("a", 0, 5, 2), final=True))
    assert not stored["a|2026-01-31"]["final"]
    stored = with_counts(stored, day_rows(("a", 1, 9, 3), final=True))
    assert stored["a|2026-01-31"]["final"]
    # what was said before the end may come again
    assert with_counts(stored, day_rows(("a", 1, 9, 3))) == stored


def test_curves_add_up_minute_by_minute_and_gaps_are_nobody() -> None:
    stored = with_curves(
        {}, curve_rows("a", 0, 5, {0: 3, 2: 1}), curve_rows("a", 1, 7, {0: 1, 1: 1, 3: 1})
    )
    assert stored["a|2026-01-31"]["retention"] == [4, 1, 1, 1]


def test_the_newest_curve_of_a_partition_counts_whole() -> None:
    old, new = curve_rows("a", 0, 5, {0: 3, 9: 1}), curve_rows("a", 0, 6, {0: 4})
    for frames in ((old, new), (new, old)):
        assert with_curves({}, *frames)["a|2026-01-31"]["retention"] == [4]
    assert with_curves(with_curves({}, new), old)["a|2026-01-31"]["retention"] == [4]


def test_a_curve_that_comes_in_two_messages_is_whole() -> None:
    older = with_curves({}, curve_rows("a", 0, 5, {0: 2, 1: 2, 2: 2, 3: 2}))
    halves = curve_rows("a", 0, 6, {0: 5, 1: 4}), curve_rows("a", 0, 6, {2: 3})
    for first, second in (halves, halves[::-1]):
        after = with_curves(with_curves(older, first), second)
        assert after["a|2026-01-31"]["retention"] == [5, 4, 3]
        assert with_curves(after, first) == after
    assert with_curves(older, *halves)["a|2026-01-31"]["retention"] == [5, 4, 3]


def test_counts_and_curves_live_in_one_document() -> None:
    counted = with_counts({}, day_rows(("a", 0, 5, 2)))
    both = with_curves(counted, curve_rows("a", 0, 5, {0: 2}))
    other = with_counts(with_curves({}, curve_rows("a", 0, 5, {0: 2})), day_rows(("a", 0, 5, 2)))
    assert both == other
    assert both["a|2026-01-31"]["downloads"] == 2
    assert both["a|2026-01-31"]["retention"] == [2]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 2), st.integers(0, 9)), max_size=30),
    st.data(),
)
def test_any_order_any_cut_and_any_repeat_give_the_same_counts(keys: Any, data: Any) -> None:
    # what is told is a function of the offset, as in the log
    rows = [(*key, 10 * key[2]) for key in keys]
    shuffled = data.draw(st.permutations(rows + rows[: len(rows) // 2]))
    cut = data.draw(st.integers(0, len(shuffled)))
    pieces = with_counts(with_counts({}, day_rows(*shuffled[:cut])), day_rows(*shuffled[cut:]))
    newest = {(e, p): n for e, p, _, n in sorted(rows, key=lambda row: row[2])}
    expected = {
        f"{episode}|{DAY}": sum(n for (e, _), n in newest.items() if e == episode)
        for episode, *_ in rows
    }
    assert {key: document["downloads"] for key, document in pieces.items()} == expected
