from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from schemas.metrics import ROLLING_METRICS
from streams.engagement.core.rolling import WINDOWS
from streams.serving.core import rolling_documents
from streams.serving.core.rolling_documents import KINDS, add_up, pack, unpack

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
COLUMNS = columnar.columns("rolling_window")


def part(partition: int, *rows: tuple[str, str, int, int], behind: int = 0) -> pl.DataFrame:
    """A partition's rows of (kind, scope, minutes, listeners), ``behind`` minutes old."""
    return pl.DataFrame(
        [
            {
                **dict.fromkeys(ROLLING_METRICS, listeners),
                "kind": kind,
                "scope": scope,
                "minutes": minutes,
                "at": NOON - timedelta(minutes=behind),
                "source_partition": partition,
                "offset": 7,
                "heard_ms": 1000 * listeners,
            }
            for kind, scope, minutes, listeners in rows
        ],
        schema=COLUMNS,
    )


def listeners(rows: pl.DataFrame) -> dict[str, int]:
    return dict(rows.select("scope", "listeners").rows())


def test_partitions_add_up_and_most_listeners_come_first() -> None:
    rolling = add_up(
        [
            part(0, ("episode", "a", 5, 2), ("episode", "b", 5, 3), ("show", "s", 5, 4)),
            part(1, ("episode", "a", 5, 2), ("category", "Art", 60, 1)),
        ]
    )
    assert rolling.at == NOON
    assert set(rolling.windows) == {(kind, minutes) for kind in KINDS for minutes in WINDOWS}
    assert rolling.windows["episode", 5].select("scope", "listeners", "heard_ms").rows() == [
        ("a", 4, 4000),
        ("b", 3, 3000),
    ]
    assert rolling.windows["category", 60]["scope"].to_list() == ["Art"]
    assert rolling.windows["episode", 1].is_empty()
    assert rolling.scopes("episode") == {"a", "b"}


@pytest.mark.parametrize(("behind", "counted"), [(0, 3), (4, 3), (5, 1), (600, 1)])
def test_a_partition_a_whole_window_behind_has_nothing_in_it(behind: int, counted: int) -> None:
    rolling = add_up([part(0, ("show", "s", 5, 1)), part(1, ("show", "s", 5, 2), behind=behind)])
    assert listeners(rolling.windows["show", 5]) == {"s": counted}


def test_only_the_best_scopes_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_documents, "MOST_SCOPES", 2)
    rolling = add_up([part(0, *(("episode", name, 1, n) for n, name in enumerate("abcd")))])
    assert listeners(rolling.windows["episode", 1]) == {"d": 3, "c": 2}
    assert rolling.active["episode", 1] == 4


def test_nothing_told_is_nothing_shown() -> None:
    rolling = add_up([part(0)])
    assert rolling.at is None
    assert all(rows.is_empty() for rows in rolling.windows.values())


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("abc"), st.integers(1, 9)),
        unique_by=lambda row: row[:2],
    )
)
def test_how_listeners_are_partitioned_changes_no_sum(rows: list[tuple[int, str, int]]) -> None:
    parts = [
        part(number, *(("episode", scope, 15, n) for place, scope, n in rows if place == number))
        for number in range(4)
    ]
    expected = {scope: sum(n for _, other, n in rows if other == scope) for _, scope, _ in rows}
    assert listeners(add_up(parts).windows["episode", 15]) == expected


def test_documents_carry_titles_where_they_are_known() -> None:
    rolling = add_up([part(0, ("episode", "a", 1, 2), ("episode", "b", 1, 1), ("show", "s", 1, 3))])
    found = {
        document["_id"]: document
        for document in rolling_documents.rolling_documents(
            rolling, {"a": {"title": "A", "show_title": "S"}}, {"s": {"show_title": "S"}}
        )
    }
    assert len(found) == 15
    assert [(s["title"], s["show"]) for s in found["episode|1"]["scopes"]] == [("A", "S"), ("", "")]
    assert found["show|1"]["scopes"] == [
        {"title": "S", "scope": "s", **dict.fromkeys(ROLLING_METRICS, 3), "heard_ms": 3000}
    ]
    assert found["category|1440"] == {
        "_id": "category|1440",
        "kind": "category",
        "minutes": 1440,
        "at": NOON,
        "active": 0,
        "scopes": [],
    }


def test_packed_rows_are_the_same_rows() -> None:
    rows = part(3, ("show", "s", 5, 1))
    assert unpack(pack(rows)).equals(rows)
