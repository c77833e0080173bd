"""ColumnarHashTable against a dict."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streams.state.hash_table import ColumnarHashTable

# Few different keys, also negative and far apart, so that they repeat and collide.
keys = st.one_of(st.integers(-20, 20), st.integers(-(2**63), 2**63 - 1))
batches = st.lists(st.tuples(st.lists(keys, max_size=80), st.booleans()), max_size=8)


def table() -> ColumnarHashTable:
    return ColumnarHashTable({"count": "i8", "pair": ("u8", (2,))})


def add(counted: ColumnarHashTable, batch: list[int]) -> None:
    slots = counted.upsert(np.array(batch, np.int64))
    np.add.at(counted["count"], slots, 1)
    np.add.at(counted["pair"], slots, (1, 2))
    counted.touch(slots)


def contents(counted: ColumnarHashTable) -> dict[int, tuple[int, list[int]]]:
    columns = (counted.keys, counted["count"], counted["pair"])
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {key: (count, pair) for key, count, pair in rows}


@given(batches)
def test_counts_like_a_dict(parts: list[tuple[list[int], bool]]) -> None:
    counted, expected = table(), dict[int, int]()
    for batch, drop in parts:
        if drop:
            counted.drop(counted.keys % 2 == 0)
            expected = {key: n for key, n in expected.items() if key % 2}
        add(counted, batch)
        for key in batch:
            expected[key] = expected.get(key, 0) + 1
    assert contents(counted) == {key: (n, [n, 2 * n]) for key, n in expected.items()}
    absent = [key for key in range(-50, 50) if key not in expected]
    assert (counted.find(np.array(absent, np.int64)) == -1).all()
    found = counted.find(np.array(list(expected), np.int64))
    assert counted.keys[found].tolist() == list(expected)


@given(batches)
def test_snapshot_and_changes_give_the_same_table(parts: list[tuple[list[int], bool]]) -> None:
    counted, restored = table(), table()
    for batch, whole in parts:
        add(counted, batch)
        changed = counted.changed()
        assert sorted(counted.keys[changed].tolist()) == sorted(set(batch))
        if whole:
            restored = table()
        restored.load(counted.to_arrow(None if whole else changed))
        counted.forget_changes()
    assert contents(restored) == contents(counted)


def test_changes_outlive_a_drop() -> None:
    counted = table()
    add(counted, [1, 2, 3, 4])
    counted.forget_changes()
    add(counted, [2, 3])
    counted.drop(counted.keys <= 2)
    assert counted.keys[counted.changed()].tolist() == [3]


def test_rows_can_be_rekeyed() -> None:
    counted = table()
    add(counted, [10, 20, 20])
    counted.rekey(counted.keys * 7)
    assert contents(counted) == {70: (1, [1, 2]), 140: (2, [2, 4])}
    assert counted.find(np.array([10, 140])).tolist() == [-1, 1]


def test_arrow_survives_the_wire() -> None:
    counted, other = table(), table()
    add(counted, [5, 6, 6])
    sink = pa.BufferOutputStream()
    rows = counted.to_arrow()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    other.load(pa.ipc.open_stream(sink.getvalue()).read_next_batch())
    assert contents(other) == contents(counted)
