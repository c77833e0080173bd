"""Placement of keys: Kafka's own values, and a column like its keys one by one."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.kafka.placement import partition_of, partitions_of

KAFKAS_OWN = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Of Kafka's UtilsTest.testMurmur2, which kafka-python's and librdkafka's tests hold as well."""


@pytest.mark.parametrize("key", KAFKAS_OWN)
def test_keys_lie_where_kafka_places_them(key: bytes) -> None:
    positive = KAFKAS_OWN[key] & 0x7FFFFFFF
    for partitions in (1, 4, 12, 2**31):
        assert partition_of(key, partitions) == positive % partitions


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40), max_size=150))
def test_a_column_is_placed_like_its_keys(keys: list[str]) -> None:
    expected = [partition_of(key.encode(), 7) for key in keys]
    column = pl.Series(keys, dtype=pl.String)
    assert partitions_of(column, 7).tolist() == expected
    # Long enough for numpy, and a column that begins in the middle of its memory.
    many = pl.Series(["x" * 1024, *keys * 3, *map(str, range(70))], dtype=pl.String)
    placed = [partition_of(key.encode(), 7) for key in many]
    assert partitions_of(many, 7).tolist() == placed
    assert partitions_of(many[1:], 7).tolist() == placed[1:]
