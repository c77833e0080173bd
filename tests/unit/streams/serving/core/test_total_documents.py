from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from schemas import columnar
from schemas.metrics import ADDITIVE_METRICS
from streams.serving.core import total_documents
from streams.serving.core.documents import Document

START = datetime(2026, 1, 31, 22, 58, tzinfo=UTC)
MINUTES, PARTITIONS, OFFSETS = 4, 3, 5
Told = tuple[int, int, int]
"""Minute, source partition, offset."""


def rows_of(told: list[Told]) -> pl.DataFrame:
    """What a source partition has counted by an offset is a function of the log."""
    return pl.DataFrame(
        [
            {
                **{name: (place + 1) * offset for place, name in enumerate(ADDITIVE_METRICS)},
                "bucket": START + timedelta(minutes=minute),
                "source_partition": partition,
                "offset": offset,
            }
            for minute, partition, offset in told
        ],
        schema=columnar.columns("engagement_total"),
    )


def write(stored: dict[str, Document], changes: dict[str, Document]) -> None:
    """As MongoDB applies `$set` with dotted paths."""
    for key, fields in changes.items():
        document: dict[str, Any] = stored.setdefault(key, {"_id": key})
        for path, value in fields.items():
            *way, last = path.split(".")
            place = document
            for name in way:
                place = place.setdefault(name, {})
            place[last] = value


@given(
    told=st.lists(
        st.tuples(
            st.integers(0, MINUTES - 1), st.integers(0, PARTITIONS - 1), st.integers(1, OFFSETS)
        ),
        min_size=1,
        max_size=30,
    ),
    cuts=st.lists(st.integers(0, 30), max_size=4),
)
def test_sums_are_those_of_the_newest_parts_in_any_order_and_cut(
    told: list[Told], cuts: list[int]
) -> None:
    stored: dict[str, Document] = {}
    bounds = sorted({0, len(told), *(min(cut, len(told)) for cut in cuts)})
    for start, end in pairwise(bounds):
        parts = total_documents.total_parts(rows_of(told[start:end]))
        write(stored, total_documents.total_changes(stored, parts))
        assert total_documents.total_changes(stored, parts) == {}
    newest: dict[tuple[int, int], int] = {}
    for minute, partition, offset in told:
        newest[minute, partition] = max(offset, newest.get((minute, partition), 0))
    expected: dict[datetime, int] = {}
    for (minute, _), offset in newest.items():
        at = START + timedelta(minutes=minute)
        expected[at] = expected.get(at, 0) + offset
    shown = {
        document["hour"] + timedelta(minutes=int(minute)): sums[ADDITIVE_METRICS[0]]
        for document in stored.values()
        for minute, sums in document["minutes"].items()
    }
    assert shown == expected
    for partition in {partition for _, partition, _ in told}:
        for key, document in stored.items():
            heard = [
                at.minute
                for minute, of in newest
                if of == partition
                and total_documents.hour_id(at := START + timedelta(minutes=minute)) == key
            ]
            assert document["first"].get(str(partition)) == min(heard, default=None)
